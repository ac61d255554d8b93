//! Checkpoints of the audit log: its head, signed in the HSM on a timer, after a rotation and before
//! an orderly stop, kept beside the records, and tied to the token. No record waits for this. The
//! invariant: a checkpoint is kept only once its signature was verified, and the token is told of a
//! head only after the checkpoint of it is on disk.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Mutex as AsyncMutex, Notify};
use tokio::time::{MissedTickBehavior, interval, timeout};
use tracing::{debug, warn};

use super::Node;
use crate::audit::{self, AuditError};
use crate::hsm::{DataKind, Hsm, HsmError, HsmState, KeyRef};
use crate::ledger::{PIN_LABEL, Pin};
use crate::merkle::{Head, MerkleError};
use crate::types::Sha256;

/// Longest that an orderly stop waits for its last checkpoint.
const LAST_MAX: Duration = Duration::from_secs(5);

/// Why no checkpoint was made. It is tried again at the next one's time.
#[derive(Debug, thiserror::Error)]
pub enum NotaryError {
    /// The HSM did not sign, or did not take the anchor.
    #[error("the HSM did not do its part: {0}")]
    Hsm(#[from] HsmError),
    /// What came back from the HSM is no signature by the log key.
    #[error("the HSM signed wrongly: {0}")]
    SignedWrongly(#[from] MerkleError),
    /// The log takes no checkpoint now.
    #[error(transparent)]
    Audit(#[from] AuditError),
}

/// See the head of this file.
pub(super) struct Notary {
    every: Duration,
    asked: Notify,
    /// The head that the token is known to be tied to. Held while a checkpoint is made.
    anchored: AsyncMutex<Option<Head>>,
}

impl Notary {
    /// `anchored` is the head that the token was seen to be tied to.
    pub(super) fn new(interval_ms: u64, anchored: Option<Head>) -> Self {
        Self {
            every: Duration::from_millis(interval_ms),
            asked: Notify::new(),
            anchored: AsyncMutex::new(anchored),
        }
    }

    /// Has a checkpoint made soon.
    pub(super) fn hurry(&self) {
        self.asked.notify_one();
    }
}

/// Makes checkpoints for as long as it is polled.
pub async fn keep(node: Arc<Node>) {
    let mut rounds = interval(node.notary.every);
    rounds.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut told = String::new();
    loop {
        tokio::select! {
            _ = rounds.tick() => {}
            () = node.notary.asked.notified() => {}
        }
        let trouble = match node.notarise().await {
            Ok(()) => String::new(),
            Err(why) => why.to_string(),
        };
        if trouble != told && !trouble.is_empty() {
            warn!(
                trouble,
                "no checkpoint of the audit log; one is tried again"
            );
        }
        told = trouble;
    }
}

impl Node {
    /// Signs, keeps and anchors the head of the audit log, where that is not done yet.
    pub(super) async fn notarise(&self) -> Result<(), NotaryError> {
        let mut anchored = self.notary.anchored.lock().await;
        if !matches!(self.hsm.status().state, HsmState::Ready) || !self.vigil.is_ours() {
            return Ok(());
        }
        let checkpoint = self.journal.checkpoint()?;
        let head = checkpoint.head();
        let state = self.snapshot();
        if head.size > 0 && self.journal.status().signed != Some(head) {
            let key = KeyRef::from(state.log_signing_key());
            let signature = self.hsm.sign_digest(&key, &checkpoint.digest()).await?;
            let note = checkpoint.into_note(state.log_key(), &signature)?;
            self.journal.keep(head, note).await?;
            debug!(size = head.size, "the audit log has a checkpoint");
        }
        if *anchored != Some(head) {
            // A token exchanged since the vigil's last look is told nothing.
            let pin = Pin {
                instance_id: state.instance_id(),
            };
            if self.hsm.read_data([PIN_LABEL]).await? != [[pin.to_bytes()]] {
                self.vigil.hurry();
                return Ok(());
            }
            anchor(&self.hsm, state.instance_id(), head).await?;
            *anchored = Some(head);
        }
        Ok(())
    }

    /// Records under the head that the token is known to be tied to; none before that is known.
    pub(super) async fn anchored_records(&self) -> u64 {
        let anchored = self.notary.anchored.lock().await;
        anchored.map_or(0, |head| head.size)
    }

    /// The last checkpoint, before an orderly stop.
    pub(super) async fn notarise_the_end(&self) {
        match timeout(LAST_MAX, self.notarise()).await {
            Ok(Ok(())) => {}
            Ok(Err(why)) => warn!(%why, "the newest audit records have no checkpoint"),
            Err(_) => warn!("the newest audit records have no checkpoint: the HSM is too slow"),
        }
    }
}

/// Ties the token to a head of the audit log.
pub(super) async fn anchor(hsm: &Hsm, instance_id: Sha256, head: Head) -> Result<(), HsmError> {
    let value = audit::anchor_bytes(instance_id, head);
    hsm.write_data(audit::ANCHOR_LABEL, &value, DataKind::Replace)
        .await
}
