//! The one thread that writes the log. It takes whatever waits, up to a limit, writes it with one
//! sync and answers everybody. No async here. The invariant: no caller hears of success before the
//! sync, and after a write of unknown outcome, or a panic, this process writes nothing more.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError};
use tokio::sync::{oneshot, watch};

use super::store::Store;
use super::stub::{Dropping, Stub};
use super::usage::Tally;
use super::{AuditError, Draft, Outcome};
use crate::clock::Clock;
use crate::merkle::Head;

/// How often an idle writer looks whether its files are in place and, after a refusal, whether the
/// disk takes writes again.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// What the writer is asked.
pub(super) enum Request {
    /// Write a record; tell the caller its index, where one waits.
    Record(Box<Draft>, Option<Reply>),
    /// Keep a signed checkpoint.
    Keep(Note, oneshot::Sender<Result<(), AuditError>>),
    /// Drop archived records; the draft of the record that says so.
    Drop(Box<(Dropping, Draft)>, DropReply),
    /// Write what came before, then end.
    Close,
}

/// A signed note, and the head it states.
#[derive(Debug, Clone)]
pub(super) struct Note {
    pub(super) head: Head,
    pub(super) text: String,
}

/// A record to be written, and the way back to who waits for it.
type Waiting = (Box<Draft>, Option<Reply>);

/// The way back to who has records dropped.
pub(super) type DropReply = oneshot::Sender<Result<Stub, AuditError>>;

/// What is taken from the queue at once.
#[derive(Default)]
struct Batch {
    records: Vec<Waiting>,
    notes: Vec<(Note, oneshot::Sender<Result<(), AuditError>>)>,
    drops: Vec<(Box<(Dropping, Draft)>, DropReply)>,
    is_last: bool,
}

/// The way back to a caller.
pub(super) type Reply = oneshot::Sender<Result<u64, AuditError>>;

/// Whether the log takes records.
#[derive(Debug, Clone)]
pub enum Condition {
    /// It does.
    Writable,
    /// It does not at the moment; the writer looks again once a second.
    Refusing(AuditError),
    /// It will not any more in this process: closed, or a fatal error.
    Ended(AuditError),
}

/// What others may see of the writer without waiting for it.
pub(super) struct Progress {
    pub(super) condition: watch::Sender<Condition>,
    /// The tree over the records on disk.
    pub(super) head: watch::Sender<Head>,
    /// The head of the newest checkpoint on disk.
    pub(super) signed: watch::Sender<Option<Head>>,
    /// Rounds of the writer's loop: rises at least once a second while it lives.
    pub(super) beats: AtomicU64,
    /// Records of refused connections that found no place in the queue.
    pub(super) unrecorded: AtomicU64,
}

impl Progress {
    pub(super) fn new(head: Head) -> Self {
        Self {
            condition: watch::Sender::new(Condition::Writable),
            head: watch::Sender::new(head),
            signed: watch::Sender::new(None),
            beats: AtomicU64::new(0),
            unrecorded: AtomicU64::new(0),
        }
    }

    /// Refuses for now, unless the log refuses or has ended already.
    pub(super) fn refuse(&self, why: AuditError) {
        self.condition.send_if_modified(|condition| {
            let changes = matches!(condition, Condition::Writable);
            if changes {
                tracing::error!(error = %why, "the audit log refuses records");
                *condition = Condition::Refusing(why);
            }
            changes
        });
    }

    fn accept(&self) {
        self.condition.send_if_modified(|condition| {
            let changes = matches!(condition, Condition::Refusing(_));
            if changes {
                tracing::info!("the audit log takes records again");
                *condition = Condition::Writable;
            }
            changes
        });
    }

    fn end(&self, why: AuditError) {
        if !matches!(why, AuditError::Closed) {
            let cause = std::error::Error::source(&why).map(ToString::to_string);
            tracing::error!(error = %why, cause, "the audit log failed");
        }
        self.condition.send_replace(Condition::Ended(why));
    }
}

/// The state of the thread.
pub(super) struct Writer {
    pub(super) store: Store,
    pub(super) requests: Receiver<Request>,
    pub(super) progress: Arc<Progress>,
    pub(super) node: String,
    pub(super) clock: Clock,
    pub(super) batch_len_max: usize,
    /// Days for which records are kept at least.
    pub(super) retention_days_min: u64,
}

