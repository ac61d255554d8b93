//! The gate under threads, and what it does with passages that do not end.
#![expect(clippy::unwrap_used, reason = "a test that cannot unwrap has failed")]

use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::SeqCst;
use std::time::Instant;

use super::*;
use crate::stops::{Source, Stop, Stops};

fn kek(name: &str) -> KekName {
    name.parse().unwrap()
}

fn by_host(kek: &KekName) -> Stop {
    Stop {
        target: Some(kek.clone()),
        source: Source::Host,
    }
}

/// A gate and what its checks look at.
struct Door {
    gate: Gate,
    stops: Stops,
}

impl Door {
    fn enter(&self, name: &KekName) -> Result<Passage, ()> {
        self.gate.enter(name, || {
            if self.stops.is_stopped(name) {
                return Err(());
            }
            Ok(())
        })
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_stop_and_the_wait_nothing_is_on_its_way() {
    let dir = tempfile::tempdir().unwrap();
    let door = Arc::new(Door {
        gate: Gate::default(),
        stops: Stops::open(dir.path()).unwrap(),
    });
    for round in 0..30 {
        let name = kek(&format!("k{round}"));
        let acknowledged = Arc::new(AtomicBool::new(false));
        let is_over = Arc::new(AtomicBool::new(false));
        let passed = Arc::new(AtomicUsize::new(0));
        let threads: Vec<_> = (0..4)
            .map(|_| {
                let (door, name) = (Arc::clone(&door), name.clone());
                let (acknowledged, is_over) = (Arc::clone(&acknowledged), Arc::clone(&is_over));
                let passed = Arc::clone(&passed);
                std::thread::spawn(move || {
                    while !is_over.load(SeqCst) {
                        if let Ok(passage) = door.enter(&name) {
                            // What is done by a release happens here: never after the wait.
                            assert!(!acknowledged.load(SeqCst), "released after the stop");
                            passed.fetch_add(1, SeqCst);
                            drop(passage);
                        }
                    }
                })
            })
            .collect();
        while passed.load(SeqCst) < 1000 {
            tokio::task::yield_now().await;
        }
        door.stops.take_effect(by_host(&name));
        let drained = door
            .gate
            .drained(Some(&name), Duration::from_secs(60))
            .await;
        acknowledged.store(true, SeqCst);
        assert_eq!(drained, Drained::default());
        assert!(door.enter(&name).is_err());
        is_over.store(true, SeqCst);
        for thread in threads {
            thread.join().unwrap();
        }
    }
}

#[tokio::test]
async fn a_passage_that_does_not_end_is_revoked() {
    let gate = Gate::default();
    let (a, b) = (kek("a"), kek("b"));
    let pass = |name| gate.enter(name, || Ok::<(), ()>(())).unwrap();
    let (stuck, cut, other) = (pass(&a), pass(&a), pass(&b));
    let cut = Arc::new(Mutex::new(Some(cut)));
    let of_cut = Arc::clone(&cut);
    // What the connection does: it lets go of all that waited on it.
    let let_go = move || drop(of_cut.lock().unwrap().take());
    cut.lock().unwrap().as_ref().unwrap().on_revoked(let_go);
    let drained = gate.drained(Some(&a), Duration::from_millis(20)).await;
    assert_eq!(
        drained,
        Drained {
            revoked: 2,
            left: 1
        }
    );
    assert!(stuck.is_revoked() && !other.is_revoked());
    assert!(cut.lock().unwrap().is_none());
    // Who comes too late to be told is told at once.
    let told = Arc::new(AtomicBool::new(false));
    let tell = Arc::clone(&told);
    stuck.on_revoked(move || tell.store(true, SeqCst));
    assert!(told.load(SeqCst));
    drop(stuck);
    let drained = gate.drained(Some(&a), Duration::ZERO).await;
    assert_eq!(drained, Drained::default());
    let drained = gate.drained(None, Duration::ZERO).await;
    assert_eq!(
        drained,
        Drained {
            revoked: 1,
            left: 1
        }
    );
}

#[test]
#[ignore = "a measurement: cargo test --release --lib stops:: -- --ignored --nocapture"]
#[expect(clippy::print_stdout, reason = "it is there to be read")]
fn what_a_passage_costs() {
    let dir = tempfile::tempdir().unwrap();
    let door = Arc::new(Door {
        gate: Gate::default(),
        stops: Stops::open(dir.path()).unwrap(),
    });
    for threads in [1, 4] {
        let rounds: u32 = 1_000_000;
        let began = Instant::now();
        let running: Vec<_> = (0..threads)
            .map(|_| {
                let (door, name) = (Arc::clone(&door), kek("recordings"));
                std::thread::spawn(move || {
                    for _ in 0..rounds {
                        drop(door.enter(&name).unwrap());
                    }
                })
            })
            .collect();
        for thread in running {
            thread.join().unwrap();
        }
        println!("{threads} threads: {:?} each", began.elapsed() / rounds);
    }
}
