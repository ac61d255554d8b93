//! The SQL of the audit log, here and in the modules below alone: one SQLite file, `audit.db`, in WAL mode with a
//! sync per commit.
//! No records are made here and nobody waits here. The invariant: indexes are contiguous from 0,
//! a row is never changed, and a commit whose outcome is unknown is told apart from one that did
//! not happen.

mod read;
mod usage;

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use prost::Message as _;
use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode, OpenFlags, TransactionBehavior};
use zeroize::Zeroizing;

pub(super) use read::read;

use super::files::{self, Files};
use super::usage::{Tally, UsageOnDisk};
use super::{AuditError, Discontinuity, Unavailable};
use crate::proto::v1;
use crate::types::Sha256;

/// `PRAGMA application_id` of an audit log: "kekA" in ASCII.
const APPLICATION_ID: i64 = 0x6b65_6b41;
/// `PRAGMA user_version`: the version of the schema below.
const FORMAT: i64 = 1;
/// SQLite before 3.51.3 can corrupt a database when the WAL is reset (sqlite.org/wal.html,
/// "WAL reset bug").
const SQLITE_VERSION_MIN: i32 = 3_051_003;
/// Bytes the WAL may reach before it is copied into the database and cut.
const WAL_LEN_MAX: u64 = 4 * 1024 * 1024;
/// How long a write waits for another process that holds the file, such as a backup tool.
const BUSY_TIMEOUT: Duration = Duration::from_millis(250);
/// Rows whose indexes are checked at the start.
const LOOK_BACK_LEN: u64 = 4096;

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
    // Dropped before `_lock`, see files::lock.
    connection: Connection,
    files: Files,
    path: PathBuf,
    next_index: u64,
    usage: Arc<UsageOnDisk>,
    _lock: File,
}

impl Store {
    /// Opens the log of `instance_id` and returns it with its digest key. Never creates.
    pub(super) fn open(
        state_dir: &Path,
        instance_id: &Sha256,
    ) -> Result<(Self, Zeroizing<[u8; 32]>), AuditError> {
        let path = files::path_in(state_dir);
        let lock = files::lock(&path)?;
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
        let is_complete = checkpoint(&connection)
            .map_err(|source| AuditError::sqlite(&path, "copy the WAL into it", source))?;
        if !is_complete {
            return Err(AuditError::InUse { path });
        }
        let next_index = next_index(&connection, &path)?;
        let usage = usage::catch_up(&mut connection, next_index)
            .map_err(|source| AuditError::sqlite(&path, "count the releases in it", source))?;
        let files = Files::opened(&path, &lock)?;
        let store = Self {
            connection,
            files,
            path,
            next_index,
            usage: Arc::new(UsageOnDisk::new(usage)),
            _lock: lock,
        };
        Ok((store, digest_key))
    }

    /// The index of the next record, which is also their number.
    pub(super) const fn next_index(&self) -> u64 {
        self.next_index
    }

    /// What the records on disk say of the use of key pairs.
    pub(super) fn usage(&self) -> Arc<UsageOnDisk> {
        Arc::clone(&self.usage)
    }

    /// Writes records under the next indexes with one sync. On `Ok` all are durable, in a file that
    /// has its name; otherwise none may be relied on. `released` is what they say of releases.
    pub(super) fn append(
        &mut self,
        records: &[Vec<u8>],
        released: &Tally,
    ) -> Result<(), AuditError> {
        self.require_in_place()?;
        let first = self.next_index;
        let committed = commit(&mut self.connection, first, records, released);
        committed.map_err(|source| self.classify(source))?;
        let len = u64::try_from(records.len()).unwrap_or(u64::MAX);
        self.next_index = first.saturating_add(len);
        self.usage.take_in(released);
        // Again: a file that lost its name during the sync does not count.
        self.require_in_place()
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
        Ok(())
    }

    /// Copies the WAL into the database where it has grown long enough. SQLite's own automatic
    /// checkpoint is off, because it hides a failed sync and tries it again later.
    pub(super) fn checkpoint_when_due(&self) -> Result<(), AuditError> {
        if files::wal_len(&self.path) < WAL_LEN_MAX {
            return Ok(());
        }
        self.checkpoint()
    }

    /// Copies the WAL into the database, or leaves it to a later call while somebody reads.
    pub(super) fn checkpoint(&self) -> Result<(), AuditError> {
        checkpoint(&self.connection)
            .map(|_is_complete| ())
            .map_err(|source| self.classify(source))
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
        let path = self.path.clone();
        let source = Arc::new(source);
        if did_not_happen && self.connection.is_autocommit() {
            AuditError::Unavailable(Unavailable::NotWritten { path, source })
        } else {
            AuditError::OutcomeUnknown { path, source }
        }
    }
}

fn commit(
    connection: &mut Connection,
    first: u64,
    records: &[Vec<u8>],
    released: &Tally,
) -> rusqlite::Result<()> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    {
        let mut insert = transaction
            .prepare_cached("INSERT INTO record (record_index, bytes) VALUES (?1, ?2)")?;
        for (index, bytes) in (first..).zip(records) {
            insert.execute((row_id(index), bytes))?;
        }
    }
    let len = u64::try_from(records.len()).unwrap_or(u64::MAX);
    usage::add(&transaction, released, first.saturating_add(len))?;
    transaction.commit()
}

