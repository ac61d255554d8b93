//! `kekctl import wrap`: wraps a legacy key for a transport key that was verified. Offline.

use std::fmt;
use std::path::PathBuf;

use aws_lc_rs::key_wrap::{AES_256, AesKek, KeyWrapPadded as _};
use clap::Args;
use kekd::types::Padding;
use serde::Serialize;
use zeroize::Zeroizing;

use super::inspect::Inspected;
use super::legacy::LegacyKey;
use super::passphrase::KeyFile;
use super::transport::Transport;
use super::wrapped::Wrapped;
use crate::exit::Exit;
use crate::file::Target;
use crate::output::{self, Format};

/// Bytes that RFC 5649 adds at most: 7 of padding and 8 of its own.
const OVERHEAD_MAX: usize = 15;

/// Wrap a legacy key for the token; nothing is sent
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  kekctl import wrap --legacy-key legacy.pem --transport-certificate transport/transport.crt \\
      --issuing-certificate transport/issuing.crt --out wrapped.json
  kekctl import wrap --legacy-key legacy.p12 --passphrase-file phrase \\
      --transport-certificate transport/transport.crt \\
      --issuing-certificate transport/issuing.crt --out wrapped.json")]
pub struct Wrap {
    #[command(flatten)]
    key: KeyFile,
    /// The transport key's certificate, PEM or DER (kekctl import transport-key)
    #[arg(long, value_name = "FILE")]
    transport_certificate: PathBuf,
    /// The certificate of the instance's issuing key, PEM or DER, from where you trust it
    #[arg(long, value_name = "FILE")]
    issuing_certificate: PathBuf,
    /// The file to write; - for standard output
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Replace the file if it exists
    #[arg(long)]
    force: bool,
}

impl Wrap {
    pub fn run(self, format: Format) -> anyhow::Result<Exit> {
        let target = Target::new(self.out.clone(), self.force);
        target.check(false)?;
        let transport = Transport::read(&self.transport_certificate, &self.issuing_certificate)?;
        let key = LegacyKey::read(&self.key)?;
        wrapped(&key, &transport)?.write(&target)?;
        let report = Report {
            key: Inspected::of(&key),
            transport: transport.subject,
            issuing_sha256: transport.issuing_sha256.to_string(),
            out: target.path().display().to_string(),
        };
        output::show(format, target.report_stream(), &report)?;
        Ok(Exit::Done)
    }
}

/// An AES-256 key for this one key: it is wrapped for the transport key and forgotten.
fn wrapped(key: &LegacyKey, transport: &Transport) -> anyhow::Result<Wrapped> {
    let failed = |_| anyhow::anyhow!("the key could not be wrapped");
    let mut aes_key = Zeroizing::new([0; 32]);
    aws_lc_rs::rand::fill(aes_key.as_mut()).map_err(|_| anyhow::anyhow!("no randomness"))?;
    let wrapped_aes_key = transport.key.wrap(Padding::OaepSha1, aes_key.as_ref())?;
    let kek = AesKek::new(&AES_256, aes_key.as_ref()).map_err(failed)?;
    let mut output = vec![0; key.pkcs8().len().saturating_add(OVERHEAD_MAX)];
    let private_key = kek.wrap_with_padding(key.pkcs8(), &mut output);
    let private_key = private_key.map_err(failed)?;
    let aes_key = wrapped_aes_key.as_bytes();
    Ok(Wrapped::new(
        &transport.subject,
        key.spki_sha256(),
        aes_key,
        private_key,
    ))
}

#[derive(Debug, Serialize)]
struct Report {
    #[serde(flatten)]
    key: Inspected,
    transport: String,
    issuing_sha256: String,
    out: String,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.key)?;
        writeln!(f, "  wrapped for          {}", self.transport)?;
        writeln!(
            f,
            "  vouched for by       the issuing certificate with SHA-256"
        )?;
        writeln!(f, "                       {}", self.issuing_sha256)?;
        write!(f, "  written to           {}", self.out)
    }
}
