//! Tokens that serve together, are lost and come back.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use kekd::client::{Client, ClientError};
use kekd::proto::v1::Outcome;
use kekd::types::Padding;
use rustix::process::{Pid, Signal, kill_process};
use tokio::task::JoinHandle;

use super::{folder, keks, replica, says, serving, status_when};
use crate::harness::{Kek, Rig, dek, reason};

/// Callers that unwrap without a pause until they are told to stop.
struct Load {
    stop: Arc<AtomicBool>,
    answered: Arc<AtomicUsize>,
    callers: Vec<JoinHandle<usize>>,
}

impl Load {
    /// Every answer must be the right DEK or a refusal that says "again".
    async fn begin(rig: &Rig, callers: usize) -> Self {
        let client = rig.client("lkm-1").await;
        let keks = keks(&client).await;
        let (stop, answered) = (Arc::default(), Arc::<AtomicUsize>::default());
        let callers = (0..callers).map(|number| {
            let (client, stop) = (client.clone(), Arc::clone(&stop));
            let answered = Arc::clone(&answered);
            let padding = [Padding::Pkcs1V15, Padding::OaepSha1][number % 2];
            let value = [u8::try_from(number).unwrap() + 1; 32];
            let call = keks[number % 2].call(padding, &value);
            tokio::spawn(async move {
                let mut refused = 0;
                while !AtomicBool::load(&stop, Ordering::Relaxed) {
                    match client.unwrap(call.clone()).await {
                        Ok(answer) => {
                            assert_eq!(dek(&answer.release), value);
                            answered.fetch_add(1, Ordering::Relaxed);
                        }
                        Err(why) => {
                            assert!(is_retryable(&why), "{why:?}");
                            refused += 1;
                        }
                    }
                }
                refused
            })
        });
        Self {
            callers: callers.collect(),
            stop,
            answered,
        }
    }

