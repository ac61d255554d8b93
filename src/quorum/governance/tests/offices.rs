//! Who is an officer, and by which policy.

use super::refused;
use super::signing::Person;
use super::stage::{CUSTODIANS, DAY, Deed, RECOVERY, Stage, custodian, id, kek, new_version};
use crate::quorum::governance::{Phase, Refusal};
use crate::quorum::{Officer, OfficerKey, Operation, OperationKind, Policy, Rule};

fn change(officers: Vec<Officer>) -> Operation {
    Operation::ChangeOfficers { officers }
}

/// The officers in office with `gina` too.
fn with_gina(stage: &Stage) -> Vec<Officer> {
    let mut officers = stage.governance.officers().to_vec();
    officers.push(custodian(Person::of("gina")));
    officers
}

fn with_rule(policy: &Policy, kind: OperationKind, change: impl Fn(&mut Rule)) -> Operation {
    let mut policy = policy.clone();
    let mut rule = policy.rule(kind);
    change(&mut rule);
    policy.set(kind, rule);
    Operation::ChangePolicy(policy)
}

#[test]
fn new_set_without_proof_of_possession_does_not_come_into_office() {
    let mut stage = Stage::new();
    let officers = with_gina(&stage);
    let id = stage.agreed(["alice", "bob", "dave"], change(officers));
    refused!(
        stage.execute("alice", id),
        Refusal::PossessionMissing { .. }
    );
    refused!(stage.prove(Person::of("alice"), id), Refusal::Signature(_));
    refused!(
        stage.prove(Person::with_key("gina", 2), id),
        Refusal::Signature(_)
    );
    stage.prove(Person::of("gina"), id).unwrap();
    refused!(
        stage.prove(Person::of("gina"), id),
        Refusal::SignedTwice { .. }
    );
    stage.execute("alice", id).unwrap();
    assert_eq!(stage.governance.officers().len(), 7);
    assert_eq!(stage.governance.epoch(), 2);
    stage
        .open("gina", Operation::CreateKek(new_version("b")))
        .unwrap();
}

#[test]
fn a_key_like_one_in_office_that_signs_nothing_is_to_be_proved_too() {
    let mut stage = Stage::new();
    let mut officers = stage.governance.officers().to_vec();
    let line = officers[0].key.to_openssh();
    let point = line.split(' ').next_back().unwrap();
    let blob = base64::Engine::decode(&base64::engine::general_purpose::STANDARD, point).unwrap();
    let in_token = [
        crate::quorum::sshsig::string("sk-ssh-ed25519@openssh.com"),
        crate::quorum::sshsig::string(&blob[blob.len() - 32..]),
        crate::quorum::sshsig::string("ssh:nobody"),
    ];
    let base64 = base64::Engine::encode(
        &base64::engine::general_purpose::STANDARD,
        in_token.concat(),
    );
    let line = format!("sk-ssh-ed25519@openssh.com {base64}");
    officers[0].key = OfficerKey::from_openssh(&line).unwrap();
    let id = stage.agreed(["bob", "carol", "dave"], change(officers));
    refused!(stage.execute("bob", id), Refusal::PossessionMissing { .. });
}

#[test]
fn nothing_is_proved_where_nobody_is_new() {
    let mut stage = Stage::new();
    let id = stage
        .open("alice", Operation::CreateKek(new_version("b")))
        .unwrap();
    refused!(stage.prove(Person::of("gina"), id), Refusal::NothingToProve);
}

#[test]
fn two_officers_with_one_key_are_refused() {
    let stage = Stage::new();
    let mut officers = stage.governance.officers().to_vec();
    let mut twin = officers[0].clone();
    twin.name = "zoe".to_owned();
    officers.push(twin);
    let drafted = crate::quorum::Proposal::draft(stage.draft("alice", change(officers)));
    assert!(drafted.is_err());
}

#[test]
fn officers_who_could_not_decide_are_refused() {
    let mut stage = Stage::new();
    let now = stage.governance.officers().to_vec();
    refused!(
        stage.open("alice", change(now.clone())),
        Refusal::SoAlready { .. }
    );
    let one: Vec<_> = now.iter().take(1).cloned().collect();
    refused!(stage.open("alice", change(one)), Refusal::Policy(_));
    // Two of a role reach a threshold of two only where a proposer's own approval counts.
    let mut two = now.clone();
    two.retain(|officer| officer.name != "frank");
    refused!(stage.open("alice", change(two)), Refusal::LocksOut { .. });
    let mut also_recovers = now;
    also_recovers.push(custodian(Person::of("rita")));
    refused!(
        stage.open("alice", change(also_recovers)),
        Refusal::SoAlready { .. }
    );
}

#[test]
fn policy_that_locks_everybody_out_is_refused() {
    let mut stage = Stage::new();
    let policy = stage.governance.policy().clone();
    let threshold = |kind, threshold| with_rule(&policy, kind, |rule| rule.threshold = threshold);
    for (kind, n) in [
        (OperationKind::ChangeOfficers, 6),
        (OperationKind::ChangePolicy, 6),
        (OperationKind::Reinstate, 3),
        (OperationKind::Reinstate, 6),
        (OperationKind::CreateKek, 4),
        (OperationKind::GrantUnwrap, 3),
    ] {
        let found = stage.open("alice", threshold(kind, n));
        refused!(found, Refusal::LocksOut { .. });
    }
    let found = stage.open("alice", threshold(OperationKind::ChangeOfficers, 7));
    refused!(found, Refusal::Policy(_));
    for (kind, n) in [
        (OperationKind::ChangeOfficers, 1),
        (OperationKind::Reinstate, 0),
    ] {
        refused!(
            stage.open("alice", threshold(kind, n)),
            Refusal::Statement(_)
        );
    }
    let never = with_rule(&policy, OperationKind::Reinstate, |rule| {
        rule.allowed = false
    });
    refused!(stage.open("alice", never), Refusal::Statement(_));
    stage
        .open("alice", threshold(OperationKind::ChangeOfficers, 5))
        .unwrap();
}