/// Whether all of the WAL was copied; the pragma's first column says that somebody was in the way.
fn checkpoint(connection: &Connection) -> rusqlite::Result<bool> {
    connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", (), |row| {
        row.get(0).map(|busy: bool| !busy)
    })
}

fn require_format(connection: &Connection, path: &Path) -> Result<(), AuditError> {
    let library = rusqlite::version_number();
    if library < SQLITE_VERSION_MIN {
        return Err(AuditError::WrongFormat {
            path: path.to_owned(),
            what: "an SQLite library of version",
            expected: format!("at least {SQLITE_VERSION_MIN}"),
            found: library.to_string(),
        });
    }
    require_pragma(connection, path, "application_id", &APPLICATION_ID)?;
    require_pragma(connection, path, "user_version", &FORMAT)
}

/// Reads a setting back: SQLite ignores one it cannot honour without an error.
fn require_pragma<T: rusqlite::types::FromSql + PartialEq + ToString>(
    connection: &Connection,
    path: &Path,
    what: &'static str,
    expected: &T,
) -> Result<(), AuditError> {
    let found: T = connection
        .pragma_query_value(None, what, |row| row.get(0))
        .map_err(|source| AuditError::sqlite(path, "read it as an audit log", source))?;
    if found == *expected {
        return Ok(());
    }
    Err(AuditError::WrongFormat {
        path: path.to_owned(),
        what,
        expected: expected.to_string(),
        found: found.to_string(),
    })
}

fn require_instance(
    connection: &Connection,
    path: &Path,
    expected: &Sha256,
) -> Result<Zeroizing<[u8; 32]>, AuditError> {
    let (found, key) = connection
        .query_row("SELECT instance_id, digest_key FROM meta", (), |row| {
            let found: [u8; 32] = row.get(0)?;
            Ok((Sha256::from(found), Zeroizing::new(row.get(1)?)))
        })
        .map_err(|source| AuditError::sqlite(path, "read which instance it belongs to", source))?;
    if found == *expected {
        return Ok(key);
    }
    Err(AuditError::WrongInstance {
        path: path.to_owned(),
        expected: *expected,
        found,
    })
}

fn configure(connection: &Connection, path: &Path) -> Result<(), AuditError> {
    let configured = (|| {
        connection.busy_timeout(BUSY_TIMEOUT)?;
        // A close after a failed sync must not sync again.
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true)?;
        connection.pragma_update(None, "trusted_schema", false)?;
        connection.pragma_update(None, "wal_autocheckpoint", 0)?;
        // In WAL mode NORMAL would not sync at commit.
        connection.pragma_update(None, "synchronous", "FULL")
    })();
    configured.map_err(|source| AuditError::sqlite(path, "set it up", source))?;
    require_pragma(connection, path, "journal_mode", &"wal".to_owned())?;
    require_pragma(connection, path, "synchronous", &2_i64)
}

/// The index after the newest record, once the newest rows are seen to follow one another and the
/// newest record to agree with its row. A full check is the auditor's, not the start's.
fn next_index(connection: &Connection, path: &Path) -> Result<u64, AuditError> {
    let sqlite = |source| AuditError::sqlite(path, "read its newest records", source);
    let newest: Option<i64> = connection
        .query_row("SELECT max(record_index) FROM record", (), |row| row.get(0))
        .map_err(sqlite)?;
    let Some(newest) = newest.and_then(|index| u64::try_from(index).ok()) else {
        return Ok(0);
    };
    let looked_at = newest.saturating_add(1).min(LOOK_BACK_LEN);
    let oldest = newest.saturating_add(1).saturating_sub(looked_at);
    let present: i64 = connection
        .query_row(
            "SELECT count(*) FROM record WHERE record_index >= ?1",
            [row_id(oldest)],
            |row| row.get(0),
        )
        .map_err(sqlite)?;
    let present = u64::try_from(present).unwrap_or(0);
    let refused = |found| AuditError::NotContiguous {
        path: path.to_owned(),
        newest,
        found,
    };
    if present != looked_at {
        return Err(refused(Discontinuity::RowsMissing { looked_at, present }));
    }
    let bytes: Vec<u8> = connection
        .query_row(
            "SELECT bytes FROM record WHERE record_index = ?1",
            [row_id(newest)],
            |row| row.get(0),
        )
        .map_err(sqlite)?;
    let says = v1::Record::decode(bytes.as_slice())
        .ok()
        .map(|record| record.index);
    if says != Some(newest) {
        return Err(refused(Discontinuity::RecordSays(says)));
    }
    Ok(newest.saturating_add(1))
}

/// An index as SQLite keeps it. 2^63 records take longer than the hardware lasts.
fn row_id(index: u64) -> i64 {
    i64::try_from(index).unwrap_or(i64::MAX)
}
