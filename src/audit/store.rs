//! The SQL of the audit log, here and in the modules below alone: one SQLite file, `audit.db`, in WAL mode with a
//! sync per commit.
//! No records are made here and nobody waits here. The invariant: indexes are contiguous from 0,
//! a row is never changed, and a commit whose outcome is unknown is told apart from one that did
//! not happen.

mod checks;
mod copy;
mod read;
mod reader;
mod span;
mod stub;
mod tree;
mod usage;
mod verify;

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rusqlite::{Connection, ErrorCode, OpenFlags, TransactionBehavior, ffi};
use zeroize::Zeroizing;

use checks::{configure, first_and_next, require_format, require_instance};
pub(super) use read::read;
pub use reader::{AuditReader, GrowthProof, Page, PageMax, RecordProof};
pub use span::{Before, Retention};
pub use verify::{Expectations, Verified};

use super::files::{self, Files};
use super::reserve::Reserve;
use super::stub::Stub;
use super::tree::Tree;
use super::usage::{Tally, UsageOnDisk};
use super::{AuditError, Unavailable};
use crate::clock::UnixMs;
use crate::merkle::Head;
use crate::types::Sha256;

/// `PRAGMA application_id` of an audit log: "kekA" in ASCII.
const APPLICATION_ID: i64 = 0x6b65_6b41;
/// `PRAGMA user_version`: the version of the schema below.
const FORMAT: i64 = 1;
/// Pages of the WAL that wait to be copied into the database, at which they are: 4 MiB.
const WAL_PAGES_MAX: u64 = 1024;
/// Bytes of the WAL that are kept to be written again. A sync of a file that did not grow has less to
/// write; what a slow reader made it grow beyond this is cut.
const WAL_LEN_KEPT: u64 = 8 * 1024 * 1024;
/// Records whose releases are counted for one write of the counts: pages that most releases then do not
/// write. A start counts what a kill left uncounted.
const UNCOUNTED_MAX: u64 = 1024;
/// How long a write waits for another process that holds the file, such as a backup tool.
const BUSY_TIMEOUT: Duration = Duration::from_millis(250);

/// `meta` has one row. `probes` counts the writes that only tested whether the disk takes writes.
const SCHEMA: &str = "
    CREATE TABLE meta (
        id          INTEGER PRIMARY KEY CHECK (id = 1),
        instance_id BLOB NOT NULL CHECK (length(instance_id) = 32),
        digest_key  BLOB NOT NULL CHECK (length(digest_key) = 32),
        probes      INTEGER NOT NULL
    ) STRICT;
    CREATE TABLE record (
        record_index INTEGER PRIMARY KEY CHECK (record_index >= 0),
        bytes        BLOB NOT NULL
    ) STRICT;
    CREATE TRIGGER record_not_changed BEFORE UPDATE ON record
        BEGIN SELECT RAISE(ABORT, 'audit records are never changed'); END;
    CREATE TRIGGER record_not_deleted BEFORE DELETE ON record
        BEGIN SELECT RAISE(ABORT, 'audit records are never deleted'); END;
";

/// Makes the log of an instance. It appears under its name whole and durable, or not at all.
pub(super) fn create(
    state_dir: &Path,
    instance_id: &Sha256,
    digest_key: &Zeroizing<[u8; 32]>,
) -> Result<(), AuditError> {
    let path = files::path_in(state_dir);
    let sqlite = |source| AuditError::sqlite(&path, "make it", source);
    let io = |source| AuditError::io(&path, "make it", source);

    let unfinished = tempfile::NamedTempFile::new_in(state_dir).map_err(io)?;
    let connection = Connection::open_with_flags(
        unfinished.path(),
        OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX,
    )
    .map_err(sqlite)?;
    fill(&connection, instance_id, digest_key).map_err(sqlite)?;
    connection.close().map_err(|(_, source)| sqlite(source))?;
    unfinished.as_file().sync_all().map_err(io)?;
    unfinished.persist_noclobber(&path).map_err(|refused| {
        if refused.error.kind() == std::io::ErrorKind::AlreadyExists {
            AuditError::Exists { path: path.clone() }
        } else {
            AuditError::io(&path, "give it its name", refused.error)
        }
    })?;
    // The name itself is durable only once the folder is.
    File::open(state_dir)
        .and_then(|folder| folder.sync_all())
        .map_err(|source| AuditError::io(state_dir, "sync the folder", source))
}

