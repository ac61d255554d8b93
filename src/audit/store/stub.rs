//! The SQL of records that are dropped. The commit point of a drop is the transaction that writes its
//! record and its stub: from then on the records are not there for anybody. Their rows are removed
//! afterwards, a few at a time, so that no release waits for it, and after a crash by the next start.
//! The invariant: a row is removed only where a stub stands in its place.

use rusqlite::{Connection, OptionalExtension as _, Transaction, TransactionBehavior};

use super::{Store, commit, row_id, tree, unsigned};
use crate::audit::record::Archived;
use crate::audit::stub::{
    DropRefused, Dropping, Stub, kept_from, stubs_digest, tile_numbers, tiles_digest,
};
use crate::audit::tree::TILE_LEN;
use crate::audit::{AuditError, Draft};
use crate::clock::UnixMs;
use crate::types::Sha256;

/// Records whose rows are removed for one commit.
const SWEEP_LEN: i64 = 1024;
/// A day.
const DAY_MS: u64 = 86_400_000;

/// A kekd that does not know of this table refuses a file from which much was dropped, and never makes
/// it again: the triggers are exchanged with it.
pub(super) const SCHEMA: &str = "
    CREATE TABLE stub (
        first        INTEGER PRIMARY KEY CHECK (first >= 0),
        until        INTEGER NOT NULL CHECK (until > first),
        archive      BLOB NOT NULL CHECK (length(archive) = 32),
        tiles        BLOB NOT NULL CHECK (length(tiles) = 32),
        signed       INTEGER NOT NULL,
        record_index INTEGER NOT NULL
    ) STRICT;
    CREATE TRIGGER stub_not_changed BEFORE UPDATE ON stub
        BEGIN SELECT RAISE(ABORT, 'stubs are never changed'); END;
    CREATE TRIGGER stub_not_deleted BEFORE DELETE ON stub
        BEGIN SELECT RAISE(ABORT, 'stubs are never deleted'); END;
    DROP TRIGGER IF EXISTS record_not_deleted;
    CREATE TRIGGER record_not_deleted BEFORE DELETE ON record
        WHEN OLD.record_index >= ifnull((SELECT until FROM stub ORDER BY first DESC LIMIT 1), 0)
        BEGIN SELECT RAISE(ABORT, 'audit records are never deleted'); END;
    DROP TRIGGER IF EXISTS leaf_not_deleted;
    CREATE TRIGGER leaf_not_deleted BEFORE DELETE ON leaf
        WHEN OLD.record_index >= ifnull((SELECT until FROM stub ORDER BY first DESC LIMIT 1), 0)
        BEGIN SELECT RAISE(ABORT, 'leaf hashes are never deleted'); END;
";

impl Store {
    /// Drops archived records where they may be dropped at `at`: writes the record of it, which `draft`
    /// begins, and the stub, with one sync. What was dropped before is answered as it was.
    pub(in crate::audit) fn drop_archived(
        &mut self,
        wanted: &Dropping,
        mut draft: Draft,
        days: u64,
        at: UnixMs,
        node: &str,
    ) -> Result<Stub, AuditError> {
        self.require_in_place()?;
        let read = |source| AuditError::sqlite(&self.path, "read what was dropped", source);
        let mut stubs = all(&self.connection).map_err(read)?;
        let is_wanted = |stub: &&Stub| {
            (stub.range(), stub.archive, stub.tiles)
                == (wanted.range.clone(), wanted.archive, wanted.tiles)
        };
        if let Some(known) = stubs.iter().find(is_wanted) {
            return Ok(*known);
        }
        let judged = judge(&self.connection, wanted, self.kept_from, days, at);
        let stub = Stub {
            first: wanted.range.start,
            until: wanted.range.end,
            archive: wanted.archive,
            tiles: wanted.tiles,
            signed: judged.map_err(read)?.map_err(AuditError::NotDropped)?,
            record_index: self.next_index,
        };
        stubs.push(stub);
        draft.archived = Some(Archived {
            range: wanted.range.clone(),
            archive: wanted.archive,
            stubs: stubs_digest(&stubs),
        });
        let record = draft.encode(self.next_index, at, node);
        let mut tree = self.tree.clone();
        let records = std::slice::from_ref(&record);
        // What is dropped cannot be counted any more.
        let counts = [&self.uncounted];
        commit(
            &mut self.connection,
            &mut tree,
            records,
            at,
            &counts,
            Some(&stub),
        )
        .map_err(|source| self.classify(source))?;
        self.tree = tree;
        self.next_index = stub.record_index.saturating_add(1);
        self.counted_all();
        self.kept_from = stub.until;
        self.require_in_place()?;
        Ok(stub)
    }

    /// Removes some of the rows that were dropped; whether there are more.
    pub(in crate::audit) fn sweep(&mut self) -> Result<bool, AuditError> {
        self.require_in_place()?;
        let swept = sweep(&mut self.connection, self.kept_from);
        swept.map_err(|source| self.classify(source))
    }
}

