//! The cloud's side of the protocol, as far as it is known: one connection, signed requests, answers
//! read to a limit. For `kekctl lkm check` and for tests; the front-end itself calls nobody but kekd.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::header::{AUTHORIZATION, CONTENT_TYPE, HOST};
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, Uri};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, ServerName};
use tokio::net::TcpStream;
use zeroize::Zeroizing;

use super::hawk::{Artifacts, Header, Kind, MAC_LEN, Secret};

/// Bytes of an answer that are read.
const ANSWER_LEN_MAX: usize = 64 * 1024;
/// Random bytes of a nonce.
const NONCE_BYTES: usize = 12;

/// A call that came to nothing.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// Not `https://HOST[:PORT]/PATH`.
    #[error("{0:?} is not https://HOST[:PORT]/PATH")]
    NotAnUrl(String),
    /// The authorities cannot be used.
    #[error("the authorities cannot be used: {0}")]
    Authorities(String),
    /// No connection.
    #[error("{peer} cannot be reached: {problem}")]
    Unreachable {
        /// Who was called.
        peer: String,
        /// What is wrong.
        problem: String,
    },
    /// No answer, or one that is no HTTP, or one too long.
    #[error("{peer} gave no answer: {problem}")]
    NoAnswer {
        /// Who was called.
        peer: String,
        /// What is wrong.
        problem: String,
    },
    /// Not in time.
    #[error("{peer} did not answer in time")]
    TimedOut {
        /// Who was called.
        peer: String,
    },
    /// No randomness.
    #[error("the operating system gives no randomness")]
    NoRandomness,
}

/// The URL of a Local Key Manager's decrypt path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// Its host.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// Its path, without a query.
    pub path: String,
}

impl FromStr for Target {
    type Err = CallError;

    fn from_str(text: &str) -> Result<Self, CallError> {
        let none = || CallError::NotAnUrl(text.to_owned());
        let uri: Uri = text.parse().map_err(|_| none())?;
        let plain = uri.scheme_str() == Some("https") && uri.query().is_none();
        let authority = uri
            .authority()
            .filter(|a| plain && !a.as_str().contains('@'));
        let host = authority.ok_or_else(none)?.host();
        Ok(Self {
            host: host.trim_matches(['[', ']']).to_owned(),
            port: uri.port_u16().unwrap_or(443),
            path: uri.path().to_owned(),
        })
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "https://{}:{}{}", self.host, self.port, self.path)
    }
}

/// Who calls, and whom.
#[derive(Clone)]
pub struct Caller {
    /// Whom.
    pub target: Target,
    tls: Arc<ClientConfig>,
    timeout: Duration,
}

/// An answer.
pub struct Reply {
    /// Its status.
    pub status: StatusCode,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body: a DEK may be in it.
    pub body: Zeroizing<Vec<u8>>,
}

impl Caller {
    /// Trusts the authorities in `roots`, PEM.
    ///
    /// # Errors
    /// Where there are none.
    pub fn new(target: Target, roots: &[u8], timeout: Duration) -> Result<Self, CallError> {
        let mut store = RootCertStore::empty();
        let refused = |problem: &dyn fmt::Display| CallError::Authorities(problem.to_string());
        for root in CertificateDer::pem_slice_iter(roots) {
            // A system's bundle may hold one that rustls does not take; the others serve.
            store.add(root.map_err(|error| refused(&error))?).ok();
        }
        if store.is_empty() {
            return Err(refused(&"there is none that can be used"));
        }
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut tls = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| refused(&error))?
            .with_root_certificates(store)
            .with_no_client_auth();
        tls.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self {
            target,
            tls: Arc::new(tls),
            timeout,
        })
    }

    /// Connects.
    ///
    /// # Errors
    /// Where there is no way, or no TLS.
    pub async fn connect(&self) -> Result<Connection, CallError> {
        let peer = self.target.to_string();
        let unreachable = |problem: &dyn fmt::Display| CallError::Unreachable {
            peer: peer.clone(),
            problem: problem.to_string(),
        };
        let connecting = async {
            let to = (self.target.host.as_str(), self.target.port);
            let stream = TcpStream::connect(to).await.map_err(|e| unreachable(&e))?;
            stream.set_nodelay(true).map_err(|e| unreachable(&e))?;
            let name =
                ServerName::try_from(self.target.host.clone()).map_err(|e| unreachable(&e))?;
            let tls = tokio_rustls::TlsConnector::from(Arc::clone(&self.tls));
            let stream = tls
                .connect(name, stream)
                .await
                .map_err(|e| unreachable(&e))?;
            let (sender, connection) = http1::handshake(TokioIo::new(stream))
                .await
                .map_err(|e| unreachable(&e))?;
            // It ends with the sender; what was wrong with it, the sender says.
            tokio::spawn(async move { connection.await.ok() });
            Ok(sender)
        };
        match tokio::time::timeout(self.timeout, connecting).await {
            Ok(sender) => Ok(Connection {
                sender: sender?,
                peer,
                timeout: self.timeout,
                host: host_header(&self.target),
            }),
            Err(_) => Err(CallError::TimedOut { peer }),
        }
    }
}

