//! Case 27: kill -9 of the daemon under load. Each DEK a client holds has its record, no index is
//! there twice, the tree verifies, and the token's anchor never is ahead of the log. A few rounds
//! here; two hundred with `make killed`.

use std::collections::HashSet;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use kekd::audit::{AuditReader, Expectations};
use kekd::proto::v1;
use kekd::types::Padding;
use rustix::process::{Pid, Signal, kill_process};
use tokio::task::JoinSet;

use crate::harness::{Kek, Rig, dek};

const CLIENTS: u8 = 8;

/// Unwraps until the connection breaks, and notes the request id of each DEK it holds.
async fn client(
    rig: &Rig,
    number: u8,
    held: Arc<Mutex<Vec<String>>>,
) -> impl Future<Output = ()> + use<> {
    let client = rig.client("lkm-1").await;
    let kek = Kek::of(&client, "recordings").await;
    async move {
        let value = [number; 32];
        let call = kek.call(Padding::OaepSha1, &value);
        while let Ok(released) = client.unwrap(call.clone()).await {
            assert_eq!(dek(&released.release), value, "a wrong answer");
            held.lock().unwrap().push(released.request_id.to_string());
        }
    }
}

/// A verification of what the killed daemon left, as it lies there.
fn verify(state: &Path) -> u64 {
    let folder = tempfile::tempdir().unwrap();
    let copy = folder.path().join("audit.db");
    for suffix in ["", "-wal"] {
        let from = state.join(format!("audit.db{suffix}"));
        if from.exists() {
            std::fs::copy(from, folder.path().join(format!("audit.db{suffix}"))).unwrap();
        }
    }
    let reader = AuditReader::of_copy(&copy).unwrap();
    let verified = reader.verify(&Expectations::default(), &mut |_, _| ());
    verified.unwrap().head.size
}

/// Kills the daemon under load so many times; the number of DEKs that clients held.
async fn killed(rounds: u64, seed: u64) -> usize {
    let rig = Rig::stopped();
    rig.set("audit", "checkpoint_interval_ms = 100");
    let held = Arc::new(Mutex::new(Vec::new()));
    for round in 0..rounds {
        // Refuses where the token knows of more than the log holds.
        rig.start();
        let mut clients = JoinSet::new();
        for number in 0..CLIENTS {
            clients.spawn(client(&rig, number, Arc::clone(&held)).await);
        }
        // Anywhere between the first answers and some checkpoints.
        let ms = (seed + round).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 55;
        tokio::time::sleep(Duration::from_millis(ms)).await;
        let daemon = Pid::from_raw(i32::try_from(rig.daemon_pid()).unwrap()).unwrap();
        kill_process(daemon, Signal::KILL).unwrap();
        clients.join_all().await;

        let size = verify(&rig.dir.join("state"));
        // Which asserts that indexes follow one another.
        let records = rig.records();
        assert_eq!(u64::try_from(records.len()).unwrap(), size, "round {round}");
        let released: HashSet<_> = records
            .iter()
            .filter(|record| record.outcome() == v1::Outcome::Released)
            .map(|record| record.request_id.as_str())
            .collect();
        for id in held.lock().unwrap().iter() {
            assert!(
                released.contains(id.as_str()),
                "round {round}: {id} has no record"
            );
        }
    }
    rig.start();
    held.lock().unwrap().len()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_dek_that_outlives_kekd_has_its_record() {
    assert!(killed(3, 1).await > 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
#[ignore = "takes minutes; make killed"]
#[expect(clippy::print_stdout, reason = "the figures are what this is for")]
async fn two_hundred_times() {
    let mut rigs = JoinSet::new();
    for lane in 0..4 {
        rigs.spawn(killed(50, 1000 * lane));
    }
    let held: usize = rigs.join_all().await.into_iter().sum();
    println!("killed 200 times; each of {held} DEKs has its record");
}
