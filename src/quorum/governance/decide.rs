//! Proposals up to their execution: opened, approved, proved, vetoed, expired.

use std::sync::Arc;

use super::super::operation::{Approvers, Operation, OperationKind};
use super::super::policy::Rule;
use super::super::proposal::{Proposal, ProposalId};
use super::super::statement::{
    APPROVAL_NAMESPACE, POSSESSION_NAMESPACE, PROPOSAL_NAMESPACE, VETO_NAMESPACE,
};
use super::{Closure, Effect, Governance, Phase, Refusal, Standing, World};
use crate::clock::UnixMs;
use crate::quorum::Officer;

/// How far a proposer's clock may be ahead of the node's, in milliseconds.
const AHEAD_MAX_MS: u64 = 5 * 60 * 1000;
/// Most proposals an officer opens within a day.
const OPENED_PER_DAY_MAX: usize = 64;
/// A day in milliseconds.
const DAY_MS: u64 = 24 * 3600 * 1000;

impl Governance {
    /// An officer puts an operation forward.
    pub fn open(
        &mut self,
        statement: &[u8],
        signature: &[u8],
        world: &World<'_>,
    ) -> Result<Vec<Effect>, Refusal> {
        let proposal = Proposal::parse(statement)?;
        self.is_for_us(proposal.instance_id)?;
        if proposal.epoch != self.epoch {
            return Err(Refusal::EpochWrong {
                expected: self.epoch,
                found: proposal.epoch,
            });
        }
        if self.proposals.contains_key(&proposal.id) {
            return Err(Refusal::ProposalKnown(proposal.id));
        }
        let kind = proposal.operation.kind();
        let electorate = self.electorate(kind.approvers());
        let signer = Self::signer(&electorate, PROPOSAL_NAMESPACE, statement, signature)?;
        if signer != proposal.proposer {
            return Err(Refusal::SignedByAnother {
                expected: proposal.proposer,
                found: signer,
            });
        }
        has_the_rule(&proposal, kind, self.rule(kind))?;
        is_timely(&proposal, world.at)?;
        is_built_on_this_ledger(&proposal, world)?;
        self.is_within_quota(&signer, world.at)?;
        self.fits(&proposal.operation, proposal.id, world)?;
        self.has_seen_the_stop(&proposal)?;
        let standing = Standing {
            entered_at: world.at,
            approvals: Vec::new(),
            proven: Vec::new(),
            met_at: None,
            keypair_id: None,
            executed_by: None,
            closed: None,
            proposal: Arc::new(proposal),
        };
        self.order.push(standing.proposal.id);
        self.proposals
            .insert(standing.proposal.id, Arc::new(standing));
        Ok(Vec::new())
    }

    /// An officer approves. The threshold being met starts the time-lock, and stops a version that
    /// is to be destroyed.
    pub fn approve(
        &mut self,
        id: ProposalId,
        signature: &[u8],
        world: &World<'_>,
    ) -> Result<Vec<Effect>, Refusal> {
        let standing = self.still_open(id, "an approval", world)?;
        let kind = standing.proposal.operation.kind();
        let electorate = self.electorate(kind.approvers());
        let text = standing.proposal.text();
        let officer = Self::signer(&electorate, APPROVAL_NAMESPACE, text, signature)?;
        if standing.approvals.contains(&officer) {
            return Err(Refusal::SignedTwice { officer });
        }
        if officer == standing.proposal.proposer && !self.proposer_may_approve(kind) {
            return Err(Refusal::OwnProposal { officer });
        }
        let threshold = self.threshold(&standing.proposal);
        let mut standing = Standing::clone(&standing);
        standing.approvals.push(officer);
        let mut effects = Vec::new();
        if standing.met_at.is_none() && self.counting(&standing).len() >= threshold {
            standing.met_at = Some(world.at);
            if let Operation::DestroyVersion { keypair_id, .. } = &standing.proposal.operation {
                effects.push(Effect::Hold(*keypair_id));
            }
        }
        self.keep(standing);
        Ok(effects)
    }

    /// An officer to be proves to hold the key that the proposal names.
    pub fn prove_possession(
        &mut self,
        id: ProposalId,
        signature: &[u8],
        world: &World<'_>,
    ) -> Result<Vec<Effect>, Refusal> {
        let standing = self.still_open(id, "a proof of possession", world)?;
        let new = self.new_officers(&standing.proposal.operation);
        if new.is_empty() {
            return Err(Refusal::NothingToProve);
        }
        let text = standing.proposal.text();
        let officer = Self::signer(&new, POSSESSION_NAMESPACE, text, signature)?;
        if standing.proven.contains(&officer) {
            return Err(Refusal::SignedTwice { officer });
        }
        let mut standing = Standing::clone(&standing);
        standing.proven.push(officer);
        self.keep(standing);
        Ok(Vec::new())
    }

