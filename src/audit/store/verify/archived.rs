//! Dropped records in a verification: by the roots of their tiles, or one by one in their archive, and
//! the stubs by the record of the newest drop. Reading only. The invariant: no stub passes that this record
//! does not vouch for.

use prost::Message as _;

use super::Scan;
use crate::audit::archive::Archive;
use crate::audit::stub::{Stub, stubs_digest, tiles_digest};
use crate::audit::tree::{TILE_LEN, Tile};
use crate::audit::{AuditError, Filter, Mismatch, PageMax};
use crate::merkle::{Head, leaf_hash};
use crate::proto::v1;
use crate::types::Sha256;

impl<C: Iterator<Item = Head>> Scan<C> {
    /// The tiles of dropped records must be those that were there at the drop.
    pub(super) fn take_stub(&mut self, stub: &Stub) -> Result<(), Mismatch> {
        let found = tiles_digest(self.tiles_of(stub));
        match found == stub.tiles {
            true => Ok(()),
            false => Err(Mismatch::StubTilesChanged {
                first: stub.first,
                last: stub.until.saturating_sub(1),
                expected: stub.tiles,
                found,
            }),
        }
    }

    fn tiles_of(&self, stub: &Stub) -> &[Tile] {
        let numbers = stub.tile_numbers();
        let place = |number| usize::try_from(number).ok();
        place(numbers.start)
            .zip(place(numbers.end))
            .and_then(|(start, end)| self.tiles.get(start..end))
            .unwrap_or_default()
    }

    /// Takes in dropped records by the roots of their tiles.
    pub(super) fn take_tiles(&mut self, stub: &Stub) -> Result<(), Mismatch> {
        for tile in self.tiles_of(stub).to_vec() {
            self.hold_against_checkpoints()?;
            let first = self.tree.size();
            let last = first.saturating_add(TILE_LEN);
            while self.checkpoints.next_if(|head| head.size < last).is_some() {
                self.unheld = self.unheld.saturating_add(1);
            }
            let pushed = self.tree.push_tile(&tile);
            pushed.map_err(|_| Mismatch::TileChanged { first })?;
            self.seen(tile.earliest, tile.latest);
        }
        Ok(())
    }

    /// Takes in dropped records from their archive, which was verified by itself.
    pub(super) fn take_archive(
        &mut self,
        archive: &Archive,
        progress: &mut dyn FnMut(u64),
    ) -> Result<(), AuditError> {
        let max = PageMax {
            records: 4096,
            bytes: usize::MAX,
        };
        let end = archive.span().range.end;
        while self.tree.size() < end {
            let page = archive.page(&Filter::default(), self.tree.size(), max)?;
            for (index, bytes) in page.records {
                let record = v1::Record::decode(bytes.as_slice()).unwrap_or_default();
                self.hold_against_checkpoints()
                    .and_then(|()| self.push(index, &record, leaf_hash(&bytes)))
                    .map_err(|mismatch| archive.contradicted(mismatch))?;
            }
            progress(self.tree.size());
        }
        Ok(())
    }

    /// The record of the newest drop vouches for all stubs.
    pub(super) fn require_recorded(self, stubs: &[Stub]) -> Result<Self, Mismatch> {
        let found = stubs_digest(stubs);
        match (self.newest_drop, stubs.last()) {
            (None, None) => Ok(self),
            (None, Some(stub)) => Err(Mismatch::StubNotRecorded {
                first: stub.first,
                last: stub.until.saturating_sub(1),
            }),
            (Some((_, Some(digest))), Some(_)) if digest == found => Ok(self),
            (Some((record_index, digest)), _) => Err(Mismatch::StubsChanged {
                record_index,
                expected: digest.unwrap_or_else(|| Sha256::of(b"")),
                found,
            }),
        }
    }
}
