//! The way to kekd: pooled connections, places for what is under way, a deadline for each call. What
//! kekd says no with becomes one of two things: a request that is bad for good, or one to try again.
//! The invariant: a call never waits for a place, so a kekd that stands still makes no pile.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::Semaphore;

use super::bulk::Bulk;
use super::config::{KekdConfig, LkmLimits};
use super::credentials::Lane;
use crate::client::{
    Client, ClientError, Endpoint, EndpointError, Refusal, Release, Released, TlsFiles, UnwrapCall,
};
use crate::types::Dek;

/// kekd's reasons that no retry mends, and that say something of the request alone. Outward they are
/// all one.
const OF_THE_REQUEST: [&str; 7] = [
    "UNDECRYPTABLE",
    "KEYPAIR_UNKNOWN",
    "NOT_GRANTED",
    "VERSION_NOT_USABLE",
    "PADDING_NOT_ALLOWED",
    "RELEASE_FORM_NOT_ALLOWED",
    "INVALID_REQUEST",
];

/// kekd's reasons that pass, and that say something of what was asked for so far: all that it gives
/// with `RESOURCE_EXHAUSTED`. It serves meanwhile, only not this call.
const OF_THE_CALLERS: [&str; 3] = ["BUSY", "FAILURE_QUOTA", "REFUSED_TOO_OFTEN"];

/// Why there is no DEK.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoDek {
    /// The request is bad, and stays so.
    #[error("{reason}")]
    Bad {
        /// kekd's reason.
        reason: String,
    },
    /// Another try may do.
    #[error("{reason}")]
    Unavailable {
        /// kekd's reason, or what became of the connection.
        reason: String,
        /// When to try again, in seconds, where kekd says so.
        retry_after_s: Option<u64>,
        /// It speaks of kekd, its HSM, the way there or this front-end's standing, so that others may
        /// meet it as well; else of what callers asked for.
        of_kekd: bool,
    },
}

impl NoDek {
    pub(super) fn unavailable(reason: impl Into<String>) -> Self {
        Self::Unavailable {
            reason: reason.into(),
            retry_after_s: None,
            of_kekd: true,
        }
    }
}

impl From<&Refusal> for NoDek {
    fn from(refusal: &Refusal) -> Self {
        let reason = refusal.reason.clone();
        if OF_THE_REQUEST.contains(&reason.as_str()) {
            return Self::Bad { reason };
        }
        Self::Unavailable {
            of_kekd: !OF_THE_CALLERS.contains(&reason.as_str()),
            reason: refusal.to_string(),
            retry_after_s: refusal.retry_delay.map(|delay| delay.as_secs().max(1)),
        }
    }
}

impl From<ClientError> for NoDek {
    fn from(error: ClientError) -> Self {
        if let ClientError::Refused(refusal) = &error {
            return Self::from(&**refusal);
        }
        Self::unavailable(error.to_string())
    }
}

/// kekd, as the front-end has it.
pub struct Kekd {
    connections: Vec<Client>,
    next: AtomicUsize,
    interactive: Semaphore,
    bulk: Bulk,
    bulk_places: Semaphore,
    timeout: Duration,
}

impl Kekd {
    /// Connects when first asked. Must be called inside a runtime.
    ///
    /// # Errors
    /// Where the endpoint is none.
    pub fn new(config: &KekdConfig, limits: &LkmLimits) -> Result<Self, ClientError> {
        let endpoint = endpoint(config)?;
        let timeout = Duration::from_millis(config.timeout_ms);
        let connect = || Client::connect_lazily(endpoint.clone(), timeout);
        let connections = (0..config.connections.max(1))
            .map(|_| connect())
            .collect::<Result<Vec<_>, _>>()?;
        Ok(Self {
            connections,
            next: AtomicUsize::new(0),
            interactive: Semaphore::new(limits.interactive_max),
            bulk: Bulk::new(limits.bulk_max, timeout, connect)?,
            bulk_places: Semaphore::new(limits.bulk_max),
            timeout,
        })
    }

    /// One of the connections.
    ///
    /// # Errors
    /// Never: there is at least one.
    pub fn client(&self) -> Result<&Client, NoDek> {
        let index = self.next.fetch_add(1, Ordering::Relaxed) % self.connections.len().max(1);
        let none = || NoDek::unavailable("there is no connection to kekd");
        self.connections.get(index).ok_or_else(none)
    }

