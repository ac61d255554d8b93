//! The file that `wrap` writes and `deliver` reads: the legacy key, wrapped. Whoever holds it holds
//! nothing without the transport key, which is in the token.

use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use kekd::types::Sha256;
use serde::{Deserialize, Serialize};

use super::malformed;
use crate::file::{self, Target};

/// The first words of the file.
const FORMAT: &str = "kekd-wrapped-key-v1";
/// Longest file read, in bytes: both keys in base64, and names.
const LEN_MAX: u64 = 16 * 1024;

/// The file: one JSON object.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Wrapped {
    format: String,
    /// Subject of the certificate of the transport key it is wrapped for.
    transport: String,
    /// SHA-256 over the legacy key's DER `SubjectPublicKeyInfo`, hexadecimal.
    spki_sha256: String,
    /// Base64.
    wrapped_aes_key: String,
    /// Base64.
    wrapped_private_key: String,
}

impl Wrapped {
    pub fn new(transport: &str, spki_sha256: Sha256, aes_key: &[u8], private_key: &[u8]) -> Self {
        Self {
            format: FORMAT.to_owned(),
            transport: transport.to_owned(),
            spki_sha256: spki_sha256.to_string(),
            wrapped_aes_key: STANDARD.encode(aes_key),
            wrapped_private_key: STANDARD.encode(private_key),
        }
    }

    pub fn read(path: &Path) -> anyhow::Result<Self> {
        let bytes = file::read(path, LEN_MAX)?;
        let not_one = |why: String| {
            let path = path.display();
            malformed(format!(
                "{path} was not written by kekctl import wrap: {why}"
            ))
        };
        let wrapped: Self =
            serde_json::from_slice(&bytes).map_err(|error| not_one(error.to_string()))?;
        match wrapped.format == FORMAT {
            true => Ok(wrapped),
            false => Err(not_one(format!("the format is not {FORMAT}"))),
        }
    }

    pub fn write(&self, target: &Target) -> anyhow::Result<()> {
        let text = format!("{}\n", serde_json::to_string_pretty(self)?);
        target.write(&[text.as_bytes()], &mut |_, _| ())
    }

    /// SHA-256 over the DER `SubjectPublicKeyInfo` of the key in it, as the file says.
    pub fn spki_sha256(&self) -> anyhow::Result<Sha256> {
        Ok(self.spki_sha256.parse()?)
    }

    /// The wrapped AES key and the wrapped private key.
    pub fn keys(&self) -> anyhow::Result<(Vec<u8>, Vec<u8>)> {
        let decoded = |text: &str| STANDARD.decode(text);
        match (
            decoded(&self.wrapped_aes_key),
            decoded(&self.wrapped_private_key),
        ) {
            (Ok(aes_key), Ok(private_key)) => Ok((aes_key, private_key)),
            (Err(_), _) | (_, Err(_)) => Err(malformed("a wrapped key in the file is not base64")),
        }
    }
}
