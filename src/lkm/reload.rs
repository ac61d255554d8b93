//! The certificate, its key and the credentials, looked at again and again. A good change takes effect
//! at the next handshake or request; a bad one changes nothing and is said, in the log and by `/ready`. The invariant: what is in
//! force was loaded whole.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use rustls::ServerConfig;
use tracing::{error, info};
use zeroize::Zeroizing;

use super::credentials::{Credentials, CredentialsError, Memory};
use super::front_end::FrontEnd;
use super::tls::{self, TlsError};
use crate::reload::Watched;
use crate::types::Sha256;

/// Why the files do not serve.
#[derive(Debug, thiserror::Error)]
pub enum FilesError {
    /// The certificate or its key.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The credentials.
    #[error(transparent)]
    Credentials(#[from] CredentialsError),
}

/// Keeps what is in force true to its files.
pub struct Files {
    front_end: Arc<FrontEnd>,
    server: Arc<ArcSwap<ServerConfig>>,
    memory: Memory,
    /// Digests of the files as they were when they were last loaded, or last failed to load.
    looked: Vec<Option<Sha256>>,
    fault: Option<String>,
}

impl Files {
    /// Takes over what was loaded at the start: `server`, and the nonces of the credentials.
    pub fn new(front_end: Arc<FrontEnd>, server: Arc<ServerConfig>, memory: Memory) -> Self {
        let looked = digests(&front_end);
        Self {
            front_end,
            server: Arc::new(ArcSwap::new(server)),
            memory,
            looked,
            fault: None,
        }
    }

    /// What handshakes are made with.
    pub fn server(&self) -> Arc<ArcSwap<ServerConfig>> {
        Arc::clone(&self.server)
    }

    /// How often they are to be looked at.
    pub fn interval(&self) -> Duration {
        Duration::from_millis(self.front_end.config.https.reload_interval_ms)
    }

    fn load(&mut self) -> Result<(), FilesError> {
        let config = &self.front_end.config;
        let server = tls::load(&config.https)?;
        let credentials = Credentials::load(&config.hawk.credentials_file, &mut self.memory)?;
        self.server.store(server);
        self.front_end.set_credentials(credentials);
        Ok(())
    }
}

impl Watched for Files {
    const FILES: &str = "certificate and credentials";

    fn look(&mut self, told: bool) {
        // Before the load: what changes during it is seen at the next look.
        let looked = digests(&self.front_end);
        if !told && looked == self.looked && self.fault.is_none() {
            return;
        }
        self.looked = looked;
        let fault = match self.load() {
            Ok(()) => {
                info!("certificate and credentials were loaded again");
                None
            }
            Err(error) => Some(format!("{error}; what was loaded before stays in force")),
        };
        if let Some(fault) = fault
            .as_ref()
            .filter(|fault| self.fault.as_ref() != Some(fault))
        {
            error!("{fault}");
        }
        self.front_end.set_files_fault(fault.clone());
        self.fault = fault;
    }
}

/// The digests of the files; `None` for one that cannot be read.
fn digests(front_end: &FrontEnd) -> Vec<Option<Sha256>> {
    let (https, hawk) = (&front_end.config.https, &front_end.config.hawk);
    [
        &https.certificate_file,
        &https.private_key_file,
        &hawk.credentials_file,
    ]
    .into_iter()
    .map(|file| {
        std::fs::read(file)
            .ok()
            .map(|bytes| Sha256::of(&Zeroizing::new(bytes)))
    })
    .collect()
}
