//! The audit log as the rest of kekd sees it: record, and release what was sealed. No SQL and no
//! files here. The invariant: `Sealed::open` is called in one place, after the sync.

use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use aws_lc_rs::{hmac, rand};
use crossbeam_channel::{Sender, TrySendError};
use tokio::sync::{oneshot, watch};
use tokio::time;
use zeroize::Zeroizing;

use super::files;
use super::judge::{Judged, judge, origin};
use super::store::{self, Store};
use super::usage::UsageOnDisk;
use super::writer::{Condition, Note, Progress, Request, Writer};
use super::{AuditError, AuditReader, Draft, Outcome, Sealed, Stub, Unavailable, Usage};
use crate::clock::Clock;
use crate::config::AuditConfig;
use crate::merkle::{Checkpoint, Head, LogKey};
use crate::types::{KeypairId, Sha256, WrappedDek};

/// The open audit log. Clones share it; the writer ends when it is closed or the last one drops.
#[derive(Clone)]
pub struct Journal {
    requests: Sender<Request>,
    progress: Arc<Progress>,
    usage: Arc<UsageOnDisk>,
    reader: Arc<AuditReader>,
    instance_id: Sha256,
    path: PathBuf,
    digest_key: Arc<hmac::Key>,
    thread: Arc<Mutex<Option<JoinHandle<()>>>>,
    queue_len_max: usize,
    sync_timeout_ms: u64,
}

/// A value whose release is on record.
pub struct Released<T> {
    /// What was sealed.
    pub value: T,
    /// The index of its record.
    pub record_index: u64,
}

/// The state of the log.
#[derive(Debug, Clone)]
pub struct JournalStatus {
    /// Number of records on disk, and the root over them.
    pub head: Head,
    /// The same at the newest checkpoint.
    pub signed: Option<Head>,
    /// Whether it takes records.
    pub writable: bool,
    /// Why it does not, for the operator.
    pub why_not: Option<String>,
    /// Records of refused connections that found no place in the queue, since the start.
    pub unrecorded: u64,
    /// Rises at least once a second while the writer lives; for the watchdog.
    pub beats: u64,
}

impl Journal {
    /// Makes the log of an instance, with a new digest key. Called by `kekd init` and by nobody
    /// else. The file is whole and durable on return; an existing one is refused.
    pub fn create(state_dir: &Path, instance_id: &Sha256) -> Result<(), AuditError> {
        let mut key = Zeroizing::new([0; 32]);
        rand::fill(key.as_mut_slice()).map_err(|_| {
            let failed = std::io::Error::other("the system's random generator failed");
            AuditError::io(state_dir, "make a digest key for it", failed)
        })?;
        store::create(state_dir, instance_id, &key)
    }

    /// Refuses where there is a log already, or what one left. To be asked before keys are made.
    pub fn require_none(state_dir: &Path) -> Result<(), AuditError> {
        files::require_none(state_dir)
    }

    /// Opens the log of an instance and starts its writer. Never creates; refuses the log of
    /// another instance, one that another process has open, and one whose newest records do not
    /// follow one another. `node` is this node's name in records.
    pub fn open(
        state_dir: &Path,
        instance_id: &Sha256,
        node: String,
        config: AuditConfig,
        clock: Clock,
    ) -> Result<Self, AuditError> {
        let (store, digest_key) = Store::open(state_dir, instance_id)?;
        // A queue of none could take nothing and a batch of none would write nothing.
        let queue_len_max = config.queue_len_max.max(1);
        let (requests, receiver) = crossbeam_channel::bounded(queue_len_max);
        let progress = Arc::new(Progress::new(store.head()));
        let usage = store.usage();
        let reader = Arc::new(store.reader()?);
        let writer = Writer {
            store,
            requests: receiver,
            progress: Arc::clone(&progress),
            node,
            clock,
            batch_len_max: config.batch_len_max.clamp(1, queue_len_max),
            retention_days_min: config.retention_days_min,
        };
        let thread = thread::Builder::new()
            .name("audit-writer".to_owned())
            .spawn(move || writer.run())
            .map_err(|source| AuditError::ThreadNotStarted(Arc::new(source)))?;
        Ok(Self {
            requests,
            progress,
            usage,
            reader,
            instance_id: *instance_id,
            path: files::path_in(state_dir),
            digest_key: Arc::new(hmac::Key::new(hmac::HMAC_SHA256, digest_key.as_slice())),
            thread: Arc::new(Mutex::new(Some(thread))),
            queue_len_max,
            sync_timeout_ms: config.sync_timeout_ms,
        })
    }

