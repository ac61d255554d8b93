//! The ledger: the only truth about an instance. Memory is a fold over its entries ([`State`]);
//! entries are kept as the exact bytes that were hashed, and every head is signed by the key in the
//! HSM. One process writes. Nothing here makes a ledger because one is missing: only `birth` does,
//! for `kekd init`. No HSM, no quorum policy and no SQL is here; SQL is in `store`.

mod anchor;
mod birth;
mod entry;
mod error;
mod keys;
mod state;
mod state_dir;
mod store;

use std::path::Path;
use std::sync::Arc;

pub use anchor::{ANCHOR_LABEL, Anchor, PIN_LABEL, Pin, judge};
pub use birth::{Draft, Staged, Vacancy};
pub use entry::{ENTRY_LEN_MAX, Event};
pub use error::{EntryError, LedgerError};
pub use state::{InstanceKey, State, TokenIdentity};
pub use state_dir::{LEDGER_FILE, LOCK_FILE};

use crate::clock::UnixMs;
use crate::merkle::{Checkpoint, Frontier, Head, leaf_hash};
use crate::types::Sha256;
use entry::StoredEntry;
use state_dir::StateDir;
use store::Store;

/// An open ledger and the right to write it. While this value lives, no other process opens the
/// same state directory.
pub struct Ledger {
    store: Store,
    state: Arc<State>,
    // Last, so that the database is closed before the directory is let go.
    _dir: StateDir,
}

impl Ledger {
    /// Opens the ledger in `dir` and verifies all of it: every entry, the root over them and the
    /// signature over that root. It never makes one. What it cannot see is an older copy that was
    /// whole in its time: hold it against the token with [`judge`] before serving.
    pub fn open(dir: &Path) -> Result<Self, LedgerError> {
        Self::open_held(StateDir::hold(dir)?)
    }

    fn open_held(dir: StateDir) -> Result<Self, LedgerError> {
        let store = Store::open(&dir.ledger())?;
        let state = Arc::new(verified(&store)?);
        Ok(Self {
            store,
            state,
            _dir: dir,
        })
    }

    /// What the entries say, as of the newest one. Readers keep their own copy of the pointer.
    pub const fn state(&self) -> &Arc<State> {
        &self.state
    }

    /// The root over the first `size` entries.
    pub fn root_at(&self, size: u64) -> Result<Sha256, LedgerError> {
        let mut tree = Frontier::default();
        self.store.read_entries(|row| {
            if tree.size() < size {
                tree.push(leaf_hash(&row.bytes));
            }
            Ok(())
        })?;
        match tree.head() {
            Head { size: found, root } if found == size => Ok(root),
            Head { size: found, .. } => Err(LedgerError::Shorter {
                expected: size,
                found,
            }),
        }
    }

    /// Decides whether `event` may be the next entry, and what the state would then be. Nothing is
    /// written. The entry's time is `now`, or that of the entry before where the clock stands
    /// behind it.
    pub fn prepare(&self, event: Event, now: UnixMs) -> Result<Prepared, LedgerError> {
        let size = self.state.head().size;
        let time = now.max(self.state.latest());
        let entry = StoredEntry::encode(size, time, Some(self.state.instance_id()), event);
        let next = State::clone(&self.state)
            .advance(&entry)
            .map_err(|source| LedgerError::refused(size, source))?;
        Ok(Prepared {
            checkpoint: next.checkpoint()?,
            follows: self.state.head(),
            entry,
            next,
        })
    }

    /// Appends a prepared entry. `signature` is r and s (64 bytes) of the log signing key over
    /// [`Prepared::digest`]; it is verified before anything is written. Any error after that
    /// leaves the outcome unknown: the node must stop and open the ledger again.
    pub fn commit(
        &mut self,
        prepared: Prepared,
        signature: &[u8],
    ) -> Result<Arc<State>, LedgerError> {
        if prepared.follows != self.state.head() {
            return Err(LedgerError::HeadMoved {
                expected: prepared.follows.size,
                found: self.state.head().size,
            });
        }
        let note = prepared
            .checkpoint
            .into_note(self.state.log_key(), signature)?;
        // The commit point: before this line nothing happened, after it everything did.
        self.store.append(&prepared.entry, &note)?;
        self.state = Arc::new(prepared.next);
        Ok(Arc::clone(&self.state))
    }
}

/// An entry that may be the next one, waiting for a signature over the head it makes.
pub struct Prepared {
    entry: StoredEntry,
    next: State,
    checkpoint: Checkpoint,
    follows: Head,
}

impl Prepared {
    /// What the log signing key must sign: SHA-256 over the checkpoint's text, 32 bytes.
    pub fn digest(&self) -> Sha256 {
        self.checkpoint.digest()
    }
}

/// The state that the stored entries add up to, if all of them are what was written and signed.
fn verified(store: &Store) -> Result<State, LedgerError> {
    let mut folded: Option<State> = None;
    store.read_entries(|row| {
        let index = folded.as_ref().map_or(0, |state| state.head().size);
        if row.index != index {
            return Err(LedgerError::EntryMissing {
                expected: index,
                found: row.index,
            });
        }
        if leaf_hash(&row.bytes) != row.leaf {
            return Err(LedgerError::EntryChanged { index });
        }
        let next = StoredEntry::decode(row.bytes).and_then(|entry| match folded.take() {
            None => State::begin(&entry),
            Some(state) => state.advance(&entry),
        });
        folded = Some(next.map_err(|source| LedgerError::refused(index, source))?);
        Ok(())
    })?;
    let state = folded.ok_or(LedgerError::Empty)?;
    let found = state.head();
    let (size, note) = store
        .newest_checkpoint()?
        .ok_or(LedgerError::CheckpointMissing { size: found.size })?;
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

#[cfg(test)]
mod tests;
