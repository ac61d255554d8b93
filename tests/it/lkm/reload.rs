//! Credentials and certificates that change while the front-end serves.

use std::time::Duration;

use kekd::types::Padding;

use super::front::{Front, body};
use crate::harness::{Kek, Rig};

#[tokio::test]
async fn a_secret_is_rotated_without_a_gap_and_a_replay_stays_one() {
    let rig = Rig::serving();
    let front = Front::serving(&rig).await;
    let kek = Kek::of(&rig.client("lkm-1").await, "recordings").await;
    let body = || body(kek.keypair_id, &kek.wrap(Padding::OaepSha1, &[6; 32]));
    let status = async |key: &str| {
        let call = front.post_as(&front.id, key, "", body());
        front.say(call).await.unwrap().status.as_u16()
    };
    let before = front.post(body());
    assert_eq!(front.say(before.clone()).await.unwrap().status, 200);

    let output = front.credential(&["rotate", "--id", &front.id]);
    assert!(output.status.success(), "{output:?}");
    let newer = String::from_utf8(output.stdout).unwrap().trim().to_owned();
    let comes_to = async |key: &str, expected: u16| {
        for _ in 0..200 {
            if status(key).await == expected {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("the credential never came to {expected}: {}", front.log());
    };
    comes_to(&newer, 200).await;
    assert_eq!(
        status(&front.key).await,
        200,
        "the older secret is live still"
    );
    assert_eq!(
        front.say(before).await.unwrap().status,
        401,
        "a reload let a replay in"
    );

    let output = front.credential(&["rotate", "--id", &front.id, "--finish"]);
    assert!(output.status.success(), "{output:?}");
    comes_to(&front.key, 401).await;
    assert_eq!(status(&newer).await, 200);

    let list = front.credential(&["list"]);
    let said = String::from_utf8(list.stdout).unwrap();
    assert!(said.contains(&front.id) && !said.contains(&newer), "{said}");
    assert!(!front.log().contains(&newer) && !front.log().contains(&front.key));
}

#[tokio::test]
async fn a_file_that_does_not_serve_changes_nothing() {
    let rig = Rig::serving();
    let front = Front::serving(&rig).await;
    let kek = Kek::of(&rig.client("lkm-1").await, "recordings").await;
    let good = || front.post(body(kek.keypair_id, &kek.wrap(Padding::OaepSha1, &[6; 32])));
    let file = rig.dir.join("credentials.toml");
    std::fs::write(&file, "nothing of the kind").unwrap();
    for _ in 0..200 {
        if front.log().contains("stays in force") {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(
        front.log().contains("is not a file of credentials"),
        "{}",
        front.log()
    );
    assert_eq!(front.say(good()).await.unwrap().status, 200);
}
