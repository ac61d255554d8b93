//! What can go wrong with the HSM, as the daemon sees it. The worker's failures become typed facts
//! here and nowhere else. Whatever a ciphertext can be is the one variant
//! [`HsmError::Undecryptable`], which carries nothing: a caller who could tell the ways of failing
//! apart would hold a padding oracle (RFC 8017 section 7.1.2, note; section 7.2.2, note).

use std::io;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::sync::Arc;
use std::time::Duration;

use super::job::KeyRef;
use super::loss::Loss;
use crate::config::HsmConfig;
use crate::proto::worker::{Failure, FailureKind};
use crate::types::{KeypairId, Next, Sha256};

/// Why the HSM did not do what it was asked.
#[derive(Debug, Clone, thiserror::Error)]
pub enum HsmError {
    /// The ciphertext does not unwrap to 32 bytes under this key. Nobody may learn more.
    #[error("the wrapped DEK does not unwrap under this key")]
    Undecryptable,
    /// The queue is full.
    #[error("the queue to the HSM is full (hsm.queue_len_max); try again in {retry_after:?}")]
    Busy {
        /// How long the calls that wait now should take.
        retry_after: Duration,
    },
    /// Too many wrapped DEKs of this caller did not unwrap under this KEK. The HSM was not touched.
    #[error(
        "too many wrapped DEKs of this caller did not unwrap under this KEK (limits.failures_max); \
         try again in {retry_after:?}"
    )]
    FailuresTooMany {
        /// When the next attempt is allowed.
        retry_after: Duration,
        /// Nobody was told so since the alarm was raised.
        is_first: bool,
    },
    /// The caller has gone before its turn came. The HSM was not touched.
    #[error("the caller left before its turn came")]
    CallerLeft,
    /// The caller's deadline passed before the answer.
    #[error("the deadline passed before the HSM answered")]
    DeadlineExceeded,
    /// The worker was lost during the call, and the call was not or could not be tried again.
    #[error("{operation} was lost: {loss}")]
    Lost {
        /// The call.
        operation: &'static str,
        /// What happened to the worker.
        loss: Loss,
    },
    /// The worker was lost during a call that changes the token. Whether it did is not known.
    #[error("{operation} was cut short, so whether the token was changed is not known: {loss}")]
    OutcomeUnknown {
        /// The call.
        operation: &'static str,
        /// What happened to the worker.
        loss: Loss,
    },
    /// The worker process cannot be started.
    #[error("the HSM worker process {program} cannot be started: {source}")]
    Spawn {
        /// The program.
        program: PathBuf,
        /// Why.
        source: Arc<io::Error>,
    },
    /// Workers end or hang before they serve.
    #[error("the HSM worker gives no service: {0}")]
    NoService(Loss),
    /// A start has waited long enough.
    #[error(
        "the module {module} (hsm.module) did not open the token within {limit_ms} ms (twice \
         hsm.admin_timeout_ms); the latest try: {latest}. Is the HSM reachable, and is it the right \
         module?"
    )]
    NotOpened {
        /// The shared object.
        module: PathBuf,
        /// How long was waited.
        limit_ms: u64,
        /// What came of the latest try.
        latest: String,
    },
    /// No known-answer test passed on a worker that had just started.
    #[error("the token is open and fails the known-answer test: {detail}")]
    KnownAnswerFailed {
        /// In what way.
        detail: String,
    },
    /// The key was not tested on the worker that serves, and it could not be now.
    #[error("{operation}: the key with the id {key} was not tested on this worker")]
    Untested {
        /// The call.
        operation: &'static str,
        /// The key.
        key: KeyRef,
    },
    /// The key fails its known-answer test, and others pass theirs.
    #[error(
        "{operation}: the key with the id {key} fails its known-answer test, and others pass theirs: \
         {detail}"
    )]
    KeyUnwell {
        /// The call.
        operation: &'static str,
        /// The key.
        key: KeyRef,
        /// In what way.
        detail: String,
    },
    /// The token refused the PIN. No further login is tried.
    #[error(
        "the login to the token '{label}' with the PIN in {pin_file} (hsm.pin_file) failed: \
         {detail}"
    )]
    PinRefused {
        /// The token's label.
        label: String,
        /// The file.
        pin_file: PathBuf,
        /// What the worker says.
        detail: String,
    },
    /// No login was tried, so that the token does not lock.
    #[error("no login was tried with the PIN in {pin_file} (hsm.pin_file): {detail}")]
    PinWithheld {
        /// The file.
        pin_file: PathBuf,
        /// What the worker says.
        detail: String,
    },
    /// The PIN file cannot be used.
    #[error("the PIN in {pin_file} (hsm.pin_file) cannot be used: {detail}")]
    PinUnreadable {
        /// The file.
        pin_file: PathBuf,
        /// What the worker says.
        detail: String,
    },
    /// No token, or more than one, has this label and serial number.
    #[error(
        "the token with label '{label}' and serial '{serial}' (hsm.token_label, hsm.token_serial) \
         was not found: {detail}"
    )]
    TokenNotFound {
        /// The label looked for.
        label: String,
        /// The serial number looked for.
        serial: String,
        /// What the module shows.
        detail: String,
    },
    /// The PKCS#11 module cannot be used.
    #[error("no token can be opened with the module {module} (hsm.module): {detail}")]
    Module {
        /// The shared object.
        module: PathBuf,
        /// What the worker says.
        detail: String,
    },
    /// The token has no such key.
    #[error("{operation}: the token holds no key with the id {key}")]
    KeyMissing {
        /// The call.
        operation: &'static str,
        /// The key.
        key: KeyRef,
    },
    /// The token has several objects with this id or label.
    #[error("{operation}: {detail}")]
    KeyAmbiguous {
        /// The call.
        operation: &'static str,
        /// What the worker found.
        detail: String,
    },
    /// The key has another public key than the ledger says.
    #[error("{operation}: the key with the id {key} is not the one the ledger names: {detail}")]
    KeyMismatch {
        /// The call.
        operation: &'static str,
        /// The key.
        key: KeyRef,
        /// What the worker found.
        detail: String,
    },
    /// The token cannot do this.
    #[error("{operation}: the token cannot do this: {detail}")]
    Unsupported {
        /// The call.
        operation: &'static str,
        /// What the worker says, and the PKCS#11 return value by name, where there was one.
        detail: String,
    },
    /// The request makes no sense to the worker.
    #[error("{operation}: {detail}")]
    BadRequest {
        /// The call.
        operation: &'static str,
        /// What the worker says.
        detail: String,
    },
    /// The token refused the act.
    #[error("{operation}: the token refused: {detail}")]
    RefusedByToken {
        /// The call.
        operation: &'static str,
        /// What the worker says, and the PKCS#11 return value by name, where there was one.
        detail: String,
    },
    /// The officers approved this for another key. Nothing was asked of the HSM.
    #[error(
        "{operation} was asked for the key with the id {key}, and the officers approved it for \
         {approved}; nothing was done"
    )]
    NotApproved {
        /// The call.
        operation: &'static str,
        /// The key it was asked for.
        key: KeyRef,
        /// The key pair they approved it for.
        approved: KeypairId,
    },
    /// The officers approved another profile. Nothing was asked of the HSM.
    #[error(
        "{operation} was asked for with the profile {profile}, SHA-256 {found}, and the officers \
         approved the profile with SHA-256 {approved}; nothing was done"
    )]
    ProfileNotApproved {
        /// The call.
        operation: &'static str,
        /// The name of the profile it was asked for with.
        profile: String,
        /// SHA-256 over its bytes.
        found: Sha256,
        /// SHA-256 over the bytes of the one they approved.
        approved: Sha256,
    },
    /// The worker's answer has not the shape it must have.
    #[error("{operation}: the worker's answer is not {expected}")]
    AnswerMalformed {
        /// The call.
        operation: &'static str,
        /// What it must be.
        expected: &'static str,
    },
    /// The HSM was shut down.
    #[error("the HSM is shut down")]
    ShutDown,
}

