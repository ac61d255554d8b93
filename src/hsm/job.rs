//! What the HSM is asked and what it answers with, in our own types; their form on the socketpair
//! is beside each. Nothing here talks to anybody.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use crate::keyring::Version;
use crate::ledger::InstanceKey;
use crate::proto::worker as proto;
use crate::proto::worker::response::Result as Answered;
use crate::types::{DEK_LEN, Padding, Sha256, WrappedDek};

/// How the worker process is started: normally this very program with `hsm-worker`.
#[derive(Debug, Clone)]
pub struct WorkerCommand {
    /// The program.
    pub program: PathBuf,
    /// Its arguments.
    pub args: Vec<OsString>,
    /// Variables it gets beside those of this process, and before them.
    pub environment: BTreeMap<String, String>,
}

/// Names a key object in the token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyRef {
    /// `CKA_ID`.
    pub object_id: [u8; 16],
    /// SHA-256 over the DER `SubjectPublicKeyInfo` the key must have; none for a secret key.
    pub spki_sha256: Option<Sha256>,
}

impl fmt::Display for KeyRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        uuid::Uuid::from_bytes(self.object_id).hyphenated().fmt(f)
    }
}

impl From<&Version> for KeyRef {
    fn from(version: &Version) -> Self {
        Self {
            object_id: *version.keypair_id.as_bytes(),
            spki_sha256: Some(version.spki_sha256),
        }
    }
}

impl From<&InstanceKey> for KeyRef {
    fn from(key: &InstanceKey) -> Self {
        Self {
            object_id: *key.object_id.as_bytes(),
            spki_sha256: (!key.spki.is_empty()).then(|| Sha256::of(&key.spki)),
        }
    }
}

impl From<&KeyRef> for proto::KeyRef {
    fn from(key: &KeyRef) -> Self {
        Self {
            object_id: key.object_id.to_vec(),
            spki_sha256: key
                .spki_sha256
                .map_or_else(Vec::new, |digest| digest.as_bytes().to_vec()),
        }
    }
}

/// A DEK to be unwrapped to the clear. The keyring has admitted state, padding and length before.
#[derive(Debug, Clone)]
pub struct UnwrapJob {
    /// The private key.
    pub key: KeyRef,
    /// How the DEK was wrapped.
    pub padding: Padding,
    /// The ciphertext, as long as the modulus.
    pub wrapped_dek: WrappedDek,
    /// For PKCS#1 v1.5: the secret key behind implicit rejection.
    pub implicit_rejection_key: Option<KeyRef>,
}

impl From<&UnwrapJob> for proto::Unwrap {
    fn from(job: &UnwrapJob) -> Self {
        Self {
            key: Some((&job.key).into()),
            padding: proto::Padding::from(job.padding).into(),
            wrapped_dek: job.wrapped_dek.as_bytes().to_vec(),
            implicit_rejection_key: job.implicit_rejection_key.as_ref().map(Into::into),
        }
    }
}

/// A DEK to be wrapped again inside the HSM.
#[derive(Debug, Clone)]
pub struct RewrapJob {
    /// The private key.
    pub key: KeyRef,
    /// How the DEK was wrapped.
    pub padding: Padding,
    /// The ciphertext, as long as the modulus.
    pub wrapped_dek: WrappedDek,
    /// DER `SubjectPublicKeyInfo` of the recipient's RSA key.
    pub recipient_spki: Vec<u8>,
    /// How to wrap for the recipient.
    pub recipient_padding: Padding,
}

impl From<&RewrapJob> for proto::Rewrap {
    fn from(job: &RewrapJob) -> Self {
        Self {
            key: Some((&job.key).into()),
            padding: proto::Padding::from(job.padding).into(),
            wrapped_dek: job.wrapped_dek.as_bytes().to_vec(),
            recipient_spki: job.recipient_spki.clone(),
            recipient_padding: proto::Padding::from(job.recipient_padding).into(),
        }
    }
}

/// A test with a known answer: it tells a token that fails from a ciphertext that is bad.
#[derive(Debug, Clone)]
pub struct KnownAnswer {
    /// The private key.
    pub key: KeyRef,
    /// How the value was wrapped.
    pub padding: Padding,
    /// A 32-byte value that was wrapped outside the HSM.
    pub wrapped: WrappedDek,
    /// SHA-256 of that value.
    pub sha256: Sha256,
    /// The key has `CKA_UNWRAP` and not `CKA_DECRYPT`.
    pub by_unwrap: bool,
}

impl From<&KnownAnswer> for proto::KnownAnswer {
    fn from(test: &KnownAnswer) -> Self {
        Self {
            key: Some((&test.key).into()),
            padding: proto::Padding::from(test.padding).into(),
            wrapped: test.wrapped.as_bytes().to_vec(),
            sha256: test.sha256.as_bytes().to_vec(),
            by_unwrap: test.by_unwrap,
        }
    }
}

impl From<Padding> for proto::Padding {
    fn from(padding: Padding) -> Self {
        match padding {
            Padding::OaepSha1 => Self::OaepSha1,
            Padding::OaepSha256 => Self::OaepSha256,
            Padding::Pkcs1V15 => Self::Pkcs1V15,
        }
    }
}

/// How a data object is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DataKind {
    /// Once and for good: not modifiable, copyable or destroyable. Refused where one with this
    /// label exists.
    Fixed,
    /// In place of those with the same label: the new one is made first, then the old ones are
    /// destroyed, so a reader may find two for a moment.
    Replace,
}

/// What the HSM gave, and how long that took.
pub struct Answer<T> {
    /// The result.
    pub value: T,
    /// From the call until a session took it, waiting for a new worker included.
    pub queue: Duration,
    /// Inside the PKCS#11 module.
    pub hsm: Duration,
}

/// Whether the HSM could make no DEK of what it was given. Told from the answer itself and not from
/// what the caller hears, who may be gone.
pub(super) fn is_undecryptable(answered: &Answered) -> bool {
    if let Answered::Failure(failure) = answered {
        failure.kind() == proto::FailureKind::BadCiphertext
    } else if let Answered::Unwrapped(unwrapped) = answered {
        unwrapped.dek.len() != DEK_LEN
    } else {
        false
    }
}
