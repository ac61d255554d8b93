//! audit

mod seal;

pub use seal::Sealed;
