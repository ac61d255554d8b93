//! The handles of the token's keys, shared by all threads: a handle of a token object is good in every
//! session of the process (PKCS#11 v2.40 section 2.2). No call to the module is here. The invariant:
//! what was found before an event after which handles must be looked up again is not known after it.

use std::collections::HashMap;
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use cryptoki::object::ObjectHandle;

use crate::types::Sha256;

/// Handles kept of each half: three times as many versions as kekd is meant for, in about 8 MB. Whoever
/// has more pays a search for some calls.
const HANDLES_LEN_MAX: usize = 32 * 1024;

/// A key that was looked up, with the public key it was found to have; `None` for a secret key.
#[derive(Clone, Copy)]
pub(super) struct Known {
    pub(super) handle: ObjectHandle,
    pub(super) spki_sha256: Option<Sha256>,
}

/// What all threads know.
#[derive(Default)]
pub(super) struct Handles(RwLock<Kept>);

#[derive(Default)]
struct Kept {
    generation: u64,
    by_id: HashMap<[u8; 16], Known>,
    /// Of public keys, by the `CKA_ID` they share with the private ones.
    public: HashMap<[u8; 16], ObjectHandle>,
}

impl Handles {
    /// The key with this `CKA_ID`, where it was looked up since the last event.
    pub(super) fn known(&self, object_id: &[u8; 16]) -> Option<Known> {
        self.read().by_id.get(object_id).copied()
    }

    /// The public key with this `CKA_ID`, in the same way.
    pub(super) fn known_public(&self, object_id: &[u8; 16]) -> Option<ObjectHandle> {
        self.read().public.get(object_id).copied()
    }

    /// Keeps a public key's handle that was found in this generation, unless another has begun.
    pub(super) fn keep_public(&self, generation: u64, object_id: [u8; 16], handle: ObjectHandle) {
        let mut kept = self.write();
        if kept.generation != generation {
            return;
        }
        if kept.public.len() >= HANDLES_LEN_MAX {
            kept.public.clear();
        }
        kept.public.insert(object_id, handle);
    }

    /// Keeps what was found in this generation, unless another has begun.
    pub(super) fn keep(&self, generation: u64, object_id: [u8; 16], known: Known) {
        let mut kept = self.write();
        if kept.generation != generation {
            return;
        }
        if kept.by_id.len() >= HANDLES_LEN_MAX {
            kept.by_id.clear();
        }
        kept.by_id.insert(object_id, known);
    }

    /// Begins a new generation, in which nothing is known.
    pub(super) fn forget(&self) {
        let mut kept = self.write();
        kept.generation = kept.generation.wrapping_add(1);
        kept.by_id.clear();
        kept.public.clear();
    }

    /// Which generation this is.
    pub(super) fn generation(&self) -> u64 {
        self.read().generation
    }

    // Every change under the lock is whole: a panic elsewhere leaves nothing half done.
    fn read(&self) -> RwLockReadGuard<'_, Kept> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Kept> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }
}
