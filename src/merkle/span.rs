//! Proofs about a run of leaves at once: the roots of all that is outside of it, with which whoever has
//! the run can compute the root of the whole tree, and the audit path of each of its leaves. For logs of
//! which a part is kept elsewhere. Pure arithmetic of trees: what a leaf is, and who signed the root, is
//! not said here.

use std::ops::Range;

use super::ranges::{halves, len};
use super::{MerkleError, inclusion_ranges, node_hash};
use crate::types::Sha256;

/// A run of leaves within a tree, and the roots over the rest of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpanProof {
    size: u64,
    span: Range<u64>,
    outside: Vec<(Range<u64>, Sha256)>,
}

/// The ranges of leaves outside of `span` whose roots, from left to right, make it possible to compute
/// the root of a tree of `size` leaves (RFC 6962 section 2.1): the largest subtrees of that tree that
/// have no leaf of the span. At most two for each bit of the size.
pub fn outside_ranges(size: u64, span: &Range<u64>) -> Result<Vec<Range<u64>>, MerkleError> {
    if span.is_empty() || span.end > size {
        let wanted = span.end;
        return Err(MerkleError::OutOfRange { wanted, size });
    }
    let mut outside = Vec::new();
    // The rightmost last.
    let (mut open, mut next) = (Vec::new(), Some(0..size));
    while let Some(part) = next.take().or_else(|| open.pop()) {
        if part.end <= span.start || part.start >= span.end {
            outside.push(part);
        } else if part.start < span.start || part.end > span.end {
            let (left, right) = halves(&part);
            open.extend([right, left]);
        }
    }
    Ok(outside)
}

impl SpanProof {
    /// Takes the roots over the [`outside_ranges`], in their order.
    pub fn new(size: u64, span: Range<u64>, roots: &[Sha256]) -> Result<Self, MerkleError> {
        let ranges = outside_ranges(size, &span)?;
        if ranges.len() != roots.len() {
            return Err(MerkleError::ProofWrong);
        }
        let outside = ranges.into_iter().zip(roots.iter().copied()).collect();
        Ok(Self {
            size,
            span,
            outside,
        })
    }

    /// The root of the whole tree. `inside` is asked for the root over a range of the span that is a
    /// subtree of the tree.
    pub fn root(
        &self,
        inside: &mut dyn FnMut(Range<u64>) -> Option<Sha256>,
    ) -> Result<Sha256, MerkleError> {
        self.root_over(0..self.size, inside)
    }

    /// The audit path of a leaf of the span, from the leaf up (RFC 6962 section 2.1.1).
    pub fn path(
        &self,
        index: u64,
        inside: &mut dyn FnMut(Range<u64>) -> Option<Sha256>,
    ) -> Result<Vec<Sha256>, MerkleError> {
        let ranges = inclusion_ranges(self.size, index)?;
        let of = |range| self.root_over(range, inside);
        ranges.into_iter().map(of).collect()
    }

    /// The root over a range that is a subtree of the tree.
    fn root_over(
        &self,
        range: Range<u64>,
        inside: &mut dyn FnMut(Range<u64>) -> Option<Sha256>,
    ) -> Result<Sha256, MerkleError> {
        if self.span.start <= range.start && range.end <= self.span.end {
            return inside(range).ok_or(MerkleError::ProofWrong);
        }
        if let Some((_, root)) = self.outside.iter().find(|(found, _)| *found == range) {
            return Ok(*root);
        }
        if len(&range) < 2 {
            return Err(MerkleError::ProofWrong);
        }
        let (left, right) = halves(&range);
        let left = self.root_over(left, inside)?;
        Ok(node_hash(&left, &self.root_over(right, inside)?))
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test that cannot unwrap has failed")]
mod tests {
    use super::*;
    use crate::merkle::{inclusion_proof, leaf_hash, root_of};

    /// Every run of every tree up to 33 leaves.
    #[test]
    fn a_run_and_the_roots_outside_make_the_tree_and_its_paths() {
        let leaves: Vec<_> = (0..33_u8).map(|n| leaf_hash(&[n])).collect();
        let at = |n: u64| usize::try_from(n).unwrap();
        for size in 1..=33_u64 {
            let tree = leaves.get(..at(size)).unwrap();
            let root =
                |range: &Range<u64>| root_of(tree.get(at(range.start)..at(range.end)).unwrap());
            for first in 0..size {
                for end in first + 1..=size {
                    let span = first..end;
                    let roots: Vec<_> = outside_ranges(size, &span)
                        .unwrap()
                        .iter()
                        .map(root)
                        .collect();
                    let mut inside = |range: Range<u64>| {
                        assert!(span.start <= range.start && range.end <= span.end);
                        Some(root(&range))
                    };
                    let proof = SpanProof::new(size, span.clone(), &roots).unwrap();
                    assert_eq!(proof.root(&mut inside).unwrap(), root_of(tree));
                    for index in span.clone() {
                        let expected = inclusion_proof(tree, index).unwrap();
                        assert_eq!(proof.path(index, &mut inside).unwrap(), expected);
                    }
                    let more = [roots.as_slice(), &[leaf_hash(b"")]].concat();
                    assert!(SpanProof::new(size, span.clone(), &more).is_err());
                }
            }
        }
        assert!(outside_ranges(4, &(2..2)).is_err());
        assert!(outside_ranges(4, &(2..5)).is_err());
    }
}
