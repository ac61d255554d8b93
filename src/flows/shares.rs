//! Fair shares of what all callers use together. A caller that floods the node fills its own share
//! and is told that it is busy; the others are served as before. A caller's two lanes count as two
//! callers, so that its own bulk does not stand in the way of who waits. The invariant: no lane of a
//! caller ever holds more than an even part of the places, and a part of them is nobody's, so that who
//! comes next finds room.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout_at;

use super::unwrap::UnwrapError;
use crate::access::Identity;
use crate::types::Lane;

/// One place in so many is kept for callers who hold none.
const KEPT_ONE_IN: usize = 8;

/// How long a caller should wait whose share is full: a good part of it is done by then.
const RETRY_AFTER: Duration = Duration::from_millis(100);

/// So many places, shared evenly among the callers who hold any at this moment.
pub(super) struct Shares {
    places: usize,
    /// How many of its places one caller may use at once. Those who hold more wait for themselves,
    /// and nobody else waits behind them.
    at_once: usize,
    callers: Mutex<HashMap<(Lane, Identity), Held>>,
}

struct Held {
    places: usize,
    turns: Arc<Semaphore>,
}

impl Shares {
    pub(super) fn new(places: usize, at_once: usize) -> Arc<Self> {
        Arc::new(Self {
            places,
            at_once: at_once.clamp(1, Semaphore::MAX_PERMITS),
            callers: Mutex::default(),
        })
    }

    /// A place for `identity`, until it is dropped.
    ///
    /// # Errors
    /// [`UnwrapError::Busy`] at once where its share is full.
    pub(super) fn take(
        self: &Arc<Self>,
        lane: Lane,
        identity: &Identity,
    ) -> Result<Place, UnwrapError> {
        let caller = (lane, identity.clone());
        let mut callers = self.callers();
        let already = callers.get(&caller).map_or(0, |held| held.places);
        let others = callers.len() - usize::from(already > 0);
        let shared = self.places - self.places / KEPT_ONE_IN;
        if already >= (shared / (others + 1)).max(1) {
            return Err(UnwrapError::Busy {
                retry_after: RETRY_AFTER,
            });
        }
        let held = callers.entry(caller.clone()).or_insert_with(|| Held {
            places: 0,
            turns: Arc::new(Semaphore::new(self.at_once)),
        });
        held.places += 1;
        Ok(Place {
            shares: Arc::clone(self),
            caller,
            turns: Arc::clone(&held.turns),
        })
    }

    /// A place, and the wait for a turn on it: until both are dropped.
    ///
    /// # Errors
    /// As [`Shares::take`], and [`UnwrapError::DeadlineExceeded`].
    pub(super) async fn turn(
        self: &Arc<Self>,
        lane: Lane,
        identity: &Identity,
        deadline: Instant,
    ) -> Result<Turn, UnwrapError> {
        let place = self.take(lane, identity)?;
        let turn = timeout_at(deadline.into(), Arc::clone(&place.turns).acquire_owned()).await;
        match turn {
            Ok(Ok(turn)) => Ok(Turn {
                _turn: turn,
                _place: place,
            }),
            // The semaphore is never closed.
            Ok(Err(_)) => Err(UnwrapError::Internal),
            Err(_) => Err(UnwrapError::DeadlineExceeded),
        }
    }

    fn callers(&self) -> MutexGuard<'_, HashMap<(Lane, Identity), Held>> {
        // Every change under the lock is whole: a panic elsewhere leaves nothing half done.
        self.callers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One place, held until dropped.
pub(super) struct Place {
    shares: Arc<Shares>,
    caller: (Lane, Identity),
    turns: Arc<Semaphore>,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut callers = self.shares.callers();
        if let Entry::Occupied(mut held) = callers.entry(self.caller.clone()) {
            if held.get().places <= 1 {
                held.remove();
            } else {
                held.get_mut().places -= 1;
            }
        }
    }
}

/// A place that is in use. The turn is given back before the place.
pub(super) struct Turn {
    _turn: OwnedSemaphorePermit,
    _place: Place,
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test that cannot unwrap has failed")]
mod tests {
    use super::*;

    fn caller(name: &str) -> Identity {
        format!("spiffe://t/{name}").parse().unwrap()
    }

    fn fill(shares: &Arc<Shares>, identity: &Identity) -> Vec<Place> {
        std::iter::from_fn(|| shares.take(Lane::Bulk, identity).ok()).collect()
    }

    #[test]
    fn who_floods_fills_its_own_share_and_leaves_room() {
        let shares = Shares::new(64, 64);
        let (flood, good) = (caller("flood"), caller("good"));
        let mut flooding = fill(&shares, &flood);
        assert_eq!(flooding.len(), 56, "alone: all but what is kept");
        let place = shares.take(Lane::Bulk, &good).unwrap();
        assert!(shares.take(Lane::Bulk, &flood).is_err());
        // As places come back, both come to the same.
        flooding.truncate(28);
        assert!(shares.take(Lane::Bulk, &flood).is_err());
        let mut served = fill(&shares, &good);
        served.push(place);
        assert_eq!(served.len(), 28);
        drop((flooding, served));
        assert_eq!(
            shares.callers().len(),
            0,
            "callers without a place are forgotten"
        );
        assert_eq!(fill(&shares, &good).len(), 56);
    }

    #[test]
    fn a_callers_bulk_takes_no_place_of_its_interactive_lane() {
        let shares = Shares::new(64, 64);
        let one = caller("one");
        let bulk = fill(&shares, &one);
        assert_eq!(bulk.len(), 56);
        let interactive: Vec<Place> =
            std::iter::from_fn(|| shares.take(Lane::Interactive, &one).ok()).collect();
        assert_eq!(interactive.len(), 28);
    }

    #[test]
    fn many_callers_get_one_place_each_at_least() {
        let shares = Shares::new(4, 1);
        let places: Vec<Place> = (0..20)
            .map(|number| {
                shares
                    .take(Lane::Bulk, &caller(&number.to_string()))
                    .unwrap()
            })
            .collect();
        assert_eq!(places.len(), 20);
        assert!(shares.take(Lane::Bulk, &caller("0")).is_err());
    }

    #[tokio::test]
    async fn a_caller_waits_for_itself_and_no_other_behind_it() {
        let shares = Shares::new(64, 1);
        let (flood, good) = (caller("flood"), caller("good"));
        let far = Instant::now() + Duration::from_secs(3600);
        let turn = shares.turn(Lane::Bulk, &flood, far).await.unwrap();
        let late = shares.turn(Lane::Bulk, &flood, Instant::now()).await;
        assert!(matches!(late, Err(UnwrapError::DeadlineExceeded)));
        let other = shares.turn(Lane::Bulk, &good, far).await.unwrap();
        drop((turn, other));
        shares
            .turn(Lane::Bulk, &flood, far)
            .await
            .map(drop)
            .unwrap();
        assert_eq!(shares.callers().len(), 0);
    }
}
