//! kekd and the front-end go away and come back under load: every answer is right or a clean 503.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use kekd::lkm::caller::Reply;
use kekd::lkm::credentials::Lane;
use kekd::types::Padding;
use rustix::process::{Pid, Signal, kill_process};

use super::front::{Front, StandStill, body, dek_of};
use crate::harness::{Kek, Rig};

/// What came of a load.
#[derive(Default)]
pub struct Load {
    stop: AtomicBool,
    right: AtomicU32,
    told_to_wait: AtomicU32,
    /// Answers that said they were the last of their connection.
    last: AtomicU32,
    no_answer: AtomicU32,
    /// What the transport said where there was no answer.
    said: std::sync::Mutex<Vec<String>>,
}

/// Four callers that ask without a pause until told to stop; a wrong answer fails the test. To be
/// called in a runtime of several threads where the test itself blocks: a caller that stands still
/// leaves its connection idle, and the front-end ends those.
pub fn load(
    front: &Front,
    kek: &Kek,
    id: &str,
    key: &str,
) -> (Arc<Load>, Vec<tokio::task::JoinHandle<()>>) {
    let load = Arc::new(Load::default());
    let callers = (0..4_u8).map(|number| {
        let (load, caller) = (Arc::clone(&load), front.caller());
        let body = body(kek.keypair_id, &kek.wrap(Padding::OaepSha1, &[number; 32]));
        let (target, id, key) = (front.target.clone(), id.to_owned(), key.to_owned());
        let signer = Signer { target, id, key };
        tokio::spawn(async move {
            while !load.stop.load(Ordering::Relaxed) {
                let Ok(mut connection) = caller.connect().await else {
                    load.no_answer.fetch_add(1, Ordering::Relaxed);
                    tokio::time::sleep(Duration::from_millis(20)).await;
                    continue;
                };
                while !load.stop.load(Ordering::Relaxed) {
                    let reply = match connection.send(signer.post(body.clone())).await {
                        Ok(reply) => reply,
                        Err(error) => {
                            load.said.lock().unwrap().push(error.to_string());
                            load.no_answer.fetch_add(1, Ordering::Relaxed);
                            break;
                        }
                    };
                    if reply.status == 503 {
                        assert!(reply.headers.contains_key("retry-after"));
                        load.told_to_wait.fetch_add(1, Ordering::Relaxed);
                        tokio::time::sleep(Duration::from_millis(20)).await;
                    } else {
                        assert_eq!(dek_of(&reply), [number; 32]);
                        load.right.fetch_add(1, Ordering::Relaxed);
                    }
                    if is_last(&reply) {
                        load.last.fetch_add(1, Ordering::Relaxed);
                        break;
                    }
                }
            }
        })
    });
    let callers = callers.collect();
    (load, callers)
}

/// Whether no further request may be sent on its connection (RFC 9112, section 9.6).
pub fn is_last(reply: &Reply) -> bool {
    let says = reply.headers.get("connection");
    says.is_some_and(|says| says.as_bytes().eq_ignore_ascii_case(b"close"))
}

struct Signer {
    target: kekd::lkm::caller::Target,
    id: String,
    key: String,
}

impl Signer {
    fn post(&self, body: Vec<u8>) -> kekd::lkm::caller::Call {
        super::front::post(&self.target, &self.id, &self.key, body)
    }
}

impl Load {
    /// Fails where a connection ended without the answer to what was sent.
    pub fn lost_nothing(&self, what: &str) {
        let lost = self.no_answer.load(Ordering::Relaxed);
        let said = self.said.lock().unwrap().clone();
        assert_eq!(lost, 0, "{what}: {said:?}");
    }

    /// How many answers were a 503.
    pub fn told_to_wait(&self) -> u32 {
        self.told_to_wait.load(Ordering::Relaxed)
    }

    /// How many answers said they were the last of their connection.
    pub fn last(&self) -> u32 {
        self.last.load(Ordering::Relaxed)
    }

