//! How the process ends: exit codes, and which error ends in which.

use std::error::Error;
use std::process::ExitCode;

use kekd::flows::init::InitError;
use kekd::flows::open::OpenError;
use kekd::hsm::HsmError;
use kekd::serve::ServeError;
use kekd::types::Next;

/// How the process ends (sysexits.h).
#[derive(Debug, Clone, Copy)]
pub enum Exit {
    /// Stopped as asked.
    Stopped = 0,
    /// Wrong arguments.
    Usage = 64,
    /// The token is not available at start; another start may do.
    TokenUnavailable = 69,
    /// Fatal while running, or token, ledger and audit log do not agree.
    Fatal = 70,
    /// The configuration, a file or address it names, or the PIN is wrong.
    Configuration = 78,
}

/// Why it ends otherwise than asked.
pub struct Failure {
    pub exit: Exit,
    pub error: Box<dyn Error>,
}

impl Failure {
    pub fn new(exit: Exit, error: impl Into<Box<dyn Error>>) -> Self {
        Self {
            exit,
            error: error.into(),
        }
    }

    pub fn configuration(error: impl Into<Box<dyn Error>>) -> Self {
        Self::new(Exit::Configuration, error)
    }

    pub fn fatal(error: impl Into<Box<dyn Error>>) -> Self {
        Self::new(Exit::Fatal, error)
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
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

impl From<OpenError> for Failure {
    fn from(error: OpenError) -> Self {
        let exit = if let OpenError::Hsm(hsm) = &error {
            hsm_exit(hsm)
        } else {
            Exit::Fatal
        };
        Self::new(exit, error)
    }
}

impl From<InitError> for Failure {
    fn from(error: InitError) -> Self {
        let exit = match &error {
            InitError::Hsm(error) => hsm_exit(error),
            InitError::Genesis(_) | InitError::ProfileUnreadable { .. } => Exit::Configuration,
            InitError::Ledger(_)
            | InitError::Audit(_)
            | InitError::Make(_)
            | InitError::TokenInUse { .. }
            | InitError::Incapable { .. } => Exit::Fatal,
        };
        Self::new(exit, error)
    }
}

impl From<ServeError> for Failure {
    fn from(error: ServeError) -> Self {
        let exit = match error {
            ServeError::Tls(_) => Exit::Configuration,
            ServeError::Signals(_) | ServeError::Transport(_) | ServeError::Audit(_) => Exit::Fatal,
        };
        Self::new(exit, error)
    }
}

fn hsm_exit(error: &HsmError) -> Exit {
    let of_pin = matches!(
        error,
        HsmError::PinRefused { .. } | HsmError::PinWithheld { .. } | HsmError::PinUnreadable { .. }
    );
    match error.next() {
        Next::Fatal if of_pin => Exit::Configuration,
        Next::TryAgain => Exit::TokenUnavailable,
        Next::Fatal | Next::CallerFault => Exit::Fatal,
    }
}
