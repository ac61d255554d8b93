//! The ways a worker process comes to its end. Which of them says something about a call is in
//! `error.rs`; what follows for the supervision is in `supervisor.rs`.

use std::process::ExitStatus;
use std::time::Duration;

use crate::proto::worker::{Failure, FailureKind};

/// Why a worker process was given up. It is killed and replaced whatever the reason.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Loss {
    /// The process ended, or closed its socket.
    #[error("the worker process ended{}", ended(.0.as_ref()))]
    Died(Option<ExitStatus>),
    /// A call ran longer than its limit, so the module hangs.
    #[error("{operation} took longer than {limit_ms} ms ({setting}), so the worker was killed")]
    Overdue {
        /// The call.
        operation: &'static str,
        /// The limit it broke.
        limit_ms: u64,
        /// The setting that holds the limit.
        setting: &'static str,
    },
    /// The process did not answer a ping, so it stands still.
    #[error("the worker process did not answer a ping within {0:?}, so it was killed")]
    Frozen(Duration),
    /// The worker says that the token no longer does its work.
    #[error("the token stopped working: {detail} ({return_value})")]
    LinkLost {
        /// What the worker saw.
        detail: String,
        /// The PKCS#11 return value by name.
        return_value: String,
    },
    /// The token wants a login and there is none to give. Nothing may be tried again.
    #[error("the token wants a login and gets none: {}", .0.detail)]
    LoginRefused(Failure),
    /// What the worker sent is no message of ours.
    #[error("the worker process sent something that is no answer: {0}")]
    Garbled(String),
}

impl Loss {
    /// What a failure says of the worker, where it is about more than the call that met it.
    pub(super) fn of_failure(failure: &Failure) -> Option<Self> {
        match failure.kind() {
            FailureKind::LinkLost => Some(Self::LinkLost {
                detail: failure.detail.clone(),
                return_value: failure.return_value.clone(),
            }),
            // Not only when opening: a session that was lost is logged in anew in the middle of a call.
            FailureKind::PinRefused | FailureKind::PinWithheld | FailureKind::PinUnreadable => {
                Some(Self::LoginRefused(failure.clone()))
            }
            FailureKind::Unspecified
            | FailureKind::BadCiphertext
            | FailureKind::KeyMissing
            | FailureKind::KeyAmbiguous
            | FailureKind::KeyMismatch
            | FailureKind::TokenNotFound
            | FailureKind::Module
            | FailureKind::Unsupported
            | FailureKind::BadRequest
            | FailureKind::RefusedByToken
            | FailureKind::Untested
            | FailureKind::KeyUnwell => None,
        }
    }

    /// The same, knowing how the process ended. A process that we killed says nothing new.
    pub(super) fn with_exit_status(self, status: Option<ExitStatus>) -> Self {
        if matches!(self, Self::Died(_)) {
            Self::Died(status)
        } else {
            self
        }
    }
}

fn ended(status: Option<&ExitStatus>) -> String {
    status.map_or_else(String::new, |status| format!(" ({status})"))
}
