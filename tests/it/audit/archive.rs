//! Archived and dropped records: what stays verifies, alone and with the archive; whatever is changed of
//! either is refused by name; and a crash leaves a drop whole or undone.

mod changed;
mod crash;

use kekd::audit::archive::{Archive, ArchiveWriter, Span};
use kekd::audit::{
    AuditReader, Before, DropRefused, Dropping, Expectations, Filter, Mismatch, PageMax, Stub,
    Verified,
};
use kekd::merkle::{leaf_hash, verify_consistency, verify_inclusion};

use super::tree::Signer;
use super::*;

pub const DAY_MS: u64 = 86_400_000;
pub const FIRST_DAY: UnixMs = UnixMs(1_795_219_200_000);

fn open_on(dir: &Path, day: u64, days: u64) -> Journal {
    let config = AuditConfig {
        retention_days_min: days,
        ..AuditConfig::default()
    };
    open_at(dir, config, UnixMs(FIRST_DAY.0 + day * DAY_MS)).unwrap()
}

async fn release(journal: &Journal, count: usize) {
    let mut callers = JoinSet::new();
    for caller in 0..64 {
        let journal = journal.clone();
        callers.spawn(async move {
            for n in (caller..count).step_by(64) {
                let sealed = Sealed::new(());
                let released = journal.record_and_release(draft(&format!("r-{n}")), sealed);
                released.await.unwrap();
            }
        });
    }
    callers.join_all().await;
}

/// Writes an archive as `kekctl audit archive` does.
pub fn write_archive(reader: &AuditReader, span: &Span, path: &Path) {
    let file = fs::File::create(path).unwrap();
    let mut archive = ArchiveWriter::begin(file, span).unwrap();
    let mut next = span.range.start;
    while next < span.range.end {
        let max = PageMax {
            records: usize::try_from((span.range.end - next).min(4096)).unwrap(),
            bytes: usize::MAX,
        };
        let page = reader.page(&Filter::default(), next, max).unwrap();
        for (_, bytes) in &page.records {
            archive.push(bytes).unwrap();
        }
        next = page.next;
    }
    archive.finish().unwrap();
}

fn archive(journal: &Journal, before: Before, signer: &Signer, path: &Path) -> Archive {
    let reader = journal.reader();
    let retention = reader.retention(before, &signer.key).unwrap();
    write_archive(&reader, &retention.archivable.unwrap(), path);
    Archive::open(path, Some(&signer.key), &mut |_, _| ()).unwrap()
}

pub fn order(archive: &Archive, anchored: u64) -> Dropping {
    Dropping {
        range: archive.span().range.clone(),
        archive: archive.sha256(),
        tiles: archive.tiles_digest(),
        anchored,
    }
}

async fn dropped(journal: &Journal, archive: &Archive) -> Result<Stub, AuditError> {
    let order = order(archive, journal.head().size);
    journal.drop_archived(order, draft("drop")).await
}

fn verify(path: &Path, signer: &Signer, archives: &[Archive]) -> Result<Verified, AuditError> {
    let expect = Expectations {
        instance_id: Some(instance()),
        log_key: Some(signer.key.clone()),
        checkpoint: None,
    };
    AuditReader::of_copy(path)?.verify_with(&expect, archives, &mut |_, _| ())
}

fn mismatch(result: Result<Verified, AuditError>) -> Mismatch {
    match result {
        Err(AuditError::Mismatch { mismatch, .. }) => mismatch,
        other => panic!("{other:?}"),
    }
}

