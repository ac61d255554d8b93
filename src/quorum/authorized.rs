//! The proof that a quorum agreed. Whatever makes, retires or destroys a key takes an
//! [`Authorized`] value, and only the policy in this folder can make one.

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

/// The birth of an instance: its own keys and its first KEKs may be made.
pub struct Initialise {
    /// SHA-256 of the genesis document the officers signed.
    pub genesis_sha256: crate::types::Sha256,
}
