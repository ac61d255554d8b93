//! `kekd-lkm`: the front-end that a contact-centre cloud calls. It speaks the Local Key Manager
//! protocol over HTTPS, knows its callers by Hawk, and asks kekd by gRPC. It holds no key, no PIN and
//! no ledger; DEKs pass through it in memory that wipes itself. The invariants: a stranger's body is
//! not read, a request is answered once, a credential reaches its own KEKs only, and whatever is
//! wrong with a body is one answer.

mod answer;
mod bulk;
pub mod caller;
mod canary;
pub mod config;
pub mod credential_file;
pub mod credentials;
mod directory;
mod front_end;
pub mod hawk;
mod kekd;
mod local;
mod message;
mod metrics;
mod rate;
mod readiness;
mod reload;
mod server;
mod sources;
mod tls;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;
use tracing::info;

pub use front_end::FrontEnd;
pub use reload::FilesError;
pub use server::Listeners;

use crate::client::ClientError;
use crate::reload::watch;
use crate::systemd;
use config::LkmConfig;
use credentials::{Credentials, Memory};

/// How often systemd's line of status is looked at.
const STATUS_INTERVAL: Duration = Duration::from_secs(2);

/// Why the front-end does not serve.
#[derive(Debug, thiserror::Error)]
pub enum LkmError {
    /// Its files do not serve.
    #[error(transparent)]
    Files(#[from] FilesError),
    /// kekd's endpoint is none.
    #[error(transparent)]
    Endpoint(#[from] ClientError),
    /// The operating system lets us hear no signals.
    #[error("cannot listen for signals: {0}")]
    Signals(std::io::Error),
}

/// Whether the files can be used, before anything is opened.
///
/// # Errors
/// Where they do not serve.
pub fn check_files(config: &LkmConfig) -> Result<(), FilesError> {
    tls::load(&config.https)?;
    Credentials::load(&config.hawk.credentials_file, &mut Memory::new(1))?;
    Ok(())
}

/// Serves on `listeners` until `shutdown` ends. kekd need not be there: until it is, `/ready` says so
/// and callers are told to try again.
///
/// # Errors
/// Where the files do not serve.
pub async fn run(
    config: LkmConfig,
    listeners: Listeners,
    shutdown: impl Future<Output = ()>,
) -> Result<(), LkmError> {
    let mut memory = Memory::new(config.hawk.nonces_max);
    let server = tls::load(&config.https).map_err(FilesError::from)?;
    let credentials = Credentials::load(&config.hawk.credentials_file, &mut memory);
    let credentials = credentials.map_err(FilesError::from)?;
    let front_end = Arc::new(FrontEnd::new(config, credentials)?);
    let files = reload::Files::new(Arc::clone(&front_end), server, memory);
    let (tls, every) = (files.server(), files.interval());
    let hangup = signal(SignalKind::hangup()).map_err(LkmError::Signals)?;

    // Dropping these ends the tasks.
    let mut tasks = JoinSet::new();
    tasks.spawn(watch(files, every, hangup));
    tasks.spawn(canary::keep(Arc::clone(&front_end)));
    tasks.spawn(keep_status(Arc::clone(&front_end)));
    tasks.spawn(keep_watchdog());
    let begun = Arc::clone(&front_end);
    tasks.spawn(async move {
        begun.begun().await;
        info!("serving");
        systemd::ready();
    });
    server::serve(front_end, tls, listeners, shutdown).await;
    info!("stopped");
    Ok(())
}

/// One line for `systemctl status`, whenever it changes.
async fn keep_status(front_end: Arc<FrontEnd>) {
    let mut told = String::new();
    loop {
        let readiness = front_end.readiness();
        let word = if readiness.ready {
            "serving"
        } else {
            "not ready"
        };
        let text = match &*readiness.problems {
            [] => word.to_owned(),
            problems => format!("{word}: {}", problems.join("; ")),
        };
        if text != told {
            systemd::status(&text);
            told = text;
        }
        tokio::time::sleep(STATUS_INTERVAL).await;
    }
}

/// The ping comes from the event loop: where that stands still, so does the ping.
async fn keep_watchdog() {
    let Some(every) = systemd::watchdog_interval() else {
        return;
    };
    let mut ticks = tokio::time::interval(every);
    loop {
        ticks.tick().await;
        systemd::watchdog();
    }
}
