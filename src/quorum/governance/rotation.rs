//! Rotation under a mandate: when it is due, and the entry that begins one.

use super::super::authorized::MakeVersion;
use super::super::operation::{Mandate, OperationKind};
use super::super::proposal::ProposalId;
use super::execute::next_number;
use super::{Governance, Refusal, World};
use crate::clock::UnixMs;
use crate::keyring::Keyring;
use crate::types::KeypairId;

/// A day in milliseconds.
const DAY_MS: u64 = 24 * 3600 * 1000;

/// A mandate in force.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MandateInForce {
    /// The proposal that set it.
    pub id: ProposalId,
    /// Its terms.
    pub mandate: Mandate,
    /// When it was set.
    pub set_at: UnixMs,
    /// When a rotation under it last ended without effect, since the last that succeeded.
    pub failed_at: Option<UnixMs>,
}

impl MandateInForce {
    /// When the next rotation is due, without jitter; `None` without an active version.
    pub fn due_at(&self, keyring: &Keyring) -> Option<UnixMs> {
        let active = keyring.current(&self.mandate.version.kek)?;
        let due = active
            .created_at
            .0
            .saturating_add(days(self.mandate.period_days));
        Some(UnixMs(due))
    }

    /// The earliest moment at which the ledger takes a rotation in.
    pub fn earliest_at(&self, keyring: &Keyring) -> Option<UnixMs> {
        let active = keyring.current(&self.mandate.version.kek)?;
        let interval = days(self.mandate.interval_days_min);
        Some(UnixMs(active.created_at.0.saturating_add(interval)))
    }
}

fn days(number: u32) -> u64 {
    u64::from(number).saturating_mul(DAY_MS)
}

impl Governance {
    /// The node begins a rotation that a mandate asks for.
    pub fn begin_mandated(
        &mut self,
        id: ProposalId,
        keypair_id: KeypairId,
        world: &World<'_>,
    ) -> Result<(), Refusal> {
        let mut mandates = self.mandates.values();
        let found = mandates.find(|mandate| mandate.id == id);
        let in_force = found.ok_or(Refusal::ProposalUnknown(id))?.clone();
        let kind = OperationKind::SetRotationMandate;
        if !self.rule(kind).allowed {
            let operation = kind.name();
            return Err(Refusal::NotAllowed { operation });
        }
        let version = in_force.mandate.version.clone();
        let kek = &version.kek;
        let Some(earliest) = in_force.earliest_at(world.keyring) else {
            return Err(Refusal::Nothing {
                what: format!("an active version of {kek}"),
            });
        };
        let outside = |expected: String| {
            Err(Refusal::Time {
                what: "a rotation under a mandate",
                expected,
                found: world.at.rfc3339(),
            })
        };
        if world.at < earliest {
            return outside(format!("no earlier than {}", earliest.rfc3339()));
        }
        if world.at >= in_force.mandate.until {
            let until = in_force.mandate.until.rfc3339();
            return outside(format!("before the mandate ends, {until}"));
        }
        if self.stops.contains_key(&None) || self.stops.contains_key(&Some(kek.clone())) {
            return Err(Refusal::UnderWay {
                what: "a stop",
                kek: kek.to_string(),
            });
        }
        self.nothing_is_made_under(kek)?;
        self.is_unused(keypair_id, world)?;
        self.enter(MakeVersion {
            proposal: id,
            number: next_number(&version, world),
            version,
            keypair_id,
        });
        Ok(())
    }

    pub(super) fn mandate_of(&mut self, id: ProposalId) -> Option<&mut MandateInForce> {
        self.mandates.values_mut().find(|mandate| mandate.id == id)
    }
}
