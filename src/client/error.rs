//! What can go wrong between a client and kekd, sorted by what may happen next. A refusal by kekd
//! keeps its stable reason; what the transport lost is told from what kekd said.

use std::error::Error;
use std::io;
use std::time::Duration;

use rustls::{AlertDescription, CertificateError};
use tonic::{Code, Status, TimeoutExpired};
use tonic_types::StatusExt as _;

use super::endpoint::EndpointError;
use super::tls::TlsFileError;
use super::wire::Link;
use crate::types::Next;

/// A call, or a connection, that failed.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The endpoint is not one.
    #[error(transparent)]
    Endpoint(#[from] EndpointError),
    /// There is no connection.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// kekd refused the client's certificate, or found none.
    #[error("{peer} refused this client's certificate ({alert:?}): {}", alert_hint(*alert))]
    CertificateRefused {
        /// Where kekd is.
        peer: String,
        /// The TLS alert it sent (RFC 8446 section 6.2).
        alert: AlertDescription,
    },
    /// The connection broke while the call was under way.
    #[error("the connection to {peer} broke: {cause}{}", lost_hint(*.silent))]
    ConnectionLost {
        /// Where kekd is.
        peer: String,
        /// What the transport says.
        cause: String,
        /// The connection was TLS and kekd never said anything on it.
        silent: bool,
    },
    /// No answer within the call's deadline.
    #[error("{peer} did not answer before the deadline; whether it acted is in its audit log")]
    DeadlineExceeded {
        /// Where kekd is.
        peer: String,
    },
    /// kekd answered, and the answer is no.
    #[error("{0}")]
    Refused(Box<Refusal>),
    /// kekd, or whatever answers there, does not keep to its own interface.
    #[error("the answer is not one of kekd's: {0}")]
    Protocol(&'static str),
}

/// What kekd said no with.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("kekd refused: {message} ({})", if reason.is_empty() { code_name(*code) } else { reason })]
pub struct Refusal {
    /// The gRPC status code.
    pub code: Code,
    /// The stable reason (`google.rpc.ErrorInfo`), for example `NOT_GRANTED`; may be empty.
    pub reason: String,
    /// The text of the status.
    pub message: String,
    /// After what time a retry may succeed (`google.rpc.RetryInfo`); none where it cannot help.
    pub retry_delay: Option<Duration>,
}

/// Why there is no connection. `Clone`, because the transport hands it out by reference only.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ConnectError {
    /// One of the client's own files is at fault.
    #[error(transparent)]
    Files(#[from] TlsFileError),
    /// The host can be neither a DNS name nor an IP address.
    #[error("{host:?} is neither a DNS name nor an IP address")]
    HostName {
        /// The host of the endpoint.
        host: String,
    },
    /// Nobody listens there, or the way there is closed.
    #[error("{peer} cannot be reached: {cause}{}", unreachable_hint(*.kind))]
    Unreachable {
        /// Where kekd should be.
        peer: String,
        /// The kind of the operating system's error.
        kind: io::ErrorKind,
        /// What the operating system says.
        cause: String,
    },
    /// No connection within the time given.
    #[error("{peer} did not take the connection within {timeout_ms} ms")]
    TimedOut {
        /// Where kekd should be.
        peer: String,
        /// The time given.
        timeout_ms: u128,
    },
    /// The TLS handshake failed.
    #[error("no TLS with {peer}: {cause}{}", handshake_hint(.cause))]
    Handshake {
        /// Where kekd should be.
        peer: String,
        /// Why.
        cause: rustls::Error,
    },
    /// The connection ended in the middle of the TLS handshake.
    #[error("{peer} ended the TLS handshake: {cause}; kekd may be at a limit, or this is not kekd")]
    HandshakeCut {
        /// Where kekd should be.
        peer: String,
        /// What the operating system says.
        cause: String,
    },
    /// The runtime is shutting down.
    #[error("the connection was given up because this program is stopping")]
    Stopped,
}

impl ConnectError {
    pub(super) fn handshake(peer: String, cause: io::Error) -> Self {
        match cause
            .get_ref()
            .and_then(|e| e.downcast_ref::<rustls::Error>())
        {
            Some(tls) => Self::Handshake {
                peer,
                cause: tls.clone(),
            },
            None => Self::HandshakeCut {
                peer,
                cause: cause.to_string(),
            },
        }
    }
}

impl ClientError {
    /// What may happen next.
    pub fn next(&self) -> Next {
        match self {
            Self::Endpoint(_) | Self::CertificateRefused { .. } => Next::CallerFault,
            Self::Connect(error) => match error {
                ConnectError::Files(_)
                | ConnectError::HostName { .. }
                | ConnectError::Handshake { .. } => Next::CallerFault,
                ConnectError::Unreachable { kind, .. } => match *kind == DENIED {
                    true => Next::CallerFault,
                    false => Next::TryAgain,
                },
                ConnectError::TimedOut { .. }
                | ConnectError::HandshakeCut { .. }
                | ConnectError::Stopped => Next::TryAgain,
            },
            Self::ConnectionLost { .. } | Self::DeadlineExceeded { .. } => Next::TryAgain,
            Self::Refused(refusal) => refusal.next(),
            Self::Protocol(_) => Next::Fatal,
        }
    }

    /// The error of a call: what kekd said, or what became of the connection.
    pub(super) fn from_status(status: &Status, link: &Link) -> Self {
        // Only a status that the transport made has a source; kekd's own words have none.
        match status.source() {
            Some(source) => Self::from_transport(source, link),
            None => Self::Refused(Box::new(Refusal::from(status))),
        }
    }

    /// The error of the transport: the first cause in its chain that is ours to know.
    pub(super) fn from_transport(error: &(dyn Error + 'static), link: &Link) -> Self {
        let peer = link.peer().to_owned();
        let mut cause = Some(error);
        let mut innermost = error;
        while let Some(error) = cause {
            if let Some(known) = error.downcast_ref::<ConnectError>() {
                return Self::Connect(known.clone());
            }
            if error.is::<TimeoutExpired>() {
                return Self::DeadlineExceeded { peer };
            }
            innermost = error;
            cause = error.source();
        }
        let seen = link.seen();
        match seen.alert {
            Some(alert) => Self::CertificateRefused { peer, alert },
            None => Self::ConnectionLost {
                peer,
                cause: innermost.to_string(),
                silent: seen.tls && !seen.heard,
            },
        }
    }
}

impl Refusal {
    /// What may happen next. A retry delay from kekd settles it; else the code does.
    pub const fn next(&self) -> Next {
        if self.retry_delay.is_some() {
            return Next::TryAgain;
        }
        match self.code {
            Code::Unavailable
            | Code::ResourceExhausted
            | Code::DeadlineExceeded
            | Code::Aborted
            | Code::Cancelled => Next::TryAgain,
            Code::InvalidArgument
            | Code::NotFound
            | Code::AlreadyExists
            | Code::PermissionDenied
            | Code::Unauthenticated
            | Code::FailedPrecondition
            | Code::OutOfRange
            | Code::Unimplemented => Next::CallerFault,
            Code::Ok | Code::Unknown | Code::Internal | Code::DataLoss => Next::Fatal,
        }
    }
}

impl From<&Status> for Refusal {
    fn from(status: &Status) -> Self {
        Self {
            code: status.code(),
            reason: status
                .get_details_error_info()
                .map(|details| details.reason)
                .unwrap_or_default(),
            message: status.message().to_owned(),
            retry_delay: status
                .get_details_retry_info()
                .and_then(|details| details.retry_delay),
        }
    }
}

/// The name of a gRPC status code as the specification writes it, for example `NOT_FOUND`.
pub const fn code_name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}

const DENIED: io::ErrorKind = io::ErrorKind::PermissionDenied;

fn unreachable_hint(kind: io::ErrorKind) -> &'static str {
    if kind == DENIED {
        return "; this user may not open the socket";
    }
    "; is kekd running, and is this its address?"
}

