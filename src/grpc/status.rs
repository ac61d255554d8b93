//! The only place that says no on the wire: from each flow's error to a code, a stable reason
//! (`google.rpc.ErrorInfo`, domain "kekd"), a fixed text and, where it helps, a retry delay. No
//! internal text leaves: the cause is in the operator's log under the request's id.
//!
//! The invariant: whatever a decryption could reveal is one refusal, byte for byte. No refusal
//! carries a request id, a time or an address.

use std::borrow::Cow;
use std::collections::HashMap;
use std::time::Duration;

use tonic::{Code, Status};
use tonic_types::{ErrorDetail, ErrorInfo, RetryInfo, StatusExt as _};

use super::peer::StandingError;
use crate::access::AccessError;
use crate::flows::audit::ReadAuditError;
use crate::flows::govern::GovernError;
use crate::flows::keys::KeysError;
use crate::flows::ledger::ReadLedgerError;
use crate::flows::unwrap::UnwrapError;
use crate::keyring::KeyringError;
use crate::proto::v1;
use crate::quorum::Refusal;
use crate::types::TypeError;

/// The domain of every reason.
pub const DOMAIN: &str = "kekd";

/// How long a caller should wait before it calls again while the node stops; another node, or this
/// one after its restart, will answer.
const RETRY_AFTER_STOP: Duration = Duration::from_secs(1);

/// One refusal, before it takes the form of a status or of a message in a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    code: Code,
    reason: &'static str,
    text: Cow<'static, str>,
    retry_after: Option<Duration>,
}

impl Refused {
    const fn new(code: Code, reason: &'static str, text: &'static str) -> Self {
        Self {
            code,
            reason,
            text: Cow::Borrowed(text),
            retry_after: None,
        }
    }

    /// The deadline passed before there was an answer.
    pub const fn deadline_exceeded() -> Self {
        Self::new(
            Code::DeadlineExceeded,
            "DEADLINE_EXCEEDED",
            "the deadline passed",
        )
    }

    /// A bug, or a contradiction that the operator must look at.
    pub const fn internal() -> Self {
        Self::new(
            Code::Internal,
            "INTERNAL",
            "kekd could not serve this call; its operator's log says why",
        )
    }

    /// A follower of the audit log takes nothing.
    pub const fn too_slow() -> Self {
        Self::new(
            Code::ResourceExhausted,
            "TOO_SLOW",
            "records waited for 30 seconds to be taken; begin again after the last one you have",
        )
    }

    /// There is no such call, or nobody may make it.
    pub const fn call_unknown() -> Self {
        Self::new(Code::Unimplemented, "CALL_UNKNOWN", "there is no such call")
    }

    /// The node stops; what was under way has been answered.
    pub fn stopping() -> Self {
        Self {
            retry_after: Some(RETRY_AFTER_STOP),
            ..Self::new(Code::Unavailable, "STOPPING", "this node stops; call again")
        }
    }

    /// The stable reason.
    pub const fn reason(&self) -> &'static str {
        self.reason
    }

    fn from_keyring(error: &KeyringError, reason: &'static str) -> Self {
        let code = match error {
            KeyringError::KeypairUnknown(_) | KeyringError::KekUnknown(_) => Code::NotFound,
            KeyringError::NotUsable { .. } => Code::FailedPrecondition,
            KeyringError::PaddingNotAllowed { .. }
            | KeyringError::ReleaseFormNotAllowed { .. }
            | KeyringError::WrongLength { .. } => Code::InvalidArgument,
            // Of changes; nobody asks for one here.
            KeyringError::OutOfTurn { .. } | KeyringError::ChangeRefused(_) => {
                return Self::internal();
            }
        };
        let text = match error {
            KeyringError::ReleaseFormNotAllowed { .. } => {
                Cow::Borrowed("the version does not release a DEK in the form asked for")
            }
            // These name what was asked for, and rules that a caller with a grant may know.
            KeyringError::KeypairUnknown(_)
            | KeyringError::KekUnknown(_)
            | KeyringError::NotUsable { .. }
            | KeyringError::PaddingNotAllowed { .. }
            | KeyringError::WrongLength { .. }
            | KeyringError::OutOfTurn { .. }
            | KeyringError::ChangeRefused(_) => Cow::Owned(error.to_string()),
        };
        Self {
            code,
            reason,
            text,
            retry_after: None,
        }
    }
}

