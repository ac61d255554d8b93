//! The TLS side of the TCP door, built whole from its files or not at all: TLS 1.3 only, a client
//! certificate is required, ML-KEM is preferred, no tickets, no early data, no key log. A handshake
//! takes the material of its moment; what replaces it later does not touch connections that stand.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::{fs, io};

use der::Decode as _;
use rustls::crypto::aws_lc_rs;
use rustls::server::{NoServerSessionStorage, VerifierBuilderError, WebPkiClientVerifier};
use rustls::{RootCertStore, ServerConfig};
use rustls_pki_types::pem::{self, PemObject};
use rustls_pki_types::{
    CertificateDer, CertificateRevocationListDer, PrivateKeyDer, SignatureVerificationAlgorithm,
};
use x509_cert::certificate::{Certificate, Rfc5280};
use x509_cert::crl::CertificateList;
use zeroize::Zeroizing;

use super::crl::{self, CrlError};
use crate::clock::UnixMs;
use crate::config::TcpConfig;
use crate::grpc::peer::{Revocations, unix_ms};

/// Why TLS cannot be set up from its files. The operator's to mend; at a reload the old material
/// stays.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read.
    #[error("tcp.{setting}: cannot read {}: {source}", file.display())]
    Unreadable {
        /// The setting.
        setting: &'static str,
        /// The file.
        file: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// Others may read the private key.
    #[error(
        "tcp.private_key_file: {} has mode {mode:04o}: others can read it, or its group can write \
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
    #[error("tcp.{setting}: {} holds no {expected}: {problem}", file.display())]
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
    /// The revocation lists do not serve.
    #[error("tcp.client_crl_file: {} cannot be used: {problem}", file.display())]
    Revocations {
        /// The file.
        file: PathBuf,
        /// What is wrong.
        problem: CrlError,
    },
    /// Certificate and key are not a pair, or one of them is of a kind that TLS 1.3 does not know.
    #[error(
        "tcp.certificate_file {} and tcp.private_key_file {} do not serve together: {source}",
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
    /// No verifier for client certificates.
    #[error("tcp.client_ca_file {}: {source}", file.display())]
    Authorities {
        /// The file.
        file: PathBuf,
        /// What rustls says.
        source: VerifierBuilderError,
    },
    /// rustls does not take our own choice of versions and algorithms.
    #[error("TLS cannot be set up: {0}")]
    Provider(rustls::Error),
}

/// Something that ends one day.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Expiry {
    /// What it is, for example "the server certificate /etc/kekd/tls.crt".
    pub(super) what: String,
    /// When it ends.
    pub(super) at: UnixMs,
    /// Whether the end is said ahead. A revocation list is short-lived and replaced by itself.
    pub(super) said_ahead: bool,
}

/// Everything the files say.
pub(super) struct TlsMaterial {
    /// For handshakes.
    pub(super) server: Arc<ServerConfig>,
    /// For requests on connections that stand.
    pub(super) revocations: Revocations,
    /// What ends when.
    pub(super) expiries: Vec<Expiry>,
    /// What works and is not as it should be, one sentence each.
    pub(super) lacks: Vec<String>,
}

impl TlsMaterial {
    /// Reads the files. Blocks.
    pub(super) fn load(tcp: &TcpConfig) -> Result<Self, TlsError> {
        let mut expiries = Vec::new();
        let file = File {
            setting: "certificate_file",
            path: &tcp.certificate_file,
        };
        let chain = file.certificates("server certificate", &mut expiries)?;
        let file = File {
            setting: "client_ca_file",
            path: &tcp.client_ca_file,
        };
        let authorities = file.certificates("client authority", &mut expiries)?;
        let mut roots = RootCertStore::empty();
        for authority in &authorities {
            roots
                .add(authority.clone())
                .map_err(|error| file.malformed("certificate authority", error))?;
        }
        let provider = Arc::new(aws_lc_rs::default_provider());
        let mut revocations = Revocations::default();
        let (mut lists, mut lacks) = (Vec::new(), Vec::new());
        if let Some(path) = &tcp.client_crl_file {
            let file = File {
                setting: "client_crl_file",
                path,
            };
            let algorithms = provider.signature_verification_algorithms.all;
            let parsed;
            (lists, parsed) = file.revocation_lists(&mut revocations, &mut expiries)?;
            lacks = file.judge(&authorities, &parsed, algorithms)?;
        }

        let verifier =
            WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
                .with_crls(lists)
                .build()
                .map_err(|source| TlsError::Authorities {
                    file: tcp.client_ca_file.clone(),
                    source,
                })?;
        let mut server = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(TlsError::Provider)?
            .with_client_cert_verifier(verifier)
            .with_single_cert(chain, private_key(&tcp.private_key_file)?)
            .map_err(|source| TlsError::NotAPair {
                certificate: tcp.certificate_file.clone(),
                key: tcp.private_key_file.clone(),
                source,
            })?;
        server.alpn_protocols = vec![b"h2".to_vec()];
        // A resumed session would skip the client's certificate, and so its revocation.
        server.session_storage = Arc::new(NoServerSessionStorage {});
        server.send_tls13_tickets = 0;
        Ok(Self {
            server: Arc::new(server),
            revocations,
            expiries,
            lacks,
        })
    }
}

