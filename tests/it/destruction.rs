//! The destruction of a private key: what it takes, how it waits, how it is called off, and that
//! nothing but that one key is gone afterwards.

use kekd::clock::UnixMs;
use kekd::proto::v1::entry::Event;
use kekd::proto::v1::{self, ProposalPhase, VersionState};
use kekd::quorum::{
    Operation, PROPOSAL_NAMESPACE, Policy, Proposal, ProposalDraft, ProposalId, Rule, Usage,
};
use kekd::types::{KeypairId, Padding};

use crate::harness::{Kek, Rig, dek, must};
use crate::host_clock::{
    DAY, HOUR, HostClock, SECOND, execute_at, now, refused, restart, until_count,
};
use crate::officers::{Officers, new_version};

const NEVER: Usage = Usage {
    unwraps: 0,
    first: None,
    last: None,
};

async fn versions(rig: &Rig) -> Vec<v1::Version> {
    let auditor = rig.client("auditor").await;
    let kek = auditor.get_kek(&"recordings".parse().unwrap()).await;
    kek.unwrap().versions
}

/// Rotates, so that the first version can be destroyed: it.
async fn rotated(rig: &Rig, officers: &Officers<'_>) -> Kek {
    let kek = Kek::of(&rig.client("lkm-1").await, "recordings").await;
    let rotate = Operation::RotateKek {
        version: new_version("recordings", "kek-rsa-3072"),
        retires: Some(kek.keypair_id),
    };
    officers.enact(rotate).await.unwrap();
    kek
}

fn destroy(keypair_id: KeypairId, unused_days: u32, usage: Usage) -> Operation {
    Operation::DestroyVersion {
        keypair_id,
        unused_days,
        usage,
    }
}

/// Put forward by Alice and approved by both others.
async fn approved(officers: &Officers<'_>, operation: Operation) -> ProposalId {
    let id = officers.propose("alice", operation).await.unwrap();
    officers.approve("bob", id).await.unwrap();
    officers.approve("carol", id).await.unwrap();
    id
}

async fn unwraps(rig: &Rig, kek: &Kek) -> Result<(), String> {
    let client = rig.client("lkm-1").await;
    match client.unwrap(kek.call(Padding::OaepSha1, &[7; 32])).await {
        Ok(released) => {
            assert_eq!(dek(&released.release), [7; 32]);
            Ok(())
        }
        Err(refusal) => Err(crate::harness::reason(&refusal).to_owned()),
    }
}

fn stopped() -> Result<(), String> {
    Err("VERSION_NOT_USABLE".to_owned())
}

#[tokio::test]
async fn a_key_is_destroyed_after_seven_days_by_both_clocks_and_no_other_key_is() {
    let mut rig = Rig::stopped();
    let clock = HostClock::of(&mut rig);
    rig.start();
    let officers = Officers::of(&rig).await;
    let kek = rotated(&rig, &officers).await;
    let id = approved(&officers, destroy(kek.keypair_id, 0, NEVER)).await;
    assert_eq!(versions(&rig).await[0].state(), VersionState::Suspended);
    assert_eq!(unwraps(&rig, &kek).await, stopped());
    let (_, why) = refused(officers.execute("alice", id).await);
    assert!(why.contains("time-locked"), "{why}");

    let found = officers.client.get_proposal(id.0).await.unwrap();
    let end = UnixMs(found.executable_at_ms.div_ceil(SECOND) * SECOND);
    let before = UnixMs(end.0 - SECOND);
    restart(&rig, || clock.stand_at(before)).await;
    for officer in [before, end] {
        let (_, why) = refused(execute_at(&officers, "alice", id, officer).await);
        assert!(why.contains("time-locked"), "{why}");
    }
    assert_eq!(unwraps(&rig, &kek).await, stopped());
    clock.stand_at(end);
    for (officer, rule) in [
        (UnixMs(now().0 / SECOND * SECOND), "no earlier than the end"),
        (UnixMs(before.0 - SECOND), "no earlier than the end"),
        (UnixMs(end.0 + HOUR + SECOND), "within one hour"),
    ] {
        let (_, why) = refused(execute_at(&officers, "alice", id, officer).await);
        assert!(
            why.contains("the officer's time") && why.contains(rule),
            "{why}"
        );
    }
    assert_eq!(objects(&rig, &kek).len(), 2);
    let executed = execute_at(&officers, "alice", id, end).await.unwrap();
    assert_eq!(executed.proposal.unwrap().phase(), ProposalPhase::Executed);
    assert_eq!(objects(&rig, &kek), Vec::<String>::new());

    for _ in 0..2 {
        let versions = versions(&rig).await;
        assert_eq!(versions[0].state(), VersionState::Destroyed);
        assert_eq!(versions[1].state(), VersionState::Active);
        assert_eq!(unwraps(&rig, &kek).await, stopped());
        let client = rig.client("lkm-1").await;
        let id = versions[1].keypair_id.parse().unwrap();
        let spki = client
            .get_public_key(id, v1::PublicKeyFormat::SpkiPem)
            .await
            .unwrap();
        let spki = crate::harness::pem_bytes(&String::from_utf8(spki).unwrap());
        let other = Kek {
            keypair_id: id,
            public_key: kekd::public_key::RsaPublicKey::from_spki(&spki).unwrap(),
        };
        assert_eq!(unwraps(&rig, &other).await, Ok(()));
        drop(client);
        restart(&rig, || clock.days(8)).await;
    }
}

