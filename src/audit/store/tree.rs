//! The SQL of the Merkle tree: leaf hashes, the roots of full tiles, and checkpoints. They stand
//! beside the records and are written in their transaction. The invariant: there are leaf hashes for
//! the records from 0 on without a gap, and the root of a tile is there when its last leaf is.

use std::ops::Range;
use std::path::Path;

use prost::Message as _;
use rusqlite::{Connection, OptionalExtension as _, Transaction, TransactionBehavior};

use super::{row_id, unsigned};
use crate::audit::tree::{TILE_LEN, Tile, Tree};
use crate::audit::{AuditError, Mismatch};
use crate::clock::UnixMs;
use crate::merkle::{Frontier, NOTE_LEN_MAX, leaf_hash};
use crate::proto::v1;
use crate::types::Sha256;

/// Records that are hashed for one commit where some have no leaf yet.
const CATCH_UP_LEN: i64 = 65_536;

/// A kekd that does not know of these tables leaves them behind the records; the next one that does
/// catches up.
pub(super) const SCHEMA: &str = "
    CREATE TABLE leaf (
        record_index INTEGER PRIMARY KEY CHECK (record_index >= 0),
        hash         BLOB NOT NULL CHECK (length(hash) = 32)
    ) STRICT;
    CREATE TABLE tile (
        number      INTEGER PRIMARY KEY CHECK (number >= 0),
        root        BLOB NOT NULL CHECK (length(root) = 32),
        earliest_ms INTEGER NOT NULL,
        latest_ms   INTEGER NOT NULL
    ) STRICT;
    CREATE TABLE checkpoint (
        size INTEGER PRIMARY KEY CHECK (size > 0),
        note TEXT NOT NULL
    ) STRICT;
    CREATE TRIGGER leaf_not_changed BEFORE UPDATE ON leaf
        BEGIN SELECT RAISE(ABORT, 'leaf hashes are never changed'); END;
    CREATE TRIGGER leaf_not_deleted BEFORE DELETE ON leaf
        WHEN OLD.record_index >= ifnull((SELECT until FROM stub ORDER BY first DESC LIMIT 1), 0)
        BEGIN SELECT RAISE(ABORT, 'leaf hashes are never deleted'); END;
    CREATE TRIGGER tile_not_changed BEFORE UPDATE ON tile
        BEGIN SELECT RAISE(ABORT, 'tiles are never changed'); END;
    CREATE TRIGGER tile_not_deleted BEFORE DELETE ON tile
        BEGIN SELECT RAISE(ABORT, 'tiles are never deleted'); END;
    CREATE TRIGGER checkpoint_not_changed BEFORE UPDATE ON checkpoint
        BEGIN SELECT RAISE(ABORT, 'checkpoints are never changed'); END;
    CREATE TRIGGER checkpoint_not_deleted BEFORE DELETE ON checkpoint
        BEGIN SELECT RAISE(ABORT, 'checkpoints are never deleted'); END;
";

/// Adds the record after those that the tree has.
pub(super) fn add(
    transaction: &Transaction<'_>,
    tree: &mut Tree,
    bytes: &[u8],
    at: UnixMs,
) -> rusqlite::Result<()> {
    let leaf = leaf_hash(bytes);
    let mut insert =
        transaction.prepare_cached("INSERT INTO leaf (record_index, hash) VALUES (?1, ?2)")?;
    insert.execute((row_id(tree.size()), leaf.as_bytes()))?;
    if let Some(tile) = tree.push(leaf, at) {
        let mut insert = transaction.prepare_cached(
            "INSERT INTO tile (number, root, earliest_ms, latest_ms) VALUES (?1, ?2, ?3, ?4)",
        )?;
        let Tile {
            earliest, latest, ..
        } = tile;
        let number = row_id(tile.number);
        insert.execute((
            number,
            tile.root.as_bytes(),
            row_id(earliest.0),
            row_id(latest.0),
        ))?;
    }
    Ok(())
}

/// Keeps a checkpoint, unless there is one of that size already.
pub(super) fn keep(connection: &Connection, size: u64, note: &str) -> rusqlite::Result<()> {
    let sql = "INSERT OR IGNORE INTO checkpoint (size, note) VALUES (?1, ?2)";
    connection.execute(sql, (row_id(size), note))?;
    Ok(())
}

