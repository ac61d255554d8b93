//! `kekctl witness check`: whether a note was signed by the log and cosigned by a witness.

use std::fmt;
use std::path::PathBuf;

use clap::Args;
use kekd::clock::UnixMs;
use kekd::merkle::{Checkpoint, WitnessKey};
use kekd::types::Sha256;
use serde::Serialize;

use crate::exit::Exit;
use crate::failure::Failure;
use crate::file;
use crate::log_key;
use crate::output::{self, Format, Stream};

/// Longest note read, in bytes.
const NOTE_LEN_MAX: u64 = 16 * 1024;

/// Check a cosigned checkpoint offline
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  kekctl witness check cosigned.note --witness witness.example/w1+… --log-key log-key.pem \\
    --instance 618fb78f…")]
pub struct Check {
    /// The note
    #[arg(value_name = "FILE")]
    note: PathBuf,
    /// The witness's verifier key, as kekctl witness init shows it
    #[arg(long, value_name = "KEY")]
    witness: String,
    /// The log key of the instance, PEM
    #[arg(long, value_name = "FILE")]
    log_key: PathBuf,
    /// The instance, 64 hexadecimal digits
    #[arg(long, value_name = "HEX")]
    instance: Sha256,
}

impl Check {
    pub fn run(self, format: Format) -> anyhow::Result<Exit> {
        let refused = |error: kekd::merkle::MerkleError| {
            Failure::new(Exit::Malformed, "NOTE_REFUSED", error.to_string())
        };
        let note = file::text(&self.note, NOTE_LEN_MAX)?;
        let key = log_key::read(&self.log_key)?;
        let witness = WitnessKey::parse(&self.witness).map_err(refused)?;
        let origin = format!("kekd/audit/{}", self.instance);
        let checkpoint = Checkpoint::open(&note, &origin, &key).map_err(refused)?;
        let time = witness.witnessed(&note, &checkpoint).map_err(refused)?;
        let seen = Seen {
            witness: witness.name().to_owned(),
            time: UnixMs(time.saturating_mul(1000)).rfc3339(),
            size: checkpoint.head().size,
            root: checkpoint.head().root.to_string(),
        };
        output::show(format, Stream::Out, &seen)?;
        Ok(Exit::Done)
    }
}

/// What a witness saw.
#[derive(Debug, Serialize)]
struct Seen {
    witness: String,
    time: String,
    size: u64,
    root: String,
}

impl fmt::Display for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (witness, time, size) = (&self.witness, &self.time, self.size);
        write!(f, "{witness} saw {size} records at {time}")
    }
}
