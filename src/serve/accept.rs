//! The accept loops: one per door, each connection in a task of its own until it has an identity,
//! so that a slow client stalls nobody. What comes out of here is identified, counted, and bounded.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use rustls::ServerConfig;
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::sync::mpsc;
use tracing::warn;

use super::connection::{Connection, Socket};
use super::handshake::handshake;
use super::listen::SocketListener;
use crate::access::Identity;
use crate::config::Config;
use crate::grpc::hang_up::HangUp;
use crate::grpc::network::Network;
use crate::grpc::peer::Peer;
use crate::slots::{PeerKey, Slots};
use crate::unix_socket::UnixSocket;

/// After a failed accept: out of file descriptors, most likely.
const PAUSE_AFTER_ERROR: Duration = Duration::from_millis(100);

/// How long a connection that was asked to end may take to do so.
const AGE_GRACE: Duration = Duration::from_secs(30);

/// What both doors share.
#[derive(Clone)]
pub(super) struct Doors {
    network: Arc<Network>,
    slots: Arc<Slots>,
    handshake_max: Duration,
    life_max: Duration,
    identified: mpsc::Sender<io::Result<Connection>>,
}

impl Doors {
    /// Connections that have an identity are sent to `identified`.
    pub(super) fn new(
        network: Arc<Network>,
        config: &Config,
        identified: mpsc::Sender<io::Result<Connection>>,
    ) -> Self {
        let limits = &config.limits;
        let (max, per_peer_max) = (limits.connections_max, limits.connections_per_peer_max);
        let slots = match (&config.tcp, &config.unix) {
            (Some(_), Some(_)) => Slots::with_local_kept(max, per_peer_max),
            _ => Slots::new(max, per_peer_max),
        };
        Self {
            network,
            slots,
            handshake_max: Duration::from_millis(limits.handshake_timeout_ms),
            life_max: Duration::from_millis(limits.connection_age_ms_max) + AGE_GRACE,
            identified,
        }
    }

    /// Accepts over TCP until the node stops.
    pub(super) async fn tcp(self, listener: TcpListener, server: Arc<ArcSwap<ServerConfig>>) {
        let mut stopping = self.network.stopping();
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                _ = stopping.wait_for(|stopping| *stopping) => return,
            };
            match accepted {
                Ok((stream, address)) => self.begin_tls(stream, address, server.load_full()),
                Err(error) => pause(&error).await,
            }
        }
    }

    fn begin_tls(&self, stream: TcpStream, address: SocketAddr, server: Arc<ServerConfig>) {
        let slot = match self.slots.take(address.ip().into()) {
            Ok(slot) => slot,
            Err(full) => return self.network.refuse(&address.to_string(), full.reason()),
        };
        if let Err(error) = stream.set_nodelay(true) {
            warn!(%error, %address, "a connection waits before it sends");
        }
        let doors = self.clone();
        tokio::spawn(async move {
            let (stream, certificate) = match handshake(stream, server, doors.handshake_max).await {
                Ok(identified) => identified,
                Err(reason) => return doors.network.refuse(&address.to_string(), reason),
            };
            let peer = Peer {
                identity: certificate.identity().clone(),
                address: address.to_string().into(),
                certificate: Some(Arc::new(certificate)),
                hang_up: HangUp::default(),
            };
            doors
                .hand_over(Socket::Tls(Box::new(stream)), peer, slot)
                .await;
        });
    }

    /// Accepts over the Unix socket until the node stops.
    pub(super) async fn unix(self, listener: SocketListener) {
        let mut stopping = self.network.stopping();
        loop {
            let accepted = tokio::select! {
                accepted = listener.listener.accept() => accepted,
                _ = stopping.wait_for(|stopping| *stopping) => return,
            };
            match accepted {
                Ok((stream, _)) => self.begin_unix(stream),
                Err(error) => pause(&error).await,
            }
        }
    }

    /// The kernel attests who connected (`SO_PEERCRED`); a descriptor passed on later keeps that.
    fn begin_unix(&self, stream: UnixStream) {
        let uid = match stream.peer_cred() {
            Ok(credentials) => credentials.uid(),
            Err(error) => {
                warn!(%error, "the kernel does not say who connected");
                return self.network.refuse("unix", "IDENTITY_UNKNOWN");
            }
        };
        let Ok(identity) = Identity::of_uid(uid) else {
            let who = format!("uid:{uid}");
            return self.network.refuse(&who, "IDENTITY_UNMAPPED");
        };
        let slot = match self.slots.take(PeerKey::Uid(uid)) {
            Ok(slot) => slot,
            Err(full) => return self.network.refuse(&identity.to_string(), full.reason()),
        };
        let socket = match UnixSocket::new(stream) {
            Ok(socket) => Socket::Unix(socket),
            Err(error) => return warn!(%error, %identity, "a connection cannot be watched"),
        };
        let peer = Peer {
            identity,
            address: "unix".into(),
            certificate: None,
            hang_up: HangUp::default(),
        };
        let doors = self.clone();
        tokio::spawn(async move { doors.hand_over(socket, peer, slot).await });
    }

    async fn hand_over(&self, socket: Socket, peer: Peer, slot: crate::slots::Slot) {
        let connection = Connection::new(socket, peer, slot, self.handshake_max, self.life_max);
        // Where nobody takes it the node stops, and the connection closes by being dropped.
        if self.identified.send(Ok(connection)).await.is_ok() {
            self.network.accept();
        }
    }
}

async fn pause(error: &io::Error) {
    warn!(%error, "a connection could not be accepted");
    tokio::time::sleep(PAUSE_AFTER_ERROR).await;
}
