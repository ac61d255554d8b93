//! The SQL of what the records say of the use of key pairs, by caller. A table beside the records, written
//! with every thousandth of them, so that nobody reads a log of millions to learn when a key was last used. The
//! invariant: it says what the records below `usage_counted` say, dropped ones included, and can be made from
//! them anew while none is dropped.

use prost::Message as _;
use rusqlite::{Connection, OptionalExtension as _, Transaction, TransactionBehavior};

use super::{row_id, unsigned};
use crate::audit::usage::{Tally, Usage};
use crate::clock::UnixMs;
use crate::proto::v1;
use crate::types::KeypairId;

/// Records that are read for one commit where some are not counted yet.
const CATCH_UP_LEN: i64 = 65_536;

/// `usage_counted` has one row: how many records, from index 0, `usage` has counted. A kekd that does
/// not know of these tables leaves them behind the records; the next one that does catches up.
pub(super) const SCHEMA: &str = "
    CREATE TABLE usage (
        keypair_id BLOB NOT NULL CHECK (length(keypair_id) = 16),
        caller     TEXT NOT NULL,
        released   INTEGER NOT NULL,
        first_ms   INTEGER NOT NULL,
        last_ms    INTEGER NOT NULL,
        PRIMARY KEY (keypair_id, caller)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE usage_counted (
        id      INTEGER PRIMARY KEY CHECK (id = 1),
        records INTEGER NOT NULL
    ) STRICT;
    INSERT INTO usage_counted (id, records) VALUES (1, 0);
";

/// Adds the releases of a batch, with which `counted` records are counted.
pub(super) fn add(
    transaction: &Transaction<'_>,
    batch: &Tally,
    counted: u64,
) -> rusqlite::Result<()> {
    let mut upsert = transaction.prepare_cached(
        "INSERT INTO usage (keypair_id, caller, released, first_ms, last_ms)
         VALUES (?1, ?2, ?3, ?4, ?5)
         ON CONFLICT (keypair_id, caller) DO UPDATE SET
             released = released + excluded.released,
             first_ms = min(first_ms, excluded.first_ms),
             last_ms = max(last_ms, excluded.last_ms)",
    )?;
    for (id, caller, usage) in batch.iter() {
        let (Some(first), Some(last)) = (usage.first, usage.last) else {
            continue;
        };
        let released = row_id(usage.released);
        let (first, last) = (row_id(first.0), row_id(last.0));
        upsert.execute((id.as_bytes(), caller, released, first, last))?;
    }
    let mut update = transaction.prepare_cached("UPDATE usage_counted SET records = ?1")?;
    update.execute([row_id(counted)])?;
    Ok(())
}

/// As [`add`], by itself.
pub(super) fn keep(
    connection: &mut Connection,
    batch: &Tally,
    counted: u64,
) -> rusqlite::Result<()> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    add(&transaction, batch, counted)?;
    transaction.commit()
}

/// Counts what is not counted yet of the `size` records in the file, making the tables where it has
/// none, and returns the whole. Writes nothing where all is counted.
pub(super) fn catch_up(
    connection: &mut Connection,
    size: u64,
    kept_from: u64,
) -> rusqlite::Result<Tally> {
    if !is_there(connection)? {
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        // Those of a kekd that did not count by caller are counted anew.
        transaction
            .execute_batch("DROP TABLE IF EXISTS usage; DROP TABLE IF EXISTS usage_counted")?;
        transaction.execute_batch(SCHEMA)?;
        transaction.commit()?;
    }
    let mut counted = counted(connection)?;
    if counted > size && kept_from > 0 {
        // What was dropped cannot be counted again: too many uses said are better than too few.
        tracing::warn!(
            counted,
            size,
            "the audit log's counts are of more records than there are"
        );
        connection.execute("UPDATE usage_counted SET records = ?1", [row_id(size)])?;
        counted = size;
    }
    if counted > size {
        // More than there is cannot have been counted: what is said is not said by these records.
        tracing::warn!(counted, size, "the audit log's counts are made anew");
        connection.execute_batch(
            "BEGIN IMMEDIATE; DELETE FROM usage; UPDATE usage_counted SET records = 0; COMMIT",
        )?;
        counted = 0;
    }
    if counted < size {
        tracing::info!(
            from = counted,
            to = size,
            "counting releases in the audit log"
        );
    }
    while counted < size {
        let (batch, next) = batch_from(connection, counted)?;
        counted = next.unwrap_or(size);
        keep(connection, &batch, counted)?;
    }
    all(connection)
}

fn is_there(connection: &Connection) -> rusqlite::Result<bool> {
    let sql = "SELECT 1 FROM pragma_table_info('usage') WHERE name = 'caller'";
    let found: Option<i64> = connection.query_row(sql, (), |row| row.get(0)).optional()?;
    Ok(found.is_some())
}

fn counted(connection: &Connection) -> rusqlite::Result<u64> {
    connection.query_row("SELECT records FROM usage_counted", (), |row| {
        row.get(0).map(unsigned)
    })
}

/// The releases among the next records, and the index after those; none after the last.
fn batch_from(connection: &Connection, from: u64) -> rusqlite::Result<(Tally, Option<u64>)> {
    let (mut batch, mut next) = (Tally::default(), None);
    let mut select = connection.prepare_cached(
        "SELECT record_index, bytes FROM record WHERE record_index >= ?1
         ORDER BY record_index LIMIT ?2",
    )?;
    let mut rows = select.query((row_id(from), CATCH_UP_LEN))?;
    while let Some(row) = rows.next()? {
        let index = unsigned(row.get(0)?);
        next = Some(index.saturating_add(1));
        let bytes: Vec<u8> = row.get(1)?;
        // One that cannot be read is the auditor's find, not a reason to stand still.
        match v1::Record::decode(bytes.as_slice()) {
            Ok(record) if record.outcome() == v1::Outcome::Released => {
                batch.count(&record.keypair_id, &record.caller, UnixMs(record.time_ms));
            }
            Ok(_) => {}
            Err(_) => tracing::warn!(index, "a record of the audit log cannot be read"),
        }
    }
    Ok((batch, next))
}

fn all(connection: &Connection) -> rusqlite::Result<Tally> {
    let mut all = Tally::default();
    let mut select =
        connection.prepare("SELECT keypair_id, caller, released, first_ms, last_ms FROM usage")?;
    let mut rows = select.query(())?;
    while let Some(row) = rows.next()? {
        let id: [u8; 16] = row.get(0)?;
        let Ok(id) = KeypairId::try_from(&id[..]) else {
            continue;
        };
        let usage = Usage {
            released: unsigned(row.get(2)?),
            first: Some(UnixMs(unsigned(row.get(3)?))),
            last: Some(UnixMs(unsigned(row.get(4)?))),
        };
        all.add(id, row.get_ref(1)?.as_str()?, usage);
    }
    Ok(all)
}
