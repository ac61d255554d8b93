//! The queue in front of the sessions. At most as many calls are inside the worker as it has
//! sessions, at most `hsm.queue_len_max` wait, and one more is refused at once. Nothing waits
//! longer than its deadline, and a caller who leaves frees its place.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout_at;

use super::error::HsmError;

/// Places for the daemon's own calls (signing a checkpoint, writing the head anchor), so that
/// callers who fill the queue cannot stop them. Such calls are few: one per writer.
const OWN_PLACES: usize = 16;
/// Shortest and longest time a refused caller is told to wait.
const RETRY_AFTER_MIN: Duration = Duration::from_millis(10);
const RETRY_AFTER_MAX: Duration = Duration::from_secs(10);

/// Who asks for a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Asker {
    /// A client's request.
    Client,
    /// The daemon itself.
    Daemon,
}

/// The queue.
pub(super) struct Line {
    sessions: Arc<Semaphore>,
    sessions_len: usize,
    waiting: AtomicUsize,
    len_max: usize,
    /// A moving average of the time one call takes, in microseconds.
    typical_us: AtomicU64,
}

impl Line {
    pub(super) fn new(sessions_len: usize, len_max: usize) -> Self {
        Self {
            sessions: Arc::new(Semaphore::new(sessions_len)),
            sessions_len,
            waiting: AtomicUsize::new(0),
            len_max,
            typical_us: AtomicU64::new(0),
        }
    }

    /// How many wait.
    pub(super) fn len(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    /// Waits for a free session until the deadline. The place is given back by dropping it.
    pub(super) async fn place(
        &self,
        asker: Asker,
        deadline: Instant,
    ) -> Result<OwnedSemaphorePermit, HsmError> {
        // Overtakes nobody: the semaphore hands places freed to those who wait first.
        if let Ok(place) = Arc::clone(&self.sessions).try_acquire_owned() {
            return Ok(place);
        }
        let _waiting = self.join(asker)?;
        match timeout_at(deadline.into(), Arc::clone(&self.sessions).acquire_owned()).await {
            Ok(Ok(place)) => Ok(place),
            // The semaphore is never closed.
            Ok(Err(_)) => Err(HsmError::ShutDown),
            Err(_) => Err(HsmError::DeadlineExceeded),
        }
    }

    /// Takes in how long one call took.
    pub(super) fn observe(&self, time: Duration) {
        let us = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        let seen = self.typical_us.load(Ordering::Relaxed);
        // Two calls that write at once lose one sample, which an estimate can bear.
        let next = seen.saturating_sub(seen / 8).saturating_add(us / 8);
        self.typical_us.store(next, Ordering::Relaxed);
    }

    fn join(&self, asker: Asker) -> Result<Waiting<'_>, HsmError> {
        let len_max = match asker {
            Asker::Client => self.len_max,
            Asker::Daemon => self.len_max.saturating_add(OWN_PLACES),
        };
        let joined = self
            .waiting
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |waiting| {
                (waiting < len_max).then_some(waiting.saturating_add(1))
            });
        match joined {
            Ok(_) => Ok(Waiting(&self.waiting)),
            Err(waiting) => Err(HsmError::Busy {
                retry_after: self.retry_after(waiting),
            }),
        }
    }

    /// Half of what those who wait now should take: by then there is room again.
    fn retry_after(&self, waiting: usize) -> Duration {
        let rounds = u64::try_from(waiting / self.sessions_len.max(1) / 2).unwrap_or(u64::MAX);
        let us = rounds.saturating_mul(self.typical_us.load(Ordering::Relaxed));
        Duration::from_micros(us).clamp(RETRY_AFTER_MIN, RETRY_AFTER_MAX)
    }
}

/// One who waits; counted until dropped.
struct Waiting<'a>(&'a AtomicUsize);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test that cannot unwrap has failed")]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    #[tokio::test]
    async fn a_full_queue_refuses_at_once_and_keeps_room_for_the_daemon() {
        let line = Arc::new(Line::new(1, 2));
        let far = Instant::now() + LONG;
        let inside = line.place(Asker::Client, far).await.unwrap();
        let waiters: Vec<_> = (0..2)
            .map(|_| {
                let line = Arc::clone(&line);
                tokio::spawn(async move { line.place(Asker::Client, far).await.map(drop) })
            })
            .collect();
        while line.len() < 2 {
            tokio::task::yield_now().await;
        }
        let refused = line.place(Asker::Client, far).await;
        assert!(matches!(refused, Err(HsmError::Busy { .. })));
        let own = {
            let line = Arc::clone(&line);
            tokio::spawn(async move { line.place(Asker::Daemon, far).await.map(drop) })
        };
        while line.len() < 3 {
            tokio::task::yield_now().await;
        }
        drop(inside);
        for waiter in waiters {
            waiter.await.unwrap().unwrap();
        }
        own.await.unwrap().unwrap();
        assert_eq!(line.len(), 0);
    }

    #[tokio::test]
    async fn a_deadline_or_a_caller_who_leaves_frees_the_place_in_the_queue() {
        let line = Arc::new(Line::new(1, 1));
        let far = Instant::now() + LONG;
        let inside = line.place(Asker::Client, far).await.unwrap();
        let past = line.place(Asker::Client, Instant::now()).await;
        assert!(matches!(past, Err(HsmError::DeadlineExceeded)));
        let leaver = {
            let line = Arc::clone(&line);
            tokio::spawn(async move { line.place(Asker::Client, far).await.map(drop) })
        };
        while line.len() < 1 {
            tokio::task::yield_now().await;
        }
        leaver.abort();
        assert!(leaver.await.unwrap_err().is_cancelled());
        assert_eq!(line.len(), 0);
        drop(inside);
        line.place(Asker::Client, far).await.map(drop).unwrap();
    }

    #[test]
    fn a_refused_caller_waits_half_the_queue() {
        let line = Line::new(4, 256);
        for _ in 0..200 {
            line.observe(Duration::from_millis(8));
        }
        let after = line.retry_after(256);
        assert!(after > Duration::from_millis(200) && after < Duration::from_millis(300));
        assert_eq!(line.retry_after(0), RETRY_AFTER_MIN);
    }
}
