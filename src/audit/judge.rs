//! Whether the log is the one its signatures and the token know: the newest checkpoint and the
//! token's anchor against the tree over the records. A full verification is the auditor's
//! (`store::verify`); this is what a start can afford. Nothing is repaired here.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use super::{AuditError, AuditReader, Mismatch};
use crate::merkle::{Anchor, Checkpoint, Head, LogKey};
use crate::types::Sha256;

/// `CKA_LABEL` of the data object that holds the anchor of the audit log.
pub const ANCHOR_LABEL: &str = "kekd audit anchor";
const ANCHOR_FORMAT: &str = "kekd-audit-anchor-v1";
/// The file in the state folder in which the host's administrator accepts that records are lost, and
/// the first of its four lines; the others are those of the anchor that is ahead.
const LOSS_FILE: &str = "audit.loss";
const LOSS_FORMAT: &str = "kekd-audit-loss-v1";
/// Most anchors looked at; see the ledger's.
const ANCHORS_MAX: usize = 16;

/// The name of an instance's audit log in its checkpoints.
pub fn origin(instance_id: &Sha256) -> String {
    format!("kekd/audit/{instance_id}")
}

/// The bytes of the data object: four lines.
pub fn anchor_bytes(instance_id: Sha256, head: Head) -> Vec<u8> {
    Anchor { instance_id, head }
        .to_text(ANCHOR_FORMAT)
        .into_bytes()
}

/// What a log that is taken was found to have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Judged {
    /// The head of its newest checkpoint.
    pub signed: Option<Head>,
    /// The head in the token, where it has one anchor and no more.
    pub anchored: Option<Head>,
    /// The head that the token has seen of a longer log, whose loss the host's administrator has
    /// accepted. To be recorded before anything else.
    pub lost: Option<Head>,
}

/// The head whose loss is accepted in the folder of the log.
fn accepted_loss(path: &Path, instance_id: Sha256) -> Option<Head> {
    let mut bytes = Vec::new();
    File::open(path.with_file_name(LOSS_FILE))
        .and_then(|file| file.take(1024).read_to_end(&mut bytes))
        .ok()?;
    Anchor::parse(&bytes, LOSS_FORMAT)
        .filter(|loss| loss.instance_id == instance_id)
        .map(|loss| loss.head)
}

/// Judges the `size` records that `reader` reads. `anchors` are the values of all data objects with
/// the label.
///
/// A log with a checkpoint must have an anchor, for it is written next; a log without one may come of
/// a kekd that did not write them. An anchor may be behind the log, never ahead of it.
pub(super) fn judge(
    reader: &AuditReader,
    size: u64,
    instance_id: Sha256,
    key: &LogKey,
    anchors: &[Vec<u8>],
    path: &Path,
) -> Result<Judged, AuditError> {
    let refused = |mismatch| Err(AuditError::mismatch(path, mismatch));
    let newest = reader.newest_checkpoint()?;
    let signed = match newest {
        None => None,
        Some((size, note)) => match Checkpoint::open(&note, &origin(&instance_id), key) {
            Ok(checkpoint) if checkpoint.head().size == size => Some(checkpoint.head()),
            Ok(other) => {
                let found = other.head().size;
                return refused(Mismatch::ShorterThanSigned {
                    expected: size,
                    found,
                });
            }
            Err(source) => return refused(Mismatch::CheckpointRefused { size, source }),
        },
    };
    // The token first: it says how far a rollback goes.
    let mut parsed = Vec::new();
    for bytes in anchors {
        match Anchor::parse(bytes, ANCHOR_FORMAT).filter(|found| found.instance_id == instance_id) {
            Some(anchor) => parsed.push(anchor.head),
            None => {
                let found_len = bytes.len();
                return refused(Mismatch::AnchorMalformed { found_len });
            }
        }
    }
    let found = parsed.len();
    if found > ANCHORS_MAX || (found == 0 && signed.is_some()) {
        return refused(Mismatch::AnchorCount { found });
    }
    let anchored = match parsed.as_slice() {
        [one] => Some(*one),
        _ => None,
    };
    parsed.sort_by_key(|head| std::cmp::Reverse(head.size));
    let mut lost = None;
    for seen in parsed {
        if seen.size > size {
            if accepted_loss(path, instance_id) == Some(seen) {
                lost = lost.or(Some(seen));
                continue;
            }
            return refused(Mismatch::RolledBack {
                expected: seen.size,
                found: size,
                root: seen.root,
            });
        }
        match reader.root_at(seen.size)? {
            Some(root) if root == seen.root => {}
            found => {
                return refused(Mismatch::Forked {
                    size: seen.size,
                    expected: seen.root,
                    found: found.unwrap_or_else(|| Sha256::of(b"")),
                });
            }
        }
    }
    if let Some(head) = signed {
        if head.size > size {
            let (expected, found) = (head.size, size);
            return refused(Mismatch::ShorterThanSigned { expected, found });
        }
        match reader.root_at(head.size)? {
            Some(root) if root == head.root => {}
            found => {
                return refused(Mismatch::Rewritten {
                    from: 0,
                    size: head.size,
                    expected: head.root,
                    found: found.unwrap_or_else(|| Sha256::of(b"")),
                });
            }
        }
    }
    Ok(Judged {
        signed,
        anchored,
        lost,
    })
}
