//! `kekctl proposal submit-bundle`: a signed bundle comes back.

use std::path::PathBuf;

use clap::Args;

use crate::connection::Connection;
use crate::execute::Executed;
use crate::exit::Exit;
use crate::officer::bundle::Bundle;
use crate::officer::endorse::Deed;
use crate::officer::purpose::Purpose;
use crate::officer::view::ProposalView;
use crate::output::{self, Format, Stream};

/// Bring a signed bundle to kekd
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  kekctl proposal submit-bundle signed.json")]
pub struct SubmitBundle {
    /// The signed bundle
    #[arg(value_name = "FILE")]
    bundle: PathBuf,
}

impl SubmitBundle {
    pub async fn run(self, kekd: &Connection, format: Format) -> anyhow::Result<Exit> {
        let signed = Bundle::open(&self.bundle)?.signed()?;
        let client = kekd.open().await?;
        let deed = match signed.purpose {
            Purpose::Approve => Deed::Approve,
            Purpose::Veto => Deed::Veto,
            Purpose::Possession => Deed::ProvePossession,
            Purpose::Propose => {
                let said = client.propose(signed.text, signed.signature).await?;
                output::show(format, Stream::Out, &ProposalView::read(said)?)?;
                return Ok(Exit::Done);
            }
            Purpose::Execute => {
                let answer = client.execute(signed.text, signed.signature).await?;
                output::show(format, Stream::Out, &Executed::read(answer)?)?;
                return Ok(Exit::Done);
            }
            Purpose::Suspend => anyhow::bail!("no bundle is made for a suspension"),
        };
        let proposal = deed.send(&client, signed.id, signed.signature).await?;
        output::show(format, Stream::Out, &proposal)?;
        Ok(Exit::Done)
    }
}