    /// How many unwraps are under way, of all lanes.
    pub fn under_way(&self, limits: &LkmLimits) -> usize {
        let used = |max: usize, places: &Semaphore| max.saturating_sub(places.available_permits());
        used(limits.interactive_max, &self.interactive) + used(limits.bulk_max, &self.bulk_places)
    }

    /// Unwraps one DEK in the given lane, or says at once that there is no place.
    ///
    /// # Errors
    /// Where kekd does not release it in time.
    pub async fn unwrap(&self, lane: Lane, call: UnwrapCall) -> Result<Dek, NoDek> {
        let places = match lane {
            Lane::Interactive => &self.interactive,
            Lane::Bulk => &self.bulk_places,
        };
        let Ok(_place) = places.try_acquire() else {
            return Err(NoDek::Unavailable {
                reason: "too many unwraps are under way".to_owned(),
                retry_after_s: None,
                of_kekd: false,
            });
        };
        let released = match lane {
            Lane::Interactive => {
                let asked = self.client()?.unwrap(call);
                let late = |_| NoDek::unavailable("kekd did not answer in time");
                tokio::time::timeout(self.timeout, asked)
                    .await
                    .map_err(late)??
            }
            Lane::Bulk => self.bulk.unwrap(call).await?,
        };
        in_clear(released)
    }
}

fn in_clear(released: Released) -> Result<Dek, NoDek> {
    match released.release {
        Release::Dek(dek) => Ok(dek),
        Release::Rewrapped(_) => Err(NoDek::unavailable(
            "kekd released another form than asked for",
        )),
    }
}

/// Where kekd is, with the files that this needs.
///
/// # Errors
/// Where the endpoint is none, or a file is missing.
pub fn endpoint(config: &KekdConfig) -> Result<Endpoint, EndpointError> {
    let files = match (
        &config.ca_file,
        &config.certificate_file,
        &config.private_key_file,
    ) {
        (Some(ca), Some(certificate), Some(private_key)) => Some(TlsFiles {
            ca: ca.clone(),
            certificate: certificate.clone(),
            private_key: private_key.clone(),
        }),
        _ => None,
    };
    Endpoint::parse(&config.endpoint, files)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tonic::Code;

    #[test]
    fn what_is_wrong_for_good_is_told_from_what_is_not() {
        let refusal = |code, reason: &str, delay: Option<u64>| {
            NoDek::from(&Refusal {
                code,
                reason: reason.to_owned(),
                message: String::new(),
                retry_delay: delay.map(Duration::from_millis),
            })
        };
        for reason in OF_THE_REQUEST {
            let no = refusal(Code::InvalidArgument, reason, None);
            assert!(matches!(no, NoDek::Bad { .. }), "{reason}");
        }
        // The front-end's own standing with kekd is no word about the request.
        for (code, reason) in [
            (Code::PermissionDenied, "CALLER_UNKNOWN"),
            (Code::PermissionDenied, "ROLE_NOT_ALLOWED"),
            (Code::Unauthenticated, "CERTIFICATE_EXPIRED"),
            (Code::Internal, "INTERNAL"),
            (Code::Unavailable, "HSM_UNAVAILABLE"),
            (Code::Unavailable, "AUDIT_UNAVAILABLE"),
            (Code::Unavailable, "STOPPING"),
            (Code::DeadlineExceeded, "DEADLINE_EXCEEDED"),
            (Code::Unavailable, ""),
        ] {
            let no = refusal(code, reason, None);
            assert!(
                matches!(no, NoDek::Unavailable { of_kekd: true, .. }),
                "{reason}"
            );
        }
        for reason in OF_THE_CALLERS {
            let no = refusal(Code::ResourceExhausted, reason, None);
            assert!(
                matches!(no, NoDek::Unavailable { of_kekd: false, .. }),
                "{reason}"
            );
        }
        let busy = refusal(Code::ResourceExhausted, "BUSY", Some(2_500));
        assert!(matches!(
            busy,
            NoDek::Unavailable {
                retry_after_s: Some(2),
                ..
            }
        ));
    }
}
