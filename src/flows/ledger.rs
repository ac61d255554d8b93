//! Reading the ledger as it is stored. Nothing changes here, and whoever may ask was let in at the
//! gate. Files are read on threads for blocking work, through a connection that never waits for the
//! writer.

use std::sync::Arc;

use tracing::error;

use super::Node;
use crate::ledger::{Entries, InclusionProof, LedgerError, LedgerReader};

/// Bytes of entries in one answer.
const ENTRIES_BYTES_MAX: usize = 1024 * 1024;

/// Why nothing is read.
#[derive(Debug, thiserror::Error)]
pub enum ReadLedgerError {
    /// The ledger has no such entry.
    #[error("the ledger has {size} entries; there is none at index {index}")]
    EntryUnknown {
        /// The index asked for.
        index: u64,
        /// The number of entries.
        size: u64,
    },
    /// The file cannot be read, or contradicts itself; the cause is in the operator's log.
    #[error("the ledger cannot be read")]
    Internal,
}

impl From<LedgerError> for ReadLedgerError {
    fn from(error: LedgerError) -> Self {
        if let LedgerError::EntryUnknown { index, size } = error {
            return Self::EntryUnknown { index, size };
        }
        error!(%error, "the ledger cannot be read");
        Self::Internal
    }
}

impl Node {
    /// The exact bytes of the entries from an index on: at most 1 MiB, but one where there is one.
    pub async fn read_entries(&self, from: u64) -> Result<Entries, ReadLedgerError> {
        self.read(move |ledger| ledger.entries(from, ENTRIES_BYTES_MAX))
            .await
    }

    /// The newest checkpoint: a signed note (C2SP tlog-checkpoint).
    pub async fn ledger_checkpoint(&self) -> Result<String, ReadLedgerError> {
        self.read(LedgerReader::newest_note).await
    }

    /// The proof that an entry is in the ledger of the newest checkpoint.
    pub async fn prove_entry(&self, index: u64) -> Result<InclusionProof, ReadLedgerError> {
        self.read(move |ledger| ledger.prove(index)).await
    }

    async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&LedgerReader) -> Result<T, LedgerError> + Send + 'static,
    ) -> Result<T, ReadLedgerError> {
        let reader = Arc::clone(&self.ledger_reader);
        match tokio::task::spawn_blocking(move || read(&reader)).await {
            Ok(read) => Ok(read?),
            Err(error) => {
                error!(%error, "reading the ledger ended early");
                Err(ReadLedgerError::Internal)
            }
        }
    }
}
