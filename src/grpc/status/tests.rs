//! The exact answers, frozen.

use super::*;
use crate::access::Identity;
use crate::keyring::VersionState;
use crate::types::{KeypairId, Padding, ReleaseForm};

fn line(refused: Refused) -> String {
    let delay = refused
        .retry_after
        .map_or_else(String::new, |d| format!(" retry={d:?}"));
    format!(
        "{:?} {}{delay}: {}",
        refused.code, refused.reason, refused.text
    )
}

/// Every way an unwrap can be refused, with the exact answer. Callers build on these texts and
/// reasons: a change here is a change of the interface.
#[test]
fn the_answers_to_an_unwrap_are_frozen() {
    let me = || Identity::Uri("spiffe://t/me".to_owned());
    let id = KeypairId::from_random([1; 16]);
    let second = Duration::from_secs(1);
    let cases: [(UnwrapError, &str); 22] = [
        (
            TypeError {
                what: "a padding",
                rule: "stated",
            }
            .into(),
            "InvalidArgument INVALID_REQUEST: a padding must be stated",
        ),
        (
            AccessError::CallerUnknown(me()).into(),
            "PermissionDenied CALLER_UNKNOWN: the ledger names no client with your identity",
        ),
        (
            AccessError::RoleNotAllowed(me()).into(),
            "PermissionDenied ROLE_NOT_ALLOWED: your role does not allow this call",
        ),
        (
            AccessError::NotGranted(me()).into(),
            "PermissionDenied NOT_GRANTED: you hold no grant for this KEK",
        ),
        (
            AccessError::NamedTwice(me()).into(),
            "Internal INTERNAL: kekd could not serve this call; its operator's log says why",
        ),
        (
            KeyringError::KeypairUnknown(id).into(),
            "NotFound KEYPAIR_UNKNOWN: no KEK version has the keypair id \
             01010101-0101-4101-8101-010101010101",
        ),
        (
            KeyringError::NotUsable {
                state: VersionState::Suspended,
            }
            .into(),
            "FailedPrecondition VERSION_NOT_USABLE: the version is suspended, which does not \
             unwrap",
        ),
        (
            KeyringError::PaddingNotAllowed {
                asked: Padding::Pkcs1V15,
            }
            .into(),
            "InvalidArgument PADDING_NOT_ALLOWED: the version does not unwrap pkcs1-v1_5",
        ),
        (
            KeyringError::ReleaseFormNotAllowed {
                asked: ReleaseForm::Clear,
            }
            .into(),
            "InvalidArgument RELEASE_FORM_NOT_ALLOWED: the version does not release a DEK in \
             the form asked for",
        ),
        (
            KeyringError::WrongLength {
                expected: 384,
                found: 12,
            }
            .into(),
            "InvalidArgument INVALID_REQUEST: the wrapped DEK has 12 bytes where the key needs \
             384",
        ),
        (
            KeyringError::OutOfTurn {
                kek: "a".parse().unwrap(),
                number: 1,
                keypair_id: id,
            }
            .into(),
            "Internal INTERNAL: kekd could not serve this call; its operator's log says why",
        ),
        (
            UnwrapError::Undecryptable,
            "InvalidArgument UNDECRYPTABLE: the wrapped DEK does not unwrap under this key",
        ),
        (
            UnwrapError::RecipientNotPossible,
            "InvalidArgument PADDING_NOT_ALLOWED: the token cannot wrap a DEK to this recipient \
             with this padding",
        ),
        (
            UnwrapError::Busy {
                retry_after: second,
            },
            "ResourceExhausted BUSY retry=1s: too many calls are waiting",
        ),
        (
            UnwrapError::FailuresTooMany {
                retry_after: second,
                is_first: true,
            },
            "ResourceExhausted FAILURE_QUOTA retry=1s: too many wrapped DEKs of yours did not \
             unwrap under this KEK",
        ),
        (
            UnwrapError::RefusedTooOften {
                retry_after: second,
            },
            "ResourceExhausted REFUSED_TOO_OFTEN retry=1s: too many calls of yours were refused",
        ),
        (
            UnwrapError::CallerLeft,
            "Cancelled CALLER_LEFT: the caller has hung up",
        ),
        (
            UnwrapError::HsmUnavailable {
                retry_after: second,
            },
            "Unavailable HSM_UNAVAILABLE retry=1s: the HSM is not available",
        ),
        (
            UnwrapError::AuditUnavailable {
                retry_after: second,
            },
            "Unavailable AUDIT_UNAVAILABLE retry=1s: the audit log takes no records, so \
             nothing is released",
        ),
        (
            UnwrapError::DeadlineTooShort,
            "DeadlineExceeded DEADLINE_TOO_SHORT: too little of the deadline is left to begin",
        ),
        (
            UnwrapError::DeadlineExceeded,
            "DeadlineExceeded DEADLINE_EXCEEDED: the deadline passed",
        ),
        (
            UnwrapError::Internal,
            "Internal INTERNAL: kekd could not serve this call; its operator's log says why",
        ),
    ];
    for (error, expected) in cases {
        assert_eq!(line(Refused::from(&error)), expected);
    }
}

#[test]
fn the_other_answers_are_frozen() {
    let kek = KeyringError::KekUnknown("a".parse().unwrap());
    let cases = [
        (
            Refused::from(&KeysError::from(kek)),
            "NotFound KEK_UNKNOWN: no KEK has the name a",
        ),
        (
            Refused::from(&StandingError::Revoked),
            "PermissionDenied CERTIFICATE_REVOKED: your certificate is revoked",
        ),
        (
            Refused::from(&StandingError::Expired),
            "PermissionDenied CERTIFICATE_EXPIRED: your certificate has expired; connect with \
             a new one",
        ),
        (
            Refused::call_unknown(),
            "Unimplemented CALL_UNKNOWN: there is no such call",
        ),
        (
            Refused::stopping(),
            "Unavailable STOPPING retry=1s: this node stops; call again",
        ),
    ];
    for (refused, expected) in cases {
        assert_eq!(line(refused), expected);
    }
}

#[test]
fn a_status_and_a_message_in_a_stream_say_the_same() {
    let busy = UnwrapError::Busy {
        retry_after: Duration::from_millis(250),
    };
    let message = v1::Refusal::from(Refused::from(&busy));
    let status = Status::from(Refused::from(&busy));
    assert_eq!(message.code, i32::from(status.code()));
    assert_eq!(message.message, status.message());
    assert_eq!(message.retry_delay_ms, 250);
    let info = status.get_details_error_info().unwrap();
    assert_eq!(
        (info.reason, info.domain),
        (message.reason, "kekd".to_owned())
    );
    assert!(info.metadata.is_empty());
    let retry = status.get_details_retry_info().unwrap();
    assert_eq!(retry.retry_delay, Some(Duration::from_millis(250)));
}

#[test]
fn every_undecryptable_answer_is_the_same_bytes() {
    let bytes = || {
        let status = Status::from(Refused::from(&UnwrapError::Undecryptable));
        let response: http::Response<tonic::body::Body> = status.into_http();
        format!("{:?}", response.headers())
    };
    assert_eq!(bytes(), bytes());
}
