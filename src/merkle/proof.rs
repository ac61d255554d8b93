//! Proofs that a leaf is in a tree and that a tree is the beginning of another. Making them needs
//! the hashes of all leaves (RFC 6962 sections 2.1.1 and 2.1.2); checking them needs only heads
//! (RFC 9162 sections 2.1.3.2 and 2.1.4.2).

use super::{Head, MerkleError, empty_root, node_hash};
use crate::types::Sha256;

/// The root of the tree over these leaf hashes.
pub fn root_of(leaves: &[Sha256]) -> Sha256 {
    match leaves {
        [] => empty_root(),
        [leaf] => *leaf,
        _ => {
            let (left, right) = halves(leaves);
            node_hash(&root_of(left), &root_of(right))
        }
    }
}

/// The audit path of leaf `index` in the tree over these leaf hashes, from the leaf upwards.
pub fn inclusion_proof(leaves: &[Sha256], index: u64) -> Result<Vec<Sha256>, MerkleError> {
    let mut path = Vec::new();
    match usize::try_from(index) {
        Ok(at) if at < leaves.len() => walk_to_leaf(leaves, at, &mut path),
        Ok(_) | Err(_) => return out_of_range(index, leaves),
    }
    Ok(path)
}

/// The proof that the tree over the first `old_size` of these leaf hashes is the beginning of the
/// tree over all of them. Empty where nothing needs proof: `old_size` is 0 or the whole.
pub fn consistency_proof(leaves: &[Sha256], old_size: u64) -> Result<Vec<Sha256>, MerkleError> {
    let mut path = Vec::new();
    match usize::try_from(old_size) {
        Ok(0) => {}
        Ok(size) if size <= leaves.len() => walk_to_size(leaves, size, true, &mut path),
        Ok(_) | Err(_) => return out_of_range(old_size, leaves),
    }
    Ok(path)
}

/// Whether `proof` shows that the leaf with this hash stands at `index` in the tree `head`
/// (RFC 9162 section 2.1.3.2).
pub fn verify_inclusion(
    leaf: Sha256,
    index: u64,
    head: Head,
    proof: &[Sha256],
) -> Result<(), MerkleError> {
    let Some(last) = head.size.checked_sub(1).filter(|last| index <= *last) else {
        return Err(MerkleError::OutOfRange {
            wanted: index,
            size: head.size,
        });
    };
    let mut place = Place { at: index, last };
    let mut root = leaf;
    for sibling in proof {
        if place.last == 0 {
            return Err(MerkleError::ProofWrong);
        }
        if place.sibling_is_left() {
            root = node_hash(sibling, &root);
            place.skip_lone_levels();
        } else {
            root = node_hash(&root, sibling);
        }
        place.up();
    }
    accept(place.last == 0 && root == head.root)
}

/// Whether `proof` shows that the tree `old` is the beginning of the tree `new` (RFC 9162 section
/// 2.1.4.2). Every tree begins with the empty one.
pub fn verify_consistency(old: Head, new: Head, proof: &[Sha256]) -> Result<(), MerkleError> {
    if old.size > new.size {
        return Err(MerkleError::OutOfRange {
            wanted: old.size,
            size: new.size,
        });
    }
    if old.size == new.size {
        return accept(proof.is_empty() && old.root == new.root);
    }
    let Some(old_last) = old.size.checked_sub(1) else {
        return accept(proof.is_empty() && old.root == empty_root());
    };
    let mut place = Place {
        at: old_last,
        last: new.size.saturating_sub(1),
    };
    // Up to the largest perfect subtree that ends where the old tree ends.
    while place.at & 1 == 1 {
        place.up();
    }
    let mut nodes = proof.iter();
    let seed = if old.size.is_power_of_two() {
        old.root // The old tree is that subtree, and the proof leaves it out.
    } else {
        *nodes.next().ok_or(MerkleError::ProofWrong)?
    };
    let (mut old_root, mut new_root) = (seed, seed);
    for node in nodes {
        if place.last == 0 {
            return Err(MerkleError::ProofWrong);
        }
        if place.sibling_is_left() {
            old_root = node_hash(node, &old_root);
            new_root = node_hash(node, &new_root);
            place.skip_lone_levels();
        } else {
            new_root = node_hash(&new_root, node);
        }
        place.up();
    }
    accept(place.last == 0 && old_root == old.root && new_root == new.root)
}

