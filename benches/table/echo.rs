//! A bare tonic server with the same TLS and the same messages as kekd, which does nothing: what
//! gRPC itself costs on this machine. It runs as a process of its own, as kekd does.

use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use anyhow::Context as _;
use kekd::client::{Client, Endpoint};
use kekd::proto::v1::unwrap_response::Release;
use kekd::proto::v1::unwrap_service_server::{UnwrapService, UnwrapServiceServer};
use kekd::proto::v1::{self, UnwrapRequest, UnwrapResponse};
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::transport::{Certificate, Identity, Server, ServerTlsConfig};
use tonic::{Request, Response, Status, Streaming};

use crate::rig::Rig;

struct Echo;

#[tonic::async_trait]
impl UnwrapService for Echo {
    async fn unwrap(
        &self,
        request: Request<UnwrapRequest>,
    ) -> Result<Response<UnwrapResponse>, Status> {
        Ok(Response::new(UnwrapResponse {
            request_id: request.into_inner().request_id,
            record_index: 1 << 20,
            release: Some(Release::Dek(vec![7; 32])),
        }))
    }

    type UnwrapStreamStream =
        tokio_stream::wrappers::ReceiverStream<Result<v1::UnwrapStreamResponse, Status>>;

    async fn unwrap_stream(
        &self,
        _: Request<Streaming<v1::UnwrapStreamRequest>>,
    ) -> Result<Response<Self::UnwrapStreamStream>, Status> {
        Err(Status::unimplemented("only the unary call is compared"))
    }
}

/// The process: serves with a rig's certificates and says where.
pub async fn serve(rig: &Path) -> anyhow::Result<()> {
    let read = |name: &str| fs::read(rig.join("pki").join(name));
    let tls = ServerTlsConfig::new()
        .identity(Identity::from_pem(read("server.crt")?, read("server.key")?))
        .client_ca_root(Certificate::from_pem(read("ca.crt")?));
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    writeln!(std::io::stdout(), "{}", listener.local_addr()?)?;
    std::io::stdout().flush()?;
    Ok(Server::builder()
        .tcp_nodelay(true)
        .tls_config(tls)?
        .add_service(UnwrapServiceServer::new(Echo))
        .serve_with_incoming(TcpListenerStream::new(listener))
        .await?)
}

/// The echo server, as long as this lives.
pub struct Peer {
    child: Child,
    address: String,
}

impl Peer {
    /// Starts it.
    pub fn start(rig: &Rig) -> anyhow::Result<Self> {
        use std::io::BufRead as _;
        let mut child = Command::new(std::env::current_exe()?)
            .arg("echo")
            .arg(&rig.dir)
            .stdout(Stdio::piped())
            .spawn()?;
        let output = child.stdout.take().context("a pipe")?;
        let mut address = String::new();
        std::io::BufReader::new(output).read_line(&mut address)?;
        Ok(Self {
            child,
            address: format!("https://{}", address.trim()),
        })
    }

    /// Connections to it.
    pub async fn clients(&self, rig: &Rig, count: usize) -> anyhow::Result<Vec<Client>> {
        let mut clients = Vec::new();
        for _ in 0..count {
            let endpoint = Endpoint::parse(&self.address, Some(rig.tls("lkm-1")))?;
            clients.push(Client::connect(endpoint, std::time::Duration::from_secs(10)).await?);
        }
        Ok(clients)
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        // It serves nobody else.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
