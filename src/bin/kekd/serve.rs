//! `kekd serve`: open the node, serve it, close it; and `kekd`'s own way to start the HSM worker.

use std::io;
use std::sync::Arc;

use kekd::clock::Clock;
use kekd::config::Config;
use kekd::hsm::{Hsm, WorkerCommand};
use kekd::serve::{self, Listeners, ServeError};
use kekd::{flows, systemd};
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::exit::Failure;

/// Where the worker notes that the token refused the PIN, in the state folder.
const PIN_MARK_FILE: &str = "pin-refused";

/// SIGXFSZ (signal(7)): a write beyond `LimitFSIZE`. Its default is to kill.
const SIGXFSZ: i32 = 25;

/// Opens the node, serves it until told to stop, closes it.
pub async fn serve(config: Config) -> Result<(), Failure> {
    let mut stop = Stop::new().map_err(ServeError::Signals)?;
    // What only the configuration can mend is said before the token is touched.
    serve::check_files(&config)?;
    systemd::status("opening the ledger, the audit log and the token");
    let hsm = start_hsm(&config)?;
    let node = tokio::select! {
        opened = flows::open::open(&config, hsm, Clock::System) => opened.map_err(Failure::from)?,
        () = stop.asked() => return Ok(()),
    };
    let node = Arc::new(node);
    let listeners = Listeners::bind(&config)
        .await
        .map_err(Failure::configuration)?;
    let served = serve::run(&config, &node, listeners, stop.asked()).await;
    node.close().await;
    Ok(served?)
}

/// The worker is this very program.
pub fn start_hsm(config: &Config) -> Result<Hsm, Failure> {
    let worker = WorkerCommand {
        program: std::env::current_exe().map_err(Failure::fatal)?,
        args: vec!["hsm-worker".into()],
    };
    Ok(Hsm::start(
        config.hsm.clone(),
        worker,
        config.state_dir.join(PIN_MARK_FILE),
    ))
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
