//! Verifying stored entries, wherever they are stored: each is what was written, each follows the
//! one before it, and the head they make is signed. Nothing is read or written here.

use super::entry::StoredEntry;
use super::error::LedgerError;
use super::state::State;
use super::store::Row;
use crate::merkle::{Checkpoint, leaf_hash};

/// The entries taken so far, folded.
#[derive(Default)]
pub(super) struct Replay {
    folded: Option<State>,
}

impl Replay {
    /// Takes the next entry. After an error nothing more may be taken.
    pub(super) fn take(&mut self, row: Row) -> Result<(), LedgerError> {
        let index = self.folded.as_ref().map_or(0, |state| state.head().size);
        if row.index != index {
            return Err(LedgerError::EntryMissing {
                expected: index,
                found: row.index,
            });
        }
        if leaf_hash(&row.bytes) != row.leaf {
            return Err(LedgerError::EntryChanged { index });
        }
        let next = StoredEntry::decode(row.bytes).and_then(|entry| match self.folded.take() {
            None => State::begin(&entry),
            Some(state) => state.advance(&entry),
        });
        self.folded = Some(next.map_err(|source| LedgerError::refused(index, source))?);
        Ok(())
    }

    /// The state that the entries add up to, if `newest` (the size it stands for, and the signed
    /// note) is a checkpoint over exactly these.
    pub(super) fn finish(self, newest: Option<(u64, String)>) -> Result<State, LedgerError> {
        let state = self.folded.ok_or(LedgerError::Empty)?;
        let found = state.head();
        let (size, note) = newest.ok_or(LedgerError::CheckpointMissing { size: found.size })?;
        if size > found.size {
            return Err(LedgerError::Shorter {
                expected: size,
                found: found.size,
            });
        }
        if size < found.size {
            return Err(LedgerError::CheckpointMissing { size: found.size });
        }
        let signed = Checkpoint::open(&note, &state.origin(), state.log_key())?.head();
        if signed != found {
            return Err(LedgerError::RootWrong {
                size: found.size,
                expected: signed,
                found: found.root,
            });
        }
        Ok(state)
    }
}
