//! The worker process, spoken to over its socket as the daemon does, with a real token behind it.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::wildcard_enum_match_arm,
    reason = "a test that gets another answer has failed, and says so there"
)]

mod destroying;
pub mod harness;
mod importing;
mod keys;
mod objects;
mod opening;
mod rewrapping;
mod unwrapping;
