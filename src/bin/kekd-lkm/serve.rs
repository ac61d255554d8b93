//! `kekd-lkm serve`: take the sockets, serve, stop.

use std::io;
use std::net::SocketAddr;

use kekd::lkm::config::LkmConfig;
use kekd::lkm::{self, Listeners, LkmError};
use kekd::program::Failure;
use listenfd::ListenFd;
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// Serves until told to stop.
pub async fn serve(config: LkmConfig) -> Result<(), Failure> {
    let mut terminate = heard(SignalKind::terminate())?;
    let mut interrupt = heard(SignalKind::interrupt())?;
    let stop = async move {
        tokio::select! {
            _ = terminate.recv() => (),
            _ = interrupt.recv() => (),
        }
    };
    let listeners = Listeners {
        https: match from_systemd()? {
            Some(listener) => listener,
            None => bind("https.listen", config.https.listen).await?,
        },
        local: bind("local.listen", config.local.listen).await?,
    };
    lkm::run(config, listeners, stop).await.map_err(of_lkm)
}

fn heard(kind: SignalKind) -> Result<Signal, Failure> {
    signal(kind).map_err(|error| of_lkm(LkmError::Signals(error)))
}

fn of_lkm(error: LkmError) -> Failure {
    match error {
        LkmError::Files(_) | LkmError::Endpoint(_) => Failure::configuration(error),
        LkmError::Signals(_) => Failure::fatal(error),
    }
}

/// The socket that systemd opened for us (`sd_listen_fds(3)`), as kekd-lkm.socket says.
fn from_systemd() -> Result<Option<TcpListener>, Failure> {
    let taken = || -> io::Result<Option<TcpListener>> {
        let Some(listener) = ListenFd::from_env().take_tcp_listener(0)? else {
            return Ok(None);
        };
        listener.set_nonblocking(true)?;
        TcpListener::from_std(listener).map(Some)
    };
    taken().map_err(|error| {
        Failure::configuration(format!(
            "the socket that systemd hands over is no TCP socket: {error}"
        ))
    })
}

async fn bind(setting: &str, address: SocketAddr) -> Result<TcpListener, Failure> {
    TcpListener::bind(address).await.map_err(|error| {
        Failure::configuration(format!("{setting}: cannot listen on {address}: {error}"))
    })
}
