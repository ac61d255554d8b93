//! Merkle trees over the exact bytes of entries and records (RFC 6962 section 2.1), proofs about
//! them and signed checkpoints of them. Nothing here knows what the bytes mean, who owns a key or
//! who must agree. Leaves and nodes are hashed in separate domains, so that no node can pass for a
//! leaf.

mod anchor;
mod checkpoint;
mod cosignature;
mod frontier;
mod proof;
mod ranges;
mod span;
mod tlog_proof;

use aws_lc_rs::digest;

pub use anchor::Anchor;
pub use checkpoint::{Checkpoint, LogKey, NOTE_LEN_MAX};
pub use cosignature::WitnessKey;
pub use frontier::Frontier;
pub use proof::{
    consistency_proof, inclusion_proof, root_of, verify_consistency, verify_inclusion,
};
pub use ranges::{consistency_ranges, inclusion_ranges};
pub use span::{SpanProof, outside_ranges};
pub use tlog_proof::TlogProof;

use crate::public_key::PublicKeyError;
use crate::types::Sha256;

/// What a tree is at one moment: how many leaves, and the root over them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// Number of leaves.
    pub size: u64,
    /// Merkle tree hash over them (RFC 6962 section 2.1).
    pub root: Sha256,
}

/// What is wrong with a proof, a checkpoint or its key. None of these passes by trying again.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MerkleError {
    /// A proof about leaves or trees that do not exist.
    #[error("there is no proof for {wanted} in a tree of {size} leaves")]
    OutOfRange {
        /// The index or the smaller size asked for.
        wanted: u64,
        /// The size of the tree.
        size: u64,
    },
    /// A proof that does not lead to the root.
    #[error("the proof does not lead to the expected root")]
    ProofWrong,
    /// The key cannot be a log's.
    #[error("the key of a log is not one")]
    Key(#[source] PublicKeyError),
    /// An origin that a signed note cannot carry.
    #[error(
        "a checkpoint's origin must be 1 to 128 printable ASCII characters without space and plus"
    )]
    OriginMalformed,
    /// A text that is not a checkpoint in a signed note.
    #[error("the checkpoint is malformed: {rule}")]
    NoteMalformed {
        /// The rule it breaks.
        rule: &'static str,
    },
    /// A checkpoint of another log.
    #[error("expected a checkpoint of the log {expected}; found one of {found}")]
    OriginWrong {
        /// The origin expected.
        expected: String,
        /// The origin found.
        found: String,
    },
    /// No signature by the pinned key.
    #[error("the checkpoint of {origin} carries no signature by the pinned key {key_id}")]
    NotSigned {
        /// The log.
        origin: String,
        /// The key id, 8 hexadecimal digits.
        key_id: String,
    },
    /// A signature that names the pinned key and does not verify under it.
    #[error(
        "the signature over the checkpoint of {origin} at size {size} does not verify under the \
         pinned key {key_id}"
    )]
    SignatureWrong {
        /// The log.
        origin: String,
        /// The size the checkpoint states.
        size: u64,
        /// The key id, 8 hexadecimal digits.
        key_id: String,
    },
}

/// The hash of a leaf: SHA-256 over 0x00 and its bytes (RFC 6962 section 2.1).
pub fn leaf_hash(bytes: &[u8]) -> Sha256 {
    hash(&[&[0x00], bytes])
}

/// The hash of a node: SHA-256 over 0x01 and the hashes of its children (RFC 6962 section 2.1).
pub fn node_hash(left: &Sha256, right: &Sha256) -> Sha256 {
    hash(&[&[0x01], left.as_bytes(), right.as_bytes()])
}

/// The root of the tree without leaves: SHA-256 over nothing.
pub fn empty_root() -> Sha256 {
    hash(&[])
}

fn hash(parts: &[&[u8]]) -> Sha256 {
    let mut context = digest::Context::new(&digest::SHA256);
    for part in parts {
        context.update(part);
    }
    let mut out = [0; 32];
    out.copy_from_slice(context.finish().as_ref());
    Sha256::from(out)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test that cannot unwrap has failed")]
pub(crate) mod vectors {
    //! The reference tree of the Certificate Transparency implementations
    //! (transparency-dev/merkle, testonly).

    use crate::types::Sha256;

    /// The eight leaves.
    pub(crate) fn leaves() -> Vec<Vec<u8>> {
        [
            "",
            "00",
            "10",
            "2021",
            "3031",
            "40414243",
            "5051525354555657",
            "606162636465666768696a6b6c6d6e6f",
        ]
        .map(unhex)
        .to_vec()
    }

    /// The roots of the trees over the first 0 to 8 of them.
    pub(crate) fn roots() -> Vec<Sha256> {
        [
            "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
            "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
            "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
            "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
            "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
            "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
            "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
            "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
            "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
        ]
        .map(sha)
        .to_vec()
    }

    pub(crate) fn sha(text: &str) -> Sha256 {
        Sha256::try_from(unhex(text).as_slice()).unwrap()
    }

    fn unhex(text: &str) -> Vec<u8> {
        (0..text.len())
            .step_by(2)
            .map(|at| u8::from_str_radix(text.get(at..at + 2).unwrap(), 16).unwrap())
            .collect()
    }
}
