//! How the front-end ends (sysexits.h), and why.

use std::error::Error;
use std::process::ExitCode;

use kekd::lkm::LkmError;

/// How the process ends.
#[derive(Debug, Clone, Copy)]
pub enum Exit {
    /// Stopped as asked.
    Stopped = 0,
    /// Wrong arguments.
    Usage = 64,
    /// Fatal; another start may do.
    Fatal = 70,
    /// The configuration, or a file or address it names, is wrong.
    Configuration = 78,
}

/// Why it ends otherwise than asked.
pub struct Failure {
    pub exit: Exit,
    pub error: Box<dyn Error>,
}

impl Failure {
    pub fn configuration(error: impl Into<Box<dyn Error>>) -> Self {
        Self {
            exit: Exit::Configuration,
            error: error.into(),
        }
    }

    pub fn fatal(error: impl Into<Box<dyn Error>>) -> Self {
        Self {
            exit: Exit::Fatal,
            error: error.into(),
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

impl From<LkmError> for Failure {
    fn from(error: LkmError) -> Self {
        match error {
            LkmError::Files(_) | LkmError::Endpoint(_) => Self::configuration(error),
            LkmError::Signals(_) => Self::fatal(error),
        }
    }
}

/// The error and its causes, each once.
pub fn in_full(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let because = error.to_string();
        if !text.contains(&because) {
            text = format!("{text}: {because}");
        }
        cause = error.source();
    }
    text
}
