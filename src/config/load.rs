//! From a file and the environment to a checked [`Config`], with the origin of every value. Nothing
//! is opened here but the configuration file itself.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use config::{File, FileFormat, Format as _, Map};

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::schema::{KEKD, Schema};
use super::{Config, ConfigError, Place, check, kind, tokens};

/// What the environment says.
#[derive(Debug, Clone)]
pub struct Environment {
    /// How the program's variables begin: `KEKD` for `KEKD__SECTION__KEY`.
    prefix: &'static str,
    /// The settings among them: name and value.
    settings: BTreeMap<String, String>,
    /// `$CREDENTIALS_DIRECTORY`.
    credentials: Option<PathBuf>,
}

impl Environment {
    /// The environment of this process, as kekd sees it.
    ///
    /// # Errors
    /// As [`Environment::from_variables`].
    pub fn of_process() -> Result<Self, ConfigError> {
        Self::from_variables(std::env::vars_os())
    }

    /// Takes from `variables` what concerns kekd.
    ///
    /// # Errors
    /// As [`Environment::of`].
    pub fn from_variables(
        variables: impl IntoIterator<Item = (OsString, OsString)>,
    ) -> Result<Self, ConfigError> {
        Self::of(&KEKD, variables)
    }

    /// The environment of this process, as the program of `schema` sees it.
    ///
    /// # Errors
    /// As [`Environment::of`].
    pub fn of_process_for<T>(schema: &Schema<T>) -> Result<Self, ConfigError> {
        Self::of(schema, std::env::vars_os())
    }

    /// Takes from `variables` what concerns the program of `schema`.
    ///
    /// # Errors
    /// Where a name begins with the program's prefix and is no setting, or a setting is not UTF-8.
    pub fn of<T>(
        schema: &Schema<T>,
        variables: impl IntoIterator<Item = (OsString, OsString)>,
    ) -> Result<Self, ConfigError> {
        let mut environment = Self {
            prefix: schema.prefix,
            settings: BTreeMap::new(),
            credentials: None,
        };
        let (setting, own) = (
            format!("{}__", schema.prefix),
            format!("{}_", schema.prefix),
        );
        for (name, value) in variables {
            let Some(name) = name.to_str() else { continue };
            let is_others = |prefix: &&str| name.starts_with(prefix);
            if name == "CREDENTIALS_DIRECTORY" {
                environment.credentials =
                    Some(value.into()).filter(|dir: &PathBuf| !dir.as_os_str().is_empty());
            } else if name.starts_with(&setting) {
                let value = value
                    .into_string()
                    .map_err(|_| ConfigError::VariableNotText {
                        name: name.to_owned(),
                    })?;
                environment.settings.insert(name.to_owned(), value);
            } else if name.starts_with(&own)
                && !schema.client_variables.contains(&name)
                && !schema.others.iter().any(is_others)
            {
                return Err(ConfigError::VariableName {
                    name: name.to_owned(),
                    program: schema.program,
                    prefix: schema.prefix,
                });
            }
        }
        Ok(environment)
    }

    /// The variable that sets `key`.
    fn variable(&self, key: &str) -> Option<&str> {
        self.settings
            .keys()
            .map(String::as_str)
            .find(|name| self.key_of(name) == key)
    }

    /// `hsm.sessions` for `KEKD__HSM__SESSIONS`.
    fn key_of(&self, variable: &str) -> String {
        let key = variable.strip_prefix(self.prefix).unwrap_or(variable);
        let key = key.strip_prefix("__").unwrap_or(key);
        key.to_lowercase().replace("__", ".")
    }
}

/// Where an effective value came from.
pub type Origin = Place;

/// One effective value.
#[derive(Debug, Clone)]
pub struct Setting {
    /// Its key, for example `hsm.sessions`.
    pub key: String,
    /// Its value; null where it is not set and has no default.
    pub value: serde_json::Value,
    /// Where it came from.
    pub origin: Origin,
}

/// A configuration that passed every check.
#[derive(Debug, Clone)]
pub struct Loaded<T = Config> {
    /// The configuration, its paths resolved.
    pub config: T,
    /// Each of its values with its origin, in the order of the types.
    pub settings: Vec<Setting>,
}

/// Reads kekd's file and environment.
///
/// # Errors
/// Whatever is wrong first; nothing has been opened but the file.
pub fn load(file: &Path, environment: &Environment) -> Result<Loaded, ConfigError> {
    let loaded = load_as(&KEKD, file, environment)?;
    tokens::check(&loaded.config.token, &loaded.config.hsm, file)?;
    if loaded.config.tcp.is_none() && loaded.config.unix.is_none() {
        return Err(ConfigError::NoListener {
            file: file.to_owned(),
        });
    }
    Ok(loaded)
}