/// Makes the table where there is none. The tree's tables must be there.
pub(super) fn make(connection: &mut Connection) -> rusqlite::Result<()> {
    if is_there(connection)? {
        return Ok(());
    }
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    transaction.execute_batch(SCHEMA)?;
    transaction.commit()
}

/// Whether the table is there.
fn is_there(connection: &Connection) -> rusqlite::Result<bool> {
    let sql = "SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = 'stub'";
    let found: Option<i64> = connection.query_row(sql, (), |row| row.get(0)).optional()?;
    Ok(found.is_some())
}

/// All stubs, the oldest first.
pub(super) fn all(connection: &Connection) -> rusqlite::Result<Vec<Stub>> {
    if !is_there(connection)? {
        return Ok(Vec::new());
    }
    let mut select = connection.prepare_cached(
        "SELECT first, until, archive, tiles, signed, record_index FROM stub ORDER BY first",
    )?;
    let rows = select.query_map((), |row| {
        Ok(Stub {
            first: unsigned(row.get(0)?),
            until: unsigned(row.get(1)?),
            archive: Sha256::from(row.get::<_, [u8; 32]>(2)?),
            tiles: Sha256::from(row.get::<_, [u8; 32]>(3)?),
            signed: unsigned(row.get(4)?),
            record_index: unsigned(row.get(5)?),
        })
    })?;
    rows.collect()
}

/// The stub that stands for a record, and the first record that is kept. Stubs that do not follow one
/// another stand for nothing: whoever asks finds records missing.
pub(super) fn of(connection: &Connection, index: u64) -> rusqlite::Result<(Option<Stub>, u64)> {
    let stubs = all(connection)?;
    let kept = kept_from(&stubs).unwrap_or(0);
    let found = stubs.into_iter().find(|stub| stub.range().contains(&index));
    Ok((found.filter(|_| index < kept), kept))
}

/// The lowest index there is a row of; none in an empty log.
pub(super) fn lowest(connection: &Connection) -> rusqlite::Result<Option<u64>> {
    connection.query_row("SELECT min(record_index) FROM record", (), |row| {
        Ok(row.get::<_, Option<i64>>(0)?.map(unsigned))
    })
}

/// The size of the checkpoint that stands for these records, once they may be dropped at `now`.
pub(super) fn judge(
    connection: &Connection,
    wanted: &Dropping,
    kept: u64,
    days: u64,
    now: UnixMs,
) -> rusqlite::Result<Result<u64, DropRefused>> {
    let (first, until) = (wanted.range.start, wanted.range.end);
    if first != kept {
        let (expected, found) = (kept, first);
        return Ok(Err(DropRefused::NotNext { expected, found }));
    }
    if until <= first || !until.is_multiple_of(TILE_LEN) {
        return Ok(Err(DropRefused::NotTiles { first, until }));
    }
    let signed = tree::newest_checkpoint(connection)?.map_or(0, |(size, _)| size);
    let anchored = signed.min(wanted.anchored);
    if until > anchored {
        return Ok(Err(DropRefused::NotAnchored { anchored, until }));
    }
    let tiles = tree::tiles(connection, tile_numbers(&wanted.range))?;
    let (expected, found) = (tiles_digest(&tiles), wanted.tiles);
    if expected != found {
        return Ok(Err(DropRefused::OtherTiles { expected, found }));
    }
    let latest = tiles.iter().map(|tile| tile.latest).max();
    let latest = latest.unwrap_or_default();
    if latest.0.saturating_add(days.saturating_mul(DAY_MS)) > now.0 {
        return Ok(Err(DropRefused::TooYoung { latest, days }));
    }
    Ok(Ok(signed))
}

/// Writes a stub.
pub(super) fn keep(transaction: &Transaction<'_>, stub: &Stub) -> rusqlite::Result<()> {
    transaction.execute(
        "INSERT INTO stub (first, until, archive, tiles, signed, record_index)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
        (
            row_id(stub.first),
            row_id(stub.until),
            stub.archive.as_bytes(),
            stub.tiles.as_bytes(),
            row_id(stub.signed),
            row_id(stub.record_index),
        ),
    )?;
    Ok(())
}

/// Removes some rows of records before `kept`; whether there are more.
pub(super) fn sweep(connection: &mut Connection, kept: u64) -> rusqlite::Result<bool> {
    let lowest = lowest(connection)?.map_or(i64::MAX, row_id);
    let end = lowest.saturating_add(SWEEP_LEN).min(row_id(kept));
    if lowest >= end {
        return Ok(false);
    }
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    for sql in [
        "DELETE FROM record WHERE record_index < ?1",
        "DELETE FROM leaf WHERE record_index < ?1",
    ] {
        transaction.prepare_cached(sql)?.execute([end])?;
    }
    transaction.commit()?;
    Ok(end < row_id(kept))
}
