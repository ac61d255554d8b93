//! The audit log: one durable record of every attempt to unwrap, refused ones included, written
//! before its answer leaves. Plaintext passes through here sealed and comes out only after the sync
//! of its record; no plaintext is written. Nothing here knows of HSMs, rights or the wire. Records leave
//! the log only into an archive, and a stub stays in their place.
//!
//! **The commit point** of an unwrap is the sync in `store::Store::append`, reached from
//! [`Journal::record_and_release`]. A crash just before it: there is no record and nothing was
//! released; the caller sees its connection break and may ask again. A crash just after it: the
//! record says *released* although the DEK may not have left. So the log may name a release that
//! nobody received, and never misses one that somebody did. The same holds for a caller that gave
//! up waiting.

pub mod archive;
mod error;
mod files;
mod filter;
mod journal;
mod judge;
mod mismatch;
mod proof;
mod record;
mod reserve;
mod seal;
mod store;
mod stub;
mod tree;
mod usage;
mod writer;

pub use archive::Archive;
pub use error::{AuditError, Discontinuity, Unavailable};
pub use filter::Filter;
pub use journal::{Journal, JournalStatus, Released, read};
pub use judge::{ANCHOR_LABEL, Judged, anchor_bytes, origin};
pub use mismatch::Mismatch;
pub use record::{Draft, Outcome};
pub use seal::Sealed;
pub use store::{
    AuditReader, Before, Expectations, GrowthProof, Page, PageMax, RecordProof, Retention, Verified,
};
pub use stub::{DropRefused, Dropping, Stub};
pub use usage::Usage;
pub use writer::Condition;
