//! Why a stop is not as durable as it should be. None of these undoes one: it is in effect in memory.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use crate::types::Next;

/// What is wrong with the marker or the drop folder.
#[derive(Debug, thiserror::Error)]
pub enum StopsError {
    /// The operating system refused. At a start: fatal. Later: tried again.
    #[error("{}: cannot {action}: {source}", .path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The marker's path names another file than the one that is open, or none.
    #[error(
        "{} was moved, removed or replaced while kekd runs; a stop written to it would be lost at \
         the next start: put it back, or restart kekd while nothing is stopped",
        .path.display()
    )]
    MarkerMoved {
        /// The path.
        path: PathBuf,
    },
    /// The thread that looks into the drop folder could not be started. Fatal.
    #[error("the thread that looks into stop.d could not be started: {source}")]
    ThreadNotStarted {
        /// Why.
        source: io::Error,
    },
    /// A disk does not answer. The write goes on.
    #[error("the file stops was not durable after {} ms; the stop is in effect", .after.as_millis())]
    MarkerSlow {
        /// How long it was waited for.
        after: Duration,
    },
    /// The stop is in the ledger and its file cannot be removed, so it stays in effect.
    #[error(
        "{} cannot be removed: {source}. The stop is in the ledger; remove the file yourself, or \
         its KEK stays stopped",
        .path.display()
    )]
    NotRemoved {
        /// The file in the drop folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl StopsError {
    /// What may happen next.
    pub const fn next(&self) -> Next {
        match self {
            Self::Io { .. } | Self::MarkerSlow { .. } | Self::NotRemoved { .. } => Next::TryAgain,
            Self::MarkerMoved { .. } | Self::ThreadNotStarted { .. } => Next::Fatal,
        }
    }
}
