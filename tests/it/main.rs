//! Integration tests: one binary, one module per noun, a real SoftHSM token each.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that cannot go on has failed"
)]

mod audit;
mod hsm;
mod hsm_worker;
mod softhsm;