impl Writer {
    /// Writes until closed or until an error is fatal.
    pub(super) fn run(mut self) {
        let _guard = PanicGuard(Arc::clone(&self.progress));
        // After a fatal error nothing is synced: a sync that failed must not be tried again.
        let closed = self.write_until_closed().and_then(|()| {
            let copied = self.store.checkpoint();
            self.tidy(copied)
        });
        if closed.is_ok() {
            self.progress.end(AuditError::Closed);
        }
    }

    fn write_until_closed(&mut self) -> Result<(), AuditError> {
        let mut batch = Batch::default();
        // What an earlier process dropped and did not sweep.
        let mut is_sweeping = true;
        while !batch.is_last {
            self.progress.beats.fetch_add(1, Ordering::Relaxed);
            let wait = match is_sweeping {
                true => Duration::ZERO,
                false => LOOK_INTERVAL,
            };
            match self.requests.recv_timeout(wait) {
                Ok(first) => {
                    self.collect(first, &mut batch);
                    self.write(&mut batch.records)?;
                    self.keep(&mut batch.notes)?;
                    is_sweeping |= self.drop_archived(&mut batch.drops)?;
                    let copied = self.store.checkpoint_when_due();
                    self.tidy(copied)?;
                }
                Err(RecvTimeoutError::Timeout) if is_sweeping => {}
                Err(RecvTimeoutError::Timeout) => self.look()?,
                Err(RecvTimeoutError::Disconnected) => batch.is_last = true,
            }
            if is_sweeping {
                is_sweeping = self.sweep()?;
            }
        }
        Ok(())
    }

    /// Takes what waits, up to the limit.
    fn collect(&self, first: Request, batch: &mut Batch) {
        let more = self.requests.try_iter();
        for request in std::iter::once(first).chain(more) {
            match request {
                Request::Record(draft, reply) => batch.records.push((draft, reply)),
                Request::Keep(note, reply) => batch.notes.push((note, reply)),
                Request::Drop(wanted, reply) => batch.drops.push((wanted, reply)),
                Request::Close => batch.is_last = true,
            }
            if batch.is_last || batch.records.len() >= self.batch_len_max {
                break;
            }
        }
    }

    /// Keeps signed notes, of which one comes a minute.
    fn keep(
        &self,
        notes: &mut Vec<(Note, oneshot::Sender<Result<(), AuditError>>)>,
    ) -> Result<(), AuditError> {
        for (note, reply) in notes.drain(..) {
            let kept = self.store.keep(note.head.size, &note.text);
            if kept.is_ok() {
                self.progress.signed.send_replace(Some(note.head));
            }
            let settled = self.settle(kept.clone());
            drop(reply.send(kept));
            settled?;
        }
        Ok(())
    }

    /// Drops archived records, which happens a few times a year; whether there are rows to sweep.
    fn drop_archived(
        &mut self,
        drops: &mut Vec<(Box<(Dropping, Draft)>, DropReply)>,
    ) -> Result<bool, AuditError> {
        let mut some = false;
        for (wanted, reply) in drops.drain(..) {
            let (wanted, draft) = *wanted;
            let (now, days) = (self.clock.now(), self.retention_days_min);
            let dropped = self
                .store
                .drop_archived(&wanted, draft, days, now, &self.node);
            self.progress.head.send_replace(self.store.head());
            some |= dropped.is_ok();
            let shown = match &dropped {
                // The log is as well as it was.
                Ok(_) | Err(AuditError::NotDropped(_)) => Ok(()),
                Err(error) => Err(error.clone()),
            };
            let settled = match shown {
                Ok(()) => Ok(()),
                failed => self.settle(failed),
            };
            drop(reply.send(dropped));
            settled?;
        }
        Ok(some)
    }

    /// Removes some rows that were dropped; whether to go on. A disk too full for it costs no record: the
    /// next start goes on.
    fn sweep(&mut self) -> Result<bool, AuditError> {
        let swept = self.store.sweep();
        let more = *swept.as_ref().unwrap_or(&false);
        self.tidy(swept.map(drop))?;
        if more {
            let copied = self.store.checkpoint_when_due();
            self.tidy(copied)?;
        }
        Ok(more)
    }

