//! What an approved proposal does, when, and how often.

use super::refused;
use super::signing::Person;
use super::stage::{CUSTODIANS, DAY, Deed, HOUR, SECOND, Stage, id, kek, new_version, version};
use crate::clock::UnixMs;
use crate::keyring::VersionState;
use crate::quorum::governance::{Phase, Refusal};
use crate::quorum::{EXECUTION_NAMESPACE, Execution, Mandate, Operation, ProposalId};
use crate::types::Sha256;

const POLICY_OFFICERS: [&str; 3] = ["dave", "erin", "frank"];

fn create(name: &str) -> Operation {
    Operation::CreateKek(new_version(name))
}

fn mandate(until: UnixMs) -> Operation {
    Operation::SetRotationMandate(Mandate {
        version: new_version("a"),
        period_days: 30,
        interval_days_min: 10,
        until,
        warn_days: vec![7],
    })
}

/// An approved change-policy, whose lock runs for a day; the time is that of the threshold.
fn locked() -> (Stage, ProposalId) {
    let mut stage = Stage::new();
    let mut policy = stage.governance.policy().clone();
    policy.open_max_per_officer = 3;
    stage.now.0 += 123;
    let id = stage
        .open("alice", Operation::ChangePolicy(policy))
        .unwrap();
    stage.approve("dave", id).unwrap();
    stage.approve("erin", id).unwrap();
    (stage, id)
}

#[test]
fn clock_moved_forward_past_the_lock_executes_nothing_by_itself() {
    let (mut stage, id) = locked();
    let met = stage.now;
    let end = UnixMs(met.0 + DAY);
    refused!(
        stage.execute("alice", id),
        Refusal::PhaseWrong {
            found: Phase::TimeLocked,
            ..
        }
    );
    stage.now.0 = end.0 - 1;
    refused!(
        stage.execute("alice", id),
        Refusal::PhaseWrong {
            found: Phase::TimeLocked,
            ..
        }
    );
    // The node's clock is past it, the officer's is not.
    stage.now = end;
    for early in [met.0, end.0 - SECOND] {
        let found = stage.execute_at("alice", id, UnixMs(early), None);
        refused!(
            found,
            Refusal::Time {
                what: "the officer's time",
                ..
            }
        );
    }
    // Both are past it and do not agree.
    stage.now.0 = end.0 + DAY;
    for apart in [stage.now.0 - HOUR - SECOND, stage.now.0 + HOUR + SECOND] {
        let found = stage.execute_at("alice", id, UnixMs(apart), None);
        refused!(
            found,
            Refusal::Time {
                what: "the officer's time",
                ..
            }
        );
    }
    stage
        .execute_at("alice", id, UnixMs(stage.now.0 + HOUR), None)
        .unwrap();
}

#[test]
fn an_officer_whose_clock_is_past_the_expiry_executes_nothing() {
    let (mut stage, id) = locked();
    let expires = stage.standing(id).proposal.expires_at;
    stage.now.0 = expires.0 - SECOND;
    let found = stage.execute_at("alice", id, expires, None);
    refused!(found, Refusal::Time { .. });
    stage
        .execute_at("alice", id, UnixMs(expires.0 - SECOND), None)
        .unwrap();
}

#[test]
fn an_execution_is_replayed_in_vain() {
    let (mut stage, id) = locked();
    stage.now.0 += DAY;
    let (statement, signature) = stage.order(Person::of("alice"), id, stage.now);
    stage
        .take(&Deed::Execute(statement.clone(), signature.clone()))
        .unwrap();
    let again = Deed::Execute(statement, signature);
    refused!(
        stage.take(&again),
        Refusal::PhaseWrong {
            found: Phase::Executed,
            ..
        }
    );
}

