//! The proof that a quorum agreed. Whatever makes, retires or destroys a key takes an
//! [`Authorized`] value, and only the policy in this folder can make one.

use super::Genesis;
use super::operation::NewVersion;
use super::proposal::ProposalId;
use crate::types::{KeypairId, Sha256};

/// An operation that the officers named in the ledger approved, by as many of them as the policy
/// asks. There is no other way to make one than to present the signatures.
pub struct Authorized<Op>(Op);

impl<Op> Authorized<Op> {
    pub(in crate::quorum) const fn new(operation: Op) -> Self {
        Self(operation)
    }

    /// A proof of nothing, for the tests of those who ask for one.
    #[cfg(test)]
    pub(crate) const fn unproved(operation: Op) -> Self {
        Self(operation)
    }

    /// What was approved.
    pub const fn operation(&self) -> &Op {
        &self.0
    }
}

/// The birth of an instance: its own keys and its first KEKs may be made, as the document says.
#[derive(Debug)]
pub struct Initialise {
    /// The document the officers signed.
    pub genesis: Genesis,
    /// SHA-256 of its bytes.
    pub genesis_sha256: Sha256,
    /// The armored SSHSIG signatures that were verified, as they were presented.
    pub signatures: Vec<Vec<u8>>,
    /// The names of the officers who signed, in the order of the signatures.
    pub signers: Vec<String>,
}

/// A new version of a KEK may be made: its execution, or a mandate that came due, is in the ledger.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MakeVersion {
    /// The proposal that asked for it, or that set the mandate.
    pub proposal: ProposalId,
    /// What it is made to.
    pub version: NewVersion,
    /// Its number under the KEK, from 1.
    pub number: u32,
    /// The id its key pair will have.
    pub keypair_id: KeypairId,
}

/// The private key of a version may be destroyed: the execution is in the ledger.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DestroyVersion {
    /// The proposal that asked for it.
    pub proposal: ProposalId,
    /// The version.
    pub keypair_id: KeypairId,
}

/// A private key may be brought in: the execution is in the ledger.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImportVersion {
    /// The proposal that asked for it.
    pub proposal: ProposalId,
    /// What it becomes.
    pub version: NewVersion,
    /// The id its key pair will have; that of the transport key is derived from it.
    pub keypair_id: KeypairId,
    /// SHA-256 over the DER `SubjectPublicKeyInfo` it must have.
    pub spki_sha256: Sha256,
}

mod sealed {
    pub trait Sealed {}
    impl Sealed for super::Initialise {}
    impl Sealed for super::MakeVersion {}
    impl Sealed for super::ImportVersion {}
}

/// An operation that brings a key into the token. Only operations of this folder are.
pub trait MakesKeys: sealed::Sealed {
    /// What the log says of the authority, in one line.
    fn authority(&self) -> String;
}

impl MakesKeys for Initialise {
    fn authority(&self) -> String {
        format!("genesis {}", self.genesis_sha256)
    }
}

impl MakesKeys for MakeVersion {
    fn authority(&self) -> String {
        format!("proposal {}", self.proposal)
    }
}

impl MakesKeys for ImportVersion {
    fn authority(&self) -> String {
        format!("proposal {}", self.proposal)
    }
}
