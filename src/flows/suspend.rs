//! One officer's stop, from the signature to the acknowledgement: in effect in memory, in the marker,
//! drained, acknowledged; and in the ledger as soon as that is possible. It needs neither the HSM nor
//! a free block on the disk.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::spawn_blocking;
use tokio::time::timeout;
use tracing::{error, info, warn};

use super::Node;
use super::govern::{GovernError, run};
use super::pen::{PenError, Timing};
use crate::ledger::{Event, State};
use crate::proto::v1;
use crate::quorum::{Refusal, Suspension, Target};
use crate::stops::{Source, Stop, StopsError};
use crate::types::KekName;

/// How long the acknowledgement of a stop waits for the ledger.
const LEDGER_WAIT_MAX: Duration = Duration::from_secs(2);

impl Node {
    /// Stops a KEK, or everything, by one officer's signature. When this returns well, the stop is
    /// in effect and durable; the answer says whether the ledger has it already. Where it returns
    /// [`GovernError::StopNotDurable`] it is in effect all the same.
    pub async fn suspend(
        self: &Arc<Self>,
        statement: Vec<u8>,
        signature: Vec<u8>,
    ) -> Result<bool, GovernError> {
        let node = Arc::clone(self);
        run(async move { node.suspend_now(statement, signature).await }).await
    }

    async fn suspend_now(
        self: &Arc<Self>,
        statement: Vec<u8>,
        signature: Vec<u8>,
    ) -> Result<bool, GovernError> {
        let snapshot = self.snapshot();
        let suspension = match snapshot
            .governance()
            .judge_suspension(&statement, &signature)
        {
            Ok(suspension) => suspension,
            // The same officer's stop again, or the same statement: it was lost on the way that the
            // first one was heard. After a quorum lifted that stop it is none any more, and must not
            // pass for one.
            Err(refusal @ Refusal::SoAlready { .. }) => {
                return match holds(&snapshot, &statement) {
                    true => Ok(true),
                    false => Err(refusal.into()),
                };
            }
            Err(refusal) => return Err(refusal.into()),
        };
        let target = match suspension.target {
            Target::All => None,
            Target::Kek(kek) => {
                snapshot.keyring().kek(&kek).map_err(Refusal::from)?;
                Some(kek)
            }
        };
        let what = target.as_ref().map_or("everything", KekName::as_str);
        warn!(officer = suspension.officer, what, "stopped");
        let source = Source::Officer {
            statement,
            signature,
        };
        let durable = self.stop(Stop { target, source }).await;
        let node = Arc::clone(self);
        // On its own, so that it goes on when nobody waits any more.
        let recorded = tokio::spawn(async move { node.record_stops().await });
        let in_ledger = matches!(timeout(LEDGER_WAIT_MAX, recorded).await, Ok(Ok(Ok(()))));
        match durable {
            Ok(_) => Ok(in_ledger),
            Err(_) if in_ledger => Ok(true),
            Err(why) => Err(GovernError::StopNotDurable(why.to_string())),
        }
    }

    /// Brings into the ledger what is stopped and not there yet. What the ledger has is settled only
    /// after its state is what requests are judged by, so that at no instant neither says it.
    pub(super) async fn record_stops(&self) -> Result<(), PenError> {
        for stop in self.stops().pending() {
            let state = self.snapshot();
            let is_known = |kek: &KekName| state.keyring().kek(kek).is_ok();
            if !stop.target.as_ref().is_none_or(is_known) {
                // It holds, and is recorded when there is a KEK of this name.
                continue;
            }
            self.record(&stop).await?;
            let stops = Arc::clone(self.stops());
            let settled = spawn_blocking(move || stops.settled(&stop)).await;
            match settled {
                Ok(Ok(())) => {}
                Ok(Err(why @ StopsError::NotRemoved { .. })) => warn!("{why}"),
                Ok(Err(why)) => error!(%why, "the marker was not cleared"),
                Err(panic) => error!(%panic, "settling a stop panicked"),
            }
        }
        Ok(())
    }

    async fn record(&self, stop: &Stop) -> Result<(), PenError> {
        if let Source::Officer {
            statement,
            signature,
        } = &stop.source
        {
            let event = Event::Suspended(v1::Suspended {
                statement: statement.clone(),
                signature: signature.clone(),
            });
            match self.append(event, Timing::Regardless).await {
                Ok(_) => return Ok(()),
                // A crash between the entry and the clearing of the marker, or a stop of the same
                // officer that came by the marker and by the network.
                Err(PenError::Refused(why)) if matches!(*why, Refusal::SoAlready { .. }) => {
                    return Ok(());
                }
                // The officer is none any more: the stop stands, without a name.
                Err(PenError::Refused(why)) => warn!(%why, "a stop is recorded as the host's"),
                Err(why) => return Err(why),
            }
        }
        let kek = stop.target.as_ref();
        let event = Event::SuspendedByHost(v1::SuspendedByHost {
            kek: kek.map_or_else(String::new, ToString::to_string),
        });
        match self.append(event, Timing::Regardless).await {
            Ok(_) => {
                info!("a stop of the host is in the ledger");
                Ok(())
            }
            // The host's own is in force.
            Err(PenError::Refused(why)) if matches!(*why, Refusal::SoAlready { .. }) => Ok(()),
            Err(why) => Err(why),
        }
    }
}

/// Whether what a suspension stops is stopped by the ledger.
fn holds(state: &State, statement: &[u8]) -> bool {
    let Ok(suspension) = Suspension::parse(statement) else {
        return false;
    };
    let target = match suspension.target {
        Target::All => None,
        Target::Kek(kek) => Some(kek),
    };
    let mut stops = state.governance().stops();
    stops.any(|(kek, _)| kek == target.as_ref())
}
