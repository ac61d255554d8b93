//! Why the audit log cannot be made, opened or written, and what may happen next. Nothing here
//! decides; the invariant is that every error on the way to a release has exactly one answer: try
//! again, or stop the node.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use super::Mismatch;
use super::archive::ArchiveFault;
use super::stub::{DropRefused, Stub};
use crate::merkle::MerkleError;
use crate::types::Sha256;

/// What is wrong with the audit log. Cloned to every caller that waited for the same sync.
#[derive(Debug, Clone, thiserror::Error)]
pub enum AuditError {
    /// The queue is full. Nothing was written. Try again.
    #[error("{queue_len_max} records wait to be written, as many as audit.queue_len_max allows")]
    Busy {
        /// The setting that was reached.
        queue_len_max: usize,
    },
    /// The record did not become durable in time. It may be written still, which is safe: nothing
    /// was released for it. Try again.
    #[error("the record was not durable after {timeout_ms} ms (audit.sync_timeout_ms)")]
    TimedOut {
        /// The setting that was exceeded.
        timeout_ms: u64,
    },
    /// The log does not take records now. Nothing was released. Try again.
    #[error("the audit log takes no records now: {0}")]
    Unavailable(Unavailable),
    /// A write or sync failed in a way that leaves its outcome unknown. Fatal: a failed sync is
    /// never tried again, because the kernel may have dropped the pages it could not write; the
    /// next start reads the file anew.
    #[error("{path} could not be written safely; kekd must stop, check the disk and start again")]
    OutcomeUnknown {
        /// The file.
        path: PathBuf,
        /// What SQLite said.
        #[source]
        source: Arc<rusqlite::Error>,
    },
    /// The thread that writes the log panicked. Fatal.
    #[error("the thread that writes the audit log panicked; kekd must stop")]
    WriterPanicked,
    /// The thread that writes the log could not be started. Fatal.
    #[error("the thread that writes the audit log could not be started")]
    ThreadNotStarted(#[source] Arc<io::Error>),
    /// The journal was closed. Nothing more is written by this process.
    #[error("the audit log is closed")]
    Closed,
    /// There is a file where `create` would make one. Fatal: nothing is replaced.
    #[error(
        "{path} exists already; an audit log is made once, by `kekd init` in a folder without one: \
         choose another state_dir, or move what is there to safety yourself"
    )]
    Exists {
        /// The file.
        path: PathBuf,
    },
    /// There is no file where `open` expects one. Fatal: nothing is made in its place.
    #[error("{path} is missing; restore it from a backup, or use the state_dir it belongs to")]
    Missing {
        /// The file.
        path: PathBuf,
    },
    /// Another process has the log open. Fatal.
    #[error("{path} is in use by another process; stop it, one state_dir serves one kekd")]
    InUse {
        /// The file.
        path: PathBuf,
    },
    /// The log is that of another instance. Fatal.
    #[error("{path} belongs to instance {found}, not to {expected}; check state_dir")]
    WrongInstance {
        /// The file.
        path: PathBuf,
        /// The instance the ledger names.
        expected: Sha256,
        /// The instance the file names.
        found: Sha256,
    },
    /// The file is not one this version of kekd reads. Fatal.
    #[error("{path} has {what} {found} where {expected} is needed; use the kekd that wrote it")]
    WrongFormat {
        /// The file.
        path: PathBuf,
        /// What was looked at.
        what: &'static str,
        /// What is needed.
        expected: String,
        /// What was found.
        found: String,
    },
    /// The newest records do not follow one another. Fatal.
    #[error("{path}: the newest record is {newest} but {found}; restore it from a backup")]
    NotContiguous {
        /// The file.
        path: PathBuf,
        /// The index of the newest row.
        newest: u64,
        /// What contradicts it.
        found: Discontinuity,
    },
    /// The records contradict themselves, their checkpoints or the token. Fatal: nothing is repaired.
    #[error("{path}: {mismatch}")]
    Mismatch {
        /// The file.
        path: PathBuf,
        /// What contradicts what.
        mismatch: Mismatch,
    },
    /// There is no such record.
    #[error("the audit log has {size} records; there is none at index {index}")]
    RecordUnknown {
        /// The index asked for.
        index: u64,
        /// The number of records, of those that are signed where a proof was asked for.
        size: u64,
    },
    /// The record was dropped.
    #[error(
        "record {index} is not kept any more: the records {first} to {last} are in the archive with the \
         SHA-256 {archive}; name the file with --archive, or begin at record {kept}",
        first = stub.first, last = stub.until.saturating_sub(1), archive = stub.archive
    )]
    Archived {
        /// The index asked for.
        index: u64,
        /// What stands in its place.
        stub: Box<Stub>,
        /// The first record that is kept.
        kept: u64,
    },
    /// An archive does not hold the record.
    #[error("the archive holds the records {first} to {last}; record {index} is not among them")]
    NotInArchive {
        /// The index asked for.
        index: u64,
        /// The first it holds.
        first: u64,
        /// The last.
        last: u64,
    },
    /// Records cannot be dropped. Nothing was changed.
    #[error("nothing was dropped: {0}")]
    NotDropped(DropRefused),
    /// A file that is no archive of records.
    #[error("{path}: {fault}")]
    Archive {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        fault: ArchiveFault,
    },
    /// No checkpoint was signed yet.
    #[error(
        "no checkpoint of the audit log is signed yet; one is within audit.checkpoint_interval_ms of \
         the first record"
    )]
    NotSigned,
    /// A note to be kept that is none of this log's. A bug.
    #[error("a checkpoint of the audit log cannot be made or was refused: {0}")]
    Checkpoint(#[from] MerkleError),
    /// SQLite refused at create, open or read. Fatal.
    #[error("{path}: cannot {doing}")]
    Sqlite {
        /// The file.
        path: PathBuf,
        /// What was tried, to be read after "cannot".
        doing: &'static str,
        /// What SQLite said.
        #[source]
        source: Arc<rusqlite::Error>,
    },
    /// The file system refused at create or open. Fatal.
    #[error("{path}: cannot {doing}")]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What was tried, to be read after "cannot".
        doing: &'static str,
        /// What the system said.
        #[source]
        source: Arc<io::Error>,
    },
}

