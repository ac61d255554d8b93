//! A small log, damaged in every way there is: a verification names the first record that is not as
//! it was written, every time.

use kekd::audit::{AuditReader, Expectations, Mismatch};
use kekd::merkle::LogKey;

use super::tree::Signer;
use super::*;

const SIZE: usize = 24;

/// A small log with three checkpoints, the last of which does not cover all.
async fn small_log() -> (tempfile::TempDir, Signer) {
    let signer = Signer::new();
    let (dir, journal) = created();
    for n in 0..SIZE {
        journal.record(draft(&format!("r-{n}"))).await.unwrap();
        if [7, 15, 20].contains(&n) {
            signer.checkpoint(&journal).await;
        }
    }
    journal.close().await.unwrap();
    let connection = Connection::open(dir.path().join("audit.db")).unwrap();
    let triggers: Vec<String> = connection
        .prepare("SELECT name FROM sqlite_schema WHERE type = 'trigger'")
        .unwrap()
        .query_map((), |row| row.get(0))
        .unwrap()
        .collect::<Result<_, _>>()
        .unwrap();
    for trigger in triggers {
        connection
            .execute_batch(&format!("DROP TRIGGER {trigger}"))
            .unwrap();
    }
    connection
        .pragma_update(None, "journal_mode", "delete")
        .unwrap();
    (dir, signer)
}

/// What a verification says of the log after this damage, of which nothing is left.
fn found(dir: &Path, key: &LogKey, damage: &str) -> Mismatch {
    let path = dir.join("audit.db");
    let pristine = fs::read(&path).unwrap();
    let connection = Connection::open(&path).unwrap();
    connection
        .pragma_update(None, "synchronous", "OFF")
        .unwrap();
    connection.execute_batch(damage).unwrap();
    drop(connection);
    let found = verified(&path, key);
    fs::write(&path, pristine).unwrap();
    found.expect_err(damage)
}

fn verified(path: &Path, key: &LogKey) -> Result<(), Mismatch> {
    let expect = Expectations {
        log_key: Some(key.clone()),
        ..Expectations::default()
    };
    let reader = AuditReader::of_copy(path).unwrap();
    match reader.verify(&expect, &mut |_, _| ()) {
        Ok(_) => Ok(()),
        Err(AuditError::Mismatch { mismatch, .. }) => Err(mismatch),
        Err(other) => panic!("{other}"),
    }
}

/// The first bad record, as the error names it.
fn named(found: &Mismatch) -> u64 {
    if let Mismatch::RecordMissing { index }
    | Mismatch::RecordChanged { index, .. }
    | Mismatch::RecordMoved { index, .. }
    | Mismatch::LeafMissing { index }
    | Mismatch::Unreadable { index, .. } = found
    {
        return *index;
    }
    let Mismatch::ShorterThanSigned { found, .. } = found else {
        panic!("{found:?} names no record");
    };
    *found
}

#[tokio::test]
async fn every_flip_drop_swap_and_duplicate_names_its_record() {
    let (dir, signer) = small_log().await;
    let key = &signer.key;
    verified(&dir.path().join("audit.db"), key).unwrap();
    let found = |damage: &str| named(&found(dir.path(), key, damage));
    for at in 0..SIZE {
        let index = u64::try_from(at).unwrap();
        let drop_both = format!(
            "DELETE FROM record WHERE record_index = {at}; DELETE FROM leaf WHERE record_index = {at}"
        );
        assert_eq!(
            found(&format!("DELETE FROM record WHERE record_index = {at}")),
            index
        );
        assert_eq!(
            found(&format!("DELETE FROM leaf WHERE record_index = {at}")),
            index
        );
        if at < 20 {
            assert_eq!(found(&drop_both), index);
        }
        for other in 0..SIZE {
            if at == other {
                continue;
            }
            let copied = |table: &str, column: &str| {
                format!(
                    "UPDATE {table} SET {column} = (SELECT {column} FROM {table} WHERE
                     record_index = {other}) WHERE record_index = {at};"
                )
            };
            // Over another, alone and with its leaf hash.
            let (record, leaf) = (copied("record", "bytes"), copied("leaf", "hash"));
            assert_eq!(found(&record), index, "{other} over {at}");
            assert_eq!(
                found(&format!("{record}{leaf}")),
                index,
                "{other} over {at}"
            );
            assert_eq!(found(&leaf), index);
            if at < other {
                let swapped = |table: &str| {
                    format!(
                        "UPDATE {table} SET record_index = 999 WHERE record_index = {at};
                         UPDATE {table} SET record_index = {at} WHERE record_index = {other};
                         UPDATE {table} SET record_index = {other} WHERE record_index = 999;"
                    )
                };
                assert_eq!(found(&swapped("record")), index, "{at} and {other}");
                let both = format!("{}{}", swapped("record"), swapped("leaf"));
                assert_eq!(found(&both), index, "{at} and {other}");
            }
        }
        // Once more at the end, alone and with a leaf hash.
        let again = format!(
            "INSERT INTO record SELECT {SIZE}, bytes FROM record WHERE record_index = {at};"
        );
        let end = u64::try_from(SIZE).unwrap();
        assert_eq!(found(&again), end);
        let leaf =
            format!("INSERT INTO leaf SELECT {SIZE}, hash FROM leaf WHERE record_index = {at}");
        assert_eq!(found(&format!("{again}{leaf}")), end);
    }
}

