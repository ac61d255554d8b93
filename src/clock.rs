//! The only place that asks what time it is. Wall time is for records, certificates and people;
//! deadlines and durations use `std::time::Instant`, which no administrator can turn back.

use std::time::SystemTime;

/// Milliseconds since 1970-01-01 UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct UnixMs(pub u64);

impl UnixMs {
    /// The time as RFC 3339 text in UTC with seconds, for example `2026-11-21T18:00:00Z`.
    pub fn rfc3339(self) -> String {
        i64::try_from(self.0)
            .ok()
            .and_then(|ms| jiff::Timestamp::from_millisecond(ms / 1000 * 1000).ok())
            .map_or_else(|| format!("{} ms", self.0), |time| time.to_string())
    }
}

/// Where the time comes from. A value, so that tests and `init` can hold it still.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Clock {
    /// The host's wall clock.
    System,
    /// Always this.
    Fixed(UnixMs),
}

impl Clock {
    /// The time now. A host clock before 1970 reads as 0.
    #[expect(
        clippy::disallowed_methods,
        reason = "this is the one home of the wall clock"
    )]
    pub fn now(self) -> UnixMs {
        match self {
            Self::Fixed(time) => time,
            Self::System => {
                let since = SystemTime::now()
                    .duration_since(SystemTime::UNIX_EPOCH)
                    .unwrap_or_default();
                UnixMs(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_as_rfc3339() {
        assert_eq!(UnixMs(1_795_284_000_123).rfc3339(), "2026-11-21T18:00:00Z");
    }

    #[test]
    fn a_fixed_clock_stands_still() {
        let clock = Clock::Fixed(UnixMs(7));
        assert_eq!(clock.now(), clock.now());
    }
}
