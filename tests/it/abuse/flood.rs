//! Case 50: a flood of proposals by one officer whose key was taken, or whose patience is gone.

use kekd::quorum::{Operation, PROPOSAL_NAMESPACE};

use super::forbid;
use crate::harness::{Rig, reason};
use crate::officers::Officers;

/// Calls of the flood.
const CALLS: usize = 10_000;
/// Calls on their way at any time.
const AT_ONCE: usize = 50;
/// What one officer may have open.
const OPEN_MAX: usize = 8;

/// Ten thousand calls in one connection. Signing is what costs an attacker time, so twenty true
/// proposals are signed, and each is sent again and again, whole or with a byte of its statement or
/// its signature changed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_of_proposals() {
    let rig = Rig::serving();
    let officers = Officers::of(&rig).await;
    let mut signed = Vec::new();
    for _ in 0..20 {
        let proposal = officers.draft("alice", forbid()).await;
        let text = proposal.text().to_vec();
        let signature = officers.sign("alice", PROPOSAL_NAMESPACE, &text);
        signed.push((text, signature));
    }
    let size = officers.size().await;
    let (mut taken, mut refused, mut busy) = (0, 0, 0);
    for round in 0..CALLS / AT_ONCE {
        let mut calls = tokio::task::JoinSet::new();
        for call in 0..AT_ONCE {
            let number = round * AT_ONCE + call;
            let (mut text, mut signature) = signed[number % signed.len()].clone();
            match number / signed.len() % 3 {
                0 => {}
                1 => text[number % 400] ^= 4,
                _ => signature[100 + number % 100] ^= 4,
            }
            let client = officers.client.clone();
            calls.spawn(async move { client.propose(text, signature).await });
        }
        while let Some(answer) = calls.join_next().await {
            match answer.unwrap() {
                Ok(_) => taken += 1,
                Err(error) => match reason(&error) {
                    "NOT_ACCEPTED" | "INVALID_REQUEST" => refused += 1,
                    "BUSY" => busy += 1,
                    _ => panic!("{error}"),
                },
            }
        }
    }
    eprintln!("flood: {taken} taken, {refused} refused, {busy} told to come back");
    assert_eq!(taken, OPEN_MAX);
    assert_eq!(taken + refused + busy, CALLS);
    assert_eq!(officers.size().await, size + OPEN_MAX as u64);
    let open = officers.client.list_proposals(false).await.unwrap();
    assert_eq!(open.len(), OPEN_MAX);

    // Others are not kept from theirs, nor from approving.
    let operation = Operation::AllowPkcs1V15 {
        kek: "legacy".parse().unwrap(),
    };
    let id = officers.propose("bob", forbid()).await.unwrap();
    officers.approve("carol", id).await.unwrap();
    officers.approve("alice", id).await.unwrap();
    officers.execute("bob", id).await.unwrap();
    // And an end is put to it, one by one.
    for proposal in open {
        let id = kekd::types::Sha256::try_from(proposal.id.as_slice()).unwrap();
        let found = officers.client.get_proposal(id).await.unwrap();
        officers
            .veto("bob", kekd::quorum::ProposalId(id))
            .await
            .unwrap();
        assert_eq!(found.statement, proposal.statement);
    }
    assert!(
        officers
            .client
            .list_proposals(false)
            .await
            .unwrap()
            .is_empty()
    );
    officers.propose("alice", operation).await.unwrap();
}
