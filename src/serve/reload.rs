//! The files of the TCP door, looked at again and again. A good change takes effect at the next
//! handshake, and a revocation at the next request; a bad one changes nothing and is shouted about.
//! The invariant: what is in force was loaded whole.

use std::collections::HashSet;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use rustls::ServerConfig;
use tracing::{error, info, warn};

use super::tls::{Expiry, TlsError, TlsMaterial};
use crate::clock::UnixMs;
use crate::config::TcpConfig;
use crate::grpc::network::Network;
use crate::reload::Watched;

const DAY_MS: u64 = 24 * 60 * 60 * 1000;

/// Keeps the TLS material true to its files.
pub(super) struct TlsFiles {
    tcp: TcpConfig,
    network: Arc<Network>,
    server: Arc<ArcSwap<ServerConfig>>,
    /// What the files looked like when what is in force was loaded.
    loaded: Vec<Option<Look>>,
    expiries: Vec<Expiry>,
    lacks: Vec<String>,
    /// What is wrong with the files now, if anything is.
    fault: Option<String>,
    /// What was already said about expiry.
    said: HashSet<String>,
}

/// Device, inode, size, and times of change to the content and to the inode, in seconds and
/// nanoseconds: a file replaced or rewritten differs in one of them.
type Look = (u64, u64, u64, (i64, i64), (i64, i64));

impl TlsFiles {
    /// Loads the files for the first time. Blocks.
    pub(super) fn load(tcp: TcpConfig, network: Arc<Network>) -> Result<Self, TlsError> {
        let loaded = looks(&tcp);
        let material = TlsMaterial::load(&tcp)?;
        network.set_revocations(material.revocations);
        let mut files = Self {
            tcp,
            network,
            server: Arc::new(ArcSwap::new(material.server)),
            loaded,
            expiries: material.expiries,
            lacks: material.lacks,
            fault: None,
            said: HashSet::new(),
        };
        files.tell();
        Ok(files)
    }

    /// What handshakes are made with; changes when the files do.
    pub(super) fn server(&self) -> Arc<ArcSwap<ServerConfig>> {
        Arc::clone(&self.server)
    }

    /// How often they are to be looked at.
    pub(super) fn interval(&self) -> Duration {
        Duration::from_millis(self.tcp.reload_interval_ms)
    }

    fn tell(&mut self) {
        let now = self.network.clock().now();
        let notices: Vec<String> = self
            .expiries
            .iter()
            .filter_map(|e| notice(e, now))
            .chain(self.lacks.iter().cloned())
            .collect();
        for text in &notices {
            if self.said.insert(text.clone()) {
                warn!("{text}");
            }
        }
        self.said.retain(|text| notices.contains(text));
        self.network
            .set_problems(self.fault.iter().cloned().chain(notices).collect());
    }
}

impl Watched for TlsFiles {
    const FILES: &str = "the TLS files";

    /// Loads the files again where they changed, where the last load failed, or where `told`.
    fn look(&mut self, told: bool) {
        // Before the load: what changes during it is seen at the next look.
        let looks = looks(&self.tcp);
        if told || self.fault.is_some() || looks != self.loaded {
            match TlsMaterial::load(&self.tcp) {
                Ok(material) => {
                    self.server.store(material.server);
                    self.network.set_revocations(material.revocations);
                    self.expiries = material.expiries;
                    self.lacks = material.lacks;
                    self.loaded = looks;
                    self.fault = None;
                    info!("the TLS files were loaded again");
                }
                Err(error) => {
                    let fault = format!("{error}; what was loaded before stays in force");
                    if self.fault.as_ref() != Some(&fault) {
                        error!("{fault}");
                    }
                    self.fault = Some(fault);
                }
            }
        }
        self.tell();
    }
}

/// The text changes as 30, 7 and 1 days are left, and at the end, so that each is said once.
fn notice(expiry: &Expiry, now: UnixMs) -> Option<String> {
    let Expiry {
        what,
        at,
        said_ahead,
    } = expiry;
    let Some(left) = at.0.checked_sub(now.0) else {
        let at = at.rfc3339();
        return Some(match said_ahead {
            true => format!("{what} expired at {at}; replace it now"),
            false => format!(
                "{what} expired at {at} and stays in force; who was revoked since is not known: \
                 replace it now"
            ),
        });
    };
    if !said_ahead {
        return None;
    }
    let days = [1, 7, 30].into_iter().find(|days| left <= days * DAY_MS)?;
    Some(format!(
        "{what} expires at {}, in {days} days or less; replace it",
        at.rfc3339()
    ))
}

/// `None` for a file that cannot be looked at.
fn looks(tcp: &TcpConfig) -> Vec<Option<Look>> {
    let files: [Option<&PathBuf>; 4] = [
        Some(&tcp.certificate_file),
        Some(&tcp.private_key_file),
        Some(&tcp.client_ca_file),
        tcp.client_crl_file.as_ref(),
    ];
    let look = |file: &PathBuf| {
        let m = fs::metadata(file).ok()?;
        Some((
            m.dev(),
            m.ino(),
            m.size(),
            (m.mtime(), m.mtime_nsec()),
            (m.ctime(), m.ctime_nsec()),
        ))
    };
    files.into_iter().map(|file| file.and_then(look)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_expiry_is_said_at_30_7_and_1_days_and_at_the_end() {
        let expiry = Expiry {
            what: "the server certificate x".to_owned(),
            at: UnixMs(100 * DAY_MS),
            said_ahead: true,
        };
        let said = |days_left: u64| notice(&expiry, UnixMs((100 - days_left) * DAY_MS));
        assert_eq!(said(31), None);
        for (left, within) in [(30, 30), (8, 30), (7, 7), (2, 7), (1, 1), (0, 1)] {
            let expected = format!(
                "the server certificate x expires at 1970-04-11T00:00:00Z, in {within} days or \
                 less; replace it"
            );
            assert_eq!(said(left), Some(expected), "{left} days left");
        }
        assert_eq!(
            notice(&expiry, UnixMs(100 * DAY_MS + 1)).as_deref(),
            Some("the server certificate x expired at 1970-04-11T00:00:00Z; replace it now")
        );
        let list = Expiry {
            said_ahead: false,
            ..expiry
        };
        assert_eq!(notice(&list, UnixMs(100 * DAY_MS)), None);
        let text = notice(&list, UnixMs(100 * DAY_MS + 1));
        assert!(text.is_some_and(|text| text.contains("and stays in force")));
    }
}
