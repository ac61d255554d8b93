//! Archives of audit records: one file that holds a run of whole tiles, each record's exact bytes, and
//! the proof that they are part of a log that was signed. It is verified without the log, and without
//! kekd (docs/formats.md). Nothing is dropped here. The invariant: what is read from an archive was held
//! against its checkpoint before.

mod read;
mod write;

use std::ops::Range;

pub use read::Archive;
pub use write::ArchiveWriter;

use super::AuditError;
use crate::merkle::{MerkleError, NOTE_LEN_MAX};
use crate::types::Sha256;

/// The first line.
const FORMAT: &str = "kekd-audit-archive-v1";
/// Longest head read, in bytes: 128 roots and a note are well below.
const HEAD_LEN_MAX: usize = 64 * 1024;
/// Longest record, in bytes: every text in a record has a bound well below.
const RECORD_LEN_MAX: usize = 64 * 1024;

/// The head of an archive: which records it holds, and the proof about them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Span {
    /// The instance: SHA-256 over entry 0 of its ledger.
    pub instance_id: Sha256,
    /// The indexes of the records: whole tiles of 1024.
    pub range: Range<u64>,
    /// The roots over all that is outside of them, as `merkle::outside_ranges` lists it.
    pub outside: Vec<Sha256>,
    /// The signed note whose root follows from the records and those roots.
    pub note: String,
}

/// What is wrong with an archive.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ArchiveFault {
    /// Not the format.
    #[error("it is no archive of audit records: {0}")]
    Malformed(&'static str),
    /// It ends too soon.
    #[error("expected the records up to {until}; the file ends after record {found}: it was cut")]
    Cut {
        /// The index after the last.
        until: u64,
        /// The index after the last that is there.
        found: u64,
    },
    /// It goes on behind its end.
    #[error(
        "expected the file to end after its {records} records; it goes on: something was added"
    )]
    Longer {
        /// Records it should hold.
        records: u64,
    },
    /// A record in another's place.
    #[error("expected record {index} to say that it is record {index}; it says {found:?}")]
    RecordMoved {
        /// Where it stands.
        index: u64,
        /// What it says; nothing where it cannot be read.
        found: Option<u64>,
    },
    /// The records are not those that were signed.
    #[error(
        "expected the root {expected} that was signed over {size} records to follow from those in the \
         archive; found {found}: something in it was changed"
    )]
    Changed {
        /// The size of the checkpoint.
        size: u64,
        /// Its root.
        expected: Sha256,
        /// Computed from the archive.
        found: Sha256,
    },
    /// The checkpoint in it is not one of this log.
    #[error("its checkpoint is refused: {0}")]
    Checkpoint(#[from] MerkleError),
    /// An archive of another instance than the one expected.
    #[error("expected an archive of the instance {expected}; found one of {found}")]
    OtherInstance {
        /// Expected.
        expected: Sha256,
        /// Found.
        found: Sha256,
    },
    /// Not the file that was verified.
    #[error("it was changed while it was read")]
    ChangedMeanwhile,
}

impl Span {
    /// The bytes before the first record.
    fn to_bytes(&self) -> Vec<u8> {
        let Range { start, end } = self.range;
        let mut text = format!(
            "{FORMAT}\ninstance {}\nrecords {start} {end}\n",
            self.instance_id
        );
        for root in &self.outside {
            text.push_str(&format!("outside {root}\n"));
        }
        text.push_str(&format!("note {}\n{}", self.note.len(), self.note));
        text.into_bytes()
    }

    /// Reads the head, and returns it with its length. Strict: what it reads is what it would write.
    fn parse(beginning: &[u8]) -> Result<(Self, usize), ArchiveFault> {
        let mut rest = beginning;
        let mut line = || {
            let end = rest.iter().position(|byte| *byte == b'\n')?;
            let (line, after) = rest.split_at_checked(end)?;
            rest = after.split_first()?.1;
            str::from_utf8(line).ok()
        };
        let wrong = |rule| move || ArchiveFault::Malformed(rule);
        line()
            .filter(|line| *line == FORMAT)
            .ok_or_else(wrong("its first line must be kekd-audit-archive-v1"))?;
        let instance_id = line()
            .and_then(|line| line.strip_prefix("instance ")?.parse().ok())
            .ok_or_else(wrong("its second line must name the instance"))?;
        let range = line()
            .and_then(|line| {
                let (first, until) = line.strip_prefix("records ")?.split_once(' ')?;
                Some(first.parse().ok()?..until.parse().ok()?)
            })
            .ok_or_else(wrong("its third line must name the records"))?;
        let mut outside = Vec::new();
        let note_len = loop {
            let line = line().ok_or_else(wrong("its head must end with a note"))?;
            if let Some(len) = line.strip_prefix("note ") {
                break len.parse::<usize>().ok().filter(|len| *len <= NOTE_LEN_MAX);
            }
            let root = line
                .strip_prefix("outside ")
                .and_then(|root| root.parse().ok());
            outside.push(root.ok_or_else(wrong("a line of its head is none"))?);
        };
        let note = note_len
            .and_then(|len| rest.get(..len))
            .and_then(|note| str::from_utf8(note).ok())
            .ok_or_else(wrong("the note in its head must be text of at most 16 KiB"))?;
        let span = Self {
            instance_id,
            range,
            outside,
            note: note.to_owned(),
        };
        let bytes = span.to_bytes();
        match beginning.starts_with(&bytes) {
            true => Ok((span, bytes.len())),
            false => Err(ArchiveFault::Malformed(
                "its head must be written in one way",
            )),
        }
    }
}

fn refused(path: &std::path::Path, fault: ArchiveFault) -> AuditError {
    let path = path.to_owned();
    AuditError::Archive { path, fault }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test that cannot unwrap has failed")]
mod tests {
    use super::*;

    #[test]
    fn a_head_is_read_as_it_was_written_and_no_other_way() {
        let span = Span {
            instance_id: Sha256::of(b"instance"),
            range: 1024..4096,
            outside: vec![Sha256::of(b"a"), Sha256::of(b"b")],
            note: "kekd/audit/…\n1\nroot\n\n— signature\n".to_owned(),
        };
        let bytes = span.to_bytes();
        let more = [bytes.as_slice(), b"records"].concat();
        assert_eq!(Span::parse(&more), Ok((span, bytes.len())));
        for len in 0..bytes.len() {
            assert!(Span::parse(bytes.get(..len).unwrap()).is_err(), "{len}");
        }
        let text = String::from_utf8(bytes).unwrap();
        for (from, to) in [
            ("v1\n", "v2\n"),
            ("records 1024", "records 01024"),
            ("outside ", "outside  "),
        ] {
            assert!(
                Span::parse(text.replacen(from, to, 1).as_bytes()).is_err(),
                "{to}"
            );
        }
    }
}