impl AuditError {
    /// Whether the node must stop. Everything else leaves it as it was.
    pub const fn is_fatal(&self) -> bool {
        !matches!(
            self,
            Self::Busy { .. } | Self::TimedOut { .. } | Self::Unavailable(_) | Self::NotDropped(_)
        )
    }

    pub(super) fn mismatch(path: impl Into<PathBuf>, mismatch: Mismatch) -> Self {
        let path = path.into();
        Self::Mismatch { path, mismatch }
    }

    pub(super) fn io(path: impl Into<PathBuf>, doing: &'static str, source: io::Error) -> Self {
        Self::Io {
            path: path.into(),
            doing,
            source: Arc::new(source),
        }
    }

    pub(super) fn sqlite(
        path: impl Into<PathBuf>,
        doing: &'static str,
        source: rusqlite::Error,
    ) -> Self {
        Self::Sqlite {
            path: path.into(),
            doing,
            source: Arc::new(source),
        }
    }
}

/// Why the log does not take records at the moment. It is looked at again once a second.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Unavailable {
    /// The path no longer names the file that was opened: what is written now would be lost.
    #[error("{path} was removed or replaced while open; put the same file back, or stop kekd")]
    FileMoved {
        /// The file.
        path: PathBuf,
    },
    /// The write did not happen: the disk is full, the file is read-only or locked by a tool.
    #[error("{path} was not written ({source}); free space, or end what holds the file")]
    NotWritten {
        /// The file.
        path: PathBuf,
        /// What SQLite said.
        source: Arc<rusqlite::Error>,
    },
    /// The disk was full, and the space put by serves refusals only.
    #[error(
        "{path} takes records of refusals only: the disk is full; free space for the log and for \
         the 2 MiB put by beside it"
    )]
    OnReserve {
        /// The file.
        path: PathBuf,
    },
    /// One sync takes longer than callers may wait.
    #[error("a sync has been under way for more than {timeout_ms} ms; check the disk")]
    SyncSlow {
        /// The setting that was exceeded.
        timeout_ms: u64,
    },
}

/// What contradicts the index of the newest row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Discontinuity {
    /// Among the rows before it some are missing: so many are there of the newest `looked_at`.
    RowsMissing {
        /// Rows that should be there.
        looked_at: u64,
        /// Rows that are there.
        present: u64,
    },
    /// The record in the row says that it has another index, or it cannot be read.
    RecordSays(Option<u64>),
}

impl fmt::Display for Discontinuity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::RowsMissing { looked_at, present } => {
                write!(f, "of the newest {looked_at} only {present} are there")
            }
            Self::RecordSays(Some(index)) => write!(f, "its bytes say {index}"),
            Self::RecordSays(None) => f.write_str("its bytes cannot be read"),
        }
    }
}
