//! From a file and the environment to a checked [`Config`], with the origin of every value. Nothing
//! is opened here but the configuration file itself.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use config::{File, FileFormat, Format as _, Map};

use super::{Config, ConfigError, Place, check, kind, paths};

/// Every key there is. A test holds this list against the types.
pub(super) const KEYS: [&str; 34] = [
    "state_dir",
    "node",
    "hsm.module",
    "hsm.token_label",
    "hsm.token_serial",
    "hsm.pin_file",
    "hsm.sessions",
    "hsm.queue_len_max",
    "hsm.call_timeout_ms",
    "hsm.admin_timeout_ms",
    "hsm.profiles_dir",
    "tcp.listen",
    "tcp.certificate_file",
    "tcp.private_key_file",
    "tcp.client_ca_file",
    "tcp.client_crl_file",
    "tcp.reload_interval_ms",
    "unix.socket",
    "limits.connections_max",
    "limits.connections_per_peer_max",
    "limits.streams_per_connection_max",
    "limits.requests_per_stream_max",
    "limits.request_bytes_max",
    "limits.header_bytes_max",
    "limits.handshake_timeout_ms",
    "limits.keepalive_interval_ms",
    "limits.keepalive_timeout_ms",
    "limits.connection_age_ms_max",
    "limits.request_timeout_ms_max",
    "audit.queue_len_max",
    "audit.batch_len_max",
    "audit.sync_timeout_ms",
    "log.format",
    "log.filter",
];

/// Names that begin like settings of kekd and are kekctl's. They are left alone, so that one shell
/// can hold both.
const CLIENT_VARIABLES: [&str; 10] = [
    "KEKD_ENDPOINT",
    "KEKD_OFFICER",
    "KEKD_OFFICER_KEY",
    "KEKD_INSTANCE",
    "KEKD_CA",
    "KEKD_CERT",
    "KEKD_KEY",
    "KEKD_SOCKET",
    "KEKD_KEK",
    "KEKD_KEYPAIR_ID",
];

/// What the environment says.
#[derive(Debug, Clone, Default)]
pub struct Environment {
    /// `KEKD__SECTION__KEY` variables: name and value.
    settings: BTreeMap<String, String>,
    /// `$CREDENTIALS_DIRECTORY`.
    credentials: Option<PathBuf>,
}

impl Environment {
    /// The environment of this process.
    ///
    /// # Errors
    /// As [`Environment::from_variables`].
    pub fn of_process() -> Result<Self, ConfigError> {
        Self::from_variables(std::env::vars_os())
    }

