//! What the token holds, as the worker found it. Claims of the token, not judgements: whether an
//! object belongs there is the ledger's question.

use super::error::HsmError;
use crate::proto::worker as proto;
use crate::types::Sha256;

/// The kind of an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ObjectClass {
    /// `CKO_PRIVATE_KEY`.
    PrivateKey,
    /// `CKO_PUBLIC_KEY`.
    PublicKey,
    /// `CKO_SECRET_KEY`.
    SecretKey,
    /// `CKO_DATA`.
    Data,
}

/// One object of the token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Object {
    /// Its kind.
    pub class: ObjectClass,
    /// `CKA_ID`, of any length: the object need not be ours.
    pub object_id: Vec<u8>,
    /// `CKA_LABEL`.
    pub label: String,
    /// Of a private key: SHA-256 over the DER `SubjectPublicKeyInfo`, where the public part can be read.
    pub spki_sha256: Option<Sha256>,
}

impl TryFrom<proto::Object> for Object {
    type Error = HsmError;

    fn try_from(object: proto::Object) -> Result<Self, HsmError> {
        let malformed = |expected| HsmError::AnswerMalformed {
            operation: "Inventory",
            expected,
        };
        let class = match object.class.as_str() {
            "private-key" => ObjectClass::PrivateKey,
            "public-key" => ObjectClass::PublicKey,
            "secret-key" => ObjectClass::SecretKey,
            "data" => ObjectClass::Data,
            _ => return Err(malformed("a list of objects of known classes")),
        };
        let spki_sha256 = match object.spki_sha256.as_slice() {
            [] => None,
            bytes => Some(
                Sha256::try_from(bytes)
                    .map_err(|_| malformed("a list of objects with 32-byte digests"))?,
            ),
        };
        Ok(Self {
            class,
            object_id: object.object_id,
            label: object.label,
            spki_sha256,
        })
    }
}

/// An attribute that is not what the profile says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttributeMismatch {
    /// For example `CKA_EXTRACTABLE (private)`.
    pub attribute: String,
    /// What the profile says.
    pub expected: String,
    /// What the token says.
    pub found: String,
}

impl From<proto::AttributeMismatch> for AttributeMismatch {
    fn from(mismatch: proto::AttributeMismatch) -> Self {
        Self {
            attribute: mismatch.attribute,
            expected: mismatch.expected,
            found: mismatch.found,
        }
    }
}

/// What came of trying everything a profile forbids.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttackReport {
    /// The attacks that succeeded, one sentence each. Empty is good.
    pub succeeded: Vec<String>,
    /// How many were tried.
    pub tried: u32,
}

impl From<proto::AttackReport> for AttackReport {
    fn from(report: proto::AttackReport) -> Self {
        Self {
            succeeded: report.succeeded,
            tried: report.tried,
        }
    }
}