fn host_header(target: &Target) -> String {
    match target.host.contains(':') {
        true => format!("[{}]:{}", target.host, target.port),
        false => format!("{}:{}", target.host, target.port),
    }
}

/// One connection, for one request after another.
pub struct Connection {
    sender: SendRequest<Full<Bytes>>,
    peer: String,
    timeout: Duration,
    host: String,
}

/// One request.
#[derive(Debug, Clone)]
pub struct Call {
    /// Its method.
    pub method: Method,
    /// Path and query.
    pub resource: String,
    /// The `Authorization` header, if any.
    pub authorization: Option<String>,
    /// The content type, if any.
    pub content_type: Option<&'static str>,
    /// Further headers.
    pub more: Vec<(&'static str, String)>,
    /// The body.
    pub body: Vec<u8>,
}

impl Connection {
    /// Sends one request and reads its answer.
    ///
    /// # Errors
    /// Where there is none.
    pub async fn send(&mut self, call: Call) -> Result<Reply, CallError> {
        let no_answer = |problem: &dyn fmt::Display| CallError::NoAnswer {
            peer: self.peer.clone(),
            problem: problem.to_string(),
        };
        let mut request = Request::new(Full::new(Bytes::from(call.body)));
        *request.method_mut() = call.method;
        *request.uri_mut() = call.resource.parse().map_err(|e| no_answer(&e))?;
        let headers = request.headers_mut();
        let value = |text: &str| HeaderValue::try_from(text).map_err(|e| no_answer(&e));
        headers.insert(HOST, value(&self.host)?);
        if let Some(text) = &call.authorization {
            headers.insert(AUTHORIZATION, value(text)?);
        }
        if let Some(text) = call.content_type {
            headers.insert(CONTENT_TYPE, value(text)?);
        }
        for (name, text) in &call.more {
            headers.append(*name, value(text)?);
        }
        let asking = async {
            self.sender.ready().await.map_err(|e| no_answer(&e))?;
            let answer = self
                .sender
                .send_request(request)
                .await
                .map_err(|e| no_answer(&e))?;
            let (parts, body) = answer.into_parts();
            let body = Limited::new(body, ANSWER_LEN_MAX).collect().await;
            Ok(Reply {
                status: parts.status,
                headers: parts.headers,
                body: Zeroizing::new(body.map_err(|e| no_answer(&e))?.to_bytes().to_vec()),
            })
        };
        match tokio::time::timeout(self.timeout, asking).await {
            Ok(reply) => reply,
            Err(_) => Err(CallError::TimedOut {
                peer: self.peer.clone(),
            }),
        }
    }
}

/// A signed header: `header` with its MAC made right.
pub fn signed(secret: &Secret, header: Header, artifacts: &Artifacts<'_>) -> Header {
    let mac = secret.mac(Kind::Request, &header, artifacts);
    Header { mac, ..header }
}

/// A header of now that is not signed yet.
///
/// # Errors
/// Where the operating system gives no randomness.
pub fn unsigned(id: &str, ts: u64) -> Result<Header, CallError> {
    let mut nonce = [0; NONCE_BYTES];
    aws_lc_rs::rand::fill(&mut nonce).map_err(|_| CallError::NoRandomness)?;
    Ok(Header {
        id: id.to_owned(),
        ts,
        nonce: URL_SAFE_NO_PAD.encode(nonce),
        mac: [0; MAC_LEN],
        hash: None,
        ext: None,
        app: None,
        dlg: None,
    })
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test that cannot unwrap has failed")]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_an_url_with_its_port() {
        let target: Target = "https://lkm.example/decrypt".parse().unwrap();
        assert_eq!((target.port, &*target.path), (443, "/decrypt"));
        let target: Target = "https://[::1]:8443/d".parse().unwrap();
        assert_eq!((&*target.host, target.port), ("::1", 8443));
        for bad in ["http://a/b", "a", "https://u@a/b", "https://a/b?c=d", ""] {
            assert!(bad.parse::<Target>().is_err(), "{bad}");
        }
    }
}
