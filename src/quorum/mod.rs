//! Who must agree before a key's life changes. Pure: no async, files, clock, randomness or logging.

mod authorized;
mod document;
mod genesis;
mod officer;
mod rules;
#[cfg(test)]
mod ssh_keygen;
mod sshsig;

pub use authorized::{Authorized, Initialise};
pub use genesis::{
    GENESIS_LEN_MAX, GENESIS_NAMESPACE, Genesis, GenesisError, GenesisKek, Issuer, Policy,
};
pub use officer::{KeyError, OFFICERS_MAX, Officer, OfficerKey, OfficerRole};
pub use sshsig::{SIGNATURE_LEN_MAX, SignatureError};
