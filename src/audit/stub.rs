//! What stands in the place of records that were archived and dropped: which they were, the digest of
//! their archive, and a digest over the roots and times of their tiles, which stay. Pure; the SQL is the
//! store's. The invariant: stubs follow one another from record 0 on without a gap, and the record of the
//! newest drop vouches for all of them.

use std::fmt::Write as _;
use std::ops::Range;

use super::tree::{TILE_LEN, Tile};
use crate::clock::UnixMs;
use crate::types::Sha256;

/// Records that were dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stub {
    /// The index of the first.
    pub first: u64,
    /// The index after the last: a multiple of 1024.
    pub until: u64,
    /// SHA-256 of the archive that holds them.
    pub archive: Sha256,
    /// SHA-256 over a line for each of their tiles: number, root, earliest and latest time.
    pub tiles: Sha256,
    /// The size of the newest checkpoint when they were dropped.
    pub signed: u64,
    /// The index of the record of the drop.
    pub record_index: u64,
}

impl Stub {
    /// The indexes of the records.
    pub const fn range(&self) -> Range<u64> {
        self.first..self.until
    }

    /// The numbers of their tiles.
    pub(super) const fn tile_numbers(&self) -> Range<u64> {
        tile_numbers(&self.range())
    }
}

/// The numbers of the tiles of a run of whole tiles.
pub(super) const fn tile_numbers(range: &Range<u64>) -> Range<u64> {
    range.start / TILE_LEN..range.end / TILE_LEN
}

/// SHA-256 over a line for each tile: `<number> <root> <earliest ms> <latest ms>` and a line feed.
pub(super) fn tiles_digest(tiles: &[Tile]) -> Sha256 {
    let mut text = String::new();
    for tile in tiles {
        let (UnixMs(earliest), UnixMs(latest)) = (tile.earliest, tile.latest);
        // Writing to a string cannot fail.
        writeln!(text, "{} {} {earliest} {latest}", tile.number, tile.root).unwrap_or_default();
    }
    Sha256::of(text.as_bytes())
}

/// SHA-256 over a line for each stub, the oldest first: `<first> <until> <archive> <tiles> <signed>
/// <record index>` and a line feed.
pub(super) fn stubs_digest(stubs: &[Stub]) -> Sha256 {
    let mut text = String::new();
    for stub in stubs {
        let Stub {
            first,
            until,
            archive,
            tiles,
            signed,
            record_index,
        } = stub;
        writeln!(
            text,
            "{first} {until} {archive} {tiles} {signed} {record_index}"
        )
        .unwrap_or_default();
    }
    Sha256::of(text.as_bytes())
}

/// The index of the first record that is kept; the first gap between stubs as an error.
pub(super) fn kept_from(stubs: &[Stub]) -> Result<u64, u64> {
    stubs.iter().try_fold(0, |next, stub| {
        let follows =
            stub.first == next && stub.until > next && stub.until.is_multiple_of(TILE_LEN);
        follows.then_some(stub.until).ok_or(next)
    })
}

/// What an auditor asks to have dropped.
#[derive(Debug, Clone)]
pub struct Dropping {
    /// The records.
    pub range: Range<u64>,
    /// SHA-256 of the archive that holds them, as the auditor says.
    pub archive: Sha256,
    /// The digest over the roots and times of their tiles, as computed from the archive.
    pub tiles: Sha256,
    /// Records that the head covers which the token is known to be tied to.
    pub anchored: u64,
}

/// Why records are not dropped. Nothing was changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DropRefused {
    /// Not the next in turn.
    #[error(
        "the records to be dropped next begin with {expected}, the first that is kept; asked were those \
         from {found} on"
    )]
    NotNext {
        /// The first that is kept.
        expected: u64,
        /// Asked for.
        found: u64,
    },
    /// Not whole tiles.
    #[error("records are dropped in tiles of 1024; {first} to {until} are not whole tiles")]
    NotTiles {
        /// The first.
        first: u64,
        /// The index after the last.
        until: u64,
    },
    /// Not covered by a checkpoint that the token is tied to.
    #[error(
        "the token vouches for the first {anchored} records; asked were those up to {until}: try again \
         after the next checkpoint (audit.checkpoint_interval_ms)"
    )]
    NotAnchored {
        /// Records that the token vouches for.
        anchored: u64,
        /// The index after the last asked for.
        until: u64,
    },
    /// Too young.
    #[error(
        "the newest of these records is of {latest}, and audit.retention_days_min keeps records for \
         {days} days", latest = latest.rfc3339()
    )]
    TooYoung {
        /// The latest time in them.
        latest: UnixMs,
        /// The setting.
        days: u64,
    },
    /// Not the records of this log.
    #[error(
        "the tiles of these records have the digest {expected}; those of the archive have {found}: it is \
         no archive of these records"
    )]
    OtherTiles {
        /// Of the log.
        expected: Sha256,
        /// Of the archive.
        found: Sha256,
    },
    /// No time to compare ages with.
    #[error("the node's clock is not believed: {why}")]
    Clock {
        /// Why.
        why: String,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stub(first: u64, until: u64) -> Stub {
        Stub {
            first,
            until,
            archive: Sha256::of(b"a"),
            tiles: Sha256::of(b"t"),
            signed: until,
            record_index: until,
        }
    }

    #[test]
    fn stubs_follow_one_another() {
        let [a, b] = [stub(0, 1024), stub(1024, 4096)];
        assert_eq!(kept_from(&[]), Ok(0));
        assert_eq!(kept_from(&[a, b]), Ok(4096));
        assert_eq!(kept_from(&[b]), Err(0));
        assert_eq!(kept_from(&[a, a]), Err(1024));
        assert_eq!(kept_from(&[stub(0, 1000)]), Err(0));
        assert_eq!(kept_from(&[stub(0, 0)]), Err(0));
    }

    #[test]
    fn each_word_of_a_stub_counts() {
        let whole = stub(0, 1024);
        let other = Sha256::of(b"other");
        let changed = [
            Stub { first: 1, ..whole },
            Stub { until: 1, ..whole },
            Stub {
                archive: other,
                ..whole
            },
            Stub {
                tiles: other,
                ..whole
            },
            Stub { signed: 1, ..whole },
            Stub {
                record_index: 1,
                ..whole
            },
        ];
        for changed in changed {
            assert_ne!(stubs_digest(&[changed]), stubs_digest(&[whole]));
        }
        assert_ne!(stubs_digest(&[whole, whole]), stubs_digest(&[whole]));
    }
}