impl HsmError {
    /// What may happen next.
    pub const fn next(&self) -> Next {
        match self {
            Self::Undecryptable
            | Self::Unsupported { .. }
            | Self::BadRequest { .. }
            | Self::RefusedByToken { .. } => Next::CallerFault,
            Self::Busy { .. }
            | Self::FailuresTooMany { .. }
            | Self::CallerLeft
            | Self::DeadlineExceeded
            | Self::Lost { .. }
            | Self::Spawn { .. }
            | Self::NoService(_)
            | Self::NotOpened { .. }
            | Self::KnownAnswerFailed { .. }
            | Self::Untested { .. }
            | Self::KeyUnwell { .. }
            | Self::TokenNotFound { .. }
            | Self::Module { .. }
            | Self::ShutDown => Next::TryAgain,
            Self::OutcomeUnknown { .. }
            | Self::PinRefused { .. }
            | Self::PinWithheld { .. }
            | Self::PinUnreadable { .. }
            | Self::KeyMissing { .. }
            | Self::KeyAmbiguous { .. }
            | Self::KeyMismatch { .. }
            | Self::NotApproved { .. }
            | Self::ProfileNotApproved { .. }
            | Self::AnswerMalformed { .. } => Next::Fatal,
        }
    }

    /// Whether no further login may ever be tried in this process: another try costs the token one
    /// of the few it allows.
    pub(super) const fn ends_logins(&self) -> bool {
        matches!(
            self,
            Self::PinRefused { .. } | Self::PinWithheld { .. } | Self::PinUnreadable { .. }
        )
    }

