//! Who asks the HSM for something, and how long they wait for it. Nothing here decides who goes
//! next; that is `line/`.

use std::sync::Arc;
use std::time::Instant;

use tokio::sync::watch;

use super::quota::Allowance;
use crate::access::Identity;
use crate::types::Lane;

/// A client's call, as the line before the HSM sees it.
pub struct Asker<'a> {
    pub(super) caller: &'a Identity,
    pub(super) lane: Lane,
    pub(super) deadline: Instant,
    pub(super) presence: Option<&'a Presence>,
    pub(super) allowance: Option<Arc<Allowance>>,
}

impl<'a> Asker<'a> {
    /// A call of `caller`, who waits until `deadline` and no longer.
    pub const fn new(caller: &'a Identity, lane: Lane, deadline: Instant) -> Self {
        Self {
            caller,
            lane,
            deadline,
            presence: None,
            allowance: None,
        }
    }

    /// The same, as long as the caller is there: a call nobody waits for does not reach the HSM.
    #[must_use]
    pub const fn while_present(mut self, presence: &'a Presence) -> Self {
        self.presence = Some(presence);
        self
    }

    /// The same, as far as its failures allow it.
    #[must_use]
    pub fn within(mut self, allowance: Arc<Allowance>) -> Self {
        self.allowance = Some(allowance);
        self
    }

    pub(super) fn has_left(&self) -> bool {
        self.presence.is_some_and(Presence::has_ended)
    }

    /// Returns when the caller is gone.
    pub(super) async fn left(&self) {
        match self.presence {
            Some(presence) => presence.ended().await,
            None => std::future::pending().await,
        }
    }
}

/// Held by whoever hands the answer to the caller; dropping it says that nobody does any more.
pub struct Attendance(#[expect(dead_code, reason = "held for its drop")] watch::Sender<()>);

/// Whether the [`Attendance`] is still held.
#[derive(Debug, Clone)]
pub struct Presence(watch::Receiver<()>);

impl Presence {
    /// A presence, and what it depends on.
    pub fn begin() -> (Attendance, Self) {
        let (sender, receiver) = watch::channel(());
        (Attendance(sender), Self(receiver))
    }

    fn has_ended(&self) -> bool {
        self.0.has_changed().is_err()
    }

    /// Returns when the caller is gone.
    pub async fn ended(&self) {
        // Nothing is ever sent: the only change is the end.
        while self.0.clone().changed().await.is_ok() {}
    }
}
