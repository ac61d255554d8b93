//! How connections end: what was read is answered, and an answer says when it is the last.

use std::time::Duration;

use kekd::types::Padding;
use rustix::process::{Signal, kill_process};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::faults::{is_last, load};
use super::front::{Front, StandStill, body};
use crate::harness::{Kek, Rig};

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_of_age_ends_with_an_answer_that_says_so() {
    let rig = Rig::serving();
    let mut front = Front::stopped(&rig);
    front.set("limits", "connection_age_ms_max", 1_000);
    front.start();
    front.is_ready().await;
    let kek = Kek::of(&rig.client("lkm-1").await, "recordings").await;
    let (load, callers) = load(&front, &kek, &front.id, &front.key);
    while load.last() < 12 {
        load.goes_on().await;
    }
    load.ends(callers).await;
    load.lost_nothing("the age of connections cost requests");
}

/// Who asks nothing is let go after a time that was told, so that clients do not send into the end.
#[tokio::test]
async fn an_idle_connection_ends_when_it_was_told() {
    let rig = Rig::serving();
    let mut front = Front::stopped(&rig);
    front.set("limits", "head_timeout_ms", 2_000);
    front.start();
    front.is_ready().await;
    let kek = Kek::of(&rig.client("lkm-1").await, "recordings").await;
    let call = || front.post(body(kek.keypair_id, &kek.wrap(Padding::OaepSha1, &[1; 32])));
    let mut connection = front.connect().await;
    let reply = connection.send(call()).await.unwrap();
    assert_eq!(reply.headers["keep-alive"], "timeout=1");
    assert!(!is_last(&reply));
    tokio::time::sleep(Duration::from_secs(5)).await;
    // The client knows before it sends: nothing that was sent is without an answer.
    let refused = connection.send(call()).await.err().unwrap().to_string();
    assert!(refused.contains("channel closed"), "{refused}");
    assert_eq!(front.say(call()).await.unwrap().status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_read_is_answered_when_the_process_stops() {
    let rig = Rig::serving();
    let mut front = Front::stopped(&rig);
    front.set("kekd", "timeout_ms", 60_000);
    front.set("limits", "request_timeout_ms", 60_000);
    front.start();
    let still = StandStill::under(&rig, &front, 4).await;
    front.says("/metrics", "kekd_lkm_unwraps_under_way 4").await;
    let ended = front.stop().await;
    assert!(ended.success(), "{ended}");
    for answer in still.asked {
        let reply = answer.await.unwrap().unwrap();
        assert_eq!(reply.status, 503);
        assert!(reply.headers.contains_key("retry-after") && is_last(&reply));
    }
    kill_process(still.daemon, Signal::CONT).unwrap();
}

/// A body that comes after its head is read before the caller is told to wait: an answer ahead of it
/// would end the connection under the caller's hands.
#[tokio::test]
async fn who_is_told_to_wait_keeps_the_connection() {
    let rig = Rig::serving();
    let mut front = Front::stopped(&rig);
    front.set("limits", "requests_per_s_of_credential", 1);
    front.start();
    front.is_ready().await;
    let mut stream = front.raw().await;
    let mut told = 0;
    for _ in 0..6 {
        let authorization = front.post(Vec::new()).authorization.unwrap();
        let head = format!(
            "POST {} HTTP/1.1\r\nhost: x\r\nauthorization: {authorization}\r\ncontent-length: 2\r\n\r\n",
            front.target.path
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        stream.flush().await.unwrap();
        tokio::time::sleep(Duration::from_millis(50)).await;
        stream.write_all(b"{}").await.unwrap();
        let mut said = Vec::new();
        while !said.ends_with(b"}") {
            let mut some = [0; 1024];
            let count = stream.read(&mut some).await.unwrap();
            assert!(count > 0, "{}", String::from_utf8_lossy(&said));
            said.extend_from_slice(&some[..count]);
        }
        told += u8::from(said.starts_with(b"HTTP/1.1 503 "));
    }
    assert!(
        told >= 4,
        "six within half a second were within one a second"
    );
}
