//! Executions: the officer's order is judged, the proposal is judged again, and then either takes
//! effect at once or is begun and ends with a later entry. The proofs that the HSM asks for are made
//! here and nowhere else, out of what was begun.

use std::sync::Arc;

use super::super::authorized::{Authorized, DestroyVersion, ImportVersion, MakeVersion};
use super::super::operation::{NewVersion, Operation};
use super::super::orders::Execution;
use super::super::proposal::ProposalId;
use super::super::statement::EXECUTION_NAMESPACE;
use super::{Effect, Governance, Phase, Refusal, Standing, World};
use crate::clock::UnixMs;
use crate::keyring::Version;
use crate::types::{KeypairId, Sha256};

/// How far an officer's clock and the node's may be apart at an execution, in milliseconds.
const APART_MAX_MS: u64 = 3600 * 1000;

/// What was begun in the HSM and has not ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Begun {
    /// A version is made.
    Make(MakeVersion),
    /// A version is destroyed.
    Destroy(DestroyVersion),
    /// A key is brought in.
    Import(ImportVersion),
}

/// The proof for what was begun.
pub enum Pending {
    /// A version is to be made.
    Make(Authorized<MakeVersion>),
    /// A version is to be destroyed.
    Destroy(Authorized<DestroyVersion>),
    /// A key is to be brought in.
    Import(Authorized<ImportVersion>),
}

impl Governance {
    /// What was begun and has not ended, with the proof that it may go on.
    pub fn pending(&self) -> Vec<Pending> {
        let proof = |begun: &Begun| match begun {
            Begun::Make(make) => Pending::Make(Authorized::new(make.clone())),
            Begun::Destroy(destroy) => Pending::Destroy(Authorized::new(destroy.clone())),
            Begun::Import(import) => Pending::Import(Authorized::new(import.clone())),
        };
        self.begun.values().map(proof).collect()
    }

    /// The key pairs that something begun concerns.
    pub fn pending_ids(&self) -> impl Iterator<Item = KeypairId> {
        self.begun.keys().copied()
    }

    /// Whether something was begun under this id of a new key pair, whatever became of it.
    pub fn was_promised(&self, id: KeypairId) -> bool {
        self.promised.contains(&id)
    }

    /// What was begun under this key pair id.
    pub fn begun(&self, id: KeypairId) -> Option<&Begun> {
        self.begun.get(&id)
    }

    /// An officer executes an operation that needs no HSM; it takes effect.
    pub fn execute(
        &mut self,
        statement: &[u8],
        signature: &[u8],
        world: &World<'_>,
    ) -> Result<Vec<Effect>, Refusal> {
        let (standing, officer) = self.ordered(statement, signature, world)?;
        let (id, operation) = (standing.proposal.id, &standing.proposal.operation);
        if operation.kind().needs_hsm() {
            return Err(Refusal::WrongEntry {
                operation: operation.kind().name(),
                expected: "in two steps, begun before the HSM is asked",
            });
        }
        let mut effects = self.close(id, Phase::Executed, officer, String::new(), world.at);
        effects.extend(self.take_effect(id, operation, world));
        Ok(effects)
    }

    /// An officer executes an operation that makes or destroys a key: the intent.
    pub fn begin_execution(
        &mut self,
        statement: &[u8],
        signature: &[u8],
        keypair_id: Option<KeypairId>,
        world: &World<'_>,
    ) -> Result<Vec<Effect>, Refusal> {
        let (standing, officer) = self.ordered(statement, signature, world)?;
        let proposal = standing.proposal.id;
        let begun = match (&standing.proposal.operation, keypair_id) {
            (
                Operation::CreateKek(version) | Operation::RotateKek { version, .. },
                Some(keypair_id),
            ) => Begun::Make(MakeVersion {
                proposal,
                number: next_number(version, world),
                version: version.clone(),
                keypair_id,
            }),
            (
                Operation::ImportKek {
                    version,
                    spki_sha256,
                },
                Some(keypair_id),
            ) => Begun::Import(ImportVersion {
                proposal,
                version: version.clone(),
                keypair_id,
                spki_sha256: *spki_sha256,
            }),
            (Operation::DestroyVersion { keypair_id, .. }, None) => {
                Begun::Destroy(DestroyVersion {
                    proposal,
                    keypair_id: *keypair_id,
                })
            }
            (operation, _) => {
                return Err(Refusal::WrongEntry {
                    operation: operation.kind().name(),
                    expected: "in another kind of entry",
                });
            }
        };
        let id = begun.keypair_id();
        if let Some(new) = keypair_id {
            self.is_unused(new, world)?;
            self.promised.insert(new);
        }
        let mut standing = Standing::clone(&standing);
        standing.executed_by = Some(officer);
        standing.keypair_id = Some(id);
        self.keep(standing);
        self.begun.insert(id, begun);
        Ok(Vec::new())
    }

