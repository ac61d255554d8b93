//! The HSM as the daemon holds it: a real worker process with a real SoftHSM token behind it.

mod faults;
mod harness;
mod loss;
mod opening;
mod serving;
