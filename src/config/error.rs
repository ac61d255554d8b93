//! What can be wrong with a configuration. Every text names the file or the environment variable,
//! the key, what was expected and what was found. All of these are the operator's to mend; none is
//! worth a retry.

use std::fmt;
use std::io;
use std::path::PathBuf;

/// Where a value was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// The configuration file.
    File(PathBuf),
    /// An environment variable, by name.
    Variable(String),
    /// Nowhere: it is the default.
    Default,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "{}", path.display()),
            Self::Variable(name) => write!(f, "the environment variable {name}"),
            Self::Default => f.write_str("the default"),
        }
    }
}

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read the configuration file {}: {source}", file.display())]
    Unreadable {
        /// The file.
        file: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The file is not TOML.
    #[error("{} is not TOML: {problem}", file.display())]
    NotToml {
        /// The file.
        file: PathBuf,
        /// What the parser says, with line and column.
        problem: String,
    },
    /// A variable that looks like a setting and is none.
    #[error(
        "the environment variable {name} is not a setting of {program}: settings are written \
         {prefix}__SECTION__KEY, with two underscores; rename it or remove it"
    )]
    VariableName {
        /// Its name.
        name: String,
        /// Whose setting it is not.
        program: &'static str,
        /// How that program's settings begin.
        prefix: &'static str,
    },
    /// A variable whose value is not text.
    #[error("the environment variable {name} does not hold UTF-8 text")]
    VariableNotText {
        /// Its name.
        name: String,
    },
    /// No setting has this key.
    #[error("{place}: there is no setting {key:?}{}", nearest_known(nearest.as_deref()))]
    UnknownKey {
        /// Where it was written.
        place: Place,
        /// The key, for example `hsm.sesions`.
        key: String,
        /// The known key nearest to it, where one is near.
        nearest: Option<String>,
    },
    /// A required key is not there.
    #[error("{}: the setting {key:?} is missing", file.display())]
    Missing {
        /// The file.
        file: PathBuf,
        /// The key.
        key: String,
    },
    /// The value is of another kind than the key takes.
    #[error("{place}: {key}: {problem}")]
    Value {
        /// Where it was written.
        place: Place,
        /// The key.
        key: String,
        /// What is wrong with it.
        problem: String,
    },
    /// A number outside its limits.
    #[error("{place}: {key} must be {min} to {max}, found {found}")]
    OutOfRange {
        /// Where it was written.
        place: Place,
        /// The key.
        key: &'static str,
        /// Least value allowed.
        min: u64,
        /// Greatest value allowed.
        max: u64,
        /// The value found.
        found: u64,
    },
    /// A text that breaks the rule of its key.
    #[error("{place}: {key} must be {rule}")]
    Text {
        /// Where it was written.
        place: Place,
        /// The key.
        key: &'static str,
        /// The rule, to be read after "must be".
        rule: &'static str,
    },
    /// An entry of `[[token]]` that breaks a rule.
    #[error("{}: [[token]] number {entry} ({name:?}): {key} must be {rule}", file.display())]
    Token {
        /// The file.
        file: PathBuf,
        /// Which entry, from 1.
        entry: usize,
        /// Its name.
        name: String,
        /// Its key.
        key: &'static str,
        /// The rule, to be read after "must be".
        rule: &'static str,
    },
    /// Nothing to listen on.
    #[error("{}: neither [tcp] nor [unix] is there, so nobody could call; add one", file.display())]
    NoListener {
        /// The file.
        file: PathBuf,
    },
    /// A folder that paths are taken from is not UTF-8.
    #[error("the folder {} is not UTF-8 text; move the configuration file", folder.display())]
    FolderNotText {
        /// The folder.
        folder: PathBuf,
    },
}

fn nearest_known(nearest: Option<&str>) -> String {
    nearest.map_or_else(String::new, |known| {
        format!("; the nearest one is {known:?}")
    })
}
