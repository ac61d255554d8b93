//! The proof that a quorum agreed. Whatever makes, retires or destroys a key takes an
//! [`Authorized`] value, and only the policy in this folder can make one.

use super::Genesis;
use crate::types::Sha256;

/// An operation that the officers named in the ledger approved, by as many of them as the policy
/// asks. There is no other way to make one than to present the signatures.
pub struct Authorized<Op>(Op);

impl<Op> Authorized<Op> {
    pub(in crate::quorum) const fn new(operation: Op) -> Self {
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
