//! What the records say of the use of key pairs, by caller: releases counted, never refusals. Pure counting and
//! the snapshot that others read; the SQL is the store's. The invariant: the snapshot holds what is
//! on disk, and nothing of a batch that is not.

use std::collections::{BTreeMap, HashMap};
use std::sync::{PoisonError, RwLock};

use crate::clock::UnixMs;
use crate::types::KeypairId;

/// What the records of this node's audit log say of one key pair.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Usage {
    /// DEKs released.
    pub released: u64,
    /// The earliest time in a record of a release.
    pub first: Option<UnixMs>,
    /// The latest.
    pub last: Option<UnixMs>,
}

impl Usage {
    /// Both together. The clock may have been turned back between them.
    fn join(self, other: Self) -> Self {
        Self {
            released: self.released.saturating_add(other.released),
            first: self.first.into_iter().chain(other.first).min(),
            last: self.last.max(other.last),
        }
    }
}

/// Releases per key pair and caller, of a batch of records or of all. As many callers as ever held a grant.
#[derive(Debug, Default)]
pub(super) struct Tally(HashMap<KeypairId, BTreeMap<String, Usage>>);

impl Tally {
    /// Counts one release. A record of a release names a version, so what is no keypair id is none.
    pub(super) fn count(&mut self, keypair_id: &str, caller: &str, at: UnixMs) {
        if let Ok(id) = keypair_id.parse() {
            let usage = Usage {
                released: 1,
                first: Some(at),
                last: Some(at),
            };
            self.add(id, caller, usage);
        }
    }

    pub(super) fn add(&mut self, id: KeypairId, caller: &str, usage: Usage) {
        let callers = self.0.entry(id).or_default();
        match callers.get_mut(caller) {
            Some(known) => *known = known.join(usage),
            None => {
                callers.insert(caller.to_owned(), usage);
            }
        }
    }

    /// Adds what another has counted.
    pub(super) fn join(&mut self, other: &Self) {
        for (id, caller, usage) in other.iter() {
            self.add(*id, caller, *usage);
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&KeypairId, &str, &Usage)> {
        self.0.iter().flat_map(|(id, callers)| {
            let of = move |(caller, usage)| (id, String::as_str(caller), usage);
            callers.iter().map(of)
        })
    }
}

/// All key pairs' usage as it is on disk. Written by the writer's thread, read by anyone.
#[derive(Debug, Default)]
pub(super) struct UsageOnDisk(RwLock<Tally>);

impl UsageOnDisk {
    pub(super) fn new(all: Tally) -> Self {
        Self(RwLock::new(all))
    }

    /// Takes in a batch that was committed.
    pub(super) fn take_in(&self, batch: &Tally) {
        let mut all = self.0.write().unwrap_or_else(PoisonError::into_inner);
        all.join(batch);
    }

    /// Of one key pair; all zero for one that never released anything.
    pub(super) fn of(&self, id: &KeypairId) -> Usage {
        let all = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let callers = all.0.get(id).into_iter().flat_map(BTreeMap::values);
        callers.fold(Usage::default(), |sum, usage| sum.join(*usage))
    }

    /// Of one key pair by each caller that was given a DEK, by name.
    pub(super) fn by_caller(&self, id: &KeypairId) -> Vec<(String, Usage)> {
        let all = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let callers = all.0.get(id).into_iter().flatten();
        callers
            .map(|(caller, usage)| (caller.clone(), *usage))
            .collect()
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test that cannot unwrap has failed")]
mod tests {
    use super::*;

    #[test]
    fn times_are_the_earliest_and_the_latest_whatever_the_clock_did() {
        let id = "6F9619FF-8B86-4011-B42D-00CF4FC964FF";
        let mut batch = Tally::default();
        for at in [5, 3, 9, 4] {
            batch.count(id, "spiffe://t/a", UnixMs(at));
        }
        batch.count("no id", "spiffe://t/a", UnixMs(1));
        batch.count(id, "spiffe://t/b", UnixMs(7));
        let on_disk = UsageOnDisk::default();
        on_disk.take_in(&batch);
        on_disk.take_in(&batch);
        let expected = Usage {
            released: 10,
            first: Some(UnixMs(3)),
            last: Some(UnixMs(9)),
        };
        assert_eq!(on_disk.of(&id.parse().unwrap()), expected);
        let by_caller = on_disk.by_caller(&id.parse().unwrap());
        let released: Vec<_> = by_caller
            .iter()
            .map(|(caller, usage)| (caller.as_str(), usage.released))
            .collect();
        assert_eq!(released, [("spiffe://t/a", 8), ("spiffe://t/b", 2)]);
        let other = KeypairId::from_random([1; 16]);
        assert_eq!(on_disk.of(&other), Usage::default());
    }
}
