//! What was dropped and what can be archived next, read from a log or a copy of one. Nothing is dropped
//! here. The invariant: what is offered to be archived is under a checkpoint whose signature was verified
//! and whose root follows from the tiles that are offered.

use super::reader::AuditReader;
use super::{stub, tree};
use crate::audit::archive::Span;
use crate::audit::judge::origin;
use crate::audit::stub::{Stub, kept_from};
use crate::audit::tree::{TILE_LEN, Tile};
use crate::audit::{AuditError, Mismatch};
use crate::clock::UnixMs;
use crate::merkle::{Checkpoint, LogKey, SpanProof, outside_ranges};
use crate::types::Sha256;

/// Which records are to be archived, from the first that is kept on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Before {
    /// All that can be.
    Now,
    /// Those before this index.
    Index(u64),
    /// Those written before this time: tiles up to the first that has a record of this time or later.
    Time(UnixMs),
}

/// See the head of this file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Retention {
    /// The instance whose log this is.
    pub instance_id: Sha256,
    /// What stands in the place of records that were dropped, the oldest first.
    pub stubs: Vec<Stub>,
    /// The first record that is kept.
    pub first_kept: u64,
    /// What can be archived, where there is a whole tile.
    pub archivable: Option<Span>,
}

impl AuditReader {
    /// What was dropped, and what can be archived.
    pub fn retention(&self, before: Before, key: &LogKey) -> Result<Retention, AuditError> {
        let instance_id = self.instance_id()?;
        let db = self.db();
        let sqlite = |source| self.sqlite("read what can be archived", source);
        // One state of the file, whatever is dropped meanwhile.
        let _still = db.unchecked_transaction().map_err(sqlite)?;
        let stubs = stub::all(&db).map_err(sqlite)?;
        let first_kept = kept_from(&stubs)
            .map_err(|index| AuditError::mismatch(&self.path, Mismatch::StubMissing { index }))?;
        let mut retention = Retention {
            instance_id,
            stubs,
            first_kept,
            archivable: None,
        };
        let Some((_, note)) = tree::newest_checkpoint(&db).map_err(sqlite)? else {
            return Ok(retention);
        };
        let head = Checkpoint::open(&note, &origin(&instance_id), key)?.head();
        let tiles = tree::tiles(&db, first_kept / TILE_LEN..head.size / TILE_LEN);
        let tiles = wanted(tiles.map_err(sqlite)?, first_kept / TILE_LEN, before);
        let len = u64::try_from(tiles.len()).unwrap_or(0);
        let span = first_kept..first_kept.saturating_add(len.saturating_mul(TILE_LEN));
        if span.is_empty() {
            return Ok(retention);
        }
        let wrong =
            || AuditError::mismatch(&self.path, Mismatch::TileChanged { first: span.start });
        let root_of = |range| tree::root_over(&db, range).map_err(sqlite);
        let mut outside = Vec::new();
        for range in outside_ranges(head.size, &span)? {
            outside.push(root_of(range)?.ok_or_else(wrong)?);
        }
        let proof = SpanProof::new(head.size, span.clone(), &outside)?;
        let root = proof.root(&mut |range| root_of(range).ok().flatten())?;
        if root != head.root {
            return Err(wrong());
        }
        retention.archivable = Some(Span {
            instance_id,
            range: span,
            outside,
            note,
        });
        Ok(retention)
    }

    /// Which records were dropped, the oldest first.
    pub fn stubs(&self) -> Result<Vec<Stub>, AuditError> {
        stub::all(&self.db()).map_err(|source| self.sqlite("read what was dropped", source))
    }
}

/// The tiles from the first on that are wanted and follow one another.
fn wanted(tiles: Vec<Tile>, first: u64, before: Before) -> Vec<Tile> {
    let is_wanted = |tile: &Tile| match before {
        Before::Now => true,
        Before::Index(index) => tile.number.saturating_add(1).saturating_mul(TILE_LEN) <= index,
        Before::Time(time) => tile.latest < time,
    };
    (first..)
        .zip(tiles)
        .take_while(|(number, tile)| tile.number == *number && is_wanted(tile))
        .map(|(_, tile)| tile)
        .collect()
}
