//! The integration tests: one binary, one module per noun.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test that cannot go on has failed"
)]

mod client;
mod command_line;
mod recording_cms;
mod rig;
