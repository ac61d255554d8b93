//! A million records: how long a start, a verification and questions take, printed beside the size of
//! the file (`make audit-million`). Nothing is asserted of a clock.

use std::time::Instant;

use kekd::audit::{AuditReader, Expectations, Filter, PageMax};

use super::tree::Signer;
use super::*;

const DAYS: u64 = 10;
const A_DAY: usize = 100_000;
const DAY_MS: u64 = 86_400_000;
const FIRST_DAY_MS: u64 = 1_795_219_200_000;

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
    for caller in 0..A_DAY / 100 {
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
    let size = DAYS * u64::try_from(A_DAY).unwrap();
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
    assert_eq!(found, A_DAY / 4);
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
        reader.prove(123_456, &origin, &signer.key).unwrap()
    });
    timed("proof of consistency", || {
        reader.prove_growth(123_456, &origin, &signer.key).unwrap()
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
    let connection = Connection::open(&path).unwrap();
    let sql = "DROP TABLE leaf; DROP TABLE tile; DROP TABLE checkpoint";
    connection.execute_batch(sql).unwrap();
    drop(connection);
    let journal = timed("start of a log of a kekd without a tree, once", || {
        open(dir.path()).unwrap()
    });
    assert_eq!(journal.head(), verified.head);
}
