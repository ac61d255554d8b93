//! How much of the audit log one caller's refusals may fill. A refusal costs its caller next to
//! nothing and the log a record, so a caller has a ration of them; what goes beyond it is counted and
//! not recorded. Releases and what the HSM could not decrypt are always recorded: the one needs good
//! ciphertexts, the other is bounded by the failure quota (`hsm/quota.rs`).
//!
//! The invariant: whoever is told why a call was refused has a record of it, save that the node is
//! busy, away or too slow, which says nothing of keys or grants.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tracing::warn;

use super::Node;
use super::unwrap::UnwrapError;
use crate::access::Identity;
use crate::audit::{Draft, Outcome};

const MINUTE: Duration = Duration::from_secs(60);
/// Callers that are remembered. They hold certificates of the client CA, or are users of this host;
/// those beyond it have one ration together.
const CALLERS_MAX: usize = 4_096;

/// The rations of all callers.
pub(super) struct Ration {
    max: u32,
    /// How long one takes to come back.
    step: Duration,
    callers: Mutex<Callers>,
}

#[derive(Default)]
struct Callers {
    of: HashMap<Identity, Portion>,
    others: Option<Portion>,
    /// All that were not recorded since the start.
    unrecorded: u64,
}

struct Portion {
    left: u32,
    refilled_at: Instant,
    /// Not recorded since it was used up.
    unrecorded: u64,
}

impl Ration {
    /// `max` at once, and as many again within each minute.
    pub(super) fn new(max: u32) -> Self {
        let max = max.max(1);
        Self {
            max,
            step: MINUTE / max,
            callers: Mutex::default(),
        }
    }

    /// Takes one record for a refusal of `caller`; else counts it, and says when the next may be
    /// recorded.
    pub(super) fn take(&self, caller: &Identity, now: Instant) -> Result<(), Duration> {
        let mut callers = self.callers();
        let callers = &mut *callers;
        if !callers.of.contains_key(caller) && callers.of.len() >= CALLERS_MAX {
            callers
                .of
                .retain(|_, portion| !portion.is_whole(now, self.max, self.step));
        }
        let full = Portion {
            left: self.max,
            refilled_at: now,
            unrecorded: 0,
        };
        let portion = if let Some(portion) = callers.of.get_mut(caller) {
            portion
        } else if callers.of.len() < CALLERS_MAX {
            callers.of.entry(caller.clone()).or_insert(full)
        } else {
            callers.others.get_or_insert(full)
        };
        if portion.is_whole(now, self.max, self.step) {
            portion.refilled_at = now;
            portion.unrecorded = 0;
        }
        if let Some(left) = portion.left.checked_sub(1) {
            portion.left = left;
            return Ok(());
        }
        if portion.unrecorded == 0 {
            warn!(
                %caller,
                "refused too often to record each refusal (limits.refusals_recorded_per_minute_max)"
            );
        }
        portion.unrecorded = portion.unrecorded.saturating_add(1);
        callers.unrecorded = callers.unrecorded.saturating_add(1);
        let waited = now.saturating_duration_since(portion.refilled_at);
        Err(self.step.saturating_sub(waited).max(self.step / 10))
    }

    /// Counts a refusal that is not recorded for another reason.
    fn count(&self) {
        let mut callers = self.callers();
        callers.unrecorded = callers.unrecorded.saturating_add(1);
    }

    /// All that were not recorded since the start.
    pub(super) fn unrecorded(&self) -> u64 {
        self.callers().unrecorded
    }

    /// Who is refused so often that not all of it is recorded: one sentence each.
    pub(super) fn problems(&self) -> Vec<String> {
        let now = Instant::now();
        let mut callers = self.callers();
        let mut problems: Vec<String> = callers
            .of
            .iter_mut()
            .filter_map(|(caller, portion)| {
                let count = portion.unrecorded;
                let is_over = count == 0 || portion.is_whole(now, self.max, self.step);
                (!is_over).then(|| {
                    format!(
                        "{caller} is refused very often: {count} refusals are not in the audit log"
                    )
                })
            })
            .collect();
        problems.sort();
        problems
    }

    fn callers(&self) -> MutexGuard<'_, Callers> {
        self.callers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Portion {
    /// Whether nothing of it is gone, now that what has come back is counted.
    fn is_whole(&mut self, now: Instant, max: u32, step: Duration) -> bool {
        let waited = now.saturating_duration_since(self.refilled_at);
        let earned = waited.as_nanos() / step.as_nanos().max(1);
        match u32::try_from(earned) {
            Ok(earned) if earned < max.saturating_sub(self.left) => {
                self.left += earned;
                self.refilled_at += step.saturating_mul(earned);
            }
            Ok(_) | Err(_) => self.left = max,
        }
        self.left == max
    }
}

impl Node {
    /// Records a refusal, as far as the caller's ration goes, and returns what the caller is told.
    pub(super) async fn refused(
        &self,
        caller: &Identity,
        mut draft: Draft,
        error: UnwrapError,
    ) -> UnwrapError {
        draft.outcome = error.outcome();
        draft.reason = error.reason();
        let is_first = if let UnwrapError::FailuresTooMany { is_first, .. } = error {
            if !is_first {
                // The alarm is in the status, and its first refusal in the audit log.
                self.ration.count();
                return error;
            }
            true
        } else {
            false
        };
        let is_always_recorded = is_first || draft.outcome == Outcome::Undecryptable;
        if !is_always_recorded && let Err(retry_after) = self.ration.take(caller, Instant::now()) {
            return if draft.outcome == Outcome::Refused {
                UnwrapError::RefusedTooOften { retry_after }
            } else {
                error
            };
        }
        match self.journal.record(draft).await {
            Ok(_) => error,
            Err(audit) => audit.into(),
        }
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test that cannot unwrap has failed")]
mod tests {
    use super::*;

    fn caller(name: &str) -> Identity {
        format!("spiffe://t/{name}").parse().unwrap()
    }

    fn flood(ration: &Ration, caller: &Identity, now: Instant) -> usize {
        (0..1_000)
            .filter(|_| ration.take(caller, now).is_ok())
            .count()
    }

    #[test]
    fn a_flood_fills_its_own_ration_and_is_counted() {
        let ration = Ration::new(60);
        let (bad, good, now) = (caller("bad"), caller("good"), Instant::now());
        assert_eq!(flood(&ration, &bad, now), 60);
        assert_eq!(ration.unrecorded(), 940);
        assert_eq!(ration.take(&bad, now), Err(Duration::from_secs(1)));
        assert_eq!(ration.take(&good, now), Ok(()));
        assert_eq!(ration.problems().len(), 1, "{:?}", ration.problems());
        assert_eq!(flood(&ration, &bad, now + 3 * MINUTE / 60), 3);
        assert_eq!(flood(&ration, &bad, now + 2 * MINUTE), 60);
    }

    #[test]
    fn callers_beyond_the_cap_share_one_ration_and_are_forgotten_in_time() {
        let (ration, now) = (Ration::new(2), Instant::now());
        for number in 0..CALLERS_MAX {
            assert_eq!(ration.take(&caller(&number.to_string()), now), Ok(()));
        }
        for new in ["a", "b"] {
            assert_eq!(ration.take(&caller(new), now), Ok(()));
        }
        assert!(ration.take(&caller("c"), now).is_err());
        assert_eq!(ration.take(&caller("c"), now + MINUTE), Ok(()));
        assert_eq!(ration.callers().of.len(), 1);
    }
}
