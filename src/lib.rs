//! kekd: a key daemon. One library, three programs (`kekd`, `kekctl`, `kekd-lkm`).
//!
//! Modules in layer order; a module imports only from layers below its own. The layers are held by
//! `tests/it/architecture.rs`, and ARCHITECTURE.md says why each line stands where it does.

// 0 — vocabulary and the outside world
pub mod clock;
pub mod config;
pub mod program;
pub mod proto;
pub mod public_key;
pub mod reload;
pub mod slots;
pub mod systemd;
pub mod telemetry;
pub mod types;
pub mod unix_socket;

// 1 — trees over bytes
pub mod merkle;

// 2 — the rules; pure
pub mod access;
pub mod keyring;
pub mod quorum;

// 3 — durable state
pub mod audit;
pub mod ledger;
pub mod stops;

// 4 — the HSM
pub mod certificate;
pub mod hsm;

// 5 — where they meet
pub mod flows;

// 6 — the wire
pub mod grpc;

// 7 — the process
pub mod serve;

// beside: what talks to kekd
pub mod client;
pub mod lkm;
pub mod recording;
