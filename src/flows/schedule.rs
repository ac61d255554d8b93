//! When a mandate rotates, and at which distances it says so. Pure: whether the clock can be believed
//! and whether anything stands in the way is the clerk's to ask.
//!
//! The invariant: a rotation comes at most a day, and at most a twentieth of the period, before the
//! period is over, never later, and never earlier than the mandate's shortest interval allows.

use crate::clock::UnixMs;
use crate::keyring::Keyring;
use crate::quorum::MandateInForce;
use crate::types::{KeypairId, Sha256};

/// A day in milliseconds.
const DAY_MS: u64 = 24 * 3600 * 1000;
/// Most that a rotation is moved away from its day, in milliseconds: a day.
const JITTER_MAX_MS: u64 = DAY_MS;

/// When a mandate rotates next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Schedule {
    /// The version that is to be followed.
    pub(super) active: KeypairId,
    /// When.
    pub(super) due_at: UnixMs,
    /// From then on the mandate rotates no more.
    until: UnixMs,
    /// Days before the rotation at which it is announced.
    warn_days: Vec<u32>,
}

impl Schedule {
    /// Of a mandate; `None` while its KEK has no active version, or where the mandate ends before the
    /// rotation. The jitter is the same for each look: it comes of the mandate and the version that is
    /// active. So the KEKs of one day are not all rotated in one minute.
    pub(super) fn of(mandate: &MandateInForce, keyring: &Keyring) -> Option<Self> {
        let active = keyring.current(&mandate.mandate.version.kek)?.keypair_id;
        let seed = [mandate.id.0.as_bytes().as_slice(), active.as_bytes()].concat();
        let due_at = moved(
            mandate.due_at(keyring)?,
            mandate.earliest_at(keyring)?,
            mandate.mandate.period_days,
            &seed,
        );
        let until = mandate.mandate.until;
        (due_at < until).then(|| Self {
            active,
            due_at,
            until,
            warn_days: mandate.mandate.warn_days.clone(),
        })
    }

    /// Whether it rotates now.
    pub(super) fn is_due(&self, now: UnixMs) -> bool {
        now >= self.due_at && now < self.until
    }

    /// The nearest distance of its announcements that was reached, in days; those before it are past.
    pub(super) fn reached(&self, now: UnixMs) -> Option<u32> {
        let is_reached = |days: &u32| {
            let days_ms = u64::from(*days).saturating_mul(DAY_MS);
            now < self.until && now.0.saturating_add(days_ms) >= self.due_at.0
        };
        self.warn_days.iter().copied().filter(is_reached).min()
    }

    /// Days until the rotation, rounded up.
    pub(super) fn days_left(&self, now: UnixMs) -> u64 {
        self.due_at.0.saturating_sub(now.0).div_ceil(DAY_MS)
    }
}

/// `due`, earlier by the jitter that comes of `seed`, and no earlier than `earliest`.
fn moved(due: UnixMs, earliest: UnixMs, period_days: u32, seed: &[u8]) -> UnixMs {
    let period = u64::from(period_days).saturating_mul(DAY_MS);
    let width = (period / 20).clamp(1, JITTER_MAX_MS);
    let digest = Sha256::of(seed);
    let number = digest
        .as_bytes()
        .first_chunk()
        .map_or(0, |bytes| u64::from_be_bytes(*bytes));
    UnixMs(due.0.saturating_sub(number % width)).max(earliest)
}

#[cfg(test)]
mod tests {
    use super::*;

    const CREATED: u64 = 1_795_284_000_000;

    fn due(period: u32, interval: u32, seed: &[u8]) -> u64 {
        let at = |days: u32| UnixMs(CREATED + u64::from(days) * DAY_MS);
        moved(at(period), at(interval), period, seed).0
    }

    #[test]
    fn the_jitter_of_fixed_seeds_is_fixed() {
        let early =
            |period, seed: &[u8]| CREATED + u64::from(period) * DAY_MS - due(period, 1, seed);
        let found = [
            early(30, b"a"),
            early(30, b"b"),
            early(365, b"a"),
            early(2, b"a"),
        ];
        assert_eq!(found, [57_762_250, 63_087_946, 57_762_250, 5_922_250]);
    }

    proptest::proptest! {
        #[test]
        fn a_rotation_is_early_by_a_day_and_a_twentieth_at_most(
            period in 1_u32..=3650,
            interval in 1_u32..=3650,
            seed: [u8; 48],
        ) {
            let interval = interval.min(period);
            let found = due(period, interval, &seed);
            assert_eq!(found, due(period, interval, &seed), "it is the same for each look");
            let (period, interval) = (u64::from(period) * DAY_MS, u64::from(interval) * DAY_MS);
            assert!(found <= CREATED + period && found >= CREATED + interval);
            assert!(CREATED + period - found <= (period / 20).min(DAY_MS));
        }
    }

    #[test]
    fn each_distance_is_reached_at_its_time_and_the_nearest_counts() {
        let schedule = Schedule {
            active: KeypairId::from_random([7; 16]),
            due_at: UnixMs(CREATED + 30 * DAY_MS),
            until: UnixMs(CREATED + 31 * DAY_MS),
            warn_days: vec![7, 1],
        };
        let at = |days: u64, more: u64| UnixMs(CREATED + days * DAY_MS + more);
        assert_eq!(schedule.reached(UnixMs(at(23, 0).0 - 1)), None);
        assert_eq!(schedule.reached(at(23, 0)), Some(7));
        assert_eq!(schedule.reached(UnixMs(at(29, 0).0 - 1)), Some(7));
        assert_eq!(schedule.reached(at(29, 0)), Some(1));
        assert_eq!(schedule.reached(at(30, 5)), Some(1));
        assert_eq!(schedule.reached(at(31, 0)), None, "the mandate is over");
        let left: Vec<u64> = [at(23, 0), at(23, 1), at(30, 0), at(30, 1)]
            .map(|now| schedule.days_left(now))
            .into();
        assert_eq!(left, [7, 7, 0, 0]);
        assert!(!schedule.is_due(UnixMs(at(30, 0).0 - 1)));
        assert!(schedule.is_due(at(30, 0)) && !schedule.is_due(at(31, 0)));
    }
}
