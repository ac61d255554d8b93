//! `kekctl suspend`: one officer stops a KEK, or all. In effect when this returns.

use std::fmt;

use clap::{ArgGroup, Args};
use kekd::client::Client;
use kekd::quorum::{Suspension, Target};
use kekd::types::{KekName, Sha256};
use serde::Serialize;

use crate::connection::Connection;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::officer::facts::Facts;
use crate::officer::key::Named;
use crate::officer::purpose::Purpose;
use crate::officer::signer::Signer;
use crate::officer::statement_file::Elsewhere;
use crate::officer::{nonce, now};
use crate::output::{self, Format, Stream};

/// Stop a KEK, or all, at once; only a quorum lifts it (propose reinstate)
#[derive(Debug, Args)]
#[command(group(ArgGroup::new("what").required(true).args(["kek", "all", "statement"])))]
#[command(after_help = "\
Examples:
  kekctl suspend recordings
  kekctl suspend --all --yes
  kekctl propose reinstate --kek recordings      # how it is lifted

With a signature made elsewhere:
  kekctl suspend --all --officer alice --statement-out stop.txt
  ssh-keygen -Y sign -n suspension@kekd -f KEY stop.txt
  kekctl suspend --statement stop.txt --signature stop.txt.sig")]
pub struct Suspend {
    /// The KEK to stop
    #[arg(value_name = "KEK")]
    kek: Option<KekName>,
    /// Stop every KEK, those to come included
    #[arg(long)]
    all: bool,
    #[command(flatten)]
    elsewhere: Elsewhere,
    #[command(flatten)]
    signer: Signer,
}

impl Suspend {
    pub async fn run(self, kekd: &Connection, format: Format) -> anyhow::Result<Exit> {
        let client = kekd.open().await?;
        let (text, signature) = match self.elsewhere.read()? {
            Some(signed) => signed,
            None => {
                let suspension = self.draft(&client, format).await?;
                let text = suspension.text().to_vec();
                let (purpose, command) = (Purpose::Suspend, "kekctl suspend");
                if self.elsewhere.write(purpose, &text, command, format)? {
                    return Ok(Exit::Done);
                }
                let facts = Facts::of_suspension(&suspension);
                let instance = suspension.instance_id;
                let signature = self.signer.sign(purpose, &text, instance, &facts, format)?;
                (text, signature)
            }
        };
        let target = Suspension::parse(&text)
            .map_err(|error| Failure::new(Exit::Malformed, "NOT_ACCEPTABLE", error.to_string()))?
            .target;
        let in_ledger = client.suspend(text, signature).await?;
        let kek = match target {
            Target::All => None,
            Target::Kek(name) => Some(name.to_string()),
        };
        output::show(format, Stream::Out, &Suspended { kek, in_ledger })?;
        Ok(Exit::Done)
    }

    async fn draft(&self, client: &Client, format: Format) -> anyhow::Result<Suspension> {
        let governance = client.governance().await?;
        let instance = Sha256::try_from(governance.instance_id.as_slice())?;
        let name = self.signer.name(Named::of(&governance.officers), format)?;
        let target = match &self.kek {
            Some(name) => Target::Kek(name.clone()),
            None => Target::All,
        };
        let draft = Suspension::draft(instance, target, &name, nonce()?, now());
        Ok(draft?)
    }
}

#[derive(Debug, Serialize)]
struct Suspended {
    /// Null for all.
    kek: Option<String>,
    in_ledger: bool,
}

impl fmt::Display for Suspended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.kek {
            Some(kek) => write!(f, "stopped: {kek}")?,
            None => write!(f, "stopped: every KEK")?,
        }
        match self.in_ledger {
            true => Ok(()),
            false => write!(
                f,
                "; the ledger cannot be written now and will have it later, the stop holds either \
                 way"
            ),
        }
    }
}
