//! Ledgers away from their state directory: copies of the file, and exports. They are verified as
//! any ledger is at start, and never changed: a copy of the file is read from a private copy of
//! itself, because SQLite works on a database it reads. No lock is taken and no token is asked; what
//! stands in for the token's pin and anchor is what the caller expects.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Read as _;
use std::path::{Path, PathBuf};

use super::entry::ENTRY_LEN_MAX;
use super::error::LedgerError;
use super::export::export;
use super::replay::Replay;
use super::state::State;
use super::state_dir::{LEDGER_FILE, io_error};
use super::store::{Row, Store};
use crate::merkle::{Checkpoint, Frontier, Head, NOTE_LEN_MAX, leaf_hash};
use crate::types::Sha256;

/// Longest copy taken, in bytes.
const COPY_LEN_MAX: u64 = 4 * 1024 * 1024 * 1024;
/// Longest file of an export: no part of an entry is longer than the longest entry.
const EXPORTED_LEN_MAX: usize = 16 * ENTRY_LEN_MAX;
/// Most files of an export.
const EXPORTED_FILES_MAX: usize = 1 << 20;

/// What is wrong with a copy, an export or a proof, beyond what can be wrong with any ledger.
#[derive(Debug, thiserror::Error)]
pub enum CopyError {
    /// A sound ledger of somebody else.
    #[error(
        "expected the instance {expected}; found a ledger of the instance {found}: it proves nothing \
         about the one you mean"
    )]
    OtherInstance {
        /// The instance expected.
        expected: Sha256,
        /// The instance found.
        found: Sha256,
    },
    /// A copy from before the checkpoint at hand.
    #[error(
        "expected at least the {expected} entries of the checkpoint given; found {found}: this copy \
         is older, or entries were removed from its end"
    )]
    Older {
        /// Entries the checkpoint stands for.
        expected: u64,
        /// Entries found.
        found: u64,
    },
    /// The log key signed two histories.
    #[error(
        "expected the root {expected} over the first {size} entries, as the checkpoint given says; \
         found {found}: two histories were signed. Keep both as evidence"
    )]
    OtherHistory {
        /// Entries the checkpoint stands for.
        size: u64,
        /// Its root.
        expected: Sha256,
        /// The root found.
        found: Sha256,
    },
    /// Not a proof.
    #[error(
        "expected a C2SP tlog-proof with a ledger entry as its extra data, as kekctl ledger prove \
         writes it; found {found_len} other bytes"
    )]
    ProofMalformed {
        /// The length found.
        found_len: usize,
    },
    /// Longer than anything that is taken.
    #[error("expected {} to have at most {len_max} bytes; found more", .path.display())]
    TooLong {
        /// The file.
        path: PathBuf,
        /// How long it may be.
        len_max: u64,
    },
    /// A file of an export that does not follow from its entries.
    #[error(
        "expected {path} in the export {rule}: the export was damaged or changed; make it again from \
         the ledger"
    )]
    ExportChanged {
        /// The file, within the export.
        path: String,
        /// What was expected of it.
        rule: &'static str,
    },
}

/// What the caller knows of the ledger, from outside of it.
#[derive(Debug, Clone, Default)]
pub struct Expectations {
    /// The instance. Without it a ledger shows only that it agrees with itself.
    pub instance_id: Option<Sha256>,
    /// An earlier signed note of this ledger, which the entries must contain. Without it an older
    /// copy passes.
    pub checkpoint: Option<String>,
}

/// A ledger that was verified whole, read into memory.
pub struct Verified {
    state: State,
    entries: Vec<Vec<u8>>,
    note: String,
}

impl Verified {
    /// Verifies entries (their exact bytes, in order) and the signed note over all of them.
    pub fn of(
        entries: Vec<Vec<u8>>,
        note: String,
        expect: &Expectations,
    ) -> Result<Self, LedgerError> {
        let mut replay = Replay::default();
        for (index, bytes) in (0..).zip(&entries) {
            replay.take(Row {
                index,
                leaf: leaf_hash(bytes),
                bytes: bytes.clone(),
            })?;
        }
        // What the note says of its size is verified with its signature.
        let size = size_stated(&note);
        let state = replay.finish(size.map(|size| (size, note.clone())))?;
        let verified = Self {
            state,
            entries,
            note,
        };
        verified.meets(expect)?;
        Ok(verified)
    }

    /// What the entries add up to.
    pub const fn state(&self) -> &State {
        &self.state
    }

    /// The exact bytes of each entry.
    pub fn entries(&self) -> &[Vec<u8>] {
        &self.entries
    }

    /// The newest checkpoint, a signed note.
    pub fn note(&self) -> &str {
        &self.note
    }

    fn meets(&self, expect: &Expectations) -> Result<(), LedgerError> {
        let found = self.state.instance_id();
        match expect.instance_id {
            Some(expected) if expected != found => {
                return Err(CopyError::OtherInstance { expected, found }.into());
            }
            Some(_) | None => {}
        }
        let Some(note) = &expect.checkpoint else {
            return Ok(());
        };
        let seen = Checkpoint::open(note, &self.state.origin(), self.state.log_key())?.head();
        let Head { size, root } = seen;
        if size > self.state.size() {
            let (expected, found) = (size, self.state.size());
            return Err(CopyError::Older { expected, found }.into());
        }
        let mut tree = Frontier::default();
        for bytes in self
            .entries
            .iter()
            .take(usize::try_from(size).unwrap_or(usize::MAX))
        {
            tree.push(leaf_hash(bytes));
        }
        let found = tree.head().root;
        if found != root {
            let expected = root;
            return Err(CopyError::OtherHistory {
                size,
                expected,
                found,
            }
            .into());
        }
        Ok(())
    }
}

