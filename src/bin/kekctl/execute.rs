//! `kekctl execute`: one officer orders what a quorum has approved.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clap::Args;
use kekd::client::Client;
use kekd::proto::v1;
use kekd::quorum::Execution;
use serde::Serialize;

use crate::connection::Connection;
use crate::exit::Exit;
use crate::officer::facts::Facts;
use crate::officer::find::{self, Found, ProposalRef};
use crate::officer::key::Named;
use crate::officer::now;
use crate::officer::purpose::Purpose;
use crate::officer::signer::Signer;
use crate::officer::statement_file::Elsewhere;
use crate::officer::view::{self, ProposalView};
use crate::output::{self, Format, Stream};

/// Execute an approved proposal
///
/// Where keys are made this takes seconds. A call that is given up does not stop what was begun:
/// look with kekctl proposal show.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  kekctl execute 3f2a90bc
  kekctl execute 3f2a90bc --yes --output json | jq -r .keypair_id

With a signature made elsewhere, within the hour:
  kekctl execute 3f2a90bc --officer alice --statement-out execution.txt
  ssh-keygen -Y sign -n execution@kekd -f KEY execution.txt
  kekctl execute 3f2a90bc --statement execution.txt --signature execution.txt.sig")]
pub struct Execute {
    /// The proposal: its id, or 8 or more of its first digits
    #[arg(value_name = "ID")]
    proposal: ProposalRef,
    #[command(flatten)]
    elsewhere: Elsewhere,
    #[command(flatten)]
    signer: Signer,
}

impl Execute {
    pub async fn run(self, kekd: &Connection, format: Format) -> anyhow::Result<Exit> {
        let client = kekd.open().await?;
        let (text, signature) = match self.elsewhere.read()? {
            Some(signed) => signed,
            None => {
                let found = find::find(&client, &self.proposal).await?;
                let execution = self.draft(&client, &found, format).await?;
                let text = execution.text().to_vec();
                let command = format!("kekctl execute {}", found.proposal.id);
                if self
                    .elsewhere
                    .write(Purpose::Execute, &text, &command, format)?
                {
                    return Ok(Exit::Done);
                }
                let signature = self.sign(&execution, &found, format)?;
                (text, signature)
            }
        };
        let answer = client.execute(text, signature).await?;
        output::show(format, Stream::Out, &Executed::read(answer)?)?;
        Ok(Exit::Done)
    }

    async fn draft(
        &self,
        client: &Client,
        found: &Found,
        format: Format,
    ) -> anyhow::Result<Execution> {
        let officers = client.governance().await?.officers;
        let name = self.signer.name(Named::of(&officers), format)?;
        Ok(Execution::draft(&found.proposal, &name, now())?)
    }

    fn sign(
        &self,
        execution: &Execution,
        found: &Found,
        format: Format,
    ) -> anyhow::Result<Vec<u8>> {
        let Found { said, proposal } = found;
        let mut facts = Facts::of_execution(execution, proposal);
        let approvals = view::approvals(&said.approvals, said.threshold);
        facts.add("approvals, says kekd", approvals);
        let (text, instance) = (execution.text(), execution.instance_id);
        self.signer
            .sign(Purpose::Execute, text, instance, &facts, format)
    }
}

/// What came of an execution.
#[derive(Debug, Serialize)]
pub struct Executed {
    #[serde(flatten)]
    proposal: ProposalView,
    /// For an import: the key in the token to wrap the key under, DER in base64.
    #[serde(skip_serializing_if = "String::is_empty")]
    transport_spki: String,
    /// For an import: the certificate of that key, DER in base64.
    #[serde(skip_serializing_if = "String::is_empty")]
    transport_certificate: String,
}

impl Executed {
    /// Reads what kekd answered.
    pub fn read(answer: v1::ExecuteResponse) -> anyhow::Result<Self> {
        let without =
            kekd::client::ClientError::Protocol("Execute was answered without a proposal");
        Ok(Self {
            proposal: ProposalView::read(answer.proposal.ok_or(without)?)?,
            transport_spki: STANDARD.encode(answer.transport_spki),
            transport_certificate: STANDARD.encode(answer.transport_certificate),
        })
    }
}

impl fmt::Display for Executed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.proposal)?;
        if self.transport_spki.is_empty() {
            return Ok(());
        }
        writeln!(f, "  transport key         {}", self.transport_spki)?;
        writeln!(f, "  its certificate       {}", self.transport_certificate)
    }
}
