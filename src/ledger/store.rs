//! The ledger in SQLite: the only SQL of the ledger. It keeps bytes and gives them back; whether
//! they are true is judged elsewhere. A commit is durable when it returns (WAL with
//! `synchronous=FULL`), and it fails rather than land on another head than the one it was made for.
//! After a failure whose outcome is not known the connection is not used again.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use rusqlite::config::DbConfig;
use rusqlite::{
    Connection, ErrorCode, OpenFlags, OptionalExtension as _, Transaction, TransactionBehavior,
    params,
};

use super::entry::{ENTRY_LEN_MAX, StoredEntry};
use super::error::{EntryError, LedgerError};
use super::state_dir::io_error;
use crate::merkle::NOTE_LEN_MAX;
use crate::types::Sha256;

/// 3.51.3 fixed a corruption in WAL reset (sqlite.org/wal.html, "the WAL-reset bug").
const SQLITE_VERSION_MIN: i32 = 3_051_003;
/// "kekd" in ASCII, in the file's header (SQLite file format, section 1.3).
const APPLICATION_ID: i32 = 0x6b65_6b64;
/// The format of the tables below; `PRAGMA user_version`.
const FORMAT_VERSION: i32 = 1;

const TABLES: &str = "
    CREATE TABLE entry (
        idx   INTEGER PRIMARY KEY CHECK (idx >= 0),
        leaf  BLOB NOT NULL CHECK (length(leaf) = 32),
        bytes BLOB NOT NULL
    ) STRICT;
    CREATE TABLE checkpoint (
        size INTEGER PRIMARY KEY CHECK (size > 0),
        note TEXT NOT NULL
    ) STRICT;
";

/// An open database.
pub(super) struct Store {
    db: Connection,
    path: PathBuf,
    /// Whether it is known what the file holds. False while an append is under way, and for ever
    /// once one ended without a known outcome.
    is_known: bool,
}

/// One stored entry.
pub(super) struct Row {
    /// Its place.
    pub(super) index: u64,
    /// The leaf hash stored beside it. It proves nothing, but it tells which entry was changed.
    pub(super) leaf: Sha256,
    /// Its bytes, no more than [`ENTRY_LEN_MAX`].
    pub(super) bytes: Vec<u8>,
}

