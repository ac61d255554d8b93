//! `kekctl unwrap`: one DEK, unwrapped inside the HSM and released by kekd, in the clear or wrapped
//! again under a recipient's key. The DEK passes from the answer to the output and is wiped.

use std::fmt;
use std::path::{Path, PathBuf};

use clap::Args;
use der::{Decode as _, Encode as _};
use kekd::client::{Recipient, Release, UnwrapCall};
use kekd::types::{EndUser, KeypairId, Padding, RequestId, WRAPPED_DEK_LEN_MAX, WrappedDek};
use serde::Serialize;

use crate::connection::Connection;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::file::{self, Target};
use crate::output::{self, Format};

/// Longest recipient file read: a certificate or public key has a few KiB.
const RECIPIENT_LEN_MAX: u64 = 64 * 1024;

/// Unwrap one DEK
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  openssl rand 32 > dek.bin
  kekctl kek export $KEKD_KEYPAIR_ID --format pem --out kek.pem
  openssl pkeyutl -encrypt -pubin -inkey kek.pem -pkeyopt rsa_padding_mode:oaep \\
      -in dek.bin -out dek.wrapped
  kekctl unwrap $KEKD_KEYPAIR_ID --in dek.wrapped --out dek.out && cmp dek.bin dek.out

For a KEK that releases to a recipient (kekctl kek list), wrapped under it in the same way:
  openssl genrsa -out player.key 3072 && openssl rsa -in player.key -pubout -out player.pem
  kekctl unwrap $VAULT_KEYPAIR_ID --in dek.wrapped --out dek.rewrapped --recipient player.pem
  openssl pkeyutl -decrypt -inkey player.key -pkeyopt rsa_padding_mode:oaep -in dek.rewrapped \\
      -out dek.out")]
pub struct Unwrap {
    /// The key pair that wrapped the DEK
    keypair_id: KeypairId,
    /// The wrapped DEK, binary; - for standard input
    #[arg(long = "in", value_name = "FILE")]
    input: PathBuf,
    /// Where the DEK goes, 32 bytes; - for standard output
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Replace the output if it exists
    #[arg(long)]
    force: bool,
    /// How the DEK was wrapped: oaep-sha1, oaep-sha256 or pkcs1-v1_5
    #[arg(long, default_value = "oaep-sha1")]
    padding: Padding,
    /// PEM or DER file with a recipient's RSA public key or certificate: the DEK is wrapped again
    /// under it inside the HSM and never leaves in the clear
    #[arg(long, value_name = "FILE")]
    recipient: Option<PathBuf>,
    /// How the DEK is wrapped for the recipient: oaep-sha1 or oaep-sha256
    #[arg(
        long,
        default_value = "oaep-sha1",
        requires = "recipient",
        value_name = "PADDING"
    )]
    recipient_padding: Padding,
    #[command(flatten)]
    record: Record,
}

/// What the caller has kekd write into its audit record.
#[derive(Debug, Args)]
pub struct Record {
    /// Your id for this request, in kekd's audit record; kekd makes one when it is left out
    #[arg(long, value_name = "ID")]
    pub request_id: Option<RequestId>,
    /// The end user you ask for, in kekd's audit record
    #[arg(long, value_name = "NAME")]
    pub end_user: Option<EndUser>,
}

impl Unwrap {
    pub async fn run(self, kekd: &Connection, format: Format) -> anyhow::Result<Exit> {
        let target = Target::new(self.out.clone(), self.force);
        target.check(true)?;
        let keypair_id = self.keypair_id.to_string();
        let call = self.call()?;
        let released = kekd.open().await?.unwrap(call).await?;
        let (form, bytes) = match &released.release {
            Release::Dek(dek) => ("clear", dek.as_bytes().as_slice()),
            Release::Rewrapped(bytes) => ("recipient", bytes.as_slice()),
        };
        target.write(&[bytes], &mut |_, _| ())?;
        let report = Unwrapped {
            keypair_id,
            request_id: released.request_id,
            record_index: released.record_index,
            form,
            bytes: bytes.len(),
            out: target.path().display().to_string(),
        };
        output::show(format, target.report_stream(), &report)?;
        Ok(Exit::Done)
    }

