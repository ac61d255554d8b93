//! Keys that end: held while they wait, freed whichever way the proposal is closed.

use super::refused;
use super::stage::{CUSTODIANS, DAY, Deed, SECOND, Stage, id};
use crate::keyring::VersionState;
use crate::quorum::governance::{Phase, Refusal};
use crate::quorum::{Operation, ProposalId, Usage};
use crate::types::KeypairId;

pub(super) fn destroy(keypair_id: KeypairId) -> Operation {
    Operation::DestroyVersion {
        keypair_id,
        unused_days: 0,
        usage: Usage {
            unwraps: 0,
            first: None,
            last: None,
        },
    }
}

fn state(stage: &Stage) -> VersionState {
    stage.keyring.version(id(1)).unwrap().state()
}

/// A proposal to destroy version 1 has its approvals, and its lock runs.
fn waiting() -> (Stage, ProposalId) {
    let mut stage = Stage::rotated();
    let proposal = stage.open("alice", destroy(id(1))).unwrap();
    stage.approve("bob", proposal).unwrap();
    assert_eq!(state(&stage), VersionState::Deactivated);
    stage.approve("carol", proposal).unwrap();
    assert_eq!(state(&stage), VersionState::Suspended);
    (stage, proposal)
}

#[test]
fn a_version_is_destroyed_after_seven_days_and_never_comes_back() {
    let (mut stage, proposal) = waiting();
    stage.now.0 += 7 * DAY - SECOND;
    let early = stage.execute_at("alice", proposal, stage.now, None);
    refused!(
        early,
        Refusal::PhaseWrong {
            found: Phase::TimeLocked,
            ..
        }
    );
    stage.now.0 += SECOND;
    let with_id = stage.execute_at("alice", proposal, stage.now, Some(id(9)));
    refused!(with_id, Refusal::WrongEntry { .. });
    stage
        .execute_at("alice", proposal, stage.now, None)
        .unwrap();
    assert_eq!(state(&stage), VersionState::Suspended);
    let made = stage.keyring.version(id(1)).unwrap().as_ref().clone();
    let made = Deed::Activate(Box::new(made), proposal);
    assert!(stage.take(&made).is_err());
    stage.take(&Deed::Destroyed(id(1))).unwrap();
    assert_eq!(state(&stage), VersionState::Destroyed);
    assert_eq!(stage.phase(proposal), Phase::Executed);
    refused!(stage.take(&Deed::Destroyed(id(1))), Refusal::NotBegun(_));
    refused!(
        stage.open("bob", destroy(id(1))),
        Refusal::NotAsApproved { .. }
    );
}

#[test]
fn whatever_closes_the_proposal_frees_the_version() {
    let (stage, proposal) = waiting();
    let mut vetoed = stage.clone();
    vetoed.veto("alice", proposal).unwrap();
    assert_eq!(state(&vetoed), VersionState::Deactivated);

    let mut expired = stage.clone();
    expired.now.0 += 40 * DAY;
    expired.take(&Deed::Expire(proposal)).unwrap();
    assert_eq!(state(&expired), VersionState::Deactivated);

    let mut cancelled = stage.clone();
    let cancel = Operation::CancelDestruction { proposal };
    let cancel = cancelled.agreed(CUSTODIANS, cancel);
    cancelled.execute("bob", cancel).unwrap();
    assert_eq!(state(&cancelled), VersionState::Deactivated);
    assert_eq!(cancelled.phase(proposal), Phase::Cancelled);
    let again = Operation::CancelDestruction { proposal };
    refused!(cancelled.open("bob", again), Refusal::PhaseWrong { .. });

    let mut epoch = stage.clone();
    let mut policy = epoch.governance.policy().clone();
    policy.open_max_per_officer = 3;
    let change = epoch.agreed(["alice", "bob", "dave"], Operation::ChangePolicy(policy));
    epoch.execute("alice", change).unwrap();
    assert_eq!(state(&epoch), VersionState::Deactivated);

    let mut failed = stage;
    failed.now.0 += 7 * DAY;
    failed
        .execute_at("alice", proposal, failed.now, None)
        .unwrap();
    failed.take(&Deed::Fail(id(1))).unwrap();
    assert_eq!(state(&failed), VersionState::Deactivated);
    assert_eq!(failed.phase(proposal), Phase::Failed);
    let again = failed.execute_at("alice", proposal, failed.now, None);
    refused!(
        again,
        Refusal::PhaseWrong {
            found: Phase::Failed,
            ..
        }
    );
}

#[test]
fn a_version_revoked_while_it_waits_is_compromised_whatever_comes() {
    let (mut stage, proposal) = waiting();
    let reason = "leaked".to_owned();
    let revoke = Operation::RevokeVersion {
        keypair_id: id(1),
        reason,
    };
    let revoke = stage.agreed(CUSTODIANS, revoke);
    stage.execute("alice", revoke).unwrap();
    let mut vetoed = stage.clone();
    vetoed.veto("bob", proposal).unwrap();
    assert_eq!(state(&vetoed), VersionState::Compromised);
    vetoed.now.0 += SECOND;
    let next = vetoed.agreed(CUSTODIANS, destroy(id(1)));
    vetoed.execute_at("alice", next, vetoed.now, None).unwrap();
    vetoed.take(&Deed::Destroyed(id(1))).unwrap();
    stage.now.0 += 7 * DAY;
    stage
        .execute_at("alice", proposal, stage.now, None)
        .unwrap();
    stage.take(&Deed::Destroyed(id(1))).unwrap();
    assert_eq!(state(&stage), VersionState::Destroyed);
}

#[test]
fn one_proposal_at_a_time_asks_for_the_end_of_a_version() {
    let (mut stage, proposal) = waiting();
    refused!(stage.open("bob", destroy(id(1))), Refusal::UnderWay { .. });
    stage.now.0 += 7 * DAY;
    stage
        .execute_at("alice", proposal, stage.now, None)
        .unwrap();
    refused!(stage.open("bob", destroy(id(1))), Refusal::UnderWay { .. });
    let cancel = Operation::CancelDestruction { proposal };
    refused!(
        stage.open("bob", cancel),
        Refusal::PhaseWrong {
            found: Phase::Executing,
            ..
        }
    );
    stage.take(&Deed::Fail(id(1))).unwrap();
    stage.open("bob", destroy(id(1))).unwrap();
}
