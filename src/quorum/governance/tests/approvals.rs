//! Who is counted.

use super::refused;
use super::signing::Person;
use super::stage::{DAY, Deed, SECOND, Stage, custodian, genesis_with, id, new_version};
use crate::quorum::governance::{Phase, Refusal};
use crate::quorum::ssh_keygen::malleated;
use crate::quorum::sshsig::SignatureError;
use crate::quorum::{
    APPROVAL_NAMESPACE, EXECUTION_NAMESPACE, GENESIS_NAMESPACE, Operation, POSSESSION_NAMESPACE,
    PROPOSAL_NAMESPACE, ProposalId, SUSPENSION_NAMESPACE, VETO_NAMESPACE,
};
use crate::types::Sha256;

fn create(name: &str) -> Operation {
    Operation::CreateKek(new_version(name))
}

fn opened() -> (Stage, ProposalId) {
    let mut stage = Stage::new();
    let id = stage.open("alice", create("b")).unwrap();
    (stage, id)
}

#[test]
fn same_officer_twice_counts_once() {
    let (mut stage, id) = opened();
    stage.approve("bob", id).unwrap();
    refused!(stage.approve("bob", id), Refusal::SignedTwice { .. });
    assert_eq!(stage.governance.counting(&stage.standing(id)), ["bob"]);
    assert_eq!(stage.phase(id), Phase::Open);
}

#[test]
fn malleated_ecdsa_counts_once() {
    let bob = Person::with_key("bob", 0);
    let genesis = super::stage::genesis();
    let text = String::from_utf8(genesis.bytes().to_vec()).unwrap();
    let ed25519 = Person::of("bob").public.to_openssh();
    let text = text.replace(&ed25519, &bob.public.to_openssh());
    let mut stage = Stage::born(&crate::quorum::Genesis::parse(text.as_bytes()).unwrap());
    let id = stage.open("alice", create("b")).unwrap();
    let signature = bob.sign(APPROVAL_NAMESPACE, &stage.text(id));
    let other = malleated(&signature);
    assert_ne!(signature, other);
    stage.take(&Deed::Approve(id, signature)).unwrap();
    refused!(
        stage.take(&Deed::Approve(id, other)),
        Refusal::SignedTwice { .. }
    );
    assert_eq!(stage.governance.counting(&stage.standing(id)).len(), 1);
}

#[test]
fn proposer_approving_alone_does_not_count_unless_the_policy_says_so() {
    let (mut stage, id) = opened();
    refused!(stage.approve("alice", id), Refusal::OwnProposal { .. });
    let policy = "threshold = 2\nproposer_may_approve = true";
    let mut stage = Stage::born(&genesis_with(policy));
    let id = stage.open("alice", create("b")).unwrap();
    stage.approve("alice", id).unwrap();
    assert_eq!(stage.phase(id), Phase::Open, "one is not two");
    stage.approve("bob", id).unwrap();
    assert_eq!(stage.phase(id), Phase::Executable);
}

#[test]
fn m_minus_1_is_not_executed() {
    let (mut stage, proposal) = opened();
    stage.approve("bob", proposal).unwrap();
    let found = stage.execute_at("bob", proposal, stage.now, Some(id(9)));
    refused!(
        found,
        Refusal::PhaseWrong {
            found: Phase::Open,
            ..
        }
    );
    stage.approve("carol", proposal).unwrap();
    stage
        .execute_at("bob", proposal, stage.now, Some(id(9)))
        .unwrap();
}

#[test]
fn approval_for_another_proposal_instance_or_namespace_is_refused() {
    let (mut stage, id) = opened();
    let other = stage.open("alice", create("c")).unwrap();
    let bob = Person::of("bob");
    let signature = bob.sign(APPROVAL_NAMESPACE, &stage.text(other));
    let wrong = stage.take(&Deed::Approve(id, signature));
    refused!(wrong, Refusal::Signature(SignatureError::Wrong { .. }));
    for namespace in [
        PROPOSAL_NAMESPACE,
        VETO_NAMESPACE,
        POSSESSION_NAMESPACE,
        EXECUTION_NAMESPACE,
        SUSPENSION_NAMESPACE,
        GENESIS_NAMESPACE,
        "file",
    ] {
        let signature = bob.sign(namespace, &stage.text(id));
        let wrong = stage.take(&Deed::Approve(id, signature));
        refused!(
            wrong,
            Refusal::Signature(SignatureError::NamespaceWrong { .. })
        );
    }
    let unknown = ProposalId(Sha256::of(b"another instance's"));
    let signature = bob.sign(APPROVAL_NAMESPACE, &stage.text(id));
    let wrong = stage.take(&Deed::Approve(unknown, signature.clone()));
    refused!(wrong, Refusal::ProposalUnknown(_));
    // The same proposal of an instance with the same officers is another text.
    let mut twin = Stage::born(&genesis_with("threshold = 2\nopen_max_per_officer = 9"));
    let theirs = twin.open("alice", create("b")).unwrap();
    let wrong = twin.take(&Deed::Approve(theirs, signature));
    refused!(wrong, Refusal::Signature(SignatureError::Wrong { .. }));
}

