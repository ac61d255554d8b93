//! Abuse of proposals and signatures, by name: each line of the design's list is a test here or in a
//! module beside, against the real daemon, and so are cases 39 to 47 of the list of faults. Whatever
//! is refused leaves nothing in the ledger. Malleated ECDSA signatures are `quorum`'s own tests.

mod few;
mod flood;
mod history;
mod set;

use kekd::client::ClientError;
use kekd::clock::UnixMs;
use kekd::proto::v1::ProposalPhase;
use kekd::quorum::{
    APPROVAL_NAMESPACE, EXECUTION_NAMESPACE, Execution, Operation, PROPOSAL_NAMESPACE, Policy,
    Proposal, ProposalId, SUSPENSION_NAMESPACE, Suspension, Target, VETO_NAMESPACE,
};
use kekd::types::Sha256;

use crate::harness::{KEKCTL, Rig, must, reason};
use crate::officers::Officers;
use crate::token::Token;

/// Asserts that an act was refused for what it is, with these words.
fn refused<T>(answer: Result<T, ClientError>, words: &str) {
    let Err(error) = answer else {
        panic!("accepted, where it should say {words:?}");
    };
    let expected = ["NOT_ACCEPTED", "INVALID_REQUEST"];
    assert!(expected.contains(&reason(&error)), "{error}");
    assert!(error.to_string().contains(words), "{error}");
}

/// An act of custodians that costs the HSM nothing.
fn forbid() -> Operation {
    let kek = "legacy".parse().unwrap();
    Operation::ForbidPkcs1V15 { kek }
}

/// A proposal with another text, which still is one.
fn forged(proposal: &Proposal, from: &str, to: &str) -> Proposal {
    let text = String::from_utf8(proposal.text().to_vec()).unwrap();
    assert_eq!(text.matches(from).count(), 1, "{text}");
    Proposal::parse(text.replace(from, to).as_bytes()).unwrap()
}

impl Officers<'_> {
    async fn size(&self) -> u64 {
        self.governance().await.ledger_size
    }

    /// A proposal, put forward with the signature of its proposer.
    async fn put(&self, proposal: &Proposal) -> Result<ProposalId, ClientError> {
        let text = proposal.text();
        let signature = self.sign(&proposal.proposer, PROPOSAL_NAMESPACE, text);
        self.client.propose(text.to_vec(), signature).await?;
        Ok(proposal.id)
    }

    /// A change of the policy, all the way: the most open proposals of one officer.
    async fn set_open_max(&self, open_max: u64) {
        let governance = self.governance().await;
        let mut policy = Policy::parse(&governance.policy).unwrap();
        policy.open_max_per_officer = usize::try_from(open_max).unwrap();
        self.enact(Operation::ChangePolicy(policy)).await.unwrap();
    }
}

