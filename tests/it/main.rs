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

mod abuse;
mod answers;
mod architecture;
mod audit;
mod audit_archive;
mod audit_service;
mod auth;
mod caged;
mod certificate;
mod client;
mod command_line;
mod destruction;
mod documents;
mod example_config;
mod faults;
mod harness;
mod host_clock;
mod hsm;
mod hsm_worker;
mod imports;
mod init;
mod kekctl;
mod kill9;
mod kill_switch;
mod kryoptic;
mod lanes;
mod leaks;
mod ledger;
mod life;
mod limits;
mod lkm;
mod login;
mod mandates;
mod officers;
mod proofs;
mod quota;
mod recording;
mod recording_cms;
mod recovery;
mod refusals;
mod rig;
mod roles;
mod rollback;
mod saga_abuse;
mod saga_destroy;
mod saga_kill;
mod saga_scene;
mod saga_steps;
mod sink;
mod soak;
mod softhsm;
mod still;
mod stops;
mod sync_order;
mod time_lock;
mod token;
mod tokens;
mod unwrap;
mod vigil;
mod witness;