/// What the token shows under a version's id.
fn objects(rig: &Rig, kek: &Kek) -> Vec<String> {
    let listed = must(&mut rig.pkcs11_tool(&["--list-objects"]));
    let listed = String::from_utf8(listed.stdout).unwrap();
    let lines = listed.lines().filter(|line| line.contains(&kek.cka_id()));
    lines.map(str::to_owned).collect()
}

#[tokio::test]
async fn the_use_that_is_stated_must_be_true_and_long_ago() {
    let mut rig = Rig::stopped();
    let clock = HostClock::of(&mut rig);
    rig.start();
    let officers = Officers::of(&rig).await;
    let kek = rotated(&rig, &officers).await;
    for _ in 0..2 {
        assert_eq!(unwraps(&rig, &kek).await, Ok(()));
    }
    let used = versions(&rig).await[0].usage.clone().unwrap();
    assert_eq!(used.unwraps, 2);
    let usage = Usage {
        unwraps: 2,
        first: Some(UnixMs(used.first_use_ms / SECOND * SECOND)),
        last: Some(UnixMs(used.last_use_ms / SECOND * SECOND)),
    };
    let later = |at: Option<UnixMs>| at.map(|at| UnixMs(at.0 + DAY));
    let unwrapper = rig.client("lkm-1").await;
    let seen = unwrapper
        .get_kek(&"recordings".parse().unwrap())
        .await
        .unwrap();
    assert!(
        seen.versions[0].usage.is_none(),
        "an unwrap client is not told"
    );
    drop(unwrapper);

    // Each figure, and the days.
    let lies = [
        NEVER,
        Usage {
            unwraps: 1,
            ..usage
        },
        Usage {
            last: later(usage.last),
            ..usage
        },
        Usage {
            first: Some(UnixMs(usage.first.unwrap().0 - DAY)),
            ..usage
        },
    ];
    let wrong = lies.into_iter().map(|lie| destroy(kek.keypair_id, 0, lie));
    let recent = destroy(kek.keypair_id, 1, usage);
    for operation in wrong.chain([recent]) {
        let (reason, why) = refused(officers.propose("alice", operation).await);
        assert_eq!(reason, "NOT_ACCEPTED");
        let says = |at: Option<UnixMs>| why.contains(&at.unwrap().rfc3339());
        assert!(
            why.contains("released 2 DEKs") && says(usage.first) && says(usage.last),
            "{why}"
        );
    }

    // kekctl states it by itself.
    let mut propose = rig.kekctl_as("officer", &["propose", "destroy-version"]);
    propose
        .args(["--unused-days", "0", "--keypair-id"])
        .arg(kek.keypair_id.to_string())
        .args([
            "--officer",
            "alice",
            "--yes",
            "--output",
            "json",
            "--officer-key",
        ])
        .arg(rig.dir.join("officers/alice"));
    must(&mut propose);
    let open = officers.client.list_proposals(false).await.unwrap();
    let id = ProposalId(kekd::types::Sha256::try_from(open[0].id.as_slice()).unwrap());
    let proposal = officers.proposal(id).await;
    assert_eq!(proposal.operation, destroy(kek.keypair_id, 0, usage));

    // Used between: what the statement says is true no more, for approvals as for the execution.
    officers.approve("bob", id).await.unwrap();
    assert_eq!(unwraps(&rig, &kek).await, Ok(()));
    let (_, why) = refused(officers.approve("carol", id).await);
    assert!(why.contains("released 3 DEKs"), "{why}");
    officers.veto("carol", id).await.unwrap();

    // A day later it has been out of use for a day.
    restart(&rig, || clock.days(2)).await;
    let used = versions(&rig).await[0].usage.clone().unwrap();
    let usage = Usage {
        unwraps: 3,
        last: Some(UnixMs(used.last_use_ms / SECOND * SECOND)),
        ..usage
    };
    approved(&officers, destroy(kek.keypair_id, 1, usage)).await;
}

