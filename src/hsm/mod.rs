//! The HSM: key profiles, the worker process that holds the module, and the daemon's view of it.

pub mod frame;
pub mod profile;
pub mod worker;