#[test]
fn replayed_approval_of_a_closed_proposal_is_refused() {
    let (mut stage, proposal) = opened();
    let replayed = Person::of("bob").sign(APPROVAL_NAMESPACE, &stage.text(proposal));
    stage.approve("bob", proposal).unwrap();
    stage.veto("carol", proposal).unwrap();
    let replayed = Deed::Approve(proposal, replayed);
    refused!(stage.take(&replayed), Refusal::PhaseWrong { .. });
    let again = stage.draft("alice", create("b"));
    let again = stage.put(Person::of("alice"), again).unwrap();
    assert!(stage.standing(again).approvals.is_empty());
    refused!(stage.take(&replayed), Refusal::PhaseWrong { .. });
}

#[test]
fn only_the_role_that_decides_approves_and_vetoes() {
    let (mut stage, id) = opened();
    for other in ["dave", "rita", "mallory"] {
        let unknown = stage.approve(other, id);
        refused!(
            unknown,
            Refusal::Signature(SignatureError::SignerUnknown { .. })
        );
        let unknown = stage.veto(other, id);
        refused!(
            unknown,
            Refusal::Signature(SignatureError::SignerUnknown { .. })
        );
    }
}

#[test]
fn threshold_met_then_veto_closes_up_to_the_moment_of_execution() {
    let mut stage = Stage::new();
    let proposal = stage.agreed(["alice", "bob", "carol"], create("b"));
    assert_eq!(stage.phase(proposal), Phase::Executable);
    let mut begun = stage.clone();
    stage.veto("bob", proposal).unwrap();
    assert_eq!(stage.phase(proposal), Phase::Vetoed);
    let found = stage.execute_at("alice", proposal, stage.now, Some(id(9)));
    refused!(
        found,
        Refusal::PhaseWrong {
            found: Phase::Vetoed,
            ..
        }
    );
    refused!(stage.veto("bob", proposal), Refusal::PhaseWrong { .. });
    begun
        .execute_at("alice", proposal, begun.now, Some(id(9)))
        .unwrap();
    refused!(begun.veto("bob", proposal), Refusal::PhaseWrong { .. });
}

#[test]
fn expired_by_one_second_takes_no_approval_and_no_execution() {
    let (mut stage, proposal) = opened();
    let end = stage.standing(proposal).proposal.expires_at;
    stage.now.0 = end.0 - SECOND;
    refused!(
        stage.take(&Deed::Expire(proposal)),
        Refusal::PhaseWrong { .. }
    );
    stage.approve("bob", proposal).unwrap();
    stage.approve("carol", proposal).unwrap();
    assert_eq!(stage.phase(proposal), Phase::Executable);
    assert!(stage.governance.overdue(stage.now).is_empty());
    stage.now = end;
    let found = stage.execute_at("bob", proposal, stage.now, Some(id(9)));
    refused!(
        found,
        Refusal::PhaseWrong {
            found: Phase::Expired,
            ..
        }
    );
    refused!(stage.veto("bob", proposal), Refusal::PhaseWrong { .. });
    assert_eq!(stage.governance.overdue(stage.now), [proposal]);
    stage.take(&Deed::Expire(proposal)).unwrap();
    refused!(
        stage.take(&Deed::Expire(proposal)),
        Refusal::PhaseWrong { .. }
    );
    stage.now.0 += DAY;
    assert!(stage.governance.overdue(stage.now).is_empty());
}

#[test]
fn officer_revoked_mid_proposal_takes_open_approvals_along() {
    let (mut stage, proposal) = opened();
    stage.approve("bob", proposal).unwrap();
    stage.approve("carol", proposal).unwrap();
    let mut officers = stage.governance.officers().to_vec();
    let bob = Person::with_key("bob", 2);
    officers.retain(|officer| officer.name != "bob");
    officers.push(custodian(bob));
    let change = stage
        .open("dave", Operation::ChangeOfficers { officers })
        .unwrap();
    stage.prove(bob, change).unwrap();
    stage.approve("erin", change).unwrap();
    stage.approve("frank", change).unwrap();
    stage.now = stage.standing(change).executable_at().unwrap();
    stage.execute("dave", change).unwrap();
    assert_eq!(stage.governance.epoch(), 2);
    let found = stage.execute_at("carol", proposal, stage.now, Some(id(9)));
    refused!(
        found,
        Refusal::PhaseWrong {
            found: Phase::Cancelled,
            ..
        }
    );
    // The name is bob's again; the key that was removed is nobody's.
    let fresh = stage.open("alice", create("b")).unwrap();
    let unknown = stage.approve("bob", fresh);
    refused!(
        unknown,
        Refusal::Signature(SignatureError::SignerUnknown { .. })
    );
    let signature = bob.sign(APPROVAL_NAMESPACE, &stage.text(fresh));
    stage.take(&Deed::Approve(fresh, signature)).unwrap();
}
