//! What the supervisor tells those who call, and the little they tell it. Locks here are held for
//! a copy and never across an await, so reading the status never waits for an HSM.

use std::collections::{HashMap, VecDeque};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio::time::{timeout, timeout_at};

use super::error::HsmError;
use super::job::{KeyRef, KnownAnswer};
use super::line::Line;
use super::link::{Limit, Link};
use super::status::{Capabilities, HsmState, HsmStatus, Token};
use crate::config::HsmConfig;
use crate::proto::worker::Open;
use crate::proto::worker::request::Op;
use crate::types::Padding;

/// Calls that may be at the door of the worker: let in beyond its sessions, so that the one that comes
/// free first has its next call at once. By when the next comes free, another is there.
const AT_DOOR_MAX: usize = 1;
/// Tests by which a new worker is judged, of keys that decrypt and of keys that unwrap: one key may be
/// damaged, hardly so many.
const WITNESSES_MAX: usize = 4;

/// [`HsmState`], with the link that serves.
#[derive(Clone)]
pub(super) enum Stage {
    Starting,
    Ready(Arc<Link>),
    Unavailable { why: HsmError },
    Refused { why: HsmError },
    ShutDown,
}

/// Shared by the supervisor and the callers.
pub(super) struct Shared {
    pub(super) config: HsmConfig,
    pub(super) pin_mark_file: PathBuf,
    pub(super) line: Arc<Line>,
    pub(super) worker_restarts: AtomicU64,
    /// 0: no worker.
    pub(super) worker_pid: AtomicU32,
    stage: watch::Sender<Stage>,
    state: watch::Sender<HsmState>,
    ended: watch::Sender<bool>,
    remembered: Mutex<Remembered>,
}

#[derive(Default)]
struct Remembered {
    token: Option<Token>,
    capabilities: Option<Capabilities>,
    /// Those that passed once, one for each key and padding.
    known_answers: HashMap<([u8; 16], Padding), KnownAnswer>,
    /// Those that passed last, of keys that differ, the newest last.
    newest: VecDeque<([u8; 16], Padding)>,
}

impl Shared {
    pub(super) fn new(config: HsmConfig, pin_mark_file: PathBuf) -> Self {
        Self {
            line: Line::new(
                config.sessions.saturating_add(AT_DOOR_MAX),
                config.queue_len_max,
            ),
            config,
            pin_mark_file,
            worker_restarts: AtomicU64::new(0),
            worker_pid: AtomicU32::new(0),
            stage: watch::Sender::new(Stage::Starting),
            state: watch::Sender::new(HsmState::Starting),
            ended: watch::Sender::new(false),
            remembered: Mutex::default(),
        }
    }

    /// The limit of the calls that callers wait for.
    pub(super) const fn call_limit(&self) -> Limit {
        Limit {
            time: Duration::from_millis(self.config.call_timeout_ms),
            setting: "hsm.call_timeout_ms",
        }
    }

    /// The limit of all other calls.
    pub(super) const fn admin_limit(&self) -> Limit {
        Limit {
            time: Duration::from_millis(self.config.admin_timeout_ms),
            setting: "hsm.admin_timeout_ms",
        }
    }

    pub(super) fn publish(&self, stage: Stage) {
        let state = match &stage {
            Stage::Starting => HsmState::Starting,
            Stage::Ready(_) => HsmState::Ready,
            Stage::Unavailable { why } => HsmState::Unavailable { why: why.clone() },
            Stage::Refused { why } => HsmState::Refused { why: why.clone() },
            Stage::ShutDown => HsmState::ShutDown,
        };
        self.stage.send_replace(stage);
        self.state.send_replace(state);
    }

    pub(super) fn publish_ready(&self, token: Token, link: &Arc<Link>) {
        self.remembered().token = Some(token);
        self.publish(Stage::Ready(Arc::clone(link)));
    }

