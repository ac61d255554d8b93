//! What every measurement has: an instance, the raw module on the same token and key, and sizes.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use kekd::client::UnwrapCall;
use serde_json::Value;

use crate::raw::Raw;
use crate::rig::{Kek, Module, Rig};

/// What a measurement comes to: the value, whether the goal is met, and what else was seen.
pub type Found = anyhow::Result<(Value, bool, Value)>;

/// Everything a measurement needs.
pub struct Bench {
    pub rig: Rig,
    pub raw: Raw,
    pub kek: Kek,
    pub calls: Arc<Vec<UnwrapCall>>,
    /// As many as kekd has by default.
    pub sessions: usize,
    pub is_quick: bool,
    /// tests/modules/null.
    pub null: PathBuf,
    /// Where more instances can be made.
    pub home: PathBuf,
}

impl Bench {
    /// Warm-up and window of one sample.
    pub fn times(&self) -> [Duration; 2] {
        let ms = self.pick([100, 400], [1000, 5000]);
        ms.map(Duration::from_millis)
    }

    /// The size for a quick run, or for a whole one.
    pub fn pick<T>(&self, quick: T, whole: T) -> T {
        if self.is_quick { quick } else { whole }
    }

    /// The module that costs nothing but this.
    pub fn null(&self, latency_ms: u64) -> Module {
        Module::Null {
            path: self.null.clone(),
            latency_ms,
        }
    }
}
