//! [`Hsm`]: what the rest of the daemon holds. This file has its life (start, status, shutdown) and
//! what start-up asks; `work.rs` has what callers wait for, `ceremony.rs` what makes and inspects
//! keys. Nothing here loads a module or sees a PIN.

use std::path::PathBuf;
use std::sync::Arc;

use tokio::sync::watch;

use super::call::{Call, Done, Kind};
use super::error::HsmError;
use super::job::{KeyRef, KnownAnswer, WorkerCommand};
use super::process::Launcher;
use super::shared::{Shared, Stage};
use super::status::{Capabilities, HsmState, HsmStatus, Token};
use super::supervisor::Supervisor;
use crate::config::HsmConfig;
use crate::proto::worker as proto;
use crate::proto::worker::request::Op;
use crate::proto::worker::response::Result as Answered;

/// The HSM: one token, served by one worker process at a time. Cloning gives another handle on the
/// same HSM; when the last one is dropped the worker is asked to leave.
#[derive(Clone)]
pub struct Hsm(Arc<Handle>);

struct Handle {
    shared: Arc<Shared>,
    stop: watch::Sender<bool>,
}

impl Hsm {
    /// Starts the supervision and returns at once; [`Hsm::opened`] says what came of it. Must be
    /// called inside a tokio runtime with time and I/O.
    ///
    /// `pin_mark_file` is where the worker notes a refused PIN, so that no restart tries it again.
    pub fn start(config: HsmConfig, command: WorkerCommand, pin_mark_file: PathBuf) -> Self {
        let shared = Arc::new(Shared::new(config, pin_mark_file));
        let (stop, stopped) = watch::channel(false);
        let program = command.program.clone();
        match Launcher::start(command) {
            Ok(launcher) => {
                let supervisor = Supervisor::new(Arc::clone(&shared), launcher, stopped);
                tokio::spawn(supervisor.run());
            }
            Err(source) => {
                let source = Arc::new(source);
                let why = HsmError::Spawn { program, source };
                shared.publish(Stage::Refused { why });
                shared.end();
            }
        }
        Self(Arc::new(Handle { shared, stop }))
    }

    /// Waits until the token was open once, and says which it is. Returns the error that stops a
    /// start: the PIN is refused, withheld or unreadable, there is no such token, the module or the
    /// worker program cannot be used. A worker that crashes or hangs at its start is tried again
    /// for twice `hsm.admin_timeout_ms`; then that is the error.
    pub async fn opened(&self) -> Result<Token, HsmError> {
        self.shared().opened().await
    }

    /// Finds out what the token does by doing it, and remembers it for [`Hsm::status`].
    pub async fn probe(&self) -> Result<Capabilities, HsmError> {
        let call = Call {
            operation: "Probe",
            op: Op::Probe(proto::Probe {}),
            key: None,
            limit: self.shared().admin_limit(),
            kind: Kind::Repeatable,
        };
        let Answered::Probed(probed) = self.call(call).await?.answered else {
            return Err(HsmError::wrong_kind("Probe"));
        };
        let capabilities = Capabilities::from(probed);
        self.shared().keep_capabilities(&capabilities);
        Ok(capabilities)
    }

    /// Runs the test of a key that tells a failing token from a bad ciphertext. Where it passes it is
    /// kept: each later worker runs it before it uses the key, and the newest before it serves at all.
    /// False: the token gives a wrong answer.
    pub async fn set_known_answer(&self, test: KnownAnswer) -> Result<bool, HsmError> {
        self.run_known_answer(&test, Kind::Repeatable).await
    }

    /// The same for whom it is done.
    pub(super) async fn run_known_answer(
        &self,
        test: &KnownAnswer,
        kind: Kind<'_>,
    ) -> Result<bool, HsmError> {
        let call = Call {
            operation: "KnownAnswer",
            op: Op::KnownAnswer(test.into()),
            key: Some(&test.key),
            limit: self.shared().call_limit(),
            kind,
        };
        let Answered::KnownAnswered(answered) = self.call(call).await?.answered else {
            return Err(HsmError::wrong_kind("KnownAnswer"));
        };
        if answered.passed {
            self.shared().keep_known_answer(test);
        }
        Ok(answered.passed)
    }

    /// Drops the tests of a key, which later workers then do not use. The worker that serves now keeps
    /// its own.
    pub fn forget_known_answers(&self, key: &KeyRef) {
        drop(self.shared().take_known_answers(key));
    }

    /// Drops the tests of all keys but those wanted, by `CKA_ID`: later workers do not mind the absence
    /// of the others.
    pub fn keep_known_answers(&self, is_wanted: impl Fn(&[u8; 16]) -> bool) {
        self.shared().keep_known_answers(is_wanted);
    }

    /// Which worker serves now, counted from 1; `None` while none does. Never waits.
    pub fn generation(&self) -> Option<u64> {
        self.shared().serving().map(|link| link.generation)
    }

    /// Calls that are inside the worker or wait for it. Never waits.
    pub fn load(&self) -> usize {
        self.shared().load()
    }

    /// PKCS#11 sessions for work, as configured.
    pub fn sessions(&self) -> usize {
        self.shared().config.sessions
    }

    /// What can be said without asking the HSM. Never waits.
    pub fn status(&self) -> HsmStatus {
        self.shared().status()
    }

    /// Follows the state.
    pub fn changed(&self) -> watch::Receiver<HsmState> {
        self.shared().changed()
    }

    /// Refuses further calls, lets the worker close its sessions and leave, and waits for that.
    /// Calls under way are lost; stop the callers first.
    pub async fn shutdown(&self) {
        self.0.stop.send_replace(true);
        self.shared().ended().await;
    }

    pub(super) fn shared(&self) -> &Shared {
        &self.0.shared
    }

    pub(super) async fn call(&self, call: Call<'_>) -> Result<Done, HsmError> {
        self.shared().call(call).await
    }
}