    /// An officer closes a proposal.
    pub fn veto(
        &mut self,
        id: ProposalId,
        signature: &[u8],
        world: &World<'_>,
    ) -> Result<Vec<Effect>, Refusal> {
        let standing = self.still_open(id, "a veto", world)?;
        let vetoers = self.vetoers(standing.proposal.operation.kind().approvers());
        let text = standing.proposal.text();
        let officer = Self::signer(&vetoers, VETO_NAMESPACE, text, signature)?;
        Ok(self.close(id, Phase::Vetoed, officer, String::new(), world.at))
    }

    /// The officer behind a veto of a proposal whose execution has begun: one of those who may close
    /// it. The fold takes no such veto, since what was begun ends with an entry of its own; whoever
    /// can still end it asks here whether it may.
    pub fn vetoes_execution(
        &self,
        id: ProposalId,
        signature: &[u8],
        at: UnixMs,
    ) -> Result<String, Refusal> {
        let standing = self.known(id)?;
        let found = standing.phase(at);
        if found != Phase::Executing {
            return Err(Refusal::PhaseWrong {
                act: "a veto of an execution",
                expected: Phase::Executing.name(),
                found,
            });
        }
        let vetoers = self.vetoers(standing.proposal.operation.kind().approvers());
        let text = standing.proposal.text();
        Self::signer(&vetoers, VETO_NAMESPACE, text, signature)
    }

    /// The node found that the time of a proposal is over.
    pub fn expire(&mut self, id: ProposalId, world: &World<'_>) -> Result<Vec<Effect>, Refusal> {
        let standing = self.known(id)?;
        let phase = standing.phase(world.at);
        if standing.closed.is_some() || phase != Phase::Expired {
            return Err(Refusal::PhaseWrong {
                act: "expiry",
                expected: "past its time and not closed",
                found: phase,
            });
        }
        Ok(self.close(id, Phase::Expired, String::new(), String::new(), world.at))
    }

    /// Proposals whose time is over and whose end is not in the ledger.
    pub fn overdue(&self, now: UnixMs) -> Vec<ProposalId> {
        let overdue = self.proposals.iter().filter(|(_, standing)| {
            standing.closed.is_none() && standing.phase(now) == Phase::Expired
        });
        overdue.map(|(id, _)| *id).collect()
    }

    /// Names of new officers who have not proved that they hold their keys.
    pub fn possession_missing(&self, standing: &Standing) -> Vec<String> {
        let new = self.new_officers(&standing.proposal.operation);
        let names = new.into_iter().map(|officer| officer.name);
        names
            .filter(|name| !standing.proven.contains(name))
            .collect()
    }

    /// The approvals that count: of those who are still entitled to approve.
    pub fn counting(&self, standing: &Standing) -> Vec<String> {
        let kind = standing.proposal.operation.kind();
        let electorate = self.electorate(kind.approvers());
        let counts = |name: &&String| electorate.iter().any(|officer| officer.name == **name);
        standing.approvals.iter().filter(counts).cloned().collect()
    }

    /// How many must approve: the stricter of the statement and the policy now.
    pub fn threshold(&self, proposal: &Proposal) -> usize {
        let rule = self.rule(proposal.operation.kind());
        proposal.threshold.max(rule.threshold)
    }

    pub(super) fn known(&self, id: ProposalId) -> Result<Arc<Standing>, Refusal> {
        let known = self.proposals.get(&id).cloned();
        known.ok_or(Refusal::ProposalUnknown(id))
    }

    pub(super) fn keep(&mut self, standing: Standing) {
        self.proposals
            .insert(standing.proposal.id, Arc::new(standing));
    }

    /// Ends a proposal; a version that waited for its destruction waits no more. What is closed stays
    /// closed as it was: what a mandate began may end after the mandate was withdrawn, and its
    /// proposal was executed long ago.
    pub(super) fn close(
        &mut self,
        id: ProposalId,
        phase: Phase,
        by: String,
        because: String,
        at: UnixMs,
    ) -> Vec<Effect> {
        let open = self
            .proposals
            .get(&id)
            .filter(|standing| standing.closed.is_none());
        let Some(standing) = open else {
            return Vec::new();
        };
        let mut standing = Standing::clone(standing);
        let mut effects = Vec::new();
        if let Operation::DestroyVersion { keypair_id, .. } = &standing.proposal.operation
            && standing.met_at.is_some()
            && phase != Phase::Executed
        {
            effects.push(Effect::Release(*keypair_id));
        }
        standing.closed = Some(Closure {
            phase,
            by,
            because,
            at,
        });
        self.keep(standing);
        effects
    }

