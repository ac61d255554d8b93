//! `kekctl kek export`: the public half of one version in the form somebody else wants it.

use std::fmt;
use std::path::PathBuf;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clap::{Args, ValueEnum};
use der::pem::LineEnding;
use kekd::client::Client;
use kekd::proto::v1::PublicKeyFormat;
use kekd::types::KeypairId;
use serde::Serialize;

use crate::connection::Connection;
use crate::exit::Exit;
use crate::file::Target;
use crate::output::{self, Format, Stream};

/// Export the public key or the certificate of one version
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  kekctl kek export $KEKD_KEYPAIR_ID --format pem
  kekctl kek export $KEKD_KEYPAIR_ID --format cert --out recordings.crt
  kekctl kek export $KEKD_KEYPAIR_ID --format lkm      # to register with a Local Key Manager
  kekctl kek export $KEKD_KEYPAIR_ID --format pkcs1-der --out recordings.der")]
pub struct Export {
    /// The key pair
    keypair_id: KeypairId,
    /// What to export
    #[arg(long, value_name = "FORMAT")]
    format: ExportFormat,
    /// The file to write; standard output when left out
    #[arg(long, default_value = "-", value_name = "FILE")]
    out: PathBuf,
    /// Replace the file if it exists
    #[arg(long)]
    force: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum ExportFormat {
    /// Public key, PEM (SubjectPublicKeyInfo)
    Pem,
    /// Public key, DER RSAPublicKey (binary)
    Pkcs1Der,
    /// Public key, base64 of pkcs1-der without line breaks
    Lkm,
    /// Public key, JSON Web Key
    Jwk,
    /// X.509 certificate, PEM
    Cert,
    /// X.509 certificate and those of its issuers, PEM
    Chain,
}

impl Export {
    pub async fn run(self, kekd: &Connection, format: Format) -> anyhow::Result<Exit> {
        let target = Target::new(self.out.clone(), self.force);
        // As JSON the content is inside the one object, unless a file is to hold it.
        let in_object = target.is_stdout() && format == Format::Json;
        if !in_object {
            target.check(self.format == ExportFormat::Pkcs1Der)?;
        }
        let bytes = self.fetch(&kekd.open().await?).await?;
        let mut exported = Exported {
            keypair_id: self.keypair_id.to_string(),
            format: self.format.name(),
            bytes: bytes.len(),
            out: None,
            content: None,
        };
        if in_object {
            exported.content = Some(match self.format == ExportFormat::Pkcs1Der {
                true => STANDARD.encode(&bytes),
                false => String::from_utf8(bytes)?,
            });
        } else {
            target.write(&[&bytes], &mut |_, _| ())?;
            exported.out = Some(target.path().display().to_string());
        }
        if in_object || !target.is_stdout() {
            output::show(format, Stream::Out, &exported)?;
        }
        Ok(Exit::Done)
    }

    async fn fetch(&self, client: &Client) -> anyhow::Result<Vec<u8>> {
        let id = self.keypair_id;
        Ok(match self.format {
            ExportFormat::Pem => client.get_public_key(id, PublicKeyFormat::SpkiPem).await?,
            ExportFormat::Pkcs1Der => client.get_public_key(id, PublicKeyFormat::Pkcs1Der).await?,
            ExportFormat::Lkm => {
                let der = client.get_public_key(id, PublicKeyFormat::Pkcs1Der).await?;
                STANDARD.encode(der).into_bytes()
            }
            ExportFormat::Jwk => client.get_public_key(id, PublicKeyFormat::Jwk).await?,
            ExportFormat::Cert => pem(&[client.get_certificate(id).await?.certificate])?,
            ExportFormat::Chain => {
                let mut chain = client.get_certificate(id).await?;
                chain.issuers.insert(0, chain.certificate);
                pem(&chain.issuers)?
            }
        })
    }
}

fn pem(certificates: &[Vec<u8>]) -> anyhow::Result<Vec<u8>> {
    let mut text = String::new();
    for der in certificates {
        let section = der::pem::encode_string("CERTIFICATE", LineEnding::LF, der);
        text.push_str(&section.map_err(|error| anyhow::anyhow!("not made PEM: {error}"))?);
    }
    Ok(text.into_bytes())
}

impl ExportFormat {
    const fn name(self) -> &'static str {
        match self {
            Self::Pem => "pem",
            Self::Pkcs1Der => "pkcs1-der",
            Self::Lkm => "lkm",
            Self::Jwk => "jwk",
            Self::Cert => "cert",
            Self::Chain => "chain",
        }
    }
}

/// `content` is text, or base64 for pkcs1-der; it stands here only when no file was named.
#[derive(Debug, Serialize)]
struct Exported {
    keypair_id: String,
    format: &'static str,
    bytes: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    out: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    content: Option<String>,
}

impl fmt::Display for Exported {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let out = self.out.as_deref().unwrap_or("-");
        write!(f, "wrote {out}: {} of {}", self.format, self.keypair_id)
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test that cannot unwrap has failed")]
mod tests {
    use super::*;

    #[test]
    fn certificates_become_pem_sections_in_order() {
        let pem = String::from_utf8(pem(&[vec![1; 60], vec![2]]).unwrap()).unwrap();
        assert_eq!(pem.matches("-----BEGIN CERTIFICATE-----\n").count(), 2);
        assert!(
            pem.ends_with("\nAg==\n-----END CERTIFICATE-----\n"),
            "{pem}"
        );
    }

    #[test]
    fn a_format_is_named_as_it_is_written() {
        for format in ExportFormat::value_variants() {
            let written = format.to_possible_value().unwrap();
            assert_eq!(written.get_name(), format.name());
        }
    }
}
