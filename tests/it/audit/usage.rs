//! What the log says of the use of key pairs: right at once, after a restart, and for files that were
//! written by a kekd that did not count.

use kekd::audit::Usage;
use kekd::types::KeypairId;

use super::*;

const DAY: u64 = 86_400_000;

fn id(n: u8) -> KeypairId {
    KeypairId::from_random([n; 16])
}

fn of(n: u8, outcome: Outcome) -> Draft {
    Draft {
        keypair_id: id(n).to_string(),
        outcome,
        ..draft("r")
    }
}

fn open_at(dir: &Path, at: u64) -> Journal {
    super::open_at(dir, AuditConfig::default(), UnixMs(at)).unwrap()
}

fn used(released: u64, first: u64, last: u64) -> Usage {
    Usage {
        released,
        first: Some(UnixMs(first)),
        last: Some(UnixMs(last)),
    }
}

async fn release(journal: &Journal, n: u8) {
    let sealed = Sealed::new(());
    let released = journal.record_and_release(of(n, Outcome::Refused), sealed);
    released.await.unwrap();
}

/// A hundred releases over three keys, many at once, and as many attempts that released nothing.
async fn a_hundred_releases(journal: &Journal) {
    let mut under_way = JoinSet::new();
    for n in 0..100 {
        let journal = journal.clone();
        under_way.spawn(async move {
            let key = match n {
                0..50 => 1,
                50..80 => 2,
                _ => 3,
            };
            release(&journal, key).await;
            let nothing = [
                Outcome::Refused,
                Outcome::Undecryptable,
                Outcome::Unavailable,
                Outcome::ConnectionRefused,
            ];
            let outcome = nothing[usize::from(n % 4)];
            journal.record(of(n % 5, outcome)).await.unwrap();
        });
    }
    under_way.join_all().await;
}

fn require_a_hundred(journal: &Journal) {
    assert_eq!(journal.usage(&id(1)), used(50, DAY, DAY));
    assert_eq!(journal.usage(&id(2)), used(30, DAY, DAY));
    assert_eq!(journal.usage(&id(3)), used(20, DAY, DAY));
    let by_caller = journal.usage_by_caller(&id(1));
    assert_eq!(
        by_caller,
        [("spiffe://test/lkm".to_owned(), used(50, DAY, DAY))]
    );
    for never in [0, 4, 9] {
        assert_eq!(journal.usage(&id(never)), Usage::default());
    }
}

