//! What `/ready` is a word about: kekd and the way there, and not what one caller did to one KEK.

use std::time::Duration;

use http::StatusCode;
use kekd::lkm::credentials::Lane;
use kekd::proto::v1::Outcome;
use kekd::types::Padding;

use super::front::{Front, body, dek_of};
use crate::harness::{Kek, Rig};

/// Failures that a rig's kekd lets its front-end have under one KEK.
const QUOTA: usize = 3;

/// A kekd whose quota does not come back while a test runs, and a front-end that is not started.
fn scene() -> (Rig, Front) {
    let rig = Rig::stopped();
    let quota = format!("failures_max = {QUOTA}\nfailures_window_ms = 86400000");
    rig.set("limits", &quota);
    rig.start();
    let front = Front::stopped(&rig);
    (rig, front)
}

/// Sends DEKs that do not unwrap, as a credential with this id: so many, and what came of them.
async fn send_bad(front: &Front, kek: &Kek, id: &str, key: &str, count: usize) -> Vec<StatusCode> {
    let mut connection = front.connect().await;
    let mut statuses = Vec::new();
    for _ in 0..count {
        let call = front.post_as(id, key, "", body(kek.keypair_id, &[0; 384]));
        statuses.push(connection.send(call).await.unwrap().status);
    }
    statuses
}

/// Canaries that were released.
fn canaries(rig: &Rig, kek: &Kek) -> usize {
    let released = rig.records_with(Outcome::Released);
    let id = kek.keypair_id.to_string();
    let of_kek = |record: &&kekd::proto::v1::Record| {
        record.end_user == "kekd-lkm canary" && record.keypair_id == id
    };
    released.iter().filter(of_kek).count()
}

#[tokio::test]
async fn a_kek_whose_quota_one_caller_spent_is_no_word_about_the_others() {
    let (rig, mut front) = scene();
    front.set("kekd", "canary_interval_ms", 1_000);
    let spender = front.add("cloud-spender", "legacy", Lane::Interactive);
    front.start();
    front.is_ready().await;
    let client = rig.client("lkm-1").await;
    // In the order in which KEKs are tried, the spent one is before the other.
    let spent = Kek::of(&client, "legacy").await;
    let other = Kek::of(&client, "recordings").await;
    let statuses = send_bad(&front, &spent, "cloud-spender", &spender, QUOTA + 2).await;
    let (bad, later) = statuses.split_at(QUOTA);
    assert!(bad.iter().all(|status| *status == 400), "{statuses:?}");
    assert!(later.iter().all(|status| *status == 503), "{statuses:?}");

    // The canary of that KEK met it, and whoever looks is told.
    front.says("/ready", "FAILURE_QUOTA").await;
    let said = front.local("/ready");
    assert!(
        said.starts_with("HTTP/1.1 200") && said.contains("legacy"),
        "{said}"
    );
    assert!(front.log().contains("FAILURE_QUOTA"), "{}", front.log());
    // The KEKs after it are tried all the same, and their callers served.
    let before = canaries(&rig, &other);
    for _ in 0..600 {
        if canaries(&rig, &other) > before {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(canaries(&rig, &other) > before, "{}", front.log());
    let good = body(other.keypair_id, &other.wrap(Padding::OaepSha1, &[4; 32]));
    assert_eq!(dek_of(&front.say(front.post(good)).await.unwrap()), [4; 32]);
    assert!(front.local("/ready").starts_with("HTTP/1.1 200"));
    assert!(!front.log().contains("not ready"), "{}", front.log());
}

/// Each look is a record of kekd's for every KEK: a caller that is refused for its own sake asks for none.
#[tokio::test]
async fn a_caller_that_is_refused_for_its_own_sake_is_no_reason_to_look() {
    let (rig, mut front) = scene();
    front.set("kekd", "canary_interval_ms", 3_600_000);
    front.start();
    front.is_ready().await;
    let kek = Kek::of(&rig.client("lkm-1").await, "recordings").await;
    let before = canaries(&rig, &kek);
    let statuses = send_bad(&front, &kek, &front.id, &front.key, QUOTA + 5).await;
    assert_eq!(statuses[QUOTA], 503);
    // Long enough for a look that somebody asked for; one that comes later goes unseen, nothing else.
    tokio::time::sleep(Duration::from_secs(4)).await;
    assert_eq!(canaries(&rig, &kek), before);
    assert!(front.local("/ready").starts_with("HTTP/1.1 200"));
}

/// On kekd's own host: known by its user, without a certificate.
#[tokio::test(flavor = "multi_thread")]
async fn kekd_is_asked_over_its_unix_socket() {
    let rig = Rig::serving();
    let mut front = Front::stopped(&rig);
    front.ask_over_unix_socket(&rig);
    front.start();
    front.is_ready().await;
    let kek = Kek::of(&rig.client("lkm-1").await, "recordings").await;
    let wrapped = kek.wrap(Padding::OaepSha1, &[6; 32]);
    let call = front.post(body(kek.keypair_id, &wrapped));
    assert_eq!(dek_of(&front.say(call).await.unwrap()), [6; 32]);
    let user = format!("uid:{}", rustix::process::getuid().as_raw());
    let released = rig.records_with(Outcome::Released);
    let callers: Vec<_> = released.iter().map(|record| &record.caller).collect();
    assert!(callers.iter().all(|caller| **caller == user), "{callers:?}");
    let ended = front.stop().await;
    assert!(ended.success(), "{ended}\n{}", front.log());
}
