//! The Merkle tree over the records (RFC 6962), as far as the writer needs it: the growing edge. It
//! is kept in tiles of 1024 leaves; of a full tile its root is enough to go on, so that a log of
//! millions is opened without hashing it. Pure: the SQL is the store's, and the arithmetic of trees is
//! `merkle`'s.

use crate::clock::UnixMs;
use crate::merkle::{Frontier, Head, MerkleError};
use crate::types::Sha256;

/// Records of a tile. Part of the format of the file.
pub(super) const TILE_LEN: u64 = 1024;

/// A full tile.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Tile {
    /// Its number, from 0: it covers the records from `number * TILE_LEN` on.
    pub(super) number: u64,
    /// The root over its leaves.
    pub(super) root: Sha256,
    /// The earliest time in a record of it. Clocks go back: records are not in the order of time.
    pub(super) earliest: UnixMs,
    /// The latest.
    pub(super) latest: UnixMs,
}

/// The growing edge of the tree, and of its last tile.
#[derive(Debug, Clone, Default)]
pub(super) struct Tree {
    /// Records before the first leaf. Where there are some, the root over all is not this log's.
    before: u64,
    whole: Frontier,
    tile: Frontier,
    earliest: Option<UnixMs>,
    latest: UnixMs,
}

impl Tree {
    /// Number of leaves, and the root over them.
    pub(super) fn head(&self) -> Head {
        self.whole.head()
    }

    pub(super) const fn size(&self) -> u64 {
        self.whole.size()
    }

    /// A tree of which the records before `first`, whole tiles, are elsewhere: for its tiles alone.
    pub(super) fn beginning_at(first: u64) -> Self {
        Self {
            before: first,
            ..Self::default()
        }
    }

    /// Takes in a full tile. Only where no tile is begun.
    pub(super) fn push_tile(&mut self, tile: &Tile) -> Result<(), MerkleError> {
        self.whole.push_subtree(tile.root, TILE_LEN)
    }

    /// Takes in the leaf of a record with this time, and returns the tile that it fills.
    pub(super) fn push(&mut self, leaf: Sha256, at: UnixMs) -> Option<Tile> {
        self.whole.push(leaf);
        self.tile.push(leaf);
        self.earliest = Some(self.earliest.map_or(at, |earliest| earliest.min(at)));
        self.latest = self.latest.max(at);
        if self.tile.size() < TILE_LEN {
            return None;
        }
        let tile = Tile {
            number: (self.before.saturating_add(self.size()) / TILE_LEN).saturating_sub(1),
            root: self.tile.head().root,
            earliest: self.earliest.unwrap_or_default(),
            latest: self.latest,
        };
        self.tile = Frontier::default();
        self.earliest = None;
        self.latest = UnixMs::default();
        Some(tile)
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test that cannot unwrap has failed")]
mod tests {
    use super::*;
    use crate::merkle::{leaf_hash, root_of};

    #[test]
    fn a_tree_of_tiles_is_the_tree_of_its_leaves() {
        let leaves: Vec<_> = (0..5000_u32).map(|n| leaf_hash(&n.to_be_bytes())).collect();
        let (mut tree, mut tiles) = (Tree::default(), Vec::new());
        for (at, leaf) in (0..).zip(&leaves) {
            // A clock that goes back all the time.
            tiles.extend(tree.push(*leaf, UnixMs(10_000 - at)));
        }
        assert_eq!(tree.head().root, root_of(&leaves));
        assert_eq!(tiles.len(), 4);
        for (tile, leaves) in tiles.iter().zip(leaves.chunks(1024)) {
            assert_eq!(tile.root, root_of(leaves));
            let last = tile.number * TILE_LEN + 1023;
            assert_eq!(tile.earliest, UnixMs(10_000 - last));
            assert_eq!(tile.latest, UnixMs(10_000 - tile.number * TILE_LEN));
        }
        let mut opened = Tree::default();
        for tile in &tiles {
            opened.push_tile(tile).unwrap();
        }
        for leaf in leaves.iter().skip(4096) {
            assert_eq!(opened.push(*leaf, UnixMs(0)), None);
        }
        assert_eq!(opened.head(), tree.head());
        assert!(opened.push_tile(tiles.first().unwrap()).is_err());
    }
}
