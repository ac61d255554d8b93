//! A million records: how long a start, a verification and questions take, printed beside the size of
//! the file (`make audit-million`). Nothing is asserted of a clock.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use kekd::audit::{Archive, AuditReader, Before, Expectations, Filter, PageMax};

use super::archive::{order, swept, write_archive};
use super::tree::Signer;
use super::*;

const DAYS: u64 = 10;
const DAY_MS: u64 = 86_400_000;
const FIRST_DAY_MS: u64 = 1_795_219_200_000;

/// A tenth of the records: a million, or as many as `AUDIT_RECORDS` says.
#[expect(
    clippy::disallowed_methods,
    reason = "how long it takes is for whoever runs it"
)]
fn a_day() -> usize {
    let records = std::env::var_os("AUDIT_RECORDS");
    let records: usize = records.map_or(1_000_000, |it| it.to_str().unwrap().parse().unwrap());
    (records / 1000).max(10) * 100
}

async fn write_a_day(dir: &Path, day: u64, signer: &Signer) -> Vec<u8> {
    let config = AuditConfig {
        queue_len_max: 65_536,
        batch_len_max: 8192,
        sync_timeout_ms: 60_000,
        ..AuditConfig::default()
    };
    let clock = Clock::Fixed(UnixMs(FIRST_DAY_MS + day * DAY_MS));
    let journal = Journal::open(dir, &instance(), "node-a".to_owned(), config, clock).unwrap();
    let mut callers = JoinSet::new();
    for caller in 0..a_day() / 100 {
        let journal = journal.clone();
        callers.spawn(async move {
            for n in 0..100 {
                let draft = Draft {
                    caller: format!("spiffe://test/lkm-{}", caller % 10),
                    kek: Some(format!("kek-{}", n % 4).parse().unwrap()),
                    ..draft(&format!("d{day}-c{caller}-{n}"))
                };
                let released = journal.record_and_release(draft, Sealed::new(()));
                released.await.unwrap();
            }
        });
    }
    callers.join_all().await;
    let (_, anchor) = signer.checkpoint(&journal).await;
    journal.close().await.unwrap();
    anchor
}

fn ask(reader: &AuditReader, filter: &Filter) -> usize {
    let max = PageMax {
        records: 4096,
        bytes: 1 << 20,
    };
    let (mut from, mut found) = (0, 0);
    loop {
        let page = reader.page(filter, from, max).unwrap();
        found += page.records.len();
        if page.next >= page.size {
            return found;
        }
        from = page.next;
    }
}

#[expect(clippy::print_stdout, reason = "the figures are what this is for")]
fn timed<T>(what: &str, act: impl FnOnce() -> T) -> T {
    let started = Instant::now();
    let done = act();
    println!(
        "{what:<52} {:>9.1} ms",
        started.elapsed().as_secs_f64() * 1e3
    );
    done
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "writes a million records; make audit-million"]
#[expect(clippy::print_stdout, reason = "the figures are what this is for")]
async fn a_million_records() {
    let signer = Signer::new();
    let dir = tempfile::tempdir().unwrap();
    Journal::create(dir.path(), &instance()).unwrap();
    let mut anchor = Vec::new();
    let started = Instant::now();
    for day in 0..DAYS {
        anchor = write_a_day(dir.path(), day, &signer).await;
    }
    let path = dir.path().join("audit.db");
    let len = fs::metadata(&path).unwrap().len();
    let size = DAYS * u64::try_from(a_day()).unwrap();
    println!(
        "{size} records, {} MiB, {} bytes a record",
        len >> 20,
        len / size
    );
    println!(
        "written in {:.1} s, a thousand callers",
        started.elapsed().as_secs_f64()
    );

    let journal = timed("start: open", || open(dir.path()).unwrap());
    timed("start: judge by checkpoint and anchor", || {
        journal.judge(&signer.key, &[anchor]).unwrap()
    });
    assert_eq!(journal.head().size, size);
    let reader = journal.reader();
    let day = |day: u64| Filter {
        since: Some(UnixMs(FIRST_DAY_MS + day * DAY_MS)),
        until: Some(UnixMs(FIRST_DAY_MS + (day + 1) * DAY_MS)),
        ..Filter::default()
    };
    let one = Filter {
        kek: Some("kek-1".to_owned()),
        ..day(7)
    };
    let found = timed("who unwrapped under one KEK on one day", || {
        ask(&reader, &one)
    });
    assert_eq!(found, a_day() / 4);
    let none = timed("a day without records", || ask(&reader, &day(77)));
    assert_eq!(none, 0);
    let caller = Filter {
        caller: Some("spiffe://test/lkm-3".to_owned()),
        end_user: Some("nobody".to_owned()),
        ..Filter::default()
    };
    assert_eq!(
        timed("one caller and end user, all days", || ask(
            &reader, &caller
        )),
        0
    );
    let origin = audit::origin(&instance());
    timed("proof of inclusion", || {
        reader.prove(size / 8, &origin, &signer.key).unwrap()
    });
    timed("proof of consistency", || {
        reader.prove_growth(size / 8, &origin, &signer.key).unwrap()
    });
    drop(reader);
    journal.close().await.unwrap();

    let expect = Expectations {
        log_key: Some(signer.key.clone()),
        ..Expectations::default()
    };
    let copy = timed("verify: open the copy", || {
        AuditReader::of_copy(&path).unwrap()
    });
    let verified = timed("verify: every record", || {
        copy.verify(&expect, &mut |_, _| ()).unwrap()
    });
    assert_eq!((verified.head.size, verified.checkpoints), (size, DAYS));
    drop(copy);
    let connection = Connection::open(&path).unwrap();
    let sql = "DROP TABLE leaf; DROP TABLE tile; DROP TABLE checkpoint";
    connection.execute_batch(sql).unwrap();
    drop(connection);
    let journal = timed("start of a log of a kekd without a tree, once", || {
        open(dir.path()).unwrap()
    });
    assert_eq!(journal.head(), verified.head);
    signer.checkpoint(&journal).await;
    journal.close().await.unwrap();
    drop_half(dir.path(), &signer).await;
    let copy = AuditReader::of_copy(&path).unwrap();
    timed("verify: the half that is kept, and the stub", || {
        copy.verify(&expect, &mut |_, _| ()).unwrap()
    });
}

