//! Integration tests: one binary, one module per noun, a real SoftHSM token each.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::wildcard_enum_match_arm,
    reason = "a test that cannot go on has failed, and any other answer than expected fails it"
)]

mod audit;
mod hsm;
mod hsm_worker;
mod softhsm;
