//! Reading the ledger while it is in service, through a connection of its own: a reader waits for
//! other readers, never for the writer or the HSM. Bytes are given out as they are stored. Nothing
//! is written here.

use std::sync::{Mutex, MutexGuard, PoisonError};

use super::error::LedgerError;
use super::proof::InclusionProof;
use super::state::State;
use super::store::Store;
use crate::merkle::{Checkpoint, Head, LogKey, inclusion_proof, verify_inclusion};

/// A connection that reads the ledger's file. It blocks: not for async code.
pub struct LedgerReader {
    store: Mutex<Store>,
    origin: String,
    log_key: LogKey,
}

/// Some entries, and how many there are in all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entries {
    /// The exact bytes of each, in order.
    pub entries: Vec<Vec<u8>>,
    /// Number of entries in the ledger.
    pub size: u64,
}

impl LedgerReader {
    pub(super) fn new(store: Store, state: &State) -> Result<Self, LedgerError> {
        Ok(Self {
            store: Mutex::new(store),
            origin: state.origin(),
            log_key: state.log_key().clone(),
        })
    }

    /// The entries from an index on, together at most `bytes_max` long, but always one where there
    /// is one; none past the end.
    pub fn entries(&self, from: u64, bytes_max: usize) -> Result<Entries, LedgerError> {
        let store = self.store();
        let _still = store.hold_still()?;
        let (mut entries, mut len) = (Vec::new(), 0_usize);
        store.read_entries_from(from, |row| {
            len = len.saturating_add(row.bytes.len());
            let fits = entries.is_empty() || len <= bytes_max;
            if fits {
                entries.push(row.bytes);
            }
            Ok(fits)
        })?;
        let size = store.size()?;
        Ok(Entries { entries, size })
    }

    /// The newest checkpoint: a signed note (C2SP tlog-checkpoint).
    pub fn newest_note(&self) -> Result<String, LedgerError> {
        newest(&self.store())
    }

    /// The proof that the entry at `index` is in the ledger of the newest checkpoint. It is checked
    /// against that checkpoint before it is given out.
    pub fn prove(&self, index: u64) -> Result<InclusionProof, LedgerError> {
        let store = self.store();
        let _still = store.hold_still()?;
        let note = newest(&store)?;
        let Head { size, root } = Checkpoint::open(&note, &self.origin, &self.log_key)?.head();
        let mut found = None;
        store.read_entries_from(index, |row| {
            found = Some(row);
            Ok(false)
        })?;
        let Some(row) = found.filter(|row| row.index == index && index < size) else {
            return Err(LedgerError::EntryUnknown { index, size });
        };
        let hashes = inclusion_proof(&store.leaves()?, index)?;
        let proof = InclusionProof {
            index,
            entry: row.bytes,
            hashes,
            note,
        };
        verify_inclusion(proof.leaf(), index, Head { size, root }, &proof.hashes)?;
        Ok(proof)
    }

    /// A reader that panicked left nothing half done: it only read.
    fn store(&self) -> MutexGuard<'_, Store> {
        self.store.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn newest(store: &Store) -> Result<String, LedgerError> {
    match store.newest_checkpoint()? {
        Some((_, note)) => Ok(note),
        None => Err(LedgerError::CheckpointMissing {
            size: store.size()?,
        }),
    }
}
