//! Stops: one officer's signature, no waiting. Taking a stop in never fails for want of anything but
//! a true signature, and never makes anything usable. What only repeats a stop in force is no entry.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::super::operation::{Operation, Target};
use super::super::orders::Suspension;
use super::super::proposal::Proposal;
use super::super::statement::SUSPENSION_NAMESPACE;
use super::{Effect, Governance, Refusal, Standing, World};
use crate::clock::UnixMs;
use crate::types::{KekName, Sha256};

/// A stop in force.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StopRecord {
    /// The officer, or "host".
    pub by: String,
    /// The time of the entry.
    pub at: UnixMs,
    /// The index of the newest entry that stopped it: what lifts the stop must have seen that one.
    pub newest: u64,
    /// All who stopped it since it was last lifted, by name; the host is "host".
    pub all: BTreeSet<String>,
}

/// Who stands for a stop that was made on the host.
const HOST: &str = "host";

impl Governance {
    /// Judges a suspension that is to become an entry: what it stops, and who stops it. More is asked
    /// of it than of one that the ledger has: it must say something new (`says_something`).
    pub fn judge_suspension(
        &self,
        statement: &[u8],
        signature: &[u8],
    ) -> Result<Suspension, Refusal> {
        let suspension = self.heard(statement, signature)?;
        self.says_something(kek_of(&suspension.target), &suspension.officer)?;
        Ok(suspension)
    }

    /// Judges a stop by the host that is to become an entry.
    pub fn judge_host_stop(&self, kek: Option<&KekName>) -> Result<(), Refusal> {
        self.says_something(kek, HOST)
    }

    /// One stop by each who stops the same, while it is in force: nobody makes the ledger grow by
    /// stopping again and again. The exception is a proposal to reinstate which has seen the stop and
    /// is not decided: that a further stop takes its effect is what a further stop is for, and the
    /// next one has to wait for the next proposal.
    ///
    /// This is asked of new entries only. The ledger of an older kekd may have any number of stops.
    fn says_something(&self, kek: Option<&KekName>, by: &str) -> Result<(), Refusal> {
        let Some(stop) = self.stops.get(&kek.cloned()) else {
            return Ok(());
        };
        let would_lift_it = |standing: &Arc<Standing>| {
            let proposal = &standing.proposal;
            let is_undecided = standing.closed.is_none() && standing.executed_by.is_none();
            is_undecided
                && stop.newest < proposal.head.size
                && matches!(&proposal.operation, Operation::Reinstate(target) if kek_of(target) == kek)
        };
        if !stop.all.contains(by) || self.proposals.values().any(would_lift_it) {
            return Ok(());
        }
        let what = kek.map_or("everything", KekName::as_str);
        Err(Refusal::SoAlready {
            what: format!("{by} has stopped {what}, which"),
        })
    }

    /// A suspension by an officer of ours that was not heard before.
    fn heard(&self, statement: &[u8], signature: &[u8]) -> Result<Suspension, Refusal> {
        let suspension = Suspension::parse(statement)?;
        self.is_for_us(suspension.instance_id)?;
        let signer = Self::signer(&self.officers, SUSPENSION_NAMESPACE, statement, signature)?;
        if signer != suspension.officer {
            return Err(Refusal::SignedByAnother {
                expected: suspension.officer,
                found: signer,
            });
        }
        if self.suspensions.contains(&Sha256::of(statement)) {
            return Err(Refusal::SoAlready {
                what: "this very suspension was recorded, which".to_owned(),
            });
        }
        Ok(suspension)
    }

    /// An officer stops a KEK, or everything.
    pub fn suspend(
        &mut self,
        statement: &[u8],
        signature: &[u8],
        world: &World<'_>,
    ) -> Result<Vec<Effect>, Refusal> {
        let suspension = self.heard(statement, signature)?;
        self.suspensions.insert(Sha256::of(statement));
        let kek = kek_of(&suspension.target).cloned();
        Ok(self.stop(kek, suspension.officer, world))
    }

    /// Whoever may write into the drop folder stops a KEK, or everything.
    pub fn suspend_by_host(&mut self, kek: Option<KekName>, world: &World<'_>) -> Vec<Effect> {
        self.stop(kek, HOST.to_owned(), world)
    }

    fn stop(&mut self, kek: Option<KekName>, by: String, world: &World<'_>) -> Vec<Effect> {
        let newest = u64::try_from(world.roots.len()).unwrap_or(u64::MAX);
        let at = world.at;
        // The first one who stopped it stays named; the ledger has them all.
        let stop = self.stops.entry(kek.clone()).or_insert(StopRecord {
            by: by.clone(),
            at,
            newest,
            all: BTreeSet::new(),
        });
        stop.newest = newest;
        stop.all.insert(by);
        vec![Effect::Stop(kek)]
    }

    /// A proposal to reinstate lifts the stops its proposer saw. Otherwise one that was approved and
    /// left lying would let a single officer undo the next stop.
    pub(super) fn has_seen_the_stop(&self, proposal: &Proposal) -> Result<(), Refusal> {
        let Operation::Reinstate(target) = &proposal.operation else {
            return Ok(());
        };
        match self.stops.get(&kek_of(target).cloned()) {
            Some(stop) if stop.newest >= proposal.head.size => Err(Refusal::StoppedSince {
                size: proposal.head.size,
                newest: stop.newest,
            }),
            Some(_) | None => Ok(()),
        }
    }

    pub(super) fn is_for_us(&self, found: Sha256) -> Result<(), Refusal> {
        if found == self.instance_id {
            return Ok(());
        }
        Err(Refusal::InstanceWrong {
            expected: self.instance_id,
            found,
        })
    }
}

/// What a target is; nothing for everything.
const fn kek_of(target: &Target) -> Option<&KekName> {
    match target {
        Target::All => None,
        Target::Kek(kek) => Some(kek),
    }
}