fn fill(
    connection: &Connection,
    instance_id: &Sha256,
    digest_key: &Zeroizing<[u8; 32]>,
) -> rusqlite::Result<()> {
    connection.execute_batch(SCHEMA)?;
    connection.execute_batch(usage::SCHEMA)?;
    connection.execute_batch(tree::SCHEMA)?;
    connection.execute_batch(stub::SCHEMA)?;
    connection.execute(
        "INSERT INTO meta (id, instance_id, digest_key, probes) VALUES (1, ?1, ?2, 0)",
        (instance_id.as_bytes(), digest_key.as_slice()),
    )?;
    connection.pragma_update(None, "application_id", APPLICATION_ID)?;
    connection.pragma_update(None, "user_version", FORMAT)?;
    // Persistent: every later connection finds the file in WAL mode.
    connection.pragma_update(None, "journal_mode", "WAL")
}

/// The open log. One per process and state folder; the writer thread owns it.
pub(super) struct Store {
    // Dropped before `lock`, see files::lock.
    connection: Connection,
    files: Files,
    path: PathBuf,
    next_index: u64,
    /// The first record that was not dropped.
    kept_from: u64,
    tree: Tree,
    usage: Arc<UsageOnDisk>,
    /// Releases of the records from `counted` on, which the counts in the file leave out.
    uncounted: Tally,
    counted: u64,
    /// The pages that wait in the WAL at which they are copied next.
    checkpoint_due: u64,
    reserve: Reserve,
    is_on_reserve: bool,
    lock: Arc<File>,
}

impl Store {
    /// Opens the log of `instance_id` and returns it with its digest key. Never creates.
    pub(super) fn open(
        state_dir: &Path,
        instance_id: &Sha256,
    ) -> Result<(Self, Zeroizing<[u8; 32]>), AuditError> {
        let path = files::path_in(state_dir);
        let lock = Arc::new(files::lock(&path)?);
        let mut connection = Connection::open_with_flags(
            &path,
            OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX,
        )
        .map_err(|source| AuditError::sqlite(&path, "open it", source))?;
        require_format(&connection, &path)?;
        let digest_key = require_instance(&connection, &path, instance_id)?;
        configure(&connection, &path)?;
        // What an earlier process left in the WAL is written anew into the database and synced.
        // After a failed sync the kernel may show bytes that the disk does not hold; nothing is
        // built on those.
        let left = checkpoint(&connection, Mode::Truncate)
            .map_err(|source| AuditError::sqlite(&path, "copy the WAL into it", source))?;
        if left.is_none() {
            return Err(AuditError::InUse { path });
        }
        let (kept_from, next_index) = first_and_next(&connection, &path)?;
        let usage = usage::catch_up(&mut connection, next_index, kept_from)
            .map_err(|source| AuditError::sqlite(&path, "count the releases in it", source))?;
        let tree = tree::catch_up(&mut connection, next_index, &path)?;
        stub::make(&mut connection)
            .map_err(|source| AuditError::sqlite(&path, "make its table of stubs", source))?;
        let files = Files::opened(&path, &lock)?;
        let store = Self {
            connection,
            files,
            path,
            next_index,
            kept_from,
            tree,
            usage: Arc::new(UsageOnDisk::new(usage)),
            uncounted: Tally::default(),
            counted: next_index,
            checkpoint_due: WAL_PAGES_MAX,
            reserve: Reserve::of(state_dir),
            is_on_reserve: false,
            lock,
        };
        Ok((store, digest_key))
    }

    /// The index of the next record, which is also their number.
    pub(super) const fn next_index(&self) -> u64 {
        self.next_index
    }

    /// The tree over the records on disk.
    pub(super) fn head(&self) -> Head {
        self.tree.head()
    }

    /// A connection of its own for reading, which waits for no writer and delays none (WAL).
    pub(super) fn reader(&self) -> Result<AuditReader, AuditError> {
        AuditReader::beside(&self.path, Arc::clone(&self.lock))
    }

    /// What the records on disk say of the use of key pairs.
    pub(super) fn usage(&self) -> Arc<UsageOnDisk> {
        Arc::clone(&self.usage)
    }

