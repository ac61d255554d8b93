//! The rig's officers: they put forward, approve, close, execute and stop as officers do, with their
//! own keys through `ssh-keygen -Y sign`, over TLS. A test says who does what; that the texts are
//! right is the library's part, and what a wrong text or signature comes to is said by tests that
//! make one with [`Officers::draft`] and [`Officers::sign`].

use std::io::Write as _;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use kekd::client::{Client, ClientError};
use kekd::clock::UnixMs;
use kekd::hsm::Profile;
use kekd::merkle::Head;
use kekd::proto::v1;
use kekd::quorum::{
    APPROVAL_NAMESPACE, Approvers, EXECUTION_NAMESPACE, Execution, NewVersion, OfficerRole,
    Operation, POSSESSION_NAMESPACE, PROPOSAL_NAMESPACE, Proposal, ProposalDraft, ProposalId, Rule,
    SUSPENSION_NAMESPACE, Suspension, Target, VETO_NAMESPACE,
};
use kekd::types::Sha256;

use crate::harness::Rig;

/// The key custodians of a rig.
pub const CUSTODIANS: [&str; 3] = ["alice", "bob", "carol"];
/// The policy officers of a rig.
pub const POLICY_OFFICERS: [&str; 3] = ["dave", "erin", "frank"];

/// All officers of one rig, at one connection.
pub struct Officers<'a> {
    rig: &'a Rig,
    /// The connection, as an `officer`.
    pub client: Client,
}

impl<'a> Officers<'a> {
    /// The officers of a rig that serves. They stay its officers when it is started again.
    pub async fn of(rig: &'a Rig) -> Self {
        // A key pair takes as long as it takes, on a busy machine.
        let client = rig.client_with("officer", Duration::from_secs(120)).await;
        Self { rig, client }
    }

    /// What a proposal is made of now.
    pub async fn governance(&self) -> v1::GetGovernanceResponse {
        self.client.governance().await.unwrap()
    }

    /// A proposal as kekctl would draft it, by the policy in force and the node's clock.
    pub async fn draft(&self, officer: &str, operation: Operation) -> Proposal {
        let governance = self.governance().await;
        let kind = operation.kind().name();
        let mut rules = governance.rules.iter();
        let rule = rules.find(|rule| rule.operation == kind).unwrap();
        let digest = |bytes: &[u8]| Sha256::try_from(bytes).unwrap();
        Proposal::draft(ProposalDraft {
            instance_id: digest(&governance.instance_id),
            operation,
            proposer: officer.to_owned(),
            nonce: nonce(),
            opened_at: UnixMs(governance.now_ms),
            rule: Rule {
                threshold: usize::try_from(rule.threshold).unwrap(),
                time_lock: Duration::from_secs(rule.time_lock_seconds),
                lifetime: Duration::from_secs(rule.lifetime_seconds),
                allowed: rule.allowed,
            },
            epoch: governance.epoch,
            head: Head {
                size: governance.ledger_size,
                root: digest(&governance.ledger_root),
            },
        })
        .unwrap()
    }

    /// An officer puts an operation forward.
    pub async fn propose(
        &self,
        officer: &str,
        operation: Operation,
    ) -> Result<ProposalId, ClientError> {
        let proposal = self.draft(officer, operation).await;
        let signature = self.sign(officer, PROPOSAL_NAMESPACE, proposal.text());
        let text = proposal.text().to_vec();
        self.client.propose(text, signature).await?;
        Ok(proposal.id)
    }

    /// An officer approves.
    pub async fn approve(
        &self,
        officer: &str,
        id: ProposalId,
    ) -> Result<v1::Proposal, ClientError> {
        let proposal = self.proposal(id).await;
        let signature = self.sign(officer, APPROVAL_NAMESPACE, proposal.text());
        self.client.approve(id.0, signature).await
    }

    /// An officer to be proves that they hold their key.
    #[allow(dead_code, reason = "for tests of new officers")]
    pub async fn prove_possession(
        &self,
        officer: &str,
        id: ProposalId,
    ) -> Result<v1::Proposal, ClientError> {
        let proposal = self.proposal(id).await;
        let signature = self.sign(officer, POSSESSION_NAMESPACE, proposal.text());
        self.client.prove_possession(id.0, signature).await
    }

    /// An officer closes a proposal.
    pub async fn veto(&self, officer: &str, id: ProposalId) -> Result<v1::Proposal, ClientError> {
        let proposal = self.proposal(id).await;
        let signature = self.sign(officer, VETO_NAMESPACE, proposal.text());
        self.client.veto(id.0, signature).await
    }

    /// An officer orders what was approved.
    pub async fn execute(
        &self,
        officer: &str,
        id: ProposalId,
    ) -> Result<v1::ExecuteResponse, ClientError> {
        let (order, signature) = self.order(officer, id).await;
        self.client.execute(order, signature).await
    }

    /// An officer's order to execute, and the signature over it.
    pub async fn order(&self, officer: &str, id: ProposalId) -> (Vec<u8>, Vec<u8>) {
        let proposal = self.proposal(id).await;
        let at = UnixMs(self.governance().await.now_ms);
        let order = Execution::draft(&proposal, officer, at).unwrap();
        let signature = self.sign(officer, EXECUTION_NAMESPACE, order.text());
        (order.text().to_vec(), signature)
    }