    /// Waits until so many more were answered rightly.
    pub async fn goes_on(&self) {
        let before = self.right.load(Ordering::Relaxed);
        for _ in 0..600 {
            if self.right.load(Ordering::Relaxed) > before + 20 {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("the service did not come back by itself");
    }

    pub async fn ends(&self, callers: Vec<tokio::task::JoinHandle<()>>) {
        self.stop.store(true, Ordering::Relaxed);
        for caller in callers {
            caller.await.expect("an answer was wrong");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn kekd_is_restarted_and_its_worker_hangs_under_load() {
    let rig = Rig::serving();
    let mut front = Front::stopped(&rig);
    let bulk = front.add("cloud-bulk", "recordings", Lane::Bulk);
    front.start();
    front.is_ready().await;
    let kek = Kek::of(&rig.client("lkm-1").await, "recordings").await;
    for (id, key) in [
        (front.id.clone(), front.key.clone()),
        ("cloud-bulk".to_owned(), bulk),
    ] {
        let (load, callers) = load(&front, &kek, &id, &key);
        load.goes_on().await;
        rig.stop().await;
        rig.start();
        load.goes_on().await;
        let worker = Pid::from_raw(rig.worker_pid().await.cast_signed()).unwrap();
        kill_process(worker, Signal::STOP).unwrap();
        load.goes_on().await;
        load.ends(callers).await;
        assert!(
            load.told_to_wait.load(Ordering::Relaxed) > 0,
            "{id}: nothing was in the way"
        );
        load.lost_nothing(&format!("{id}: kekd's trouble cost connections"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_front_end_is_killed_under_load() {
    let rig = Rig::serving();
    let mut front = Front::serving(&rig).await;
    let kek = Kek::of(&rig.client("lkm-1").await, "recordings").await;
    let (id, key) = (front.id.clone(), front.key.clone());
    let replay = front.post(body(kek.keypair_id, &kek.wrap(Padding::OaepSha1, &[1; 32])));
    assert_eq!(front.say(replay.clone()).await.unwrap().status, 200);
    let (load, callers) = load(&front, &kek, &id, &key);
    load.goes_on().await;
    front.kill();
    front.start();
    load.goes_on().await;
    load.ends(callers).await;
    assert!(
        load.no_answer.load(Ordering::Relaxed) > 0,
        "it was not killed"
    );
    // Its memory of nonces is gone; what was signed before it began is not believed.
    let again = front.say(replay).await.unwrap();
    assert_eq!(again.status, 503, "a restart let a replay in");
}

#[tokio::test]
async fn a_kekd_that_stands_still_makes_no_pile() {
    let rig = Rig::serving();
    let mut front = Front::stopped(&rig);
    front.set("kekd", "timeout_ms", 1_000);
    front.set("limits", "interactive_max", 4);
    front.start();
    let mut still = StandStill::under(&rig, &front, 32).await;
    for answer in still.asked.drain(..) {
        let reply = answer.await.unwrap().unwrap();
        assert_eq!(reply.status, 503);
        assert!(reply.headers.contains_key("retry-after"));
    }
    assert!(
        front.log().contains("too many unwraps are under way"),
        "{}",
        front.log()
    );
    assert!(
        front.local("/health").contains("200 OK"),
        "live while kekd is not"
    );
    kill_process(still.daemon, Signal::CONT).unwrap();
    for _ in 0..200 {
        if front.say(still.call(&front)).await.unwrap().status == 200 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("the service did not come back by itself");
}

#[tokio::test]
async fn it_starts_without_kekd_and_says_so() {
    let rig = Rig::stopped();
    let mut front = Front::stopped(&rig);
    front.start();
    front.says("/health", "200 OK").await;
    front.says("/ready", "503 Service Unavailable").await;
    front.says("/metrics", "kekd_lkm_ready 0").await;
    rig.start();
    front.is_ready().await;
}
