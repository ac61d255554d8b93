//! What is counted, and its text for Prometheus. Names of credentials may be in it; secrets, key pair
//! ids and users are not.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// Upper bounds of the buckets of the answer times, in milliseconds.
const BUCKETS_MS: [u64; 10] = [1, 2, 5, 10, 25, 50, 100, 250, 1_000, 5_000];

/// Counters of one process.
#[derive(Default)]
pub struct Metrics {
    counts: Mutex<Counts>,
}

#[derive(Default)]
struct Counts {
    /// By name, then by the one label.
    counters: BTreeMap<&'static str, BTreeMap<&'static str, u64>>,
    buckets: [u64; BUCKETS_MS.len()],
    released: u64,
    released_s: f64,
}

impl Metrics {
    /// Counts one; `label` is the value of the name's one label.
    pub fn count(&self, name: &'static str, label: &'static str) {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        *counts
            .counters
            .entry(name)
            .or_default()
            .entry(label)
            .or_default() += 1;
    }

    /// How often that was counted.
    pub fn counted(&self, name: &str, label: &str) -> u64 {
        let counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let of_name = counts.counters.get(name);
        of_name
            .and_then(|n| n.get(label))
            .copied()
            .unwrap_or_default()
    }

    /// A DEK was released after this long.
    pub fn released(&self, after: Duration) {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        counts.released += 1;
        counts.released_s += after.as_secs_f64();
        for (bound, bucket) in BUCKETS_MS.iter().zip(&mut counts.buckets) {
            *bucket += u64::from(after <= Duration::from_millis(*bound));
        }
    }

    /// The text (Prometheus text format 0.0.4), with the values of `gauges` as they are now.
    pub fn text(&self, gauges: &[(&str, u64)]) -> String {
        let counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let mut text = String::new();
        // Writing to a String cannot fail.
        for (name, by_label) in &counts.counters {
            writeln!(text, "# TYPE kekd_lkm_{name}_total counter").ok();
            for (label, count) in by_label {
                writeln!(text, "kekd_lkm_{name}_total{{what=\"{label}\"}} {count}").ok();
            }
        }
        writeln!(text, "# TYPE kekd_lkm_release_seconds histogram").ok();
        for (bound, bucket) in BUCKETS_MS.iter().zip(counts.buckets) {
            let (whole, rest) = (bound / 1000, bound % 1000);
            writeln!(
                text,
                "kekd_lkm_release_seconds_bucket{{le=\"{whole}.{rest:03}\"}} {bucket}"
            )
            .ok();
        }
        let (all, sum) = (counts.released, counts.released_s);
        writeln!(text, "kekd_lkm_release_seconds_bucket{{le=\"+Inf\"}} {all}").ok();
        writeln!(text, "kekd_lkm_release_seconds_sum {sum}").ok();
        writeln!(text, "kekd_lkm_release_seconds_count {all}").ok();
        for (name, value) in gauges {
            writeln!(
                text,
                "# TYPE kekd_lkm_{name} gauge\nkekd_lkm_{name} {value}"
            )
            .ok();
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_written_as_prometheus_reads_them() {
        let metrics = Metrics::default();
        metrics.count("answers", "released");
        metrics.count("answers", "released");
        metrics.released(Duration::from_millis(7));
        let text = metrics.text(&[("ready", 1)]);
        for line in [
            "kekd_lkm_answers_total{what=\"released\"} 2",
            "kekd_lkm_release_seconds_bucket{le=\"0.005\"} 0",
            "kekd_lkm_release_seconds_bucket{le=\"0.010\"} 1",
            "kekd_lkm_release_seconds_bucket{le=\"+Inf\"} 1",
            "kekd_lkm_release_seconds_count 1",
            "kekd_lkm_ready 1",
        ] {
            assert!(text.lines().any(|l| l == line), "{line} is not in\n{text}");
        }
    }
}
