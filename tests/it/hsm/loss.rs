//! Workers that die or stand still while 16 clients call: no wrong answer, a typed error at worst,
//! and service again.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use kekd::config::HsmConfig;
use kekd::hsm::{DataKind, HsmError};
use kekd::types::Next;
use rustix::process::Signal;

use super::harness::{LONG, Rig, asker, next_worker, pid, signal};
use crate::still::stand_still;

const CLIENTS: u8 = 16;

/// Clients that unwrap until told to stop; each knows what must come back.
struct Load {
    stop: Arc<AtomicBool>,
    right: Arc<[AtomicUsize]>,
    clients: Vec<tokio::task::JoinHandle<Vec<HsmError>>>,
}

impl Load {
    fn start(rig: &Arc<Rig>, hsm: &kekd::hsm::Hsm) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let right: Arc<[AtomicUsize]> = (0..CLIENTS).map(|_| AtomicUsize::new(0)).collect();
        let clients = (0..CLIENTS).map(|number| {
            let (rig, hsm) = (Arc::clone(rig), hsm.clone());
            let (stop, right) = (Arc::clone(&stop), Arc::clone(&right));
            tokio::spawn(async move {
                let dek = [number; 32];
                let job = rig.job(&dek);
                let mut errors = Vec::new();
                while !stop.load(Ordering::Relaxed) {
                    match rig.unwrap(&hsm, &job).await {
                        Ok(answer) => {
                            assert_eq!(answer, dek);
                            right[usize::from(number)].fetch_add(1, Ordering::Relaxed);
                        }
                        Err(error) => {
                            errors.push(error);
                            tokio::time::sleep(Duration::from_millis(10)).await;
                        }
                    }
                }
                errors
            })
        });
        Self {
            clients: clients.collect(),
            right,
            stop,
        }
    }

    /// Waits until every client has had as many right answers more.
    async fn served(&self, more: usize) {
        let before: Vec<_> = self.counts().collect();
        while self
            .counts()
            .zip(&before)
            .any(|(now, before)| now < before + more)
        {
            assert!(!self.clients.iter().any(|client| client.is_finished()));
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    fn counts(&self) -> impl Iterator<Item = usize> {
        self.right.iter().map(|count| count.load(Ordering::Relaxed))
    }

    async fn end(self) -> Vec<HsmError> {
        self.stop.store(true, Ordering::Relaxed);
        let mut errors = Vec::new();
        for client in self.clients {
            errors.extend(client.await.unwrap());
        }
        errors
    }
}

async fn survives(label: &str, blow: Signal) {
    let rig = Arc::new(Rig::new(label, "kek-rsa-3072"));
    let hsm = rig.open(rig.config()).await;
    let load = Load::start(&rig, &hsm);
    let mut pid = hsm.status().worker_pid.unwrap();
    for _ in 0..3 {
        load.served(5).await;
        signal(pid, blow);
        // Says what it knows, whatever the worker does.
        hsm.status();
        pid = next_worker(&hsm, pid).await;
    }
    load.served(5).await;
    assert_eq!(hsm.status().worker_restarts, 3);
    for error in load.end().await {
        assert_eq!(error.next(), Next::TryAgain, "{error}");
    }
    assert_eq!(hsm.status().queue_len, 0);
    hsm.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_worker_under_load_costs_no_right_answer() {
    survives("kekd sigkill", Signal::KILL).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frozen_worker_under_load_costs_no_right_answer() {
    survives("kekd sigstop", Signal::STOP).await;
}

#[tokio::test]
async fn callers_whose_time_is_up_or_who_leave_cost_no_session() {
    let rig = Rig::new("kekd leavers", "kek-rsa-3072");
    let hsm = rig
        .open(HsmConfig {
            sessions: 1,
            ..rig.config()
        })
        .await;
    let before = hsm.status().worker_pid.unwrap();
    stand_still(pid(before));
    let job = rig.job(&[5; 32]);
    let past = hsm.unwrap(&job, &asker(Instant::now())).await.err();
    assert!(matches!(past, Some(HsmError::DeadlineExceeded)), "{past:?}");
    let soon = Instant::now() + Duration::from_millis(20);
    let late = hsm.unwrap(&job, &asker(soon)).await.err();
    assert!(matches!(late, Some(HsmError::DeadlineExceeded)), "{late:?}");
    let leaver = {
        let (hsm, job) = (hsm.clone(), job.clone());
        tokio::spawn(async move {
            let asker = asker(Instant::now() + LONG);
            hsm.unwrap(&job, &asker).await.map(drop)
        })
    };
    while hsm.status().queue_len == 0 && hsm.status().worker_pid == Some(before) {
        tokio::task::yield_now().await;
    }
    leaver.abort();
    drop(leaver.await);
    assert_eq!(rig.unwrap(&hsm, &job).await.unwrap(), [5; 32]);
    assert_eq!(hsm.status().queue_len, 0);
    hsm.shutdown().await;
}

/// A worker that stands still has taken nothing: what was sent to it is known not to be done.
#[tokio::test]
async fn a_change_that_no_session_took_is_made_by_the_next_worker() {
    let rig = Rig::new("kekd untaken", "kek-rsa-3072");
    let hsm = rig.open(rig.config()).await;
    let before = hsm.status().worker_pid.unwrap();
    stand_still(pid(before));
    let written = hsm.write_data("kekd head", b"1", DataKind::Replace).await;
    written.unwrap();
    assert_eq!(hsm.status().worker_restarts, 1);
    assert_eq!(hsm.read_data(["kekd head"]).await.unwrap(), [[b"1"]]);
    hsm.shutdown().await;
}
