//! The audit log on real files: what is acknowledged is on disk, and what cannot be written
//! releases nothing. Cases that need a broken disk run in a process of their own (`disk`).

mod archive;
mod damage;
pub mod disk;
mod power;
mod scale;
mod tree;
mod usage;

use std::fs;
use std::path::Path;
use std::time::Duration;

use kekd::audit::{self, AuditError, Discontinuity, Draft, Journal, Outcome, Sealed, Unavailable};
use kekd::clock::{Clock, UnixMs};
use kekd::config::AuditConfig;
use kekd::proto::v1;
use kekd::types::{Padding, ReleaseForm, Sha256};
use prost::Message as _;
use rusqlite::Connection;
use tokio::task::JoinSet;

fn instance() -> Sha256 {
    Sha256::of(b"instance")
}

fn draft(request_id: &str) -> Draft {
    Draft {
        caller: "spiffe://test/lkm".to_owned(),
        end_user: "agent 7".parse().unwrap(),
        request_id: request_id.parse().unwrap(),
        kek: Some("recordings".parse().unwrap()),
        keypair_id: "6f9619ff-8b86-4011-b42d-00cf4fc964ff".to_owned(),
        padding: Some(Padding::OaepSha1),
        release_form: Some(ReleaseForm::Clear),
        ciphertext_digest: Some(Sha256::of(b"wrapped")),
        recipient_spki_sha256: None,
        outcome: Outcome::Refused,
        reason: "NOT_GRANTED",
        queue: Duration::ZERO,
        hsm: Duration::ZERO,
        lost_until: 0,
        archived: None,
    }
}

fn open_with(dir: &Path, config: AuditConfig) -> Result<Journal, AuditError> {
    open_at(dir, config, UnixMs(1_795_284_000_000))
}

fn open_at(dir: &Path, config: AuditConfig, at: UnixMs) -> Result<Journal, AuditError> {
    open_as(&instance(), dir, config, at)
}

/// Opens a log that is free. A process that another test starts holds the lock of one that was just
/// closed, from its fork to its exec; so a log in use is asked for again, for a while.
fn open_as(
    instance: &Sha256,
    dir: &Path,
    config: AuditConfig,
    at: UnixMs,
) -> Result<Journal, AuditError> {
    let open = || {
        let (node, clock) = ("node-a".to_owned(), Clock::Fixed(at));
        Journal::open(dir, instance, node, config.clone(), clock)
    };
    for _ in 0..100 {
        match open() {
            Err(AuditError::InUse { .. }) => std::thread::sleep(Duration::from_millis(20)),
            opened => return opened,
        }
    }
    open()
}

fn open(dir: &Path) -> Result<Journal, AuditError> {
    open_with(dir, AuditConfig::default())
}

fn created() -> (tempfile::TempDir, Journal) {
    let dir = tempfile::tempdir().unwrap();
    Journal::create(dir.path(), &instance()).unwrap();
    let journal = open(dir.path()).unwrap();
    (dir, journal)
}

/// The log as a kill at this moment would leave it. Nothing is being written to it.
fn as_a_kill_leaves(dir: &Path) -> tempfile::TempDir {
    let copy = tempfile::tempdir().unwrap();
    for name in ["audit.db", "audit.db-wal"] {
        fs::copy(dir.join(name), copy.path().join(name)).unwrap();
    }
    copy
}

fn records(dir: &Path) -> Vec<v1::Record> {
    let mut all = Vec::new();
    loop {
        let from = u64::try_from(all.len()).unwrap();
        let page = audit::read(dir, from, 1000).unwrap();
        if page.is_empty() {
            return all;
        }
        for (index, bytes) in page {
            let record = v1::Record::decode(bytes.as_slice()).unwrap();
            assert_eq!(index, u64::try_from(all.len()).unwrap(), "a gap");
            assert_eq!(record.index, index);
            all.push(record);
        }
    }
}

