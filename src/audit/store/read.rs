//! Reading records back, beside a running writer or without one. The invariant: this connection can
//! change nothing.

use std::fs;
use std::path::Path;

use rusqlite::{Connection, OpenFlags};

use super::{BUSY_TIMEOUT, row_id};
use crate::audit::{AuditError, files};

/// Most records one read returns.
const READ_LEN_MAX: usize = 4096;

/// Records from index `from` on, each with the exact bytes that were written, at most `limit` and
/// at most 4096. Opens a connection of its own that can only read.
pub(in crate::audit) fn read(
    state_dir: &Path,
    from: u64,
    limit: usize,
) -> Result<Vec<(u64, Vec<u8>)>, AuditError> {
    let path = files::path_in(state_dir);
    if !fs::exists(&path).map_err(|source| AuditError::io(&path, "look for it", source))? {
        return Err(AuditError::Missing { path });
    }
    let limit = i64::try_from(limit.min(READ_LEN_MAX)).unwrap_or(0);
    let rows = || {
        let connection = Connection::open_with_flags(
            &path,
            OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX,
        )?;
        connection.busy_timeout(BUSY_TIMEOUT)?;
        let mut select = connection.prepare(
            "SELECT record_index, bytes FROM record WHERE record_index >= ?1
             ORDER BY record_index LIMIT ?2",
        )?;
        let rows = select.query_map((row_id(from), limit), |row| {
            let index: i64 = row.get(0)?;
            Ok((u64::try_from(index).unwrap_or(u64::MAX), row.get(1)?))
        })?;
        rows.collect::<rusqlite::Result<_>>()
    };
    rows().map_err(|source| AuditError::sqlite(&path, "read it", source))
}
