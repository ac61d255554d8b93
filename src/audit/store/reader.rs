//! Reading the log beside a running writer, or from a copy: pages of records, checkpoints, proofs.
//! The connection can change nothing, waits for no writer and delays none. The invariant: bytes are
//! given out as they are stored, and what is proved was checked against a signed root before.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rusqlite::{Connection, OpenFlags, OptionalExtension as _};

use super::{BUSY_TIMEOUT, row_id, stub, tree, unsigned};
use crate::audit::tree::TILE_LEN;
use crate::audit::{AuditError, Filter, Mismatch, Stub};
use crate::merkle::{
    Checkpoint, Head, LogKey, consistency_ranges, inclusion_ranges, leaf_hash, verify_consistency,
    verify_inclusion,
};
use crate::types::Sha256;

/// Records that one page looks at, so that a filter that keeps few still has an answer soon.
const LOOKED_AT_MAX: u64 = 131_072;

/// A connection that reads the log. It blocks: not for async code.
pub struct AuditReader {
    pub(super) db: Mutex<Connection>,
    pub(super) path: PathBuf,
    /// What must live as long as the connection: the lock of a log in service, the folder of a copy.
    _held: Held,
}

/// See [`AuditReader`].
#[expect(dead_code, reason = "held, never read")]
pub(super) enum Held {
    /// Closing any descriptor of a file drops the locks that SQLite has on it.
    Lock(Arc<File>),
    Folder(tempfile::TempDir),
    Nothing,
}

/// Some records.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Page {
    /// The index of each, and its exact bytes.
    pub records: Vec<(u64, Vec<u8>)>,
    /// Where to go on; everything before was looked at.
    pub next: u64,
    /// Number of records in the log.
    pub size: u64,
}

/// How much a page may hold.
#[derive(Debug, Clone, Copy)]
pub struct PageMax {
    /// Records.
    pub records: usize,
    /// Bytes of them together; one record is given whatever its length.
    pub bytes: usize,
}

/// That one record is in the log of a checkpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordProof {
    /// Its index.
    pub index: u64,
    /// Its exact bytes.
    pub record: Vec<u8>,
    /// The audit path from the leaf up (RFC 6962 section 2.1.1).
    pub hashes: Vec<Sha256>,
    /// The signed note the path leads to.
    pub note: String,
}

/// That the log of a checkpoint begins with an older one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GrowthProof {
    /// The size and root of the older.
    pub old: Head,
    /// The proof (RFC 6962 section 2.1.2).
    pub hashes: Vec<Sha256>,
    /// The signed note of the newer.
    pub note: String,
}

impl AuditReader {
    pub(super) fn beside(path: &Path, lock: Arc<File>) -> Result<Self, AuditError> {
        Self::connect(path, path.as_os_str().to_owned().into(), Held::Lock(lock))
    }

    /// Reads `file`, which is `path` itself, a URI of it, or a copy of it.
    pub(super) fn connect(path: &Path, file: PathBuf, held: Held) -> Result<Self, AuditError> {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY
            | OpenFlags::SQLITE_OPEN_NO_MUTEX
            | OpenFlags::SQLITE_OPEN_URI;
        let opened = Connection::open_with_flags(file, flags).and_then(|db| {
            db.busy_timeout(BUSY_TIMEOUT)?;
            db.pragma_update(None, "trusted_schema", false)?;
            Ok(db)
        });
        let db = opened.map_err(|source| AuditError::sqlite(path, "open it to read", source))?;
        Ok(Self {
            db: Mutex::new(db),
            path: path.to_owned(),
            _held: held,
        })
    }

    /// Records that a filter keeps, from an index on. Where one that it may keep was dropped, that is the
    /// error.
    pub fn page(&self, filter: &Filter, from: u64, max: PageMax) -> Result<Page, AuditError> {
        let db = self.db();
        let read = || {
            // One state of the file, whatever is written meanwhile.
            let _still = db.unchecked_transaction()?;
            page(&db, filter, from, max)
        };
        read().map_err(|unread| match unread {
            Unread::Sqlite(source) => self.sqlite("read its records", source),
            Unread::Archived(index, stub, kept) => AuditError::Archived { index, stub, kept },
            Unread::Missing(index) => {
                AuditError::mismatch(&self.path, Mismatch::RecordMissing { index })
            }
        })
    }