    /// The node says that what was begun has ended without effect.
    pub fn fail(
        &mut self,
        keypair_id: KeypairId,
        reason: &str,
        world: &World<'_>,
    ) -> Result<Vec<Effect>, Refusal> {
        let begun = self.begun.remove(&keypair_id);
        let begun = begun.ok_or(Refusal::NotBegun(keypair_id))?;
        if let Some(mandate) = self.mandate_of(begun.proposal()) {
            mandate.failed_at = Some(world.at);
            return Ok(Vec::new());
        }
        let by = self.executor(begun.proposal());
        let because = reason.to_owned();
        Ok(self.close(begun.proposal(), Phase::Failed, by, because, world.at))
    }

    /// A version was made or brought in, as what was begun asks.
    pub fn activate(
        &mut self,
        version: &Version,
        proposal: ProposalId,
        world: &World<'_>,
    ) -> Result<Vec<Effect>, Refusal> {
        let id = version.keypair_id;
        let begun = self.begun.get(&id).ok_or(Refusal::NotBegun(id))?;
        let (asked, number) = match begun {
            Begun::Make(make) => (&make.version, make.number),
            Begun::Import(import) => {
                as_approved("public key", import.spki_sha256, version.spki_sha256)?;
                (&import.version, 1)
            }
            Begun::Destroy(_) => return Err(Refusal::NotBegun(id)),
        };
        as_approved("proposal", begun.proposal().0, proposal.0)?;
        as_approved("KEK", &asked.kek, &version.kek)?;
        as_approved("version number", number, version.number)?;
        as_approved("key profile", &asked.profile, &version.profile_name)?;
        let profile = Sha256::of(&version.profile);
        as_approved("key profile's SHA-256", asked.profile_sha256, profile)?;
        self.begun.remove(&id);
        if let Some(mandate) = self.mandate_of(proposal) {
            mandate.failed_at = None;
            return Ok(Vec::new());
        }
        let by = self.executor(proposal);
        Ok(self.close(proposal, Phase::Executed, by, String::new(), world.at))
    }

    /// The private key of a version is gone.
    pub fn destroyed(
        &mut self,
        keypair_id: KeypairId,
        world: &World<'_>,
    ) -> Result<Vec<Effect>, Refusal> {
        match self.begun.get(&keypair_id) {
            Some(Begun::Destroy(destroy)) => {
                let proposal = destroy.proposal;
                self.begun.remove(&keypair_id);
                let by = self.executor(proposal);
                let close = self.close(proposal, Phase::Executed, by, String::new(), world.at);
                Ok(std::iter::once(Effect::Destroy(keypair_id))
                    .chain(close)
                    .collect())
            }
            Some(Begun::Make(_) | Begun::Import(_)) | None => Err(Refusal::NotBegun(keypair_id)),
        }
    }

    pub(super) fn is_unused(&self, id: KeypairId, world: &World<'_>) -> Result<(), Refusal> {
        if self.promised.contains(&id) || world.keyring.version(id).is_ok() {
            return Err(Refusal::IdInUse(id));
        }
        Ok(())
    }

    pub(super) fn enter(&mut self, make: MakeVersion) {
        self.promised.insert(make.keypair_id);
        self.begun.insert(make.keypair_id, Begun::Make(make));
    }

    pub(super) fn under_way(&self) -> impl Iterator<Item = &Begun> {
        self.begun.values()
    }

    fn executor(&self, id: ProposalId) -> String {
        let standing = self.proposals.get(&id);
        let executor = standing.and_then(|standing| standing.executed_by.clone());
        executor.unwrap_or_default()
    }

