//! Broken disks: full, failing its syncs, or going with the whole process. Each case runs this test
//! binary again, with one ignored test as its main function, in surroundings prepared for it.

use std::collections::HashSet;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::*;
use crate::harness::skipped;

/// The test of this module that `command` is to run in a process of its own, on `dir`.
pub fn with_child(mut command: Command, dir: &Path, test: &str) -> Command {
    command
        .args([
            "--exact",
            &format!("audit::{test}"),
            "--ignored",
            "--nocapture",
        ])
        .env("AUDIT_TEST_DIR", dir);
    command
}

fn this_binary() -> Command {
    Command::new(std::env::current_exe().unwrap())
}

/// The folder the parent prepared; `None` where somebody runs ignored tests by hand.
#[expect(
    clippy::disallowed_methods,
    reason = "how a test process is told its folder"
)]
pub fn prepared_dir() -> Option<PathBuf> {
    std::env::var_os("AUDIT_TEST_DIR").map(PathBuf::from)
}

#[expect(clippy::print_stdout, reason = "what the parent process reads")]
pub fn tell(line: &str) {
    println!("\n{line}");
}

/// Runs a child that records for ever until so many callers were answered; then it is killed. Which
/// records were acknowledged.
pub fn killed_after(count: usize, command: Command, dir: &Path, test: &str) -> Vec<String> {
    let mut child = with_child(command, dir, test)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    // Read no further, but not closed before the end: the child would notice.
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let acknowledged = lines
        .by_ref()
        .map(Result::unwrap)
        .filter_map(|line| line.strip_prefix("released ").map(str::to_owned))
        .take(count)
        .collect();
    // Right behind an answer the writer is between two commits; it should be anywhere.
    std::thread::sleep(Duration::from_micros(count as u64 * 37 % 1_500));
    child.kill().unwrap();
    child.wait().unwrap();
    acknowledged
}

/// What such a child does: so many callers at once, and each answer is told.
pub async fn record_for_ever(journal: &Journal, callers: usize) {
    let mut all = JoinSet::new();
    for caller in 0..callers {
        let journal = journal.clone();
        all.spawn(async move {
            for n in 0..100_000 {
                let id = format!("{caller}-{n}");
                let released = journal.record_and_release(draft(&id), Sealed::new(id.clone()));
                tell(&format!("released {}", released.await.unwrap().value));
            }
        });
    }
    all.join_all().await;
}

/// The records of a log that are not in it, of these.
pub fn lost_of(acknowledged: &[String], dir: &Path) -> Vec<String> {
    let found: HashSet<_> = records(dir).into_iter().map(|it| it.request_id).collect();
    let is_lost = |id: &&String| !found.contains(*id);
    acknowledged.iter().filter(is_lost).cloned().collect()
}

/// Runs a child until it says that it begins, and so long after; then it is killed. Whether it began.
pub fn killed_child(dir: &Path, test: &str, after: Duration) -> bool {
    let mut child = with_child(this_binary(), dir, test)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let begun = lines.any(|line| line.unwrap() == "begin");
    std::thread::sleep(after);
    child.kill().unwrap();
    child.wait().unwrap();
    begun
}

pub fn require_success(command: &mut Command) {
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        output.status.success() && text.contains("done"),
        "{command:?}: {}\n{text}\n{}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
}

/// The options with which `unshare` gives a process mounts of its own here, if any do: an ordinary
/// user needs a user namespace, which a root in a chroot may not make and does not need.
pub fn own_mounts() -> Option<&'static [&'static str]> {
    let ways: [&[&str]; 2] = [&["--map-root-user", "--mount"], &["--mount"]];
    ways.into_iter().find(|way| {
        let mut unshare = Command::new("unshare");
        unshare.args(*way).args(["mount", "-t", "tmpfs", "tmpfs"]);
        let output = unshare.arg(std::env::temp_dir()).output();
        output.is_ok_and(|output| output.status.success())
    })
}

#[test]
fn a_full_disk_releases_nothing_and_recovers_by_itself() {
    on_a_disk_of("1m", "disk::child_on_a_small_disk");
}

/// Case 23: the disk is full, and refusals are still on record.
#[test]
fn a_full_disk_still_takes_refusals() {
    on_a_disk_of("5m", "disk::child_on_a_disk_with_a_reserve");
}

fn on_a_disk_of(size: &str, test: &str) {
    let Some(own_mounts) = own_mounts() else {
        let why = "a small file system needs root or user namespaces (unshare -rm)";
        return skipped("audit::disk::a_full_disk", why);
    };
    let dir = tempfile::tempdir().unwrap();
    let mut shell = Command::new("unshare");
    shell
        .args(own_mounts)
        .args(["sh", "-c"])
        .arg(format!(
            "mount -t tmpfs -o size={size} tmpfs \"$AUDIT_TEST_DIR\" && exec \"$0\" \"$@\""
        ))
        .arg(std::env::current_exe().unwrap());
    require_success(&mut with_child(shell, dir.path(), test));
}

