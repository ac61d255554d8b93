//! The birth of a ledger, for `kekd init` alone. The types are the order of events: a [`Vacancy`]
//! shows that there is room, a [`Draft`] holds the first entries, a [`Staged`] ledger is durable
//! under another name, and only its commit makes it real. Pin and anchor are written to the token
//! between the last two, so that a ledger never exists without them.

use std::path::Path;

use rustix::fs::{CWD, RenameFlags, renameat_with};

use super::Ledger;
use super::anchor::{Anchor, Pin};
use super::entry::{Event, StoredEntry};
use super::error::LedgerError;
use super::state::State;
use super::state_dir::{StateDir, io_error};
use super::store::Store;
use crate::clock::UnixMs;
use crate::types::Sha256;

/// A state directory without a ledger, held for one to be made.
pub struct Vacancy(StateDir);

impl Vacancy {
    /// Takes `dir`, making it (mode 0700) if need be. Refused where there is a ledger, or what an
    /// unfinished initialisation left. Ask before making keys.
    pub fn claim(dir: &Path) -> Result<Self, LedgerError> {
        StateDir::claim(dir).map(Self)
    }
}

/// The first entries of a ledger, checked and not yet signed.
pub struct Draft {
    entries: Vec<StoredEntry>,
    state: State,
    digest: Sha256,
}

impl Draft {
    /// Makes entries of these events, all at the time `now`: [`Event::InstanceCreated`], then one
    /// [`Event::KekVersionActivated`] for each first KEK. Nothing is written.
    pub fn new(events: Vec<Event>, now: UnixMs) -> Result<Self, LedgerError> {
        let mut entries = Vec::new();
        let mut folded: Option<State> = None;
        for (index, event) in (0..).zip(events) {
            let instance_id = folded.as_ref().map(State::instance_id);
            let entry = StoredEntry::encode(index, now, instance_id, event);
            let next = match folded.take() {
                None => State::begin(&entry),
                Some(state) => state.advance(&entry),
            };
            folded = Some(next.map_err(|source| LedgerError::refused(index, source))?);
            entries.push(entry);
        }
        let state = folded.ok_or(LedgerError::Empty)?;
        Ok(Self {
            digest: state.checkpoint()?.digest(),
            entries,
            state,
        })
    }

    /// What the log signing key must sign: SHA-256 over the first checkpoint's text, 32 bytes.
    pub const fn digest(&self) -> Sha256 {
        self.digest
    }

    /// What the entries add up to.
    pub const fn state(&self) -> &State {
        &self.state
    }

    /// Writes the ledger under another name and makes it durable. `signature` is r and s (64
    /// bytes) over [`Draft::digest`] and is verified first.
    pub fn stage(self, vacancy: Vacancy, signature: &[u8]) -> Result<Staged, LedgerError> {
        let checkpoint = self.state.checkpoint()?;
        let note = checkpoint.into_note(self.state.log_key(), signature)?;
        let dir = vacancy.0;
        Store::create(&dir.staged(), &self.entries, &note)?;
        dir.sync()?;
        Ok(Staged {
            state: self.state,
            dir,
        })
    }
}

/// A ledger that is whole and durable, but not yet under its name.
pub struct Staged {
    state: State,
    dir: StateDir,
}

impl Staged {
    /// The value of the pin, to be written to the token before the commit.
    pub fn pin(&self) -> Pin {
        Pin {
            instance_id: self.state.instance_id(),
        }
    }

    /// The value of the anchor, to be written to the token before the commit.
    pub fn anchor(&self) -> Anchor {
        Anchor {
            instance_id: self.state.instance_id(),
            head: self.state.head(),
        }
    }

    /// Makes the ledger real under its name, durably, and opens it as any later start does. The
    /// commit point of an initialisation.
    pub fn commit(self) -> Result<Ledger, LedgerError> {
        let (from, to) = (self.dir.staged(), self.dir.ledger());
        // Never over another file: that one would be lost.
        renameat_with(CWD, &from, CWD, &to, RenameFlags::NOREPLACE)
            .map_err(|error| io_error("rename the staged ledger to", &to)(error.into()))?;
        self.dir.sync()?;
        Ledger::open_held(self.dir)
    }
}
