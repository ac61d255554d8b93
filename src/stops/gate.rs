//! The gate that every release passes, so that whoever stops a KEK can wait until no DEK of it is on
//! its way any more. It knows nothing of why something is stopped: [`Gate::enter`] is told.
//!
//! Why nothing slips through. A release enters its name in a shard under the shard's lock, and only
//! then looks whether it may leave. Who stops first makes the stop visible, and only then locks each
//! shard and notes who is in it. So, for each release and its shard, one of the two locks comes
//! first. If it is the release's, its name is found, and waited for. If it is the stop's, then all
//! that came before it, the stop, is visible to the look that comes after the release's.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::timeout;

use crate::types::KekName;

/// Shards of the register. A passage takes the lock of one, for as long as a map takes to change.
const SHARDS: usize = 16;

/// How long a passage that was revoked may take to be gone.
const REVOKED_WAIT_MAX: Duration = Duration::from_millis(500);

/// The gate. Clones are the same gate.
#[derive(Clone, Default)]
pub struct Gate(Arc<Inner>);

#[derive(Default)]
struct Inner {
    next: AtomicU64,
    shards: [Shard; SHARDS],
}

#[derive(Default)]
struct Shard {
    open: Mutex<HashMap<u64, Open>>,
    left: Notify,
}

/// A passage, as the gate has it.
struct Open {
    kek: KekName,
    revoked: Arc<AtomicBool>,
    on_revoked: Option<OnRevoked>,
}

type OnRevoked = Box<dyn FnOnce() + Send>;

/// One release on its way out. It is held until the answer was handed to the transport; dropping it
/// says that nothing of this release leaves any more, or that it has left.
pub struct Passage {
    gate: Gate,
    id: u64,
    revoked: Arc<AtomicBool>,
}

/// How the wait for releases on their way ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Drained {
    /// Passages that were revoked because they did not end in time.
    pub revoked: usize,
    /// Of those, passages that are still held. They hand nothing over any more.
    pub left: usize,
}

impl Gate {
    /// A passage for a release under `kek`, if `check` lets it pass. `check` must look at everything
    /// that can stop a release as it is now, not as it was before the call.
    ///
    /// # Errors
    /// What `check` says.
    pub fn enter<E>(
        &self,
        kek: &KekName,
        check: impl FnOnce() -> Result<(), E>,
    ) -> Result<Passage, E> {
        let passage = Passage {
            gate: self.clone(),
            id: self.0.next.fetch_add(1, Ordering::Relaxed),
            revoked: Arc::default(),
        };
        let open = Open {
            kek: kek.clone(),
            revoked: Arc::clone(&passage.revoked),
            on_revoked: None,
        };
        self.shard_of(passage.id).lock().insert(passage.id, open);
        check()?;
        Ok(passage)
    }

    /// Waits until every passage of `target` (`None`: of any KEK) is gone that is open when this
    /// begins, which must be after the stop is visible to the checks. Those not gone after `within`
    /// are revoked. It ends within `within` and half a second.
    pub async fn drained(&self, target: Option<&KekName>, within: Duration) -> Drained {
        let open = self.open(target);
        if timeout(within, self.gone(&open)).await.is_ok() {
            return Drained::default();
        }
        let revoked = self.revoke(&open);
        match timeout(REVOKED_WAIT_MAX, self.gone(&open)).await {
            Ok(()) => Drained { revoked, left: 0 },
            Err(_) => Drained {
                revoked,
                left: self.count(&open),
            },
        }
    }

    /// The ids of the open passages of a target.
    fn open(&self, target: Option<&KekName>) -> Vec<u64> {
        let mut ids = Vec::new();
        for shard in &self.0.shards {
            let open = shard.lock();
            let of_target = open
                .iter()
                .filter(|(_, open)| target.is_none_or(|target| *target == open.kek));
            ids.extend(of_target.map(|(id, _)| *id));
        }
        ids
    }

    async fn gone(&self, ids: &[u64]) {
        for id in ids {
            let shard = self.shard_of(*id);
            loop {
                let left = shard.left.notified();
                let mut left = std::pin::pin!(left);
                // From here on a passage that leaves is heard, so the look cannot be too early.
                left.as_mut().enable();
                if !shard.lock().contains_key(id) {
                    break;
                }
                left.await;
            }
        }
    }

    /// Revokes those of the passages that are still open.
    fn revoke(&self, ids: &[u64]) -> usize {
        let mut revoked = 0;
        for id in ids {
            let on_revoked = match self.shard_of(*id).lock().get_mut(id) {
                None => continue,
                Some(open) => {
                    open.revoked.store(true, Ordering::SeqCst);
                    open.on_revoked.take()
                }
            };
            revoked += 1;
            if let Some(act) = on_revoked {
                act();
            }
        }
        revoked
    }

    fn count(&self, ids: &[u64]) -> usize {
        ids.iter()
            .filter(|id| self.shard_of(**id).lock().contains_key(id))
            .count()
    }

    #[expect(
        clippy::indexing_slicing,
        clippy::cast_possible_truncation,
        reason = "the remainder is below the number of shards"
    )]
    fn shard_of(&self, id: u64) -> &Shard {
        &self.0.shards[(id % SHARDS as u64) as usize]
    }
}

impl Shard {
    fn lock(&self) -> MutexGuard<'_, HashMap<u64, Open>> {
        // Every change under the lock is whole: a panic elsewhere leaves nothing half done.
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Passage {
    /// Whether the answer may no longer be handed over: somebody stopped waiting for it.
    pub fn is_revoked(&self) -> bool {
        self.revoked.load(Ordering::SeqCst)
    }

    /// Has `act` done when the passage is revoked, or now if it is: it should make the passage end.
    /// The latest one counts. It must not wait.
    pub fn on_revoked(&self, act: impl FnOnce() + Send + 'static) {
        let mut shard = self.gate.shard_of(self.id).lock();
        if !self.is_revoked() {
            if let Some(open) = shard.get_mut(&self.id) {
                open.on_revoked = Some(Box::new(act));
            }
            return;
        }
        drop(shard);
        act();
    }
}

impl Drop for Passage {
    fn drop(&mut self) {
        let shard = self.gate.shard_of(self.id);
        let open = shard.lock().remove(&self.id);
        shard.left.notify_waiters();
        drop(open);
    }
}

#[cfg(test)]
mod tests;
