//! The worker process, spoken to over its socket as the daemon does, with a real token behind it.

pub mod harness;
mod keys;
mod objects;
mod opening;
mod rewrapping;
mod unwrapping;
