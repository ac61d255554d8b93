//! A server with real doors and the node-free services (health, reflection) behind the real gate.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use hyper_util::rt::TokioIo;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, IsCa, Issuer,
    KeyIdMethod, KeyPair, KeyUsagePurpose, RevokedCertParams, SanType, SerialNumber, date_time_ymd,
};
use rustls::ClientConfig;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::{oneshot, watch};
use tokio::task::{JoinHandle, JoinSet};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tonic::transport::{Channel, Endpoint};

use super::super::*;
use crate::access::{Clients, Role};
use crate::config::{Environment, load};

/// The identity the ledger names.
pub(super) const CLIENT: &str = "spiffe://t/client";

/// An authority that issues for one side.
pub(super) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pub(super) pem: String,
}

/// A certificate and its key, PEM.
#[derive(Clone)]
pub(super) struct Issued {
    pub(super) certificate: String,
    pub(super) key: String,
}

impl Authority {
    pub(super) fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params
            .distinguished_name
            .push(rcgen::DnType::CommonName, name);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Self {
            issuer: Issuer::new(params, key),
            pem,
        }
    }

    pub(super) fn issue(&self, uris: &[&str], serial: u64, until: i32) -> Issued {
        let mut params = CertificateParams::default();
        params.serial_number = Some(SerialNumber::from(serial));
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(until, 1, 1);
        params
            .distinguished_name
            .push(rcgen::DnType::CommonName, CLIENT);
        params.subject_alt_names = uris
            .iter()
            .map(|uri| SanType::URI((*uri).try_into().unwrap()))
            .chain([SanType::IpAddress([127, 0, 0, 1].into())])
            .collect();
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap().pem();
        Issued {
            certificate,
            key: key.serialize_pem(),
        }
    }

    pub(super) fn crl(&self, serials: &[u64]) -> String {
        let params = CertificateRevocationListParams {
            this_update: date_time_ymd(2020, 1, 1),
            next_update: date_time_ymd(2090, 1, 1),
            crl_number: SerialNumber::from(1_u64),
            issuing_distribution_point: None,
            revoked_certs: serials
                .iter()
                .map(|serial| RevokedCertParams {
                    serial_number: SerialNumber::from(*serial),
                    revocation_time: date_time_ymd(2020, 1, 1),
                    reason_code: None,
                    invalidity_date: None,
                })
                .collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        params.signed_by(&self.issuer).unwrap().pem().unwrap()
    }
}