    /// The newest checkpoint: a signed note (C2SP tlog-checkpoint).
    pub fn newest_note(&self) -> Result<String, AuditError> {
        let newest = tree::newest_checkpoint(&self.db());
        let newest = newest.map_err(|source| self.sqlite("read its checkpoints", source))?;
        newest.map_or(Err(AuditError::NotSigned), |(_, note)| Ok(note))
    }

    /// The proof that the record at `index` is in the log of the newest checkpoint.
    pub fn prove(&self, index: u64, origin: &str, key: &LogKey) -> Result<RecordProof, AuditError> {
        let (note, head) = self.newest(origin, key)?;
        let unknown = AuditError::RecordUnknown {
            index,
            size: head.size,
        };
        let Ok(ranges) = inclusion_ranges(head.size, index) else {
            return Err(unknown);
        };
        let one = PageMax {
            records: 1,
            bytes: 0,
        };
        let found = self.page(&Filter::default(), index, one)?.records.pop();
        let Some((_, record)) = found.filter(|(found, _)| *found == index) else {
            return Err(unknown);
        };
        let hashes = self.roots(ranges)?;
        verify_inclusion(leaf_hash(&record), index, head, &hashes)?;
        Ok(RecordProof {
            index,
            record,
            hashes,
            note,
        })
    }

    /// The proof that the log of the newest checkpoint begins with its first `old_size` records.
    pub fn prove_growth(
        &self,
        old_size: u64,
        origin: &str,
        key: &LogKey,
    ) -> Result<GrowthProof, AuditError> {
        let (note, head) = self.newest(origin, key)?;
        let Ok(ranges) = consistency_ranges(head.size, old_size) else {
            let (index, size) = (old_size, head.size);
            return Err(AuditError::RecordUnknown { index, size });
        };
        self.require_kept(old_size)?;
        let hashes = self.roots(ranges)?;
        let old = Head {
            size: old_size,
            root: self.root_at(old_size)?.unwrap_or(head.root),
        };
        verify_consistency(old, head, &hashes)?;
        Ok(GrowthProof { old, hashes, note })
    }

    /// The root over the first `size` records by what is stored beside them; `None` where there are
    /// not so many.
    pub(in crate::audit) fn root_at(&self, size: u64) -> Result<Option<Sha256>, AuditError> {
        tree::root_over(&self.db(), 0..size)
            .map_err(|source| self.sqlite("read the tree over its records", source))
    }

    /// The newest checkpoint and its size.
    pub(in crate::audit) fn newest_checkpoint(&self) -> Result<Option<(u64, String)>, AuditError> {
        tree::newest_checkpoint(&self.db())
            .map_err(|source| self.sqlite("read its checkpoints", source))
    }

    /// A tree that ends within a tile whose records were dropped has no root any more.
    fn require_kept(&self, size: u64) -> Result<(), AuditError> {
        if size.is_multiple_of(TILE_LEN) {
            return Ok(());
        }
        let found = stub::of(&self.db(), size);
        match found.map_err(|source| self.sqlite("read what was dropped", source))? {
            (Some(stub), kept) => Err(AuditError::Archived {
                index: size,
                stub: Box::new(stub),
                kept,
            }),
            (None, _) => Ok(()),
        }
    }

    fn newest(&self, origin: &str, key: &LogKey) -> Result<(String, Head), AuditError> {
        let note = self.newest_note()?;
        let head = Checkpoint::open(&note, origin, key)?.head();
        Ok((note, head))
    }

    fn roots(&self, ranges: Vec<std::ops::Range<u64>>) -> Result<Vec<Sha256>, AuditError> {
        let db = self.db();
        let of = |range| {
            let root = tree::root_over(&db, range);
            let root = root.map_err(|source| self.sqlite("read the tree over it", source))?;
            // Gone after it was signed: the proof would be none.
            root.ok_or(AuditError::Checkpoint(
                crate::merkle::MerkleError::ProofWrong,
            ))
        };
        ranges.into_iter().map(of).collect()
    }

