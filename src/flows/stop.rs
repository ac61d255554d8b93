//! Stopping: the stop takes effect, then what is on its way is waited for, then it is acknowledged.
//! And the watch over the drop folder, which stops without being asked over the network. Nothing
//! here needs the HSM, the ledger or the audit log, and nothing here lifts a stop.

use std::collections::HashSet;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::task::AbortHandle;
use tokio::time::timeout;
use tracing::{error, warn};

use super::Node;
use crate::stops::{Added, Drained, Gate, Stop, Stops, StopsError};
use crate::types::KekName;

/// Between two looks into the drop folder.
const LOOK_INTERVAL: Duration = Duration::from_millis(200);
/// How long a release on its way may take to leave before its connection is cut.
const DRAIN_MAX: Duration = Duration::from_secs(1);
/// How long the acknowledgement of a stop waits for the marker.
const MARKER_WAIT_MAX: Duration = Duration::from_secs(2);
/// Strange names in the drop folder that are remembered, so that each is told once.
const STRANGE_MAX: usize = 1024;

impl Node {
    /// What is stopped and not in the ledger yet.
    pub const fn stops(&self) -> &Arc<Stops> {
        &self.switch.stops
    }

    /// Stops. When this returns, well or not, no DEK leaves any more of what is stopped; when it
    /// returns well, a restart does not change that. It takes two seconds at most.
    ///
    /// # Errors
    /// Where the marker did not take the stop (in time). It is in effect, and is tried again.
    pub async fn stop(&self, stop: Stop) -> Result<Added, StopsError> {
        let target = stop.target.clone();
        // Held by memory before anything is waited for.
        let added = self.switch.stops.take_effect(stop);
        let target = target.filter(|_| added != Added::Widened);
        let stops = Arc::clone(&self.switch.stops);
        let write = tokio::task::spawn_blocking(move || stops.write());
        let (written, _) = tokio::join!(
            timeout(MARKER_WAIT_MAX, write),
            self.drained(target.as_ref())
        );
        match written {
            Ok(Ok(written)) => written.map(|()| added),
            // The write did not end, or its thread did not.
            Ok(Err(_)) | Err(_) => Err(StopsError::MarkerSlow {
                after: MARKER_WAIT_MAX,
            }),
        }
    }

    /// Waits until no DEK of `target` (`None`: of any KEK) is on its way that began before the stop.
    /// To be called after everything that stops it is visible: in [`Node::stops`], or in the ledger's
    /// state that requests are judged by. It takes a second and a half at most.
    pub async fn drained(&self, target: Option<&KekName>) -> Drained {
        drained(&self.switch.gate, target).await
    }
}

async fn drained(gate: &Gate, target: Option<&KekName>) -> Drained {
    let drained = gate.drained(target, DRAIN_MAX).await;
    if drained != Drained::default() {
        let Drained { revoked, left } = drained;
        warn!(
            revoked,
            left, "answers that were not taken were withheld, and their connections cut"
        );
    }
    drained
}

/// The stops, the gate, and what watches over both: the drop folder is looked into, and what does not
/// leave by itself after any stop is cut. Both end when this is dropped.
pub(super) struct Switch {
    stops: Arc<Stops>,
    gate: Gate,
    /// The thread ends when this does.
    _go_on: mpsc::Sender<()>,
    drain: AbortHandle,
}

impl Switch {
    /// Begins. The folder is looked at on a thread of its own: neither a busy runtime nor a busy pool
    /// of blocking threads delays a stop.
    ///
    /// # Errors
    /// Where no thread can be started.
    pub(super) fn begin(stops: Arc<Stops>) -> Result<Self, StopsError> {
        let gate = Gate::default();
        let (go_on, ended) = mpsc::channel::<()>();
        let looking = Arc::downgrade(&stops);
        std::thread::Builder::new()
            .name("kekd-stops".to_owned())
            .spawn(move || look(&looking, &ended))
            .map_err(|source| StopsError::ThreadNotStarted { source })?;
        let draining = drain(Arc::clone(&stops), gate.clone());
        Ok(Self {
            drain: tokio::spawn(draining).abort_handle(),
            stops,
            gate,
            _go_on: go_on,
        })
    }

    /// Whether this KEK is stopped.
    pub(super) fn is_stopped(&self, kek: &KekName) -> bool {
        self.stops.is_stopped(kek)
    }

    /// What every release passes.
    pub(super) const fn gate(&self) -> &Gate {
        &self.gate
    }
}

impl Drop for Switch {
    fn drop(&mut self) {
        self.drain.abort();
    }
}

fn look(stops: &Weak<Stops>, ended: &mpsc::Receiver<()>) {
    let mut told = HashSet::new();
    while ended.recv_timeout(LOOK_INTERVAL) == Err(RecvTimeoutError::Timeout) {
        let Some(stops) = stops.upgrade() else { return };
        for name in stops.look() {
            if told.len() < STRANGE_MAX && told.insert(name.clone()) {
                warn!("stop.d holds {name}, which is neither 'all' nor the name of a KEK");
            }
        }
    }
}

/// A stop from the drop folder has nobody who waits for its acknowledgement; what is on its way does
/// not take longer for that.
async fn drain(stops: Arc<Stops>, gate: Gate) {
    let mut changed = stops.changed();
    while changed.changed().await.is_ok() {
        for stop in stops.pending() {
            drained(&gate, stop.target.as_ref()).await;
        }
    }
    error!("nobody watches over stops any more");
}
