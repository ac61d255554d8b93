//! One worker process from birth to death: it opens the token, proves itself, and is killed or
//! leaves when asked. When that happens is the supervisor's to say. Invariant: nobody else has the
//! link before the token is open and a known-answer test has passed on this very worker.

use std::process::ExitStatus;
use std::sync::Arc;
use std::time::Duration;

use tokio::process::Child;
use tokio::time::timeout;
use tracing::{info, warn};

use super::error::HsmError;
use super::job::KnownAnswer;
use super::link::{Limit, Link, Outcome, Pump, Sent};
use super::loss::Loss;
use super::process::Process;
use super::shared::Shared;
use super::status::Token;
use super::watchdog::{Pings, watch};
use crate::proto::worker::request::Op;
use crate::proto::worker::response::Result as Answered;

/// How long a worker may take to leave when asked.
const LEAVE_LIMIT: Duration = Duration::from_secs(2);
/// How long to wait for the kernel to take a killed worker away. One that hangs in a device driver
/// cannot be killed; it is left behind and the next one tried.
const REAP_LIMIT: Duration = Duration::from_millis(500);
/// The test of a key, for messages.
const KNOWN_ANSWER: &str = "KnownAnswer";

/// A worker process and the link to it.
pub(super) struct Worker {
    child: Child,
    pub(super) link: Arc<Link>,
    _pump: Pump,
}

impl Worker {
    pub(super) fn start(process: Process, generation: u64, sessions: usize) -> Self {
        let (link, pump) = Link::start(process.socket, process.tray, generation, sessions);
        Self {
            child: process.child,
            link,
            _pump: pump,
        }
    }

    pub(super) fn pid(&self) -> Option<u32> {
        self.child.id()
    }

    /// Opens the token and runs the known-answer tests that passed last, until one does.
    pub(super) async fn make_ready(&self, shared: &Shared) -> Result<Token, HsmError> {
        let opened = self
            .ask(shared.open_request(), "Open", shared.admin_limit())
            .await
            .map_err(|loss| HsmError::of_early_loss(loss, &shared.config))?;
        let token = if let Answered::Opened(opened) = opened {
            Token::from(opened)
        } else if let Answered::Failure(failure) = opened {
            return Err(HsmError::of_open(failure, &shared.config));
        } else {
            return Err(HsmError::wrong_kind("Open"));
        };
        for tests in shared.newest_known_answers() {
            self.pass_one(&tests, shared).await?;
        }
        Ok(token)
    }

    /// One that passes will do: the others are run before their keys' first use. One that does not may
    /// be of a damaged key, which must not keep the token from the others.
    async fn pass_one(&self, tests: &[KnownAnswer], shared: &Shared) -> Result<(), HsmError> {
        let mut failed = None;
        for test in tests {
            match self.pass(test, shared).await? {
                Ok(()) => return Ok(()),
                Err(why) => failed = failed.or(Some(why)),
            }
        }
        failed.map_or(Ok(()), Err)
    }

    /// The outer error: the worker is lost.
    async fn pass(
        &self,
        test: &KnownAnswer,
        shared: &Shared,
    ) -> Result<Result<(), HsmError>, HsmError> {
        let answered = self
            .ask(
                Op::KnownAnswer(test.into()),
                KNOWN_ANSWER,
                shared.call_limit(),
            )
            .await
            .map_err(|loss| HsmError::of_early_loss(loss, &shared.config))?;
        Ok(Self::judge(test, answered))
    }

    fn judge(test: &KnownAnswer, answered: Answered) -> Result<(), HsmError> {
        if let Answered::KnownAnswered(answered) = answered {
            if answered.passed {
                Ok(())
            } else {
                let key = &test.key;
                let detail = format!("the key with the id {key} does not give the answer it gave");
                Err(HsmError::KnownAnswerFailed { detail })
            }
        } else if let Answered::Failure(failure) = answered {
            // Even a key that is missing now may be there when the token is back as it was.
            let error = HsmError::of_call(failure, KNOWN_ANSWER, Some(&test.key));
            let detail = error.to_string();
            Err(HsmError::KnownAnswerFailed { detail })
        } else {
            Err(HsmError::wrong_kind(KNOWN_ANSWER))
        }
    }

    /// One request before anybody else may use the link.
    async fn ask(&self, op: Op, operation: &'static str, limit: Limit) -> Result<Answered, Loss> {
        let sent = self.link.send(op, operation, None, limit);
        self.heard(sent, limit).await
    }

    async fn heard(&self, sent: Sent, limit: Limit) -> Result<Answered, Loss> {
        let outcome = match sent {
            Sent::Waiting { outcome, .. } => outcome,
            Sent::Ended(_) => return Err(self.link.ended().await),
            Sent::Unfit(error) => return Err(Loss::Garbled(error.to_string())),
        };
        tokio::select! {
            loss = watch(&self.link, limit.time, Pings::None) => Err(loss),
            outcome = outcome => match outcome {
                Ok(Outcome::Answered { answered, .. }) => Ok(answered),
                Ok(Outcome::Lost { loss, .. }) => Err(loss),
                Ok(Outcome::NotBegun) | Err(_) => Err(self.link.ended().await),
            },
        }
    }

    /// SIGKILL, which also ends a stopped process.
    pub(super) async fn kill(mut self) -> Option<ExitStatus> {
        if let Err(error) = self.child.start_kill() {
            warn!(%error, "the HSM worker cannot be killed");
        }
        self.link.lose(Loss::Died(None));
        self.reap(REAP_LIMIT).await
    }

    /// Ends the worker's input and lets it close its sessions; kills it where it does not leave.
    pub(super) async fn leave(mut self) {
        self.link.close();
        match self.reap(LEAVE_LIMIT).await {
            Some(status) => info!(%status, "the HSM worker has left"),
            None => {
                self.kill().await;
            }
        }
    }

    async fn reap(&mut self, limit: Duration) -> Option<ExitStatus> {
        match timeout(limit, self.child.wait()).await {
            Ok(Ok(status)) => Some(status),
            Ok(Err(error)) => {
                warn!(%error, "the HSM worker cannot be waited for");
                None
            }
            Err(_) => {
                warn!(?limit, "the HSM worker has not ended yet");
                None
            }
        }
    }
}