#[tokio::test]
async fn a_release_comes_with_a_record_on_disk() {
    let (dir, journal) = created();
    let released = journal
        .record_and_release(draft("r-1"), Sealed::new("plaintext"))
        .await
        .unwrap();
    assert_eq!((released.value, released.record_index), ("plaintext", 0));
    assert_eq!(journal.record(draft("r-2")).await.unwrap(), 1);
    let found = records(dir.path());
    let outcomes: Vec<_> = found.iter().map(v1::Record::outcome).collect();
    assert_eq!(outcomes, [v1::Outcome::Released, v1::Outcome::Refused]);
    assert_eq!(found[0].node, "node-a");
    assert_eq!(found[0].time_ms, 1_795_284_000_000);
    let status = journal.status();
    assert_eq!(
        (status.head.size, status.writable, status.why_not),
        (2, true, None)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn many_at_once_share_syncs_and_each_gets_its_own_index() {
    let (dir, journal) = created();
    let mut under_way = JoinSet::new();
    for n in 0..2000 {
        let journal = journal.clone();
        under_way.spawn(async move {
            let id = format!("r-{n}");
            (journal.record(draft(&id)).await.unwrap(), id)
        });
    }
    let answered = under_way.join_all().await;
    journal.close().await.unwrap();
    let found = records(dir.path());
    assert_eq!(found.len(), 2000);
    for (index, id) in answered {
        assert_eq!(found[usize::try_from(index).unwrap()].request_id, id);
    }
}

#[tokio::test]
async fn a_log_is_closed_and_goes_on_where_it_ended() {
    let (dir, journal) = created();
    journal.record(draft("r-1")).await.unwrap();
    let clone = journal.clone();
    journal.close().await.unwrap();
    let refused = clone.record(draft("r-2")).await.unwrap_err();
    assert!(matches!(refused, AuditError::Closed), "{refused}");
    assert!(!clone.status().writable);
    drop(clone);
    let journal = open(dir.path()).unwrap();
    assert_eq!(journal.record(draft("r-3")).await.unwrap(), 1);
}

#[tokio::test]
async fn digests_are_keyed_and_the_key_lasts() {
    let wrapped = vec![7; 384].try_into().unwrap();
    let (dir, journal) = created();
    let digest = journal.digest(&wrapped);
    assert_ne!(digest, Sha256::of(wrapped.as_bytes()));
    journal.close().await.unwrap();
    assert_eq!(open(dir.path()).unwrap().digest(&wrapped), digest);
    let (_other_dir, other) = created();
    assert_ne!(other.digest(&wrapped), digest);
}

#[tokio::test]
async fn a_log_is_made_once_and_never_by_opening() {
    let dir = tempfile::tempdir().unwrap();
    let missing = open(dir.path()).err().unwrap();
    assert!(matches!(missing, AuditError::Missing { .. }), "{missing}");
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);

    Journal::create(dir.path(), &instance()).unwrap();
    let before = fs::read(dir.path().join("audit.db")).unwrap();
    let exists = Journal::create(dir.path(), &instance()).unwrap_err();
    assert!(matches!(exists, AuditError::Exists { .. }), "{exists}");
    assert_eq!(fs::read(dir.path().join("audit.db")).unwrap(), before);
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
}

#[tokio::test]
async fn another_instance_and_a_second_process_are_refused() {
    let (dir, journal) = created();
    let second = open(dir.path()).err().unwrap();
    assert!(matches!(second, AuditError::InUse { .. }), "{second}");
    journal.close().await.unwrap();

    let other = Sha256::of(b"other");
    let opened = open_as(&other, dir.path(), AuditConfig::default(), UnixMs(0));
    let refused = opened.err().unwrap();
    let text = refused.to_string();
    assert!(text.contains(&other.to_string()), "{text}");
    assert!(text.contains(&instance().to_string()), "{text}");
    assert!(matches!(refused, AuditError::WrongInstance { .. }));
}

#[tokio::test]
async fn records_that_do_not_follow_one_another_are_refused() {
    let cases = [
        (
            "DROP TRIGGER record_not_deleted; DELETE FROM record WHERE record_index = 3",
            Discontinuity::RowsMissing {
                looked_at: 10,
                present: 9,
            },
        ),
        (
            "DROP TRIGGER record_not_changed; UPDATE record SET bytes =
               (SELECT bytes FROM record WHERE record_index = 3) WHERE record_index = 9",
            Discontinuity::RecordSays(Some(3)),
        ),
        (
            "DROP TRIGGER record_not_changed;
             UPDATE record SET bytes = x'ff' WHERE record_index = 9",
            Discontinuity::RecordSays(None),
        ),
    ];
    for (damage, expected) in cases {
        let (dir, journal) = created();
        for n in 0..10 {
            journal.record(draft(&format!("r-{n}"))).await.unwrap();
        }
        journal.close().await.unwrap();
        let connection = Connection::open(dir.path().join("audit.db")).unwrap();
        connection.execute_batch(damage).unwrap();
        drop(connection);
        match open(dir.path()).err() {
            Some(AuditError::NotContiguous {
                newest: 9, found, ..
            }) => assert_eq!(found, expected),
            other => panic!("{damage}: {other:?}"),
        }
    }
}

#[tokio::test]
async fn rows_cannot_be_changed_in_passing() {
    let (dir, journal) = created();
    journal.record(draft("r-1")).await.unwrap();
    journal.close().await.unwrap();
    let connection = Connection::open(dir.path().join("audit.db")).unwrap();
    for sql in ["DELETE FROM record", "UPDATE record SET bytes = x''"] {
        assert!(connection.execute(sql, ()).is_err(), "{sql}");
    }
}

#[tokio::test]
async fn an_unlinked_or_replaced_file_releases_nothing() {
    for name in ["audit.db", "audit.db-wal", "audit.db-shm"] {
        let (dir, journal) = created();
        journal.record(draft("r-1")).await.unwrap();
        let path = dir.path().join(name);
        let aside = dir.path().join("aside");
        for replace in [false, true] {
            fs::rename(&path, &aside).unwrap();
            if replace {
                fs::copy(&aside, &path).unwrap();
            }
            let released = journal.record_and_release(draft("lost"), Sealed::new(()));
            match released.await.err() {
                Some(AuditError::Unavailable(Unavailable::FileMoved { path: named })) => {
                    assert_eq!(named, path);
                }
                other => panic!("{name}: {other:?}"),
            }
            let status = journal.status();
            assert!(!status.writable);
            assert!(status.why_not.unwrap().contains(name));
            // The same file back in its place is the same log.
            fs::rename(&aside, &path).unwrap();
            journal.record(draft("r-2")).await.unwrap();
            assert!(journal.status().writable);
        }
        journal.close().await.unwrap();
        let ids: Vec<_> = records(dir.path())
            .into_iter()
            .map(|record| record.request_id)
            .collect();
        assert_eq!(ids, ["r-1", "r-2", "r-2"], "{name}");
    }
}

#[tokio::test]
async fn an_idle_log_notices_that_its_file_went() {
    let (dir, journal) = created();
    let mut changed = journal.changed();
    fs::remove_file(dir.path().join("audit.db")).unwrap();
    changed.changed().await.unwrap();
    assert!(!journal.status().writable);
}

/// While another process holds the write lock the writer waits a moment, then refuses.
#[tokio::test]
async fn a_full_queue_is_an_answer_and_a_locked_file_is_not_the_end() {
    let dir = tempfile::tempdir().unwrap();
    Journal::create(dir.path(), &instance()).unwrap();
    let config = AuditConfig {
        queue_len_max: 2,
        batch_len_max: 1,
        ..AuditConfig::default()
    };
    let journal = open_with(dir.path(), config).unwrap();
    let tool = Connection::open(dir.path().join("audit.db")).unwrap();
    tool.execute_batch("BEGIN IMMEDIATE").unwrap();

    let mut under_way = JoinSet::new();
    for n in 0..20 {
        let journal = journal.clone();
        under_way.spawn(async move { journal.record(draft(&format!("r-{n}"))).await });
    }
    let answers = under_way.join_all().await;
    let busy = |answer: &Result<_, _>| matches!(answer, Err(AuditError::Busy { queue_len_max: 2 }));
    assert!(answers.iter().all(Result::is_err));
    assert!(answers.iter().any(busy));
    assert!(!answers.iter().all(busy));
    assert!(answers.iter().flat_map(Result::as_ref).all(|_| false));
    assert!(
        !answers
            .into_iter()
            .any(|answer| answer.unwrap_err().is_fatal())
    );
    assert!(!journal.status().writable);

    tool.execute_batch("COMMIT").unwrap();
    assert_eq!(journal.record(draft("after")).await.unwrap(), 0);
    assert!(journal.status().writable);
}

#[tokio::test]
async fn a_caller_does_not_wait_for_ever() {
    let dir = tempfile::tempdir().unwrap();
    Journal::create(dir.path(), &instance()).unwrap();
    let config = AuditConfig {
        sync_timeout_ms: 20,
        ..AuditConfig::default()
    };
    let journal = open_with(dir.path(), config).unwrap();
    let tool = Connection::open(dir.path().join("audit.db")).unwrap();
    tool.execute_batch("BEGIN IMMEDIATE").unwrap();
    let released = journal.record_and_release(draft("r-1"), Sealed::new(()));
    let refused = released.await.err().unwrap();
    assert!(
        matches!(refused, AuditError::TimedOut { timeout_ms: 20 }),
        "{refused}"
    );
    assert!(!journal.status().writable);

    // Idle, and writable again without a call.
    let mut changed = journal.changed();
    tool.execute_batch("COMMIT").unwrap();
    changed
        .wait_for(|condition| matches!(condition, audit::Condition::Writable))
        .await
        .unwrap();
}

#[tokio::test]
async fn refused_connections_are_recorded_without_waiting() {
    let (dir, journal) = created();
    let mut refused = draft("r-1");
    refused.outcome = Outcome::ConnectionRefused;
    journal.try_record(refused);
    journal.close().await.unwrap();
    assert_eq!(
        records(dir.path())[0].outcome(),
        v1::Outcome::ConnectionRefused
    );
}
