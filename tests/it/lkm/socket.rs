//! The socket that systemd opens (kekd-lkm.socket): taken over, answered on, and kept while the
//! front-end is restarted, so that callers wait and none is refused.

use std::net::TcpListener;
use std::process::{Command, Stdio};

use kekd::types::Padding;

use super::faults::load;
use super::front::{Front, KEKD_LKM, body, dek_of};
use crate::harness::{Kek, Rig, free_port, skipped};

/// A front-end whose own `https.listen` is another port than the one that callers know.
fn with_socket(rig: &Rig) -> Front {
    let mut front = Front::stopped(rig);
    front.set("https", "listen", format!("127.0.0.1:{}", free_port()));
    front.socket = Some(TcpListener::bind(("127.0.0.1", front.port)).unwrap());
    front
}

#[tokio::test(flavor = "multi_thread")]
async fn a_socket_of_systemd_is_answered_on_and_outlives_a_restart_under_load() {
    let rig = Rig::serving();
    let mut front = with_socket(&rig);
    let kek = Kek::of(&rig.client("lkm-1").await, "recordings").await;
    // Before there is a process: the caller waits in the socket's queue.
    let early = tokio::spawn({
        let (caller, call) = (front.caller(), front.post(body(kek.keypair_id, &[1; 384])));
        async move { caller.connect().await?.send(call).await }
    });
    front.start();
    // Signed before the process began, which cannot know whether it was answered before.
    assert_eq!(early.await.unwrap().unwrap().status, 503);
    front.is_ready().await;
    let call = front.post(body(kek.keypair_id, &kek.wrap(Padding::OaepSha1, &[7; 32])));
    assert_eq!(dek_of(&front.say(call).await.unwrap()), [7; 32]);

    let (load, callers) = load(&front, &kek, &front.id, &front.key);
    for _ in 0..3 {
        load.goes_on().await;
        let ended = front.stop().await;
        assert!(ended.success(), "{ended}\n{}", front.log());
        front.start();
        load.goes_on().await;
    }
    load.ends(callers).await;
    load.lost_nothing("a restart cost requests");
    assert!(load.last() >= 3, "nobody was told that it was the last");
}

/// systemd's own tool, which starts the program with the first connection.
#[tokio::test(flavor = "multi_thread")]
async fn systemd_socket_activate_starts_it() {
    const TEST: &str = "lkm::socket::systemd_socket_activate_starts_it";
    let rig = Rig::serving();
    let front = Front::stopped(&rig);
    front.set("https", "listen", format!("127.0.0.1:{}", free_port()));
    let kek = Kek::of(&rig.client("lkm-1").await, "recordings").await;
    let mut command = Command::new("systemd-socket-activate");
    command
        .arg(format!("--listen=127.0.0.1:{}", front.port))
        .args(["--fdname=kekd-lkm.socket", KEKD_LKM, "serve", "--config"])
        .arg(front.config())
        .stdin(Stdio::null())
        .stderr(Stdio::null());
    let Ok(mut child) = command.spawn() else {
        return skipped(TEST, "there is no systemd-socket-activate");
    };
    let mut found = None;
    for _ in 0..200 {
        let call = front.post(body(kek.keypair_id, &kek.wrap(Padding::OaepSha1, &[7; 32])));
        found = front
            .say(call)
            .await
            .ok()
            .filter(|reply| reply.status == 200);
        if found.is_some() {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(dek_of(&found.expect("it was not started")), [7; 32]);
}
