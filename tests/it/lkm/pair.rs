//! Two front-ends behind one name: what the second knows of the first, and what it does not.

use kekd::lkm::credentials::Lane;
use kekd::types::Padding;

use super::front::{Front, body, dek_of};
use crate::harness::{Kek, Rig};

/// Each remembers what it answered itself, and nothing tells the other. What README and SECURITY say is
/// promised, and what is not, is this.
#[tokio::test]
async fn a_replay_is_known_where_it_was_answered_and_nowhere_else() {
    let rig = Rig::serving();
    let mut first = Front::stopped(&rig);
    let of_second = first.add("cloud-second", "recordings", Lane::Interactive);
    let mut second = first.beside();
    let kek = Kek::of(&rig.client("lkm-1").await, "recordings").await;
    let good = || body(kek.keypair_id, &kek.wrap(Padding::OaepSha1, &[3; 32]));
    first.start();
    first.is_ready().await;
    // One that is started when the other fails answers nothing that was signed before.
    let before = first.post(good());
    assert_eq!(first.say(before.clone()).await.unwrap().status, 200);
    second.start();
    second.is_ready().await;
    assert_eq!(second.say(before).await.unwrap().status, 503);
    // The same credentials on both: either answers, and so does the other to the very same bytes, once.
    let call = first.post(good());
    assert_eq!(dek_of(&first.say(call.clone()).await.unwrap()), [3; 32]);
    assert_eq!(first.say(call.clone()).await.unwrap().status, 401);
    assert_eq!(dek_of(&second.say(call.clone()).await.unwrap()), [3; 32]);
    assert_eq!(second.say(call).await.unwrap().status, 401);
    // Each release is a record of kekd's audit log, the replayed one too.
    let releases = rig.records_with(kekd::proto::v1::Outcome::Released);
    let of_calls = releases.iter().filter(|r| r.end_user != "kekd-lkm canary");
    assert_eq!(of_calls.count(), 3);

    // A credential for each, and none of the other's: what one answered is nothing to the other.
    std::fs::remove_file(rig.dir.join("beside/credentials.toml")).unwrap();
    let second_only = kekd::lkm::credential_file::CredentialFile::parse(
        &std::fs::read_to_string(rig.dir.join("credentials.toml")).unwrap(),
    )
    .map(|mut file| {
        file.credential.retain(|entry| entry.id == "cloud-second");
        file
    });
    second_only
        .unwrap()
        .write(&rig.dir.join("beside/credentials.toml"))
        .unwrap();
    second.kill();
    second.start();
    second.is_ready().await;
    let call = first.post(good());
    assert_eq!(dek_of(&first.say(call.clone()).await.unwrap()), [3; 32]);
    assert_eq!(second.say(call).await.unwrap().status, 401);
    let own = first.post_as("cloud-second", &of_second, "", good());
    assert_eq!(dek_of(&second.say(own).await.unwrap()), [3; 32]);
}
