//! Approving, vetoing and proving possession: three purposes of a signature over one text, the
//! proposal's own statement.

use std::path::PathBuf;

use clap::Args;
use kekd::client::Client;
use kekd::types::Sha256;

use super::facts::Facts;
use super::find::{self, Found, ProposalRef};
use super::purpose::Purpose;
use super::signer::Signer;
use super::statement_file;
use super::view::{self, ProposalView};
use crate::connection::Connection;
use crate::exit::Exit;
use crate::output::{self, Format, Stream};

/// The proposal, and where its signature comes from.
#[derive(Debug, Args)]
pub struct Endorsement {
    /// The proposal: its id, or 8 or more of its first digits
    #[arg(value_name = "ID")]
    proposal: ProposalRef,
    /// A signature made elsewhere over the proposal's statement (kekctl proposal statement)
    #[arg(long, value_name = "FILE", conflicts_with = "statement_out")]
    signature: Option<PathBuf>,
    /// Write the statement to this file (- for standard output) to sign it elsewhere; sign nothing
    #[arg(long, value_name = "FILE")]
    statement_out: Option<PathBuf>,
    #[command(flatten)]
    signer: Signer,
}

/// What is done with a proposal by a signature over its statement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deed {
    Approve,
    Veto,
    ProvePossession,
}

impl Endorsement {
    /// Obtains the signature and brings it to kekd.
    pub async fn run(self, deed: Deed, kekd: &Connection, format: Format) -> anyhow::Result<Exit> {
        let purpose = deed.purpose();
        let client = kekd.open().await?;
        let found = find::find(&client, &self.proposal).await?;
        if let Some(path) = &self.statement_out {
            let id = found.proposal.id;
            let next = format!("kekctl {} {id} --signature", deed.command());
            statement_file::write(path, purpose, found.proposal.text(), next, format)?;
            return Ok(Exit::Done);
        }
        let signature = match &self.signature {
            Some(path) => statement_file::signature(path)?,
            None => self.sign(purpose, &found, format)?,
        };
        let proposal = deed.send(&client, found.proposal.id.0, signature).await?;
        output::show(format, Stream::Out, &proposal)?;
        Ok(Exit::Done)
    }

    fn sign(&self, purpose: Purpose, found: &Found, format: Format) -> anyhow::Result<Vec<u8>> {
        let Found { said, proposal } = found;
        let mut facts = Facts::of_proposal(proposal);
        let approvals = view::approvals(&said.approvals, said.threshold);
        facts.add("approvals, says kekd", approvals);
        facts.add("phase, says kekd", view::phase_name(said.phase));
        let instance = proposal.instance_id;
        self.signer
            .sign(purpose, proposal.text(), instance, &facts, format)
    }
}

impl Deed {
    /// What the signature is for.
    pub const fn purpose(self) -> Purpose {
        match self {
            Self::Approve => Purpose::Approve,
            Self::Veto => Purpose::Veto,
            Self::ProvePossession => Purpose::Possession,
        }
    }

    const fn command(self) -> &'static str {
        match self {
            Self::Approve => "approve",
            Self::Veto => "veto",
            Self::ProvePossession => "prove-possession",
        }
    }

    /// Brings the signature over a proposal's statement to kekd.
    pub async fn send(
        self,
        client: &Client,
        id: Sha256,
        signature: Vec<u8>,
    ) -> anyhow::Result<ProposalView> {
        let said = match self {
            Self::Approve => client.approve(id, signature).await?,
            Self::Veto => client.veto(id, signature).await?,
            Self::ProvePossession => client.prove_possession(id, signature).await?,
        };
        ProposalView::read(said)
    }
}
