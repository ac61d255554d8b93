//! `kekctl import deliver`: brings a wrapped key to the import that waits for it.

use std::path::PathBuf;

use clap::Args;
use kekd::proto::v1;
use kekd::quorum::Operation;

use super::malformed;
use super::wrapped::Wrapped;
use crate::connection::Connection;
use crate::exit::Exit;
use crate::officer::find::{self, ProposalRef};
use crate::officer::view::ProposalView;
use crate::output::{self, Format, Stream};

/// Bring a wrapped key to the import that waits for it
///
/// What is refused changes nothing and may be delivered again, until the proposal expires. Cut
/// short, deliver the same file again.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  kekctl import deliver 3f2a90bc wrapped.json
  kekctl import deliver 3f2a90bc wrapped.json --output json | jq -r .keypair_id")]
pub struct Deliver {
    /// The proposal, executed: its id, or 8 or more of its first digits
    #[arg(value_name = "ID")]
    proposal: ProposalRef,
    /// What kekctl import wrap wrote
    #[arg(value_name = "FILE")]
    wrapped: PathBuf,
}

impl Deliver {
    pub async fn run(self, kekd: &Connection, format: Format) -> anyhow::Result<Exit> {
        let wrapped = Wrapped::read(&self.wrapped)?;
        let client = kekd.open().await?;
        let found = find::find(&client, &self.proposal).await?;
        let Operation::ImportKek { spki_sha256, .. } = &found.proposal.operation else {
            return Err(malformed(format!(
                "the proposal {} is no import-kek",
                found.proposal.id
            )));
        };
        let in_file = wrapped.spki_sha256()?;
        if in_file != *spki_sha256 {
            return Err(malformed(format!(
                "{} holds the key with SHA-256 {in_file}; approved is {spki_sha256}",
                self.wrapped.display()
            )));
        }
        let (wrapped_aes_key, wrapped_private_key) = wrapped.keys()?;
        let message = v1::DeliverImportRequest {
            proposal_id: found.proposal.id.0.as_bytes().to_vec(),
            wrapped_aes_key,
            wrapped_private_key,
        };
        let proposal = client.deliver_import(message).await?;
        output::show(format, Stream::Out, &ProposalView::read(proposal)?)?;
        Ok(Exit::Done)
    }
}
