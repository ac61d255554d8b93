//! Recordings against the `openssl` command, with an RSA key in software in the place of the HSM's.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that cannot unwrap has failed"
)]

mod bench;
mod damage;
mod interop;
mod refusals;
