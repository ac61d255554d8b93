//! An import whose key does not come in time.

use std::time::Duration;

use kekd::proto::v1::ProposalPhase;
use kekd::quorum::{Operation, OperationKind, Policy, Rule};

use super::{Legacy, begun, message, nothing_else_is_in_the_token, objects};
use crate::harness::{Rig, reason};
use crate::officers::Officers;

/// Long enough to begin an import on a loaded machine.
const LIFETIME: Duration = Duration::from_secs(20);

#[tokio::test(flavor = "multi_thread")]
async fn an_import_ends_with_its_proposal_and_the_transport_key_with_it() {
    let rig = Rig::serving();
    let officers = Officers::of(&rig).await;
    let mut policy = Policy::parse(&officers.governance().await.policy).unwrap();
    let rule = Rule {
        lifetime: LIFETIME,
        ..policy.rule(OperationKind::ImportKek)
    };
    policy.set(OperationKind::ImportKek, rule);
    let change = Operation::ChangePolicy(policy);
    officers.enact(change).await.unwrap();
    let id = begun(&officers, &Legacy::new(2048)).await;
    assert!(objects(&rig).contains("kekd transport"));
    while officers.phase(id).await == ProposalPhase::Executing {
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    let ended = officers.client.get_proposal(id.0).await.unwrap();
    assert_eq!(ended.phase(), ProposalPhase::Failed);
    let because = &ended.closed_because;
    assert!(because.contains("no key was delivered"), "{because}");
    nothing_else_is_in_the_token(&rig);
    let late = officers.client.deliver_import(message(id, 384, 1000)).await;
    assert_eq!(reason(&late.unwrap_err()), "NOT_ACCEPTED");
}
