//! What kekd tells systemd, and nobody else: `sd_notify(3)`. Outside systemd every function does
//! nothing. The watchdog ping says that the event loop and the writers run; it never says anything
//! of the HSM, because an HSM outage must not put the daemon in a restart loop.

use std::time::Duration;

use sd_notify::NotifyState;
use tracing::warn;

/// The daemon answers calls from now on. Said once, at the true moment.
pub fn ready() {
    notify(&[NotifyState::Ready]);
}

/// One line for `systemctl status`.
pub fn status(text: &str) {
    // A line feed would begin a message of its own.
    notify(&[NotifyState::Status(&text.replace('\n', " "))]);
}

/// Certificates are being read again; [`ready`] ends it.
pub fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => notify(&[NotifyState::Reloading, now]),
        Err(error) => warn!(%error, "cannot tell systemd of the reload"),
    }
}

/// The daemon ends.
pub fn stopping() {
    notify(&[NotifyState::Stopping]);
}

/// The daemon is alive.
pub fn watchdog() {
    notify(&[NotifyState::Watchdog]);
}

/// How often [`watchdog`] is to be called: half of what the unit allows (`sd_watchdog_enabled(3)`),
/// or `None` where the unit does not ask.
pub fn watchdog_interval() -> Option<Duration> {
    sd_notify::watchdog_enabled().map(|allowed| allowed / 2)
}

fn notify(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        warn!(%error, "systemd did not take a notification");
    }
}
