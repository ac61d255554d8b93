//! Reading the audit log as it is stored, and dropping what an auditor has archived. Whoever may ask was
//! let in at the gate. Files are read on threads for blocking work, through a connection that never delays the
//! writer.

use std::ops::Range;
use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, watch};
use tracing::{error, info};

use super::Node;
use crate::access::Identity;
use crate::audit::{
    self, AuditError, AuditReader, Before, Draft, DropRefused, Dropping, Filter, GrowthProof, Page,
    PageMax, RecordProof, Retention, Stub,
};
use crate::merkle::{Head, LogKey};
use crate::types::{RequestId, Sha256};

/// What one page of records may hold.
const PAGE_MAX: PageMax = PageMax {
    records: 4096,
    bytes: 1024 * 1024,
};
/// Callers that may follow the log at the same time.
pub(super) const FOLLOWERS_MAX: usize = 32;

/// Why nothing is read.
#[derive(Debug, thiserror::Error)]
pub enum ReadAuditError {
    /// The log has no such record, or none that a checkpoint covers yet.
    #[error("of {size} audit records none is at index {index}")]
    RecordUnknown {
        /// The index asked for.
        index: u64,
        /// The number of records that the answer is about.
        size: u64,
    },
    /// The record, or one that may be among those asked for, was dropped.
    #[error("{0}")]
    Archived(String),
    /// What was asked to be dropped is not, and nothing was.
    #[error("nothing was dropped: {0}")]
    NotDropped(DropRefused),
    /// The log takes no records now, so nothing can be dropped.
    #[error(
        "the audit log takes no records now; nothing was dropped, or it is not known: ask again"
    )]
    Unavailable,
    /// There is no checkpoint yet.
    #[error("no checkpoint of the audit log is signed yet; ask again soon")]
    NotSigned,
    /// As many callers follow the log as may.
    #[error("{FOLLOWERS_MAX} callers follow the audit log already")]
    TooManyFollowers,
    /// The file cannot be read, or contradicts itself; the cause is in the operator's log.
    #[error("the audit log cannot be read")]
    Internal,
}

impl From<AuditError> for ReadAuditError {
    fn from(error: AuditError) -> Self {
        if let AuditError::RecordUnknown { index, size } = error {
            return Self::RecordUnknown { index, size };
        }
        if matches!(error, AuditError::NotSigned) {
            return Self::NotSigned;
        }
        if matches!(error, AuditError::Archived { .. }) {
            return Self::Archived(error.to_string());
        }
        if let AuditError::NotDropped(why) = error {
            return Self::NotDropped(why);
        }
        if !error.is_fatal() {
            return Self::Unavailable;
        }
        error!(%error, "the audit log cannot be read");
        Self::Internal
    }
}

/// A place among those who follow the log.
pub struct Following {
    /// The head of the log, as it grows.
    pub heads: watch::Receiver<Head>,
    _place: OwnedSemaphorePermit,
}

impl Node {
    /// Records from an index on that a filter keeps, at most `records_max` (0: as many as fit).
    pub async fn read_records(
        &self,
        filter: Filter,
        from: u64,
        records_max: usize,
    ) -> Result<Page, ReadAuditError> {
        let max = PageMax {
            records: match records_max {
                0 => PAGE_MAX.records,
                fewer => fewer.min(PAGE_MAX.records),
            },
            ..PAGE_MAX
        };
        self.read_audit(move |log, _, _| log.page(&filter, from, max))
            .await
    }

    /// A place among those who follow the log.
    pub fn follow_records(&self) -> Result<Following, ReadAuditError> {
        let place = Arc::clone(&self.followers).try_acquire_owned();
        Ok(Following {
            heads: self.journal.heads(),
            _place: place.map_err(|_| ReadAuditError::TooManyFollowers)?,
        })
    }

    /// The newest checkpoint of the audit log: a signed note (C2SP tlog-checkpoint).
    pub async fn audit_checkpoint(&self) -> Result<String, ReadAuditError> {
        self.read_audit(|log, _, _| log.newest_note()).await
    }

    /// The proof that a record is in the log of the newest checkpoint.
    pub async fn prove_record(&self, index: u64) -> Result<RecordProof, ReadAuditError> {
        self.read_audit(move |log, origin, key| log.prove(index, origin, key))
            .await
    }

    /// The proof that the log of the newest checkpoint begins with its first `old_size` records.
    pub async fn prove_audit_growth(&self, old_size: u64) -> Result<GrowthProof, ReadAuditError> {
        self.read_audit(move |log, origin, key| log.prove_growth(old_size, origin, key))
            .await
    }

    /// What was dropped, and what can be archived.
    pub async fn audit_retention(&self, before: Before) -> Result<Retention, ReadAuditError> {
        self.read_audit(move |log, _, key| log.retention(before, key))
            .await
    }

    /// Drops records that `caller` has archived. The drop is itself a record.
    pub async fn drop_archived(
        &self,
        caller: &Identity,
        range: Range<u64>,
        archive: Sha256,
        tiles: Sha256,
    ) -> Result<Stub, ReadAuditError> {
        if let Some(why) = self.clock_suspect() {
            return Err(ReadAuditError::NotDropped(DropRefused::Clock { why }));
        }
        let request_id = RequestId::random().map_err(|error| {
            error!(%error, "no request id can be made");
            ReadAuditError::Internal
        })?;
        let draft = Draft {
            reason: "RECORDS_ARCHIVED",
            ..Draft::new(caller.to_string(), request_id)
        };
        let wanted = Dropping {
            range,
            archive,
            tiles,
            anchored: self.anchored_records().await,
        };
        let stub = self.journal.drop_archived(wanted, draft).await?;
        info!(
            %caller, first = stub.first, until = stub.until, archive = %stub.archive,
            record = stub.record_index, "archived audit records were dropped"
        );
        Ok(stub)
    }

    async fn read_audit<T: Send + 'static>(
        &self,
        read: impl FnOnce(&AuditReader, &str, &LogKey) -> Result<T, AuditError> + Send + 'static,
    ) -> Result<T, ReadAuditError> {
        let (reader, state) = (self.journal.reader(), self.snapshot());
        let read = move || {
            let origin = audit::origin(&state.instance_id());
            read(&reader, &origin, state.log_key())
        };
        match tokio::task::spawn_blocking(read).await {
            Ok(read) => Ok(read?),
            Err(error) => {
                error!(%error, "reading the audit log ended early");
                Err(ReadAuditError::Internal)
            }
        }
    }
}