/// Takes the disk to the last byte; the file that does.
fn fill(dir: &Path) -> PathBuf {
    let filler = dir.join("filler");
    let mut len = 1 << 20;
    let mut file = fs::File::create(&filler).unwrap();
    while len > 0 {
        if std::io::Write::write_all(&mut file, &vec![0; len]).is_err() {
            len /= 2;
        }
    }
    filler
}

#[tokio::test]
#[ignore = "runs in a process of its own, started by another test"]
async fn child_on_a_disk_with_a_reserve() {
    let Some(dir) = prepared_dir() else { return };
    Journal::create(&dir, &instance()).unwrap();
    let journal = open(&dir).unwrap();
    let mut changed = journal.changed();
    for round in 0..3 {
        assert!(dir.join("audit.reserve").exists(), "round {round}");
        let filler = fill(&dir);
        let refused = loop {
            let released = journal.record_and_release(draft("full"), Sealed::new(()));
            if let Err(refused) = released.await {
                break refused;
            }
        };
        let not_written = matches!(
            refused,
            AuditError::Unavailable(Unavailable::NotWritten { .. })
        );
        assert!(not_written, "{refused:?}");
        for n in 0..30 {
            let before = journal.status().head.size;
            let index = journal.record(draft(&format!("refused-{n}"))).await;
            assert_eq!(index.unwrap(), before, "round {round}");
            assert!(!journal.status().writable);
            let released = journal.record_and_release(draft("never"), Sealed::new(()));
            match released.await.err() {
                Some(AuditError::Unavailable(Unavailable::OnReserve { .. })) => {}
                other => panic!("round {round}, {n}: {other:?}"),
            }
        }
        fs::remove_file(filler).unwrap();
        changed
            .wait_for(|condition| matches!(condition, audit::Condition::Writable))
            .await
            .unwrap();
        let released = journal.record_and_release(draft("again"), Sealed::new(()));
        released.await.unwrap();
    }
    journal.close().await.unwrap();
    let ids: Vec<_> = records(&dir).into_iter().map(|it| it.request_id).collect();
    assert!(!ids.contains(&"never".to_owned()));
    assert_eq!(
        ids.iter().filter(|id| id.starts_with("refused-")).count(),
        90
    );
    tell("done");
}

#[tokio::test]
#[ignore = "runs in a process of its own, started by another test"]
async fn child_on_a_small_disk() {
    let Some(dir) = prepared_dir() else { return };
    Journal::create(&dir, &instance()).unwrap();
    let journal = open(&dir).unwrap();
    journal.record(draft("r-0")).await.unwrap();
    let mut changed = journal.changed();
    for round in 1..4 {
        // Fill the disk to the last byte.
        let filler = fill(&dir);
        // The write-ahead log may have room for a few more.
        let mut acknowledged = journal.status().head.size;
        let refused = loop {
            let released = journal.record_and_release(draft("full"), Sealed::new(()));
            match released.await {
                Ok(released) => assert_eq!(released.record_index, acknowledged),
                Err(refused) => break refused,
            }
            acknowledged += 1;
        };
        let not_written = matches!(
            refused,
            AuditError::Unavailable(Unavailable::NotWritten { .. })
        );
        assert!(not_written, "{refused:?}");
        assert!(!journal.status().writable);
        assert_eq!(journal.status().head.size, acknowledged);

        fs::remove_file(filler).unwrap();
        changed
            .wait_for(|condition| matches!(condition, audit::Condition::Writable))
            .await
            .unwrap();
        assert_eq!(
            journal.record(draft("again")).await.unwrap(),
            acknowledged,
            "round {round}"
        );
    }
    let size = journal.status().head.size;
    journal.close().await.unwrap();
    assert_eq!(u64::try_from(records(&dir).len()).unwrap(), size);
    tell("done");
}

/// A library for `LD_PRELOAD`: what it does is in its source. Needs a C compiler, as building kekd does.
pub fn disk_library(dir: &Path) -> PathBuf {
    let library = dir.join("disk.so");
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/audit/disk.c");
    let built = Command::new("cc")
        .args(["-shared", "-fPIC", "-Wall", "-Werror", "-o"])
        .args([library.as_os_str(), source.as_ref()])
        .arg("-ldl")
        .status()
        .unwrap();
    assert!(built.success());
    library
}

pub fn with_watched_disk(dir: &Path) -> Command {
    let mut command = this_binary();
    command
        .env("LD_PRELOAD", disk_library(dir))
        .env("DISK_LOG", dir.join("log"))
        .env("DISK_FAULT", dir.join("fault"));
    command
}

#[test]
fn the_sync_comes_before_the_release() {
    let dir = tempfile::tempdir().unwrap();
    let command = with_watched_disk(dir.path());
    require_success(&mut with_child(
        command,
        dir.path(),
        "disk::child_that_releases",
    ));
}