#[tokio::test]
async fn every_byte_of_every_record_counts() {
    let (dir, signer) = small_log().await;
    let path = dir.path().join("audit.db");
    let expect = Expectations {
        log_key: Some(signer.key.clone()),
        ..Expectations::default()
    };
    let connection = Connection::open(&path).unwrap();
    connection
        .pragma_update(None, "synchronous", "OFF")
        .unwrap();
    let mut flips = 0;
    for (index, bytes) in audit::read(dir.path(), 0, SIZE).unwrap() {
        let mut put = connection
            .prepare("UPDATE record SET bytes = ?2 WHERE record_index = ?1")
            .unwrap();
        let row = i64::try_from(index).unwrap();
        for at in 0..bytes.len() {
            let mut flipped = bytes.clone();
            flipped[at] ^= 1 << (at % 8);
            put.execute((row, flipped)).unwrap();
            let found = AuditReader::of_copy(&path)
                .unwrap()
                .verify(&expect, &mut |_, _| ());
            match found {
                Err(AuditError::Mismatch { mismatch, .. }) => {
                    assert_eq!(named(&mismatch), index, "byte {at}");
                }
                other => panic!("byte {at} of {index}: {other:?}"),
            }
            flips += 1;
        }
        put.execute((row, bytes)).unwrap();
    }
    assert!(flips > 2000, "{flips}");
    verified(&path, &signer.key).unwrap();
}

/// Records and hashes changed together are pinned down by the checkpoints around them.
#[tokio::test]
async fn what_is_rewritten_with_its_hash_is_between_two_checkpoints() {
    let (dir, signer) = small_log().await;
    let path = dir.path().join("audit.db");
    for (at, from, size) in [(0, 0, 8), (7, 0, 8), (8, 8, 16), (16, 16, 21), (20, 16, 21)] {
        let (_, bytes) = audit::read(dir.path(), at, 1).unwrap().pop().unwrap();
        let mut record = v1::Record::decode(bytes.as_slice()).unwrap();
        record.caller = "spiffe://test/somebody-else".to_owned();
        let bytes = record.encode_to_vec();
        let hex = |bytes: &[u8]| bytes.iter().map(|b| format!("{b:02x}")).collect::<String>();
        let damage = format!(
            "UPDATE record SET bytes = x'{}' WHERE record_index = {at};
             UPDATE leaf SET hash = x'{}' WHERE record_index = {at}",
            hex(&bytes),
            kekd::merkle::leaf_hash(&bytes)
        );
        let found = found(dir.path(), &signer.key, &damage);
        let is_between = matches!(
            found,
            Mismatch::Rewritten { from: f, size: s, .. } if (f, s) == (from, size)
        );
        assert!(is_between, "{found}");
    }
    let stranger = Signer::new().key;
    let refused = verified(&path, &stranger).unwrap_err();
    assert!(matches!(
        refused,
        Mismatch::CheckpointRefused { size: 8, .. }
    ));
    let moved = "UPDATE checkpoint SET size = 9 WHERE size = 8";
    let refused = found(dir.path(), &signer.key, moved);
    assert!(matches!(
        refused,
        Mismatch::CheckpointRefused { size: 9, .. }
    ));
    // An older copy needs a checkpoint from outside to be seen.
    let cut = "DELETE FROM record WHERE record_index > 9; DELETE FROM leaf WHERE record_index > 9";
    let refused = found(dir.path(), &signer.key, cut);
    assert!(matches!(
        refused,
        Mismatch::ShorterThanSigned {
            expected: 16,
            found: 10
        }
    ));
}