/// The tree over the `size` records in the file, after tables that are missing were made and records
/// without a leaf were hashed. Hashes no more than the records of one tile where none is missing.
pub(super) fn catch_up(
    connection: &mut Connection,
    size: u64,
    path: &Path,
) -> Result<Tree, AuditError> {
    let sqlite = |source| AuditError::sqlite(path, "read the tree over its records", source);
    if !is_there(connection).map_err(sqlite)? {
        let made = (|| {
            let transaction =
                connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            transaction.execute_batch(SCHEMA)?;
            transaction.commit()
        })();
        made.map_err(sqlite)?;
    }
    let hashed = hashed(connection).map_err(sqlite)?;
    if hashed > size {
        let (expected, found) = (hashed, size);
        return Err(AuditError::mismatch(
            path,
            Mismatch::Cut { expected, found },
        ));
    }
    let mut tree = Tree::default();
    let wrong = |first| AuditError::mismatch(path, Mismatch::TileChanged { first });
    let tiles = tiles(connection, 0..hashed / TILE_LEN).map_err(sqlite)?;
    for (number, tile) in (0..).zip(&tiles) {
        let pushed = tree.push_tile(tile);
        if tile.number != number || pushed.is_err() {
            return Err(wrong(tree.size()));
        }
    }
    if tree.size() != hashed - hashed % TILE_LEN {
        return Err(wrong(tree.size()));
    }
    add_begun_tile(connection, &mut tree, hashed, path)?;
    if hashed < size {
        tracing::info!(from = hashed, to = size, "hashing records of the audit log");
    }
    while tree.size() < size {
        let before = tree.size();
        hash_more(connection, &mut tree).map_err(sqlite)?;
        if tree.size() == before {
            let index = before;
            return Err(AuditError::mismatch(
                path,
                Mismatch::RecordMissing { index },
            ));
        }
    }
    Ok(tree)
}

/// The records of the tile that is not full: each must have the leaf hash it was written with.
fn add_begun_tile(
    connection: &Connection,
    tree: &mut Tree,
    hashed: u64,
    path: &Path,
) -> Result<(), AuditError> {
    let sqlite = |source| AuditError::sqlite(path, "read its newest records", source);
    while tree.size() < hashed {
        let index = tree.size();
        let found = connection
            .prepare_cached(
                "SELECT record.bytes, leaf.hash FROM record JOIN leaf USING (record_index)
                 WHERE record_index = ?1",
            )
            .and_then(|mut select| {
                select
                    .query_row([row_id(index)], |row| {
                        Ok((row.get::<_, Vec<u8>>(0)?, row.get::<_, [u8; 32]>(1)?))
                    })
                    .optional()
            })
            .map_err(sqlite)?;
        let Some((bytes, expected)) = found else {
            return Err(AuditError::mismatch(
                path,
                Mismatch::RecordMissing { index },
            ));
        };
        let (found, expected) = (leaf_hash(&bytes), Sha256::from(expected));
        if found != expected {
            let changed = Mismatch::RecordChanged {
                index,
                expected,
                found,
            };
            return Err(AuditError::mismatch(path, changed));
        }
        tree.push(found, time_of(&bytes));
    }
    Ok(())
}

/// Hashes some records that have no leaf, up to the first gap.
fn hash_more(connection: &mut Connection, tree: &mut Tree) -> rusqlite::Result<()> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    {
        let mut select = transaction.prepare(
            "SELECT record_index, bytes FROM record WHERE record_index >= ?1
             ORDER BY record_index LIMIT ?2",
        )?;
        let mut rows = select.query((row_id(tree.size()), CATCH_UP_LEN))?;
        while let Some(row) = rows.next()? {
            if row.get::<_, i64>(0)? != row_id(tree.size()) {
                break;
            }
            let bytes = row.get_ref(1)?.as_blob()?;
            add(&transaction, tree, bytes, time_of(bytes))?;
        }
    }
    transaction.commit()
}

/// The time of a record; 1970 for one that cannot be read, which is the auditor's find.
pub(super) fn time_of(bytes: &[u8]) -> UnixMs {
    UnixMs(v1::Record::decode(bytes).map_or(0, |record| record.time_ms))
}

