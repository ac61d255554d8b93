//! The ledger: the only truth about an instance. Memory is a fold over its entries ([`State`]);
//! entries are kept as the exact bytes that were hashed, and every head is signed by the key in the
//! HSM. One process writes. Nothing here makes a ledger because one is missing: only `birth` does,
//! for `kekd init`. No HSM, no quorum policy and no SQL is here; SQL is in `store`.

mod anchor;
mod apply;
mod birth;
mod copy;
mod entry;
mod error;
mod export;
mod keys;
mod outcome;
mod proof;
mod reader;
mod replay;
mod state;
mod state_dir;
mod store;

use std::path::Path;
use std::sync::Arc;

pub use anchor::{ANCHOR_LABEL, Anchor, PIN_LABEL, Pin, judge};
pub use birth::{Draft, Staged, Vacancy};
pub use copy::{CopyError, Expectations, Verified, verify_copy, verify_export};
pub use entry::{ENTRY_LEN_MAX, Event};
pub use error::{EntryError, LedgerError};
pub use export::{Deed, deeds, export};
pub use proof::{InclusionProof, Proved, check_proof};
pub use reader::{Entries, LedgerReader};
pub use state::{InstanceKey, State, TokenIdentity};
pub use state_dir::{LEDGER_FILE, LOCK_FILE};

use crate::clock::UnixMs;
use crate::merkle::{Checkpoint, Frontier, Head, leaf_hash};
use crate::types::Sha256;
use entry::StoredEntry;
use replay::Replay;
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
        let mut replay = Replay::default();
        store.read_entries(|row| replay.take(row))?;
        let state = Arc::new(replay.finish(store.newest_checkpoint()?)?);
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

    /// A connection of its own to the same file, for reading what is committed.
    pub fn reader(&self) -> Result<LedgerReader, LedgerError> {
        LedgerReader::new(self.store.reader()?, &self.state)
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
        self.state
            .is_news(&event)
            .map_err(|source| LedgerError::refused(size, source))?;
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
    /// [`Prepared::digest`]; it is verified before anything is written.
    ///
    /// # Errors
    /// [`LedgerError::next`] says what may follow. Where it says [`Next::Fatal`](crate::types::Next)
    /// it is not known whether the entry is in the file: the node must stop and open it again.
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

#[cfg(test)]
mod tests;
