//! From an accepted TCP connection to a TLS stream and the certificate behind it, or one stable
//! reason why not. The reason goes to the audit log; the peer gets a TLS alert and nothing else.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use rustls::{CertificateError, PeerIncompatible, ServerConfig};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tracing::debug;

use crate::grpc::peer::PeerCertificate;

/// The handshake, cut after `within`.
pub(super) async fn handshake(
    stream: TcpStream,
    server: Arc<ServerConfig>,
    within: Duration,
) -> Result<(TlsStream<TcpStream>, PeerCertificate), &'static str> {
    let stream = tokio::time::timeout(within, TlsAcceptor::from(server).accept(stream))
        .await
        .map_err(|_| "TLS_HANDSHAKE_TIMEOUT")?
        .map_err(|error| {
            debug!(%error, "a handshake failed");
            reason(&error)
        })?;
    let (_, tls) = stream.get_ref();
    // A client that names no protocol at all would get this far.
    if tls.alpn_protocol() != Some(b"h2") {
        return Err("TLS_NO_HTTP2");
    }
    let leaf = tls
        .peer_certificates()
        .and_then(<[_]>::first)
        .ok_or("TLS_NO_CERTIFICATE")?;
    let certificate = PeerCertificate::from_der(leaf).map_err(|error| {
        debug!(%error, "a certificate is nobody's");
        error.reason()
    })?;
    Ok((stream, certificate))
}

#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "rustls may grow these enums"
)]
fn reason(error: &io::Error) -> &'static str {
    let Some(error) = error
        .get_ref()
        .and_then(|inner| inner.downcast_ref::<rustls::Error>())
    else {
        return "TLS_HANDSHAKE_FAILED";
    };
    match error {
        rustls::Error::NoCertificatesPresented => "TLS_NO_CERTIFICATE",
        rustls::Error::NoApplicationProtocol => "TLS_NO_HTTP2",
        rustls::Error::InvalidCertificate(error) => match error {
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
                "CERTIFICATE_EXPIRED"
            }
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                "CERTIFICATE_NOT_YET_VALID"
            }
            CertificateError::Revoked => "CERTIFICATE_REVOKED",
            CertificateError::UnknownIssuer | CertificateError::BadSignature => {
                "CERTIFICATE_ISSUER_UNKNOWN"
            }
            CertificateError::UnknownRevocationStatus => "CERTIFICATE_STANDING_UNKNOWN",
            _ => "CERTIFICATE_REFUSED",
        },
        rustls::Error::PeerIncompatible(
            PeerIncompatible::SupportedVersionsExtensionRequired
            | PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig
            | PeerIncompatible::ServerDoesNotSupportTls12Or13
            | PeerIncompatible::Tls12NotOffered
            | PeerIncompatible::Tls12NotOfferedOrEnabled,
        ) => "TLS_VERSION",
        _ => "TLS_HANDSHAKE_FAILED",
    }
}
