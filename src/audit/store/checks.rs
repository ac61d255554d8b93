//! What an audit log must be before it is believed: its format, its instance, the settings of the
//! connection, the newest records. Nothing is written here but settings of the connection.

use std::path::Path;

use prost::Message as _;
use rusqlite::Connection;
use rusqlite::config::DbConfig;
use zeroize::Zeroizing;

use super::{APPLICATION_ID, BUSY_TIMEOUT, FORMAT, WAL_LEN_KEPT, row_id, stub};
use crate::audit::stub::kept_from;
use crate::audit::{AuditError, Discontinuity, Mismatch};
use crate::proto::v1;
use crate::types::Sha256;

/// SQLite before 3.51.3 can corrupt a database when the WAL is reset (sqlite.org/wal.html,
/// "WAL reset bug").
const SQLITE_VERSION_MIN: i32 = 3_051_003;
/// Rows whose indexes are checked at the start.
const LOOK_BACK_LEN: u64 = 4096;

pub(super) fn require_format(connection: &Connection, path: &Path) -> Result<(), AuditError> {
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

pub(super) fn require_instance(
    connection: &Connection,
    path: &Path,
    expected: &Sha256,
) -> Result<Zeroizing<[u8; 32]>, AuditError> {
    let (found, key) = instance_of(connection, path)?;
    if found == *expected {
        return Ok(key);
    }
    Err(AuditError::WrongInstance {
        path: path.to_owned(),
        expected: *expected,
        found,
    })
}

/// The instance a log belongs to, and its digest key.
pub(super) fn instance_of(
    connection: &Connection,
    path: &Path,
) -> Result<(Sha256, Zeroizing<[u8; 32]>), AuditError> {
    connection
        .query_row("SELECT instance_id, digest_key FROM meta", (), |row| {
            let found: [u8; 32] = row.get(0)?;
            Ok((Sha256::from(found), Zeroizing::new(row.get(1)?)))
        })
        .map_err(|source| AuditError::sqlite(path, "read which instance it belongs to", source))
}

pub(super) fn configure(connection: &Connection, path: &Path) -> Result<(), AuditError> {
    let configured = (|| {
        connection.busy_timeout(BUSY_TIMEOUT)?;
        // A close after a failed sync must not sync again.
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true)?;
        connection.pragma_update(None, "trusted_schema", false)?;
        connection.pragma_update(None, "wal_autocheckpoint", 0)?;
        connection.pragma_update(None, "journal_size_limit", row_id(WAL_LEN_KEPT))?;
        // In WAL mode NORMAL would not sync at commit.
        connection.pragma_update(None, "synchronous", "FULL")
    })();
    configured.map_err(|source| AuditError::sqlite(path, "set it up", source))?;
    require_pragma(connection, path, "journal_mode", &"wal".to_owned())?;
    require_pragma(connection, path, "synchronous", &2_i64)
}

/// The index of the first record that was not dropped, which must be there, and the index after the
/// newest. A full check is the auditor's, not the start's.
pub(super) fn first_and_next(
    connection: &Connection,
    path: &Path,
) -> Result<(u64, u64), AuditError> {
    let sqlite = |source| AuditError::sqlite(path, "read what was dropped", source);
    let refused = |mismatch| AuditError::mismatch(path, mismatch);
    let stubs = stub::all(connection).map_err(sqlite)?;
    let kept = kept_from(&stubs).map_err(|index| refused(Mismatch::StubMissing { index }))?;
    let next = next_index(connection, path, kept)?;
    if next < kept {
        let (expected, found) = (kept, next);
        return Err(refused(Mismatch::Cut { expected, found }));
    }
    match stub::lowest(connection).map_err(sqlite)? {
        Some(lowest) if lowest > kept => Err(refused(Mismatch::StubMissing { index: kept })),
        Some(_) | None => Ok((kept, next)),
    }
}

/// The index after the newest record, once the newest rows are seen to follow one another and the
/// newest record to agree with its row.
fn next_index(connection: &Connection, path: &Path, kept: u64) -> Result<u64, AuditError> {
    let sqlite = |source| AuditError::sqlite(path, "read its newest records", source);
    let newest: Option<i64> = connection
        .query_row("SELECT max(record_index) FROM record", (), |row| row.get(0))
        .map_err(sqlite)?;
    let Some(newest) = newest.and_then(|index| u64::try_from(index).ok()) else {
        return Ok(0);
    };
    let records = newest.saturating_add(1).saturating_sub(kept);
    let looked_at = records.min(LOOK_BACK_LEN);
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