fn handshake_hint(cause: &rustls::Error) -> &'static str {
    use rustls::Error::{AlertReceived, InvalidCertificate};
    let hints = [
        (
            InvalidCertificate(CertificateError::UnknownIssuer),
            "; its certificate was not issued by an authority in the CA file",
        ),
        (
            InvalidCertificate(CertificateError::BadSignature),
            "; the CA file holds another authority of the same name",
        ),
        (
            AlertReceived(AlertDescription::ProtocolVersion),
            "; it does not speak TLS 1.3",
        ),
        (
            AlertReceived(AlertDescription::NoApplicationProtocol),
            "; it does not speak HTTP/2",
        ),
    ];
    hints
        .iter()
        .find(|(of, _)| of == cause)
        .map_or("", |(_, hint)| hint)
}

fn alert_hint(alert: AlertDescription) -> &'static str {
    let hints = [
        (AlertDescription::CertificateRequired, "it must be sent one"),
        (
            AlertDescription::UnknownCA,
            "it was not issued by an authority kekd accepts",
        ),
        (
            AlertDescription::CertificateExpired,
            "it has expired or is not valid yet",
        ),
        (AlertDescription::CertificateRevoked, "it has been revoked"),
        (
            AlertDescription::DecryptError,
            "its key does not fit it, or another authority of the same name issued it",
        ),
    ];
    hints
        .iter()
        .find(|(of, _)| *of == alert)
        .map_or("kekd's log says why", |(_, hint)| hint)
}

const fn lost_hint(silent: bool) -> &'static str {
    if silent {
        return "; kekd ends a connection without a word when it does not accept the client's \
                certificate or is at a limit, and its log says which";
    }
    ""
}
