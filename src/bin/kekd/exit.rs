//! How the process ends: exit codes, and which error ends in which.

use std::error::Error;
use std::process::ExitCode;

use kekd::flows::init::{InitError, MakeError};
use kekd::flows::inspect::InspectError;
use kekd::flows::open::OpenError;
use kekd::flows::profiles::ProfilesError;
use kekd::hsm::HsmError;
use kekd::ledger::LedgerError;
use kekd::serve::ServeError;
use kekd::types::Next;

/// How the process ends (sysexits.h).
#[derive(Debug, Clone, Copy)]
pub enum Exit {
    /// Stopped as asked.
    Stopped = 0,
    /// Wrong arguments.
    Usage = 64,
    /// Token, ledger and audit log do not agree, or a file of the state is missing or damaged: a
    /// person must look before another start.
    Refused = 65,
    /// The token is not available at start; another start may do.
    TokenUnavailable = 69,
    /// Fatal while running; a start reads everything anew.
    Fatal = 70,
    /// The token refused the PIN, or no login was tried, so that the token does not lock.
    Pin = 77,
    /// The configuration, or a file or address it names, is wrong.
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
        let exit = match &error {
            // The token went away while it was looked at: as if it had not been there.
            OpenError::Hsm(hsm) | OpenError::Inspect(InspectError::Hsm { source: hsm, .. }) => {
                hsm_exit(hsm)
            }
            OpenError::Ledger(LedgerError::Locked { .. }) => Exit::Fatal,
            OpenError::Ledger(_)
            | OpenError::Audit(_)
            | OpenError::Stops(_)
            | OpenError::Inspect(_)
            | OpenError::KeyMissing { .. }
            | OpenError::Lookalike { .. }
            | OpenError::OtherKey { .. }
            | OpenError::Incapable { .. }
            | OpenError::Profile { .. } => Exit::Refused,
        };
        Self::new(exit, error)
    }
}

impl From<InitError> for Failure {
    fn from(error: InitError) -> Self {
        let exit = match &error {
            InitError::Hsm(error)
            | InitError::Make(
                MakeError::Hsm { source: error, .. }
                | MakeError::Inspect(InspectError::Hsm { source: error, .. }),
            ) => hsm_exit(error),
            InitError::Genesis(_)
            | InitError::Make(MakeError::Profile(ProfilesError::Unreadable { .. })) => {
                Exit::Configuration
            }
            InitError::Ledger(_)
            | InitError::Audit(_)
            | InitError::Stops(_)
            | InitError::Make(_)
            | InitError::TokenInUse { .. }
            | InitError::Incapable { .. } => Exit::Refused,
        };
        Self::new(exit, error)
    }
}

impl From<ServeError> for Failure {
    fn from(error: ServeError) -> Self {
        let exit = match error {
            ServeError::Tls(_) => Exit::Configuration,
            ServeError::Signals(_) | ServeError::Transport(_) | ServeError::Node(_) => Exit::Fatal,
        };
        Self::new(exit, error)
    }
}

fn hsm_exit(error: &HsmError) -> Exit {
    let of_pin = matches!(
        error,
        HsmError::PinRefused { .. } | HsmError::PinWithheld { .. } | HsmError::PinUnreadable { .. }
    );
    let of_key = matches!(
        error,
        HsmError::KeyMissing { .. } | HsmError::KeyAmbiguous { .. } | HsmError::KeyMismatch { .. }
    );
    match error.next() {
        Next::Fatal if of_pin => Exit::Pin,
        Next::TryAgain => Exit::TokenUnavailable,
        // What the token refuses or lacks it will refuse and lack again.
        Next::CallerFault => Exit::Refused,
        Next::Fatal if of_key => Exit::Refused,
        Next::Fatal => Exit::Fatal,
    }
}
