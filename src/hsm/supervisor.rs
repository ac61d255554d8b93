//! Keeps one worker process serving: starts it, has it open the token, watches it, replaces it.
//! One task per HSM. Invariants: never two workers that may both be at work; no login after a
//! refused PIN; no call is served before the known-answer test has passed on this very worker.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use tokio::sync::watch as signal;
use tracing::{error, info, warn};

use super::error::HsmError;
use super::life::Worker;
use super::loss::Loss;
use super::process::Launcher;
use super::shared::{Shared, Stage};
use super::watchdog::{Pings, watch};

/// The pause after the first failed start; it doubles with each further one.
const PAUSE_MIN: Duration = Duration::from_millis(100);
/// The longest pause: a token that comes back is in use again at most this much later.
const PAUSE_MAX: Duration = Duration::from_secs(10);
/// A worker that lived longer is replaced without a pause. One that died sooner, though it served,
/// may have died of a request that is sent again and again; each start costs the token a login.
const SETTLED: Duration = Duration::from_secs(5);

/// What follows the end of a worker.
enum Sequel {
    /// The next one, after this pause.
    After(Duration),
    /// None, and calls are refused until shut down.
    Never,
    /// None; the HSM is shut down.
    End,
}

/// How the life of one worker ended.
enum Ending {
    /// As asked.
    ShutDown,
    /// It had the token open, and served calls or lived long.
    Served { loss: Loss, lived: Duration },
    /// It had the token open and did nothing with it.
    Idle(Loss),
    /// It did not get the token open.
    Failed(HsmError),
}

/// The supervision of one HSM.
pub(super) struct Supervisor {
    shared: Arc<Shared>,
    launcher: Launcher,
    /// True, or its sender gone: shut down.
    stop: signal::Receiver<bool>,
    generation: u64,
    /// Workers in a row that gave no service.
    failures: u32,
}

impl Supervisor {
    pub(super) const fn new(
        shared: Arc<Shared>,
        launcher: Launcher,
        stop: signal::Receiver<bool>,
    ) -> Self {
        Self {
            shared,
            launcher,
            stop,
            generation: 0,
            failures: 0,
        }
    }

    /// Runs until shut down.
    pub(super) async fn run(mut self) {
        loop {
            let ending = self.one_worker().await;
            self.shared.worker_pid.store(0, Ordering::Relaxed);
            match self.judge(ending) {
                Sequel::After(pause) => tokio::select! {
                    () = stopped(&mut self.stop) => return,
                    () = tokio::time::sleep(pause) => {}
                },
                Sequel::Never => return stopped(&mut self.stop).await,
                Sequel::End => return,
            }
        }
    }

    fn judge(&mut self, ending: Ending) -> Sequel {
        match ending {
            Ending::ShutDown => Sequel::End,
            Ending::Served { loss, lived } => {
                warn!(%loss, "the HSM worker is replaced");
                self.failures = 0;
                Sequel::After(if lived < SETTLED {
                    jittered(PAUSE_MIN)
                } else {
                    Duration::ZERO
                })
            }
            // Once is an accident. Calls wait for the next worker, as after one that served.
            Ending::Idle(loss) if self.failures == 0 => {
                warn!(%loss, "the HSM worker is replaced");
                self.failures = 1;
                Sequel::After(jittered(PAUSE_MIN))
            }
            Ending::Failed(why) if why.ends_logins() => {
                error!(%why, "no further login is tried until kekd is started again");
                self.shared.publish(Stage::Refused { why });
                Sequel::Never
            }
            Ending::Idle(loss) => Sequel::After(self.fail(HsmError::NoService(loss))),
            Ending::Failed(why) => Sequel::After(self.fail(why)),
        }
    }

    fn fail(&mut self, why: HsmError) -> Duration {
        self.failures = self.failures.saturating_add(1);
        let pause = jittered(pause_after(self.failures));
        warn!(%why, failures = self.failures, ?pause, "the HSM is not available");
        self.shared.publish(Stage::Unavailable { why });
        pause
    }

    /// From start to end of one worker process.
    async fn one_worker(&mut self) -> Ending {
        self.generation = self.generation.saturating_add(1);
        let process = match self.launcher.launch().await {
            Ok(process) => process,
            Err(why) => return Ending::Failed(why),
        };
        let worker = Worker::start(process, self.generation, self.shared.config.sessions);
        let pid = worker.pid().unwrap_or(0);
        self.shared.worker_pid.store(pid, Ordering::Relaxed);
        if self.generation > 1 {
            self.shared.worker_restarts.fetch_add(1, Ordering::Relaxed);
        }
        let opened = tokio::select! {
            opened = worker.make_ready(&self.shared) => opened,
            () = stopped(&mut self.stop) => {
                worker.leave().await;
                return Ending::ShutDown;
            }
        };
        let token = match opened {
            Ok(token) => token,
            Err(why) => {
                let status = worker.kill().await;
                return Ending::Failed(why.with_exit_status(status));
            }
        };
        let begun = Instant::now();
        let answered_before = worker.link.answered();
        info!(pid, label = %token.label, serial = %token.serial, "the token is open");
        self.shared.publish_ready(token, &worker.link);
        let loss = tokio::select! {
            loss = watch(&worker.link, self.shared.call_limit().time, Pings::Sent) => loss,
            () = stopped(&mut self.stop) => {
                self.shared.publish(Stage::ShutDown);
                worker.leave().await;
                return Ending::ShutDown;
            }
        };
        // At once, so that calls wait for the next worker while this one is killed.
        self.shared.publish(Stage::Starting);
        let lived = begun.elapsed();
        let has_served = worker.link.answered() > answered_before || lived > SETTLED;
        let loss = loss.with_exit_status(worker.kill().await);
        if matches!(loss, Loss::LoginRefused(_)) {
            Ending::Failed(HsmError::of_early_loss(loss, &self.shared.config))
        } else if has_served {
            Ending::Served { loss, lived }
        } else {
            Ending::Idle(loss)
        }
    }
}

impl Drop for Supervisor {
    /// However the supervision ends, nobody waits for it any longer.
    fn drop(&mut self) {
        self.shared.publish(Stage::ShutDown);
        self.shared.end();
    }
}

/// Waits for the order to shut down.
async fn stopped(stop: &mut signal::Receiver<bool>) {
    // An error says that nobody holds the HSM any more, which is the same order.
    drop(stop.wait_for(|stop| *stop).await);
}

fn pause_after(failures: u32) -> Duration {
    let doublings = failures.saturating_sub(1).min(16);
    PAUSE_MIN
        .saturating_mul(2_u32.saturating_pow(doublings))
        .min(PAUSE_MAX)
}

/// Between half and all of `pause`, so that many daemons do not start at the same moment.
fn jittered(pause: Duration) -> Duration {
    let mut bytes = [0; 2];
    let half = pause / 2;
    if aws_lc_rs::rand::fill(&mut bytes).is_err() {
        return pause;
    }
    half.saturating_add(half.mul_f64(f64::from(u16::from_be_bytes(bytes)) / f64::from(u16::MAX)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_a_limit() {
        let pauses: Vec<_> = [1, 2, 3, 7, 8, 1000].map(pause_after).into();
        let expected = [100, 200, 400, 6_400, 10_000, 10_000].map(Duration::from_millis);
        assert_eq!(pauses, expected);
    }

    #[test]
    fn jitter_stays_between_half_and_all() {
        for _ in 0..1000 {
            let pause = jittered(PAUSE_MAX);
            assert!(pause >= PAUSE_MAX / 2 && pause <= PAUSE_MAX, "{pause:?}");
        }
    }
}
