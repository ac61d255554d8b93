//! What the network side knows of itself, shared between the accept loop, the gate and the services:
//! counters, the revocation list now loaded, problems for the operator, and whether the node stops.
//! Nothing about keys.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwap;
use tokio::sync::watch;

use super::peer::{Peer, Revocations, StandingError};
use super::refusals::{Record, Refusals};
use crate::clock::Clock;

/// The state of the network side.
pub struct Network {
    clock: Clock,
    refusals: Refusals,
    accepted: AtomicU64,
    revocations: ArcSwap<Revocations>,
    problems: ArcSwap<Vec<String>>,
    stopping: watch::Sender<bool>,
}

impl Network {
    /// Nothing accepted, nothing revoked. Refusals are told to `record`, at a bounded rate.
    pub fn new(clock: Clock, record: Record) -> Self {
        Self {
            clock,
            refusals: Refusals::new(record),
            accepted: AtomicU64::new(0),
            revocations: ArcSwap::default(),
            problems: ArcSwap::default(),
            stopping: watch::Sender::new(false),
        }
    }

    /// The clock that certificates are judged by.
    pub const fn clock(&self) -> Clock {
        self.clock
    }

    /// Counts a connection that has an identity.
    pub fn accept(&self) {
        self.accepted.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a refusal and records it, at a bounded rate. `who` is an identity or an address.
    pub fn refuse(&self, who: &str, reason: &'static str) {
        self.refusals.refuse(who, reason);
    }

    /// Whether the peer's certificate is still good; where it is not, the refusal is recorded.
    ///
    /// # Errors
    /// Where it has expired or the list now loaded revokes it.
    pub fn check_standing(&self, peer: &Peer) -> Result<(), StandingError> {
        peer.standing(&self.revocations.load(), self.clock.now())
            .inspect_err(|error| self.refuse(&peer.identity.to_string(), error.reason()))
    }

    /// Puts another revocation list in force, for requests on open connections too.
    pub fn set_revocations(&self, revocations: Revocations) {
        self.revocations.store(Arc::new(revocations));
    }

    /// Replaces what the operator should know, one sentence each.
    pub fn set_problems(&self, problems: Vec<String>) {
        self.problems.store(Arc::new(problems));
    }

    /// What the operator should know, one sentence each.
    pub fn problems(&self) -> Arc<Vec<String>> {
        self.problems.load_full()
    }

    /// Connections accepted and connections and calls refused, since the start.
    pub fn counts(&self) -> (u64, u64) {
        (self.accepted.load(Ordering::Relaxed), self.refusals.count())
    }

    /// Streams end when they have answered what is under way; no new request is read.
    pub fn stop(&self) {
        self.stopping.send_replace(true);
    }

    /// Turns true when the node stops.
    pub fn stopping(&self) -> watch::Receiver<bool> {
        self.stopping.subscribe()
    }
}