impl Store {
    /// Writes a new database with these entries and the note over them, durably, and closes it.
    /// The file must not exist.
    pub(super) fn create(
        path: &Path,
        entries: &[StoredEntry],
        note: &str,
    ) -> Result<(), LedgerError> {
        require_version(rusqlite::version_number())?;
        OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(path)
            .map_err(io_error("make", path))?;
        // No WAL yet: the file is about to be renamed, and a WAL would stay behind.
        let mut db = connect(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
        db.pragma_update(None, "synchronous", "EXTRA")?;
        db.pragma_update(None, "application_id", APPLICATION_ID)?;
        db.pragma_update(None, "user_version", FORMAT_VERSION)?;
        db.execute_batch(TABLES)?;
        let transaction = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
        for (index, entry) in (0_i64..).zip(entries) {
            insert_entry(&transaction, index, entry)?;
        }
        insert_checkpoint(&transaction, size_of(entries.len())?, note)?;
        transaction.commit()?;
        db.close().map_err(|(_, error)| error)?;
        File::open(path)
            .and_then(|file| file.sync_all())
            .map_err(io_error("sync", path))
    }

    /// Opens a database that exists and is a ledger of this format.
    pub(super) fn open(path: &Path) -> Result<Self, LedgerError> {
        require_version(rusqlite::version_number())?;
        let db = connect(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
        let number = |name| db.pragma_query_value(None, name, |row| row.get::<_, i32>(0));
        let application_id = number("application_id")?;
        if application_id != APPLICATION_ID {
            return Err(LedgerError::NotALedger {
                path: path.to_owned(),
                expected: APPLICATION_ID,
                found: application_id,
            });
        }
        let format = number("user_version")?;
        if format != FORMAT_VERSION {
            return Err(LedgerError::FormatUnknown {
                expected: FORMAT_VERSION,
                found: format,
            });
        }
        let text = |sql| db.query_row(sql, [], |row| row.get::<_, String>(0));
        let verdict = text("PRAGMA integrity_check(1)")?;
        if verdict != "ok" {
            return Err(LedgerError::Damaged { found: verdict });
        }
        let mode = text("PRAGMA journal_mode = WAL")?;
        if mode != "wal" {
            return Err(LedgerError::Damaged {
                found: format!("journal mode {mode} where WAL was asked for"),
            });
        }
        db.pragma_update(None, "synchronous", "FULL")?;
        Ok(Self {
            db,
            path: path.to_owned(),
            is_known: true,
        })
    }

    /// A second connection to this database, which only reads and waits for no writer (WAL).
    pub(super) fn reader(&self) -> Result<Self, LedgerError> {
        let db = connect(&self.path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
        Ok(Self {
            db,
            path: self.path.clone(),
            is_known: true,
        })
    }

    /// One state of the database for several reads, whatever is written meanwhile.
    pub(super) fn hold_still(&self) -> Result<Transaction<'_>, LedgerError> {
        Ok(self.db.unchecked_transaction()?)
    }

    /// Gives every entry to `take` in the order of its index, until `take` fails.
    pub(super) fn read_entries(
        &self,
        mut take: impl FnMut(Row) -> Result<(), LedgerError>,
    ) -> Result<(), LedgerError> {
        self.read_entries_from(0, |row| take(row).map(|()| true))
    }

    /// Gives the entries from an index on to `take`, until it wants no more.
    pub(super) fn read_entries_from(
        &self,
        from: u64,
        mut take: impl FnMut(Row) -> Result<bool, LedgerError>,
    ) -> Result<(), LedgerError> {
        // No entry can have a larger index than the largest row id.
        let from = i64::try_from(from).unwrap_or(i64::MAX);
        let mut query = self
            .db
            .prepare("SELECT idx, leaf, bytes FROM entry WHERE idx >= ?1 ORDER BY idx")?;
        let mut rows = query.query(params![from])?;
        while let Some(row) = rows.next()? {
            let index = u64::try_from(row.get::<_, i64>(0)?).unwrap_or(u64::MAX);
            let bytes = row.get_ref(2)?.as_blob().map_err(rusqlite::Error::from)?;
            if bytes.len() > ENTRY_LEN_MAX {
                return Err(LedgerError::refused(
                    index,
                    EntryError::TooLong {
                        found_len: bytes.len(),
                    },
                ));
            }
            let leaf = row.get_ref(1)?.as_blob().map_err(rusqlite::Error::from)?;
            let goes_on = take(Row {
                index,
                leaf: Sha256::try_from(leaf).map_err(|_| LedgerError::EntryChanged { index })?,
                bytes: bytes.to_vec(),
            })?;
            if !goes_on {
                break;
            }
        }
        Ok(())
    }

    /// The leaf hashes stored beside the entries, in order. Whoever builds on them must see them
    /// lead to a signed root.
    pub(super) fn leaves(&self) -> Result<Vec<Sha256>, LedgerError> {
        let mut query = self.db.prepare("SELECT leaf FROM entry ORDER BY idx")?;
        let mut rows = query.query([])?;
        let mut leaves = Vec::new();
        while let Some(row) = rows.next()? {
            let leaf = row.get_ref(0)?.as_blob().map_err(rusqlite::Error::from)?;
            let index = u64::try_from(leaves.len()).unwrap_or(u64::MAX);
            let leaf = Sha256::try_from(leaf).map_err(|_| LedgerError::EntryChanged { index })?;
            leaves.push(leaf);
        }
        Ok(leaves)
    }

    /// Number of entries.
    pub(super) fn size(&self) -> Result<u64, LedgerError> {
        Ok(count(&self.db)?)
    }

    /// The checkpoint of the largest size: that size, and the signed note.
    pub(super) fn newest_checkpoint(&self) -> Result<Option<(u64, String)>, LedgerError> {
        let newest = self
            .db
            .query_row(
                "SELECT size, substr(note, 1, ?1) FROM checkpoint ORDER BY size DESC LIMIT 1",
                params![size_of(NOTE_LEN_MAX)?],
                |row| Ok((row.get::<_, i64>(0)?, row.get(1)?)),
            )
            .optional()?;
        Ok(newest.map(|(size, note)| (u64::try_from(size).unwrap_or(u64::MAX), note)))
    }

    /// Appends one entry and the note over the head it makes, both or neither, durably. The entry
    /// must be the next one in the file as it is now.
    ///
    /// # Errors
    /// [`LedgerError::NoSpace`] says that nothing was written and the store goes on. After any other
    /// error it is not known what was written, and every later append is refused.
    pub(super) fn append(&mut self, entry: &StoredEntry, note: &str) -> Result<(), LedgerError> {
        if !self.is_known {
            return Err(LedgerError::OutcomeUnknown {
                path: self.path.clone(),
            });
        }
        self.is_known = false;
        let expected = entry.entry().index;
        match self.write(expected, entry, note) {
            Err(LedgerError::Sqlite(source)) if is_full(&source) => {
                self.require_unchanged(expected)?;
                self.is_known = true;
                Err(LedgerError::NoSpace {
                    path: self.path.clone(),
                    source,
                })
            }
            Err(error) => Err(error),
            Ok(()) => {
                self.is_known = true;
                Ok(())
            }
        }
    }

    fn write(&mut self, expected: u64, entry: &StoredEntry, note: &str) -> Result<(), LedgerError> {
        let transaction = self
            .db
            .transaction_with_behavior(TransactionBehavior::Immediate)?;
        let found = count(&transaction)?;
        if expected != found {
            return Err(LedgerError::WrittenByAnother { expected, found });
        }
        let index = i64::try_from(expected).unwrap_or(i64::MAX);
        insert_entry(&transaction, index, entry)?;
        insert_checkpoint(&transaction, index.saturating_add(1), note)?;
        transaction.commit()?;
        Ok(())
    }

    /// Whether the file holds what it held before: `size` entries, signed, and no transaction.
    fn require_unchanged(&self, size: u64) -> Result<(), LedgerError> {
        let signed = self.newest_checkpoint()?.map(|(signed, _)| signed);
        if self.db.is_autocommit() && self.size()? == size && signed == Some(size) {
            return Ok(());
        }
        Err(LedgerError::OutcomeUnknown {
            path: self.path.clone(),
        })
    }
}

/// Whether the disk had no room. SQLite says so of a write alone (`SQLITE_FULL`), so the frame that
/// would have been the commit is not whole in the WAL: nothing is written behind that frame where
/// sectors need no padding (`SQLITE_POWERSAFE_OVERWRITE`, which the bundled build has on). A disk
/// that is found full by a sync or by the shared memory says `SQLITE_IOERR` and leaves it open.
fn is_full(error: &rusqlite::Error) -> bool {
    error.sqlite_error_code() == Some(ErrorCode::DiskFull)
}

fn count(db: &Connection) -> rusqlite::Result<u64> {
    let count = db.query_row("SELECT count(*) FROM entry", [], |row| row.get::<_, i64>(0))?;
    Ok(u64::try_from(count).unwrap_or(u64::MAX))
}

/// Opens a file that exists. Nothing in its schema is trusted to run.
fn connect(path: &Path, access: OpenFlags) -> Result<Connection, LedgerError> {
    let db = Connection::open_with_flags(path, access | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    db.set_db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true)?;
    db.set_db_config(DbConfig::SQLITE_DBCONFIG_TRUSTED_SCHEMA, false)?;
    db.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_TRIGGER, false)?;
    db.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_VIEW, false)?;
    Ok(db)
}

fn insert_entry(db: &Connection, index: i64, entry: &StoredEntry) -> rusqlite::Result<usize> {
    db.execute(
        "INSERT INTO entry (idx, leaf, bytes) VALUES (?1, ?2, ?3)",
        params![index, entry.leaf().as_bytes(), entry.bytes()],
    )
}

fn insert_checkpoint(db: &Connection, size: i64, note: &str) -> rusqlite::Result<usize> {
    db.execute(
        "INSERT INTO checkpoint (size, note) VALUES (?1, ?2)",
        params![size, note],
    )
}

fn size_of(len: usize) -> rusqlite::Result<i64> {
    i64::try_from(len).map_err(|error| rusqlite::Error::ToSqlConversionFailure(error.into()))
}

const fn require_version(found: i32) -> Result<(), LedgerError> {
    if found < SQLITE_VERSION_MIN {
        return Err(LedgerError::SqliteTooOld {
            expected: SQLITE_VERSION_MIN,
            found,
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_old_sqlite_is_refused_and_ours_is_not() {
        assert!(require_version(3_051_002).is_err());
        assert!(require_version(3_051_003).is_ok());
        assert!(require_version(rusqlite::version_number()).is_ok());
    }
}