    /// The token, once it was open; or the error that stops a start. A worker that hangs or dies
    /// gets a second chance, and no third: whoever starts a daemon is to hear what is wrong.
    pub(super) async fn opened(&self) -> Result<Token, HsmError> {
        let limit = self.admin_limit().time.saturating_mul(2);
        timeout(limit, self.first_opened())
            .await
            .unwrap_or_else(|_| {
                Err(HsmError::NotOpened {
                    module: self.config.module.clone(),
                    limit_ms: u64::try_from(limit.as_millis()).unwrap_or(u64::MAX),
                    latest: match &*self.stage.borrow() {
                        Stage::Unavailable { why, .. } => why.to_string(),
                        Stage::Starting
                        | Stage::Ready(_)
                        | Stage::Refused { .. }
                        | Stage::ShutDown => "the worker process has not answered".to_owned(),
                    },
                })
            })
    }

    async fn first_opened(&self) -> Result<Token, HsmError> {
        let mut stage = self.stage.subscribe();
        loop {
            if let Some(token) = self.remembered().token.clone() {
                return Ok(token);
            }
            match stage.borrow_and_update().clone() {
                Stage::Refused { why } => return Err(why),
                Stage::Unavailable { why, .. } if why.ends_start() => return Err(why),
                Stage::ShutDown => return Err(HsmError::ShutDown),
                Stage::Starting | Stage::Ready(_) | Stage::Unavailable { .. } => {}
            }
            if stage.changed().await.is_err() {
                return Err(HsmError::ShutDown);
            }
        }
    }