#[tokio::test]
async fn a_version_comes_back_by_a_veto_by_a_cancellation_and_by_time() {
    let mut rig = Rig::stopped();
    let clock = HostClock::of(&mut rig);
    rig.start();
    let officers = Officers::of(&rig).await;
    let kek = rotated(&rig, &officers).await;

    let id = approved(&officers, destroy(kek.keypair_id, 0, NEVER)).await;
    assert_eq!(unwraps(&rig, &kek).await, stopped());
    let cancel = Operation::CancelDestruction { proposal: id };
    officers.enact(cancel).await.unwrap();
    assert_eq!(officers.phase(id).await, ProposalPhase::Cancelled);
    assert_eq!(versions(&rig).await[0].state(), VersionState::Deactivated);

    let id = approved(&officers, destroy(kek.keypair_id, 0, NEVER)).await;
    assert_eq!(unwraps(&rig, &kek).await, stopped());
    officers.veto("bob", id).await.unwrap();
    assert_eq!(versions(&rig).await[0].state(), VersionState::Deactivated);

    let id = approved(&officers, destroy(kek.keypair_id, 0, NEVER)).await;
    restart(&rig, || clock.days(29)).await;
    assert_eq!(officers.phase(id).await, ProposalPhase::Executable);
    assert_eq!(unwraps(&rig, &kek).await, stopped());
    restart(&rig, || clock.days(31)).await;
    until_count(&rig, 1, |event| matches!(event, Event::ProposalExpired(_))).await;
    assert_eq!(officers.phase(id).await, ProposalPhase::Expired);
    assert_eq!(unwraps(&rig, &kek).await, Ok(()));
    let (_, why) = refused(officers.execute("alice", id).await);
    assert!(why.contains("the proposal is expired"), "{why}");
}

#[tokio::test]
async fn what_the_policy_does_not_allow_is_not_even_put_forward() {
    let rig = Rig::serving();
    let officers = Officers::of(&rig).await;
    let kek = rotated(&rig, &officers).await;
    let proposal = officers
        .draft("alice", destroy(kek.keypair_id, 0, NEVER))
        .await;
    // What is open is cancelled by the change, and its version comes back.
    let id = approved(&officers, destroy(kek.keypair_id, 0, NEVER)).await;
    let governance = officers.governance().await;
    let policy = governance.policy.lines().map(|line| match line {
        line if line.starts_with("rule destroy-version ") => {
            line.replace("allowed yes", "allowed no")
        }
        line => line.to_owned(),
    });
    let text = policy.collect::<Vec<_>>().join("\n");
    let policy = Policy::parse(&format!("{text}\n")).unwrap();
    officers
        .enact(Operation::ChangePolicy(policy))
        .await
        .unwrap();
    assert_eq!(officers.phase(id).await, ProposalPhase::Cancelled);
    assert_eq!(unwraps(&rig, &kek).await, Ok(()));

    let governance = officers.governance().await;
    let mut rules = governance.rules.iter();
    assert!(
        !rules
            .find(|rule| rule.operation == "destroy-version")
            .unwrap()
            .allowed
    );
    let redrafted = Proposal::draft(ProposalDraft {
        instance_id: proposal.instance_id,
        operation: proposal.operation,
        proposer: proposal.proposer,
        nonce: proposal.nonce,
        opened_at: UnixMs(governance.now_ms),
        rule: Rule {
            threshold: proposal.threshold,
            time_lock: proposal.time_lock,
            lifetime: std::time::Duration::from_secs(30 * 86_400),
            allowed: true,
        },
        epoch: governance.epoch,
        head: proposal.head,
    })
    .unwrap();
    let signature = officers.sign("alice", PROPOSAL_NAMESPACE, redrafted.text());
    let text = redrafted.text().to_vec();
    let (reason, why) = refused(officers.client.propose(text, signature).await);
    assert_eq!(reason, "NOT_ACCEPTED");
    assert!(
        why.contains("the policy does not allow destroy-version"),
        "{why}"
    );
}