fn sql(dir: &Path, batch: &str) {
    let connection = Connection::open(dir.join("audit.db")).unwrap();
    connection.execute_batch(batch).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn releases_are_counted_at_once_and_refusals_never() {
    let dir = tempfile::tempdir().unwrap();
    Journal::create(dir.path(), &instance()).unwrap();
    let journal = open_at(dir.path(), DAY);
    a_hundred_releases(&journal).await;
    require_a_hundred(&journal);
    journal.close().await.unwrap();

    // The same after a restart, and further from there, also with a clock that was turned back.
    let journal = open_at(dir.path(), 3 * DAY);
    require_a_hundred(&journal);
    release(&journal, 1).await;
    assert_eq!(journal.usage(&id(1)), used(51, DAY, 3 * DAY));
    journal.close().await.unwrap();
    let journal = open_at(dir.path(), 5);
    release(&journal, 1).await;
    assert_eq!(journal.usage(&id(1)), used(52, 5, 3 * DAY));
    journal.close().await.unwrap();
    let journal = open_at(dir.path(), DAY);
    assert_eq!(journal.usage(&id(1)), used(52, 5, 3 * DAY));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_does_not_count_is_counted_once() {
    let dir = tempfile::tempdir().unwrap();
    Journal::create(dir.path(), &instance()).unwrap();
    let journal = open_at(dir.path(), DAY);
    a_hundred_releases(&journal).await;
    journal.close().await.unwrap();
    // As a kekd left it that did not count by caller.
    sql(
        dir.path(),
        "DROP TABLE usage; CREATE TABLE usage (keypair_id BLOB PRIMARY KEY, released INTEGER,
         first_ms INTEGER, last_ms INTEGER) STRICT, WITHOUT ROWID",
    );
    open_at(dir.path(), 2 * DAY).close().await.unwrap();
    sql(dir.path(), "DROP TABLE usage; DROP TABLE usage_counted");
    let before = records(dir.path());

    let journal = open_at(dir.path(), 2 * DAY);
    require_a_hundred(&journal);
    release(&journal, 2).await;
    assert_eq!(journal.usage(&id(2)), used(31, DAY, 2 * DAY));
    journal.close().await.unwrap();
    let journal = open_at(dir.path(), 2 * DAY);
    assert_eq!(journal.usage(&id(2)), used(31, DAY, 2 * DAY));
    assert_eq!(records(dir.path())[..before.len()], before);
}

/// An older kekd goes on with the file: it writes records and leaves the counts behind.
#[tokio::test(flavor = "multi_thread")]
async fn counts_that_fell_behind_catch_up() {
    let dir = tempfile::tempdir().unwrap();
    Journal::create(dir.path(), &instance()).unwrap();
    let journal = open_at(dir.path(), DAY);
    a_hundred_releases(&journal).await;
    journal.close().await.unwrap();
    let record = v1::Record {
        index: 200,
        time_ms: 2 * DAY,
        keypair_id: id(3).to_string(),
        outcome: v1::Outcome::Released.into(),
        ..v1::Record::default()
    };
    let connection = Connection::open(dir.path().join("audit.db")).unwrap();
    let insert = "INSERT INTO record (record_index, bytes) VALUES (200, ?1)";
    connection
        .execute(insert, [record.encode_to_vec()])
        .unwrap();
    drop(connection);
    let journal = open_at(dir.path(), DAY);
    assert_eq!(journal.usage(&id(3)), used(21, DAY, 2 * DAY));
    assert_eq!(journal.usage(&id(1)), used(50, DAY, DAY));
    journal.close().await.unwrap();

    // Counts of more records than there are belong to another file.
    sql(dir.path(), "UPDATE usage_counted SET records = 1000");
    let journal = open_at(dir.path(), DAY);
    assert_eq!(journal.usage(&id(3)), used(21, DAY, 2 * DAY));
    assert_eq!(journal.usage(&id(1)), used(50, DAY, DAY));
}

/// What was not written was not counted.
#[tokio::test]
async fn a_release_that_is_not_on_record_is_not_counted() {
    let (dir, journal) = created();
    fs::remove_file(dir.path().join("audit.db")).unwrap();
    let released = journal.record_and_release(of(1, Outcome::Refused), Sealed::new(()));
    assert!(released.await.is_err());
    assert_eq!(journal.usage(&id(1)), Usage::default());
}

fn counted(dir: &Path) -> i64 {
    let connection = Connection::open(dir.join("audit.db")).unwrap();
    let sql = "SELECT records FROM usage_counted";
    connection.query_row(sql, (), |row| row.get(0)).unwrap()
}

/// Counts are written now and then; a kill in between loses none.
#[tokio::test(flavor = "multi_thread")]
async fn a_kill_leaves_no_release_uncounted() {
    let dir = tempfile::tempdir().unwrap();
    Journal::create(dir.path(), &instance()).unwrap();
    let journal = open_at(dir.path(), DAY);
    for (releases, records) in [(50, 200), (300, 1200), (600, 2400_i64)] {
        while journal.usage(&id(1)).released < releases {
            a_hundred_releases(&journal).await;
        }
        let killed = as_a_kill_leaves(dir.path());
        let behind = records - counted(killed.path());
        assert!((1..1024).contains(&behind), "{behind} are not counted");
        let again = open_at(killed.path(), DAY);
        assert_eq!(again.usage(&id(1)), used(releases, DAY, DAY));
        assert_eq!(again.usage(&id(2)).released, releases / 5 * 3);
        assert_eq!(counted(killed.path()), records);
    }
    journal.close().await.unwrap();
    assert_eq!(counted(dir.path()), 2400);
}