    /// The link of a worker newer than `generation` that serves. Waits for one that is being
    /// started; where none is in sight the reason is the answer.
    pub(super) async fn link(
        &self,
        generation: u64,
        deadline: Instant,
    ) -> Result<Arc<Link>, HsmError> {
        let mut stage = self.stage.subscribe();
        loop {
            match stage.borrow_and_update().clone() {
                Stage::Ready(link) if link.generation > generation => return Ok(link),
                Stage::Ready(_) | Stage::Starting => {}
                Stage::Unavailable { why, .. } | Stage::Refused { why } => return Err(why),
                Stage::ShutDown => return Err(HsmError::ShutDown),
            }
            match timeout_at(deadline.into(), stage.changed()).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) => return Err(HsmError::ShutDown),
                Err(_) => return Err(HsmError::DeadlineExceeded),
            }
        }
    }

    /// The link of the worker that serves now, if one does.
    pub(super) fn serving(&self) -> Option<Arc<Link>> {
        match &*self.stage.borrow() {
            Stage::Ready(link) => Some(Arc::clone(link)),
            Stage::Starting
            | Stage::Unavailable { .. }
            | Stage::Refused { .. }
            | Stage::ShutDown => None,
        }
    }

    /// Calls in the worker, whatever became of their callers, and calls that wait.
    pub(super) fn load(&self) -> usize {
        let inside = self.serving().map_or(0, |link| link.in_flight());
        self.line.clients().saturating_add(inside)
    }

    /// Calls of clients that wait for a session, in the line or at the door.
    fn queue_len(&self) -> usize {
        let at_door = self.serving().map_or(0, |link| link.clients_at_door());
        self.line.clients().saturating_add(at_door)
    }

    /// An interactive call waits: what is at the door and can give way to it waits behind it.
    pub(super) fn make_way(&self) {
        if let Some(link) = self.serving() {
            link.make_way();
        }
    }

    /// The supervisor has ended, and with it the last worker.
    pub(super) fn end(&self) {
        self.ended.send_replace(true);
    }

    /// Waits for that.
    pub(super) async fn ended(&self) {
        let mut ended = self.ended.subscribe();
        // Cannot fail: the sender is part of `self`.
        drop(ended.wait_for(|ended| *ended).await);
    }

    /// The reason why nothing can be served now or soon, where there is one.
    pub(super) fn refusal(&self) -> Result<(), HsmError> {
        match &*self.stage.borrow() {
            Stage::Starting | Stage::Ready(_) => Ok(()),
            Stage::Unavailable { why, .. } | Stage::Refused { why } => Err(why.clone()),
            Stage::ShutDown => Err(HsmError::ShutDown),
        }
    }

    /// The first request to a worker.
    pub(super) fn open_request(&self) -> Op {
        let config = &self.config;
        Op::Open(Open {
            module: config.module.display().to_string(),
            token_label: config.token_label.clone(),
            token_serial: config.token_serial.clone(),
            pin_file: config.pin_file.display().to_string(),
            pin_mark_file: self.pin_mark_file.display().to_string(),
            sessions: u32::try_from(config.sessions).unwrap_or(u32::MAX),
        })
    }

    pub(super) fn changed(&self) -> watch::Receiver<HsmState> {
        self.state.subscribe()
    }

    pub(super) fn status(&self) -> HsmStatus {
        let (token, capabilities) = {
            let remembered = self.remembered();
            (remembered.token.clone(), remembered.capabilities.clone())
        };
        let pid = self.worker_pid.load(Ordering::Relaxed);
        HsmStatus {
            state: self.state.borrow().clone(),
            token,
            capabilities,
            queue_len: self.queue_len(),
            worker_restarts: self.worker_restarts.load(Ordering::Relaxed),
            worker_pid: (pid != 0).then_some(pid),
        }
    }

    /// The tests that passed last, the newest first: what a new worker is judged by. Those of keys that
    /// decrypt, then those of keys that unwrap, since a token may do the one and not the other.
    pub(super) fn newest_known_answers(&self) -> [Vec<KnownAnswer>; 2] {
        let remembered = self.remembered();
        let tests = &remembered.known_answers;
        let newest = remembered.newest.iter().rev();
        newest
            .filter_map(|name| tests.get(name).cloned())
            .partition::<Vec<_>, _>(|test| !test.by_unwrap)
            .into()
    }

    /// The test of a key and padding, where it has passed once.
    pub(super) fn known_answer(&self, key: &KeyRef, padding: Padding) -> Option<KnownAnswer> {
        let remembered = self.remembered();
        let test = remembered.known_answers.get(&(key.object_id, padding))?;
        (test.key == *key).then(|| test.clone())
    }

    /// Keeps a test that has passed, in place of that of the same key and padding.
    pub(super) fn keep_known_answer(&self, test: &KnownAnswer) {
        let name = (test.key.object_id, test.padding);
        let mut remembered = self.remembered();
        remembered.known_answers.insert(name, test.clone());
        let Remembered {
            newest,
            known_answers,
            ..
        } = &mut *remembered;
        newest.retain(|(id, _)| *id != name.0);
        newest.push_back(name);
        let alike = |name: &_| {
            let kept = known_answers.get(name);
            kept.is_some_and(|kept| kept.by_unwrap == test.by_unwrap)
        };
        if newest.iter().filter(|name| alike(name)).count() > WITNESSES_MAX
            && let Some(oldest) = newest.iter().position(alike)
        {
            newest.remove(oldest);
        }
    }

    pub(super) fn keep_known_answers(&self, is_wanted: impl Fn(&[u8; 16]) -> bool) {
        let mut remembered = self.remembered();
        remembered.newest.retain(|(id, _)| is_wanted(id));
        let tests = &mut remembered.known_answers;
        tests.retain(|(id, _), _| is_wanted(id));
    }

    /// Drops all tests of a key, and returns them.
    pub(super) fn take_known_answers(&self, key: &KeyRef) -> Vec<KnownAnswer> {
        let mut remembered = self.remembered();
        remembered.newest.retain(|(id, _)| *id != key.object_id);
        let tests = &mut remembered.known_answers;
        let paddings = [Padding::OaepSha1, Padding::OaepSha256, Padding::Pkcs1V15];
        let of_key = paddings.map(|padding| (key.object_id, padding)).into_iter();
        of_key.filter_map(|name| tests.remove(&name)).collect()
    }

    pub(super) fn keep_capabilities(&self, capabilities: &Capabilities) {
        self.remembered().capabilities = Some(capabilities.clone());
    }

    fn remembered(&self) -> MutexGuard<'_, Remembered> {
        self.remembered
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}