    /// Waits until so many more were answered.
    async fn more(&self, count: usize) {
        let before = self.answered.load(Ordering::Relaxed);
        for _ in 0..4000 {
            if self.answered.load(Ordering::Relaxed) >= before + count {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("nobody is served");
    }

    /// How many were answered, and how many told to come again.
    async fn end(self) -> (usize, usize) {
        self.stop.store(true, Ordering::Relaxed);
        let mut refused = 0;
        for caller in self.callers {
            refused += caller.await.unwrap();
        }
        (self.answered.load(Ordering::Relaxed), refused)
    }
}

fn is_retryable(why: &ClientError) -> bool {
    ["HSM_UNAVAILABLE", "BUSY", "DEADLINE_EXCEEDED"].contains(&reason(why))
}

fn signal(pid: u32, signal: Signal) {
    let pid = Pid::from_raw(pid.try_into().unwrap()).unwrap();
    kill_process(pid, signal).unwrap();
}

async fn unwraps(rig: &Rig, operator: &Client) -> (u64, u64) {
    let status = operator.status().await.unwrap();
    let found = (
        status.token.unwrap().unwraps,
        status.replicas.iter().map(|one| one.unwraps).sum(),
    );
    let released = rig.records_with(Outcome::Released).len() as u64;
    assert_eq!(found.0 + found.1, released, "one record for each answer");
    found
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tokens_share_the_work_and_every_release_has_its_record() {
    let rig = serving(&[("b", ""), ("c", "sessions = 1")]).await;
    let operator = rig.client("operator").await;
    let load = Load::begin(&rig, 6).await;
    load.more(120).await;
    let (answered, refused) = load.end().await;
    assert_eq!(refused, 0);
    let (primary, replicas) = unwraps(&rig, &operator).await;
    assert_eq!(primary + replicas, answered as u64);
    assert!(primary > 0);
    for name in ["b", "c"] {
        assert!(replica(&operator, name).await.unwraps > 0, "{name} is idle");
    }
    // A bad ciphertext has one answer, whichever token gives it.
    let client = rig.client("lkm-1").await;
    let legacy = Kek::of(&client, "legacy").await;
    let bad = legacy.call_with(Padding::Pkcs1V15, [vec![0], vec![0x5a; 383]].concat());
    let mut answers = std::collections::HashSet::new();
    for _ in 0..9 {
        let answer = client.unwrap(bad.clone()).await.unwrap();
        answers.insert(dek(&answer.release));
    }
    assert_eq!(answers.len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replicas_worker_is_lost_under_load_and_comes_back() {
    let rig = serving(&[("b", "")]).await;
    let operator = rig.client("operator").await;
    let load = Load::begin(&rig, 6).await;
    for (round, how) in [Signal::KILL, Signal::STOP].into_iter().enumerate() {
        load.more(40).await;
        let before = replica(&operator, "b").await;
        signal(before.worker_pid, how);
        load.more(40).await;
        let status = status_when(&operator, |status| {
            let b = &status.replicas[0];
            b.worker_pid != before.worker_pid && b.versions_proven == 4
        })
        .await;
        assert!(status.ready);
        assert_eq!(status.replicas[0].worker_restarts, round as u64 + 1);
        assert_eq!(status.token.unwrap().worker_restarts, 0);
        let served = status.replicas[0].unwraps;
        status_when(&operator, |status| status.replicas[0].unwraps > served + 5).await;
    }
    let (answered, refused) = load.end().await;
    // A call whose worker is killed goes to the other token: nobody notices. One that is stopped is
    // noticed after hsm.call_timeout_ms.
    assert_eq!(refused, 0, "of {answered}");
    unwraps(&rig, &operator).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_primary_is_lost_and_unwraps_go_on() {
    let rig = serving(&[("b", "")]).await;
    let operator = rig.client("operator").await;
    let load = Load::begin(&rig, 4).await;
    load.more(20).await;
    let worker = Pid::from_raw(rig.worker_pid().await.try_into().unwrap()).unwrap();
    fs::rename(rig.dir.join("tokens"), rig.dir.join("away")).unwrap();
    fs::create_dir(rig.dir.join("tokens")).unwrap();
    // It may have met the empty folder and be gone already.
    kill_process(worker, Signal::KILL).ok();
    let status = status_when(&operator, |status| {
        status.token.as_ref().unwrap().state == "unavailable"
    })
    .await;
    assert!(status.ready, "unwraps succeed: {status:?}");
    assert!(says(&status, "was not found"), "{status:?}");
    load.more(40).await;
    let served = operator.status().await.unwrap().token.unwrap().unwraps;
    load.more(40).await;
    let status = operator.status().await.unwrap();
    assert_eq!(status.token.unwrap().unwraps, served);

    fs::remove_dir(rig.dir.join("tokens")).unwrap();
    fs::rename(rig.dir.join("away"), rig.dir.join("tokens")).unwrap();
    let status = status_when(&operator, |status| {
        status.token.as_ref().unwrap().unwraps > served + 5
    })
    .await;
    assert!(status.ready && status.problems.is_empty(), "{status:?}");
    let (_, refused) = load.end().await;
    assert_eq!(refused, 0);
    unwraps(&rig, &operator).await;
}

#[tokio::test]
async fn a_replica_that_is_taken_away_is_named_and_returns_when_it_is_put_back() {
    let rig = serving(&[("b", "")]).await;
    let (client, operator) = (rig.client("lkm-1").await, rig.client("operator").await);
    let keks = keks(&client).await;
    let all = async || {
        for kek in &keks {
            for _ in 0..4 {
                let answer = client.unwrap(kek.call(Padding::OaepSha1, &[5; 32])).await;
                let padding = Padding::Pkcs1V15;
                let answer = match answer {
                    Ok(answer) => answer,
                    Err(_) => client.unwrap(kek.call(padding, &[5; 32])).await.unwrap(),
                };
                assert_eq!(dek(&answer.release), [5; 32]);
            }
        }
    };
    fs::rename(folder(&rig, "b"), rig.dir.join("away")).unwrap();
    all().await;
    let status = status_when(&operator, |status| {
        status.replicas[0].versions_proven == 0 && says(status, "token b")
    })
    .await;
    assert!(status.ready, "a replica stops nobody: {status:?}");
    all().await;
    fs::rename(rig.dir.join("away"), folder(&rig, "b")).unwrap();
    let status = status_when(&operator, |status| status.replicas[0].versions_proven == 4).await;
    assert!(!says(&status, "token b"), "{status:?}");
    let served = replica(&operator, "b").await.unwraps;
    all().await;
    assert!(replica(&operator, "b").await.unwraps > served);
}

/// A replica that never opened is a warning: the node starts, and serves from the primary.
#[tokio::test]
async fn a_replica_that_does_not_open_stops_nothing() {
    let rig = super::stopped(&[("b", ""), ("c", "")]);
    fs::remove_dir_all(folder(&rig, "b")).unwrap();
    rig.start();
    let (client, operator) = (rig.client("lkm-1").await, rig.client("operator").await);
    let status = status_when(&operator, |status| {
        says(status, "token b does not serve") && status.replicas[1].versions_proven == 4
    })
    .await;
    assert!(status.ready);
    let kek = Kek::of(&client, "recordings").await;
    for _ in 0..4 {
        let answer = client.unwrap(kek.call(Padding::OaepSha1, &[7; 32])).await;
        assert_eq!(dek(&answer.unwrap().release), [7; 32]);
    }
    assert_eq!(replica(&operator, "b").await.unwraps, 0);
    assert!(replica(&operator, "c").await.unwraps > 0);
}
