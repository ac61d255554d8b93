//! What kekctl says when something failed: an exit status, a stable reason, a text for people and,
//! where it helps, when to try again. The one place that sorts the errors of the library into exit
//! statuses.

use std::io::ErrorKind;
use std::time::Duration;

use kekd::client::{ClientError, ConnectError, Refusal};
use kekd::program::in_full;
use kekd::recording::{Fault, RecordingError};
use kekd::types::Next;
use tonic::Code;

use crate::exit::Exit;

/// A failure as it is reported.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    /// How kekctl ends.
    pub exit: Exit,
    /// A stable word in capitals: kekd's own reason, or one of kekctl's.
    pub reason: String,
    /// What went wrong and what to do.
    pub message: String,
    /// When a retry may succeed.
    pub retry_delay: Option<Duration>,
}

impl Failure {
    /// A failure that kekctl itself found.
    pub fn new(exit: Exit, reason: &'static str, message: impl Into<String>) -> Self {
        Self {
            exit,
            reason: reason.to_owned(),
            message: message.into(),
            retry_delay: None,
        }
    }
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        let mut failure = error
            .chain()
            .find_map(known)
            .unwrap_or_else(|| Self::new(Exit::Failed, "FAILED", ""));
        failure.message = in_full(error.as_ref());
        failure
    }
}

fn known(error: &(dyn std::error::Error + 'static)) -> Option<Failure> {
    if let Some(failure) = error.downcast_ref::<Failure>() {
        return Some(failure.clone());
    }
    if let Some(error) = error.downcast_ref::<ClientError>() {
        return Some(client(error));
    }
    error.downcast_ref::<RecordingError>().map(recording)
}

fn client(error: &ClientError) -> Failure {
    let (exit, reason) = match error {
        ClientError::Refused(refusal) => return refused(refusal),
        ClientError::Endpoint(_) => (Exit::Configuration, "ENDPOINT_INVALID"),
        ClientError::CertificateRefused { .. } => (Exit::NotPermitted, "CERTIFICATE_REFUSED"),
        ClientError::ConnectionLost { .. } => (Exit::Unavailable, "CONNECTION_LOST"),
        ClientError::DeadlineExceeded { .. } => (Exit::Unavailable, "DEADLINE_EXCEEDED"),
        ClientError::Protocol(_) => (Exit::Protocol, "PROTOCOL"),
        ClientError::Connect(error) => match error {
            ConnectError::Files(_) => (Exit::Configuration, "TLS_FILES"),
            ConnectError::HostName { .. } => (Exit::Configuration, "ENDPOINT_INVALID"),
            ConnectError::Handshake { .. } => (Exit::Protocol, "TLS_HANDSHAKE"),
            ConnectError::Unreachable { kind, .. } => match *kind == ErrorKind::PermissionDenied {
                true => (Exit::NotPermitted, "SOCKET_DENIED"),
                false => (Exit::Unavailable, "UNREACHABLE"),
            },
            ConnectError::TimedOut { .. }
            | ConnectError::HandshakeCut { .. }
            | ConnectError::Stopped => (Exit::Unavailable, "UNREACHABLE"),
        },
    };
    Failure::new(exit, reason, "")
}

fn refused(refusal: &Refusal) -> Failure {
    let exit = match (refusal.code, refusal.next()) {
        (Code::PermissionDenied | Code::Unauthenticated, _) => Exit::NotPermitted,
        (Code::Unimplemented, _) => Exit::Protocol,
        (_, Next::TryAgain) => Exit::Unavailable,
        (_, Next::CallerFault | Next::Fatal) => Exit::Failed,
    };
    let reason = match refusal.reason.is_empty() {
        true => kekd::client::code_name(refusal.code).to_owned(),
        false => refusal.reason.clone(),
    };
    Failure {
        exit,
        reason,
        message: String::new(),
        retry_delay: refusal.retry_delay,
    }
}

fn recording(error: &RecordingError) -> Failure {
    let (exit, reason) = match &error.fault {
        // Outputs have an exit status of their own (file.rs): this is an input.
        Fault::Io { .. } => (Exit::NoInput, "INPUT_MISSING"),
        Fault::Exists | Fault::NotRegular => (Exit::CannotCreate, "OUTPUT_EXISTS"),
        Fault::OutOfMemory { .. } | Fault::Cryptography { .. } => (Exit::Failed, "FAILED"),
        Fault::DoesNotOpen => (Exit::Failed, "DOES_NOT_OPEN"),
        Fault::NoCertificate | Fault::PaddingNotSealed => (Exit::Usage, "USAGE"),
        Fault::TooLarge { .. } => (Exit::Malformed, "TOO_LARGE"),
        Fault::NotCms { .. }
        | Fault::Base64 { .. }
        | Fault::Malformed { .. }
        | Fault::Structure { .. }
        | Fault::ContentType { .. }
        | Fault::InnerType { .. }
        | Fault::Detached
        | Fault::TooManyRecipients
        | Fault::NoKeyTransport { .. }
        | Fault::ContentCipher { .. }
        | Fault::ParameterLength { .. }
        | Fault::NotACertificate { .. }
        | Fault::CertificateKey { .. }
        | Fault::CertificateUsage => (Exit::Malformed, "NOT_ACCEPTABLE"),
    };
    Failure::new(exit, reason, "")
}
