//! An instance without HSM and files: the fold, keys and clients, put together as the ledger puts
//! them together, so that a refused deed leaves everything as it was. No test is here.

use std::sync::Arc;

use super::signing::Person;
use crate::access::Clients;
use crate::clock::UnixMs;
use crate::keyring::{Keyring, Lifecycle, Origin, Stops, Version};
use crate::merkle::Head;
use crate::quorum::governance::{Effect, Governance, Refusal, Standing, World};
use crate::quorum::{
    Begun, EXECUTION_NAMESPACE, Execution, Genesis, Operation, PROPOSAL_NAMESPACE, Phase, Proposal,
    ProposalDraft, ProposalId, SUSPENSION_NAMESPACE, Suspension, Target,
};
use crate::quorum::{NewVersion, Officer, OfficerRole};
use crate::types::{KekName, KeypairId, Padding, ReleaseForm, Sha256};

/// 2026-11-21T18:00:00Z.
pub(super) const START: UnixMs = UnixMs(1_795_284_000_000);
pub(super) const SECOND: u64 = 1000;
pub(super) const HOUR: u64 = 3600 * SECOND;
pub(super) const DAY: u64 = 24 * HOUR;
pub(super) const PROFILE: &[u8] = b"profile";

/// The deed that an entry of the ledger tells of.
#[derive(Debug, Clone)]
pub(super) enum Deed {
    Open(Vec<u8>, Vec<u8>),
    Approve(ProposalId, Vec<u8>),
    Prove(ProposalId, Vec<u8>),
    Veto(ProposalId, Vec<u8>),
    Expire(ProposalId),
    Execute(Vec<u8>, Vec<u8>),
    Begin(Vec<u8>, Vec<u8>, Option<KeypairId>),
    Mandated(ProposalId, KeypairId),
    Fail(KeypairId),
    Activate(Box<Version>, ProposalId),
    Destroyed(KeypairId),
    Suspend(Vec<u8>, Vec<u8>),
    HostStop(Option<KekName>),
}

/// The instance.
#[derive(Clone, PartialEq)]
pub(super) struct Stage {
    pub(super) governance: Governance,
    pub(super) keyring: Keyring,
    pub(super) clients: Clients,
    pub(super) roots: Vec<Sha256>,
    pub(super) now: UnixMs,
}

/// Three of each role, three for recovery, a threshold of two; destruction is allowed.
pub(super) fn genesis() -> Genesis {
    genesis_with("threshold = 2")
}

pub(super) fn genesis_with(policy: &str) -> Genesis {
    let mut text = format!(
        r#"format = "kekd-genesis-v1"
instance = "stage"
[policy]
{policy}
[[policy.rule]]
operation = "destroy-version"
allowed = true
[recovery]
threshold = 3
[issuer]
subject = "CN=issuer"
valid_days = 100
[[kek]]
name = "a"
profile = "p"
certificate_subject = "CN=a"
certificate_valid_days = 100
[[client]]
name = "lkm"
identity = "uid:1000"
role = "unwrap-client"
keks = ["a"]
"#
    );
    for (table, names) in [
        ("officer]]\nrole = \"key-custodian\"", CUSTODIANS),
        ("officer]]\nrole = \"policy-officer\"", POLICY_OFFICERS),
        ("recovery.officer]]", RECOVERY),
    ] {
        for name in names {
            let key = Person::of(name).public.to_openssh();
            text.push_str(&format!("[[{table}\nname = \"{name}\"\nkey = \"{key}\"\n"));
        }
    }
    Genesis::parse(text.as_bytes()).unwrap()
}

pub(super) const CUSTODIANS: [&str; 3] = ["alice", "bob", "carol"];
pub(super) const POLICY_OFFICERS: [&str; 3] = ["dave", "erin", "frank"];
pub(super) const RECOVERY: [&str; 3] = ["rita", "rose", "ruth"];