#[tokio::test]
#[ignore = "runs in a process of its own, started by another test"]
async fn child_that_releases() {
    let Some(dir) = prepared_dir() else { return };
    Journal::create(&dir, &instance()).unwrap();
    let journal = open(&dir).unwrap();
    // The first write begins a write-ahead log, with syncs of its own.
    journal.record(draft("first")).await.unwrap();
    for n in 0..100 {
        fs::write(dir.join("log"), "").unwrap();
        let released = journal.record_and_release(draft(&format!("r-{n}")), Sealed::new(()));
        released.await.unwrap();
        assert_eq!(fs::read_to_string(dir.join("log")).unwrap(), "sync\n");
    }
    tell("done");
}

#[test]
fn a_failed_sync_is_fatal_and_never_tried_again() {
    let dir = tempfile::tempdir().unwrap();
    let command = with_watched_disk(dir.path());
    require_success(&mut with_child(
        command,
        dir.path(),
        "disk::child_whose_sync_fails",
    ));

    // The next process: what was acknowledged is there, what was not may be.
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let journal = open(dir.path()).unwrap();
        let next = journal.record(draft("next")).await.unwrap();
        assert!((10..=11).contains(&next), "{next}");
        journal.close().await.unwrap();
        assert_eq!(
            records(dir.path()).len(),
            usize::try_from(next).unwrap() + 1
        );
    });
}

#[tokio::test]
#[ignore = "runs in a process of its own, started by another test"]
async fn child_whose_sync_fails() {
    let Some(dir) = prepared_dir() else { return };
    Journal::create(&dir, &instance()).unwrap();
    let journal = open(&dir).unwrap();
    for n in 0..10 {
        journal.record(draft(&format!("r-{n}"))).await.unwrap();
    }
    fs::write(dir.join("log"), "").unwrap();
    fs::write(dir.join("fault"), "").unwrap();
    let released = journal.record_and_release(draft("lost"), Sealed::new(()));
    let refused = released.await.err().unwrap();
    assert!(
        matches!(refused, AuditError::OutcomeUnknown { .. }),
        "{refused:?}"
    );
    assert!(refused.is_fatal());
    assert!(journal.failed().await.is_fatal());

    // The disk is well again, and this process does not find out.
    fs::remove_file(dir.join("fault")).unwrap();
    assert!(journal.record(draft("later")).await.unwrap_err().is_fatal());
    assert!(!journal.status().writable);
    assert!(journal.close().await.unwrap_err().is_fatal());
    assert_eq!(fs::read_to_string(dir.join("log")).unwrap(), "fail\n");
    tell("done");
}

#[test]
fn what_was_acknowledged_outlives_sigkill() {
    for round in 0..5 {
        let dir = tempfile::tempdir().unwrap();
        let (child, count) = ("disk::child_to_be_killed", 100 + 50 * round);
        let acknowledged = killed_after(count, this_binary(), dir.path(), child);
        assert_eq!(acknowledged.len(), count);
        drop(open(dir.path()).unwrap());
        assert_eq!(lost_of(&acknowledged, dir.path()), [""; 0], "round {round}");
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "runs in a process of its own, started by another test"]
async fn child_to_be_killed() {
    let Some(dir) = prepared_dir() else { return };
    Journal::create(&dir, &instance()).unwrap();
    record_for_ever(&open(&dir).unwrap(), 16).await;
}

#[test]
fn ten_thousand_records_leave_memory_flat() {
    let dir = tempfile::tempdir().unwrap();
    require_success(&mut with_child(
        this_binary(),
        dir.path(),
        "disk::child_that_writes_much",
    ));
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "runs in a process of its own, started by another test"]
async fn child_that_writes_much() {
    let Some(dir) = prepared_dir() else { return };
    Journal::create(&dir, &instance()).unwrap();
    let journal = open(&dir).unwrap();
    let write = async |len: usize| {
        let mut callers = JoinSet::new();
        for _ in 0..64 {
            let journal = journal.clone();
            callers.spawn(async move {
                for n in 0..len / 64 {
                    journal.record(draft(&format!("r-{n}"))).await.unwrap();
                }
            });
        }
        callers.join_all().await;
    };
    write(6_400).await;
    let before = resident_kib();
    write(32_000).await;
    let after = resident_kib();
    assert!(after < before + 2048, "{before} KiB became {after} KiB");
    assert_eq!(journal.status().head.size, 38_400);
    let wal = || fs::metadata(dir.join("audit.db-wal")).unwrap().len() >> 20;
    assert!((4..8).contains(&wal()), "the WAL has {} MiB", wal());
    // It cannot begin anew while somebody reads; what it grew meanwhile is cut.
    let reader = Connection::open(dir.join("audit.db")).unwrap();
    reader
        .execute_batch("BEGIN; SELECT * FROM record LIMIT 1")
        .unwrap();
    write(32_000).await;
    assert!(wal() > 8, "the WAL has {} MiB", wal());
    reader.execute_batch("COMMIT").unwrap();
    write(6_400).await;
    assert!((4..=8).contains(&wal()), "the WAL has {} MiB", wal());
    tell("done");
}

/// Resident memory of this process (proc(5), `VmRSS` of `/proc/self/status`).
fn resident_kib() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:"));
    let kib = line.unwrap().split_whitespace().nth(1);
    kib.unwrap().parse().unwrap()
}
