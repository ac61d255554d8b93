//! How often one may ask: the generic cell rate algorithm, one number for each key. Bounded: where
//! there are too many keys those with nothing owed go first, and where all owe, newcomers wait.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Keys remembered at most.
const KEYS_MAX: usize = 65_536;

/// So many a second of each key, and as many at once.
pub struct Rate<K> {
    /// Between two requests of one key in the long run.
    each: Duration,
    /// By key: when its requests so far would have been spread out evenly.
    spread: Mutex<HashMap<K, Instant>>,
}

impl<K: Hash + Eq> Rate<K> {
    /// `per_s` a second, and as many at once; at least one.
    pub fn new(per_s: u32) -> Self {
        Self {
            each: Duration::from_secs(1) / per_s.max(1),
            spread: Mutex::default(),
        }
    }

    /// Whether one more request of this key is within the rate, which it then uses.
    pub fn allow(&self, key: K, now: Instant) -> bool {
        let mut spread = self.spread.lock().unwrap_or_else(PoisonError::into_inner);
        if spread.len() >= KEYS_MAX && !spread.contains_key(&key) {
            spread.retain(|_, until| *until > now);
            if spread.len() >= KEYS_MAX {
                return false;
            }
        }
        let until = spread.entry(key).or_insert(now);
        let next = (*until).max(now) + self.each;
        let within = next.saturating_duration_since(now) <= Duration::from_secs(1);
        if within {
            *until = next;
        }
        within
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_has_its_rate_and_no_more() {
        let rate = Rate::new(10);
        let now = Instant::now();
        let at_once = (0..20).filter(|_| rate.allow("a", now)).count();
        assert_eq!(at_once, 10);
        assert!(rate.allow("b", now), "another key");
        let later = now + Duration::from_millis(250);
        let more = (0..20).filter(|_| rate.allow("a", later)).count();
        assert_eq!(more, 2);
    }
}