/// Verifies a copy of a ledger's file, with the `-wal` beside it where there is one. Neither is
/// changed. The file of a running kekd is no copy: take one with a backup tool or `kekctl ledger
/// export`.
pub fn verify_copy(path: &Path, expect: &Expectations) -> Result<Verified, LedgerError> {
    let private = tempfile::tempdir().map_err(io_error("make a folder beside", path))?;
    let ledger = private.path().join(LEDGER_FILE);
    take_copy(path, &ledger)?;
    let wal = beside(path, "-wal");
    if wal.exists() {
        take_copy(&wal, &beside(&ledger, "-wal"))?;
    }
    let store = Store::open(&ledger)?;
    let (mut replay, mut entries) = (Replay::default(), Vec::new());
    store.read_entries(|row| {
        entries.push(row.bytes.clone());
        replay.take(row)
    })?;
    let newest = store.newest_checkpoint()?;
    let note = newest.clone().map(|(_, note)| note).unwrap_or_default();
    let verified = Verified {
        state: replay.finish(newest)?,
        entries,
        note,
    };
    verified.meets(expect)?;
    Ok(verified)
}

/// Verifies an export: its entries as any ledger's, and every other file as what follows from them.
pub fn verify_export(dir: &Path, expect: &Expectations) -> Result<Verified, LedgerError> {
    let found = read_export(dir)?;
    let note = found.get("checkpoint").ok_or(CopyError::ExportChanged {
        path: "checkpoint".to_owned(),
        rule: "to be there",
    })?;
    let note = String::from_utf8_lossy(note).into_owned();
    let entries = found
        .iter()
        .filter(|(path, _)| path.starts_with("entries/"))
        .map(|(_, bytes)| bytes.clone())
        .collect();
    let verified = Verified::of(entries, note, expect)?;
    let expected = export(&verified);
    let changed = |path: &String, rule| {
        let path = path.clone();
        Err(CopyError::ExportChanged { path, rule }.into())
    };
    for (path, bytes) in &expected {
        match found.get(path) {
            Some(found) if found == bytes => {}
            Some(_) => return changed(path, "to be what the entries say"),
            None => return changed(path, "to be there"),
        }
    }
    match found.keys().find(|path| !expected.contains_key(*path)) {
        Some(path) => changed(path, "not to be there"),
        None => Ok(verified),
    }
}

/// The number of entries a note claims to stand for.
fn size_stated(note: &str) -> Option<u64> {
    note.lines().nth(1)?.parse().ok()
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

fn take_copy(from: &Path, to: &Path) -> Result<(), LedgerError> {
    let source = File::open(from).map_err(io_error("open", from))?;
    let mut copy = File::create_new(to).map_err(io_error("make", to))?;
    // One byte more than allowed tells "too long" from "just fits".
    let mut bounded = source.take(COPY_LEN_MAX.saturating_add(1));
    let len = std::io::copy(&mut bounded, &mut copy).map_err(io_error("copy", from))?;
    if len > COPY_LEN_MAX {
        return Err(too_long(from, COPY_LEN_MAX));
    }
    Ok(())
}

/// Every file of an export by its path within it. Two levels of folders, as an export has.
fn read_export(dir: &Path) -> Result<BTreeMap<String, Vec<u8>>, LedgerError> {
    let mut files = BTreeMap::new();
    let mut folders = vec![(dir.to_owned(), String::new(), 0)];
    while let Some((folder, prefix, depth)) = folders.pop() {
        let listed = fs::read_dir(&folder).map_err(io_error("list", &folder))?;
        for item in listed {
            let item = item.map_err(io_error("list", &folder))?;
            let path = format!("{prefix}{}", item.file_name().to_string_lossy());
            let kind = item.file_type().map_err(io_error("look at", &folder))?;
            let is_known = files.len() < EXPORTED_FILES_MAX && (kind.is_file() || kind.is_dir());
            if !is_known || (kind.is_dir() && depth == 2) {
                let rule = "not to be there";
                return Err(CopyError::ExportChanged { path, rule }.into());
            }
            if kind.is_dir() {
                folders.push((item.path(), format!("{path}/"), depth + 1));
            } else {
                let len_max = match path.as_str() {
                    "checkpoint" => NOTE_LEN_MAX,
                    _ => EXPORTED_LEN_MAX,
                };
                files.insert(path, read_bounded(&item.path(), len_max)?);
            }
        }
    }
    Ok(files)
}

fn read_bounded(path: &Path, len_max: usize) -> Result<Vec<u8>, LedgerError> {
    let len_max = u64::try_from(len_max).unwrap_or(u64::MAX);
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(len_max.saturating_add(1)).read_to_end(&mut bytes))
        .map_err(io_error("read", path))?;
    if u64::try_from(bytes.len()).is_ok_and(|len| len <= len_max) {
        return Ok(bytes);
    }
    Err(too_long(path, len_max))
}

fn too_long(path: &Path, len_max: u64) -> LedgerError {
    let path = path.to_owned();
    CopyError::TooLong { path, len_max }.into()
}