impl From<&TypeError> for Refused {
    fn from(error: &TypeError) -> Self {
        // The text of a `TypeError` names the rule, never the value.
        let text = Cow::Owned(error.to_string());
        Self {
            text,
            ..Self::new(Code::InvalidArgument, "INVALID_REQUEST", "")
        }
    }
}

impl From<&AccessError> for Refused {
    fn from(error: &AccessError) -> Self {
        let text = match error {
            AccessError::CallerUnknown(_) => "the ledger names no client with your identity",
            AccessError::RoleNotAllowed(_) => "your role does not allow this call",
            AccessError::NotGranted(_) => "you hold no grant for this KEK",
            AccessError::NamedTwice(_) | AccessError::ChangeRefused(_) => return Self::internal(),
        };
        Self::new(Code::PermissionDenied, error.reason(), text)
    }
}

impl From<&StandingError> for Refused {
    fn from(error: &StandingError) -> Self {
        let text = match error {
            StandingError::Expired => "your certificate has expired; connect with a new one",
            StandingError::Revoked => "your certificate is revoked",
        };
        Self::new(Code::PermissionDenied, error.reason(), text)
    }
}

impl From<&UnwrapError> for Refused {
    fn from(error: &UnwrapError) -> Self {
        let reason = error.reason();
        let later = |code, text, retry_after: &Duration| Self {
            retry_after: Some(*retry_after),
            ..Self::new(code, reason, text)
        };
        match error {
            UnwrapError::Malformed(error) => error.into(),
            UnwrapError::Access(error) => error.into(),
            UnwrapError::Keyring(error) => Self::from_keyring(error, reason),
            UnwrapError::Undecryptable => Self::new(
                Code::InvalidArgument,
                reason,
                "the wrapped DEK does not unwrap under this key",
            ),
            UnwrapError::RecipientNotPossible => Self::new(
                Code::InvalidArgument,
                reason,
                "the token cannot wrap a DEK to this recipient with this padding",
            ),
            UnwrapError::Busy { retry_after } => later(
                Code::ResourceExhausted,
                "too many calls are waiting",
                retry_after,
            ),
            UnwrapError::FailuresTooMany { retry_after, .. } => later(
                Code::ResourceExhausted,
                "too many wrapped DEKs of yours did not unwrap under this KEK",
                retry_after,
            ),
            UnwrapError::RefusedTooOften { retry_after } => later(
                Code::ResourceExhausted,
                "too many calls of yours were refused",
                retry_after,
            ),
            UnwrapError::CallerLeft => Self::new(Code::Cancelled, reason, "the caller has hung up"),
            UnwrapError::HsmUnavailable { retry_after } => {
                later(Code::Unavailable, "the HSM is not available", retry_after)
            }
            UnwrapError::AuditUnavailable { retry_after } => later(
                Code::Unavailable,
                "the audit log takes no records, so nothing is released",
                retry_after,
            ),
            UnwrapError::DeadlineTooShort => Self::new(
                Code::DeadlineExceeded,
                reason,
                "too little of the deadline is left to begin",
            ),
            UnwrapError::DeadlineExceeded => Self::deadline_exceeded(),
            UnwrapError::Internal => Self::internal(),
        }
    }
}

impl From<&KeysError> for Refused {
    fn from(error: &KeysError) -> Self {
        match error {
            KeysError::Access(error) => error.into(),
            KeysError::PolicyUnknown => Self::new(
                Code::NotFound,
                "POLICY_UNKNOWN",
                "there is no recording policy for this queue or tag",
            ),
            KeysError::NoneActive => Self::new(
                Code::FailedPrecondition,
                "VERSION_NOT_USABLE",
                "neither the KEK of the recording policy nor its fallback has an active version",
            ),
            KeysError::Keyring(error) => {
                let reason = match error {
                    KeyringError::KekUnknown(_) => "KEK_UNKNOWN",
                    KeyringError::KeypairUnknown(_) => "KEYPAIR_UNKNOWN",
                    // None of these comes from reading.
                    KeyringError::NotUsable { .. }
                    | KeyringError::PaddingNotAllowed { .. }
                    | KeyringError::ReleaseFormNotAllowed { .. }
                    | KeyringError::WrongLength { .. }
                    | KeyringError::OutOfTurn { .. }
                    | KeyringError::ChangeRefused(_) => return Self::internal(),
                };
                Self::from_keyring(error, reason)
            }
        }
    }
}

