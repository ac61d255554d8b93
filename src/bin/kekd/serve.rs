//! `kekd serve`: open the node, serve it, close it; and `kekd`'s own way to start the HSM worker.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use kekd::clock::Clock;
use kekd::config::Config;
use kekd::hsm::{Fleet, Hsm, WorkerCommand};
use kekd::program::Failure;
use kekd::serve::{self, Listeners, ServeError};
use kekd::{flows, systemd};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing::warn;

use crate::exit::{of_open, of_serve};

/// Where the worker notes that the token refused the PIN, in the state folder.
const PIN_MARK_FILE: &str = "pin-refused";

/// How long the end of the HSM workers may take: each is asked to leave for two seconds, then killed.
const HSM_CLOSE_MAX: Duration = Duration::from_secs(5);

/// SIGXFSZ (signal(7)): a write beyond `LimitFSIZE`. Its default is to kill.
const SIGXFSZ: i32 = 25;

/// Opens the node, serves it until told to stop, closes it.
pub async fn serve(config: Config) -> Result<(), Failure> {
    let mut stop = Stop::new().map_err(|error| of_serve(ServeError::Signals(error)))?;
    // What only the configuration can mend is said before the token is touched.
    serve::check_files(&config).map_err(of_serve)?;
    systemd::status("opening the ledger, the audit log and the token");
    let mark = config.state_dir.join(PIN_MARK_FILE);
    let fleet = Arc::new(Fleet::start(&config, &worker()?, &mark));
    let served = open_and_serve(&config, Arc::clone(&fleet), &mut stop).await;
    close(fleet.shutdown()).await;
    served
}

async fn open_and_serve(
    config: &Config,
    fleet: Arc<Fleet>,
    stop: &mut Stop,
) -> Result<(), Failure> {
    let node = tokio::select! {
        opened = flows::open::open(config, fleet, Clock::System) => opened.map_err(of_open)?,
        () = stop.asked() => return Ok(()),
    };
    let node = Arc::new(node);
    let listeners = Listeners::bind(config)
        .await
        .map_err(Failure::configuration)?;
    let served = serve::run(config, &node, listeners, stop.asked()).await;
    node.close().await;
    served.map_err(of_serve)
}

/// Returns when the worker is gone, however far it came: one that is left behind may still be opening
/// the token while the next kekd does, and two at once have seen an empty SoftHSM token.
pub async fn close_hsm(hsm: &Hsm) {
    close(hsm.shutdown()).await;
}

async fn close(shutdown: impl Future<Output = ()>) {
    if tokio::time::timeout(HSM_CLOSE_MAX, shutdown).await.is_err() {
        warn!("the HSM worker has not ended; it is killed with this process");
    }
}

/// Starts the worker of the primary token alone.
pub fn start_hsm(config: &Config) -> Result<Hsm, Failure> {
    Ok(Hsm::start(
        config.hsm.clone(),
        worker()?,
        config.state_dir.join(PIN_MARK_FILE),
    ))
}

/// The worker is this very program.
fn worker() -> Result<WorkerCommand, Failure> {
    Ok(WorkerCommand {
        program: std::env::current_exe().map_err(Failure::fatal)?,
        args: vec!["hsm-worker".into()],
        environment: BTreeMap::new(),
    })
}

/// What asks the daemon to stop; and what must not stop it.
struct Stop {
    terminate: Signal,
    interrupt: Signal,
    /// Listening is ignoring: the write over a limit fails with an error instead.
    _over_limit: Signal,
    /// Who reads files again listens for it too; without one, it does nothing.
    _hangup: Signal,
}

impl Stop {
    fn new() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            _over_limit: signal(SignalKind::from_raw(SIGXFSZ))?,
            _hangup: signal(SignalKind::hangup())?,
        })
    }

    async fn asked(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => (),
            _ = self.interrupt.recv() => (),
        }
    }
}
