//! The worker is killed, stopped and hung under load: nobody gets a wrong answer, every call ends
//! within its deadline, and the service comes back by itself.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use kekd::client::{Client, ClientError};
use kekd::types::Padding;
use rustix::process::{Pid, Signal, kill_process};

use crate::harness::{Kek, PATIENCE, Rig, dek};

const CLIENTS: usize = 16;

/// What the clients saw.
#[derive(Default)]
struct Seen {
    right: AtomicU64,
    refused: AtomicU64,
}

/// Sixteen clients that unwrap until told to stop and check each answer.
async fn load(
    rig: &Rig,
    kek: &Kek,
    stop: &Arc<AtomicBool>,
    seen: &Arc<Seen>,
) -> Vec<tokio::task::JoinHandle<()>> {
    let mut tasks = Vec::new();
    for number in 0..CLIENTS {
        let client = rig.client("lkm-1").await;
        let value = [u8::try_from(number).unwrap(); 32];
        let call = kek.call(Padding::OaepSha1, &value);
        let (stop, seen) = (Arc::clone(stop), Arc::clone(seen));
        tasks.push(tokio::spawn(async move {
            while !stop.load(Ordering::Relaxed) {
                match client.unwrap(call.clone()).await {
                    Ok(released) => {
                        assert_eq!(dek(&released.release), value, "a wrong answer");
                        seen.right.fetch_add(1, Ordering::Relaxed);
                    }
                    Err(ClientError::Refused(refusal)) => {
                        let expected = ["HSM_UNAVAILABLE", "BUSY", "DEADLINE_EXCEEDED"];
                        assert!(expected.contains(&refusal.reason.as_str()), "{refusal}");
                        seen.refused.fetch_add(1, Ordering::Relaxed);
                        tokio::time::sleep(Duration::from_millis(20)).await;
                    }
                    Err(other) => panic!("not an answer of kekd: {other}"),
                }
            }
        }));
    }
    tasks
}

async fn worker(client: &Client) -> Option<Pid> {
    let pid = client.status().await.unwrap().token.unwrap().worker_pid;
    Pid::from_raw(i32::try_from(pid).unwrap())
}

/// Sends `signal` to the worker under load and waits until another worker serves; how long that was.
async fn disturb(signal: Signal) {
    let rig = Rig::serving();
    let operator = rig.client("operator").await;
    let kek = Kek::of(&rig.client("lkm-1").await, "recordings").await;
    let (stop, seen) = (Arc::new(AtomicBool::new(false)), Arc::new(Seen::default()));
    let tasks = load(&rig, &kek, &stop, &seen).await;
    for _ in 0..3 {
        // Some answers first, so that the blow falls on a worker at work.
        let before = seen.right.load(Ordering::Relaxed);
        wait_for(|| seen.right.load(Ordering::Relaxed) > before + 50).await;
        let victim = worker(&operator).await.unwrap();
        kill_process(victim, signal).unwrap();
        let struck = Instant::now();
        // Status answers all the while, and says so when the worker is another one.
        loop {
            let now = worker(&operator).await;
            if now.is_some_and(|now| now != victim) && operator.status().await.unwrap().ready {
                break;
            }
            assert!(struck.elapsed() < PATIENCE, "no new worker");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let before = seen.right.load(Ordering::Relaxed);
        wait_for(|| seen.right.load(Ordering::Relaxed) > before).await;
        eprintln!("{signal:?}: service was back after {:?}", struck.elapsed());
    }
    stop.store(true, Ordering::Relaxed);
    for task in tasks {
        task.await.unwrap();
    }
    let released = rig.records_with(kekd::proto::v1::Outcome::Released).len() as u64;
    assert!(
        released >= seen.right.load(Ordering::Relaxed),
        "a release without a record"
    );
}

async fn wait_for(mut condition: impl FnMut() -> bool) {
    let started = Instant::now();
    while !condition() {
        assert!(started.elapsed() < PATIENCE, "waited in vain");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_worker_is_replaced() {
    disturb(Signal::KILL).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stopped_worker_is_replaced() {
    disturb(Signal::STOP).await;
}

#[tokio::test]
async fn the_worker_goes_with_the_daemon() {
    let rig = Rig::serving();
    let worker = worker(&rig.client("operator").await).await.unwrap();
    let daemon = Pid::from_raw(i32::try_from(rig.daemon_pid()).unwrap()).unwrap();
    kill_process(daemon, Signal::KILL).unwrap();
    wait_for(|| !is_alive(worker)).await;
    rig.start();
}

/// Whether a process exists and is no zombie (proc_pid_stat(5)).
fn is_alive(pid: Pid) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero()));
    stat.is_ok_and(|stat| {
        !stat
            .rsplit(')')
            .next()
            .unwrap_or_default()
            .starts_with(" Z")
    })
}
