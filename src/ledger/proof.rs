//! The proof that one entry is in a ledger, as a file that needs nothing else but the instance's log
//! key: C2SP tlog-proof, with the entry itself as its extra data. Only reading and writing of texts,
//! and the arithmetic of `merkle`.

use super::copy::CopyError;
use super::entry::{ENTRY_LEN_MAX, StoredEntry};
use super::error::{EntryError, LedgerError};
use crate::merkle::{
    Checkpoint, Head, LogKey, NOTE_LEN_MAX, TlogProof, leaf_hash, verify_inclusion,
};
use crate::proto::v1;
use crate::types::Sha256;

/// Longest proof file, in bytes: an entry in base64, 64 hashes, a note.
const PROOF_LEN_MAX: usize = ENTRY_LEN_MAX / 3 * 4 + 4096 + NOTE_LEN_MAX;

/// The proof that an entry is in a ledger.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InclusionProof {
    /// Its index.
    pub index: u64,
    /// Its exact bytes.
    pub entry: Vec<u8>,
    /// The audit path from the leaf up (RFC 6962 section 2.1.1).
    pub hashes: Vec<Sha256>,
    /// The signed note the path leads to.
    pub note: String,
}

/// What a proof was seen to prove.
#[derive(Debug, Clone)]
pub struct Proved {
    /// The instance, as the entry names it.
    pub instance_id: Sha256,
    /// The ledger that holds the entry.
    pub head: Head,
    /// The entry.
    pub entry: v1::Entry,
}

impl InclusionProof {
    /// The hash of the entry as a leaf.
    pub fn leaf(&self) -> Sha256 {
        leaf_hash(&self.entry)
    }

    /// The file: C2SP tlog-proof, `extra` holding the entry's bytes.
    pub fn to_text(&self) -> String {
        let proof = TlogProof {
            extra: self.entry.clone(),
            index: self.index,
            hashes: self.hashes.clone(),
            note: self.note.clone(),
        };
        proof.to_text()
    }

    /// Reads the file. Strict: what it reads is what it would write.
    pub fn parse(text: &str) -> Result<Self, CopyError> {
        let found_len = text.len();
        let proof = Some(text).filter(|_| found_len <= PROOF_LEN_MAX);
        let proof = proof.and_then(TlogProof::parse);
        let proof = proof.ok_or(CopyError::ProofMalformed { found_len })?;
        Ok(Self {
            index: proof.index,
            entry: proof.extra,
            hashes: proof.hashes,
            note: proof.note,
        })
    }
}

/// Checks a proof against the log key of an instance. What the entry *means* is not judged: only a
/// whole ledger shows that.
pub fn check_proof(proof: &InclusionProof, key: &LogKey) -> Result<Proved, LedgerError> {
    let stored = StoredEntry::decode(proof.entry.clone())
        .map_err(|source| LedgerError::refused(proof.index, source))?;
    let entry = stored.entry();
    if entry.index != proof.index {
        let source = EntryError::IndexWrong {
            expected: proof.index,
            found: entry.index,
        };
        return Err(LedgerError::refused(proof.index, source));
    }
    let named = entry.instance_id.as_slice();
    // Entry 0 makes the instance's id, so it cannot name it.
    let instance_id = match proof.index {
        0 => Sha256::of(&proof.entry),
        _ => Sha256::try_from(named).map_err(|_| CopyError::ProofMalformed {
            found_len: proof.entry.len(),
        })?,
    };
    let origin = format!("kekd/ledger/{instance_id}");
    let head = Checkpoint::open(&proof.note, &origin, key)?.head();
    verify_inclusion(proof.leaf(), proof.index, head, &proof.hashes)?;
    Ok(Proved {
        instance_id,
        head,
        entry: entry.clone(),
    })
}