    /// The order, once everything about it and about its proposal stands, and who gave it.
    fn ordered(
        &self,
        statement: &[u8],
        signature: &[u8],
        world: &World<'_>,
    ) -> Result<(Arc<Standing>, String), Refusal> {
        let order = Execution::parse(statement)?;
        self.is_for_us(order.instance_id)?;
        let standing = self.known(order.proposal)?;
        let proposal = &standing.proposal;
        let kind = proposal.operation.kind();
        if !order.is_of(proposal) {
            return Err(Refusal::FactDiffers {
                what: "operation or effect",
            });
        }
        let electorate = self.electorate(kind.approvers());
        let officer = Self::signer(&electorate, EXECUTION_NAMESPACE, statement, signature)?;
        if officer != order.officer {
            return Err(Refusal::SignedByAnother {
                expected: order.officer,
                found: officer,
            });
        }
        let found = standing.phase(world.at);
        if found != Phase::Executable {
            return Err(Refusal::PhaseWrong {
                act: "an execution",
                expected: "executable",
                found,
            });
        }
        self.both_clocks_are_past_the_lock(&standing, order.at, world.at)?;
        let (expected, found) = (self.threshold(proposal), self.counting(&standing));
        if found.len() < expected {
            return Err(Refusal::BelowThreshold { expected, found });
        }
        let missing = self.possession_missing(&standing);
        if !missing.is_empty() {
            return Err(Refusal::PossessionMissing { missing });
        }
        if !self.rule(kind).allowed {
            return Err(Refusal::NotAllowed {
                operation: kind.name(),
            });
        }
        self.fits(&proposal.operation, proposal.id, world)?;
        self.has_seen_the_stop(proposal)?;
        Ok((standing, officer))
    }

    /// Neither the node's clock nor the officer's alone can shorten a lock, and they agree.
    fn both_clocks_are_past_the_lock(
        &self,
        standing: &Standing,
        officer: UnixMs,
        node: UnixMs,
    ) -> Result<(), Refusal> {
        let wrong = |what, expected, found: UnixMs| {
            Err(Refusal::Time {
                what,
                expected,
                found: found.rfc3339(),
            })
        };
        let rule = self.rule(standing.proposal.operation.kind());
        let lock = standing.proposal.time_lock.max(rule.time_lock);
        let lock = u64::try_from(lock.as_millis()).unwrap_or(u64::MAX);
        let met_at = standing.met_at.unwrap_or(UnixMs(u64::MAX));
        // An officer's time has whole seconds, so the end of the lock is taken down to one.
        let end = UnixMs(met_at.0.saturating_add(lock) / 1000 * 1000);
        let expected = || {
            format!(
                "no earlier than the end of the time-lock, {}",
                end.rfc3339()
            )
        };
        if node < end {
            return wrong("the node's time", expected(), node);
        }
        if officer < end {
            return wrong("the officer's time", expected(), officer);
        }
        if officer >= standing.proposal.expires_at {
            let expires = standing.proposal.expires_at.rfc3339();
            return wrong(
                "the officer's time",
                format!("earlier than {expires}"),
                officer,
            );
        }
        if officer.0.abs_diff(node.0) > APART_MAX_MS {
            let expected = format!("within one hour of the node's time, {}", node.rfc3339());
            return wrong("the officer's time", expected, officer);
        }
        Ok(())
    }
}

impl Pending {
    /// The proposal that asked for it, or that set the mandate.
    pub const fn proposal(&self) -> ProposalId {
        match self {
            Self::Make(make) => make.operation().proposal,
            Self::Destroy(destroy) => destroy.operation().proposal,
            Self::Import(import) => import.operation().proposal,
        }
    }
}

impl Begun {
    /// The key pair concerned.
    pub const fn keypair_id(&self) -> KeypairId {
        match self {
            Self::Make(make) => make.keypair_id,
            Self::Destroy(destroy) => destroy.keypair_id,
            Self::Import(import) => import.keypair_id,
        }
    }

    /// The proposal that asked for it, or that set the mandate.
    pub const fn proposal(&self) -> ProposalId {
        match self {
            Self::Make(make) => make.proposal,
            Self::Destroy(destroy) => destroy.proposal,
            Self::Import(import) => import.proposal,
        }
    }
}

pub(super) fn next_number(version: &NewVersion, world: &World<'_>) -> u32 {
    let versions = world.keyring.kek(&version.kek).unwrap_or_default();
    let newest = versions.last().map_or(0, |newest| newest.number);
    newest.saturating_add(1)
}

fn as_approved<T: PartialEq + ToString>(
    what: &'static str,
    expected: T,
    found: T,
) -> Result<(), Refusal> {
    if expected == found {
        return Ok(());
    }
    Err(Refusal::NotAsApproved {
        what,
        expected: expected.to_string(),
        found: found.to_string(),
    })
}