/// Where a proof stands: the index of the node it has reached and that of the last one, both on
/// the same level (`fn` and `sn` in RFC 9162).
struct Place {
    at: u64,
    last: u64,
}

impl Place {
    const fn sibling_is_left(&self) -> bool {
        self.at & 1 == 1 || self.at == self.last
    }

    /// A node at the right edge without a sibling is its own parent.
    const fn skip_lone_levels(&mut self) {
        while self.at & 1 == 0 && self.at != 0 {
            self.up();
        }
    }

    const fn up(&mut self) {
        self.at >>= 1;
        self.last >>= 1;
    }
}

const fn accept(proven: bool) -> Result<(), MerkleError> {
    if proven {
        Ok(())
    } else {
        Err(MerkleError::ProofWrong)
    }
}

fn out_of_range<T>(wanted: u64, leaves: &[Sha256]) -> Result<T, MerkleError> {
    Err(MerkleError::OutOfRange {
        wanted,
        size: u64::try_from(leaves.len()).unwrap_or(u64::MAX),
    })
}

/// The left subtree holds the largest power of two that is smaller than the whole.
fn halves(leaves: &[Sha256]) -> (&[Sha256], &[Sha256]) {
    leaves.split_at(leaves.len().div_ceil(2).next_power_of_two())
}

fn walk_to_leaf(leaves: &[Sha256], index: usize, path: &mut Vec<Sha256>) {
    if leaves.len() < 2 {
        return;
    }
    let (left, right) = halves(leaves);
    if index < left.len() {
        walk_to_leaf(left, index, path);
        path.push(root_of(right));
    } else {
        walk_to_leaf(right, index.saturating_sub(left.len()), path);
        path.push(root_of(left));
    }
}