    /// Writes records under the next indexes with one sync. On `Ok` all are durable, in a file that
    /// has its name; otherwise none may be relied on. All have the time `at`; `released` is what
    /// they say of releases.
    pub(super) fn append(
        &mut self,
        records: &[Vec<u8>],
        at: UnixMs,
        released: &Tally,
    ) -> Result<(), AuditError> {
        self.require_in_place()?;
        let first = self.next_index;
        let mut tree = self.tree.clone();
        let len = u64::try_from(records.len()).unwrap_or(u64::MAX);
        let next = first.saturating_add(len);
        let is_counted = next.saturating_sub(self.counted) >= UNCOUNTED_MAX;
        let counts: &[&Tally] = match is_counted {
            true => &[&self.uncounted, released],
            false => &[],
        };
        let committed = commit(&mut self.connection, &mut tree, records, at, counts, None);
        committed.map_err(|source| self.classify(source))?;
        self.tree = tree;
        self.next_index = next;
        self.usage.take_in(released);
        match is_counted {
            true => self.counted_all(),
            false => self.uncounted.join(released),
        }
        // Again: a file that lost its name during the sync does not count.
        self.require_in_place()
    }

    /// After a write that found no room: gives back the space put by. Returns whether a write of
    /// refusals may be tried now.
    pub(super) fn fall_back_on_reserve(&mut self, error: &AuditError) -> bool {
        let is_full = matches!(
            error,
            AuditError::Unavailable(Unavailable::NotWritten { source, .. })
                if source.sqlite_error_code() == Some(ErrorCode::DiskFull)
        );
        if is_full && self.reserve.give_back() {
            tracing::error!("the disk is full; refusals are recorded in the space put by for them");
            self.is_on_reserve = true;
        }
        is_full && self.is_on_reserve
    }

    /// Refuses releases while the log lives on the space put by.
    pub(super) fn require_room_for_releases(&self) -> Result<(), AuditError> {
        match self.is_on_reserve {
            true => Err(AuditError::Unavailable(Unavailable::OnReserve {
                path: self.path.clone(),
            })),
            false => Ok(()),
        }
    }

    /// Refuses when the log's paths no longer name its files.
    pub(super) fn require_in_place(&self) -> Result<(), AuditError> {
        self.files
            .require_in_place()
            .map_err(AuditError::Unavailable)
    }

    /// Writes and syncs a little, to see whether the disk takes writes again.
    pub(super) fn probe(&mut self) -> Result<(), AuditError> {
        self.require_in_place()?;
        let written = self
            .connection
            .execute("UPDATE meta SET probes = probes + 1", ());
        written.map_err(|source| self.classify(source))?;
        if self.is_on_reserve {
            self.is_on_reserve = self.reserve.put_by().is_err();
        }
        self.require_room_for_releases()
    }

    /// Keeps a signed note over the first `size` records, durably.
    pub(super) fn keep(&self, size: u64, note: &str) -> Result<(), AuditError> {
        self.require_in_place()?;
        tree::keep(&self.connection, size, note).map_err(|source| self.classify(source))
    }

    /// Copies the WAL into the database where it has grown long enough. SQLite's own automatic
    /// checkpoint is off, because it hides a failed sync and tries it again later. Where somebody
    /// reads, what can be copied is, and the rest when the WAL has grown as much again: readers delay
    /// no record.
    pub(super) fn checkpoint_when_due(&mut self) -> Result<(), AuditError> {
        let waiting = checkpoint(&self.connection, Mode::Noop);
        let waiting = waiting.map_err(|source| self.classify(source))?;
        if waiting.is_some_and(|waiting| waiting < self.checkpoint_due) {
            return Ok(());
        }
        let left = checkpoint(&self.connection, Mode::Passive);
        let left = left.map_err(|source| self.classify(source))?;
        self.checkpoint_due = left.unwrap_or(0).saturating_add(WAL_PAGES_MAX);
        Ok(())
    }