#[test]
fn threshold_changed_while_proposal_open_cancels_it() {
    let mut stage = Stage::new();
    let open = stage.agreed(CUSTODIANS, Operation::CreateKek(new_version("b")));
    let begun = stage.agreed(CUSTODIANS, Operation::CreateKek(new_version("c")));
    stage
        .execute_at("alice", begun, stage.now, Some(id(9)))
        .unwrap();
    let mut policy = stage.governance.policy().clone();
    policy.proposer_may_approve = true;
    let stale = stage.draft("bob", Operation::CreateKek(new_version("d")));
    let changed = stage.agreed(["alice", "bob", "dave"], Operation::ChangePolicy(policy));
    stage.execute("alice", changed).unwrap();
    assert_eq!(stage.phase(open), Phase::Cancelled);
    assert_eq!(stage.phase(changed), Phase::Executed);
    assert_eq!(
        stage.phase(begun),
        Phase::Executing,
        "what is in the HSM ends"
    );
    stage.take(&stage.activated(id(9)).unwrap()).unwrap();
    assert!(stage.keyring.active(&kek("c")).is_some());
    refused!(
        stage.put(Person::of("bob"), stale),
        Refusal::EpochWrong { .. }
    );
    refused!(stage.approve("carol", open), Refusal::PhaseWrong { .. });
}

#[test]
fn ex_officer_is_not_counted_even_where_a_proposal_survived() {
    let mut stage = Stage::new();
    let open = stage.agreed(CUSTODIANS, Operation::CreateKek(new_version("b")));
    stage
        .governance
        .officers
        .retain(|officer| officer.name != "carol");
    let found = stage.execute_at("alice", open, stage.now, Some(id(9)));
    refused!(found, Refusal::BelowThreshold { expected: 2, .. });
    refused!(stage.approve("carol", open), Refusal::Signature(_));
}

#[test]
fn a_policy_that_came_to_forbid_it_stops_what_was_agreed() {
    let mut stage = Stage::new();
    let open = stage.agreed(CUSTODIANS, Operation::CreateKek(new_version("b")));
    let kind = OperationKind::CreateKek;
    let mut rule = stage.governance.policy.rule(kind);
    rule.allowed = false;
    stage.governance.policy.set(kind, rule);
    let found = stage.execute_at("alice", open, stage.now, Some(id(9)));
    refused!(found, Refusal::NotAllowed { .. });
}

#[test]
fn the_recovery_set_replaces_the_officers_unless_one_of_them_objects() {
    let mut stage = Stage::new();
    let officers = with_gina(&stage);
    let recover = Operation::Recover { officers };
    refused!(stage.open("alice", recover.clone()), Refusal::Signature(_));
    // The genesis asks for all three, so that the one who proposes must count.
    let id = stage.open(RECOVERY[0], recover).unwrap();
    for name in RECOVERY {
        stage.approve(name, id).unwrap();
    }
    refused!(stage.approve("alice", id), Refusal::Signature(_));
    stage.prove(Person::of("gina"), id).unwrap();
    stage.now.0 += 3 * DAY - 1;
    let early = stage.execute("rita", id);
    refused!(
        early,
        Refusal::PhaseWrong {
            found: Phase::TimeLocked,
            ..
        }
    );
    stage.now.0 += 1;
    let mut vetoed = stage.clone();
    vetoed.veto("frank", id).unwrap();
    assert_eq!(vetoed.phase(id), Phase::Vetoed);
    refused!(stage.execute("alice", id), Refusal::Signature(_));
    stage.execute("rita", id).unwrap();
    assert!(
        stage
            .governance
            .officers()
            .iter()
            .any(|officer| officer.name == "gina")
    );
}

#[test]
fn no_policy_of_the_officers_takes_the_recovery_away() {
    let mut stage = Stage::new();
    let before = stage.governance.rule(OperationKind::Recover);
    let policy = stage.governance.policy().clone();
    let never = with_rule(&policy, OperationKind::Recover, |rule| {
        rule.allowed = false;
        rule.time_lock = std::time::Duration::ZERO;
        rule.lifetime = std::time::Duration::from_secs(1);
    });
    let id = stage.agreed(["alice", "bob", "dave"], never);
    stage.execute("alice", id).unwrap();
    assert_eq!(stage.governance.rule(OperationKind::Recover), before);
    assert_eq!(
        stage.governance.policy().rule(OperationKind::Recover),
        before
    );
    let officers = with_gina(&stage);
    stage.open("rita", Operation::Recover { officers }).unwrap();
}

#[test]
fn an_expiry_of_what_an_epoch_cancelled_is_refused() {
    let mut stage = Stage::new();
    let open = stage
        .open("alice", Operation::CreateKek(new_version("b")))
        .unwrap();
    let mut policy = stage.governance.policy().clone();
    policy.open_max_per_officer = 3;
    let id = stage.agreed(["alice", "bob", "dave"], Operation::ChangePolicy(policy));
    stage.execute("alice", id).unwrap();
    stage.now.0 += 30 * DAY;
    refused!(
        stage.take(&Deed::Expire(open)),
        Refusal::PhaseWrong {
            found: Phase::Cancelled,
            ..
        }
    );
}
