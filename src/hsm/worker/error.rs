//! What can go wrong with one request, and how it is told to the daemon. No decision is made here
//! except which [`FailureKind`] an error is; retries are in `settle.rs`. The invariant: no text
//! made here carries key material, a PIN or plaintext.

use cryptoki::context::Function;
use cryptoki::error::{Error, RvError};

use super::login::LoginError;
use super::return_value::{self, Class};
use crate::proto::worker::{Failure, FailureKind};
use crate::types::Sha256;

/// Why a request failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum JobError {
    /// A call answered with an error.
    #[error("{call:?} answered {}", return_value::name(*.return_value))]
    Token {
        /// The PKCS#11 function.
        call: Function,
        /// Its return value.
        return_value: RvError,
    },
    /// The binding found what the module gave unusable.
    #[error("the module's answer makes no sense: {0}")]
    Binding(Error),
    /// The ciphertext does not unwrap to 32 bytes.
    #[error("the ciphertext does not unwrap to a 32-byte key")]
    BadCiphertext {
        /// What the token said, where it said anything.
        return_value: Option<RvError>,
    },
    /// The token does not do its work.
    #[error("{why}")]
    LinkLost {
        /// How that was found.
        why: String,
        /// What the token said last.
        return_value: Option<RvError>,
    },
    /// The key's own test did not pass, and that of another key did.
    #[error("the key fails its known-answer test, which other keys pass: {why}")]
    KeyUnwell {
        /// In what way.
        why: String,
    },
    /// The key's test with this padding has not passed on this worker.
    #[error("the key was not tested with this padding on this worker")]
    Untested,
    /// No such object.
    #[error("the token holds no {class} with CKA_ID {}", hex(.object_id))]
    KeyMissing {
        /// "private key" or the like.
        class: &'static str,
        /// Its `CKA_ID`.
        object_id: Vec<u8>,
    },
    /// More than one object where one may be, or one where none may be.
    #[error("the token holds {found} objects ({what}) where it may hold {expected}")]
    KeyAmbiguous {
        /// What was looked for.
        what: String,
        /// How many there may be.
        expected: usize,
        /// How many there are.
        found: usize,
    },
    /// Another public key than expected.
    #[error("the object's public key has SHA-256 {found} where {expected} is expected")]
    KeyMismatch {
        /// What the daemon expects.
        expected: Sha256,
        /// What the token holds.
        found: Sha256,
    },
    /// Opening the token failed.
    #[error(transparent)]
    Login(#[from] LoginError),
    /// No token with this label and serial number, or several.
    #[error(
        "{found} tokens have the label {label:?} and the serial number {serial:?}; \
         the module shows: {seen}"
    )]
    TokenNotFound {
        /// The label asked for.
        label: String,
        /// The serial number asked for.
        serial: String,
        /// How many match.
        found: usize,
        /// All tokens seen, for the operator.
        seen: String,
    },
    /// The module cannot be loaded or initialised.
    #[error("the PKCS#11 module {path} cannot be used: {source}")]
    Module {
        /// Its path.
        path: String,
        /// Why.
        source: Error,
    },
    /// The token cannot do this.
    #[error("{what}")]
    Unsupported {
        /// What it cannot do.
        what: String,
        /// What it said, where it said anything.
        return_value: Option<RvError>,
    },
    /// The token refused the act.
    #[error("{why}")]
    Refused {
        /// What it refused, and how that was seen.
        why: String,
        /// What it said, where it said anything.
        return_value: Option<RvError>,
    },
    /// The request makes no sense.
    #[error("{why}")]
    BadRequest {
        /// Why not.
        why: String,
    },
}

impl JobError {
    pub(super) fn bad_request(why: impl Into<String>) -> Self {
        Self::BadRequest { why: why.into() }
    }

    pub(super) fn link_lost(why: impl Into<String>) -> Self {
        Self::LinkLost {
            why: why.into(),
            return_value: None,
        }
    }