type Refusals = Arc<Mutex<Vec<(String, &'static str)>>>;

pub(super) struct Rig {
    pub(super) folder: tempfile::TempDir,
    pub(super) clients: Authority,
    pub(super) servers: Authority,
    pub(super) address: SocketAddr,
    pub(super) socket: PathBuf,
    pub(super) network: Arc<Network>,
    pub(super) refusals: Refusals,
    pub(super) stop: Option<oneshot::Sender<()>>,
    pub(super) served: JoinHandle<()>,
}

impl Rig {
    /// Starts with further lines of configuration, for example limits.
    pub(super) async fn start(more: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (clients, servers) = (Authority::new("clients"), Authority::new("servers"));
        write(folder.path(), "ca.pem", &clients.pem);
        write(folder.path(), "crl.pem", &clients.crl(&[]));
        let rig_files = servers.issue(&[], 1, 2090);
        write(folder.path(), "tls.crt", &rig_files.certificate);
        write(folder.path(), "tls.key", &rig_files.key);
        let text = format!(
            "state_dir = \"state\"\n[hsm]\nmodule = \"m\"\ntoken_label = \"l\"\n\
             token_serial = \"s\"\npin_file = \"p\"\n[unix]\nsocket = \"kekd.sock\"\n[tcp]\n\
             listen = \"127.0.0.1:0\"\ncertificate_file = \"tls.crt\"\n\
             private_key_file = \"tls.key\"\nclient_ca_file = \"ca.pem\"\n\
             client_crl_file = \"crl.pem\"\nreload_interval_ms = 100\n{more}"
        );
        let file = write(folder.path(), "kekd.toml", &text);
        let config = load(&file, &Environment::from_variables([]).unwrap())
            .unwrap()
            .config;
        let listeners = Listeners::bind(&config).await.unwrap();
        let address = listeners.tcp.as_ref().unwrap().local_addr().unwrap();

        let refusals = Refusals::default();
        let seen = Arc::clone(&refusals);
        let record = move |who: &str, why| seen.lock().unwrap().push((who.to_owned(), why));
        let network = Arc::new(Network::new(Clock::System, Box::new(record)));
        let (stop, stopped) = oneshot::channel();
        let served = tokio::spawn(serve(config, Arc::clone(&network), listeners, stopped));
        Self {
            socket: folder.path().join("kekd.sock"),
            folder,
            clients,
            servers,
            address,
            network,
            refusals,
            stop: Some(stop),
            served,
        }
    }

    /// A TLS connection, as a client with this certificate makes it.
    pub(super) async fn tls(
        &self,
        issued: Option<&Issued>,
        alpn: &[&[u8]],
    ) -> std::io::Result<TlsStream<TcpStream>> {
        let config = client_config(&self.servers.pem, issued, alpn);
        let stream = TcpStream::connect(self.address).await?;
        let name = ServerName::from(self.address.ip());
        TlsConnector::from(Arc::new(config))
            .connect(name, stream)
            .await
    }

    /// A gRPC channel over a connection that was made already.
    pub(super) async fn channel(&self, issued: &Issued) -> Channel {
        channel(self.tls(Some(issued), &[b"h2"]).await.unwrap()).await
    }

    pub(super) async fn local_channel(&self) -> Channel {
        channel(UnixStream::connect(&self.socket).await.unwrap()).await
    }

    /// Waits until `done` holds; what it waits for comes by itself.
    pub(super) async fn until(&self, what: &str, done: impl Fn(&Self) -> bool) {
        for _ in 0..1000 {
            if done(self) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!(
            "waited in vain for: {what}; refused so far: {:?}",
            self.refusals.lock().unwrap()
        );
    }

    pub(super) async fn refused(&self, reason: &'static str) {
        let has = |rig: &Self| {
            rig.refusals
                .lock()
                .unwrap()
                .iter()
                .any(|(_, why)| *why == reason)
        };
        self.until(reason, has).await;
    }
}

async fn serve(
    config: Config,
    network: Arc<Network>,
    listeners: Listeners,
    stopped: oneshot::Receiver<()>,
) {
    let mut named = Clients::default();
    named
        .add(CLIENT.parse().unwrap(), Role::UnwrapClient, [].into())
        .unwrap();
    let uid = Identity::of_uid(rustix::process::getuid().as_raw()).unwrap();
    named.add(uid, Role::Auditor, [].into()).unwrap();
    let authorise = move |identity: &Identity, action| named.caller(identity)?.require(action);
    let gate = GateLayer::new(Arc::clone(&network), Arc::new(authorise));
    let (ready, readiness) = watch::channel(true);
    let (service, keep) = health(readiness, network.stopping()).await;
    let mut routes = tonic::service::Routes::builder();
    grpc::add_public(&mut routes, config.limits.request_bytes_max, service);
    let mut tasks = JoinSet::new();
    tasks.spawn(keep);
    let connections = open(&config, &network, listeners, &mut tasks).unwrap();
    let stop = async {
        stopped.await.unwrap_or_default();
        network.stop();
    };
    transport::serve(&config.limits, routes.routes(), gate, connections, stop)
        .await
        .unwrap();
    drop(ready);
}

fn client_config(roots: &str, issued: Option<&Issued>, alpn: &[&[u8]]) -> ClientConfig {
    let mut store = rustls::RootCertStore::empty();
    store
        .add(CertificateDer::from_pem_slice(roots.as_bytes()).unwrap())
        .unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_root_certificates(store);
    let mut config = match issued {
        None => builder.with_no_client_auth(),
        Some(issued) => builder
            .with_client_auth_cert(
                vec![CertificateDer::from_pem_slice(issued.certificate.as_bytes()).unwrap()],
                PrivateKeyDer::from_pem_slice(issued.key.as_bytes()).unwrap(),
            )
            .unwrap(),
    };
    config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
    config
}

async fn channel<S>(stream: S) -> Channel
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
{
    let mut once = Some(TokioIo::new(stream));
    let connector = tower::service_fn(move |_: http::Uri| {
        let stream = once
            .take()
            .ok_or_else(|| std::io::Error::other("the connection is gone"));
        async move { stream }
    });
    Endpoint::from_static("http://127.0.0.1")
        .connect_with_connector(connector)
        .await
        .unwrap()
}

/// Writes aside and renames, so that the server never reads half a file; mode 0600.
pub(super) fn write(folder: &Path, name: &str, text: &str) -> PathBuf {
    use std::os::unix::fs::PermissionsExt as _;
    let (aside, path) = (folder.join(format!("{name}.new")), folder.join(name));
    std::fs::write(&aside, text).unwrap();
    std::fs::set_permissions(&aside, std::fs::Permissions::from_mode(0o600)).unwrap();
    std::fs::rename(aside, &path).unwrap();
    path
}