pub(super) fn kek(name: &str) -> KekName {
    name.parse().unwrap()
}

pub(super) fn id(n: u8) -> KeypairId {
    KeypairId::from_random([n; 16])
}

pub(super) fn new_version(name: &str) -> NewVersion {
    NewVersion {
        kek: kek(name),
        profile: "p".to_owned(),
        profile_sha256: Sha256::of(PROFILE),
        certificate_subject: format!("CN={name}"),
        certificate_valid_days: 100,
    }
}

pub(super) fn custodian(person: &Person) -> Officer {
    Officer {
        name: person.name.to_owned(),
        role: OfficerRole::KeyCustodian,
        key: person.public.clone(),
    }
}

/// The version as the HSM would have made it.
pub(super) fn version(
    name: &KekName,
    number: u32,
    keypair_id: KeypairId,
    spki_sha256: Option<Sha256>,
    at: UnixMs,
) -> Version {
    Version {
        kek: name.clone(),
        number,
        keypair_id,
        lifecycle: Lifecycle::Active,
        stops: Stops::default(),
        origin: Origin::Generated,
        proposal: None,
        spki: vec![],
        spki_sha256: spki_sha256.unwrap_or_else(|| Sha256::of(keypair_id.as_bytes())),
        modulus_bits: 3072,
        paddings_shown: vec![Padding::OaepSha1, Padding::Pkcs1V15],
        pkcs1v15_forbidden: false,
        release_forms: vec![ReleaseForm::Clear],
        profile: PROFILE.to_vec(),
        profile_name: "p".to_owned(),
        certificate: vec![],
        is_self_signed: false,
        certificate_expires_at: UnixMs(0),
        created_at: at,
    }
}

impl Stage {
    pub(super) fn new() -> Self {
        Self::born(&genesis())
    }

    /// With the KEK `a` and its version 1.
    pub(super) fn born(genesis: &Genesis) -> Self {
        let instance_id = Sha256::of(genesis.bytes());
        let mut keyring = Keyring::default();
        keyring
            .add(version(&kek("a"), 1, id(1), None, START))
            .unwrap();
        Self {
            governance: Governance::begin(instance_id, genesis),
            keyring,
            clients: genesis.clients().clone(),
            roots: vec![instance_id, Sha256::of(b"the version")],
            now: START,
        }
    }

    /// Takes a deed in at the present, or leaves everything as it was.
    pub(super) fn take(&mut self, deed: &Deed) -> Result<(), Refusal> {
        match deed {
            Deed::Suspend(statement, signature) => {
                self.governance.judge_suspension(statement, signature)?;
            }
            Deed::HostStop(kek) => self.governance.judge_host_stop(kek.as_ref())?,
            _ => {}
        }
        self.read(deed)
    }

    /// As [`Stage::take`], for an entry that a ledger has already.
    pub(super) fn read(&mut self, deed: &Deed) -> Result<(), Refusal> {
        let mut next = self.clone();
        let effects = next.judge(deed)?;
        for effect in effects {
            next.apply(effect)?;
        }
        let newest = next.roots.last().unwrap();
        next.roots.push(Sha256::of(newest.as_bytes()));
        *self = next;
        Ok(())
    }