/// Waits until the time-lock of a proposal has ended: 2 s in a rig.
async fn lock_ended(officers: &Officers<'_>, id: ProposalId) {
    while officers.phase(id).await == ProposalPhase::TimeLocked {
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
}

/// An instance of its own: no copy of the rig of the other tests.
fn another_instance() -> Rig {
    let home = tempfile::tempdir().unwrap();
    let rig = home.path().join("rig");
    let mut up = std::process::Command::new(KEKCTL);
    must(
        up.args(["rig", "up", "--kek", "legacy=kek-rsa-3072-pkcs1"])
            .arg(&rig),
    );
    must(
        std::process::Command::new(KEKCTL)
            .args(["rig", "stop"])
            .arg(&rig),
    );
    Rig::of(Token::SoftHsm, home.path())
}

/// Case 42.
#[tokio::test]
async fn a_replayed_approval_proposal_or_execution_counts_for_nothing() {
    let rig = Rig::serving();
    let officers = Officers::of(&rig).await;
    let proposal = officers.draft("alice", forbid()).await;
    let (id, text) = (proposal.id, proposal.text().to_vec());
    let opened = officers.sign("alice", PROPOSAL_NAMESPACE, &text);
    let client = &officers.client;
    client.propose(text.clone(), opened.clone()).await.unwrap();
    let by_bob = officers.sign("bob", APPROVAL_NAMESPACE, &text);
    client.approve(id.0, by_bob.clone()).await.unwrap();
    let again = client.approve(id.0, by_bob.clone()).await;
    refused(again, "bob has signed this already");
    officers.approve("carol", id).await.unwrap();
    let at = UnixMs(officers.governance().await.now_ms);
    let order = Execution::draft(&proposal, "alice", at).unwrap();
    let order = order.text().to_vec();
    let ordered = officers.sign("alice", EXECUTION_NAMESPACE, &order);
    client
        .execute(order.clone(), ordered.clone())
        .await
        .unwrap();

    let size = officers.size().await;
    refused(
        client.execute(order, ordered).await,
        "the proposal is executed",
    );
    refused(
        client.approve(id.0, by_bob).await,
        "the proposal is executed",
    );
    refused(
        client.propose(text, opened).await,
        "is in the ledger already",
    );
    assert_eq!(officers.size().await, size);
}

#[tokio::test]
async fn an_approval_for_another_proposal() {
    let rig = Rig::serving();
    let officers = Officers::of(&rig).await;
    let one = officers.propose("alice", forbid()).await.unwrap();
    let other = officers.propose("alice", forbid()).await.unwrap();
    let text = officers.proposal(one).await;
    let by_bob = officers.sign("bob", APPROVAL_NAMESPACE, text.text());
    let answer = officers.client.approve(other.0, by_bob.clone()).await;
    refused(answer, "the signature is refused");
    let nowhere = officers.client.approve(Sha256::of(b""), by_bob).await;
    assert_eq!(reason(&nowhere.err().unwrap()), "PROPOSAL_UNKNOWN");
    assert!(
        officers
            .client
            .get_proposal(other.0)
            .await
            .unwrap()
            .approvals
            .is_empty()
    );
}

/// Case 42. The officers are the same people with the same keys; the instance is another.
#[tokio::test]
async fn an_approval_for_another_instance() {
    let (rig, other_rig) = (Rig::serving(), another_instance());
    other_rig.start();
    let (officers, others) = (Officers::of(&rig).await, Officers::of(&other_rig).await);
    let theirs = others.draft("alice", forbid()).await;
    let ours = officers.propose("alice", forbid()).await.unwrap();
    let size = officers.size().await;
    refused(
        officers.put(&theirs).await,
        "the statement is for the instance",
    );
    let by_bob = officers.sign("bob", APPROVAL_NAMESPACE, theirs.text());
    let answer = officers.client.approve(ours.0, by_bob).await;
    refused(answer, "the signature is refused");
    let order = Execution::draft(&theirs, "alice", theirs.opened_at).unwrap();
    let ordered = officers.sign("alice", EXECUTION_NAMESPACE, order.text());
    let answer = officers
        .client
        .execute(order.text().to_vec(), ordered)
        .await;
    assert_eq!(reason(&answer.err().unwrap()), "PROPOSAL_UNKNOWN");
    let (instance, at) = (theirs.instance_id, theirs.opened_at);
    let stop = Suspension::draft(instance, Target::All, "alice", [7; 16], at).unwrap();
    let stopped = officers.sign("alice", SUSPENSION_NAMESPACE, stop.text());
    let answer = officers.client.suspend(stop.text().to_vec(), stopped).await;
    refused(answer, "the statement is for the instance");
    assert_eq!(officers.size().await, size);
}

/// Case 47.
#[tokio::test]
async fn an_approval_for_another_epoch() {
    let rig = Rig::serving();
    let officers = Officers::of(&rig).await;
    let open = officers.propose("alice", forbid()).await.unwrap();
    officers.approve("bob", open).await.unwrap();
    let kept_back = officers.draft("alice", forbid()).await;
    officers.set_open_max(7).await;
    assert_eq!(officers.phase(open).await, ProposalPhase::Cancelled);
    refused(
        officers.approve("carol", open).await,
        "the proposal is cancelled",
    );
    refused(
        officers.execute("alice", open).await,
        "the proposal is cancelled",
    );
    let old = officers.put(&kept_back).await;
    refused(old, "belongs to quorum epoch 1");
    let new_name = forged(&kept_back, "\nepoch 1\n", "\nepoch 3\n");
    refused(officers.put(&new_name).await, "belongs to quorum epoch 3");
}

/// Case 43.
#[tokio::test]
async fn an_approval_of_another_namespace() {
    let rig = Rig::serving();
    let officers = Officers::of(&rig).await;
    let id = officers.propose("alice", forbid()).await.unwrap();
    let proposal = officers.proposal(id).await;
    let (client, text) = (&officers.client, proposal.text());
    for namespace in [
        PROPOSAL_NAMESPACE,
        VETO_NAMESPACE,
        EXECUTION_NAMESPACE,
        SUSPENSION_NAMESPACE,
        kekd::quorum::POSSESSION_NAMESPACE,
        "genesis@kekd",
        "file",
        "approval@kekd.",
    ] {
        let signature = officers.sign("bob", namespace, text);
        let answer = client.approve(id.0, signature).await;
        refused(answer, "the signature is refused");
    }
    let approval = officers.sign("bob", APPROVAL_NAMESPACE, text);
    let answer = client.veto(id.0, approval).await;
    refused(answer, "the signature is refused");
    let other = officers.draft("alice", forbid()).await;
    let approval = officers.sign("alice", APPROVAL_NAMESPACE, other.text());
    let answer = client.propose(other.text().to_vec(), approval).await;
    refused(answer, "the signature is refused");
    assert_eq!(officers.phase(id).await, ProposalPhase::Open);
}

/// Cases 39 and 40: below the threshold, however often one signs.
#[tokio::test]
async fn the_same_officer_twice_and_the_proposer_alone() {
    let rig = Rig::serving();
    let officers = Officers::of(&rig).await;
    let id = officers.propose("alice", forbid()).await.unwrap();
    let alone = "alice put this forward, and the policy does not count a proposer's own approval";
    refused(officers.approve("alice", id).await, alone);
    refused(officers.execute("alice", id).await, "the proposal is open");
    officers.approve("bob", id).await.unwrap();
    refused(
        officers.approve("bob", id).await,
        "bob has signed this already",
    );
    refused(officers.approve("alice", id).await, alone);
    // An officer of another role is nobody here, whatever they sign.
    refused(
        officers.approve("dave", id).await,
        "the signature is refused",
    );
    refused(officers.veto("dave", id).await, "the signature is refused");
    refused(
        officers.approve("grace", id).await,
        "the signature is refused",
    );
    refused(officers.execute("bob", id).await, "the proposal is open");
    let found = officers.client.get_proposal(id.0).await.unwrap();
    assert_eq!(
        (found.approvals, found.threshold),
        (vec!["bob".to_owned()], 2)
    );
}

/// Case 45, its second half: a lock that has not ended.
#[tokio::test]
async fn before_its_time() {
    let rig = Rig::serving();
    let officers = Officers::of(&rig).await;
    let governance = officers.governance().await;
    let mut policy = Policy::parse(&governance.policy).unwrap();
    policy.open_max_per_officer = 9;
    let operation = Operation::ChangePolicy(policy);
    let id = officers.propose("alice", operation).await.unwrap();
    for officer in ["bob", "dave"] {
        officers.approve(officer, id).await.unwrap();
    }
    let early = officers.execute("alice", id).await;
    refused(early, "the proposal is time-locked");
    assert_eq!(officers.governance().await.epoch, 1);
}

/// Case 45.
#[tokio::test]
async fn an_expired_proposal() {
    let rig = Rig::serving();
    let officers = Officers::of(&rig).await;
    let draft = officers.draft("alice", forbid()).await;
    // What was drafted almost a lifetime ago is put forward with seconds left.
    let drafted = |left_ms: u64| {
        let lifetime_ms = draft.expires_at.0 - draft.opened_at.0;
        let expires_at = UnixMs(draft.opened_at.0 + left_ms);
        let opened_at = UnixMs(expires_at.0 - lifetime_ms);
        let to = format!("\nexpires {}\n", expires_at.rfc3339());
        let text = String::from_utf8(draft.text().to_vec()).unwrap();
        let opened = |at: UnixMs| format!("\nopened {}\n", at.rfc3339());
        let text = text
            .replace(&opened(draft.opened_at), &opened(opened_at))
            .replace(&format!("\nexpires {}\n", draft.expires_at.rfc3339()), &to);
        Proposal::parse(text.as_bytes()).unwrap()
    };
    let late = officers.put(&drafted(0)).await;
    refused(late, "the time at which it expires");
    let id = officers.put(&drafted(8_000)).await.unwrap();
    for officer in ["bob", "carol"] {
        officers.approve(officer, id).await.unwrap();
    }
    while officers.phase(id).await != ProposalPhase::Expired {
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    refused(
        officers.execute("alice", id).await,
        "the proposal is expired",
    );
    refused(officers.veto("bob", id).await, "the proposal is expired");
    // Ahead of the node's clock is no way round it either.
    let ahead = draft.opened_at.0 + 10 * 60 * 1000;
    let ahead = forged(
        &forged(&draft, &draft.opened_at.rfc3339(), &UnixMs(ahead).rfc3339()),
        &draft.expires_at.rfc3339(),
        &UnixMs(ahead + draft.expires_at.0 - draft.opened_at.0).rfc3339(),
    );
    refused(officers.put(&ahead).await, "the time at which it opens");
}

/// Case 44.
#[tokio::test]
async fn an_operation_text_with_one_byte_altered() {
    let rig = Rig::serving();
    let officers = Officers::of(&rig).await;
    let proposal = officers.draft("alice", forbid()).await;
    let (client, text) = (&officers.client, proposal.text());
    let signature = officers.sign("alice", PROPOSAL_NAMESPACE, text);
    let size = officers.size().await;
    for at in (0..text.len()).step_by(7) {
        let mut altered = text.to_vec();
        altered[at] ^= 1;
        refused(client.propose(altered, signature.clone()).await, "refused");
    }
    // Signed as it is, but in another form than the one form.
    let shown = String::from_utf8(text.to_vec()).unwrap();
    for other in [
        format!("{shown}\n"),
        format!(" {shown}"),
        shown.trim_end().to_owned(),
        shown.replace('\n', "\r\n"),
        shown.replace("\nkek legacy", "\nkek  legacy"),
        shown.replace("\nkek legacy", "\nkek Legacy"),
        shown.replace("time-lock 0s", "time-lock 00s"),
        shown
            .replace("Unwraps", "unwraps")
            .replace("effect ", "effect  "),
        format!("{shown}note to all: approved\n"),
    ] {
        assert_ne!(other, shown);
        let by_alice = officers.sign("alice", PROPOSAL_NAMESPACE, other.as_bytes());
        let answer = client.propose(other.into_bytes(), by_alice).await;
        refused(answer, "the statement is refused");
    }
    // What the policy says is not the proposer's to choose.
    for (from, to) in [
        ("\napprovals 2 of", "\napprovals 3 of"),
        ("\ntime-lock 0s\n", "\ntime-lock 1s\n"),
    ] {
        let other = forged(&proposal, from, to);
        refused(officers.put(&other).await, "the policy says");
    }
    // Approvals of an altered text are not approvals of this one.
    let id = officers.put(&proposal).await.unwrap();
    let altered = forged(&proposal, "\nproposer alice\n", "\nproposer bob\n");
    let by_carol = officers.sign("carol", APPROVAL_NAMESPACE, altered.text());
    let answer = client.approve(id.0, by_carol).await;
    refused(answer, "the signature is refused");
    refused(
        client
            .propose(
                altered.text().to_vec(),
                officers.sign("alice", PROPOSAL_NAMESPACE, altered.text()),
            )
            .await,
        "the statement names \"bob\"; it was signed by \"alice\"",
    );
    assert_eq!(officers.size().await, size + 1);
}

#[tokio::test]
async fn a_threshold_that_is_met_and_then_a_veto() {
    let rig = Rig::serving();
    let officers = Officers::of(&rig).await;
    let id = officers.propose("alice", forbid()).await.unwrap();
    for officer in ["bob", "carol"] {
        officers.approve(officer, id).await.unwrap();
    }
    assert_eq!(officers.phase(id).await, ProposalPhase::Executable);
    officers.veto("bob", id).await.unwrap();
    refused(
        officers.execute("alice", id).await,
        "the proposal is vetoed",
    );
    refused(
        officers.approve("carol", id).await,
        "the proposal is vetoed",
    );
    let legacy = "legacy".parse().unwrap();
    let kek = officers.client.get_kek(&legacy).await.unwrap();
    let paddings = &kek.versions[0].paddings;
    assert!(paddings.contains(&kekd::proto::v1::Padding::Pkcs1V15.into()));
}
