//! The integration tests: one binary, one module per noun. They run the real daemon on a real token
//! over real TLS; what a test needs it makes, and what it cannot do it says.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    clippy::print_stderr,
    reason = "a test that cannot go on has failed, and says where"
)]

mod architecture;
mod audit;
mod auth;
mod caged;
mod certificate;
mod client;
mod command_line;
mod example_config;
mod faults;
mod harness;
mod hsm;
mod hsm_worker;
mod kekctl;
mod kryoptic;
mod leaks;
mod limits;
mod recording;
mod recording_cms;
mod recovery;
mod refusals;
mod rig;
mod softhsm;
mod sync_order;
mod token;
mod unwrap;