    fn judge(&mut self, deed: &Deed) -> Result<Vec<Effect>, Refusal> {
        let world = World {
            keyring: &self.keyring,
            clients: &self.clients,
            roots: &self.roots,
            at: self.now,
        };
        let governance = &mut self.governance;
        match deed {
            Deed::Open(statement, signature) => governance.open(statement, signature, &world),
            Deed::Approve(id, signature) => governance.approve(*id, signature, &world),
            Deed::Prove(id, signature) => governance.prove_possession(*id, signature, &world),
            Deed::Veto(id, signature) => governance.veto(*id, signature, &world),
            Deed::Expire(id) => governance.expire(*id, &world),
            Deed::Execute(statement, signature) => governance.execute(statement, signature, &world),
            Deed::Begin(statement, signature, id) => {
                governance.begin_execution(statement, signature, *id, &world)
            }
            Deed::Mandated(mandate, id) => governance
                .begin_mandated(*mandate, *id, &world)
                .map(|()| Vec::new()),
            Deed::Fail(id) => governance.fail(*id, "because", &world),
            Deed::Activate(version, id) => {
                if self
                    .keyring
                    .versions()
                    .any(|known| known.spki_sha256 == version.spki_sha256)
                {
                    return Err(Refusal::IdInUse(version.keypair_id));
                }
                let effects = governance.activate(version, *id, &world)?;
                self.keyring.add(Version::clone(version))?;
                Ok(effects)
            }
            Deed::Destroyed(id) => governance.destroyed(*id, &world),
            Deed::Suspend(statement, signature) => governance.suspend(statement, signature, &world),
            Deed::HostStop(kek) => Ok(governance.suspend_by_host(kek.clone(), &world)),
        }
    }

    fn apply(&mut self, effect: Effect) -> Result<(), Refusal> {
        match effect {
            Effect::Stop(kek) => self.keyring.suspend(kek.as_ref())?,
            Effect::Lift(kek) => self.keyring.lift(kek.as_ref())?,
            Effect::Compromise(id) => self.keyring.compromise(id)?,
            Effect::Hold(id) => self.keyring.hold(id)?,
            Effect::Release(id) => self.keyring.release(id)?,
            Effect::Destroy(id) => self.keyring.destroy(id)?,
            Effect::ForbidPkcs1V15(kek, forbid) => self.keyring.forbid_pkcs1v15(&kek, forbid)?,
            Effect::Grant(identity, kek) => self.clients.grant(&identity, kek)?,
            Effect::Withdraw(identity, kek) => self.clients.withdraw(&identity, &kek)?,
            Effect::Assign(identity, role) => self.clients.assign(&identity, role)?,
            Effect::Remove(identity) => self.clients.remove(&identity)?,
        }
        Ok(())
    }

    pub(super) fn head(&self) -> Head {
        Head {
            size: u64::try_from(self.roots.len()).unwrap(),
            root: *self.roots.last().unwrap(),
        }
    }

    /// What an honest kekctl drafts now.
    pub(super) fn draft(&self, proposer: &str, operation: Operation) -> ProposalDraft {
        let counter = self.roots.len().to_be_bytes();
        let mut nonce = [0; 16];
        nonce
            .iter_mut()
            .zip(counter)
            .for_each(|(byte, n)| *byte = n);
        ProposalDraft {
            instance_id: self.governance.instance_id(),
            rule: self.governance.rule(operation.kind()),
            operation,
            proposer: proposer.to_owned(),
            nonce,
            opened_at: self.now,
            epoch: self.governance.epoch(),
            head: self.head(),
        }
    }

    /// Drafted as said, signed by its proposer, brought in.
    pub(super) fn put(&mut self, by: &Person, draft: ProposalDraft) -> Result<ProposalId, Refusal> {
        let proposal = Proposal::draft(draft)?;
        let signature = by.sign(PROPOSAL_NAMESPACE, proposal.text());
        self.take(&Deed::Open(proposal.text().to_vec(), signature))?;
        Ok(proposal.id)
    }

    pub(super) fn open(
        &mut self,
        by: &'static str,
        operation: Operation,
    ) -> Result<ProposalId, Refusal> {
        self.put(Person::of(by), self.draft(by, operation))
    }

    pub(super) fn standing(&self, id: ProposalId) -> Arc<Standing> {
        Arc::clone(self.governance.proposal(id).unwrap())
    }

    pub(super) fn text(&self, id: ProposalId) -> Vec<u8> {
        self.standing(id).proposal.text().to_vec()
    }

    pub(super) fn phase(&self, id: ProposalId) -> Phase {
        self.standing(id).phase(self.now)
    }

