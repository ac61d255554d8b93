//! The memory of nonces of one credential: a request is answered once. It covers every time that is
//! not stale, forgets what has become stale, and is bounded: where it is full, nothing further is
//! believed to be fresh.

use std::collections::{BTreeMap, HashSet};
use std::sync::{Mutex, PoisonError};

use crate::types::Sha256;

/// What the memory says of a nonce.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seen {
    /// It was not there, and is now.
    Never,
    /// It was there: a replay.
    Before,
    /// There is no room to remember it.
    Unknown,
}

/// The nonces of one credential.
pub struct Nonces {
    max: usize,
    /// By second, so that what is stale goes in whole seconds. A digest stands for the nonce, so that
    /// each takes the same room.
    seen: Mutex<BTreeMap<u64, HashSet<Sha256>>>,
}

impl Nonces {
    /// Room for `max`.
    pub fn new(max: usize) -> Self {
        Self {
            max,
            seen: Mutex::default(),
        }
    }

    /// Remembers a nonce of the second `ts`; seconds before `oldest` are forgotten, because a request
    /// of one of them is stale anyway.
    pub fn remember(&self, ts: u64, nonce: &str, oldest: u64) -> Seen {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if seen
            .first_key_value()
            .is_some_and(|(second, _)| *second < oldest)
        {
            *seen = seen.split_off(&oldest);
        }
        let nonce = Sha256::of(nonce.as_bytes());
        if seen
            .get(&ts)
            .is_some_and(|of_second| of_second.contains(&nonce))
        {
            return Seen::Before;
        }
        if seen.values().map(HashSet::len).sum::<usize>() >= self.max {
            return Seen::Unknown;
        }
        seen.entry(ts).or_default().insert(nonce);
        Seen::Never
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.values().map(HashSet::len).sum()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_nonce_is_fresh_once_in_its_second() {
        let nonces = Nonces::new(10);
        assert_eq!(nonces.remember(100, "a", 40), Seen::Never);
        assert_eq!(nonces.remember(100, "a", 40), Seen::Before);
        assert_eq!(nonces.remember(101, "a", 40), Seen::Never);
        assert_eq!(nonces.remember(100, "b", 40), Seen::Never);
    }

    #[test]
    fn what_is_stale_is_forgotten_and_what_is_not_is_kept() {
        let nonces = Nonces::new(2);
        assert_eq!(nonces.remember(100, "a", 40), Seen::Never);
        assert_eq!(nonces.remember(160, "b", 40), Seen::Never);
        assert_eq!(nonces.remember(160, "c", 100), Seen::Unknown, "full");
        assert_eq!(
            nonces.remember(100, "a", 100),
            Seen::Before,
            "not stale yet"
        );
        assert_eq!(nonces.remember(160, "c", 101), Seen::Never);
        assert_eq!(nonces.len(), 2);
    }
}
