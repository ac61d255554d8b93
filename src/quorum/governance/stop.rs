//! Stops: one officer's signature, no waiting. Taking a stop in never fails for want of anything but
//! a true signature, and never makes anything usable.

use super::super::operation::{Operation, Target};
use super::super::orders::Suspension;
use super::super::proposal::Proposal;
use super::super::statement::SUSPENSION_NAMESPACE;
use super::{Effect, Governance, Refusal, World};
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
}

/// Who stands for a stop that was made on the host.
const HOST: &str = "host";

impl Governance {
    /// Judges a suspension without taking it in: what it stops, and who stops it.
    pub fn judge_suspension(
        &self,
        statement: &[u8],
        signature: &[u8],
    ) -> Result<Suspension, Refusal> {
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
        let suspension = self.judge_suspension(statement, signature)?;
        self.suspensions.insert(Sha256::of(statement));
        let kek = match suspension.target {
            Target::All => None,
            Target::Kek(kek) => Some(kek),
        };
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
        let stop = self.stops.entry(kek.clone());
        stop.or_insert(StopRecord { by, at, newest }).newest = newest;
        vec![Effect::Stop(kek)]
    }

    /// A proposal to reinstate lifts the stops its proposer saw. Otherwise one that was approved and
    /// left lying would let a single officer undo the next stop.
    pub(super) fn has_seen_the_stop(&self, proposal: &Proposal) -> Result<(), Refusal> {
        let Operation::Reinstate(target) = &proposal.operation else {
            return Ok(());
        };
        let kek = match target {
            Target::All => None,
            Target::Kek(kek) => Some(kek.clone()),
        };
        match self.stops.get(&kek) {
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
