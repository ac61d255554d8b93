//! Why nothing leaves: each error with its stable reason and with the outcome that is recorded.

use std::time::Duration;

use tracing::error;

use crate::access::AccessError;
use crate::audit::{AuditError, Outcome};
use crate::keyring::KeyringError;
use crate::types::TypeError;

/// How long a caller should wait before it asks again while the HSM or the audit log is away: about
/// the time in which a lost worker process is replaced.
pub(super) const RETRY_AFTER_OUTAGE: Duration = Duration::from_millis(1_000);

/// Why nothing leaves.
#[derive(Debug, thiserror::Error)]
pub enum UnwrapError {
    /// The request is not well formed.
    #[error(transparent)]
    Malformed(#[from] TypeError),
    /// The caller may not do this.
    #[error(transparent)]
    Access(#[from] AccessError),
    /// The keyring does not serve this.
    #[error(transparent)]
    Keyring(#[from] KeyringError),
    /// The ciphertext is not a DEK under this key. One variant for every way in which it is not.
    #[error("the wrapped DEK does not unwrap under this key")]
    Undecryptable,
    /// The token cannot wrap to this recipient in this way.
    #[error("the token cannot wrap a DEK to this recipient with this padding")]
    RecipientNotPossible,
    /// Too many calls wait for the HSM or the audit log.
    #[error("too many calls are waiting; try again")]
    Busy {
        /// When to try again.
        retry_after: Duration,
    },
    /// Too many wrapped DEKs of this caller did not unwrap under this KEK. The HSM was not asked.
    #[error("too many wrapped DEKs of this caller did not unwrap under this KEK; try again")]
    FailuresTooMany {
        /// When the next attempt is allowed.
        retry_after: Duration,
        /// Nobody was told so since the alarm was raised: this one is recorded.
        is_first: bool,
    },
    /// The caller is refused more often than is recorded. For what is not told.
    #[error("too many calls of this caller were refused; try again")]
    RefusedTooOften {
        /// When another refusal would be recorded.
        retry_after: Duration,
    },
    /// The caller hung up before the HSM was asked. Nobody hears it.
    #[error("the caller left before its turn came")]
    CallerLeft,
    /// The HSM does not answer.
    #[error("the HSM is not available; try again")]
    HsmUnavailable {
        /// When to try again.
        retry_after: Duration,
    },
    /// The audit log takes no record, so nothing may be released.
    #[error("the audit log takes no records, so nothing is released; try again")]
    AuditUnavailable {
        /// When to try again.
        retry_after: Duration,
    },
    /// Too little of the deadline is left to begin.
    #[error("too little of the deadline is left to begin")]
    DeadlineTooShort,
    /// The deadline passed while the call waited or ran.
    #[error("the deadline passed")]
    DeadlineExceeded,
    /// The token does not hold what the ledger says, or a bug. The operator's log says which.
    #[error("kekd cannot serve this key; its operator's log says why")]
    Internal,
}

impl UnwrapError {
    /// The HSM is away, or unwell.
    pub(in crate::flows) const fn unavailable() -> Self {
        Self::HsmUnavailable {
            retry_after: RETRY_AFTER_OUTAGE,
        }
    }

    /// The stable reason, as in `google.rpc.ErrorInfo` and in audit records.
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::Malformed(_) | Self::Keyring(KeyringError::WrongLength { .. }) => {
                "INVALID_REQUEST"
            }
            Self::Access(error) => error.reason(),
            Self::Keyring(KeyringError::NotUsable { .. }) => "VERSION_NOT_USABLE",
            Self::Keyring(KeyringError::PaddingNotAllowed { .. }) => "PADDING_NOT_ALLOWED",
            Self::Keyring(KeyringError::ReleaseFormNotAllowed { .. }) => "RELEASE_FORM_NOT_ALLOWED",
            Self::Keyring(
                KeyringError::KeypairUnknown(_)
                | KeyringError::KekUnknown(_)
                | KeyringError::OutOfTurn { .. }
                | KeyringError::ChangeRefused(_),
            ) => "KEYPAIR_UNKNOWN",
            Self::RecipientNotPossible => "PADDING_NOT_ALLOWED",
            Self::Undecryptable => "UNDECRYPTABLE",
            Self::Busy { .. } => "BUSY",
            Self::FailuresTooMany { .. } => "FAILURE_QUOTA",
            Self::RefusedTooOften { .. } => "REFUSED_TOO_OFTEN",
            Self::CallerLeft => "CALLER_LEFT",
            Self::HsmUnavailable { .. } => "HSM_UNAVAILABLE",
            Self::AuditUnavailable { .. } => "AUDIT_UNAVAILABLE",
            Self::DeadlineTooShort => "DEADLINE_TOO_SHORT",
            Self::DeadlineExceeded => "DEADLINE_EXCEEDED",
            Self::Internal => "INTERNAL",
        }
    }

    pub(in crate::flows) const fn outcome(&self) -> Outcome {
        match self {
            Self::Undecryptable => Outcome::Undecryptable,
            Self::Busy { .. }
            | Self::HsmUnavailable { .. }
            | Self::AuditUnavailable { .. }
            | Self::CallerLeft
            | Self::DeadlineExceeded
            | Self::Internal => Outcome::Unavailable,
            Self::Malformed(_)
            | Self::Access(_)
            | Self::Keyring(_)
            | Self::RecipientNotPossible
            | Self::FailuresTooMany { .. }
            | Self::RefusedTooOften { .. }
            | Self::DeadlineTooShort => Outcome::Refused,
        }
    }
}

impl From<AuditError> for UnwrapError {
    fn from(error: AuditError) -> Self {
        if matches!(error, AuditError::Busy { .. }) {
            return Self::Busy {
                retry_after: RETRY_AFTER_OUTAGE,
            };
        }
        error!(%error, "no audit record, so nothing is released");
        Self::AuditUnavailable {
            retry_after: RETRY_AFTER_OUTAGE,
        }
    }
}
