//! `kekctl witness cosign`: one look at the log, and a cosignature where it only grew.

use std::fmt;
use std::path::PathBuf;

use clap::Args;
use kekd::clock::Clock;
use kekd::merkle::{Checkpoint, Frontier, Head, WitnessKey, verify_consistency};
use kekd::proto::v1::get_audit_proof_request::What;
use kekd::types::Sha256;
use serde::Serialize;

use super::memory::Memory;
use crate::connection::Connection;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::file::Target;
use crate::output::{self, Format, Stream};

/// Cosign the newest checkpoint of the audit log, if it contains all that was cosigned before
///
/// A log that is smaller than, or differs from, what this witness has signed is refused with exit
/// status 1 and the reason FORK; keep both notes as evidence.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  kekctl witness cosign ./w
  kekctl witness cosign ./w --out \"cosigned-$(date +%F).note\"")]
pub struct Cosign {
    /// The witness's folder
    #[arg(value_name = "DIR")]
    dir: PathBuf,
    /// The file to write the cosigned note to; standard output when left out
    #[arg(long, default_value = "-", value_name = "FILE")]
    out: PathBuf,
    /// Replace the file if it exists
    #[arg(long)]
    force: bool,
}

impl Cosign {
    pub async fn run(self, kekd: &Connection, format: Format) -> anyhow::Result<Exit> {
        let target = Target::new(self.out.clone(), self.force);
        target.check(false)?;
        let memory = Memory::open(&self.dir)?;
        let key = memory.public_key()?;
        let newest = memory.newest()?;
        let seen = newest.unwrap_or_else(|| Frontier::default().head());
        let client = kekd.open().await?;
        let answer = match client.audit_proof(What::OldSize(seen.size)).await {
            Err(error) if is_smaller(&error) => {
                let text = format!("this witness has signed {} records: {error}", seen.size);
                return Err(Failure::new(Exit::Failed, "FORK", text).into());
            }
            answer => answer?,
        };
        let origin = format!("kekd/audit/{}", memory.instance_id);
        let checkpoint = Checkpoint::open(&answer.note, &origin, &memory.log_key)?;
        let hashes = answer.hashes.iter();
        let hashes: Vec<_> = hashes
            .map(|hash| Sha256::try_from(hash.as_slice()))
            .collect::<Result<_, _>>()?;
        require_growth(seen, checkpoint.head(), &hashes)?;
        // Before anything is signed, so that no crash makes it sign two histories.
        if newest != Some(checkpoint.head()) {
            memory.remember(checkpoint.head())?;
        }
        let time = Clock::System.now().0 / 1000;
        let signature = memory.sign(&WitnessKey::message(&checkpoint, time));
        let line = key.line(&checkpoint, time, &signature)?;
        let note = format!("{}{line}", answer.note);
        target.write(&[note.as_bytes()], &mut |_, _| ())?;
        if !target.is_stdout() {
            let cosigned = Cosigned {
                witness: key.name().to_owned(),
                before: seen.size,
                size: checkpoint.head().size,
                root: checkpoint.head().root.to_string(),
            };
            output::show(format, Stream::Out, &cosigned)?;
        }
        Ok(Exit::Done)
    }
}

fn is_smaller(error: &kekd::client::ClientError) -> bool {
    use kekd::client::ClientError::Refused;
    matches!(error, Refused(refusal) if refusal.reason == "RECORD_UNKNOWN")
}

/// Whether the log at `now` begins with the log that was `seen`.
fn require_growth(seen: Head, now: Head, proof: &[Sha256]) -> Result<(), Failure> {
    let fork = |why: String| Failure::new(Exit::Failed, "FORK", why);
    if now.size < seen.size {
        let (seen, now) = (seen.size, now.size);
        return Err(fork(format!(
            "this witness has signed {seen} records, and the log says that it has {now}: refused"
        )));
    }
    verify_consistency(seen, now, proof).map_err(|_| {
        fork(format!(
            "this witness has signed the root {} over {} records; the log of {} records with the root \
             {} does not contain them: refused. Keep both notes as evidence",
            seen.root, seen.size, now.size, now.root
        ))
    })
}

/// What was cosigned.
#[derive(Debug, Serialize)]
struct Cosigned {
    witness: String,
    /// Records at the cosignature before.
    before: u64,
    size: u64,
    root: String,
}

impl fmt::Display for Cosigned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (witness, before, size) = (&self.witness, self.before, self.size);
        write!(
            f,
            "{witness} cosigned {size} records, {before} at the time before"
        )
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test that cannot unwrap has failed")]
mod tests {
    use kekd::merkle::{consistency_proof, leaf_hash, root_of};

    use super::*;

    fn head(leaves: &[Sha256]) -> Head {
        let size = u64::try_from(leaves.len()).unwrap();
        let root = root_of(leaves);
        Head { size, root }
    }

    #[test]
    fn a_fork_and_a_smaller_log_are_refused() {
        let leaves: Vec<_> = (0..20_u8).map(|n| leaf_hash(&[n])).collect();
        let mut forked = leaves.clone();
        *forked.get_mut(3).unwrap() = leaf_hash(b"another");
        for old in 0..=20 {
            let seen = head(leaves.get(..old).unwrap());
            let size = u64::try_from(old).unwrap();
            let proof = consistency_proof(&leaves, size).unwrap();
            require_growth(seen, head(&leaves), &proof).unwrap();
            let proof = consistency_proof(&forked, size).unwrap();
            let refused = require_growth(seen, head(&forked), &proof);
            // Nothing seen yet of what differs is no fork.
            assert_eq!(refused.is_err(), old > 3, "{old}");
            if old > 0 {
                let smaller = head(leaves.get(..old - 1).unwrap());
                let failure = require_growth(seen, smaller, &[]).unwrap_err();
                assert_eq!(failure.reason, "FORK");
            }
        }
    }
}