#[test]
fn an_order_says_of_the_proposal_what_the_proposal_says_and_its_giver_signs_it() {
    let mut stage = Stage::new();
    let grant = |uid: &str| Operation::GrantUnwrap {
        identity: uid.parse().unwrap(),
        kek: kek("a"),
    };
    let id = stage.agreed(POLICY_OFFICERS, grant("uid:7"));
    let other = stage.agreed(POLICY_OFFICERS, grant("uid:8"));
    let (statement, signature) = stage.order(Person::of("dave"), id, stage.now);
    let text = String::from_utf8(statement).unwrap();
    let act = |text: &str, by: &Person| {
        let signature = by.sign(EXECUTION_NAMESPACE, text.as_bytes());
        stage
            .clone()
            .take(&Deed::Execute(text.as_bytes().to_vec(), signature))
    };
    let dave = Person::of("dave");
    let moved = text.replace(&id.to_string(), &other.to_string());
    refused!(act(&moved, dave), Refusal::FactDiffers { .. });
    let lied = text.replace("uid:7", "uid:6");
    refused!(act(&lied, dave), Refusal::FactDiffers { .. });
    let kind = text.replace("operation grant-unwrap", "operation withdraw-unwrap");
    refused!(act(&kind, dave), Refusal::FactDiffers { .. });
    let unknown = text.replace(&id.to_string(), &"0".repeat(64));
    refused!(act(&unknown, dave), Refusal::ProposalUnknown(_));
    refused!(
        act(&text, Person::of("erin")),
        Refusal::SignedByAnother { .. }
    );
    refused!(act(&text, Person::of("alice")), Refusal::Signature(_));
    let instance = stage.governance.instance_id().to_string();
    let elsewhere = text.replace(&instance, &Sha256::of(b"x").to_string());
    refused!(act(&elsewhere, dave), Refusal::InstanceWrong { .. });
    for at in 0..text.len() {
        let mut bad = text.clone().into_bytes();
        bad[at] ^= 1;
        assert!(
            stage
                .clone()
                .take(&Deed::Execute(bad, signature.clone()))
                .is_err()
        );
    }
    stage
        .take(&Deed::Execute(text.into_bytes(), signature))
        .unwrap();
    assert!(stage.clients.names(&"uid:7".parse().unwrap()));
}

#[test]
fn what_needs_the_hsm_takes_two_steps_and_the_rest_one() {
    let mut stage = Stage::new();
    let made = stage.agreed(CUSTODIANS, create("b"));
    let (statement, signature) = stage.order(Person::of("alice"), made, stage.now);
    let at_once = Deed::Execute(statement.clone(), signature.clone());
    refused!(stage.take(&at_once), Refusal::WrongEntry { .. });
    let without_id = Deed::Begin(statement, signature, None);
    refused!(stage.take(&without_id), Refusal::WrongEntry { .. });
    let granted = stage.agreed(
        POLICY_OFFICERS,
        Operation::BindRecordingPolicy {
            key: "queue".to_owned(),
            kek: kek("a"),
            fallback: None,
        },
    );
    let (statement, signature) = stage.order(Person::of("dave"), granted, stage.now);
    let begun = Deed::Begin(statement, signature, Some(id(9)));
    refused!(stage.take(&begun), Refusal::WrongEntry { .. });
}

#[test]
fn only_what_was_begun_ends_and_as_it_was_approved() {
    let mut stage = Stage::new();
    let nothing = Deed::Activate(
        Box::new(version(&kek("b"), 1, id(9), None, stage.now)),
        ProposalId(Sha256::of(b"")),
    );
    refused!(stage.take(&nothing), Refusal::NotBegun(_));
    refused!(stage.take(&Deed::Fail(id(9))), Refusal::NotBegun(_));
    refused!(stage.take(&Deed::Destroyed(id(1))), Refusal::NotBegun(_));
    let made = stage.agreed(CUSTODIANS, create("b"));
    let used = stage.execute_at("alice", made, stage.now, Some(id(1)));
    refused!(used, Refusal::IdInUse(_));
    stage
        .execute_at("alice", made, stage.now, Some(id(9)))
        .unwrap();
    refused!(stage.take(&Deed::Destroyed(id(9))), Refusal::NotBegun(_));
    let good = version(&kek("b"), 1, id(9), None, stage.now);
    let other = ProposalId(Sha256::of(b"somebody else's"));
    let mut wrong = vec![Deed::Activate(Box::new(good.clone()), other)];
    for change in [
        |version: &mut crate::keyring::Version| version.kek = kek("c"),
        |version: &mut crate::keyring::Version| version.number = 2,
        |version: &mut crate::keyring::Version| version.profile.push(b'#'),
        |version: &mut crate::keyring::Version| version.profile_name.push('q'),
    ] {
        let mut bad = good.clone();
        change(&mut bad);
        wrong.push(Deed::Activate(Box::new(bad), made));
    }
    for deed in wrong {
        refused!(stage.take(&deed), Refusal::NotAsApproved { .. });
    }
    let deed = Deed::Activate(Box::new(good), made);
    stage.take(&deed).unwrap();
    assert_eq!(stage.phase(made), Phase::Executed);
    assert!(stage.take(&deed).is_err(), "a version is made once");
}