    /// Takes from `variables` what concerns kekd.
    ///
    /// # Errors
    /// Where a name begins with `KEKD_` and is no setting, or a setting is not UTF-8.
    pub fn from_variables(
        variables: impl IntoIterator<Item = (OsString, OsString)>,
    ) -> Result<Self, ConfigError> {
        let mut environment = Self::default();
        for (name, value) in variables {
            let Some(name) = name.to_str() else { continue };
            if name == "CREDENTIALS_DIRECTORY" {
                environment.credentials =
                    Some(value.into()).filter(|dir: &PathBuf| !dir.as_os_str().is_empty());
            } else if name.starts_with("KEKD__") {
                let value = value
                    .into_string()
                    .map_err(|_| ConfigError::VariableNotText {
                        name: name.to_owned(),
                    })?;
                environment.settings.insert(name.to_owned(), value);
            } else if name.starts_with("KEKD_") && !CLIENT_VARIABLES.contains(&name) {
                return Err(ConfigError::VariableName {
                    name: name.to_owned(),
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
            .find(|name| key_of(name) == key)
    }
}

/// `hsm.sessions` for `KEKD__HSM__SESSIONS`.
fn key_of(variable: &str) -> String {
    let key = variable.strip_prefix("KEKD__").unwrap_or(variable);
    key.to_lowercase().replace("__", ".")
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
pub struct Loaded {
    /// The configuration, its paths resolved.
    pub config: Config,
    /// Each of its values with its origin, in the order of the types.
    pub settings: Vec<Setting>,
}

/// Reads the file and the environment.
///
/// # Errors
/// Whatever is wrong first; nothing has been opened but the file.
pub fn load(file: &Path, environment: &Environment) -> Result<Loaded, ConfigError> {
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

    let in_file = kind::leaves(&table);
    refuse_unknown(
        in_file
            .iter()
            .map(|written| (written.key.clone(), Place::File(file.to_owned()))),
    )?;
    kind::check_sections(&in_file, sections(), file)?;
    refuse_unknown(
        environment
            .settings
            .keys()
            .map(|name| (key_of(name), Place::Variable(name.clone()))),
    )?;

    let place = |key: &str| match environment.variable(key) {
        Some(name) => Place::Variable(name.to_owned()),
        None if in_file.iter().any(|written| written.key == key) => Place::File(file.to_owned()),
        None => Place::Default,
    };
    let mut config = deserialize(&text, environment, file, &place)?;
    check::check(&config, place)?;
    if config.tcp.is_none() && config.unix.is_none() {
        return Err(ConfigError::NoListener {
            file: file.to_owned(),
        });
    }

    let absolute = std::path::absolute(file).map_err(unreadable)?;
    let folder = absolute.parent().unwrap_or(Path::new("/"));
    paths::resolve(&mut config, folder, environment.credentials.as_deref());
    let settings = settings(&config, place).map_err(|_| ConfigError::FolderNotText {
        folder: folder.to_owned(),
    })?;
    kind::check_values(&in_file, &settings, file)?;
    Ok(Loaded { config, settings })
}

fn deserialize(
    text: &str,
    environment: &Environment,
    file: &Path,
    place: &impl Fn(&str) -> Place,
) -> Result<Config, ConfigError> {
    // Values stay text: parsing them would turn a token label "007" into 7.
    let variables = config::Environment::with_prefix("KEKD")
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
        .map_err(|error| value_error("", error, file, place))?;
    serde_path_to_error::deserialize(both).map_err(|error| {
        let path = error.path().to_string();
        value_error(&path, error.into_inner(), file, place)
    })
}

/// The path is serde's, the rest is what the `config` crate knows.
fn value_error(
    path: &str,
    error: config::ConfigError,
    file: &Path,
    place: &impl Fn(&str) -> Place,
) -> ConfigError {
    let section = if path == "." { "" } else { path };
    if let Some(field) = missing_field(&error) {
        // The crate may or may not have put the section before the field.
        let key = match (section, field.starts_with(&format!("{section}."))) {
            ("", _) | (_, true) => field.to_owned(),
            (section, false) => format!("{section}.{field}"),
        };
        return ConfigError::Missing {
            file: file.to_owned(),
            key,
        };
    }
    ConfigError::Value {
        place: place(section),
        key: section.to_owned(),
        problem: expected(section).map_or_else(|| innermost(error), str::to_owned),
    }
}

/// What a key takes, where its type's own words would not help an operator.
fn expected(key: &str) -> Option<&'static str> {
    match key {
        "tcp.listen" => Some(
            "expected an address and a port, such as 127.0.0.1:7443 or [::]:7443; a host's name is \
             neither",
        ),
        "log.format" => Some("expected text or json"),
        _ => None,
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
fn sections() -> impl Iterator<Item = &'static str> + Clone {
    KEYS.iter()
        .filter_map(|known| known.split_once('.'))
        .map(|(section, _)| section)
}

fn refuse_unknown(keys: impl Iterator<Item = (String, Place)>) -> Result<(), ConfigError> {
    // Sorted, so that of two mistakes the same one is always named first.
    let mut keys: Vec<_> = keys.collect();
    keys.sort_by(|(a, _), (b, _)| a.cmp(b));
    for (key, place) in keys {
        let is_section = sections().any(|section| section == key);
        if !is_section && !KEYS.contains(&key.as_str()) {
            let nearest = nearest(&key).map(str::to_owned);
            return Err(ConfigError::UnknownKey {
                place,
                key,
                nearest,
            });
        }
    }
    Ok(())
}

/// The known key at most three edits away, or the one with the same last part.
fn nearest(key: &str) -> Option<&'static str> {
    let last = |key: &str| key.rsplit('.').next().map(str::to_owned);
    KEYS.into_iter()
        .map(|known| (strsim::damerau_levenshtein(key, known), known))
        .filter(|(edits, _)| *edits <= 3)
        .min()
        .map(|(_, known)| known)
        .or_else(|| KEYS.into_iter().find(|known| last(known) == last(key)))
}

fn settings(
    config: &Config,
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
        value @ (serde_json::Value::Null
        | serde_json::Value::Bool(_)
        | serde_json::Value::Number(_)
        | serde_json::Value::String(_)
        | serde_json::Value::Array(_)) => take(prefix.to_owned(), value),
    }
}
