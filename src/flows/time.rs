//! Whether the wall clock can be believed. Ledger times and time-locks stand on it, so nothing is
//! decided while it contradicts the monotonic clock or the ledger. Stops never ask.

use std::time::{Duration, Instant};

use crate::clock::{Clock, UnixMs};

/// How far the wall clock may drift from the monotonic clock since the start, beside one part in a
/// thousand of the time gone by.
const DRIFT_MAX: Duration = Duration::from_secs(60);
/// How far the wall clock may be behind what was last written, in milliseconds.
const BEHIND_MAX_MS: u64 = 10 * 60 * 1000;
/// How far it may be ahead, at the start, of the newest time that is known to be true before the node
/// acts of its own accord, in milliseconds: 40 days. An officer's signed time settles it.
const AHEAD_MAX_MS: u64 = 40 * 24 * 3600 * 1000;
/// How far an officer's time may be from the host's where it is to settle that, in milliseconds.
const APART_MAX_MS: u64 = 3600 * 1000;

/// Why the clock is not believed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ClockSuspect {
    /// It jumped while the node ran.
    #[error(
        "the host's clock says {found}; by the time gone by since the start it should be about \
         {expected}: somebody or something set it. No act of officers is taken but stops and vetoes \
         until it agrees, or until kekd is started again with a clock that is right"
    )]
    Jumped {
        /// What it should be.
        expected: String,
        /// What it says.
        found: String,
    },
    /// It is behind what was written.
    #[error(
        "the host's clock says {found}, and the ledger has an entry of {expected}: set the clock \
         right. No act of officers is taken but stops and vetoes until then"
    )]
    Behind {
        /// The time of the newest entry.
        expected: String,
        /// What it says.
        found: String,
    },
    /// Long after what is known.
    #[error(
        "the host's clock says {found}, and the latest time known to be true is {expected}: the node \
         does nothing of its own accord, and takes no approval, until an officer puts something \
         forward or executes it at a time that agrees with the host's clock"
    )]
    Unconfirmed {
        /// The newest entry's time, or the latest that the node noted.
        expected: String,
        /// What it says.
        found: String,
    },
    /// Long after what is known, and an officer's clock says otherwise.
    #[error(
        "the host's clock says {found}, and the officer's statement {stated}: one of the two is \
         wrong. They must agree within an hour, for the latest time known to be true is {expected}"
    )]
    Contradicted {
        /// The newest entry's time, or the latest that the node noted.
        expected: String,
        /// What the officer's statement says.
        stated: String,
        /// What the host's clock says.
        found: String,
    },
}

/// The two clocks, since the start.
#[derive(Debug)]
pub(super) struct Timekeeper {
    clock: Clock,
    started: Instant,
    started_at: UnixMs,
    /// What an earlier process noted while its clock was confirmed.
    noted: UnixMs,
}

impl Timekeeper {
    pub(super) fn new(clock: Clock, noted: UnixMs) -> Self {
        Self {
            clock,
            started: Instant::now(),
            started_at: clock.now(),
            noted,
        }
    }

    /// The wall clock, believed or not.
    pub(super) fn now(&self) -> UnixMs {
        self.clock.now()
    }

    /// The wall clock, where it agrees with the monotonic clock and with the newest entry.
    pub(super) fn believed(&self, newest_entry: UnixMs) -> Result<UnixMs, ClockSuspect> {
        believe(
            self.started_at,
            self.started.elapsed(),
            self.now(),
            newest_entry,
        )
    }

    /// As [`Timekeeper::believed`], for what the node does of its own accord: the clock was near a
    /// known time when the node started, or an officer's act was written since. No record of an unwrap
    /// counts for that: unwraps go on whatever the clock says.
    pub(super) fn confirmed(&self, newest_entry: UnixMs) -> Result<UnixMs, ClockSuspect> {
        let now = self.believed(newest_entry)?;
        let known = newest_entry.max(self.noted);
        if self.started_at.0 > known.0.saturating_add(AHEAD_MAX_MS) {
            return Err(ClockSuspect::Unconfirmed {
                expected: known.rfc3339(),
                found: now.rfc3339(),
            });
        }
        Ok(now)
    }

    /// As [`Timekeeper::confirmed`], by an officer's statement if by nothing else.
    pub(super) fn confirmed_by(
        &self,
        newest_entry: UnixMs,
        stated: UnixMs,
    ) -> Result<UnixMs, ClockSuspect> {
        let suspect = match self.confirmed(newest_entry) {
            Err(ClockSuspect::Unconfirmed { expected, found }) => (expected, found),
            settled => return settled,
        };
        let now = self.believed(newest_entry)?;
        if now.0.abs_diff(stated.0) <= APART_MAX_MS {
            return Ok(now);
        }
        let (expected, found) = suspect;
        Err(ClockSuspect::Contradicted {
            expected,
            stated: stated.rfc3339(),
            found,
        })
    }

