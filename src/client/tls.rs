//! The client's side of TLS: TLS 1.3 only, aws-lc-rs only, ALPN `h2`, always with a client
//! certificate. Nothing here connects, and nothing here can turn a check off.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use super::endpoint::TlsFiles;

/// Longest PEM file read: 1 MiB.
const PEM_BYTES_MAX: u64 = 1024 * 1024;

/// A TLS file that is not what it must be. The caller's fault.
#[derive(Debug, Clone, thiserror::Error)]
pub enum TlsFileError {
    /// It cannot be read.
    #[error("{what} {} cannot be read: {cause}", path.display())]
    Unreadable {
        /// What the file is for.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// Why not.
        cause: String,
    },
    /// It is longer than any PEM file has reason to be.
    #[error("{what} {} has {len} bytes; at most {PEM_BYTES_MAX} are read", path.display())]
    TooLong {
        /// What the file is for.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// Its length in bytes.
        len: u64,
    },
    /// It holds no PEM section of the kind expected.
    #[error("{what} {} holds no {expected}; it must be a PEM file with one", path.display())]
    Nothing {
        /// What the file is for.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// The PEM section that is missing.
        expected: &'static str,
    },
    /// rustls does not accept what is in it.
    #[error("{what} {} is not acceptable: {cause}", path.display())]
    NotAcceptable {
        /// What the file is for.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// Why not.
        cause: rustls::Error,
    },
}

/// Reads the three files and builds a client that trusts these authorities and no others.
pub(super) fn client_config(files: &TlsFiles) -> Result<ClientConfig, TlsFileError> {
    let roots = roots(&files.ca)?;
    let chain = certificates("the client certificate", &files.certificate)?;
    let key = private_key(&files.private_key)?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map(|builder| builder.with_root_certificates(roots))
        .and_then(|builder| builder.with_client_auth_cert(chain, key))
        .map_err(|cause| TlsFileError::NotAcceptable {
            what: "the client certificate with its key",
            path: files.certificate.clone(),
            cause,
        })?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(config)
}

fn roots(path: &Path) -> Result<RootCertStore, TlsFileError> {
    const WHAT: &str = "the CA file";
    let mut roots = RootCertStore::empty();
    for certificate in certificates(WHAT, path)? {
        roots
            .add(certificate)
            .map_err(|cause| TlsFileError::NotAcceptable {
                what: WHAT,
                path: path.to_path_buf(),
                cause,
            })?;
    }
    Ok(roots)
}

fn certificates(
    what: &'static str,
    path: &Path,
) -> Result<Vec<CertificateDer<'static>>, TlsFileError> {
    let nothing = || TlsFileError::Nothing {
        what,
        path: path.to_path_buf(),
        expected: "CERTIFICATE",
    };
    let certificates = CertificateDer::pem_slice_iter(&read(what, path)?)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|_| nothing())?;
    match certificates.is_empty() {
        true => Err(nothing()),
        false => Ok(certificates),
    }
}

fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, TlsFileError> {
    const WHAT: &str = "the client's private key";
    let pem = zeroize::Zeroizing::new(read(WHAT, path)?);
    PrivateKeyDer::from_pem_slice(&pem).map_err(|_| TlsFileError::Nothing {
        what: WHAT,
        path: path.to_path_buf(),
        expected: "PRIVATE KEY",
    })
}

fn read(what: &'static str, path: &Path) -> Result<Vec<u8>, TlsFileError> {
    let unreadable = |cause: io::Error| TlsFileError::Unreadable {
        what,
        path: path.to_path_buf(),
        cause: cause.to_string(),
    };
    let len = std::fs::metadata(path).map_err(unreadable)?.len();
    if len > PEM_BYTES_MAX {
        return Err(TlsFileError::TooLong {
            what,
            path: path.to_path_buf(),
            len,
        });
    }
    std::fs::read(path).map_err(unreadable)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test that cannot unwrap has failed")]
mod tests {
    use super::*;

    #[test]
    fn each_file_at_fault_is_named_with_what_it_should_hold() {
        let dir = tempfile::tempdir().unwrap();
        let key = rcgen::KeyPair::generate().unwrap();
        let params = rcgen::CertificateParams::new(Vec::new()).unwrap();
        let certificate = params.self_signed(&key).unwrap().pem();
        let write = |name: &str, text: &str| {
            let path = dir.path().join(name);
            std::fs::write(&path, text).unwrap();
            path
        };
        let good = TlsFiles {
            ca: write("ca", &certificate),
            certificate: write("cert", &certificate),
            private_key: write("key", &key.serialize_pem()),
        };
        let config = client_config(&good).unwrap();
        assert_eq!(config.alpn_protocols, [b"h2".to_vec()]);

        let other = rcgen::KeyPair::generate().unwrap().serialize_pem();
        let cases = [
            (
                TlsFiles {
                    ca: dir.path().join("none"),
                    ..good.clone()
                },
                "the CA file",
                "cannot be read",
            ),
            (
                TlsFiles {
                    ca: good.private_key.clone(),
                    ..good.clone()
                },
                "the CA file",
                "holds no CERTIFICATE",
            ),
            (
                TlsFiles {
                    private_key: good.ca.clone(),
                    ..good.clone()
                },
                "private key",
                "holds no PRIVATE KEY",
            ),
            (
                TlsFiles {
                    private_key: write("other", &other),
                    ..good.clone()
                },
                "the client certificate with its key",
                "not acceptable",
            ),
        ];
        for (files, what, said) in cases {
            let error = client_config(&files).err().unwrap().to_string();
            assert!(error.contains(what) && error.contains(said), "{error}");
        }
    }
}
