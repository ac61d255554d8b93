//! The growing edge of a tree: enough to append a leaf and to know the root, in memory that grows
//! with the logarithm of the size. It cannot prove anything about old leaves; `proof` does, from
//! all of them.

use super::{Head, MerkleError, empty_root, node_hash};
use crate::types::Sha256;

/// The roots of the perfect subtrees a tree is made of, largest first: one for each bit that is set
/// in the size.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Frontier {
    size: u64,
    peaks: Vec<Sha256>,
}

impl Frontier {
    /// Appends a leaf by its hash.
    pub fn push(&mut self, leaf: Sha256) {
        let mut node = leaf;
        // Each trailing one in the size is a perfect subtree that the new leaf completes.
        for _ in 0..self.size.trailing_ones() {
            if let Some(left) = self.peaks.pop() {
                node = node_hash(&left, &node);
            }
        }
        self.peaks.push(node);
        self.size = self.size.saturating_add(1);
    }

    /// Appends `leaves` leaves at once by the root over them. Refused, and nothing changes, unless
    /// that is a perfect subtree of this tree: a power of two that divides the size so far.
    pub fn push_subtree(&mut self, root: Sha256, leaves: u64) -> Result<(), MerkleError> {
        if !leaves.is_power_of_two() || !self.size.is_multiple_of(leaves) {
            return Err(MerkleError::OutOfRange {
                wanted: leaves,
                size: self.size,
            });
        }
        let mut node = root;
        for _ in 0..(self.size >> leaves.trailing_zeros()).trailing_ones() {
            if let Some(left) = self.peaks.pop() {
                node = node_hash(&left, &node);
            }
        }
        self.peaks.push(node);
        self.size = self.size.saturating_add(leaves);
        Ok(())
    }

    /// Number of leaves.
    pub const fn size(&self) -> u64 {
        self.size
    }

    /// Size and root. O(log n).
    pub fn head(&self) -> Head {
        let mut peaks = self.peaks.iter().rev();
        let root = peaks.next().map_or_else(empty_root, |smallest| {
            peaks.fold(*smallest, |right, left| node_hash(left, &right))
        });
        Head {
            size: self.size,
            root,
        }
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test that cannot unwrap has failed")]
mod tests {
    use super::*;
    use crate::merkle::{leaf_hash, root_of, vectors};

    #[test]
    fn roots_are_those_of_the_reference_tree() {
        let mut frontier = Frontier::default();
        let roots = vectors::roots();
        assert_eq!(Some(&frontier.head().root), roots.first());
        for (leaf, root) in vectors::leaves().iter().zip(roots.iter().skip(1)) {
            frontier.push(leaf_hash(leaf));
            assert_eq!(frontier.head().root, *root, "size {}", frontier.size());
        }
    }

    #[test]
    fn the_edge_and_the_whole_tree_agree() {
        let mut frontier = Frontier::default();
        let mut leaves = Vec::new();
        for n in 0..300_u32 {
            let leaf = leaf_hash(&n.to_be_bytes());
            leaves.push(leaf);
            frontier.push(leaf);
            assert_eq!(frontier.head().root, root_of(&leaves), "size {}", n + 1);
        }
    }
    #[test]
    fn subtrees_count_as_their_leaves() {
        let leaves: Vec<_> = (0..64_u8).map(|n| leaf_hash(&[n])).collect();
        for width in [1, 2, 4, 8, 16] {
            let mut whole = Frontier::default();
            let mut in_parts = Frontier::default();
            for part in leaves.chunks(width) {
                for leaf in part {
                    whole.push(*leaf);
                }
                let count = u64::try_from(width).unwrap();
                in_parts.push_subtree(root_of(part), count).unwrap();
                assert_eq!(in_parts, whole);
            }
        }
        let mut odd = Frontier::default();
        odd.push(leaf_hash(b""));
        for (leaves, allowed) in [(0, false), (1, true), (3, false), (4, false)] {
            assert_eq!(
                odd.clone().push_subtree(leaf_hash(b""), leaves).is_ok(),
                allowed
            );
        }
    }
}