    /// Whether a daemon that never had the token open should give up instead of waiting: the
    /// settings are wrong, or the machine is not ready.
    pub(super) const fn ends_start(&self) -> bool {
        !matches!(self, Self::NoService(_) | Self::KnownAnswerFailed { .. })
    }

    /// An answer to another question.
    pub(super) const fn wrong_kind(operation: &'static str) -> Self {
        Self::AnswerMalformed {
            operation,
            expected: "of the kind that was asked for",
        }
    }

    /// The same, knowing how the process ended.
    pub(super) fn with_exit_status(self, status: Option<ExitStatus>) -> Self {
        if let Self::NoService(loss) = self {
            Self::NoService(loss.with_exit_status(status))
        } else {
            self
        }
    }

    /// What it means that a worker ended before it served.
    pub(super) fn of_early_loss(loss: Loss, config: &HsmConfig) -> Self {
        if let Loss::LoginRefused(failure) = loss {
            Self::of_open(failure, config)
        } else {
            Self::NoService(loss)
        }
    }

    /// What a failed `Open` means.
    pub(super) fn of_open(failure: Failure, config: &HsmConfig) -> Self {
        let detail = failure.detail;
        let label = config.token_label.clone();
        let pin_file = config.pin_file.clone();
        match FailureKind::try_from(failure.kind) {
            Ok(FailureKind::PinRefused) => Self::PinRefused {
                label,
                pin_file,
                detail,
            },
            Ok(FailureKind::PinWithheld) => Self::PinWithheld { pin_file, detail },
            Ok(FailureKind::PinUnreadable) => Self::PinUnreadable { pin_file, detail },
            Ok(FailureKind::TokenNotFound) => Self::TokenNotFound {
                label,
                serial: config.token_serial.clone(),
                detail,
            },
            Ok(
                FailureKind::Module
                | FailureKind::Unspecified
                | FailureKind::BadCiphertext
                | FailureKind::LinkLost
                | FailureKind::KeyMissing
                | FailureKind::KeyAmbiguous
                | FailureKind::KeyMismatch
                | FailureKind::Unsupported
                | FailureKind::BadRequest
                | FailureKind::RefusedByToken
                | FailureKind::Untested
                | FailureKind::KeyUnwell,
            )
            | Err(_) => Self::Module {
                module: config.module.clone(),
                detail: named(detail, &failure.return_value),
            },
        }
    }

    /// What the failure of any other call means. `key` is the key it was about, where it was about
    /// one.
    pub(super) fn of_call(failure: Failure, operation: &'static str, key: Option<&KeyRef>) -> Self {
        let Failure {
            kind,
            detail,
            return_value,
        } = failure;
        match (FailureKind::try_from(kind), key) {
            (Ok(FailureKind::BadCiphertext), _) => Self::Undecryptable,
            (Ok(FailureKind::KeyMissing), Some(key)) => Self::KeyMissing {
                operation,
                key: key.clone(),
            },
            (Ok(FailureKind::Untested), Some(key)) => Self::Untested {
                operation,
                key: key.clone(),
            },
            (Ok(FailureKind::KeyUnwell), Some(key)) => Self::KeyUnwell {
                operation,
                key: key.clone(),
                detail,
            },
            (Ok(FailureKind::KeyMismatch), Some(key)) => Self::KeyMismatch {
                operation,
                key: key.clone(),
                detail,
            },
            (Ok(FailureKind::KeyAmbiguous), _) => Self::KeyAmbiguous { operation, detail },
            (Ok(FailureKind::Unsupported), _) => Self::Unsupported {
                operation,
                detail: named(detail, &return_value),
            },
            (Ok(FailureKind::RefusedByToken), _) => Self::RefusedByToken {
                operation,
                detail: named(detail, &return_value),
            },
            (Ok(FailureKind::BadRequest), _) => Self::BadRequest { operation, detail },
            // The link ends where a worker says LINK_LOST or speaks of PINs: not told here.
            (
                Ok(
                    FailureKind::Unspecified
                    | FailureKind::LinkLost
                    | FailureKind::KeyMissing
                    | FailureKind::KeyMismatch
                    | FailureKind::Untested
                    | FailureKind::KeyUnwell
                    | FailureKind::PinRefused
                    | FailureKind::PinWithheld
                    | FailureKind::PinUnreadable
                    | FailureKind::TokenNotFound
                    | FailureKind::Module,
                )
                | Err(_),
                _,
            ) => Self::AnswerMalformed {
                operation,
                expected: "a failure that this call can have",
            },
        }
    }
}

fn named(detail: String, return_value: &str) -> String {
    if return_value.is_empty() {
        detail
    } else {
        format!("{detail} ({return_value})")
    }
}
