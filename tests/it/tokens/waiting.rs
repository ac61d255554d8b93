//! A new version waits until every required replica holds it, and becomes active then: across a
//! restart, and not for ever.

use std::fs;
use std::time::Duration;

use kekd::proto::v1::{CoverState, ProposalPhase, VersionState};
use kekd::quorum::{Operation, ProposalId};
use kekd::types::Padding;

use super::{clone_keys, cover, cover_when, kekctl_coverage, replica, says, serving, status_when};
use crate::harness::{Kek, Rig, dek};
use crate::officers::{Officers, new_version};

/// Orders a rotation of a KEK. Returns where it stands afterwards.
async fn rotate(officers: &Officers<'_>, kek: &str, profile: &str) -> (ProposalId, ProposalPhase) {
    let versions = versions(officers, kek).await;
    let active = versions
        .iter()
        .find(|(_, state)| *state == VersionState::Active);
    let retires = active.map(|(id, _)| id.parse().unwrap());
    let version = new_version(kek, profile);
    let id = officers
        .agree(Operation::RotateKek { version, retires })
        .await
        .unwrap();
    let executed = officers.execute("alice", id).await.unwrap();
    (id, executed.proposal.unwrap().phase())
}

async fn versions(officers: &Officers<'_>, kek: &str) -> Vec<(String, VersionState)> {
    let kek = officers
        .client
        .get_kek(&kek.parse().unwrap())
        .await
        .unwrap();
    let versions = kek.versions.into_iter();
    versions
        .map(|one| (one.keypair_id.clone(), one.state()))
        .collect()
}

