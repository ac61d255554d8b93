//! The client against peers that are not as they should be: real TLS and real gRPC on both ends, and
//! a node service whose answers are scripted. What the client makes of kekd itself is tested with
//! kekd.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use kekd::client::{Client, ClientError, ConnectError, Endpoint, TlsFiles};
use kekd::proto::v1::node_service_server::{NodeService, NodeServiceServer};
use kekd::proto::v1::{GetStatusRequest, GetStatusResponse};
use kekd::types::Next;
use rcgen::{CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls::AlertDescription;
use tempfile::TempDir;
use tokio::net::{TcpListener, TcpSocket};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::transport::{Certificate, Identity, Server, ServerTlsConfig};
use tonic::{Code, Request, Response, Status};
use tonic_types::{ErrorDetails, StatusExt as _};

type Authority = CertifiedIssuer<'static, KeyPair>;

fn authority(name: &str) -> Authority {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

/// A certificate for 127.0.0.1 and its key, both PEM.
fn leaf(authority: &Authority) -> (String, String) {
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
    let certificate = params.signed_by(&key, authority).unwrap();
    (certificate.pem(), key.serialize_pem())
}

fn files(dir: &Path, trusted: &Authority, issuer: &Authority) -> TlsFiles {
    let write = |name: &str, text: &str| {
        std::fs::write(dir.join(name), text).unwrap();
        dir.join(name)
    };
    let (certificate, key) = leaf(issuer);
    TlsFiles {
        ca: write("ca", &trusted.pem()),
        certificate: write("cert", &certificate),
        private_key: write("key", &key),
    }
}

#[derive(Clone, Copy)]
enum Script {
    Ready,
    Busy,
    Silent,
}

#[tonic::async_trait]
impl NodeService for Script {
    async fn get_coverage(
        &self,
        _request: Request<kekd::proto::v1::GetCoverageRequest>,
    ) -> Result<Response<kekd::proto::v1::GetCoverageResponse>, Status> {
        Err(Status::unimplemented("not of this script"))
    }

    async fn get_status(
        &self,
        _: Request<GetStatusRequest>,
    ) -> Result<Response<GetStatusResponse>, Status> {
        match self {
            Self::Ready => Ok(Response::new(GetStatusResponse {
                ready: true,
                ..GetStatusResponse::default()
            })),
            Self::Busy => {
                let mut details = ErrorDetails::new();
                details.set_error_info("BUSY", "kekd", std::collections::HashMap::new());
                details.set_retry_info(Some(Duration::from_millis(250)));
                let text = "all sessions are busy";
                Err(Status::with_error_details(Code::Unavailable, text, details))
            }
            Self::Silent => std::future::pending().await,
        }
    }
}

/// Starts a server that asks for a client certificate, as kekd does.
async fn serve(authority: &Authority, script: Script) -> SocketAddr {
    let (certificate, key) = leaf(authority);
    let tls = ServerTlsConfig::new()
        .identity(Identity::from_pem(certificate, key))
        .client_ca_root(Certificate::from_pem(authority.pem()));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = Server::builder()
        .tls_config(tls)
        .unwrap()
        .add_service(NodeServiceServer::new(script))
        .serve_with_incoming(TcpListenerStream::new(listener));
    tokio::spawn(server);
    address
}

async fn connect(address: SocketAddr, files: TlsFiles) -> Result<Client, ClientError> {
    connect_within(address, files, Duration::from_secs(10)).await
}

async fn connect_within(
    address: SocketAddr,
    files: TlsFiles,
    timeout: Duration,
) -> Result<Client, ClientError> {
    let endpoint = Endpoint::parse(&format!("https://{address}"), Some(files)).unwrap();
    Client::connect(endpoint, timeout).await
}

#[tokio::test]
async fn a_refusal_keeps_its_reason_and_its_retry_delay() {
    let (dir, ca) = (TempDir::new().unwrap(), authority("ca"));
    let address = serve(&ca, Script::Busy).await;
    let client = connect(address, files(dir.path(), &ca, &ca)).await.unwrap();
    let error = client.status().await.unwrap_err();
    assert_eq!(error.next(), Next::TryAgain);
    let ClientError::Refused(refusal) = error else {
        panic!("{error}");
    };
    assert_eq!(refusal.code, Code::Unavailable);
    assert_eq!(refusal.reason, "BUSY");
    assert_eq!(refusal.retry_delay, Some(Duration::from_millis(250)));
    assert_eq!(
        refusal.to_string(),
        "kekd refused: all sessions are busy (BUSY)"
    );

    // Another service of kekd's that this peer does not have.
    let error = client.list_keks().await.unwrap_err();
    assert_eq!(error.next(), Next::CallerFault);
    assert!(matches!(&error, ClientError::Refused(r) if r.code == Code::Unimplemented));
}

#[tokio::test]
async fn a_call_ends_at_its_deadline() {
    let (dir, ca) = (TempDir::new().unwrap(), authority("ca"));
    let address = serve(&ca, Script::Silent).await;
    let files = files(dir.path(), &ca, &ca);
    let client = connect_within(address, files, Duration::from_millis(300))
        .await
        .unwrap();
    let error = client.status().await.unwrap_err();
    assert!(
        matches!(error, ClientError::DeadlineExceeded { .. }),
        "{error:?}"
    );
    assert_eq!(error.next(), Next::TryAgain);
}

#[tokio::test]
async fn a_client_certificate_that_is_refused_is_named_as_the_cause() {
    let (dir, ca, other) = (TempDir::new().unwrap(), authority("ca"), authority("other"));
    let address = serve(&ca, Script::Ready).await;
    let good = connect(address, files(dir.path(), &ca, &ca)).await.unwrap();
    assert!(good.status().await.unwrap().ready);

    // With TLS 1.3 the handshake is over for the client before the server has judged it: the
    // refusal may show at either of the two calls.
    let error = match connect(address, files(dir.path(), &ca, &other)).await {
        Ok(client) => client.status().await.unwrap_err(),
        Err(error) => error,
    };
    assert_eq!(error.next(), Next::CallerFault, "{error:?}");
    let unknown = AlertDescription::UnknownCA;
    assert!(
        matches!(&error, ClientError::CertificateRefused { alert, .. } if *alert == unknown),
        "{error:?}"
    );
    let text = "it was not issued by an authority kekd accepts";
    assert!(error.to_string().contains(text), "{error}");
}

#[tokio::test]
async fn a_server_of_another_authority_is_not_spoken_to() {
    let (dir, ca, other) = (TempDir::new().unwrap(), authority("ca"), authority("other"));
    let address = serve(&other, Script::Ready).await;
    let error = connect(address, files(dir.path(), &ca, &other)).await;
    let error = error.unwrap_err();
    assert!(
        matches!(error, ClientError::Connect(ConnectError::Handshake { .. })),
        "{error:?}"
    );
    assert_eq!(error.next(), Next::CallerFault);
    let text = "not issued by an authority in the CA file";
    assert!(error.to_string().contains(text), "{error}");
}

#[tokio::test]
async fn nobody_there_and_nobody_answering_are_told_apart() {
    let (dir, ca) = (TempDir::new().unwrap(), authority("ca"));
    // The kernel takes the connection; nobody says anything on it.
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = silent.local_addr().unwrap();
    let files = files(dir.path(), &ca, &ca);
    let timeout = Duration::from_millis(300);
    let error = connect_within(address, files.clone(), timeout).await;
    let error = error.unwrap_err();
    assert!(
        matches!(error, ClientError::Connect(ConnectError::TimedOut { .. })),
        "{error:?}"
    );
    // Nobody listens. A listener that is closed may go on in a process that another test is starting.
    let closed = TcpSocket::new_v4().unwrap();
    closed.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let error = connect(closed.local_addr().unwrap(), files).await;
    let error = error.unwrap_err();
    assert!(
        matches!(
            error,
            ClientError::Connect(ConnectError::Unreachable { .. })
        ),
        "{error:?}"
    );
    assert_eq!(error.next(), Next::TryAgain);
}

#[tokio::test]
async fn what_is_not_tls_is_named() {
    let (dir, ca) = (TempDir::new().unwrap(), authority("ca"));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        use tokio::io::AsyncWriteExt as _;
        let (mut stream, _) = listener.accept().await.unwrap();
        stream.write_all(b"SSH-2.0-OpenSSH_9\r\n").await.unwrap();
        std::future::pending::<()>().await;
    });
    let error = connect(address, files(dir.path(), &ca, &ca)).await;
    let error = error.unwrap_err();
    assert!(
        matches!(error, ClientError::Connect(ConnectError::Handshake { .. })),
        "{error:?}"
    );
}

#[tokio::test]
async fn files_are_read_when_a_connection_is_made() {
    let (dir, ca) = (TempDir::new().unwrap(), authority("ca"));
    let address = serve(&ca, Script::Ready).await;
    let paths = files(dir.path(), &ca, &ca);
    let client = connect(address, paths.clone()).await.unwrap();
    assert!(client.status().await.unwrap().ready);
    // A file that goes bad harms nothing as long as the connection holds.
    std::fs::write(&paths.certificate, "not a certificate").unwrap();
    assert!(client.status().await.unwrap().ready);
    let error = connect(address, paths).await.unwrap_err();
    assert!(
        error.to_string().contains("holds no CERTIFICATE"),
        "{error}"
    );
}