/// Reads the file and the environment of the program of `schema`.
///
/// # Errors
/// Whatever is wrong first; nothing has been opened but the file.
pub fn load_as<T: Serialize + DeserializeOwned>(
    schema: &Schema<T>,
    file: &Path,
    environment: &Environment,
) -> Result<Loaded<T>, ConfigError> {
    let unreadable = |source| ConfigError::Unreadable {
        file: file.to_owned(),
        source,
    };
    let text = std::fs::read_to_string(file).map_err(unreadable)?;
    let not_toml = |problem: String| ConfigError::NotToml {
        file: file.to_owned(),
        problem,
    };
    let table = FileFormat::Toml
        .parse(None, &text)
        .map_err(|problem| not_toml(problem.to_string().trim_end().to_owned()))?;

    let lists: Vec<&str> = lists(schema.keys).collect();
    let in_file = kind::leaves(&table, &lists);
    refuse_unknown(
        schema.keys,
        in_file
            .iter()
            .map(|written| (written.key.clone(), Place::File(file.to_owned()))),
    )?;
    kind::check_sections(&in_file, sections(schema.keys), file)?;
    refuse_unknown(
        schema.keys,
        environment
            .settings
            .keys()
            .map(|name| (environment.key_of(name), Place::Variable(name.clone()))),
    )?;

    let place = |key: &str| match environment.variable(key) {
        Some(name) => Place::Variable(name.to_owned()),
        None if in_file.iter().any(|written| written.key == key) => Place::File(file.to_owned()),
        None => Place::Default,
    };
    let mut config = deserialize(schema, &text, environment, file, &place)?;
    check::check(schema, &config, place)?;

    let absolute = std::path::absolute(file).map_err(unreadable)?;
    let folder = absolute.parent().unwrap_or(Path::new("/"));
    (schema.resolve)(&mut config, folder, environment.credentials.as_deref());
    let settings = settings(&config, place).map_err(|_| ConfigError::FolderNotText {
        folder: folder.to_owned(),
    })?;
    kind::check_values(&in_file, &settings, file)?;
    Ok(Loaded { config, settings })
}

fn deserialize<T: DeserializeOwned>(
    schema: &Schema<T>,
    text: &str,
    environment: &Environment,
    file: &Path,
    place: &impl Fn(&str) -> Place,
) -> Result<T, ConfigError> {
    // Values stay text: parsing them would turn a token label "007" into 7.
    let variables = config::Environment::with_prefix(schema.prefix)
        .prefix_separator("__")
        .separator("__")
        .source(Some(
            environment
                .settings
                .clone()
                .into_iter()
                .collect::<Map<_, _>>(),
        ));
    let both = config::Config::builder()
        .add_source(File::from_str(text, FileFormat::Toml))
        .add_source(variables)
        .build()
        .map_err(|error| value_error(schema, "", error, file, place))?;
    serde_path_to_error::deserialize(both).map_err(|error| {
        let path = error.path().to_string();
        value_error(schema, &path, error.into_inner(), file, place)
    })
}

/// The path is serde's, the rest is what the `config` crate knows.
fn value_error<T>(
    schema: &Schema<T>,
    path: &str,
    error: config::ConfigError,
    file: &Path,
    place: &impl Fn(&str) -> Place,
) -> ConfigError {
    let section = if path == "." { "" } else { path };
    if let Some(field) = missing_field(&error) {
        // The crate may or may not have put the section before the field, and writes `list[0]field`.
        let bare = match field.strip_prefix(section) {
            Some(rest) if rest.starts_with('.') || section.ends_with(']') => rest,
            Some(_) | None => field,
        };
        let bare = bare.trim_start_matches('.');
        let key = match section {
            "" => field.to_owned(),
            section => format!("{section}.{bare}"),
        };
        return ConfigError::Missing {
            file: file.to_owned(),
            key,
        };
    }
    ConfigError::Value {
        place: place(section),
        key: section.to_owned(),
        problem: (schema.expected)(section).map_or_else(|| innermost(error), str::to_owned),
    }
}

#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "the enum is not ours and may grow"
)]
fn missing_field(error: &config::ConfigError) -> Option<&str> {
    match error {
        config::ConfigError::NotFound(field) => Some(field),
        config::ConfigError::At { error, .. } => missing_field(error),
        _ => None,
    }
}