/// Archives and drops the older half, while somebody releases; what the slowest release took, and what
/// became of the space.
#[expect(clippy::print_stdout, reason = "the figures are what this is for")]
async fn drop_half(dir: &Path, signer: &Signer) {
    let config = AuditConfig {
        retention_days_min: 0,
        ..AuditConfig::default()
    };
    let later = UnixMs(FIRST_DAY_MS + 2 * DAYS * DAY_MS);
    let journal = open_at(dir, config, later).unwrap();
    let (reader, file) = (journal.reader(), dir.join("archive"));
    let half = Before::Index(journal.head().size / 2);
    let span = timed("archive: the proof of the older half", || {
        reader
            .retention(half, &signer.key)
            .unwrap()
            .archivable
            .unwrap()
    });
    timed("archive: write it", || write_archive(&reader, &span, &file));
    let archive = timed("archive: read it back and verify", || {
        Archive::open(&file, Some(&signer.key), &mut |_, _| ()).unwrap()
    });
    let len = || fs::metadata(dir.join("audit.db")).unwrap().len() >> 20;
    println!(
        "archive of {} records: {} MiB; the log: {} MiB",
        span.range.end,
        fs::metadata(&file).unwrap().len() >> 20,
        len()
    );
    let is_swept = Arc::new(AtomicBool::new(false));
    let releases = |count: usize, until: Arc<AtomicBool>, journal: Journal| async move {
        let (mut longest, mut n) = (Duration::ZERO, 0);
        while n < count && !until.load(Ordering::Relaxed) {
            let started = Instant::now();
            let released = journal.record_and_release(draft("beside"), Sealed::new(()));
            released.await.unwrap();
            longest = longest.max(started.elapsed());
            n += 1;
        }
        (longest, n)
    };
    let (longest, n) = releases(3000, Arc::default(), journal.clone()).await;
    println!("slowest of {n} releases, one after the other: {longest:?}");
    let beside = tokio::spawn(releases(usize::MAX, Arc::clone(&is_swept), journal.clone()));
    let started = Instant::now();
    let order = order(&archive, journal.head().size);
    let kept = order.range.end;
    journal.drop_archived(order, draft("drop")).await.unwrap();
    println!("drop: answered after {:?}", started.elapsed());
    swept(dir, kept).await;
    println!("drop: rows removed after {:?}", started.elapsed());
    is_swept.store(true, Ordering::Relaxed);
    let (longest, n) = beside.await.unwrap();
    println!("slowest of {n} releases meanwhile: {longest:?}");
    signer.checkpoint(&journal).await;
    drop(reader);
    journal.close().await.unwrap();
    let connection = Connection::open(dir.join("audit.db")).unwrap();
    let free = |what: &str| -> i64 {
        connection
            .pragma_query_value(None, what, |row| row.get(0))
            .unwrap()
    };
    println!(
        "the log: {} MiB, of which {} MiB are free for new records",
        len(),
        (free("freelist_count") * free("page_size")) >> 20
    );
}
