//! Policies: their defaults, what they refuse, and their text.

use super::*;
use crate::quorum::{PolicyError, Recovery, Rule};

fn officers(custodians: usize, policy_officers: usize) -> Vec<Officer> {
    let key = OfficerKey::from_openssh(ED25519).unwrap();
    let role = |at| match at < custodians {
        true => OfficerRole::KeyCustodian,
        false => OfficerRole::PolicyOfficer,
    };
    let officer = |at| Officer {
        name: format!("officer {at}"),
        role: role(at),
        key: key.clone(),
    };
    (0..custodians + policy_officers).map(officer).collect()
}

fn changed(kind: OperationKind, change: impl Fn(&mut Rule)) -> Policy {
    let mut policy = Policy::with_threshold(2);
    let mut rule = policy.rule(kind);
    change(&mut rule);
    policy.set(kind, rule);
    policy
}

#[test]
fn the_defaults_wait_where_nothing_can_be_taken_back() {
    let policy = Policy::with_threshold(3);
    let hours = |kind| policy.rule(kind).time_lock.as_secs() / 3600;
    assert_eq!(hours(OperationKind::RotateKek), 0);
    assert_eq!(hours(OperationKind::ChangeOfficers), 24);
    assert_eq!(hours(OperationKind::ChangePolicy), 24);
    assert_eq!(hours(OperationKind::Recover), 72);
    assert_eq!(hours(OperationKind::DestroyVersion), 7 * 24);
    for kind in OperationKind::ALL {
        let rule = policy.rule(kind);
        assert_eq!(rule.threshold, 3);
        assert_eq!(rule.allowed, kind != OperationKind::DestroyVersion);
        let long = matches!(kind, OperationKind::DestroyVersion | OperationKind::Recover);
        assert_eq!(rule.lifetime.as_secs(), if long { 30 } else { 7 } * 86_400);
    }
    assert!(!policy.proposer_may_approve);
    assert_eq!(policy.open_max_per_officer, 8);
    assert_eq!(policy.check(&officers(3, 3), true), Ok(()));
}

#[test]
fn a_policy_that_locks_out_or_lets_one_alone_is_refused() {
    use OperationKind as Kind;
    let day = Duration::from_secs(86_400);
    let refusal = |policy: Policy| policy.check(&officers(2, 2), true).unwrap_err().to_string();
    for (policy, expected) in [
        (
            changed(Kind::CreateKek, |r| r.threshold = 1),
            "create-kek: expected a threshold of 2",
        ),
        (
            changed(Kind::CreateKek, |r| r.threshold = 32),
            "create-kek: expected a threshold of 2",
        ),
        (
            changed(Kind::CreateKek, |r| r.threshold = 3),
            "(key-custodian) can reach; found 3 with 2",
        ),
        (
            changed(Kind::AssignRole, |r| r.threshold = 3),
            "(policy-officer) can reach; found 3 with",
        ),
        (
            changed(Kind::ChangePolicy, |r| r.threshold = 5),
            "(any-officer) can reach; found 5 with 4",
        ),
        (
            changed(Kind::CreateKek, |r| r.lifetime = 367 * day),
            "create-kek: expected a lifetime",
        ),
        (
            changed(Kind::CreateKek, |r| r.lifetime *= 0),
            "create-kek: expected a lifetime",
        ),
        (
            changed(Kind::CreateKek, |r| r.time_lock = r.lifetime),
            "shorter than the lifetime",
        ),
        (
            changed(Kind::CreateKek, |r| r.time_lock = day / 86_400_000),
            "whole seconds",
        ),
        (
            changed(Kind::DestroyVersion, |r| r.time_lock = 6 * day),
            "at least 604800 s",
        ),
        (
            changed(Kind::Reinstate, |r| r.allowed = false),
            "reinstate: expected it to be allowed",
        ),
        (
            changed(Kind::CancelDestruction, |r| r.allowed = false),
            "to be allowed",
        ),
        (
            changed(Kind::ChangeOfficers, |r| r.allowed = false),
            "to be allowed",
        ),
        (
            Policy {
                open_max_per_officer: 0,
                ..Policy::with_threshold(2)
            },
            "1 to 64 open",
        ),
        (
            Policy {
                open_max_per_officer: 65,
                ..Policy::with_threshold(2)
            },
            "1 to 64 open",
        ),
    ] {
        let found = refusal(policy);
        assert!(found.contains(expected), "{expected}: {found}");
    }
    // What nobody may propose nobody has to reach.
    let forbidden = changed(Kind::ImportKek, |rule| {
        rule.threshold = 31;
        rule.allowed = false;
    });
    assert_eq!(forbidden.check(&officers(2, 2), true), Ok(()));
}

#[test]
fn a_genesis_may_leave_a_role_for_later() {
    let policy = Policy::with_threshold(2);
    for officers in [officers(2, 0), officers(2, 1)] {
        assert_eq!(policy.check(&officers, false), Ok(()));
        let strict = policy.check(&officers, true);
        assert!(matches!(strict, Err(PolicyError::OutOfReach { .. })));
    }
    assert!(policy.check(&officers(1, 0), false).is_err());
}

#[test]
fn recovery_needs_somebody_to_recover() {
    let recovery = |count, threshold| Recovery {
        officers: officers(count, 0),
        threshold,
        time_lock: Duration::from_secs(259_200),
    };
    let policy = Policy::with_threshold(3);
    let nobody = policy.check_recovery(None);
    assert_eq!(nobody, Err(PolicyError::NoRecoverySet));
    assert!(policy.check_recovery(Some(&recovery(2, 2))).is_err());
    assert_eq!(policy.check_recovery(Some(&recovery(3, 2))), Ok(()));
    let forbidden = changed(OperationKind::Recover, |rule| rule.allowed = false);
    assert_eq!(forbidden.check_recovery(None), Ok(()));
}

#[test]
fn a_policy_has_one_text() {
    let Operation::ChangePolicy(policy) = operation(OperationKind::ChangePolicy) else {
        return;
    };
    let text = policy.text();
    assert_eq!(text.lines().count(), 22);
    assert_eq!(Policy::parse(&text), Ok(policy));
    let doubled = format!("{text}{text}");
    let found = Policy::parse(&doubled).unwrap_err();
    assert!(matches!(
        found,
        StatementError::LineTooMany { line: 23, .. }
    ));
    let cut = text.lines().take(21).map(|line| format!("{line}\n"));
    let found = Policy::parse(&cut.collect::<String>()).unwrap_err();
    let expected = "rule";
    assert_eq!(found, StatementError::LineMissing { line: 22, expected });
}
