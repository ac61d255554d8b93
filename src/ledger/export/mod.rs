//! What a ledger says, laid open: the files of an export, from which anybody verifies it with
//! `ssh-keygen` and `openssl` (docs/verify-ledger.sh), and one line for people about each entry.
//! Everything here follows from the entries alone; nothing is verified and nothing is written.

mod deed;
mod pieces;
mod roll;

use std::collections::BTreeMap;
use std::ops::Range;

use der::pem::LineEnding;

pub use deed::{Deed, deeds};

#[cfg(test)]
pub(super) use deed::deeds_of;

use super::copy::Verified;
use crate::merkle::leaf_hash;
use crate::types::Sha256;
use roll::{Act, Roll, Signer};

/// The files of an export by their path within it (docs/formats.md, "Export").
pub fn export(ledger: &Verified) -> BTreeMap<String, Vec<u8>> {
    let spki = &ledger.state().log_signing_key().spki;
    files(ledger.entries(), ledger.note(), spki)
}

/// As [`export`], of entries, the note over them and the log key (DER `SubjectPublicKeyInfo`).
pub(super) fn files(entries: &[Vec<u8>], note: &str, spki: &[u8]) -> BTreeMap<String, Vec<u8>> {
    let pem = der::pem::encode_string("PUBLIC KEY", LineEnding::LF, spki);
    let mut files = BTreeMap::from([
        ("checkpoint".to_owned(), note.into()),
        // A key of 91 bytes that was parsed before always has a PEM form.
        ("log-key.pem".to_owned(), pem.unwrap_or_default().into()),
    ]);
    let (mut roll, mut leaves) = (Roll::default(), String::new());
    for (index, bytes) in (0_u64..).zip(entries) {
        if index == 0 {
            files.insert("instance".to_owned(), line(&Sha256::of(bytes)));
        }
        leaves.push_str(&format!("{}\n", leaf_hash(bytes)));
        files.insert(format!("entries/{index:08}.bin"), bytes.clone());
        let act = roll.take(index, bytes);
        let epoch = format!("allowed_signers.{}", roll.epoch());
        files
            .entry(epoch)
            .or_insert_with(|| allowed(roll.officers()));
        if let Some(act) = act {
            files.extend(signed(index, bytes, &act));
        }
    }
    if !roll.recovery().is_empty() {
        let name = "allowed_signers.recovery".to_owned();
        files.insert(name, allowed(roll.recovery()));
    }
    files.insert("leaves".to_owned(), leaves.into_bytes());
    files
}

/// The files of one entry that carries signatures.
fn signed(index: u64, entry: &[u8], act: &Act) -> Vec<(String, Vec<u8>)> {
    let mut files = vec![
        ("namespace".to_owned(), line(&act.namespace)),
        ("epoch".to_owned(), line(&act.epoch)),
    ];
    let mut offsets = String::new();
    let mut cut = |files: &mut Vec<(String, Vec<u8>)>, name: String, at: &Range<usize>| {
        offsets.push_str(&format!("{name} {} {}\n", at.start, at.len()));
        files.push((name, entry.get(at.clone()).unwrap_or_default().to_vec()));
    };
    if let Some(at) = &act.statement_at {
        cut(&mut files, "statement".to_owned(), at);
    }
    for (number, at) in (1..).zip(&act.signatures) {
        cut(&mut files, format!("signature.{number}"), at);
    }
    files.push(("offsets".to_owned(), offsets.into_bytes()));
    if let Some(opened) = act.statement_of {
        files.push(("statement-of".to_owned(), line(&opened)));
    }
    if let Some(signers) = &act.signers_of_its_own {
        files.push(("allowed_signers".to_owned(), allowed(signers)));
    }
    let within = |(name, bytes)| (format!("signed/{index:08}/{name}"), bytes);
    files.into_iter().map(within).collect()
}

/// Lines for `ssh-keygen -Y verify -f` (ssh-keygen(1), "ALLOWED SIGNERS").
fn allowed(signers: &[Signer]) -> Vec<u8> {
    let lines = signers
        .iter()
        .map(|signer| format!("{} {}\n", signer.principal(), signer.key));
    lines.collect::<String>().into_bytes()
}

fn line(value: &impl ToString) -> Vec<u8> {
    format!("{}\n", value.to_string()).into_bytes()
}