impl From<&ReadLedgerError> for Refused {
    fn from(error: &ReadLedgerError) -> Self {
        match error {
            ReadLedgerError::EntryUnknown { .. } => Self {
                text: Cow::Owned(error.to_string()),
                ..Self::new(Code::NotFound, "ENTRY_UNKNOWN", "")
            },
            ReadLedgerError::Internal => Self::internal(),
        }
    }
}

impl From<&ReadAuditError> for Refused {
    fn from(error: &ReadAuditError) -> Self {
        let said = |code, reason| Self {
            text: Cow::Owned(error.to_string()),
            ..Self::new(code, reason, "")
        };
        match error {
            ReadAuditError::RecordUnknown { .. } => said(Code::NotFound, "RECORD_UNKNOWN"),
            ReadAuditError::Archived(_) => said(Code::FailedPrecondition, "RECORDS_ARCHIVED"),
            ReadAuditError::NotDropped(_) => said(Code::FailedPrecondition, "NOT_DROPPED"),
            ReadAuditError::Unavailable => Self {
                retry_after: Some(RETRY_AFTER_STOP),
                ..said(Code::Unavailable, "AUDIT_UNAVAILABLE")
            },
            ReadAuditError::NotSigned => said(Code::FailedPrecondition, "NOT_SIGNED"),
            ReadAuditError::TooManyFollowers => said(Code::ResourceExhausted, "TOO_MANY_FOLLOWERS"),
            ReadAuditError::Internal => Self::internal(),
        }
    }
}

impl From<&GovernError> for Refused {
    /// Officers are told what is wrong in full: the ledger is open to them, and what they sent is
    /// theirs to mend.
    fn from(error: &GovernError) -> Self {
        let said = |code, reason| Self {
            text: Cow::Owned(error.to_string()),
            ..Self::new(code, reason, "")
        };
        let later = |reason| Self {
            retry_after: Some(RETRY_AFTER_STOP),
            ..said(Code::Unavailable, reason)
        };
        match error {
            GovernError::Refused(refusal) if matches!(**refusal, Refusal::ProposalUnknown(_)) => {
                said(Code::NotFound, "PROPOSAL_UNKNOWN")
            }
            GovernError::Refused(refusal) if matches!(**refusal, Refusal::Statement(_)) => {
                said(Code::InvalidArgument, "INVALID_REQUEST")
            }
            GovernError::Refused(_)
            | GovernError::NotPossible(_)
            | GovernError::StillUsed { .. }
            | GovernError::NoImport { .. }
            | GovernError::NotDelivered(_) => said(Code::FailedPrecondition, "NOT_ACCEPTED"),
            GovernError::Failed(_) => said(Code::Aborted, "EXECUTION_FAILED"),
            GovernError::Clock(_) => said(Code::FailedPrecondition, "CLOCK_SUSPECT"),
            GovernError::HsmUnavailable => later("HSM_UNAVAILABLE"),
            GovernError::LedgerUnavailable(_) | GovernError::StopNotDurable(_) => {
                later("LEDGER_UNAVAILABLE")
            }
            GovernError::Internal => Self::internal(),
        }
    }
}

impl From<Refused> for Status {
    fn from(refused: Refused) -> Self {
        let info = ErrorInfo::new(refused.reason, DOMAIN, HashMap::new());
        let mut details = vec![ErrorDetail::from(info)];
        if let Some(delay) = refused.retry_after {
            details.push(RetryInfo::new(Some(delay)).into());
        }
        Self::with_error_details_vec(refused.code, refused.text, details)
    }
}

impl From<Refused> for v1::Refusal {
    fn from(refused: Refused) -> Self {
        let delay = refused.retry_after.unwrap_or_default().as_millis();
        Self {
            code: refused.code.into(),
            reason: refused.reason.to_owned(),
            message: refused.text.into_owned(),
            retry_delay_ms: u64::try_from(delay).unwrap_or(u64::MAX),
        }
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test that cannot unwrap has failed")]
mod tests;