/// SUBPROOF of RFC 6962 section 2.1.2; `whole` says that the subtree is the old tree itself, whose
/// root the verifier knows.
fn walk_to_size(leaves: &[Sha256], old_size: usize, whole: bool, path: &mut Vec<Sha256>) {
    if old_size == leaves.len() {
        if !whole {
            path.push(root_of(leaves));
        }
        return;
    }
    let (left, right) = halves(leaves);
    if old_size <= left.len() {
        walk_to_size(left, old_size, whole, path);
        path.push(root_of(right));
    } else {
        walk_to_size(right, old_size.saturating_sub(left.len()), false, path);
        path.push(root_of(left));
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test that cannot unwrap has failed")]
mod tests {
    use super::*;
    use crate::merkle::vectors::{self, sha};
    use crate::merkle::{Frontier, leaf_hash};

    const A: &str = "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d";
    const B: &str = "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7";
    const CD: &str = "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e";
    const AB: &str = "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125";
    const ABCD: &str = "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7";
    const E: &str = "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b";
    const EF: &str = "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a";
    const GH: &str = "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0";
    const EFGH: &str = "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4";

    fn reference() -> Vec<Sha256> {
        vectors::leaves()
            .iter()
            .map(|leaf| leaf_hash(leaf))
            .collect()
    }

    fn head(leaves: &[Sha256]) -> Head {
        let mut frontier = Frontier::default();
        leaves.iter().for_each(|leaf| frontier.push(*leaf));
        frontier.head()
    }

    #[test]
    fn inclusion_proofs_are_those_of_the_reference_tree() {
        let leaves = reference();
        let cases: [(u64, usize, &[&str]); 5] = [
            (0, 1, &[]),
            (0, 8, &[B, CD, EFGH]),
            (5, 8, &[E, GH, ABCD]),
            (2, 3, &[AB]),
            (1, 5, &[A, CD, E]),
        ];
        for (index, size, expected) in cases {
            let proof = inclusion_proof(leaves.get(..size).unwrap(), index).unwrap();
            let expected: Vec<_> = expected.iter().map(|text| sha(text)).collect();
            assert_eq!(proof, expected, "leaf {index} of {size}");
        }
    }

    #[test]
    fn consistency_proofs_are_those_of_the_reference_tree() {
        let leaves = reference();
        let cases: [(u64, usize, &[&str]); 4] = [
            (1, 1, &[]),
            (1, 8, &[B, CD, EFGH]),
            (6, 8, &[EF, GH, ABCD]),
            (2, 5, &[CD, E]),
        ];
        for (old, new, expected) in cases {
            let proof = consistency_proof(leaves.get(..new).unwrap(), old).unwrap();
            let expected: Vec<_> = expected.iter().map(|text| sha(text)).collect();
            assert_eq!(proof, expected, "{old} to {new}");
        }
    }

    #[test]
    fn every_proof_verifies_and_no_altered_one_does() {
        let leaves: Vec<_> = (0..20_u32).map(|n| leaf_hash(&n.to_be_bytes())).collect();
        for size in 1..=leaves.len() {
            let tree = leaves.get(..size).unwrap();
            let whole = head(tree);
            for (index, leaf) in (0_u64..).zip(tree) {
                let proof = inclusion_proof(tree, index).unwrap();
                verify_inclusion(*leaf, index, whole, &proof).unwrap();
                for wrong in altered(&proof) {
                    assert!(verify_inclusion(*leaf, index, whole, &wrong).is_err());
                }
                let other = leaf_hash(b"other");
                assert!(verify_inclusion(other, index, whole, &proof).is_err());
                let beside = (index + 1) % whole.size;
                assert!(
                    beside == index || verify_inclusion(*leaf, beside, whole, &proof).is_err(),
                    "leaf {index} passes for {beside} of {size}"
                );
            }
            for old_size in 0..=size {
                let old = head(leaves.get(..old_size).unwrap());
                let proof = consistency_proof(tree, old.size).unwrap();
                verify_consistency(old, whole, &proof).unwrap();
                for wrong in altered(&proof) {
                    assert!(verify_consistency(old, whole, &wrong).is_err());
                }
                let forged = Head {
                    root: leaf_hash(b"other"),
                    ..old
                };
                assert!(verify_consistency(forged, whole, &proof).is_err());
            }
        }
    }

    #[test]
    fn what_lies_outside_the_tree_has_no_proof() {
        let leaves = reference();
        let whole = head(&leaves);
        assert!(inclusion_proof(&leaves, 8).is_err());
        assert!(consistency_proof(&leaves, 9).is_err());
        assert!(verify_inclusion(whole.root, 8, whole, &[]).is_err());
        let longer = Head { size: 9, ..whole };
        assert!(verify_consistency(longer, whole, &[]).is_err());
        assert!(verify_inclusion(empty_root(), 0, head(&[]), &[]).is_err());
    }

    /// The proof with each node changed, one left out, one too many, two swapped.
    fn altered(proof: &[Sha256]) -> Vec<Vec<Sha256>> {
        let mut all = Vec::new();
        for at in 0..proof.len() {
            let mut changed = proof.to_vec();
            *changed.get_mut(at).unwrap() = leaf_hash(b"changed");
            all.push(changed);
            let mut shorter = proof.to_vec();
            shorter.remove(at);
            all.push(shorter);
        }
        all.push(proof.iter().copied().chain([leaf_hash(b"more")]).collect());
        if let [first, second, rest @ ..] = proof {
            all.push([&[*second, *first], rest].concat());
        }
        all
    }
}
