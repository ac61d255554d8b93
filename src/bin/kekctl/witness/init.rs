//! `kekctl witness init`: a new witness, with a key of its own.

use std::fmt;
use std::path::PathBuf;

use clap::Args;
use kekd::types::Sha256;
use serde::Serialize;

use super::memory::Memory;
use crate::exit::Exit;
use crate::output::{self, Format, Stream};

/// Make a witness: a folder with a key, and whose log it watches
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  kekctl witness init ./w --name witness.example/w1 --log-key log-key.pem --instance 618fb78f…")]
pub struct Init {
    /// The folder to make
    #[arg(value_name = "DIR")]
    dir: PathBuf,
    /// The name it signs under, for example witness.example/w1
    #[arg(long, value_name = "NAME")]
    name: String,
    /// The log key of the instance, PEM: log-key.pem of a ledger's export
    #[arg(long, value_name = "FILE")]
    log_key: PathBuf,
    /// The instance, 64 hexadecimal digits (kekctl status shows it)
    #[arg(long, value_name = "HEX")]
    instance: Sha256,
}

impl Init {
    pub fn run(self, format: Format) -> anyhow::Result<Exit> {
        let memory = Memory::create(&self.dir, &self.name, self.instance, &self.log_key)?;
        let made = Made {
            witness: memory.public_key()?.to_text(),
            instance_id: self.instance.to_string(),
        };
        output::show(format, Stream::Out, &made)?;
        Ok(Exit::Done)
    }
}

/// A new witness.
#[derive(Debug, Serialize)]
struct Made {
    /// The verifier key (C2SP signed-note).
    witness: String,
    instance_id: String,
}

impl fmt::Display for Made {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (witness, instance) = (&self.witness, &self.instance_id);
        write!(
            f,
            "witness of the instance {instance}; others check it with\n{witness}"
        )
    }
}
