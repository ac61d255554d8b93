//! The audit log's disk beneath a running daemon: it hangs, fails its syncs, or turns read-only. Nothing is
//! released meanwhile, the status says why, and what can heal heals by itself.

use std::fs;
use std::time::{Duration, Instant};

use kekd::client::Client;
use kekd::proto::v1::GetStatusResponse;
use kekd::types::Padding;

use crate::audit::disk::disk_library;
use crate::harness::{Kek, PATIENCE, Rig, dek, reason};

/// A rig that serves on a disk whose faults are set by a file.
struct Sick {
    rig: Rig,
}

impl Sick {
    fn serving() -> Self {
        let mut rig = Rig::stopped();
        rig.set("audit", "sync_timeout_ms = 400");
        let text = |path: std::path::PathBuf| path.to_str().unwrap().to_owned();
        rig.environment = vec![
            ("LD_PRELOAD".to_owned(), text(disk_library(&rig.dir))),
            ("DISK_FAULT".to_owned(), text(rig.dir.join("fault"))),
            ("DISK_DIR".to_owned(), text(rig.dir.join("state"))),
        ];
        rig.start();
        Self { rig }
    }

    fn falls_ill(&self, how: &str) {
        let path = self.rig.dir.join("fault");
        fs::write(path.with_extension("new"), how).unwrap();
        fs::rename(path.with_extension("new"), path).unwrap();
    }

    fn is_well(&self) {
        fs::remove_file(self.rig.dir.join("fault")).unwrap();
    }

    /// Waits until the status is as wanted.
    async fn status(&self, wanted: impl Fn(&GetStatusResponse) -> bool) -> GetStatusResponse {
        let operator = self.rig.client("operator").await;
        let started = Instant::now();
        loop {
            let status = operator.status().await.unwrap();
            if wanted(&status) {
                return status;
            }
            assert!(started.elapsed() < PATIENCE, "{status:?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

async fn released(client: &Client, kek: &Kek) {
    let answer = client.unwrap(kek.call(Padding::OaepSha1, &[1; 32])).await;
    assert_eq!(dek(&answer.unwrap().release), [1; 32]);
}

async fn refused(client: &Client, kek: &Kek) -> String {
    let answer = client.unwrap(kek.call(Padding::OaepSha1, &[1; 32])).await;
    reason(&answer.err().unwrap()).to_owned()
}

fn says(status: &GetStatusResponse, what: &str) -> bool {
    !status.ready && status.problems.iter().any(|problem| problem.contains(what))
}

/// Case 26: the sink hangs. Callers are refused in time and the status answers; nothing else waits.
#[tokio::test(flavor = "multi_thread")]
async fn a_sink_that_hangs_refuses_in_time_and_comes_back() {
    let sick = Sick::serving();
    let client = sick.rig.client("lkm-1").await;
    let kek = Kek::of(&client, "recordings").await;
    released(&client, &kek).await;
    sick.falls_ill("hang");
    for _ in 0..3 {
        assert_eq!(refused(&client, &kek).await, "AUDIT_UNAVAILABLE");
        sick.status(|status| says(status, "a sync has been under way"))
            .await;
    }
    let before = sick.rig.log();
    assert!(!before.contains("panicked"), "{before}");
    sick.is_well();
    sick.status(|status| status.ready).await;
    released(&client, &kek).await;
    sick.rig.stop().await;
    // Each that was refused may be on record as released, and none is missing.
    let released = sick.rig.records().len();
    assert!((2..=5).contains(&released), "{released}");
}

/// Case 23: the file system turns read-only, and is mounted to be written again.
#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_is_read_only_refuses_and_comes_back() {
    let sick = Sick::serving();
    let client = sick.rig.client("lkm-1").await;
    let kek = Kek::of(&client, "recordings").await;
    for round in 1..3 {
        released(&client, &kek).await;
        sick.falls_ill("read-only");
        for _ in 0..3 {
            assert_eq!(refused(&client, &kek).await, "AUDIT_UNAVAILABLE");
        }
        sick.status(|status| says(status, "audit.db was not written"))
            .await;
        sick.is_well();
        sick.status(|status| status.ready).await;
        released(&client, &kek).await;
        assert_eq!(sick.rig.records().len(), 2 * round);
    }
    sick.rig.stop().await;
    sick.rig.start();
    assert_eq!(sick.rig.records().len(), 4);
}

/// Case 24: a sync fails. Nothing is answered, the daemon ends and does not sync again; the next start reads
/// the file anew.
#[tokio::test(flavor = "multi_thread")]
async fn a_failed_sync_ends_the_daemon_and_the_next_start_verifies() {
    let sick = Sick::serving();
    let client = sick.rig.client("lkm-1").await;
    let kek = Kek::of(&client, "recordings").await;
    released(&client, &kek).await;
    sick.falls_ill("");
    let answer = client.unwrap(kek.call(Padding::OaepSha1, &[1; 32])).await;
    assert!(answer.is_err(), "released without a record");
    let pid = sick.rig.daemon_pid();
    let started = Instant::now();
    let is_running = || {
        fs::read_to_string(format!("/proc/{pid}/stat"))
            .is_ok_and(|stat| !stat.rsplit(')').next().unwrap().trim().starts_with('Z'))
    };
    while is_running() {
        assert!(started.elapsed() < PATIENCE, "{}", sick.rig.log());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let log = sick.rig.log();
    assert!(log.contains("could not be written safely"), "{log}");
    sick.is_well();
    sick.rig.start();
    let records = sick.rig.records().len();
    assert!((1..=2).contains(&records), "{records}");
    let client = sick.rig.client("lkm-1").await;
    released(&client, &kek).await;
}