    fn still_open(
        &self,
        id: ProposalId,
        act: &'static str,
        world: &World<'_>,
    ) -> Result<Arc<Standing>, Refusal> {
        let standing = self.known(id)?;
        let found = standing.phase(world.at);
        if found.is_open() {
            return Ok(standing);
        }
        Err(Refusal::PhaseWrong {
            act,
            expected: "open",
            found,
        })
    }

    /// Officers of the proposed set whose key no officer has now. The whole key counts: a point with
    /// the FIDO application of no device, or a modulus with another exponent, signs nothing.
    fn new_officers(&self, operation: &Operation) -> Vec<Officer> {
        let (Operation::ChangeOfficers { officers } | Operation::Recover { officers }) = operation
        else {
            return Vec::new();
        };
        let is_new = |officer: &&Officer| {
            let mut now = self.officers.iter();
            !now.any(|known| known.key == officer.key)
        };
        officers.iter().filter(is_new).cloned().collect()
    }

    fn is_within_quota(&self, officer: &str, at: UnixMs) -> Result<(), Refusal> {
        let of_officer = || {
            let all = self.proposals.values();
            all.filter(|standing| standing.proposal.proposer == officer)
        };
        let open = of_officer()
            .filter(|standing| standing.phase(at).is_open())
            .count();
        let max = self.policy.open_max_per_officer;
        if open >= max {
            return Err(Refusal::TooManyOpen {
                officer: officer.to_owned(),
                found: open,
                max,
            });
        }
        let day_ago = at.0.saturating_sub(DAY_MS);
        let today = of_officer()
            .filter(|standing| standing.entered_at.0 > day_ago)
            .count();
        if today >= OPENED_PER_DAY_MAX {
            return Err(Refusal::TooManyInADay {
                officer: officer.to_owned(),
                found: today,
                max: OPENED_PER_DAY_MAX,
            });
        }
        Ok(())
    }
}

/// The statement says what the policy says, so that what officers read is what holds.
fn has_the_rule(proposal: &Proposal, kind: OperationKind, rule: Rule) -> Result<(), Refusal> {
    let operation = kind.name();
    if !rule.allowed {
        return Err(Refusal::NotAllowed { operation });
    }
    let differs = |what, expected: String, found: String| {
        Err(Refusal::RuleDiffers {
            operation,
            what,
            expected,
            found,
        })
    };
    let seconds = |duration: std::time::Duration| format!("{}s", duration.as_secs());
    if proposal.threshold != rule.threshold {
        let (expected, found) = (rule.threshold, proposal.threshold);
        return differs("approvals", expected.to_string(), found.to_string());
    }
    if proposal.time_lock != rule.time_lock {
        let (expected, found) = (rule.time_lock, proposal.time_lock);
        return differs("time-lock", seconds(expected), seconds(found));
    }
    let approvers: Approvers = kind.approvers();
    if proposal.approvers != approvers {
        let (expected, found) = (approvers.to_string(), proposal.approvers.to_string());
        return differs("approvers", expected, found);
    }
    let lifetime_ms = proposal.expires_at.0.saturating_sub(proposal.opened_at.0);
    if u128::from(lifetime_ms) != rule.lifetime.as_millis() {
        let found = format!("{}s", lifetime_ms / 1000);
        return differs("a lifetime of", seconds(rule.lifetime), found);
    }
    Ok(())
}

/// The proposer's clock is not ahead of ours, and the proposal has not expired.
fn is_timely(proposal: &Proposal, at: UnixMs) -> Result<(), Refusal> {
    if proposal.opened_at.0 > at.0.saturating_add(AHEAD_MAX_MS) {
        return Err(Refusal::Time {
            what: "the time at which it opens",
            expected: format!("no later than the node's time, {}", at.rfc3339()),
            found: proposal.opened_at.rfc3339(),
        });
    }
    if at >= proposal.expires_at {
        return Err(Refusal::Time {
            what: "the time at which it expires",
            expected: format!("later than the node's time, {}", at.rfc3339()),
            found: proposal.expires_at.rfc3339(),
        });
    }
    Ok(())
}

fn is_built_on_this_ledger(proposal: &Proposal, world: &World<'_>) -> Result<(), Refusal> {
    let size = proposal.head.size;
    let at = size.checked_sub(1).and_then(|at| usize::try_from(at).ok());
    match at.and_then(|at| world.roots.get(at)) {
        Some(root) if *root == proposal.head.root => Ok(()),
        Some(_) | None => Err(Refusal::HeadUnknown { size }),
    }
}