    /// The likeliest time, to show where things stand; nothing is decided by it. With a clock that is
    /// not believed: what it should be.
    pub(super) fn likeliest(&self, newest_entry: UnixMs) -> UnixMs {
        self.believed(newest_entry)
            .unwrap_or_else(|_| expected(self.started_at, self.started.elapsed()).max(newest_entry))
    }
}

fn expected(started_at: UnixMs, gone_by: Duration) -> UnixMs {
    UnixMs(started_at.0.saturating_add(ms(gone_by)))
}

fn ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn believe(
    started_at: UnixMs,
    gone_by: Duration,
    now: UnixMs,
    newest_entry: UnixMs,
) -> Result<UnixMs, ClockSuspect> {
    let expected = expected(started_at, gone_by);
    let drift_max = DRIFT_MAX.saturating_add(gone_by / 1000);
    if now.0.abs_diff(expected.0) > ms(drift_max) {
        return Err(ClockSuspect::Jumped {
            expected: expected.rfc3339(),
            found: now.rfc3339(),
        });
    }
    if now.0.saturating_add(BEHIND_MAX_MS) < newest_entry.0 {
        return Err(ClockSuspect::Behind {
            expected: newest_entry.rfc3339(),
            found: now.rfc3339(),
        });
    }
    Ok(now)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test that cannot unwrap has failed")]
mod tests {
    use super::*;

    const DAY: u64 = 24 * 3600 * 1000;

    #[test]
    fn a_clock_that_jumps_either_way_is_not_believed() {
        let start = UnixMs(1_795_284_000_000);
        let hour = Duration::from_secs(3600);
        let at = |ms: u64| believe(start, hour, UnixMs(ms), start);
        let honest = start.0 + 3_600_000;
        assert_eq!(at(honest).unwrap(), UnixMs(honest));
        assert!(at(honest + 63_000).is_ok() && at(honest - 63_000).is_ok());
        for wrong in [
            honest + 64_000,
            honest - 64_000,
            honest + 365 * DAY,
            honest - 3 * DAY,
        ] {
            assert!(
                matches!(at(wrong), Err(ClockSuspect::Jumped { .. })),
                "{wrong}"
            );
        }
    }

    #[test]
    fn a_clock_behind_the_ledger_is_not_believed() {
        let start = UnixMs(1_795_284_000_000);
        let newest = UnixMs(start.0 + 3 * DAY);
        let found = believe(start, Duration::ZERO, start, newest);
        assert!(matches!(found, Err(ClockSuspect::Behind { .. })));
        let newest = UnixMs(start.0 + BEHIND_MAX_MS);
        assert!(believe(start, Duration::ZERO, start, newest).is_ok());
    }

    #[test]
    fn a_year_of_silence_must_be_confirmed_before_the_node_acts_alone() {
        let newest = UnixMs(1_795_284_000_000);
        let after = |days: u64, noted| {
            let clock = Clock::Fixed(UnixMs(newest.0 + days * DAY));
            Timekeeper::new(clock, noted)
        };
        let never = UnixMs(0);
        assert!(after(40, never).confirmed(newest).is_ok());
        assert!(after(365, never).believed(newest).is_ok());
        let found = after(365, never).confirmed(newest);
        assert!(matches!(found, Err(ClockSuspect::Unconfirmed { .. })));
        let noted = UnixMs(newest.0 + 340 * DAY);
        assert!(after(365, noted).confirmed(newest).is_ok());
        // An officer's act was written after the start.
        let entry = UnixMs(newest.0 + 365 * DAY);
        assert!(after(365, never).confirmed(entry).is_ok());
    }

    #[test]
    fn only_an_officer_whose_clock_agrees_settles_a_year_of_silence() {
        let newest = UnixMs(1_795_284_000_000);
        let now = UnixMs(newest.0 + 365 * DAY);
        let time = Timekeeper::new(Clock::Fixed(now), UnixMs(0));
        let hour = 3_600_000;
        for agrees in [now.0 - hour, now.0, now.0 + hour] {
            assert_eq!(time.confirmed_by(newest, UnixMs(agrees)), Ok(now));
        }
        for other in [newest.0, now.0 - hour - 1, now.0 + hour + 1] {
            let found = time.confirmed_by(newest, UnixMs(other)).unwrap_err();
            let text = found.to_string();
            let says = |at: UnixMs| text.contains(&at.rfc3339());
            assert!(says(now) && says(newest) && says(UnixMs(other)), "{text}");
        }
    }

    #[test]
    fn a_clock_that_is_not_believed_shows_nothing_early() {
        let newest = UnixMs(1_795_284_000_000);
        let now = UnixMs(newest.0 - 3 * DAY);
        let time = Timekeeper::new(Clock::Fixed(now), UnixMs(0));
        assert_eq!(time.likeliest(newest), newest);
        assert_eq!(time.likeliest(now), now);
    }
}
