//! `kekctl recording open`: the recipient is matched to a KEK version by certificate, kekd unwraps
//! that one DEK, the content is opened. Keys are never tried in turn, and no byte of plaintext is
//! written before the content has been verified as a whole.

use std::fmt;
use std::path::{Path, PathBuf};

use clap::Args;
use kekd::client::{Client, Release, Released, UnwrapCall};
use kekd::recording::{Envelope, Recipient, RecipientCertificate, SIZE_MAX_DEFAULT};
use kekd::types::{KeypairId, Padding, WrappedDek};
use serde::Serialize;

use super::progress::Progress;
use crate::connection::Connection;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::file::{self, Target};
use crate::output::{self, Format};
use crate::unwrap::Record;

/// Open a recording with a DEK that kekd unwraps
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  kekctl recording open --in call.cms --out call.wav
  openssl cms -encrypt -binary -aes-256-gcm -recip recordings.crt -keyopt rsa_padding_mode:oaep \\
      -in call.wav -outform DER -out call.cms && kekctl recording open --in call.cms --out opened.wav
  kekctl recording open --in call.cms --out - | head --bytes 12")]
pub struct Open {
    /// The recording: CMS in DER, BER, PEM or S/MIME; - for standard input
    #[arg(long = "in", value_name = "FILE")]
    input: PathBuf,
    /// Where the content goes; - for standard output
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Replace the output if it exists
    #[arg(long)]
    force: bool,
    /// The key pair that wrapped the DEK [default: the one whose certificate the recording names]
    #[arg(long, value_name = "ID")]
    keypair_id: Option<KeypairId>,
    /// Longest recording taken; it is held in memory as a whole
    #[arg(long, default_value_t = SIZE_MAX_DEFAULT, value_name = "BYTES")]
    size_max: u64,
    #[command(flatten)]
    record: Record,
}

impl Open {
    pub async fn run(self, kekd: &Connection, format: Format) -> anyhow::Result<Exit> {
        let target = Target::new(self.out.clone(), self.force);
        target.check(true)?;
        let mut progress = Progress::new("reading");
        let source = file::source(&self.input)?;
        let envelope = Envelope::read(source, self.size_max, &mut |done, total| {
            progress.at(done, total);
        })?;
        drop(progress);

        let client = kekd.open().await?;
        let (keypair_id, recipient) = match self.keypair_id {
            Some(id) => (id, named(&client, &envelope, id).await?),
            None => matching(&client, &envelope).await?,
        };
        let padding = recipient.padding.clone().map_err(|fault| {
            let text = format!("{}: {fault}", self.input.display());
            Failure::new(Exit::Malformed, "KEY_TRANSPORT_NOT_SUPPORTED", text)
        })?;
        let call = self.call(keypair_id, padding, recipient.encrypted_key.clone())?;
        let released = client.unwrap(call).await?;
        drop(client);

        let bytes = self.write_content(envelope, &released, &target)?;
        let report = Opened {
            out: target.path().display().to_string(),
            bytes,
            keypair_id: keypair_id.to_string(),
            padding: padding.name(),
            request_id: released.request_id,
            record_index: released.record_index,
        };
        output::show(format, target.report_stream(), &report)?;
        Ok(Exit::Done)
    }

    fn call(
        &self,
        id: KeypairId,
        padding: Padding,
        wrapped: Vec<u8>,
    ) -> anyhow::Result<UnwrapCall> {
        let wrapped_dek = WrappedDek::try_from(wrapped).map_err(|error| {
            let text = format!("{}: {error}", self.input.display());
            Failure::new(Exit::Malformed, "NOT_ACCEPTABLE", text)
        })?;
        Ok(UnwrapCall {
            keypair_id: id,
            wrapped_dek,
            padding,
            recipient: None,
            request_id: self.record.request_id.clone(),
            end_user: self.record.end_user.clone().unwrap_or_default(),
        })
    }

    /// Opens the content, verified as a whole, and only then writes it. Returns its length.
    fn write_content(
        &self,
        envelope: Envelope,
        released: &Released,
        target: &Target,
    ) -> anyhow::Result<u64> {
        let Release::Dek(dek) = &released.release else {
            let text = "kekd released the DEK for a recipient, which was not asked for";
            return Err(Failure::new(Exit::Protocol, "PROTOCOL", text).into());
        };
        let mut progress = Progress::new("opening");
        let content = envelope.open(dek.as_bytes(), &mut |done, total| {
            progress.at(done, total);
        })?;
        drop(progress);
        let mut progress = Progress::new("writing");
        target.write(&[content.as_bytes()], &mut |done, total| {
            progress.at(done, total)
        })?;
        Ok(u64::try_from(content.as_bytes().len())?)
    }
}

/// The recipient that is this key pair. Where its certificate is not the one the recording names
/// (one key, two certificates) and there is one recipient only, that one is meant.
async fn named<'e>(
    client: &Client,
    envelope: &'e Envelope,
    id: KeypairId,
) -> anyhow::Result<&'e Recipient> {
    let certificate = certificate(client, id).await?;
    match (envelope.recipient_for(&certificate), envelope.recipients()) {
        (Some(recipient), _) => Ok(recipient),
        (None, [only]) => Ok(only),
        (None, several) => {
            let text = format!(
                "the recording is not for the key pair {id}; it is for {}",
                list(several)
            );
            Err(Failure::new(Exit::Failed, "RECIPIENT_UNKNOWN", text).into())
        }
    }
}

/// The key pair whose certificate the recording names, among all that the caller may see.
async fn matching<'e>(
    client: &Client,
    envelope: &'e Envelope,
) -> anyhow::Result<(KeypairId, &'e Recipient)> {
    let keks = client.list_keks().await?;
    for version in keks.iter().flat_map(|kek| &kek.versions) {
        let id: KeypairId = version.keypair_id.parse()?;
        let certificate = certificate(client, id).await?;
        if let Some(recipient) = envelope.recipient_for(&certificate) {
            return Ok((id, recipient));
        }
    }
    let text = format!(
        "the recording is for no KEK that you may see; it is for {}",
        list(envelope.recipients())
    );
    Err(Failure::new(Exit::Failed, "RECIPIENT_UNKNOWN", text).into())
}

async fn certificate(client: &Client, id: KeypairId) -> anyhow::Result<RecipientCertificate> {
    let chain = client.get_certificate(id).await?;
    let name = format!("the certificate of {id}");
    Ok(RecipientCertificate::parse(
        Path::new(&name),
        &chain.certificate,
    )?)
}

fn list(recipients: &[Recipient]) -> String {
    let names: Vec<String> = recipients
        .iter()
        .map(|r| r.identifier.to_string())
        .collect();
    names.join("; ")
}

#[derive(Debug, Serialize)]
struct Opened {
    out: String,
    bytes: u64,
    keypair_id: String,
    padding: &'static str,
    request_id: String,
    record_index: u64,
}

impl fmt::Display for Opened {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            out,
            bytes,
            keypair_id,
            record_index,
            request_id,
            ..
        } = self;
        write!(
            f,
            "opened {out} ({bytes} bytes) with {keypair_id}; audit record {record_index}, request \
             {request_id}"
        )
    }
}
