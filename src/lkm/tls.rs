//! The TLS side of the cloud's door, built whole from its files or not at all: TLS 1.2 with AEAD and
//! forward secrecy, or 1.3; HTTP/1.1 only; no client certificates, since Hawk says who asks.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::ServerConfig;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use zeroize::Zeroizing;

use super::config::{HttpsConfig, TlsMin};

/// Why TLS cannot be set up from its files. The operator's to mend; at a reload the old stays.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read.
    #[error("https.{setting}: cannot read {}: {source}", file.display())]
    Unreadable {
        /// The setting.
        setting: &'static str,
        /// The file.
        file: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// Others may read the private key.
    #[error(
        "https.private_key_file: {} has mode {mode:04o}: others can read it, or its group can write \
         it; make it 0600 (0440 is accepted, as systemd's credentials have it)",
        file.display()
    )]
    KeyTooOpen {
        /// The file.
        file: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// A file does not hold what it should.
    #[error("https.{setting}: {} holds no PEM {expected}: {problem}", file.display())]
    Malformed {
        /// The setting.
        setting: &'static str,
        /// The file.
        file: PathBuf,
        /// What it should hold.
        expected: &'static str,
        /// What is wrong.
        problem: String,
    },
    /// Certificate and key do not serve.
    #[error(
        "https.certificate_file {} and https.private_key_file {} do not serve together: {source}",
        certificate.display(),
        key.display()
    )]
    NotAPair {
        /// The certificate's file.
        certificate: PathBuf,
        /// The key's file.
        key: PathBuf,
        /// What rustls says.
        source: rustls::Error,
    },
}

/// Reads the files. Blocks.
///
/// # Errors
/// Where they do not serve.
pub fn load(https: &HttpsConfig) -> Result<Arc<ServerConfig>, TlsError> {
    let chain = certificates(&https.certificate_file)?;
    let key = private_key(&https.private_key_file)?;
    let not_a_pair = |source| TlsError::NotAPair {
        certificate: https.certificate_file.clone(),
        key: https.private_key_file.clone(),
        source,
    };
    let versions: &[&rustls::SupportedProtocolVersion] = match https.tls_min {
        TlsMin::Tls12 => &[&rustls::version::TLS13, &rustls::version::TLS12],
        TlsMin::Tls13 => &[&rustls::version::TLS13],
    };
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut server = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(versions)
        .and_then(|builder| builder.with_no_client_auth().with_single_cert(chain, key))
        .map_err(not_a_pair)?;
    server.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(server))
}

fn read(setting: &'static str, file: &Path) -> Result<Zeroizing<Vec<u8>>, TlsError> {
    fs::read(file)
        .map(Zeroizing::new)
        .map_err(|source| TlsError::Unreadable {
            setting,
            file: file.to_owned(),
            source,
        })
}

fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    const SETTING: &str = "certificate_file";
    let malformed = |problem: String| TlsError::Malformed {
        setting: SETTING,
        file: file.to_owned(),
        expected: "certificate",
        problem,
    };
    let chain: Vec<_> = CertificateDer::pem_slice_iter(&read(SETTING, file)?)
        .collect::<Result<_, _>>()
        .map_err(|error| malformed(error.to_string()))?;
    match chain.is_empty() {
        true => Err(malformed("there is none in it".to_owned())),
        false => Ok(chain),
    }
}

fn private_key(file: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    const SETTING: &str = "private_key_file";
    let pem = read(SETTING, file)?;
    let mode = fs::metadata(file).map_or(0, |found| found.permissions().mode());
    if mode & 0o027 != 0 {
        return Err(TlsError::KeyTooOpen {
            file: file.to_owned(),
            mode: mode & 0o7777,
        });
    }
    PrivateKeyDer::from_pem_slice(&pem).map_err(|error| TlsError::Malformed {
        setting: SETTING,
        file: file.to_owned(),
        expected: "private key",
        problem: error.to_string(),
    })
}
