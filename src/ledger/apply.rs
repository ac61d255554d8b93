//! What each kind of entry after the birth does to the state. Judging is `governance`'s; here an
//! entry's fields become values, and what was judged is applied to keys and clients.

use super::entry::Event;
use super::error::EntryError;
use super::keys;
use super::state::State;
use crate::clock::UnixMs;
use crate::keyring::{Origin, Version};
use crate::proto::v1;
use crate::quorum::{Begun, Effect, Governance, ImportVersion, MakeVersion, ProposalId, World};
use crate::types::{KekName, KeypairId, Sha256};

/// Longest reason of an execution without effect, in bytes.
const REASON_LEN_MAX: usize = 256;

impl State {
    /// Takes in what an entry at the time `at` says. On an error the state is to be thrown away.
    pub(super) fn apply(&mut self, event: &Event, at: UnixMs) -> Result<(), EntryError> {
        if let Event::KekVersionActivated(event) = event {
            return self.activate(event, at);
        }
        let (governance, world) = self.judge(at);
        let effects = match event {
            Event::ProposalOpened(e) => governance.open(&e.statement, &e.signature, &world)?,
            Event::ApprovalGiven(e) => {
                governance.approve(proposal(&e.proposal_id)?, &e.signature, &world)?
            }
            Event::PossessionProven(e) => {
                governance.prove_possession(proposal(&e.proposal_id)?, &e.signature, &world)?
            }
            Event::ProposalVetoed(e) => {
                governance.veto(proposal(&e.proposal_id)?, &e.signature, &world)?
            }
            Event::ProposalExpired(e) => governance.expire(proposal(&e.proposal_id)?, &world)?,
            Event::OperationExecuted(e) => {
                governance.execute(&e.statement, &e.signature, &world)?
            }
            Event::ExecutionBegun(e) => {
                let id = match e.keypair_id.as_slice() {
                    [] => None,
                    bytes => Some(keypair(bytes)?),
                };
                governance.begin_execution(&e.statement, &e.signature, id, &world)?
            }
            Event::MandatedRotationBegun(e) => {
                let id = keypair(&e.keypair_id)?;
                governance.begin_mandated(proposal(&e.mandate_id)?, id, &world)?;
                Vec::new()
            }
            Event::ExecutionFailed(e) => {
                let printable = |c: char| c.is_ascii_graphic() || c == ' ';
                if e.reason.len() > REASON_LEN_MAX || !e.reason.chars().all(printable) {
                    return Err(EntryError::FieldRefused {
                        field: "reason",
                        rule: "at most 256 printable ASCII characters",
                    });
                }
                governance.fail(keypair(&e.keypair_id)?, &e.reason, &world)?
            }
            Event::VersionDestroyed(e) => {
                let id = keypair(&e.keypair_id)?;
                governance.destroyed(id, &world)?
            }
            Event::Suspended(e) => governance.suspend(&e.statement, &e.signature, &world)?,
            Event::SuspendedByHost(e) => governance.suspend_by_host(target(&e.kek)?, &world),
            // Judged by the callers: they are entry 0, and above.
            Event::InstanceCreated(_) | Event::KekVersionActivated(_) => Vec::new(),
        };
        self.take(effects)
    }

    /// What is asked of an entry before it is written, beside what is asked whenever it is read.
    pub(super) fn is_news(&self, event: &Event) -> Result<(), EntryError> {
        if let Event::Suspended(e) = event {
            self.governance
                .judge_suspension(&e.statement, &e.signature)?;
        } else if let Event::SuspendedByHost(e) = event {
            self.governance.judge_host_stop(target(&e.kek)?.as_ref())?;
        }
        Ok(())
    }

    /// The judge, and what it judges an entry against.
    const fn judge(&mut self, at: UnixMs) -> (&mut Governance, World<'_>) {
        let world = World {
            keyring: &self.keyring,
            clients: &self.clients,
            roots: self.roots.as_slice(),
            at,
        };
        (&mut self.governance, world)
    }

    fn activate(&mut self, event: &v1::KekVersionActivated, at: UnixMs) -> Result<(), EntryError> {
        let mut version = keys::version(event, at)?;
        self.is_new_key(&version)?;
        if event.proposal_id.is_empty() {
            self.was_signed_for(&version)?;
            self.keyring.add(version)?;
            return Ok(());
        }
        let id = proposal(&event.proposal_id)?;
        version.proposal = Some(id.0);
        version.origin = match self.governance.begun(version.keypair_id) {
            Some(Begun::Import(_)) => Origin::Imported,
            Some(Begun::Make(_) | Begun::Destroy(_)) | None => Origin::Generated,
        };
        self.activate_approved(version, id, at)
    }

    fn activate_approved(
        &mut self,
        version: Version,
        id: ProposalId,
        at: UnixMs,
    ) -> Result<(), EntryError> {
        if let Some(Begun::Make(MakeVersion { version: asked, .. }))
        | Some(Begun::Import(ImportVersion { version: asked, .. })) =
            self.governance.begun(version.keypair_id)
        {
            keys::is_certified_as(&version, asked, self.issuing_certificate())?;
        }
        let (governance, world) = self.judge(at);
        let effects = governance.activate(&version, id, &world)?;
        self.keyring.add(version)?;
        self.take(effects)
    }

    fn take(&mut self, effects: Vec<Effect>) -> Result<(), EntryError> {
        for effect in effects {
            match effect {
                Effect::Stop(kek) => self.keyring.suspend(kek.as_ref())?,
                Effect::Lift(kek) => self.keyring.lift(kek.as_ref())?,
                Effect::Compromise(id) => self.keyring.compromise(id)?,
                Effect::Hold(id) => self.keyring.hold(id)?,
                Effect::Release(id) => self.keyring.release(id)?,
                Effect::Destroy(id) => self.keyring.destroy(id)?,
                Effect::ForbidPkcs1V15(kek, forbid) => {
                    self.keyring.forbid_pkcs1v15(&kek, forbid)?;
                }
                Effect::Grant(identity, kek) => self.clients.grant(&identity, kek)?,
                Effect::Withdraw(identity, kek) => self.clients.withdraw(&identity, &kek)?,
                Effect::Assign(identity, role) => self.clients.assign(&identity, role)?,
                Effect::Remove(identity) => self.clients.remove(&identity)?,
            }
        }
        Ok(())
    }
}

fn proposal(bytes: &[u8]) -> Result<ProposalId, EntryError> {
    let id = Sha256::try_from(bytes).map_err(|_| EntryError::FieldRefused {
        field: "proposal_id",
        rule: "32 bytes",
    })?;
    Ok(ProposalId(id))
}

fn keypair(bytes: &[u8]) -> Result<KeypairId, EntryError> {
    KeypairId::try_from(bytes).map_err(|source| EntryError::NameRefused {
        field: "keypair_id",
        source,
    })
}

/// A KEK, or with no name everything.
fn target(kek: &str) -> Result<Option<KekName>, EntryError> {
    if kek.is_empty() {
        return Ok(None);
    }
    let name = kek.parse().map_err(|source| EntryError::NameRefused {
        field: "kek",
        source,
    })?;
    Ok(Some(name))
}
