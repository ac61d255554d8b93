//! The watch over files that change while a program serves: looked at from time to time, and at once
//! on SIGHUP, which systemd is told of. What is read, and what becomes of it, is for whoever has the
//! files: [`Watched`].

use std::time::Duration;

use tokio::signal::unix::Signal;
use tokio::time::{MissedTickBehavior, interval};
use tracing::error;

use crate::systemd;

/// Files, and what is in force because of them.
pub trait Watched: Send + 'static {
    /// What they are, for a message: "the TLS files".
    const FILES: &str;

    /// Looks again. `told`: somebody asked for it, so that files which look the same are read, too.
    /// May block.
    fn look(&mut self, told: bool);
}

/// Looks again every `every`, and at once on `hangup`. Ends only where a look panics.
pub async fn watch<W: Watched>(mut watched: W, every: Duration, mut hangup: Signal) {
    let mut ticks = interval(every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let told = tokio::select! {
            _ = ticks.tick() => false,
            _ = hangup.recv() => true,
        };
        if told {
            systemd::reloading();
        }
        let looking = tokio::task::spawn_blocking(move || {
            watched.look(told);
            watched
        });
        match looking.await {
            Ok(looked) => watched = looked,
            Err(panic) => {
                error!(%panic, "{} are no longer watched; restart this program", W::FILES);
                return;
            }
        }
        if told {
            systemd::ready();
        }
    }
}
