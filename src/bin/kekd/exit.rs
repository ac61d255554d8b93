//! Which error of the daemon ends in which exit code. The codes are `kekd::program`'s.

use kekd::flows::init::{InitError, MakeError};
use kekd::flows::inspect::InspectError;
use kekd::flows::open::OpenError;
use kekd::flows::profiles::ProfilesError;
use kekd::hsm::HsmError;
use kekd::ledger::LedgerError;
use kekd::program::{Exit, Failure};
use kekd::serve::ServeError;
use kekd::types::Next;

/// A node that does not open.
pub fn of_open(error: OpenError) -> Failure {
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
    Failure::new(exit, error)
}

/// An instance that was not made.
pub fn of_init(error: InitError) -> Failure {
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
    Failure::new(exit, error)
}

/// A daemon that does not serve, or no longer.
pub fn of_serve(error: ServeError) -> Failure {
    let exit = match error {
        ServeError::Tls(_) => Exit::Configuration,
        ServeError::Signals(_) | ServeError::Transport(_) | ServeError::Node(_) => Exit::Fatal,
    };
    Failure::new(exit, error)
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