/// Waits until the rows of dropped records are removed.
pub async fn swept(dir: &Path, kept: u64) {
    let connection = Connection::open(dir.join("audit.db")).unwrap();
    for _ in 0..1000 {
        let lowest: i64 = connection
            .query_row("SELECT min(record_index) FROM record", (), |row| row.get(0))
            .unwrap();
        if lowest == i64::try_from(kept).unwrap() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("rows before {kept} are still there");
}

/// A log of 5,000 records over two days, with checkpoints, of which the first 3,072 were dropped at two
/// times; and their archives.
async fn twice_dropped() -> (tempfile::TempDir, Signer, Vec<Archive>) {
    let signer = Signer::new();
    let dir = tempfile::tempdir().unwrap();
    Journal::create(dir.path(), &instance()).unwrap();
    let journal = open_on(dir.path(), 0, 0);
    release(&journal, 1500).await;
    signer.checkpoint(&journal).await;
    release(&journal, 600).await;
    journal.close().await.unwrap();
    let journal = open_on(dir.path(), 1, 0);
    release(&journal, 2900).await;
    signer.checkpoint(&journal).await;
    let mut archives = Vec::new();
    for (n, index) in [1024, 3072].into_iter().enumerate() {
        let path = dir.path().join(format!("archive-{n}"));
        let archive = archive(&journal, Before::Index(index), &signer, &path);
        dropped(&journal, &archive).await.unwrap();
        archives.push(archive);
        signer.checkpoint(&journal).await;
    }
    swept(dir.path(), 3072).await;
    journal.close().await.unwrap();
    (dir, signer, archives)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_dropped_stays_provable_and_the_log_goes_on() {
    let (dir, signer, archives) = twice_dropped().await;
    let path = dir.path().join("audit.db");
    let journal = open_on(dir.path(), 2, 0);
    let id = "6f9619ff-8b86-4011-b42d-00cf4fc964ff".parse().unwrap();
    assert_eq!(journal.usage(&id).released, 5000, "uses survive");
    release(&journal, 100).await;
    let (_, anchor) = signer.checkpoint(&journal).await;
    let head = journal.head();
    assert_eq!(head.size, 5102);
    journal.close().await.unwrap();

    let journal = open_on(dir.path(), 2, 0);
    journal.judge(&signer.key, &[anchor]).unwrap();
    let reader = journal.reader();
    let origin = audit::origin(&instance());
    for index in [0, 1023, 1024, 3071] {
        let refused = reader.prove(index, &origin, &signer.key).unwrap_err();
        let of = &archives[usize::from(index > 1023)];
        assert!(
            refused.to_string().contains(&of.sha256().to_string()),
            "{refused}"
        );
        let proof = of.prove(index).unwrap();
        let of_log = proof.check(&instance(), &signer.key).unwrap();
        assert_eq!((of_log.0, of_log.1.index), (of.head(), index));
    }
    assert!(archives[0].prove(1024).is_err());
    for index in [3072, 4095, 4999, 5000, 5101] {
        let proof = reader.prove(index, &origin, &signer.key).unwrap();
        verify_inclusion(leaf_hash(&proof.record), index, head, &proof.hashes).unwrap();
    }
    for old in [0, 1024, 2048, 3072, 3073, 5000, 5102] {
        let proof = reader.prove_growth(old, &origin, &signer.key).unwrap();
        verify_consistency(proof.old, head, &proof.hashes).unwrap();
    }
    let refused = reader.prove_growth(2000, &origin, &signer.key).unwrap_err();
    assert!(
        matches!(refused, AuditError::Archived { index: 2000, .. }),
        "{refused}"
    );
    let all = PageMax {
        records: 10_000,
        bytes: usize::MAX,
    };
    let on = |day: u64| Filter {
        since: Some(UnixMs(FIRST_DAY.0 + day * DAY_MS)),
        until: Some(UnixMs(FIRST_DAY.0 + (day + 1) * DAY_MS)),
        ..Filter::default()
    };
    // Never a gap; and no refusal where the tiles' times say that nothing is missing.
    for (filter, from, expected) in [
        (Filter::default(), 0, None),
        (Filter::default(), 3071, None),
        (Filter::default(), 3072, Some(2030)),
        (on(0), 0, None),
        (on(0), 3072, Some(0)),
        (on(1), 0, None),
        (on(2), 0, Some(100)),
    ] {
        match (reader.page(&filter, from, all), expected) {
            (Ok(page), Some(expected)) => assert_eq!(page.records.len(), expected),
            (Err(AuditError::Archived { .. }), None) => {}
            (other, _) => panic!("{filter:?} from {from}: {other:?}"),
        }
    }
    drop(reader);
    journal.close().await.unwrap();

    let alone = verify(&path, &signer, &[]).unwrap();
    assert_eq!((alone.head, alone.signed), (head, Some(head)));
    assert_eq!(
        alone
            .archived
            .iter()
            .map(|(stub, _)| stub.range())
            .collect::<Vec<_>>(),
        [0..1024, 1024..3072]
    );
    // The checkpoint at 1,500 is within what was dropped.
    assert_eq!((alone.unheld, alone.checkpoints), (1, 5));
    let whole = verify(&path, &signer, &archives).unwrap();
    assert_eq!((whole.unheld, whole.times), (0, alone.times));
    assert!(whole.archived.iter().all(|(_, is_verified)| *is_verified));
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_dropped_that_is_not_archived_old_and_anchored() {
    let signer = Signer::new();
    let dir = tempfile::tempdir().unwrap();
    Journal::create(dir.path(), &instance()).unwrap();
    let journal = open_on(dir.path(), 0, 30);
    release(&journal, 2500).await;
    let nothing = journal
        .reader()
        .retention(Before::Now, &signer.key)
        .unwrap();
    assert_eq!(nothing.archivable, None, "nothing is signed");
    signer.checkpoint(&journal).await;
    let wanted = |before| journal.reader().retention(before, &signer.key).unwrap();
    assert_eq!(wanted(Before::Index(1023)).archivable, None);
    assert_eq!(wanted(Before::Time(FIRST_DAY)).archivable, None);
    assert_eq!(
        wanted(Before::Index(2047)).archivable.unwrap().range,
        0..1024
    );
    let day = Before::Time(UnixMs(FIRST_DAY.0 + 1));
    assert_eq!(wanted(day).archivable.unwrap().range, 0..2048);
    let path = dir.path().join("archive");
    let archive = archive(&journal, Before::Now, &signer, &path);
    let right = order(&archive, 2500);
    let before = journal.head();
    for (wrong, expected) in [
        (
            Dropping {
                range: 1024..2048,
                ..right.clone()
            },
            DropRefused::NotNext {
                expected: 0,
                found: 1024,
            },
        ),
        (
            Dropping {
                range: 0..2000,
                ..right.clone()
            },
            DropRefused::NotTiles {
                first: 0,
                until: 2000,
            },
        ),
        (
            Dropping {
                range: 0..0,
                ..right.clone()
            },
            DropRefused::NotTiles { first: 0, until: 0 },
        ),
        (
            Dropping {
                range: 0..4096,
                ..right.clone()
            },
            DropRefused::NotAnchored {
                anchored: 2500,
                until: 4096,
            },
        ),
        (
            Dropping {
                anchored: 2047,
                ..right.clone()
            },
            DropRefused::NotAnchored {
                anchored: 2047,
                until: 2048,
            },
        ),
        (
            Dropping {
                tiles: Sha256::of(b""),
                ..right.clone()
            },
            DropRefused::OtherTiles {
                expected: right.tiles,
                found: Sha256::of(b""),
            },
        ),
        (
            right.clone(),
            DropRefused::TooYoung {
                latest: FIRST_DAY,
                days: 30,
            },
        ),
    ] {
        match journal.drop_archived(wrong, draft("drop")).await {
            Err(AuditError::NotDropped(refused)) => assert_eq!(refused, expected),
            other => panic!("{expected}: {other:?}"),
        }
        assert_eq!(journal.head(), before);
        assert!(journal.status().writable);
    }
    journal.close().await.unwrap();

    let journal = open_on(dir.path(), 30, 30);
    let stub = dropped(&journal, &archive).await.unwrap();
    assert_eq!((stub.record_index, journal.head().size), (2500, 2501));
    // The answer was lost: asked again, nothing more is dropped or written.
    assert_eq!(dropped(&journal, &archive).await.unwrap(), stub);
    assert_eq!(journal.head().size, 2501);
    swept(dir.path(), 2048).await;
    let found = audit::read(dir.path(), 2500, 1).unwrap().pop().unwrap().1;
    let record = v1::Record::decode(found.as_slice()).unwrap();
    assert_eq!(record.outcome(), v1::Outcome::RecordsArchived);
    assert_eq!((record.archived_from, record.archived_until), (0, 2048));
    assert_eq!(record.archive_sha256, archive.sha256().as_bytes());
    journal.close().await.unwrap();
    // Nobody removes another row, or a stub.
    let connection = Connection::open(dir.path().join("audit.db")).unwrap();
    for sql in [
        "DELETE FROM record",
        "DELETE FROM leaf",
        "DELETE FROM stub",
        "UPDATE stub SET signed = 0",
    ] {
        assert!(connection.execute(sql, ()).is_err(), "{sql}");
    }
}