    /// Records a release, whatever outcome the draft names, and then opens the seal. This is the
    /// commit point of an unwrap; the module's text says what a crash before and after it does.
    ///
    /// On an error the sealed value is dropped unopened. A future dropped half-way releases nothing
    /// either, but its record may be written.
    pub async fn record_and_release<T>(
        &self,
        mut draft: Draft,
        sealed: Sealed<T>,
    ) -> Result<Released<T>, AuditError> {
        draft.outcome = Outcome::Released;
        let record_index = self.write(draft).await?;
        // The record is on disk.
        Ok(Released {
            value: sealed.open(),
            record_index,
        })
    }

    /// Records an attempt that released nothing. Returns the index of the record, which is on disk.
    pub async fn record(&self, draft: Draft) -> Result<u64, AuditError> {
        self.write(draft).await
    }

    /// Records a refused connection if there is a place in the queue, without waiting. What finds
    /// none is counted in [`JournalStatus::unrecorded`]. The caller limits the rate.
    pub fn try_record(&self, draft: Draft) {
        let request = Request::Record(Box::new(draft), None);
        if self.requests.try_send(request).is_err() {
            self.progress.unrecorded.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// HMAC-SHA-256 (RFC 2104) of a wrapped DEK under the log's own key, 32 bytes: equal wrapped
    /// DEKs can be found in the log, and the log alone does not let anyone test a guess.
    pub fn digest(&self, wrapped: &WrappedDek) -> Sha256 {
        let tag = hmac::sign(&self.digest_key, wrapped.as_bytes());
        let mut out = [0; 32];
        out.copy_from_slice(tag.as_ref());
        out.into()
    }

    /// What the records of this node say of the use of a key pair: durable, and whole for every
    /// release that was answered. Never waits for the disk.
    pub fn usage(&self, keypair_id: &KeypairId) -> Usage {
        self.usage.of(keypair_id)
    }

    /// The same by each caller that was given a DEK, by name. As many as ever held a grant.
    pub fn usage_by_caller(&self, keypair_id: &KeypairId) -> Vec<(String, Usage)> {
        self.usage.by_caller(keypair_id)
    }

    /// Judges the log as it was opened, before anything is recorded: by its newest checkpoint, which
    /// `key` must have signed, and by the values of all the token's data objects with the label
    /// [`super::ANCHOR_LABEL`]. Blocks on the disk.
    pub fn judge(&self, key: &LogKey, anchors: &[Vec<u8>]) -> Result<Judged, AuditError> {
        let size = self.head().size;
        let judged = judge(
            &self.reader,
            size,
            self.instance_id,
            key,
            anchors,
            &self.path,
        )?;
        self.progress.signed.send_replace(judged.signed);
        Ok(judged)
    }

    /// Number of records on disk, and the root over them. Never waits.
    pub fn head(&self) -> Head {
        *self.progress.head.borrow()
    }

    /// Follows [`Journal::head`].
    pub fn heads(&self) -> watch::Receiver<Head> {
        self.progress.head.subscribe()
    }

    /// What the log would say of itself now: to be signed, and then kept.
    pub fn checkpoint(&self) -> Result<Checkpoint, AuditError> {
        Ok(Checkpoint::new(&origin(&self.instance_id), self.head())?)
    }

    /// Keeps a checkpoint durably. `note` must come of [`Checkpoint::into_note`] of this very
    /// checkpoint, so that its signature was verified.
    pub async fn keep(&self, head: Head, note: String) -> Result<(), AuditError> {
        let (reply, answer) = oneshot::channel();
        let text = note;
        let request = Request::Keep(Note { head, text }, reply);
        self.requests
            .try_send(request)
            .map_err(|refused| self.not_taken(&refused))?;
        let timeout_ms = self.sync_timeout_ms;
        match time::timeout(self.sync_timeout(), answer).await {
            Ok(answer) => answer.unwrap_or_else(|_| Err(self.ended())),
            Err(_) => Err(AuditError::TimedOut { timeout_ms }),
        }
    }

    /// Drops records that an auditor has archived, once their age allows it, and writes the record of it,
    /// which `draft` begins. Asked again, it answers as before. The rows are removed afterwards.
    pub async fn drop_archived(
        &self,
        wanted: super::Dropping,
        mut draft: Draft,
    ) -> Result<Stub, AuditError> {
        draft.outcome = Outcome::RecordsArchived;
        let (reply, answer) = oneshot::channel();
        self.requests
            .try_send(Request::Drop(Box::new((wanted, draft)), reply))
            .map_err(|refused| self.not_taken(&refused))?;
        let timeout_ms = self.sync_timeout_ms;
        match time::timeout(self.sync_timeout(), answer).await {
            Ok(answer) => answer.unwrap_or_else(|_| Err(self.ended())),
            Err(_) => Err(AuditError::TimedOut { timeout_ms }),
        }
    }

    /// Reads the log beside its writer. Blocks on the disk.
    pub fn reader(&self) -> Arc<AuditReader> {
        Arc::clone(&self.reader)
    }

    /// The state of the log. Never waits for the disk.
    pub fn status(&self) -> JournalStatus {
        let why_not = match &*self.progress.condition.borrow() {
            Condition::Writable => None,
            Condition::Refusing(why) | Condition::Ended(why) => Some(why.to_string()),
        };
        JournalStatus {
            head: self.head(),
            signed: *self.progress.signed.borrow(),
            writable: why_not.is_none(),
            why_not,
            unrecorded: self.progress.unrecorded.load(Ordering::Relaxed),
            beats: self.progress.beats.load(Ordering::Relaxed),
        }
    }

    /// Follows whether the log takes records.
    pub fn changed(&self) -> watch::Receiver<Condition> {
        self.progress.condition.subscribe()
    }

    /// Waits until the log has ended and says why: [`AuditError::Closed`], or a fatal error after
    /// which the node must stop.
    pub async fn failed(&self) -> AuditError {
        let mut condition = self.changed();
        let ended = condition
            .wait_for(|condition| matches!(condition, Condition::Ended(_)))
            .await;
        match ended.as_deref() {
            Ok(Condition::Ended(why)) => why.clone(),
            Ok(Condition::Writable | Condition::Refusing(_)) | Err(_) => AuditError::Closed,
        }
    }

    /// Writes what waits, closes the file and ends the writer. Later records are refused with
    /// [`AuditError::Closed`]. An error says that the log had failed, or that the disk did not
    /// answer within `audit.sync_timeout_ms`.
    pub async fn close(self) -> Result<(), AuditError> {
        let (requests, timeout) = (self.requests.clone(), self.sync_timeout());
        // Refused only where the writer has ended already, or hangs, which is found out below.
        let sent = move || requests.send_timeout(Request::Close, timeout).is_ok();
        let _asked = tokio::task::spawn_blocking(sent).await;
        match time::timeout(self.sync_timeout(), self.failed()).await {
            Ok(AuditError::Closed) => {}
            Ok(why) => return Err(why),
            Err(_) => {
                let timeout_ms = self.sync_timeout_ms;
                return Err(AuditError::TimedOut { timeout_ms });
            }
        }
        // The thread has nothing left to do but to close the file.
        let thread = Arc::clone(&self.thread);
        let joined = tokio::task::spawn_blocking(move || {
            let thread = thread.lock().unwrap_or_else(PoisonError::into_inner).take();
            thread.is_none_or(|thread| thread.join().is_ok())
        });
        match joined.await {
            Ok(true) => Ok(()),
            Ok(false) | Err(_) => Err(AuditError::WriterPanicked),
        }
    }

    async fn write(&self, draft: Draft) -> Result<u64, AuditError> {
        let (reply, answer) = oneshot::channel();
        let request = Request::Record(Box::new(draft), Some(reply));
        self.requests
            .try_send(request)
            .map_err(|refused| self.not_taken(&refused))?;
        // A writer that ends leaves what still waits unanswered.
        let answered = async {
            tokio::select! {
                biased;
                answer = answer => answer.unwrap_or_else(|_| Err(self.ended())),
                why = self.failed() => Err(why),
            }
        };
        time::timeout(self.sync_timeout(), answered)
            .await
            .unwrap_or_else(|_| {
                let timeout_ms = self.sync_timeout_ms;
                let slow = Unavailable::SyncSlow { timeout_ms };
                self.progress.refuse(AuditError::Unavailable(slow));
                Err(AuditError::TimedOut { timeout_ms })
            })
    }

    fn not_taken(&self, refused: &TrySendError<Request>) -> AuditError {
        match refused {
            TrySendError::Full(_) => AuditError::Busy {
                queue_len_max: self.queue_len_max,
            },
            TrySendError::Disconnected(_) => self.ended(),
        }
    }

    const fn sync_timeout(&self) -> Duration {
        Duration::from_millis(self.sync_timeout_ms)
    }

    /// Why the writer is gone.
    fn ended(&self) -> AuditError {
        match &*self.progress.condition.borrow() {
            Condition::Ended(why) => why.clone(),
            Condition::Writable | Condition::Refusing(_) => AuditError::Closed,
        }
    }
}

/// Reads records back: from index `from` on, at most `limit` and at most 4096, each with its index
/// and the exact bytes of its `kekd.v1.Record`. Blocks on the disk; works beside a running writer
/// and on the log of a stopped node.
pub fn read(state_dir: &Path, from: u64, limit: usize) -> Result<Vec<(u64, Vec<u8>)>, AuditError> {
    store::read(state_dir, from, limit)
}
