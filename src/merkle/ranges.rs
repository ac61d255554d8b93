//! Proofs by number: which ranges of leaves a proof is made of, for logs too long to have the hashes
//! of all leaves at hand. Whoever can tell the root over a range can make the proof; checking it is
//! `proof`'s.

use std::ops::Range;

use super::MerkleError;

/// The ranges of leaves whose roots, in this order, are the audit path of leaf `index` in a tree of
/// `size` leaves (RFC 6962 section 2.1.1). Each is a perfect subtree, or the rest of the tree.
pub fn inclusion_ranges(size: u64, index: u64) -> Result<Vec<Range<u64>>, MerkleError> {
    if index >= size {
        let wanted = index;
        return Err(MerkleError::OutOfRange { wanted, size });
    }
    let (mut path, mut within) = (Vec::new(), 0..size);
    while len(&within) > 1 {
        let (left, right) = halves(&within);
        if index < right.start {
            path.push(right);
            within = left;
        } else {
            path.push(left);
            within = right;
        }
    }
    path.reverse();
    Ok(path)
}

/// The ranges of leaves whose roots, in this order, are the proof that the tree of `old_size` leaves
/// is the beginning of that of `size` (RFC 6962 section 2.1.2). None where nothing needs proof.
pub fn consistency_ranges(size: u64, old_size: u64) -> Result<Vec<Range<u64>>, MerkleError> {
    if old_size > size {
        let wanted = old_size;
        return Err(MerkleError::OutOfRange { wanted, size });
    }
    let (mut path, mut within) = (Vec::new(), 0..size);
    if old_size == 0 {
        return Ok(path);
    }
    while within.end != old_size {
        let (left, right) = halves(&within);
        if old_size <= right.start {
            path.push(right);
            within = left;
        } else {
            path.push(left);
            within = right;
        }
    }
    // The verifier knows the root of the old tree, where that is a subtree by itself.
    if within.start != 0 {
        path.push(within);
    }
    path.reverse();
    Ok(path)
}

/// The left half holds the largest power of two that is smaller than the whole. To be asked of two
/// leaves or more.
pub(super) const fn halves(range: &Range<u64>) -> (Range<u64>, Range<u64>) {
    let left = len(range).div_ceil(2).next_power_of_two();
    let middle = range.start.saturating_add(left);
    (range.start..middle, middle..range.end)
}

pub(super) const fn len(range: &Range<u64>) -> u64 {
    range.end.saturating_sub(range.start)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test that cannot unwrap has failed")]
mod tests {
    use super::*;
    use crate::merkle::{consistency_proof, inclusion_proof, leaf_hash, root_of};
    use crate::types::Sha256;

    fn roots(leaves: &[Sha256], ranges: &[Range<u64>]) -> Vec<Sha256> {
        let at = |n: u64| usize::try_from(n).unwrap();
        let of = |range: &Range<u64>| leaves.get(at(range.start)..at(range.end)).unwrap();
        ranges.iter().map(|range| root_of(of(range))).collect()
    }

    #[test]
    fn ranges_are_the_proofs_there_are() {
        let leaves: Vec<_> = (0..70_u8).map(|n| leaf_hash(&[n])).collect();
        for size in 0..=70_u64 {
            let leaves = leaves.get(..usize::try_from(size).unwrap()).unwrap();
            for at in 0..size {
                let ranges = inclusion_ranges(size, at).unwrap();
                assert_eq!(roots(leaves, &ranges), inclusion_proof(leaves, at).unwrap());
            }
            for old in 0..=size {
                let ranges = consistency_ranges(size, old).unwrap();
                let expected = consistency_proof(leaves, old).unwrap();
                assert_eq!(roots(leaves, &ranges), expected, "{old} of {size}");
            }
            assert!(inclusion_ranges(size, size).is_err());
            assert!(consistency_ranges(size, size + 1).is_err());
        }
    }
}
