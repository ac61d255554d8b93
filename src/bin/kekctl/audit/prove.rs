//! `kekctl audit prove`: the proof that one record is in the audit log, made by kekd or from a copy,
//! checked here, and checked again by whoever gets the file.

use std::fmt;
use std::path::{Path, PathBuf};

use clap::Args;
use kekd::audit::archive::Archive;
use kekd::audit::{AuditReader, RecordProof, origin};
use kekd::merkle::LogKey;
use kekd::proto::v1::get_audit_proof_request::What;
use kekd::types::Sha256;
use serde::Serialize;

use super::bar::Bar;
use super::line::Line;
use super::{not_kekd, refused};
use crate::connection::Connection;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::file::{self, Target};
use crate::log_key;
use crate::output::{self, Format, Stream};

/// Longest proof file read, in bytes.
const PROOF_LEN_MAX: u64 = 64 * 1024;

/// Prove that one record is in the audit log, or check such a proof offline
///
/// The proof is a C2SP tlog-proof that carries the record. To check it takes the instance's log key
/// alone: log-key.pem of a ledger's export.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  kekctl audit prove 1204 --log-key ledger/log-key.pem --out record-1204.tlog-proof
  kekctl audit prove 1204 --log-key ledger/log-key.pem --file backup/audit.db
  kekctl audit prove 1204 --log-key ledger/log-key.pem --archive 2025.kekd-audit
  kekctl audit prove --check record-1204.tlog-proof --log-key ledger/log-key.pem")]
pub struct Prove {
    /// The index of the record
    #[arg(required_unless_present = "check", value_name = "INDEX")]
    index: Option<u64>,
    /// The log key the proof must lead to, PEM
    #[arg(long, value_name = "FILE")]
    log_key: PathBuf,
    /// A copy of audit.db to make it from instead of asking kekd
    #[arg(long, value_name = "FILE", conflicts_with = "check")]
    file: Option<PathBuf>,
    /// An archive of records that were dropped, to make it from
    #[arg(long, value_name = "FILE", conflicts_with_all = ["check", "file"])]
    archive: Option<PathBuf>,
    /// The file to write; standard output when left out
    #[arg(long, default_value = "-", value_name = "FILE")]
    out: PathBuf,
    /// Replace the file if it exists
    #[arg(long)]
    force: bool,
    /// Check this proof instead of making one
    #[arg(long, value_name = "FILE", conflicts_with = "index")]
    check: Option<PathBuf>,
}

impl Prove {
    pub async fn run(self, kekd: &Connection, format: Format) -> anyhow::Result<Exit> {
        let key = log_key::read(&self.log_key)?;
        if let Some(path) = &self.check {
            let text = file::text(path, PROOF_LEN_MAX)?;
            let proof = RecordProof::parse(&text).ok_or_else(|| {
                let text = format!("{} is no C2SP tlog-proof of a record", path.display());
                Failure::new(Exit::Malformed, "AUDIT_REFUSED", text)
            })?;
            output::show(format, Stream::Out, &proved(&proof, &key)?)?;
            return Ok(Exit::Done);
        }
        let target = Target::new(self.out.clone(), self.force);
        target.check(false)?;
        let index = self.index.unwrap_or_default();
        let proof = match (&self.archive, &self.file) {
            (Some(archive), _) => from_archive(archive, index, &key)?,
            (None, Some(copy)) => from_copy(copy, index, &key)?,
            (None, None) => from_kekd(kekd, index).await?,
        };
        let told = proved(&proof, &key)?;
        target.write(&[proof.to_text().as_bytes()], &mut |_, _| ())?;
        if !target.is_stdout() {
            output::show(format, Stream::Out, &told)?;
        }
        Ok(Exit::Done)
    }
}

fn from_copy(copy: &Path, index: u64, key: &LogKey) -> anyhow::Result<RecordProof> {
    let reader = AuditReader::of_copy(copy).map_err(refused)?;
    let instance = reader.instance_id().map_err(refused)?;
    let proof = reader.prove(index, &origin(&instance), key);
    Ok(proof.map_err(refused)?)
}

fn from_archive(path: &Path, index: u64, key: &LogKey) -> anyhow::Result<RecordProof> {
    let mut bar = Bar::new("verifying");
    let archive = Archive::open(path, Some(key), &mut |done, total| bar.at(done, total));
    Ok(archive.map_err(refused)?.prove(index).map_err(refused)?)
}

async fn from_kekd(kekd: &Connection, index: u64) -> anyhow::Result<RecordProof> {
    let client = kekd.open().await?;
    let answer = client.audit_proof(What::Index(index)).await?;
    let hashes = answer.hashes.iter();
    let hashes = hashes.map(|hash| Sha256::try_from(hash.as_slice()));
    Ok(RecordProof {
        index,
        record: answer.record,
        hashes: hashes
            .collect::<Result<_, _>>()
            .map_err(|_| not_kekd("a hash that is none"))?,
        note: answer.note,
    })
}

fn proved(proof: &RecordProof, key: &LogKey) -> anyhow::Result<Told> {
    let instance_id = proof
        .claimed_instance()
        .map_err(|error| refused(error.into()))?;
    let (head, _) = proof.check(&instance_id, key).map_err(refused)?;
    let record = Line::of(&proof.record).ok_or_else(|| not_kekd("a record that is none"))?;
    Ok(Told {
        instance_id: instance_id.to_string(),
        size: head.size,
        root: head.root.to_string(),
        record,
    })
}

/// What a proof proves.
#[derive(Debug, Serialize)]
struct Told {
    instance_id: String,
    size: u64,
    root: String,
    record: Line,
}

impl fmt::Display for Told {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (size, instance) = (self.size, &self.instance_id);
        writeln!(
            f,
            "proved to be in the {size} records of the instance {instance}"
        )?;
        write!(f, "{}", self.record)
    }
}
