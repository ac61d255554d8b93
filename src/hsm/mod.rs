//! The HSM as the daemon sees it: an async handle on a worker process that alone loads the PKCS#11
//! module. Files, from the outside in:
//!
//! * `handle.rs`, `work.rs`, `ceremony.rs`, `import.rs`: [`Hsm`], what the rest of the daemon calls
//! * `fleet.rs`, `replica.rs`: several tokens with the same keys, and which of them serves a call
//! * `call.rs`: one call from start to end
//! * `asker.rs`, `line.rs`, `line/`, `quota.rs`: who may go next, and who not at all
//! * `supervisor.rs`, `life.rs`, `watchdog.rs`, `process.rs`: one worker at a time, kept serving
//! * `link.rs`, `tray.rs`, `inbox.rs`, `frame.rs`: the talk with a worker
//! * `job.rs`, `report.rs`, `status.rs`, `error.rs`, `loss.rs`: the vocabulary
//! * `shared.rs`: what supervisor and callers both know
//! * `profile.rs`: key profiles
//! * `worker/`: the worker process itself; nothing above imports it, for it is another process
//!
//! PKCS#11 is named in `worker/` only. No wait is without a limit, and no state of the HSM, hung or
//! gone, makes [`Hsm::status`] wait.

mod asker;
mod call;
mod ceremony;
mod error;
mod fleet;
pub mod frame;
mod handle;
mod import;
mod inbox;
mod job;
mod life;
mod line;
mod link;
mod loss;
mod process;
pub mod profile;
mod quota;
mod replica;
mod report;
mod shared;
mod status;
mod supervisor;
mod tray;
mod watchdog;
mod work;
pub mod worker;

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test that cannot unwrap has failed")]
mod tests;

pub use asker::{Asker, Attendance, Presence};
pub use error::HsmError;
pub use fleet::{Fleet, Routed};
pub use handle::Hsm;
pub use import::{TRANSPORT_PROFILE, transport_label, transport_object_id};
pub use job::{Answer, DataKind, KeyRef, KnownAnswer, RewrapJob, UnwrapJob, WorkerCommand};
pub use loss::Loss;
pub use profile::Profile;
pub use quota::{Allowance, OracleAlarm, Quota};
pub use replica::{Replica, Standing};
pub use report::{AttackReport, AttributeMismatch, Object, ObjectClass};
pub use status::{Capabilities, HsmState, HsmStatus, Token};
