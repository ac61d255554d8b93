//! The typed client of kekd: what kekctl, front ends and tests call it with. Here are connections,
//! deadlines and the translation between messages and types; no files but the client's own TLS
//! credentials, no retries, no printing. A DEK is in memory that wipes itself from the moment it is
//! taken out of its message.

mod audit;
mod convert;
mod endpoint;
mod error;
mod quorum;
mod tls;
mod unwrap;
mod wire;

use std::sync::Arc;
use std::time::Duration;

use tonic::transport::Channel;
use tonic::{Request, Response, Status};

use crate::proto::v1::keys_service_client::KeysServiceClient;
use crate::proto::v1::ledger_service_client::LedgerServiceClient;
use crate::proto::v1::node_service_client::NodeServiceClient;
use crate::proto::v1::unwrap_service_client::UnwrapServiceClient;
use crate::proto::v1::{self, PublicKeyFormat};
use crate::types::{KekName, KeypairId};

pub use audit::LiveRecords;
pub use convert::{key_origin_name, padding_name, release_form_name, version_state_name};
pub use endpoint::{Endpoint, EndpointError, TlsFiles};
pub use error::{ClientError, ConnectError, Refusal, code_name};
pub use tls::TlsFileError;
pub use unwrap::{Answer, Answers, Recipient, Release, Released, UnwrapCall};

use wire::{Connector, Link};

/// Longest deadline a call is given, whatever was asked for: one hour.
const TIMEOUT_MAX: Duration = Duration::from_secs(3600);
/// Bytes of one answer message; a list of many KEKs is the largest there is.
const ANSWER_BYTES_MAX: usize = 16 * 1024 * 1024;

/// The certificate of a KEK version and those above it, all DER (RFC 5280).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateChain {
    /// The certificate of the version.
    pub certificate: Vec<u8>,
    /// Its issuers, nearest first; empty for a self-signed certificate.
    pub issuers: Vec<Vec<u8>>,
}

/// A connection to one kekd. Cheap to clone; all clones share the connection, which is made anew
/// when it breaks. The client's certificate files are read again each time.
#[derive(Debug, Clone)]
pub struct Client {
    channel: Channel,
    link: Arc<Link>,
    timeout: Duration,
}

impl Client {
    /// Connects, and gives each later unary call `timeout` as its deadline (at most one hour; it
    /// bounds connecting, too). With TLS 1.3 a client certificate that kekd refuses shows on the
    /// first call, not here (RFC 8446 section 4.4.2).
    pub async fn connect(endpoint: Endpoint, timeout: Duration) -> Result<Self, ClientError> {
        let timeout = timeout.min(TIMEOUT_MAX);
        let link = Arc::new(Link::new(endpoint.to_string()));
        let transport = endpoint.transport()?;
        let connector = Connector::new(endpoint, timeout, Arc::clone(&link));
        let channel = kept_alive(transport)
            .connect_with_connector(connector)
            .await
            .map_err(|error| ClientError::from_transport(&error, &link))?;
        Ok(Self {
            channel,
            link,
            timeout,
        })
    }

    /// A connection that is made by the first call, and anew by any call after it broke. For programs
    /// that outlive kekd's restarts, and may start before it. Must be called inside a runtime.
    ///
    /// # Errors
    /// Where the endpoint is none.
    pub fn connect_lazily(endpoint: Endpoint, timeout: Duration) -> Result<Self, ClientError> {
        let timeout = timeout.min(TIMEOUT_MAX);
        let link = Arc::new(Link::new(endpoint.to_string()));
        let transport = endpoint.transport()?;
        let connector = Connector::new(endpoint, timeout, Arc::clone(&link));
        let channel = kept_alive(transport).connect_with_connector_lazy(connector);
        Ok(Self {
            channel,
            link,
            timeout,
        })
    }

    /// Unwraps one DEK. The audit record is on kekd's disk before this returns.
    pub async fn unwrap(&self, call: UnwrapCall) -> Result<Released, ClientError> {
        let answer = self
            .unwrapper()
            .unwrap(self.request(call.into_message()))
            .await;
        unwrap::released(self.taken(answer)?)
    }

    /// Unwraps many DEKs over one stream, which has no deadline of its own: a peer that is gone is
    /// noticed by HTTP/2 pings within 20 seconds. Each call must carry a request id; answers come
    /// in any order and name it.
    pub async fn unwrap_stream<S>(&self, calls: S) -> Result<Answers, ClientError>
    where
        S: tokio_stream::Stream<Item = UnwrapCall> + Send + 'static,
    {
        use tokio_stream::StreamExt as _;
        let messages = calls.map(|call| v1::UnwrapStreamRequest {
            request: Some(call.into_message()),
        });
        let answer = self.unwrapper().unwrap_stream(messages).await;
        Ok(Answers::new(self.taken(answer)?, Arc::clone(&self.link)))
    }