/// What is wrong, without the key and origin that our own text names.
#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "the enum is not ours and may grow"
)]
fn innermost(error: config::ConfigError) -> String {
    match error {
        config::ConfigError::At { error, .. } => innermost(*error),
        config::ConfigError::Type {
            unexpected,
            expected,
            ..
        } => {
            format!("found {unexpected}, expected {expected}")
        }
        other => other.to_string(),
    }
}

/// `hsm`, `tcp` and so on, each as often as it has keys.
fn sections(keys: &'static [&'static str]) -> impl Iterator<Item = &'static str> + Clone {
    keys.iter()
        .filter_map(|known| known.split_once('.'))
        .map(|(section, _)| section)
}

fn refuse_unknown(
    known: &'static [&'static str],
    keys: impl Iterator<Item = (String, Place)>,
) -> Result<(), ConfigError> {
    // Sorted, so that of two mistakes the same one is always named first.
    let mut keys: Vec<_> = keys.collect();
    keys.sort_by(|(a, _), (b, _)| a.cmp(b));
    for (key, place) in keys {
        let is_section = sections(known).any(|section| section == key);
        let first = key.split('.').next().unwrap_or_default();
        if let Some(list) = lists(known).find(|list| *list == first) {
            return Err(ConfigError::Value {
                place,
                key: list.to_owned(),
                problem: format!("expected sections in a list, each begun with [[{list}]]"),
            });
        }
        if !is_section && !is_known(known, &key) {
            let nearest = nearest(known, &key).map(str::to_owned);
            return Err(ConfigError::UnknownKey {
                place,
                key,
                nearest,
            });
        }
    }
    Ok(())
}

/// `token` for `token[].name`, each as often as it has keys.
fn lists(keys: &'static [&'static str]) -> impl Iterator<Item = &'static str> + Clone {
    keys.iter()
        .filter_map(|known| known.split_once("[]."))
        .map(|(list, _)| list)
}

fn is_known(known: &'static [&'static str], key: &str) -> bool {
    let form = form(key);
    known.iter().any(|known| match known.strip_suffix('*') {
        Some(open) => form.strip_prefix(open).is_some_and(|rest| !rest.is_empty()),
        None => *known == form,
    })
}

/// The key without numbers of entries: `token[].name` for `token[3].name`.
fn form(key: &str) -> String {
    match key.split_once('[') {
        Some((list, rest)) => match rest.split_once(']') {
            Some((_, rest)) => format!("{list}[]{rest}"),
            None => key.to_owned(),
        },
        None => key.to_owned(),
    }
}

/// The known key at most three edits away, or the one with the same last part.
fn nearest(keys: &'static [&'static str], key: &str) -> Option<&'static str> {
    let last = |key: &str| key.rsplit('.').next().map(str::to_owned);
    keys.iter()
        .copied()
        .map(|known| (strsim::damerau_levenshtein(&form(key), known), known))
        .filter(|(edits, _)| *edits <= 3)
        .min()
        .map(|(_, known)| known)
        .or_else(|| keys.iter().copied().find(|known| last(known) == last(key)))
}

fn settings(
    config: &impl Serialize,
    place: impl Fn(&str) -> Place,
) -> Result<Vec<Setting>, serde_json::Error> {
    let mut settings = Vec::new();
    leaves("", serde_json::to_value(config)?, &mut |key, value| {
        let origin = place(&key);
        settings.push(Setting { key, value, origin });
    });
    // Keys without a section first, as TOML wants them; otherwise in alphabetical order.
    settings.sort_by_key(|setting| setting.key.contains('.'));
    Ok(settings)
}

fn leaves(
    prefix: &str,
    value: serde_json::Value,
    take: &mut impl FnMut(String, serde_json::Value),
) {
    match value {
        serde_json::Value::Object(fields) => {
            for (name, value) in fields {
                let key = if prefix.is_empty() {
                    name
                } else {
                    format!("{prefix}.{name}")
                };
                leaves(&key, value, take);
            }
        }
        serde_json::Value::Array(entries) if entries.iter().all(serde_json::Value::is_object) => {
            for (index, entry) in entries.into_iter().enumerate() {
                leaves(&format!("{prefix}[{index}]"), entry, take);
            }
        }
        value @ (serde_json::Value::Null
        | serde_json::Value::Bool(_)
        | serde_json::Value::Number(_)
        | serde_json::Value::String(_)
        | serde_json::Value::Array(_)) => take(prefix.to_owned(), value),
    }
}