    /// Writes the batch with one sync, then answers all who wait. Leaves the batch empty. On a full
    /// disk the refusals in it are written in the space put by.
    fn write(&mut self, batch: &mut Vec<Waiting>) -> Result<(), AuditError> {
        if let Err(on_reserve) = self.store.require_room_for_releases() {
            turn_away_releases(batch, &on_reserve);
        }
        if batch.is_empty() {
            return Ok(());
        }
        let (mut first, mut appended) = self.append(batch);
        if let Err(full) = &appended
            && self.store.fall_back_on_reserve(full)
        {
            turn_away_releases(batch, full);
            (first, appended) = match batch.is_empty() {
                true => (first, appended),
                false => self.append(batch),
            };
        }
        self.progress.head.send_replace(self.store.head());
        // A refusal that was written says nothing of releases.
        let shown = appended
            .clone()
            .and_then(|()| self.store.require_room_for_releases());
        // Before anyone is answered, so that a caller who is refused can see why.
        let settled = self.settle(shown);
        for (index, (_, reply)) in (first..).zip(batch.drain(..)) {
            if let Some(reply) = reply {
                // A caller that gave up is no concern of the log.
                drop(reply.send(appended.clone().map(|()| index)));
            }
        }
        settled
    }

    /// Writes the batch under the next indexes; the first of them, and how it went.
    fn append(&mut self, batch: &[Waiting]) -> (u64, Result<(), AuditError>) {
        let first = self.store.next_index();
        let time = self.clock.now();
        let records: Vec<_> = (first..)
            .zip(batch)
            .map(|(index, (draft, _))| draft.encode(index, time, &self.node))
            .collect();
        let mut released = Tally::default();
        for (draft, _) in batch {
            if draft.outcome == Outcome::Released {
                released.count(&draft.keypair_id, &draft.caller, time);
            }
        }
        (first, self.store.append(&records, time, &released))
    }

    /// What an idle writer does: an unlinked file is noticed before the next call, and a disk that
    /// has space again is used again although a node that is not ready gets no calls.
    fn look(&mut self) -> Result<(), AuditError> {
        let is_writable = matches!(*self.progress.condition.borrow(), Condition::Writable);
        let found = if is_writable {
            self.store.require_in_place()
        } else {
            self.store.probe()
        };
        self.settle(found)
    }

    /// Takes note of how a checkpoint went. One that did not happen costs no record and is tried
    /// again after the next batch; a disk too full for it will refuse a record soon.
    fn tidy(&self, outcome: Result<(), AuditError>) -> Result<(), AuditError> {
        match outcome {
            Err(fatal) if fatal.is_fatal() => self.settle(Err(fatal)),
            Ok(()) | Err(_) => Ok(()),
        }
    }

    /// Shows how a write went. Only a fatal error is handed on.
    fn settle(&self, outcome: Result<(), AuditError>) -> Result<(), AuditError> {
        match outcome {
            Ok(()) => self.progress.accept(),
            Err(fatal) if fatal.is_fatal() => {
                // Seen by callers before they hear of it.
                self.progress.end(fatal.clone());
                return Err(fatal);
            }
            Err(why) => self.progress.refuse(why),
        }
        Ok(())
    }
}

/// Answers those who wait for a release, and takes them out of the batch.
fn turn_away_releases(batch: &mut Vec<Waiting>, why: &AuditError) {
    for (_, reply) in batch.extract_if(.., |(draft, _)| draft.outcome == Outcome::Released) {
        if let Some(reply) = reply {
            drop(reply.send(Err(why.clone())));
        }
    }
}

/// Ends the log when the writer panics: what the panic interrupted has an unknown outcome.
struct PanicGuard(Arc<Progress>);

impl Drop for PanicGuard {
    fn drop(&mut self) {
        if thread::panicking() {
            self.0.end(AuditError::WriterPanicked);
        }
    }
}

#[cfg(test)]
#[expect(clippy::panic, reason = "a test here is about a panic")]
mod tests {
    use super::*;
    use crate::merkle::Frontier;

    #[test]
    fn a_panic_of_the_writer_ends_the_log() {
        let progress = Arc::new(Progress::new(Frontier::default().head()));
        let guard = PanicGuard(Arc::clone(&progress));
        let panicked = thread::spawn(move || {
            let _guard = guard;
            panic!("on purpose");
        })
        .join();
        assert!(panicked.is_err());
        let seen = progress.condition.borrow().clone();
        assert!(matches!(seen, Condition::Ended(AuditError::WriterPanicked)));
        assert!(AuditError::WriterPanicked.is_fatal());
    }

    #[test]
    fn what_has_ended_does_not_come_back() {
        let progress = Progress::new(Frontier::default().head());
        progress.end(AuditError::WriterPanicked);
        progress.accept();
        progress.refuse(AuditError::Busy { queue_len_max: 1 });
        let seen = progress.condition.subscribe().borrow().clone();
        assert!(matches!(seen, Condition::Ended(AuditError::WriterPanicked)));
    }
}
