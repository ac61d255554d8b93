//! The known-answer tests that passed on this worker, for all its threads. None is run here. The
//! invariant: a test is kept only after it has passed, and not after its key was destroyed.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use crate::proto::worker::{KeyRef, KnownAnswer};

/// Tests kept, in about 20 MB. Whoever uses more keys and paddings has some tested again.
const TESTS_LEN_MAX: usize = 32 * 1024;
/// Keys whose tests stand for the token's own health, of those that decrypt and of those that unwrap:
/// a token may do the one and not the other.
const WITNESSES_MAX: usize = 4;

/// A key and a padding.
type Name = ([u8; 16], i32);

/// What all threads know.
#[derive(Default)]
pub(super) struct Answers(RwLock<Kept>);

#[derive(Default)]
struct Kept {
    tests: HashMap<Name, Arc<KnownAnswer>>,
    /// Of keys that differ, the newest last; those that decrypt, those that unwrap.
    witnesses: [VecDeque<Name>; 2],
}

impl Kept {
    const fn witnesses_for(&mut self, test: &KnownAnswer) -> &mut VecDeque<Name> {
        let [decrypting, unwrapping] = &mut self.witnesses;
        match test.by_unwrap {
            true => unwrapping,
            false => decrypting,
        }
    }
}

impl Answers {
    /// Keeps a test that has passed, in place of that of the same key and padding.
    pub(super) fn keep(&self, test: KnownAnswer) {
        let Some(name) = name_of(&test) else { return };
        let mut kept = self.write();
        if kept.tests.len() >= TESTS_LEN_MAX {
            *kept = Kept::default();
        }
        let witnesses = kept.witnesses_for(&test);
        witnesses.retain(|(id, _)| *id != name.0);
        witnesses.push_back(name);
        if witnesses.len() > WITNESSES_MAX {
            witnesses.pop_front();
        }
        kept.tests.insert(name, Arc::new(test));
    }

    /// The test of this very key with this padding.
    pub(super) fn of(&self, key: &KeyRef, padding: i32) -> Option<Arc<KnownAnswer>> {
        let id = <[u8; 16]>::try_from(key.object_id.as_slice()).ok()?;
        let kept = self.read();
        let test = kept.tests.get(&(id, padding))?;
        (test.key.as_ref() == Some(key)).then(|| Arc::clone(test))
    }

    /// The newest tests of other keys that do the same, the newest first.
    pub(super) fn others(&self, test: &KnownAnswer) -> Vec<Arc<KnownAnswer>> {
        let own = name_of(test).map(|(id, _)| id);
        let kept = self.read();
        let [decrypting, unwrapping] = &kept.witnesses;
        let witnesses = match test.by_unwrap {
            true => unwrapping,
            false => decrypting,
        };
        let others = witnesses.iter().rev().filter(|(id, _)| Some(*id) != own);
        others
            .filter_map(|name| kept.tests.get(name).cloned())
            .collect()
    }

    /// Drops one test.
    pub(super) fn forget_test(&self, test: &KnownAnswer) {
        if let Some(name) = name_of(test) {
            let mut kept = self.write();
            kept.tests.remove(&name);
            kept.witnesses_for(test).retain(|witness| *witness != name);
        }
    }

    /// Drops the tests of a key that is no more.
    pub(super) fn forget(&self, object_id: &[u8; 16]) {
        let mut kept = self.write();
        kept.tests.retain(|(id, _), _| id != object_id);
        for witnesses in &mut kept.witnesses {
            witnesses.retain(|(id, _)| id != object_id);
        }
    }

    // Every change under the lock is whole.
    fn read(&self) -> RwLockReadGuard<'_, Kept> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Kept> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }
}

fn name_of(test: &KnownAnswer) -> Option<Name> {
    let id = test.key.as_ref()?.object_id.as_slice();
    Some((id.try_into().ok()?, test.padding))
}
