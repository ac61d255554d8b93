//! `kekctl import transport-key`: fetches the certificate of the transport key that an executed
//! import has in the token, for the machine that has the legacy key.

use std::fmt;
use std::path::PathBuf;

use clap::Args;
use der::pem::LineEnding;
use kekd::clock::Clock;
use serde::Serialize;

use super::transport::Transport;
use crate::connection::Connection;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::file::Target;
use crate::officer::find::{self, ProposalRef};
use crate::output::{self, Format, Stream};

/// Fetch the certificate of an import's transport key, and that of the issuing key
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  kekctl import transport-key 3f2a90bc --out transport
  openssl x509 -in transport/transport.crt -noout -subject -issuer -dates")]
pub struct TransportKey {
    /// The proposal, executed: its id, or 8 or more of its first digits
    #[arg(value_name = "ID")]
    proposal: ProposalRef,
    /// The folder to write transport.crt and issuing.crt to; made where it is missing
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Replace files that exist
    #[arg(long)]
    force: bool,
}

impl TransportKey {
    pub async fn run(self, kekd: &Connection, format: Format) -> anyhow::Result<Exit> {
        let files = ["transport.crt", "issuing.crt"].map(|name| self.out.join(name));
        let [transport, issuing] = files.map(|path| Target::new(path, self.force));
        transport.check(false)?;
        issuing.check(false)?;
        let client = kekd.open().await?;
        let found = find::find(&client, &self.proposal).await?;
        let key = client.transport_key(found.proposal.id.0).await?;
        let (certificate, issuer) = (key.transport_certificate, key.issuing_certificate);
        // Found out here rather than on the machine that has the key.
        let verified = Transport::verified(&certificate, &issuer, Clock::System.now())?;
        std::fs::create_dir_all(&self.out).map_err(|error| {
            let text = format!("{} cannot be made: {error}", self.out.display());
            Failure::new(Exit::CannotCreate, "OUTPUT_NOT_MADE", text)
        })?;
        for (target, der) in [(&transport, &certificate), (&issuing, &issuer)] {
            let pem = der::pem::encode_string("CERTIFICATE", LineEnding::LF, der)
                .map_err(|error| anyhow::anyhow!("a certificate cannot be written: {error}"))?;
            target.write(&[pem.as_bytes()], &mut |_, _| ())?;
        }
        let fetched = Fetched {
            transport_certificate: transport.path().display().to_string(),
            issuing_certificate: issuing.path().display().to_string(),
            subject: verified.subject,
            issuing_sha256: verified.issuing_sha256.to_string(),
        };
        output::show(format, Stream::Out, &fetched)?;
        Ok(Exit::Done)
    }
}

#[derive(Debug, Serialize)]
struct Fetched {
    transport_certificate: String,
    issuing_certificate: String,
    subject: String,
    /// SHA-256 over the DER certificate of the issuing key, hexadecimal.
    issuing_sha256: String,
}

impl fmt::Display for Fetched {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.subject)?;
        writeln!(f, "  its certificate       {}", self.transport_certificate)?;
        writeln!(f, "  the issuing key's     {}", self.issuing_certificate)?;
        write!(
            f,
            "  SHA-256 of the latter  {}, to be compared with what the instance's officers have",
            self.issuing_sha256
        )
    }
}