/// A file and the setting that names it.
struct File<'a> {
    setting: &'static str,
    path: &'a Path,
}

impl File<'_> {
    fn read(&self) -> Result<Vec<u8>, TlsError> {
        fs::read(self.path).map_err(|source| self.unreadable(source))
    }

    fn certificates(
        &self,
        what: &str,
        expiries: &mut Vec<Expiry>,
    ) -> Result<Vec<CertificateDer<'static>>, TlsError> {
        let mut certificates = Vec::new();
        for certificate in CertificateDer::pem_slice_iter(&self.read()?) {
            let certificate =
                certificate.map_err(|error| self.malformed("PEM certificate", in_words(error)))?;
            let parsed = Certificate::from_der(&certificate)
                .map_err(|error| self.malformed("X.509 certificate", error))?;
            expiries.push(Expiry {
                what: format!("the {what} {}", self.path.display()),
                at: unix_ms(parsed.tbs_certificate().validity().not_after),
                said_ahead: true,
            });
            certificates.push(certificate);
        }
        if certificates.is_empty() {
            return Err(self.malformed("PEM certificate", in_words(pem::Error::NoItemsFound)));
        }
        Ok(certificates)
    }

    /// PEM, or one list in DER.
    fn revocation_lists(
        &self,
        revocations: &mut Revocations,
        expiries: &mut Vec<Expiry>,
    ) -> Result<
        (
            Vec<CertificateRevocationListDer<'static>>,
            Vec<CertificateList<Rfc5280>>,
        ),
        TlsError,
    > {
        const WHAT: &str = "certificate revocation list";
        let bytes = self.read()?;
        let lists: Vec<CertificateRevocationListDer<'static>> =
            if bytes.trim_ascii_start().starts_with(b"-----BEGIN") {
                CertificateRevocationListDer::pem_slice_iter(&bytes)
                    .collect::<Result<_, _>>()
                    .map_err(|error| self.malformed(WHAT, in_words(error)))?
            } else {
                vec![bytes.into()]
            };
        if lists.is_empty() {
            return Err(self.malformed(WHAT, in_words(pem::Error::NoItemsFound)));
        }
        let mut all_parsed = Vec::new();
        for list in &lists {
            revocations
                .add(list)
                .map_err(|error| self.malformed(WHAT, error))?;
            let parsed = CertificateList::<Rfc5280>::from_der(list)
                .map_err(|error| self.malformed(WHAT, error))?;
            expiries.extend(parsed.tbs_cert_list.next_update.map(|at| Expiry {
                what: format!("the {WHAT} {}", self.path.display()),
                at: unix_ms(at),
                said_ahead: false,
            }));
            all_parsed.push(parsed);
        }
        Ok((lists, all_parsed))
    }

    /// Whether the lists serve the authorities, and what is said of those without one.
    fn judge(
        &self,
        authorities: &[CertificateDer<'_>],
        lists: &[CertificateList<Rfc5280>],
        algorithms: &[&dyn SignatureVerificationAlgorithm],
    ) -> Result<Vec<String>, TlsError> {
        let authorities: Vec<Certificate> = authorities
            .iter()
            .map(|der| Certificate::from_der(der))
            .collect::<Result<_, _>>()
            .map_err(|error| self.malformed("X.509 certificate", error))?;
        let refused = |problem| TlsError::Revocations {
            file: self.path.to_owned(),
            problem,
        };
        let without = crl::judge(&authorities, lists, algorithms).map_err(refused)?;
        let said = |name| {
            let file = self.path.display();
            format!("{file} has no list of the client authority {name}: its clients are refused")
        };
        Ok(without.into_iter().map(said).collect())
    }

    fn unreadable(&self, source: io::Error) -> TlsError {
        TlsError::Unreadable {
            setting: self.setting,
            file: self.path.to_owned(),
            source,
        }
    }

    fn malformed(&self, expected: &'static str, problem: impl ToString) -> TlsError {
        TlsError::Malformed {
            setting: self.setting,
            file: self.path.to_owned(),
            expected,
            problem: problem.to_string(),
        }
    }
}

fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    let file = File {
        setting: "private_key_file",
        path,
    };
    let mode = fs::metadata(path)
        .map_err(|source| file.unreadable(source))?
        .permissions()
        .mode();
    if mode & 0o027 != 0 {
        return Err(TlsError::KeyTooOpen {
            file: path.to_owned(),
            mode: mode & 0o7777,
        });
    }
    let pem = Zeroizing::new(file.read()?);
    PrivateKeyDer::from_pem_slice(&pem)
        .map_err(|error| file.malformed("PEM private key", in_words(error)))
}

/// What is wrong with a PEM file, for somebody who looks at it. A file that is being written is cut
/// off, for a moment.
#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "the enum is not ours and may grow"
)]
fn in_words(error: pem::Error) -> String {
    match error {
        pem::Error::MissingSectionEnd { .. } => "it is cut off: an END line is missing".to_owned(),
        pem::Error::NoItemsFound => "there is none in it".to_owned(),
        other => other.to_string(),
    }
}