async fn ended(officers: &Officers<'_>, id: ProposalId) -> ProposalPhase {
    for _ in 0..450 {
        let phase = officers.phase(id).await;
        if phase != ProposalPhase::Executing {
            return phase;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("the execution waits on");
}

/// The newest version is active, and both tokens unwrap under it.
async fn is_active_everywhere(rig: &Rig, officers: &Officers<'_>, kek: &str) {
    let found = versions(officers, kek).await;
    let states: Vec<_> = found.iter().map(|(_, state)| *state).collect();
    assert_eq!(states, [VersionState::Deactivated, VersionState::Active]);
    let client = rig.client("lkm-1").await;
    let operator = rig.client("operator").await;
    cover_when(&operator, kek, "b", CoverState::Proven).await;
    let pem = kekd::proto::v1::PublicKeyFormat::SpkiPem;
    let id = found[1].0.parse().unwrap();
    let pem = client.get_public_key(id, pem).await.unwrap();
    let spki = crate::harness::pem_bytes(&String::from_utf8(pem).unwrap());
    let new = Kek {
        keypair_id: id,
        public_key: kekd::public_key::RsaPublicKey::from_spki(&spki).unwrap(),
    };
    let before = replica(&operator, "b").await.unwraps;
    for _ in 0..6 {
        let answer = client.unwrap(new.call(Padding::OaepSha1, &[6; 32])).await;
        assert_eq!(dek(&answer.unwrap().release), [6; 32]);
    }
    assert!(replica(&operator, "b").await.unwraps > before);
}

#[tokio::test]
async fn a_rotation_waits_for_a_required_replica_and_becomes_active_when_it_is_cloned() {
    let rig = serving(&[("b", ""), ("c", "required = false")]).await;
    let officers = Officers::of(&rig).await;
    let operator = rig.client("operator").await;
    let (id, phase) = rotate(&officers, "recordings", "kek-rsa-3072").await;
    assert_eq!(phase, ProposalPhase::Executing);
    assert_eq!(waiting_files(&rig).len(), 1);
    let shown = officers.client.get_proposal(id.0).await.unwrap();
    assert!(
        shown.waits_for.contains("waits for tokens b: clone"),
        "{shown:?}"
    );
    let status = operator.status().await.unwrap();
    assert!(
        status.ready && says(&status, "waits for tokens b"),
        "{status:?}"
    );
    assert_eq!(
        cover(&operator, "recordings", "primary").await.0,
        CoverState::Proven
    );
    cover_when(&operator, "recordings", "b", CoverState::Missing).await;
    let output = kekctl_coverage(&rig, "operator", &["--kek", "recordings"]);
    assert_eq!(output.status.code(), Some(79), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("pre-active"), "{text}");

    // Everything else goes on, and this KEK takes no second rotation.
    assert_eq!(versions(&officers, "recordings").await.len(), 1);
    let version = new_version("recordings", "kek-rsa-3072");
    let retires = versions(&officers, "recordings").await[0].0.parse().ok();
    let again = officers
        .propose("alice", Operation::RotateKek { version, retires })
        .await;
    assert!(again.is_err());

    clone_keys(&rig);
    assert_eq!(ended(&officers, id).await, ProposalPhase::Executed);
    is_active_everywhere(&rig, &officers, "recordings").await;
    let shown = officers.client.get_proposal(id.0).await.unwrap();
    assert_eq!(shown.waits_for, "");
    status_when(&operator, |status| status.problems.is_empty()).await;
    while !waiting_files(&rig).is_empty() {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

fn waiting_files(rig: &Rig) -> Vec<std::path::PathBuf> {
    let entries = fs::read_dir(rig.dir.join("state")).unwrap();
    let paths = entries.map(|entry| entry.unwrap().path());
    let is_of = |path: &std::path::PathBuf| {
        let name = path.file_name().unwrap().to_string_lossy();
        name.starts_with("awaited-")
    };
    paths.filter(is_of).collect()
}

/// A version whose certificate only the key itself could sign, once: it must survive the restart.
#[tokio::test]
async fn a_version_waits_on_across_a_kill() {
    let rig = serving(&[("b", "")]).await;
    let officers = Officers::of(&rig).await;
    for (kek, profile) in [
        ("engage", "kek-rsa-3072-self-signed"),
        ("recordings", "kek-rsa-3072"),
    ] {
        let (id, phase) = rotate(&officers, kek, profile).await;
        assert_eq!(phase, ProposalPhase::Executing);
        let keypair_id = officers.client.get_proposal(id.0).await.unwrap().keypair_id;
        rig.kill();
        rig.start();
        let officers = Officers::of(&rig).await;
        assert_eq!(officers.phase(id).await, ProposalPhase::Executing);
        let shown = officers.client.get_proposal(id.0).await.unwrap();
        assert!(shown.waits_for.contains("waits for tokens b"), "{shown:?}");
        clone_keys(&rig);
        assert_eq!(ended(&officers, id).await, ProposalPhase::Executed);
        let found = versions(&officers, kek).await;
        assert_eq!(found[1], (keypair_id, VersionState::Active), "the same key");
    }
    let officers = Officers::of(&rig).await;
    is_active_everywhere(&rig, &officers, "recordings").await;
    let log = rig.log();
    assert_eq!(log.matches("a key is made").count(), 2, "one key each");
    assert_eq!(log.matches("worker is replaced").count(), 0, "{log}");
}

/// What was written down of a version that waits proves nothing.
#[tokio::test]
async fn a_version_whose_note_was_changed_is_given_up() {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    use prost::Message as _;
    let rig = serving(&[("b", "")]).await;
    let officers = Officers::of(&rig).await;
    let (id, _) = rotate(&officers, "recordings", "kek-rsa-3072").await;
    rig.kill();
    let [file] = waiting_files(&rig).try_into().unwrap();
    let mut note: serde_json::Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
    let version = STANDARD.decode(note["version"].as_str().unwrap()).unwrap();
    let mut version = kekd::proto::v1::KekVersionActivated::decode(version.as_slice()).unwrap();
    // No padding, so a replica would prove nothing.
    version.paddings.clear();
    note["version"] = STANDARD.encode(version.encode_to_vec()).into();
    fs::write(&file, note.to_string()).unwrap();
    clone_keys(&rig);
    rig.start();
    let officers = Officers::of(&rig).await;
    assert_eq!(ended(&officers, id).await, ProposalPhase::Failed);
    assert_eq!(versions(&officers, "recordings").await.len(), 1);
}

#[tokio::test]
async fn an_officers_veto_and_the_time_limit_end_the_wait() {
    let rig = super::stopped(&[("b", "")]);
    rig.start();
    let officers = Officers::of(&rig).await;
    let (id, _) = rotate(&officers, "recordings", "kek-rsa-3072").await;
    // Not one who has no say in it.
    assert!(officers.veto("dave", id).await.is_err());
    assert_eq!(officers.phase(id).await, ProposalPhase::Executing);
    let vetoed = officers.veto("carol", id).await.unwrap();
    assert_eq!(vetoed.phase(), ProposalPhase::Failed);
    assert!(
        vetoed.closed_because.contains("carol vetoed it"),
        "{vetoed:?}"
    );
    rig.stop().await;

    rig.set("hsm", "coverage_timeout_ms = 1000");
    rig.start();
    let officers = Officers::of(&rig).await;
    let (id, phase) = rotate(&officers, "recordings", "kek-rsa-3072").await;
    assert_eq!(phase, ProposalPhase::Executing);
    assert_eq!(ended(&officers, id).await, ProposalPhase::Failed);
    let shown = officers.client.get_proposal(id.0).await.unwrap();
    assert!(
        shown
            .closed_because
            .starts_with("COVERAGE: tokens b did not"),
        "{shown:?}"
    );
    let states = versions(&officers, "recordings").await;
    assert_eq!(states.len(), 1, "{states:?}");
    assert_eq!(states[0].1, VersionState::Active);
    // The next has its number, and is not held up by what they left.
    rig.stop().await;
    rig.edit("kekd.toml", |text| {
        text.replace("coverage_timeout_ms = 1000", "")
    });
    rig.start();
    let officers = Officers::of(&rig).await;
    let (id, _) = rotate(&officers, "recordings", "kek-rsa-3072").await;
    clone_keys(&rig);
    assert_eq!(ended(&officers, id).await, ProposalPhase::Executed);
    is_active_everywhere(&rig, &officers, "recordings").await;
}

#[tokio::test]
async fn a_replica_that_is_not_required_is_not_waited_for() {
    let rig = serving(&[("b", "required = false")]).await;
    let officers = Officers::of(&rig).await;
    let (_, phase) = rotate(&officers, "recordings", "kek-rsa-3072").await;
    assert_eq!(phase, ProposalPhase::Executed);
    clone_keys(&rig);
    is_active_everywhere(&rig, &officers, "recordings").await;
}

/// Whether a replica is required is configuration: an operator can say that it is not.
#[tokio::test]
async fn an_operator_who_takes_the_replica_out_lets_the_wait_end() {
    let rig = serving(&[("b", "")]).await;
    let officers = Officers::of(&rig).await;
    let (id, phase) = rotate(&officers, "recordings", "kek-rsa-3072").await;
    assert_eq!(phase, ProposalPhase::Executing);
    rig.stop().await;
    rig.edit("kekd.toml", |text| {
        text.replace("name = \"b\"", "name = \"b\"\nrequired = false")
    });
    rig.start();
    let officers = Officers::of(&rig).await;
    assert_eq!(ended(&officers, id).await, ProposalPhase::Executed);
}
