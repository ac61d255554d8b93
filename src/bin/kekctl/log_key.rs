//! The log key of an instance, from a PEM file: `log-key.pem` of a ledger's export. Whoever verifies a
//! log or a proof holds it against this key.

use std::path::Path;

use der::{DecodePem as _, Encode as _};
use kekd::merkle::LogKey;

use crate::exit::Exit;
use crate::failure::Failure;
use crate::file;

/// Longest public key file read, in bytes.
const KEY_LEN_MAX: u64 = 16 * 1024;

/// Reads the key.
pub fn read(path: &Path) -> anyhow::Result<LogKey> {
    let pem = file::text(path, KEY_LEN_MAX)?;
    let refused = |why: String| {
        let text = format!("the log key is not a P-256 public key in PEM: {why}");
        Failure::new(Exit::Malformed, "LOG_KEY", text)
    };
    let spki = x509_cert::spki::SubjectPublicKeyInfoOwned::from_pem(pem)
        .and_then(|spki| spki.to_der())
        .map_err(|error| refused(error.to_string()))?;
    Ok(LogKey::from_spki(&spki).map_err(|error| refused(error.to_string()))?)
}
