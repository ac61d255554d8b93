//! `kekctl ledger prove`: the proof that one entry is in the ledger, made by kekd, checked here, and
//! checked again by whoever gets the file.

use std::fmt;
use std::path::{Path, PathBuf};

use clap::Args;
use kekd::client::Client;
use kekd::ledger::{Event, InclusionProof, Proved, check_proof};
use kekd::merkle::LogKey;
use kekd::proto::v1;
use kekd::types::Sha256;
use prost::Message as _;
use serde::Serialize;

use super::{not_kekd, refused};
use crate::connection::Connection;
use crate::exit::Exit;
use crate::file::{self, Target};
use crate::log_key;
use crate::output::{self, Format, Stream};

/// Longest proof file read, in bytes.
const PROOF_LEN_MAX: u64 = 2 * 1024 * 1024;

/// Prove that one entry is in the ledger, or check such a proof offline
///
/// The proof is a C2SP tlog-proof that carries the entry. To check it takes the instance's log key
/// alone: log-key.pem of an export.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  kekctl ledger prove 7 --out entry-7.tlog-proof
  kekctl ledger prove --check entry-7.tlog-proof --log-key ledger/log-key.pem")]
pub struct Prove {
    /// The index of the entry
    #[arg(required_unless_present = "check", value_name = "INDEX")]
    index: Option<u64>,
    /// The file to write; standard output when left out
    #[arg(long, default_value = "-", value_name = "FILE")]
    out: PathBuf,
    /// Replace the file if it exists
    #[arg(long)]
    force: bool,
    /// Check this proof instead of asking for one
    #[arg(
        long,
        value_name = "FILE",
        requires = "log_key",
        conflicts_with = "index"
    )]
    check: Option<PathBuf>,
    /// The log key the proof must lead to, PEM
    #[arg(long, value_name = "FILE", requires = "check")]
    log_key: Option<PathBuf>,
}

impl Prove {
    pub async fn run(self, kekd: &Connection, format: Format) -> anyhow::Result<Exit> {
        match (&self.check, &self.log_key, self.index) {
            (Some(proof), Some(key), _) => check(proof, key, format),
            (_, _, index) => self.make(kekd, index.unwrap_or_default(), format).await,
        }
    }

    async fn make(&self, kekd: &Connection, index: u64, format: Format) -> anyhow::Result<Exit> {
        let target = Target::new(self.out.clone(), self.force);
        // As JSON the proof is inside the one object, unless a file is to hold it.
        let in_object = target.is_stdout() && format == Format::Json;
        if !in_object {
            target.check(false)?;
        }
        let client = kekd.open().await?;
        let proof = ask(&client, index).await?;
        let key = claimed_key(&client).await?;
        let mut told = Told::new(index, &check_proof(&proof, &key).map_err(refused)?);
        if in_object {
            told.proof = Some(proof.to_text());
        } else {
            target.write(&[proof.to_text().as_bytes()], &mut |_, _| ())?;
        }
        if in_object || !target.is_stdout() {
            output::show(format, Stream::Out, &told)?;
        }
        Ok(Exit::Done)
    }
}

fn check(proof: &Path, key: &Path, format: Format) -> anyhow::Result<Exit> {
    let text = file::text(proof, PROOF_LEN_MAX)?;
    let proof = InclusionProof::parse(&text).map_err(|error| refused(error.into()))?;
    let key = log_key::read(key)?;
    let proved = check_proof(&proof, &key).map_err(refused)?;
    output::show(format, Stream::Out, &Told::new(proof.index, &proved))?;
    Ok(Exit::Done)
}

async fn ask(client: &Client, index: u64) -> anyhow::Result<InclusionProof> {
    let answer = client.ledger_proof(index).await?;
    let hashes = answer.hashes.iter();
    let hashes = hashes.map(|hash| Sha256::try_from(hash.as_slice()));
    Ok(InclusionProof {
        index,
        entry: answer.entry,
        hashes: hashes
            .collect::<Result<_, _>>()
            .map_err(|_| not_kekd("a hash that is none"))?,
        note: answer.note,
    })
}

/// The log key as the running kekd's entry 0 names it. Enough to see that a proof is whole; whoever
/// gets the proof holds it against the key they know.
async fn claimed_key(client: &Client) -> anyhow::Result<LogKey> {
    let page = client.read_entries(0).await?.entries;
    let birth = page
        .first()
        .and_then(|bytes| v1::Entry::decode(bytes.as_slice()).ok());
    let key = match birth.and_then(|entry| entry.event) {
        Some(Event::InstanceCreated(birth)) => birth.log_signing_key,
        Some(_) | None => None,
    };
    key.and_then(|key| LogKey::from_spki(&key.spki).ok())
        .ok_or_else(|| not_kekd("an entry 0 without a log key").into())
}

/// What a proof proves. `proof` is the file itself, only when none was named.
#[derive(Debug, Serialize)]
struct Told {
    index: u64,
    instance_id: String,
    time: String,
    size: u64,
    root: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    proof: Option<String>,
}

impl Told {
    fn new(index: u64, proved: &Proved) -> Self {
        Self {
            index,
            instance_id: proved.instance_id.to_string(),
            time: kekd::clock::UnixMs(proved.entry.time_ms).rfc3339(),
            size: proved.head.size,
            root: proved.head.root.to_string(),
            proof: None,
        }
    }
}

impl fmt::Display for Told {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "entry {} of {} is proved: instance {}, written {}",
            self.index, self.size, self.instance_id, self.time
        )
    }
}
