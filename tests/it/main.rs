//! Integration tests: one binary, one module per noun, a real SoftHSM token each.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test that cannot unwrap has failed"
)]

mod hsm_worker;
mod softhsm;