    fn call(self) -> anyhow::Result<UnwrapCall> {
        let len_max = u64::try_from(WRAPPED_DEK_LEN_MAX)?;
        let wrapped_dek =
            WrappedDek::try_from(file::read(&self.input, len_max)?).map_err(|error| {
                let text = format!("{}: {error}", self.input.display());
                Failure::new(Exit::Malformed, "NOT_ACCEPTABLE", text)
            })?;
        let recipient = match &self.recipient {
            Some(path) => Some(Recipient {
                spki: spki(path, &file::read(path, RECIPIENT_LEN_MAX)?)?,
                padding: self.recipient_padding,
            }),
            None => None,
        };
        Ok(UnwrapCall {
            keypair_id: self.keypair_id,
            wrapped_dek,
            padding: self.padding,
            recipient,
            request_id: self.record.request_id,
            end_user: self.record.end_user.unwrap_or_default(),
        })
    }
}

/// The DER `SubjectPublicKeyInfo` in a PEM or DER file that holds one, or a certificate around one.
fn spki(path: &Path, bytes: &[u8]) -> anyhow::Result<Vec<u8>> {
    let pem = der::pem::decode_vec(bytes);
    let (label, der) = match &pem {
        Ok((label, der)) => (Some(*label), der.as_slice()),
        Err(_) => (None, bytes),
    };
    let from_certificate = || {
        let certificate = x509_cert::Certificate::from_der(der).ok()?;
        let spki = certificate.tbs_certificate().subject_public_key_info();
        spki.to_der().ok()
    };
    let from_spki = || {
        let spki = x509_cert::spki::SubjectPublicKeyInfoRef::from_der(der).ok()?;
        spki.to_der().ok()
    };
    let found = match label {
        Some("PUBLIC KEY") => from_spki(),
        Some("CERTIFICATE") => from_certificate(),
        Some(_) => None,
        None => from_spki().or_else(from_certificate),
    };
    found.ok_or_else(|| {
        let text = format!(
            "{} holds no public key: PEM \"PUBLIC KEY\" or \"CERTIFICATE\", or the same in DER, \
             is read",
            path.display()
        );
        Failure::new(Exit::Malformed, "NOT_ACCEPTABLE", text).into()
    })
}

#[derive(Debug, Serialize)]
struct Unwrapped {
    keypair_id: String,
    request_id: String,
    record_index: u64,
    form: &'static str,
    bytes: usize,
    out: String,
}

impl fmt::Display for Unwrapped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self.form {
            "clear" => "the DEK",
            _ => "the DEK, wrapped for the recipient,",
        };
        let Self {
            out,
            bytes,
            record_index,
            request_id,
            ..
        } = self;
        write!(
            f,
            "wrote {what} to {out} ({bytes} bytes); audit record {record_index}, request \
             {request_id}"
        )
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test that cannot unwrap has failed")]
mod tests {
    use super::*;

    #[test]
    fn a_recipient_is_read_from_a_key_or_a_certificate_in_pem_or_der() {
        let key = rcgen::KeyPair::generate().unwrap();
        let params = rcgen::CertificateParams::new(Vec::new()).unwrap();
        let certificate = params.self_signed(&key).unwrap();
        let expected = der::pem::decode_vec(key.public_key_pem().as_bytes())
            .unwrap()
            .1;
        let path = Path::new("recipient");
        for bytes in [
            key.public_key_pem().as_bytes(),
            certificate.pem().as_bytes(),
            certificate.der(),
            &expected,
        ] {
            assert_eq!(spki(path, bytes).unwrap(), expected);
        }
        for bad in [key.serialize_pem().as_bytes(), b"", b"hello"] {
            let failure = Failure::from(spki(path, bad).unwrap_err());
            assert_eq!(failure.exit, Exit::Malformed);
        }
    }
}