    /// What the token's own answer means; `None` where the error is not a token's answer.
    pub(super) fn class(&self) -> Option<Class> {
        match self {
            Self::Token { call, return_value } => Some(return_value::class(*call, *return_value)),
            Self::Binding(_)
            | Self::BadCiphertext { .. }
            | Self::LinkLost { .. }
            | Self::KeyUnwell { .. }
            | Self::Untested
            | Self::KeyMissing { .. }
            | Self::KeyAmbiguous { .. }
            | Self::KeyMismatch { .. }
            | Self::Login(_)
            | Self::TokenNotFound { .. }
            | Self::Module { .. }
            | Self::Unsupported { .. }
            | Self::Refused { .. }
            | Self::BadRequest { .. } => None,
        }
    }

    /// Whether the token answered, and the answer is no; tokens say so with almost any code,
    /// `CKR_GENERAL_ERROR` included. Not where a new session or a new worker is the cure.
    pub(super) fn is_refusal(&self) -> bool {
        let class = self.class();
        matches!(
            class,
            Some(Class::Refused | Class::Unsupported | Class::Ambiguous)
        )
    }

    fn kind(&self) -> FailureKind {
        match self {
            Self::Token { .. } => match self.class() {
                Some(Class::BadCiphertext) => FailureKind::BadCiphertext,
                Some(Class::Unsupported) => FailureKind::Unsupported,
                Some(Class::Refused) => FailureKind::RefusedByToken,
                Some(
                    Class::SessionLost | Class::LinkLost | Class::PinRefused | Class::Ambiguous,
                )
                | None => FailureKind::LinkLost,
            },
            Self::BadCiphertext { .. } => FailureKind::BadCiphertext,
            Self::Binding(_) | Self::LinkLost { .. } => FailureKind::LinkLost,
            Self::KeyUnwell { .. } => FailureKind::KeyUnwell,
            Self::Untested => FailureKind::Untested,
            Self::KeyMissing { .. } => FailureKind::KeyMissing,
            Self::KeyAmbiguous { .. } => FailureKind::KeyAmbiguous,
            Self::KeyMismatch { .. } => FailureKind::KeyMismatch,
            Self::Login(error) => error.kind(),
            Self::TokenNotFound { .. } => FailureKind::TokenNotFound,
            Self::Module { .. } => FailureKind::Module,
            Self::Unsupported { .. } => FailureKind::Unsupported,
            Self::Refused { .. } => FailureKind::RefusedByToken,
            Self::BadRequest { .. } => FailureKind::BadRequest,
        }
    }

    /// The return value behind the error, where there was one.
    pub(super) fn return_value(&self) -> Option<RvError> {
        match self {
            Self::Token { return_value, .. } => Some(*return_value),
            Self::BadCiphertext { return_value }
            | Self::LinkLost { return_value, .. }
            | Self::Unsupported { return_value, .. }
            | Self::Refused { return_value, .. } => *return_value,
            Self::Login(error) => error.return_value(),
            Self::Module {
                source: Error::Pkcs11(return_value, _),
                ..
            } => Some(*return_value),
            Self::Binding(_)
            | Self::KeyUnwell { .. }
            | Self::Untested
            | Self::KeyMissing { .. }
            | Self::KeyAmbiguous { .. }
            | Self::KeyMismatch { .. }
            | Self::TokenNotFound { .. }
            | Self::Module { .. }
            | Self::BadRequest { .. } => None,
        }
    }

    /// The error as the daemon is told.
    pub(super) fn failure(&self) -> Failure {
        Failure {
            kind: self.kind().into(),
            detail: self.to_string(),
            return_value: self
                .return_value()
                .map(return_value::name)
                .unwrap_or_default(),
        }
    }
}

impl From<Error> for JobError {
    fn from(error: Error) -> Self {
        if let Error::Pkcs11(return_value, call) = error {
            return Self::Token { call, return_value };
        }
        if matches!(error, Error::NullFunctionPointer) {
            return Self::Unsupported {
                what: "the module lacks the function".to_owned(),
                return_value: None,
            };
        }
        Self::Binding(error)
    }
}

/// Lower-case hexadecimal.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
