//! The two objects in the token that tie a ledger to it: the pin names the instance for ever, the
//! anchor names a head the ledger had. Both are short texts with one form. Reading and writing the
//! token is not done here; what was read is judged here.

use super::Ledger;
use super::error::LedgerError;
use crate::merkle::{self, Head};
use crate::types::Sha256;

/// `CKA_LABEL` of the data object that holds the pin.
pub const PIN_LABEL: &str = "kekd genesis pin";
/// `CKA_LABEL` of the data object that holds the anchor.
pub const ANCHOR_LABEL: &str = "kekd anchor";

const PIN_FORMAT: &str = "kekd-genesis-pin-v1";
const ANCHOR_FORMAT: &str = "kekd-anchor-v1";
/// Most anchors looked at. An anchor is replaced by making the new one and then destroying the old
/// one, so two are normal after a crash; more come only of repeated crashes.
const ANCHORS_MAX: usize = 16;

/// The instance a token belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pin {
    /// SHA-256 over entry 0.
    pub instance_id: Sha256,
}

impl Pin {
    /// The bytes of the object: two lines.
    pub fn to_bytes(&self) -> Vec<u8> {
        format!("{PIN_FORMAT}\ninstance {}\n", self.instance_id).into_bytes()
    }

    /// Reads the bytes of the object. Strict: one form only.
    pub fn parse(bytes: &[u8]) -> Result<Self, LedgerError> {
        lines(bytes)
            .filter(|lines| lines.first() == Some(&PIN_FORMAT))
            .and_then(|lines| {
                Some(Self {
                    instance_id: value(&lines, 1, "instance ")?.parse().ok()?,
                })
            })
            .filter(|pin| pin.to_bytes() == bytes)
            .ok_or(LedgerError::ObjectMalformed {
                label: PIN_LABEL,
                rule: "a pin of format version 1",
                found_len: bytes.len(),
            })
    }
}

/// A head that the ledger of an instance had.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Anchor {
    /// SHA-256 over entry 0.
    pub instance_id: Sha256,
    /// The head.
    pub head: Head,
}

impl Anchor {
    /// The bytes of the object: four lines.
    pub fn to_bytes(&self) -> Vec<u8> {
        let Self { instance_id, head } = *self;
        merkle::Anchor { instance_id, head }
            .to_text(ANCHOR_FORMAT)
            .into_bytes()
    }

    /// Reads the bytes of the object. Strict: one form only.
    pub fn parse(bytes: &[u8]) -> Result<Self, LedgerError> {
        merkle::Anchor::parse(bytes, ANCHOR_FORMAT)
            .filter(|anchor| anchor.head.size > 0)
            .map(|merkle::Anchor { instance_id, head }| Self { instance_id, head })
            .ok_or(LedgerError::ObjectMalformed {
                label: ANCHOR_LABEL,
                rule: "an anchor of format version 1",
                found_len: bytes.len(),
            })
    }
}

/// Whether this ledger is the one the token knows, and no older than the token has seen. `pins` and
/// `anchors` are the values of all data objects with the two labels.
///
/// One pin must be there, and at least one anchor; of several anchors the highest counts, and none
/// may contradict the ledger. An anchor may be behind the ledger, never ahead of it, for it is
/// written after the commit.
///
/// Answers with the highest head that the token is tied to; where there are more anchors than one,
/// with none, for it is to be written again.
pub fn judge(
    pins: &[Vec<u8>],
    anchors: &[Vec<u8>],
    ledger: &Ledger,
) -> Result<Option<Head>, LedgerError> {
    let [pin] = pins else {
        return Err(LedgerError::ObjectCount {
            expected: "exactly one object \"kekd genesis pin\"",
            found: pins.len(),
        });
    };
    let found = ledger.state().instance_id();
    belongs(PIN_LABEL, Pin::parse(pin)?.instance_id, found)?;
    if !(1..=ANCHORS_MAX).contains(&anchors.len()) {
        return Err(LedgerError::ObjectCount {
            expected: "one object \"kekd anchor\" (after a crash a few)",
            found: anchors.len(),
        });
    }
    let parsed = anchors.iter().map(|bytes| Anchor::parse(bytes));
    let mut parsed = parsed.collect::<Result<Vec<_>, _>>()?;
    // The highest first: if there is a rollback, that one says how far.
    parsed.sort_by_key(|anchor| std::cmp::Reverse(anchor.head.size));
    for anchor in &parsed {
        belongs(ANCHOR_LABEL, anchor.instance_id, found)?;
        contains(ledger, anchor.head)?;
    }
    Ok(match parsed.as_slice() {
        [only] => Some(only.head),
        _ => None,
    })
}

fn belongs(label: &'static str, expected: Sha256, found: Sha256) -> Result<(), LedgerError> {
    if expected == found {
        return Ok(());
    }
    Err(LedgerError::InstanceWrong {
        label,
        expected,
        found,
    })
}

fn contains(ledger: &Ledger, seen: Head) -> Result<(), LedgerError> {
    if seen == ledger.state().head() {
        return Ok(());
    }
    let size = ledger.state().size();
    if seen.size > size {
        return Err(LedgerError::RolledBack {
            expected: seen.size,
            found: size,
        });
    }
    let found = ledger.root_at(seen.size)?;
    if found != seen.root {
        return Err(LedgerError::Forked {
            size: seen.size,
            expected: seen.root,
            found,
        });
    }
    Ok(())
}

fn lines(bytes: &[u8]) -> Option<Vec<&str>> {
    // Longer than any of the two is neither.
    let text = str::from_utf8(bytes)
        .ok()
        .filter(|text| text.len() <= 256)?;
    Some(text.lines().collect())
}

fn value<'a>(lines: &[&'a str], at: usize, name: &str) -> Option<&'a str> {
    lines.get(at)?.strip_prefix(name)
}
