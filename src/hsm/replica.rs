//! One replica: a token that holds clones of the primary's keys, its worker, and what it was found
//! to hold. Nothing is asked of it here. The invariant: what was proven through one worker says
//! nothing once that worker is gone, for the next may have opened another copy of the token.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{PoisonError, RwLock};

use tokio::sync::Notify;

use super::handle::Hsm;
use crate::clock::UnixMs;

/// What is known of one key in a replica.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// Its attributes are the profile's, nothing forbidden succeeds, and it unwrapped a canary.
    Proven {
        /// When.
        at: UnixMs,
        /// Through which worker.
        generation: u64,
    },
    /// It is not there.
    Missing(String),
    /// It is there and not as the ledger says.
    Wrong(String),
}

/// See the head of this file.
pub struct Replica {
    name: String,
    is_required: bool,
    hsm: Hsm,
    /// By `CKA_ID`.
    standings: RwLock<HashMap<[u8; 16], Standing>>,
    /// What else was found that somebody should see to, one sentence each.
    aside: RwLock<Vec<String>>,
    look_now: Notify,
    /// Calls it answered.
    pub(super) served: AtomicU64,
}

impl Replica {
    pub(super) fn new(name: String, is_required: bool, hsm: Hsm) -> Self {
        Self {
            name,
            is_required,
            hsm,
            standings: RwLock::default(),
            aside: RwLock::default(),
            look_now: Notify::new(),
            served: AtomicU64::new(0),
        }
    }

    /// Its name in the configuration.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether new versions wait for it.
    pub const fn is_required(&self) -> bool {
        self.is_required
    }

    /// Its worker.
    pub const fn hsm(&self) -> &Hsm {
        &self.hsm
    }

    /// Calls it answered.
    pub fn served(&self) -> u64 {
        self.served.load(Ordering::Relaxed)
    }

    /// Whether it may be asked for this key now.
    pub fn proves(&self, object_id: &[u8; 16]) -> bool {
        let Some(now) = self.hsm.generation() else {
            return false;
        };
        let standings = self.read();
        matches!(standings.get(object_id), Some(Standing::Proven { generation, .. }) if *generation == now)
    }

    /// What is known of a key; `None` where nothing is, through the worker that serves now.
    pub fn standing(&self, object_id: &[u8; 16]) -> Option<Standing> {
        let found = self.read().get(object_id).cloned()?;
        match &found {
            Standing::Proven { generation, .. } if self.hsm.generation() != Some(*generation) => {
                None
            }
            Standing::Proven { .. } | Standing::Missing(_) | Standing::Wrong(_) => Some(found),
        }
    }

    /// Takes down what was found of a key. Returns whether that is news.
    pub fn stand(&self, object_id: [u8; 16], standing: Standing) -> bool {
        let before = self.write().insert(object_id, standing.clone());
        before != Some(standing)
    }

    /// Forgets keys that are not among these.
    pub fn keep_only(&self, wanted: impl Fn(&[u8; 16]) -> bool) {
        self.write().retain(|object_id, _| wanted(object_id));
    }

    /// Forgets what is known of a key.
    pub fn forget(&self, object_id: &[u8; 16]) {
        self.write().remove(object_id);
    }

    /// Takes down what somebody should see to.
    pub fn set_aside(&self, sentences: Vec<String>) {
        *self.aside.write().unwrap_or_else(PoisonError::into_inner) = sentences;
    }

    /// What somebody should see to, one sentence each.
    pub fn aside(&self) -> Vec<String> {
        let aside = self.aside.read().unwrap_or_else(PoisonError::into_inner);
        aside.clone()
    }

    /// Has it looked at soon.
    pub fn hurry(&self) {
        self.look_now.notify_one();
    }

    /// Waits for that wish.
    pub async fn hurried(&self) {
        self.look_now.notified().await;
    }

    fn read(&self) -> std::sync::RwLockReadGuard<'_, HashMap<[u8; 16], Standing>> {
        self.standings
            .read()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> std::sync::RwLockWriteGuard<'_, HashMap<[u8; 16], Standing>> {
        self.standings
            .write()
            .unwrap_or_else(PoisonError::into_inner)
    }
}
