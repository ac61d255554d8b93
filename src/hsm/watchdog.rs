//! Decides that a worker is to be given up: a call inside the HSM runs too long, or the process
//! stands still. The two are apart: a ping is answered by the worker's reading thread whatever the
//! module does, so a frozen process is found long before a slow HSM would be blamed.

use std::time::{Duration, Instant};

use tokio::time::sleep_until;

use super::link::Link;
use super::loss::Loss;

/// Between two pings. With [`PING_LIMIT`] a frozen worker is found within a second, which leaves
/// half of the two seconds that recovery may take for opening the token again.
pub(super) const PING_INTERVAL: Duration = Duration::from_millis(250);
/// How long a ping may take. A thread that does nothing but read answers in microseconds; the rest
/// is for a host that is short of processors.
pub(super) const PING_LIMIT: Duration = Duration::from_millis(750);
/// A wake-up this late says that this process itself stood still (stopped, swapped out). Answers
/// may lie unread in the socket, so they get as much time again before anything is judged.
const STALL: Duration = Duration::from_millis(100);

/// Whether the worker is asked for signs of life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pings {
    /// Not before the token is open: `Open` is the first thing a worker answers, and until then
    /// only its own limit counts.
    None,
    /// From then on.
    Sent,
}

/// Waits until the link has ended, and ends it where something is overdue. `call_limit` is the
/// shortest limit a call can have.
///
/// A call sent after one wake-up cannot be overdue before the next one, because no two wake-ups
/// are further apart than `call_limit`: so each is found on time.
pub(super) async fn watch(link: &Link, call_limit: Duration, pings: Pings) -> Loss {
    let interval = PING_INTERVAL.min(call_limit);
    let mut next_ping = Instant::now();
    loop {
        let wake = link
            .next_overdue(PING_LIMIT)
            .map_or(next_ping, |overdue| overdue.min(next_ping));
        tokio::select! {
            biased;
            loss = link.ended() => return loss,
            () = sleep_until(wake.into()) => {}
        }
        if wake.elapsed() > STALL {
            tokio::time::sleep(STALL).await;
        }
        if let Some(loss) = link.overdue(PING_LIMIT) {
            link.lose(loss);
            continue;
        }
        if next_ping <= Instant::now() {
            if pings == Pings::Sent {
                link.ping();
            }
            next_ping = Instant::now() + interval;
        }
    }
}
