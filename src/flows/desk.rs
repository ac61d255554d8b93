//! What the clerk remembers between its rounds: what it has said already, and what it lets rest after
//! it did not go well. Nothing here is durable, and nothing here acts.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use tracing::{info, warn};

/// How long something rests after it did not go well: at first, and at most. Each time twice as long.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rest {
    pub(super) first: Duration,
    pub(super) longest: Duration,
}

/// Tried again in each round.
pub(super) const NO_REST: Rest = Rest {
    first: Duration::ZERO,
    longest: Duration::ZERO,
};

#[derive(Debug)]
struct Trouble {
    /// What was said, without the numbers in it: times change from round to round.
    said: String,
    rest: Duration,
    again_at: Instant,
}

/// See the head of this file.
#[derive(Debug, Default)]
pub(super) struct Desk(BTreeMap<String, Trouble>);

impl Desk {
    /// Whether this is to be done now, or rests.
    pub(super) fn is_up(&self, what: &str) -> bool {
        let trouble = self.0.get(what);
        trouble.is_none_or(|trouble| trouble.again_at <= Instant::now())
    }

    /// Takes down how it went. The same trouble is said once.
    pub(super) fn did(&mut self, what: &str, rest: Rest, went: Result<(), String>) {
        let why = match went {
            Ok(()) => {
                if self.0.remove(what).is_some() {
                    info!(what, "the clerk's work goes on");
                }
                return;
            }
            Err(why) => why,
        };
        let said = why.chars().filter(|c| !c.is_ascii_digit()).collect();
        let before = self.0.get(what);
        if before.is_none_or(|before| before.said != said) {
            warn!(what, why, "the clerk could not do its work; it tries again");
        }
        let rest = before.map_or(rest.first, |before| {
            before.rest.saturating_mul(2).min(rest.longest)
        });
        let again_at = Instant::now() + rest;
        let trouble = Trouble {
            said,
            rest,
            again_at,
        };
        self.0.insert(what.to_owned(), trouble);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_fails_rests_longer_each_time_and_not_beyond_its_longest() {
        let mut desk = Desk::default();
        let rest = Rest {
            first: Duration::from_secs(60),
            longest: Duration::from_secs(200),
        };
        assert!(desk.is_up("a"));
        for (at, seconds) in [
            ("10:00", 60),
            ("10:01", 120),
            ("10:03", 200),
            ("10:06", 200),
        ] {
            desk.did("a", rest, Err(format!("refused at {at}")));
            assert!(!desk.is_up("a") && desk.is_up("b"));
            let found = desk.0.get("a").map(|trouble| trouble.rest.as_secs());
            assert_eq!(found, Some(seconds));
        }
        desk.did("a", rest, Ok(()));
        assert!(desk.is_up("a"));
        desk.did("b", NO_REST, Err("refused".to_owned()));
        assert!(desk.is_up("b"));
    }
}