    /// Counts the rest, copies the WAL into the database and cuts it, or leaves that to a later call while
    /// somebody reads.
    pub(super) fn checkpoint(&mut self) -> Result<(), AuditError> {
        if self.counted < self.next_index {
            let counted = usage::keep(&mut self.connection, &self.uncounted, self.next_index);
            match counted.map_err(|source| self.classify(source)) {
                Ok(()) => self.counted_all(),
                Err(fatal) if fatal.is_fatal() => return Err(fatal),
                // A full disk. The next start counts.
                Err(_) => {}
            }
        }
        checkpoint(&self.connection, Mode::Truncate)
            .map(|_left| ())
            .map_err(|source| self.classify(source))
    }

    /// Takes note that the counts in the file leave nothing out.
    fn counted_all(&mut self) {
        self.uncounted = Tally::default();
        self.counted = self.next_index;
    }

    /// What a failed write means. Only where SQLite says that it did not begin or did not fit, and
    /// the transaction is rolled back, is it known that nothing was written.
    fn classify(&self, source: rusqlite::Error) -> AuditError {
        let did_not_happen = matches!(
            source.sqlite_error_code(),
            Some(
                ErrorCode::DiskFull
                    | ErrorCode::ReadOnly
                    | ErrorCode::CannotOpen
                    | ErrorCode::PermissionDenied
                    | ErrorCode::DatabaseBusy
                    | ErrorCode::DatabaseLocked
            )
        );
        // A file system that the kernel made read-only: nothing of a commit was written since.
        let is_read_only = is_failed_write(&source) && files::is_read_only(&self.path);
        let path = self.path.clone();
        let source = Arc::new(source);
        if (did_not_happen || is_read_only) && self.connection.is_autocommit() {
            AuditError::Unavailable(Unavailable::NotWritten { path, source })
        } else {
            AuditError::OutcomeUnknown { path, source }
        }
    }
}

/// Writes records and what follows from them, in one transaction. The tree has them afterwards, also
/// where they were not written. `counts` are all releases that the file does not count yet, these records'
/// included; none where they stay uncounted.
fn commit(
    connection: &mut Connection,
    tree: &mut Tree,
    records: &[Vec<u8>],
    at: UnixMs,
    counts: &[&Tally],
    dropped: Option<&Stub>,
) -> rusqlite::Result<()> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    {
        let mut insert = transaction
            .prepare_cached("INSERT INTO record (record_index, bytes) VALUES (?1, ?2)")?;
        for bytes in records {
            insert.execute((row_id(tree.size()), bytes))?;
            tree::add(&transaction, tree, bytes, at)?;
        }
    }
    if let Some(dropped) = dropped {
        stub::keep(&transaction, dropped)?;
    }
    for tally in counts {
        usage::add(&transaction, tally, tree.size())?;
    }
    transaction.commit()
}

/// What a checkpoint does (sqlite.org/pragma.html, "wal_checkpoint").
enum Mode {
    /// Nothing: it only says how many pages wait.
    Noop,
    /// Copies what no reader still needs to be where it is, and waits for nobody.
    Passive,
    /// Copies all and cuts the WAL; waits for readers as long as for other processes.
    Truncate,
}

/// The pages of the WAL that are not in the database afterwards; `None` where somebody was in the way.
fn checkpoint(connection: &Connection, mode: Mode) -> rusqlite::Result<Option<u64>> {
    let sql = match mode {
        Mode::Noop => "PRAGMA wal_checkpoint(NOOP)",
        Mode::Passive => "PRAGMA wal_checkpoint(PASSIVE)",
        Mode::Truncate => "PRAGMA wal_checkpoint(TRUNCATE)",
    };
    connection.prepare_cached(sql)?.query_row((), |row| {
        let (in_wal, copied): (i64, i64) = (row.get(1)?, row.get(2)?);
        let left = unsigned(in_wal.saturating_sub(copied));
        row.get(0).map(|busy: bool| (!busy).then_some(left))
    })
}

/// Whether SQLite could not write or cut a file: not one of its syncs.
fn is_failed_write(error: &rusqlite::Error) -> bool {
    let code = error.sqlite_error().map(|failure| failure.extended_code);
    matches!(
        code,
        Some(ffi::SQLITE_IOERR_WRITE | ffi::SQLITE_IOERR_TRUNCATE)
    )
}

/// An index as SQLite keeps it. 2^63 records take longer than the hardware lasts.
fn row_id(index: u64) -> i64 {
    i64::try_from(index).unwrap_or(i64::MAX)
}

/// A number as it was before [`row_id`].
fn unsigned(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}
