//! The proof that one record is in an audit log, as a file that needs nothing else but the instance's
//! log key. The text is `merkle`'s; here is what it means.

use prost::Message as _;

use super::{AuditError, Mismatch, RecordProof, origin};
use crate::merkle::{
    Checkpoint, Head, LogKey, MerkleError, TlogProof, leaf_hash, verify_inclusion,
};
use crate::proto::v1;
use crate::types::Sha256;

/// Longest proof file, in bytes: records have a bound well below.
const PROOF_LEN_MAX: usize = 64 * 1024;

impl RecordProof {
    /// The file: C2SP tlog-proof, `extra` holding the record's bytes.
    pub fn to_text(&self) -> String {
        let proof = TlogProof {
            extra: self.record.clone(),
            index: self.index,
            hashes: self.hashes.clone(),
            note: self.note.clone(),
        };
        proof.to_text()
    }

    /// Reads the file. Strict: what it reads is what it would write.
    pub fn parse(text: &str) -> Option<Self> {
        let proof = TlogProof::parse(text).filter(|_| text.len() <= PROOF_LEN_MAX)?;
        Some(Self {
            index: proof.index,
            record: proof.extra,
            hashes: proof.hashes,
            note: proof.note,
        })
    }

    /// Checks it against the log key of an instance, and returns the log that holds the record, and
    /// the record.
    pub fn check(
        &self,
        instance_id: &Sha256,
        key: &LogKey,
    ) -> Result<(Head, v1::Record), AuditError> {
        let head = Checkpoint::open(&self.note, &origin(instance_id), key)?.head();
        verify_inclusion(leaf_hash(&self.record), self.index, head, &self.hashes)?;
        let record = v1::Record::decode(self.record.as_slice()).ok();
        match record {
            Some(record) if record.index == self.index => Ok((head, record)),
            other => Err(AuditError::mismatch(
                "the proof",
                Mismatch::RecordMoved {
                    index: self.index,
                    found: other.map(|record| record.index),
                },
            )),
        }
    }

    /// The instance that its note claims to be of; nothing is proved by it.
    pub fn claimed_instance(&self) -> Result<Sha256, MerkleError> {
        let named = self.note.lines().next().unwrap_or_default();
        let id = named
            .strip_prefix("kekd/audit/")
            .and_then(|id| id.parse().ok());
        id.ok_or(MerkleError::NoteMalformed {
            rule: "the origin must be kekd/audit/ and an instance",
        })
    }
}