    pub(super) fn approve(&mut self, by: &'static str, id: ProposalId) -> Result<(), Refusal> {
        let signature = Person::of(by).sign(crate::quorum::APPROVAL_NAMESPACE, &self.text(id));
        self.take(&Deed::Approve(id, signature))
    }

    pub(super) fn prove(&mut self, by: &Person, id: ProposalId) -> Result<(), Refusal> {
        let signature = by.sign(crate::quorum::POSSESSION_NAMESPACE, &self.text(id));
        self.take(&Deed::Prove(id, signature))
    }

    pub(super) fn veto(&mut self, by: &'static str, id: ProposalId) -> Result<(), Refusal> {
        let signature = Person::of(by).sign(crate::quorum::VETO_NAMESPACE, &self.text(id));
        self.take(&Deed::Veto(id, signature))
    }

    /// The order of an officer whose clock shows `at`.
    pub(super) fn order(&self, by: &Person, id: ProposalId, at: UnixMs) -> (Vec<u8>, Vec<u8>) {
        let order = Execution::draft(&self.standing(id).proposal, by.name, at).unwrap();
        let signature = by.sign(EXECUTION_NAMESPACE, order.text());
        (order.text().to_vec(), signature)
    }

    /// Executes, or begins with this key pair id.
    pub(super) fn execute(&mut self, by: &'static str, id: ProposalId) -> Result<(), Refusal> {
        self.execute_at(by, id, self.now, None)
    }

    pub(super) fn execute_at(
        &mut self,
        by: &'static str,
        id: ProposalId,
        at: UnixMs,
        keypair_id: Option<KeypairId>,
    ) -> Result<(), Refusal> {
        let (statement, signature) = self.order(Person::of(by), id, at);
        let kind = self.standing(id).proposal.operation.kind();
        self.take(&match kind.needs_hsm() {
            true => Deed::Begin(statement, signature, keypair_id),
            false => Deed::Execute(statement, signature),
        })
    }

    pub(super) fn suspend(&mut self, by: &'static str, target: Target) -> Result<(), Refusal> {
        let nonce = self.draft(by, Operation::Reinstate(Target::All)).nonce;
        let instance_id = self.governance.instance_id();
        let text = Suspension::draft(instance_id, target, by, nonce, self.now).unwrap();
        let signature = Person::of(by).sign(SUSPENSION_NAMESPACE, text.text());
        self.take(&Deed::Suspend(text.text().to_vec(), signature))
    }

    /// Opened by the first, approved by the others, its lock over.
    pub(super) fn agreed(&mut self, by: [&'static str; 3], operation: Operation) -> ProposalId {
        let [first, second, third] = by;
        let id = self.open(first, operation).unwrap();
        self.approve(second, id).unwrap();
        self.approve(third, id).unwrap();
        self.now = self.standing(id).executable_at().unwrap();
        id
    }

    /// The key that was begun under this id is made.
    pub(super) fn activated(&self, id: KeypairId) -> Option<Deed> {
        let (made, number, spki) = match self.governance.begun(id)? {
            Begun::Make(make) => (&make.version, make.number, None),
            Begun::Import(import) => (&import.version, 1, Some(import.spki_sha256)),
            Begun::Destroy(_) => return None,
        };
        let proposal = self.governance.begun(id)?.proposal();
        let version = version(&made.kek, number, id, spki, self.now);
        Some(Deed::Activate(Box::new(version), proposal))
    }

    /// `a` with a second version, which is active; the first is deactivated.
    pub(super) fn rotated() -> Self {
        let mut stage = Self::new();
        let operation = Operation::RotateKek {
            version: new_version("a"),
            retires: Some(id(1)),
        };
        let rotation = stage.agreed(CUSTODIANS, operation);
        stage
            .execute_at("alice", rotation, stage.now, Some(id(2)))
            .unwrap();
        let made = stage.activated(id(2)).unwrap();
        stage.take(&made).unwrap();
        stage
    }
}