/// Whether the tables are there.
pub(super) fn is_there(connection: &Connection) -> rusqlite::Result<bool> {
    let sql = "SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = 'checkpoint'";
    let found: Option<i64> = connection.query_row(sql, (), |row| row.get(0)).optional()?;
    Ok(found.is_some())
}

/// Number of leaf hashes, by the highest.
pub(super) fn hashed(connection: &Connection) -> rusqlite::Result<u64> {
    let newest: Option<i64> =
        connection.query_row("SELECT max(record_index) FROM leaf", (), |row| row.get(0))?;
    Ok(newest.map_or(0, |index| unsigned(index).saturating_add(1)))
}

/// Number of full tiles, by the highest.
pub(super) fn tile_count(connection: &Connection) -> rusqlite::Result<u64> {
    let newest: Option<i64> =
        connection.query_row("SELECT max(number) FROM tile", (), |row| row.get(0))?;
    Ok(newest.map_or(0, |number| unsigned(number).saturating_add(1)))
}

/// The tiles of these numbers that are there, in order.
pub(super) fn tiles(connection: &Connection, numbers: Range<u64>) -> rusqlite::Result<Vec<Tile>> {
    let mut select = connection.prepare_cached(
        "SELECT number, root, earliest_ms, latest_ms FROM tile
         WHERE number >= ?1 AND number < ?2 ORDER BY number",
    )?;
    let rows = select.query_map((row_id(numbers.start), row_id(numbers.end)), |row| {
        Ok(Tile {
            number: unsigned(row.get(0)?),
            root: Sha256::from(row.get::<_, [u8; 32]>(1)?),
            earliest: UnixMs(unsigned(row.get(2)?)),
            latest: UnixMs(unsigned(row.get(3)?)),
        })
    })?;
    rows.collect()
}

/// The root over the leaves of a range that is a perfect subtree or the rest of a tree: from tiles as
/// far as it covers them, else from leaf hashes. `None` where some are missing.
pub(super) fn root_over(
    connection: &Connection,
    range: Range<u64>,
) -> rusqlite::Result<Option<Sha256>> {
    let mut subtree = Frontier::default();
    let mut at = range.start;
    if range.start.is_multiple_of(TILE_LEN) {
        for tile in tiles(connection, range.start / TILE_LEN..range.end / TILE_LEN)? {
            if tile.number != at / TILE_LEN || subtree.push_subtree(tile.root, TILE_LEN).is_err() {
                return Ok(None);
            }
            at = at.saturating_add(TILE_LEN);
        }
    }
    let mut select = connection.prepare_cached(
        "SELECT record_index, hash FROM leaf WHERE record_index >= ?1 AND record_index < ?2
         ORDER BY record_index",
    )?;
    let mut rows = select.query((row_id(at), row_id(range.end)))?;
    while let Some(row) = rows.next()? {
        if row.get::<_, i64>(0)? != row_id(at) {
            return Ok(None);
        }
        subtree.push(Sha256::from(row.get::<_, [u8; 32]>(1)?));
        at = at.saturating_add(1);
    }
    Ok((at == range.end).then(|| subtree.head().root))
}

/// The newest checkpoint: its size, and the signed note.
pub(super) fn newest_checkpoint(
    connection: &Connection,
) -> rusqlite::Result<Option<(u64, String)>> {
    checkpoints(connection, "ORDER BY size DESC LIMIT 1").map(|mut all| all.pop())
}

/// All checkpoints, the smallest first.
pub(super) fn all_checkpoints(connection: &Connection) -> rusqlite::Result<Vec<(u64, String)>> {
    checkpoints(connection, "ORDER BY size")
}

fn checkpoints(connection: &Connection, which: &str) -> rusqlite::Result<Vec<(u64, String)>> {
    let sql = format!("SELECT size, substr(note, 1, ?1) FROM checkpoint {which}");
    let mut select = connection.prepare_cached(&sql)?;
    let len_max = i64::try_from(NOTE_LEN_MAX).unwrap_or(i64::MAX);
    let rows = select.query_map([len_max], |row| Ok((unsigned(row.get(0)?), row.get(1)?)))?;
    rows.collect()
}