    pub(super) fn sqlite(&self, doing: &'static str, source: rusqlite::Error) -> AuditError {
        AuditError::sqlite(&self.path, doing, source)
    }

    /// A reader that panicked left nothing half done: it only read.
    pub(super) fn db(&self) -> MutexGuard<'_, Connection> {
        self.db.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Why there is no page.
enum Unread {
    Sqlite(rusqlite::Error),
    /// The record, the stub in its place and the first record that is kept.
    Archived(u64, Box<Stub>, u64),
    Missing(u64),
}

impl From<rusqlite::Error> for Unread {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sqlite(error)
    }
}

fn page(db: &Connection, filter: &Filter, from: u64, max: PageMax) -> Result<Page, Unread> {
    let newest: Option<i64> =
        db.query_row("SELECT max(record_index) FROM record", (), |row| row.get(0))?;
    let size = newest.map_or(0, |newest| unsigned(newest).saturating_add(1));
    let mut page = Page {
        next: from,
        size,
        ..Page::default()
    };
    let (mut looked_at, mut len) = (0_u64, 0_usize);
    let mut select = db.prepare_cached(
        "SELECT record_index, bytes FROM record WHERE record_index >= ?1 AND record_index < ?2
         ORDER BY record_index",
    )?;
    while let Some((start, end)) = next_span(db, filter, page.next, size)? {
        page.next = start;
        if let (Some(stub), kept) = stub::of(db, start)? {
            return Err(Unread::Archived(start, Box::new(stub), kept));
        }
        let mut at = start;
        let mut rows = select.query((row_id(start), row_id(end)))?;
        while let Some(row) = rows.next()? {
            let index = unsigned(row.get(0)?);
            if index != at {
                return Err(Unread::Missing(at));
            }
            at = at.saturating_add(1);
            let bytes = row.get_ref(1)?.as_blob().map_err(rusqlite::Error::from)?;
            if looked_at >= LOOKED_AT_MAX {
                page.next = index;
                return Ok(page);
            }
            looked_at = looked_at.saturating_add(1);
            if filter.keeps(bytes) {
                len = len.saturating_add(bytes.len());
                let is_full = page.records.len() >= max.records || len > max.bytes;
                if is_full && !page.records.is_empty() {
                    page.next = index;
                    return Ok(page);
                }
                page.records.push((index, bytes.to_vec()));
            }
        }
        if at < end.min(size) {
            return Err(Unread::Missing(at));
        }
        page.next = end;
    }
    page.next = size.max(from);
    Ok(page)
}

/// The next records that may be wanted: tiles outside of the filter's times are passed over.
fn next_span(
    db: &Connection,
    filter: &Filter,
    from: u64,
    size: u64,
) -> rusqlite::Result<Option<(u64, u64)>> {
    if from >= size {
        return Ok(None);
    }
    let Some((first, last)) = filter.times() else {
        return Ok(Some((from, size)));
    };
    if !tree::is_there(db)? {
        return Ok(Some((from, size)));
    }
    // Without the tiles' order of time: clocks go back.
    let mut select = db.prepare_cached(
        "SELECT number FROM tile WHERE number >= ?1 AND latest_ms >= ?2 AND earliest_ms <= ?3
         ORDER BY number LIMIT 1",
    )?;
    let values = (row_id(from / TILE_LEN), row_id(first.0), row_id(last.0));
    let tile = select.query_row(values, |row| row.get(0)).optional()?;
    // Behind the last full tile nothing is known of times.
    let tiled = tree::tile_count(db)?.saturating_mul(TILE_LEN);
    Ok(Some(match tile {
        Some(number) => {
            let start = unsigned(number).saturating_mul(TILE_LEN);
            (start.max(from), start.saturating_add(TILE_LEN))
        }
        None => (tiled.max(from), size),
    })
    .filter(|(start, _)| *start < size))
}