#[test]
fn an_import_brings_in_the_key_that_was_approved_and_one_key_once() {
    let mut stage = Stage::new();
    let import = |name: &str| Operation::ImportKek {
        version: new_version(name),
        spki_sha256: Sha256::of(b"theirs"),
    };
    let first = stage.agreed(CUSTODIANS, import("b"));
    let second = stage.agreed(CUSTODIANS, import("c"));
    stage
        .execute_at("alice", first, stage.now, Some(id(9)))
        .unwrap();
    let twice = stage.execute_at("alice", second, stage.now, Some(id(8)));
    refused!(twice, Refusal::IdInUse(_));
    let other = version(&kek("b"), 1, id(9), Some(Sha256::of(b"mine")), stage.now);
    let other = Deed::Activate(Box::new(other), first);
    refused!(
        stage.take(&other),
        Refusal::NotAsApproved {
            what: "public key",
            ..
        }
    );
    stage.take(&stage.activated(id(9)).unwrap()).unwrap();
}

#[test]
fn two_that_make_the_same_do_not_run_at_a_time_and_an_id_is_never_used_again() {
    let mut stage = Stage::new();
    let first = stage.agreed(CUSTODIANS, create("b"));
    let second = stage.agreed(CUSTODIANS, create("b"));
    stage
        .execute_at("alice", first, stage.now, Some(id(9)))
        .unwrap();
    let busy = stage.execute_at("alice", second, stage.now, Some(id(8)));
    refused!(busy, Refusal::UnderWay { .. });
    stage.take(&Deed::Fail(id(9))).unwrap();
    assert_eq!(stage.phase(first), Phase::Failed);
    refused!(stage.take(&Deed::Fail(id(9))), Refusal::NotBegun(_));
    let quarantined = stage.execute_at("alice", second, stage.now, Some(id(9)));
    refused!(quarantined, Refusal::IdInUse(_));
    stage
        .execute_at("alice", second, stage.now, Some(id(8)))
        .unwrap();
    stage.take(&stage.activated(id(8)).unwrap()).unwrap();
    let again = stage.open("alice", create("b"));
    refused!(again, Refusal::KekExists(_));
}

#[test]
fn a_mandate_rotates_inside_its_bounds_only() {
    let mut stage = Stage::new();
    let until = UnixMs(stage.now.0 + 40 * DAY);
    let set = stage.agreed(CUSTODIANS, mandate(until));
    refused!(
        stage.take(&Deed::Mandated(set, id(9))),
        Refusal::ProposalUnknown(_)
    );
    stage.execute("alice", set).unwrap();
    refused!(
        stage.take(&Deed::Mandated(set, id(9))),
        Refusal::Time { .. }
    );
    stage.now.0 += 10 * DAY - 1;
    refused!(
        stage.take(&Deed::Mandated(set, id(9))),
        Refusal::Time { .. }
    );
    stage.now.0 += 1;
    let mut stopped = stage.clone();
    stopped.take(&Deed::HostStop(None)).unwrap();
    refused!(
        stopped.take(&Deed::Mandated(set, id(9))),
        Refusal::UnderWay { .. }
    );
    refused!(stage.take(&Deed::Mandated(set, id(1))), Refusal::IdInUse(_));
    stage.take(&Deed::Mandated(set, id(9))).unwrap();
    refused!(
        stage.take(&Deed::Mandated(set, id(8))),
        Refusal::UnderWay { .. }
    );
    stage.take(&Deed::Fail(id(9))).unwrap();
    refused!(stage.take(&Deed::Mandated(set, id(9))), Refusal::IdInUse(_));
    stage.take(&Deed::Mandated(set, id(8))).unwrap();
    stage.take(&stage.activated(id(8)).unwrap()).unwrap();
    refused!(
        stage.take(&Deed::Mandated(set, id(7))),
        Refusal::Time { .. }
    );
    stage.now = until;
    refused!(
        stage.take(&Deed::Mandated(set, id(7))),
        Refusal::Time { .. }
    );
}

