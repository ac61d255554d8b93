//! What may happen after an error of the ledger in service. The rule: only where it is known that
//! nothing was written may anybody go on.

use super::error::{EntryError, LedgerError};
use crate::merkle::MerkleError;
use crate::quorum::Refusal;
use crate::types::Next;

impl LedgerError {
    /// What may happen after [`Ledger::prepare`](super::Ledger::prepare),
    /// [`Ledger::commit`](super::Ledger::commit) or a read failed in this way. At start, and of a
    /// copy, each error is a refusal and nobody asks.
    pub const fn next(&self) -> Next {
        match self {
            // The event cannot be the next one, or there is no such entry.
            Self::EntryRefused { .. } | Self::EntryUnknown { .. } | Self::Copy(_) => {
                Next::CallerFault
            }
            // Nothing was written: prepare again, sign again, commit again.
            Self::NoSpace { .. }
            | Self::HeadMoved { .. }
            | Self::CheckpointRefused(MerkleError::SignatureWrong { .. }) => Next::TryAgain,
            Self::CheckpointRefused(
                MerkleError::OutOfRange { .. }
                | MerkleError::ProofWrong
                | MerkleError::Key(_)
                | MerkleError::OriginMalformed
                | MerkleError::NoteMalformed { .. }
                | MerkleError::OriginWrong { .. }
                | MerkleError::NotSigned { .. },
            )
            | Self::Missing { .. }
            | Self::Exists { .. }
            | Self::Unfinished { .. }
            | Self::Io { .. }
            | Self::DirOpenToOthers { .. }
            | Self::Locked { .. }
            | Self::SqliteTooOld { .. }
            | Self::Sqlite(_)
            | Self::NotALedger { .. }
            | Self::FormatUnknown { .. }
            | Self::Damaged { .. }
            | Self::Empty
            | Self::EntryMissing { .. }
            | Self::EntryChanged { .. }
            | Self::Shorter { .. }
            | Self::CheckpointMissing { .. }
            | Self::RootWrong { .. }
            | Self::WrittenByAnother { .. }
            | Self::OutcomeUnknown { .. }
            | Self::TokenWrong { .. }
            | Self::ObjectCount { .. }
            | Self::ObjectMalformed { .. }
            | Self::InstanceWrong { .. }
            | Self::RolledBack { .. }
            | Self::Forked { .. } => Next::Fatal,
        }
    }

    /// What the officer at fault is told, where an act of officers is refused; the error itself where
    /// it is another.
    ///
    /// # Errors
    /// The error as it was.
    pub fn into_refusal(self) -> Result<Box<Refusal>, Self> {
        if let Self::EntryRefused { index, source } = self {
            return match *source {
                EntryError::Refused(refusal) => Ok(refusal),
                EntryError::Keyring(error) => Ok(Box::new(error.into())),
                EntryError::Access(error) => Ok(Box::new(error.into())),
                source @ (EntryError::TooLong { .. }
                | EntryError::Malformed(_)
                | EntryError::NotCanonical
                | EntryError::EventUnknown
                | EntryError::EventOutOfPlace { .. }
                | EntryError::IndexWrong { .. }
                | EntryError::InstanceWrong { .. }
                | EntryError::TimeBackwards { .. }
                | EntryError::GenesisRefused(_)
                | EntryError::FieldRefused { .. }
                | EntryError::NameRefused { .. }
                | EntryError::CertificateOfAnotherKey { .. }
                | EntryError::KeyTwice(_)
                | EntryError::KekNotInGenesis(_)
                | EntryError::ProfileNotAsSigned { .. }) => Err(Self::refused(index, source)),
            };
        }
        Err(self)
    }
}
