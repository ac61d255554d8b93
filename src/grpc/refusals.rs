//! Connections and calls refused before a flow could judge them, counted and told to the audit log
//! at a bounded rate: a stranger who knocks ten thousand times a second must not fill the log or
//! its queue. What is held back is counted and said with the next one that is told.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tracing::{debug, warn};

/// Refusals told at once, and how long one more takes to be saved up.
const BURST: u32 = 20;
const ONE_MORE_EVERY: Duration = Duration::from_millis(200);

/// Takes a refusal to the audit log without waiting: who (an identity or an address), and the
/// stable reason.
pub type Record = Box<dyn Fn(&str, &'static str) + Send + Sync>;

/// Everything refused before a flow could judge it.
pub struct Refusals {
    record: Record,
    count: AtomicU64,
    bucket: Mutex<Bucket>,
}

impl Refusals {
    /// Refusals are told to `record`.
    pub fn new(record: Record) -> Self {
        Self {
            record,
            count: AtomicU64::new(0),
            bucket: Mutex::new(Bucket::full(Instant::now())),
        }
    }

    /// Counts a refusal and, where the rate allows, logs and records it. Never waits.
    pub fn refuse(&self, who: &str, reason: &'static str) {
        self.count.fetch_add(1, Ordering::Relaxed);
        let told = self
            .bucket
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
            .take(Instant::now());
        let Some(held_back) = told else {
            debug!(who, reason, "refused; not recorded, there are too many");
            return;
        };
        if held_back > 0 {
            warn!(
                held_back,
                "refusals were not recorded because there were too many"
            );
        }
        warn!(who, reason, "refused");
        (self.record)(who, reason);
    }

    /// How many there were since the start.
    pub fn count(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }
}

struct Bucket {
    tokens: u32,
    refilled_at: Instant,
    held_back: u64,
}

impl Bucket {
    const fn full(now: Instant) -> Self {
        Self {
            tokens: BURST,
            refilled_at: now,
            held_back: 0,
        }
    }

    /// Whether one may be told now; if so, how many were held back since the last.
    fn take(&mut self, now: Instant) -> Option<u64> {
        let waited = now.saturating_duration_since(self.refilled_at);
        let earned = waited.as_millis() / ONE_MORE_EVERY.as_millis();
        if let Ok(earned @ 1..) = u32::try_from(earned) {
            self.tokens = self.tokens.saturating_add(earned).min(BURST);
            self.refilled_at += ONE_MORE_EVERY.saturating_mul(earned);
        } else if earned > 0 {
            *self = Self {
                held_back: self.held_back,
                ..Self::full(now)
            };
        }
        if let Some(left) = self.tokens.checked_sub(1) {
            self.tokens = left;
            Some(std::mem::take(&mut self.held_back))
        } else {
            self.held_back = self.held_back.saturating_add(1);
            None
        }
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test that cannot unwrap has failed")]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn a_flood_is_told_at_a_bounded_rate_and_nothing_is_uncounted() {
        let start = Instant::now();
        let mut bucket = Bucket::full(start);
        for _ in 0..BURST {
            assert_eq!(bucket.take(start), Some(0));
        }
        for _ in 0..1000 {
            assert_eq!(bucket.take(start), None);
        }
        assert_eq!(bucket.take(start + Duration::from_millis(199)), None);
        assert_eq!(bucket.take(start + Duration::from_millis(200)), Some(1001));
        assert_eq!(bucket.take(start + Duration::from_millis(399)), None);
        assert_eq!(bucket.take(start + Duration::from_millis(400)), Some(1));
        let much_later = start + Duration::from_secs(3600);
        for _ in 0..BURST {
            assert!(bucket.take(much_later).is_some());
        }
        assert_eq!(bucket.take(much_later), None);
    }

    #[test]
    fn all_are_counted_and_the_first_are_recorded() {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let sink = Arc::clone(&seen);
        let record = move |who: &str, why| sink.lock().unwrap().push((who.to_owned(), why));
        let refusals = Refusals::new(Box::new(record));
        for _ in 0..100 {
            refusals.refuse("192.0.2.1:1", "TLS_NO_CERTIFICATE");
        }
        assert_eq!(refusals.count(), 100);
        let seen = seen.lock().unwrap();
        assert!((20..30).contains(&seen.len()), "{} recorded", seen.len());
        assert_eq!(
            seen.first().unwrap(),
            &("192.0.2.1:1".to_owned(), "TLS_NO_CERTIFICATE")
        );
    }
}