#[test]
fn a_mandate_without_an_active_version_or_a_policy_that_allows_it_rotates_nothing() {
    let mut stage = Stage::new();
    let until = UnixMs(stage.now.0 + 300 * DAY);
    let set = stage.agreed(CUSTODIANS, mandate(until));
    stage.execute("alice", set).unwrap();
    stage.now.0 += 10 * DAY;
    let mut revoked = stage.clone();
    let reason = "lost".to_owned();
    let revoke = Operation::RevokeVersion {
        keypair_id: id(1),
        reason,
    };
    let revoke = revoked.agreed(CUSTODIANS, revoke);
    revoked.execute("alice", revoke).unwrap();
    refused!(
        revoked.take(&Deed::Mandated(set, id(9))),
        Refusal::Nothing { .. }
    );
    let kind = crate::quorum::OperationKind::SetRotationMandate;
    let mut policy = stage.governance.policy().clone();
    let mut rule = policy.rule(kind);
    rule.allowed = false;
    policy.set(kind, rule);
    let change = stage.agreed(["alice", "bob", "dave"], Operation::ChangePolicy(policy));
    stage.execute("alice", change).unwrap();
    refused!(
        stage.take(&Deed::Mandated(set, id(9))),
        Refusal::NotAllowed { .. }
    );
}

#[test]
fn the_end_of_what_a_withdrawn_mandate_began_leaves_its_proposal_as_it_was() {
    for ends_well in [false, true] {
        let mut stage = Stage::new();
        let set = stage.agreed(CUSTODIANS, mandate(UnixMs(stage.now.0 + 40 * DAY)));
        stage.execute("alice", set).unwrap();
        stage.now.0 += 10 * DAY;
        stage.take(&Deed::Mandated(set, id(9))).unwrap();
        let withdraw = Operation::WithdrawRotationMandate { kek: kek("a") };
        let withdraw = stage.agreed(CUSTODIANS, withdraw);
        stage.execute("alice", withdraw).unwrap();
        let before = stage.standing(set);
        stage
            .take(&match ends_well {
                true => stage.activated(id(9)).unwrap(),
                false => Deed::Fail(id(9)),
            })
            .unwrap();
        assert_eq!(stage.standing(set), before);
    }
}

#[test]
fn a_revoked_version_unwraps_nothing_and_its_kek_is_rotated_from_nothing() {
    let mut stage = Stage::new();
    let reason = "lost".to_owned();
    let revoke = Operation::RevokeVersion {
        keypair_id: id(1),
        reason,
    };
    let twice = revoke.clone();
    let revoke = stage.agreed(CUSTODIANS, revoke);
    stage.execute("alice", revoke).unwrap();
    assert_eq!(
        stage.keyring.version(id(1)).unwrap().state(),
        VersionState::Compromised
    );
    refused!(stage.open("alice", twice), Refusal::Keyring(_));
    let rotate = Operation::RotateKek {
        version: new_version("a"),
        retires: None,
    };
    let rotate = stage.agreed(CUSTODIANS, rotate);
    stage
        .execute_at("alice", rotate, stage.now, Some(id(2)))
        .unwrap();
    stage.take(&stage.activated(id(2)).unwrap()).unwrap();
    assert_eq!(stage.keyring.active(&kek("a")).unwrap().number, 2);
}

#[test]
fn an_execution_needs_those_who_are_officers_now() {
    let (mut stage, id) = locked();
    stage.now.0 += DAY;
    let mallory = Execution::draft(&stage.standing(id).proposal, "mallory", stage.now).unwrap();
    let signature = Person::of("mallory").sign(EXECUTION_NAMESPACE, mallory.text());
    let found = stage.take(&Deed::Execute(mallory.text().to_vec(), signature));
    refused!(found, Refusal::Signature(_));
}
