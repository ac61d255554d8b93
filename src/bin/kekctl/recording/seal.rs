//! `kekctl recording seal`: a file sealed under a fresh DEK, and the DEK wrapped for KEKs. Only
//! certificates are needed: nothing secret is asked of kekd.

use std::fmt;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::Args;
use kekd::client::{Client, padding_name};
use kekd::proto::v1::VersionState;
use kekd::recording::{RecipientCertificate, SIZE_MAX_DEFAULT, seal};
use kekd::types::{KekName, KeypairId, Padding};
use serde::Serialize;

use super::progress::Progress;
use crate::connection::Connection;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::file::{self, Target};
use crate::output::{self, Format};

/// Longest certificate file read.
const CERTIFICATE_LEN_MAX: u64 = 64 * 1024;

/// Seal a file so that kekd can open it (CMS AuthEnvelopedData, AES-256-GCM)
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  kekctl recording seal --kek recordings --in call.wav --out call.cms
  kekctl recording seal --recipient recordings.crt --in call.wav --out call.cms   # without kekd
  kekctl recording seal --kek recordings --recipient archive.crt --in call.wav --out call.cms")]
pub struct Seal {
    #[command(flatten)]
    recipients: Recipients,
    /// The file to seal; - for standard input
    #[arg(long = "in", value_name = "FILE")]
    input: PathBuf,
    /// The sealed recording; - for standard output
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Replace the output if it exists
    #[arg(long)]
    force: bool,
    /// How the DEK is wrapped: oaep-sha1 or oaep-sha256
    #[arg(long, default_value = "oaep-sha1")]
    padding: Padding,
    /// Longest file taken; it is held in memory as a whole
    #[arg(long, default_value_t = SIZE_MAX_DEFAULT, value_name = "BYTES")]
    size_max: u64,
}

/// For whom; each may be given several times, and each of them alone opens the recording.
#[derive(Debug, Args)]
#[group(required = true, multiple = true)]
struct Recipients {
    /// Seal for the newest active version of this KEK
    #[arg(long = "kek", value_name = "NAME")]
    keks: Vec<KekName>,
    /// Seal for this key pair
    #[arg(long = "keypair-id", value_name = "ID")]
    keypair_ids: Vec<KeypairId>,
    /// Seal for the certificate in this file (PEM or DER)
    #[arg(long = "recipient", value_name = "FILE")]
    certificates: Vec<PathBuf>,
}

impl Seal {
    pub async fn run(self, kekd: &Connection, format: Format) -> anyhow::Result<Exit> {
        let target = Target::new(self.out.clone(), self.force);
        target.check(true)?;
        let source = file::source(&self.input)?;
        let (sealed_for, certificates) = self.recipients(kekd).await?;
        let mut progress = Progress::new("reading");
        let sealed = seal(
            source,
            &certificates,
            self.padding,
            self.size_max,
            &mut |done, total| progress.at(done, total),
        )?;
        drop(progress);
        let mut progress = Progress::new("writing");
        target.write(&sealed.parts(), &mut |done, total| progress.at(done, total))?;
        drop(progress);
        let report = Sealed {
            out: target.path().display().to_string(),
            bytes: sealed.file_len(),
            padding: self.padding.name(),
            recipients: sealed_for,
        };
        output::show(format, target.report_stream(), &report)?;
        Ok(Exit::Done)
    }

    async fn recipients(
        &self,
        kekd: &Connection,
    ) -> anyhow::Result<(Vec<SealedFor>, Vec<RecipientCertificate>)> {
        let mut sealed_for = Vec::new();
        let mut certificates = Vec::new();
        for path in &self.recipients.certificates {
            let bytes = file::read(path, CERTIFICATE_LEN_MAX)?;
            certificates.push(RecipientCertificate::parse(path, &bytes)?);
            sealed_for.push(SealedFor::File(path.display().to_string()));
        }
        let mut ids = self.recipients.keypair_ids.clone();
        if self.recipients.keks.is_empty() && ids.is_empty() {
            return Ok((sealed_for, certificates));
        }
        let client = kekd.open().await?;
        for name in &self.recipients.keks {
            ids.push(self.newest_active(&client, name).await?);
        }
        for id in ids {
            let chain = client.get_certificate(id).await?;
            let name = format!("the certificate of {id}");
            let parsed = RecipientCertificate::parse(Path::new(&name), &chain.certificate);
            certificates.push(parsed?);
            sealed_for.push(SealedFor::KeypairId(id.to_string()));
        }
        Ok((sealed_for, certificates))
    }

    /// The newest active version of a KEK, if it unwraps the padding asked for.
    async fn newest_active(&self, client: &Client, name: &KekName) -> anyhow::Result<KeypairId> {
        let kek = client.get_kek(name).await?;
        let mut versions = kek.versions.iter().rev();
        let Some(version) = versions.find(|version| version.state() == VersionState::Active) else {
            let text =
                format!("the KEK {name} has no active version: nothing can be sealed for it");
            return Err(Failure::new(Exit::Failed, "NO_ACTIVE_VERSION", text).into());
        };
        let paddings: Vec<&str> = version.paddings.iter().copied().map(padding_name).collect();
        if !paddings.contains(&self.padding.name()) {
            let text = format!(
                "the KEK {name} does not unwrap {}: choose another --padding among {}",
                self.padding,
                paddings.join(", ")
            );
            return Err(Failure::new(Exit::Failed, "PADDING_NOT_ALLOWED", text).into());
        }
        let id = version.keypair_id.parse();
        id.with_context(|| format!("kekd names a keypair id {:?}", version.keypair_id))
    }
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "snake_case")]
enum SealedFor {
    KeypairId(String),
    File(String),
}

#[derive(Debug, Serialize)]
struct Sealed {
    out: String,
    bytes: u64,
    padding: &'static str,
    recipients: Vec<SealedFor>,
}

impl fmt::Display for Sealed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "sealed {} ({} bytes, {}) for",
            self.out, self.bytes, self.padding
        )?;
        for (index, recipient) in self.recipients.iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            let (SealedFor::KeypairId(name) | SealedFor::File(name)) = recipient;
            write!(f, "{comma} {name}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test that cannot unwrap has failed")]
mod tests {
    use super::*;

    #[test]
    fn the_json_shape_is_stable() {
        let sealed = Sealed {
            out: "a".to_owned(),
            bytes: 5,
            padding: "oaep-sha1",
            recipients: vec![
                SealedFor::KeypairId("id".to_owned()),
                SealedFor::File("x.crt".to_owned()),
            ],
        };
        let expected = concat!(
            r#"{"out":"a","bytes":5,"padding":"oaep-sha1","#,
            r#""recipients":[{"keypair_id":"id"},{"file":"x.crt"}]}"#
        );
        assert_eq!(serde_json::to_string(&sealed).unwrap(), expected);
        assert_eq!(
            sealed.to_string(),
            "sealed a (5 bytes, oaep-sha1) for id, x.crt"
        );
    }
}
