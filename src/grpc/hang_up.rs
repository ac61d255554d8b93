//! How a call ends the connection that it came on. A peer that does not take its answers cannot be
//! told anything: HTTP/2 keeps what it is told waiting behind the answers.

use std::sync::Arc;

use tokio::sync::Notify;
use tokio::sync::futures::OwnedNotified;

/// Held by a connection and, with its peer, by every call on it.
#[derive(Debug, Clone, Default)]
pub struct HangUp(Arc<Notify>);

impl HangUp {
    /// Ends the connection, and every call on it.
    pub fn now(&self) {
        self.0.notify_one();
    }

    /// Ends when the connection is to end.
    pub fn asked(&self) -> OwnedNotified {
        Arc::clone(&self.0).notified_owned()
    }
}
