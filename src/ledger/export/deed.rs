//! One line for people about each entry: when, what, by whom. Texts here are for reading; programs
//! read the entries.

use prost::Message as _;
use ssh_key::{PublicKey, SshSig};

use super::super::copy::Verified;
use super::super::entry::Event;
use super::roll::{Act, Roll, Signer, field};
use crate::clock::UnixMs;
use crate::proto::v1;
use crate::types::{KeypairId, Sha256};

/// What an entry says happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deed {
    /// The index of the entry.
    pub index: u64,
    /// When it was written.
    pub time: UnixMs,
    /// What happened, one line.
    pub what: String,
    /// Who signed for it: officers' names, in the order of the signatures. Empty where it follows
    /// from an earlier entry, or was done on the host.
    pub by: Vec<String>,
}

/// A line about each entry.
pub fn deeds(ledger: &Verified) -> Vec<Deed> {
    deeds_of(ledger.entries(), ledger.state().instance_name())
}

/// As [`deeds`], of entries and the instance's name.
pub(in super::super) fn deeds_of(entries: &[Vec<u8>], instance: &str) -> Vec<Deed> {
    let mut roll = Roll::default();
    let mut deeds = Vec::new();
    for (index, bytes) in (0_u64..).zip(entries) {
        // Whoever may sign what: those of the epoch before the entry, and for the first after it.
        let before = roll.officers().to_vec();
        let act = roll.take(index, bytes);
        let officers = match index {
            0 => roll.officers(),
            _ => &before,
        };
        let entry = v1::Entry::decode(bytes.as_slice()).unwrap_or_default();
        let by = act.as_ref().map(|act| signers(act, bytes, officers));
        deeds.push(Deed {
            index,
            time: UnixMs(entry.time_ms),
            what: entry
                .event
                .map_or_else(String::new, |event| what(&event, act.as_ref(), instance)),
            by: by.unwrap_or_default(),
        });
    }
    deeds
}

fn what(event: &Event, act: Option<&Act>, instance: &str) -> String {
    let effect = || {
        let line = act.and_then(|act| field(&act.statement, "effect"));
        line.unwrap_or_else(|| "(its statement says no effect)".to_owned())
    };
    match event {
        Event::InstanceCreated(_) => format!("instance {instance:?} created"),
        Event::KekVersionActivated(made) => format!(
            "KEK {} version {} active ({})",
            made.kek,
            made.number,
            keypair(&made.keypair_id)
        ),
        Event::ProposalOpened(opened) => {
            let id = Sha256::of(&opened.statement);
            format!("proposed: {} (proposal {id})", effect())
        }
        Event::ApprovalGiven(_) => format!("approved: {}", effect()),
        Event::PossessionProven(_) => format!("proved possession of a key for: {}", effect()),
        Event::ProposalVetoed(_) => format!("vetoed: {}", effect()),
        Event::OperationExecuted(_) => format!("executed: {}", effect()),
        Event::ExecutionBegun(_) => format!("began: {}", effect()),
        Event::MandatedRotationBegun(begun) => format!(
            "began a rotation under the mandate {} (new key {})",
            hex(&begun.mandate_id),
            keypair(&begun.keypair_id)
        ),
        Event::ExecutionFailed(failed) => format!(
            "failed without effect: {} ({})",
            failed.reason,
            keypair(&failed.keypair_id)
        ),
        Event::VersionDestroyed(gone) => {
            format!("key {} destroyed", keypair(&gone.keypair_id))
        }
        Event::ProposalExpired(ended) => {
            format!("proposal {} expired", hex(&ended.proposal_id))
        }
        Event::Suspended(_) => format!("stopped: {}", effect()),
        Event::SuspendedByHost(stop) if stop.kek.is_empty() => {
            "stopped on the host: all KEKs".to_owned()
        }
        Event::SuspendedByHost(stop) => format!("stopped on the host: KEK {}", stop.kek),
    }
}

/// The names behind the signatures of an entry, found by their keys.
fn signers(act: &Act, entry: &[u8], officers: &[Signer]) -> Vec<String> {
    let known = act.signers_of_its_own.as_deref().unwrap_or(officers);
    let armored = act.signatures.iter().filter_map(|at| entry.get(at.clone()));
    armored
        .filter_map(|armored| SshSig::from_pem(armored).ok())
        .filter_map(|envelope| {
            PublicKey::from(envelope.public_key().clone())
                .to_openssh()
                .ok()
        })
        .map(|key| {
            let signer = known.iter().find(|signer| signer.key == key);
            signer.map_or_else(|| format!("the key {key}"), |signer| signer.name.clone())
        })
        .collect()
}

fn keypair(id: &[u8]) -> String {
    KeypairId::try_from(id).map_or_else(|_| hex(id), |id| id.to_string())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
