//! Where kekd is: over TCP with TLS 1.3 and a client certificate, or over a Unix socket where the
//! kernel vouches for the caller. There is no third way, and none without authentication.

use std::fmt;
use std::path::{Path, PathBuf};

use http::Uri;

/// The files that prove who this client is and whom it trusts; read at each connection, so that
/// renewed certificates are taken up without a restart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    /// PEM: the authorities that issue kekd's server certificate.
    pub ca: PathBuf,
    /// PEM: the client's certificate, then its intermediates.
    pub certificate: PathBuf,
    /// PEM: the client's private key (PKCS#8, PKCS#1 or SEC 1).
    pub private_key: PathBuf,
}

/// Where kekd is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Endpoint {
    /// gRPC over TCP with mutual TLS.
    Tcp {
        /// DNS name or IP address; kekd's certificate must be for it.
        host: String,
        /// TCP port.
        port: u16,
        /// The client's credentials.
        files: TlsFiles,
    },
    /// gRPC over a Unix socket.
    Unix(PathBuf),
}

/// An endpoint that cannot be one. The caller's fault.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EndpointError {
    /// Neither of the two forms.
    #[error("the endpoint {0:?} is neither https://HOST:PORT nor unix:/PATH")]
    NotAnEndpoint(String),
    /// No port was named; kekd has no default port.
    #[error("the endpoint {0:?} names no port; write https://HOST:PORT")]
    PortMissing(String),
    /// Plain HTTP: kekd never speaks it over TCP.
    #[error("the endpoint {0:?} is not encrypted; kekd speaks TLS only, write https://HOST:PORT")]
    NotEncrypted(String),
    /// TLS without credentials: kekd lets nobody in without a client certificate.
    #[error("the endpoint {0:?} needs a CA file, a client certificate and its private key")]
    FilesMissing(String),
}

impl Endpoint {
    /// Reads `https://HOST:PORT`, which needs `files`, or `unix:/PATH`, which does not.
    pub fn parse(text: &str, files: Option<TlsFiles>) -> Result<Self, EndpointError> {
        if let Some(path) = text.strip_prefix("unix:") {
            let path = Path::new(path.strip_prefix("//").unwrap_or(path));
            return match path.is_absolute() {
                true => Ok(Self::Unix(path.to_path_buf())),
                false => Err(EndpointError::NotAnEndpoint(text.to_owned())),
            };
        }
        let not_an_endpoint = || EndpointError::NotAnEndpoint(text.to_owned());
        let uri: Uri = text.parse().map_err(|_| not_an_endpoint())?;
        match uri.scheme_str() {
            Some("https") => {}
            Some("http") => return Err(EndpointError::NotEncrypted(text.to_owned())),
            Some(_) | None => return Err(not_an_endpoint()),
        }
        let plain = uri.path().trim_matches('/').is_empty() && uri.query().is_none();
        let authority = uri.authority().ok_or_else(not_an_endpoint)?;
        if !plain || authority.as_str().contains('@') {
            return Err(not_an_endpoint());
        }
        let port = uri
            .port_u16()
            .ok_or_else(|| EndpointError::PortMissing(text.to_owned()))?;
        // An IPv6 address stands in brackets in a URI and without them in a certificate.
        let host = authority.host().trim_matches(['[', ']']).to_owned();
        let files = files.ok_or_else(|| EndpointError::FilesMissing(text.to_owned()))?;
        Ok(Self::Tcp { host, port, files })
    }

    /// The transport's view: an address for HTTP/2's `:authority`. It says `http` because the
    /// connector of `wire.rs`, and not tonic, does the TLS.
    pub(in crate::client) fn transport(&self) -> Result<tonic::transport::Endpoint, EndpointError> {
        let (address, origin) = match self {
            Self::Tcp { .. } => (format!("http://{}", self.authority()), self.to_string()),
            Self::Unix(_) => ("http://localhost".into(), "http://localhost".into()),
        };
        let not_an_endpoint = || EndpointError::NotAnEndpoint(self.to_string());
        let origin: Uri = origin.parse().map_err(|_| not_an_endpoint())?;
        tonic::transport::Endpoint::from_shared(address)
            .map(|transport| transport.origin(origin))
            .map_err(|_| not_an_endpoint())
    }

    fn authority(&self) -> String {
        match self {
            Self::Tcp { host, port, .. } if host.contains(':') => format!("[{host}]:{port}"),
            Self::Tcp { host, port, .. } => format!("{host}:{port}"),
            Self::Unix(path) => path.display().to_string(),
        }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { .. } => write!(f, "https://{}", self.authority()),
            Self::Unix(_) => write!(f, "unix:{}", self.authority()),
        }
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test that cannot unwrap has failed")]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Endpoint, EndpointError> {
        let files = TlsFiles {
            ca: "ca".into(),
            certificate: "c".into(),
            private_key: "k".into(),
        };
        Endpoint::parse(text, Some(files))
    }

    #[test]
    fn an_endpoint_reads_back_as_it_was_written() {
        for text in [
            "https://kekd.example:7443",
            "https://127.0.0.1:1",
            "https://[::1]:7443",
            "unix:/run/kekd/kekd.sock",
        ] {
            assert_eq!(parse(text).unwrap().to_string(), text);
            assert!(parse(text).unwrap().transport().is_ok());
        }
        let Endpoint::Tcp { host, .. } = parse("https://[::1]:7443").unwrap() else {
            unreachable!("https is TCP");
        };
        assert_eq!(host, "::1");
        assert!(Endpoint::parse("unix:/a", None).is_ok());
        assert!(Endpoint::parse("https://a:1", None).is_err());
    }

    #[test]
    fn nothing_unencrypted_or_half_said_is_an_endpoint() {
        let cases = [
            ("http://kekd:1", "not encrypted"),
            ("https://kekd", "names no port"),
            ("kekd:7443", "neither"),
            ("", "neither"),
            ("unix:kekd.sock", "neither"),
            ("https://a:1/path", "neither"),
            ("https://u@a:1", "neither"),
        ];
        for (text, said) in cases {
            let error = parse(text).unwrap_err().to_string();
            assert!(error.contains(said), "{text:?}: {error}");
        }
    }
}