    /// An officer stops a KEK, or all; whether the ledger has it already.
    pub async fn suspend(&self, officer: &str, target: Target) -> Result<bool, ClientError> {
        let governance = self.governance().await;
        let instance_id = Sha256::try_from(governance.instance_id.as_slice()).unwrap();
        let at = UnixMs(governance.now_ms);
        let stop = Suspension::draft(instance_id, target, officer, nonce(), at).unwrap();
        let signature = self.sign(officer, SUSPENSION_NAMESPACE, stop.text());
        self.client.suspend(stop.text().to_vec(), signature).await
    }

    /// The whole way: the first of those who decide puts forward and executes, the two after them
    /// approve. Waits for a time-lock, which is 2 s at most in a rig but for a destruction.
    pub async fn enact(&self, operation: Operation) -> Result<v1::ExecuteResponse, ClientError> {
        let proposer = deciding(&operation)[0];
        let id = self.agree(operation).await?;
        self.execute(proposer, id).await
    }

    /// As [`Officers::enact`], up to where it can be executed.
    pub async fn agree(&self, operation: Operation) -> Result<ProposalId, ClientError> {
        let [proposer, approvers @ ..] = deciding(&operation);
        let id = self.propose(proposer, operation).await?;
        for officer in approvers {
            self.approve(officer, id).await?;
        }
        while self.phase(id).await == v1::ProposalPhase::TimeLocked {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        Ok(id)
    }

    /// A proposal the node has, read from its own statement.
    pub async fn proposal(&self, id: ProposalId) -> Proposal {
        let found = self.client.get_proposal(id.0).await.unwrap();
        let proposal = Proposal::parse(&found.statement).unwrap();
        assert_eq!(proposal.id, id);
        proposal
    }

    /// Where a proposal stands.
    pub async fn phase(&self, id: ProposalId) -> v1::ProposalPhase {
        self.client.get_proposal(id.0).await.unwrap().phase()
    }

    /// What `ssh-keygen -Y sign` makes with an officer's key: an armored SSHSIG.
    pub fn sign(&self, officer: &str, namespace: &str, text: &[u8]) -> Vec<u8> {
        let mut keygen = Command::new("ssh-keygen")
            .args(["-q", "-Y", "sign", "-n", namespace, "-f"])
            .arg(self.rig.dir.join("officers").join(officer))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        keygen.stdin.take().unwrap().write_all(text).unwrap();
        let output = keygen.wait_with_output().unwrap();
        assert!(output.status.success(), "{output:?}");
        output.stdout
    }
}

/// Three officers of those who decide on an operation.
pub fn deciding(operation: &Operation) -> [&'static str; 3] {
    match operation.kind().approvers() {
        Approvers::Role(OfficerRole::PolicyOfficer) => POLICY_OFFICERS,
        Approvers::Role(OfficerRole::KeyCustodian)
        | Approvers::AnyOfficer
        | Approvers::Recovery => CUSTODIANS,
    }
}

/// A version to be made to a built-in profile, with a certificate for ten years.
pub fn new_version(kek: &str, profile: &str) -> NewVersion {
    NewVersion {
        kek: kek.parse().unwrap(),
        profile: profile.to_owned(),
        profile_sha256: Sha256::of(Profile::builtin(profile).unwrap().as_bytes()),
        certificate_subject: format!("CN={kek}"),
        certificate_valid_days: 3650,
    }
}

/// Another one each time.
fn nonce() -> [u8; 16] {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    let mut nonce = [0; 16];
    nonce[..8].copy_from_slice(&NEXT.fetch_add(1, Ordering::Relaxed).to_be_bytes());
    nonce
}

#[tokio::test]
async fn a_kek_is_made_by_a_quorum_and_by_nobody_alone() {
    let rig = Rig::serving();
    let officers = Officers::of(&rig).await;
    let operation = Operation::CreateKek(new_version("archive", "kek-rsa-3072"));
    let id = officers.propose("alice", operation).await.unwrap();
    officers.approve("bob", id).await.unwrap();
    let alone = officers.execute("alice", id).await.unwrap_err();
    assert!(alone.to_string().contains("executable"), "{alone}");
    officers.approve("carol", id).await.unwrap();
    let executed = officers.execute("alice", id).await.unwrap();
    assert_eq!(
        executed.proposal.unwrap().phase(),
        v1::ProposalPhase::Executed
    );
    let auditor = rig.client("auditor").await;
    let kek = auditor.get_kek(&"archive".parse().unwrap()).await.unwrap();
    assert_eq!(kek.versions.len(), 1);
    assert_eq!(kek.versions[0].state(), v1::VersionState::Active);
}

#[tokio::test]
async fn one_officer_stops_a_kek_or_a_proposal_and_a_quorum_lifts_the_stop() {
    let rig = Rig::serving();
    let officers = Officers::of(&rig).await;
    let target = Target::Kek("recordings".parse().unwrap());
    assert!(officers.suspend("frank", target.clone()).await.unwrap());
    let operation = Operation::Reinstate(target);
    let id = officers.propose("alice", operation.clone()).await;
    let id = id.unwrap();
    officers.veto("bob", id).await.unwrap();
    assert_eq!(officers.phase(id).await, v1::ProposalPhase::Vetoed);
    officers.enact(operation).await.unwrap();
    assert!(officers.governance().await.stops.is_empty());
}