    /// All KEKs the caller may see, sorted by name.
    pub async fn list_keks(&self) -> Result<Vec<v1::Kek>, ClientError> {
        let answer = self
            .keys()
            .list_keks(self.request(v1::ListKeksRequest {}))
            .await;
        Ok(self.taken(answer)?.keks)
    }

    /// One KEK with its versions, oldest first.
    pub async fn get_kek(&self, name: &KekName) -> Result<v1::Kek, ClientError> {
        let message = v1::GetKekRequest {
            name: name.to_string(),
        };
        let answer = self.keys().get_kek(self.request(message)).await;
        self.taken(answer)?
            .kek
            .ok_or(ClientError::Protocol("GetKek was answered without a KEK"))
    }

    /// The public key of one version: UTF-8 text for SPKI PEM and JWK, bytes for PKCS#1 DER.
    pub async fn get_public_key(
        &self,
        id: KeypairId,
        format: PublicKeyFormat,
    ) -> Result<Vec<u8>, ClientError> {
        let message = v1::GetPublicKeyRequest {
            keypair_id: id.to_string(),
            format: format.into(),
        };
        let answer = self.keys().get_public_key(self.request(message)).await;
        Ok(self.taken(answer)?.public_key)
    }

    /// The certificate of one version.
    pub async fn get_certificate(&self, id: KeypairId) -> Result<CertificateChain, ClientError> {
        let message = v1::GetCertificateRequest {
            keypair_id: id.to_string(),
        };
        let answer = self.keys().get_certificate(self.request(message)).await;
        let answer = self.taken(answer)?;
        Ok(CertificateChain {
            certificate: answer.certificate,
            issuers: answer.issuers,
        })
    }

    /// The entries of the ledger from an index on, as many as fit in one answer.
    pub async fn read_entries(&self, from: u64) -> Result<v1::ReadEntriesResponse, ClientError> {
        let message = v1::ReadEntriesRequest { from };
        let answer = self.ledger().read_entries(self.request(message)).await;
        self.taken(answer)
    }

    /// The newest checkpoint of the ledger: a signed note (C2SP tlog-checkpoint).
    pub async fn ledger_checkpoint(&self) -> Result<String, ClientError> {
        let request = self.request(v1::GetCheckpointRequest {});
        Ok(self
            .taken(self.ledger().get_checkpoint(request).await)?
            .note)
    }

    /// The proof that the entry at `index` is in the ledger, not checked.
    pub async fn ledger_proof(&self, index: u64) -> Result<v1::GetProofResponse, ClientError> {
        let message = v1::GetProofRequest { index };
        let answer = self.ledger().get_proof(self.request(message)).await;
        self.taken(answer)
    }

    /// The state of the node.
    pub async fn status(&self) -> Result<v1::GetStatusResponse, ClientError> {
        let mut node = NodeServiceClient::new(self.channel.clone());
        let answer = node.get_status(self.request(v1::GetStatusRequest {})).await;
        self.taken(answer)
    }

    /// Which version is proven on which token, of one KEK or of all.
    pub async fn coverage(
        &self,
        kek: Option<&KekName>,
    ) -> Result<v1::GetCoverageResponse, ClientError> {
        let mut node = NodeServiceClient::new(self.channel.clone())
            .max_decoding_message_size(ANSWER_BYTES_MAX);
        let message = v1::GetCoverageRequest {
            kek: kek.map_or_else(String::new, ToString::to_string),
        };
        let answer = node.get_coverage(self.request(message)).await;
        self.taken(answer)
    }

    fn keys(&self) -> KeysServiceClient<Channel> {
        KeysServiceClient::new(self.channel.clone()).max_decoding_message_size(ANSWER_BYTES_MAX)
    }

    fn ledger(&self) -> LedgerServiceClient<Channel> {
        LedgerServiceClient::new(self.channel.clone()).max_decoding_message_size(ANSWER_BYTES_MAX)
    }

    fn unwrapper(&self) -> UnwrapServiceClient<Channel> {
        UnwrapServiceClient::new(self.channel.clone())
    }

    fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        request.set_timeout(self.timeout);
        request
    }

    fn taken<T>(&self, answer: Result<Response<T>, Status>) -> Result<T, ClientError> {
        match answer {
            Ok(response) => Ok(response.into_inner()),
            Err(status) => Err(ClientError::from_status(&status, &self.link)),
        }
    }
}

/// A peer that is gone is noticed within 20 seconds, where a call is under way.
fn kept_alive(transport: tonic::transport::Endpoint) -> tonic::transport::Endpoint {
    transport
        .http2_keep_alive_interval(Duration::from_secs(10))
        .keep_alive_timeout(Duration::from_secs(10))
}
