//! What can be wrong with the records themselves: where a log contradicts its own leaves, its
//! checkpoints, or what somebody outside knows of it. Only the words; who looks is `judge` and
//! `store::verify`. The invariant: a contradiction names the first record that it can be pinned to.

use crate::merkle::MerkleError;
use crate::types::Sha256;

/// A contradiction. None of these passes by trying again.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Mismatch {
    /// A record is not there.
    #[error("expected record {index}; it is missing: it was removed")]
    RecordMissing {
        /// Its index.
        index: u64,
    },
    /// SQLite cannot read on.
    #[error("record {index} cannot be read: the file is damaged there ({why})")]
    Unreadable {
        /// The first record that cannot be.
        index: u64,
        /// What SQLite says.
        why: String,
    },
    /// A record's bytes are not those that were written.
    #[error(
        "expected record {index} to have the leaf hash {expected}, as when it was written; found \
         {found}: it was changed"
    )]
    RecordChanged {
        /// Its index.
        index: u64,
        /// The hash stored beside it.
        expected: Sha256,
        /// The hash of its bytes.
        found: Sha256,
    },
    /// A record in another's place.
    #[error(
        "expected record {index} to say that it is record {index}; it says {found:?}: it was moved, \
         copied or changed"
    )]
    RecordMoved {
        /// Where it stands.
        index: u64,
        /// What it says; nothing where it cannot be read.
        found: Option<u64>,
    },
    /// Records are not there, and nothing stands in their place.
    #[error(
        "expected record {index}, or a stub that says where it is archived; found neither: records were \
         removed, or the stub of an archive was"
    )]
    StubMissing {
        /// The first record that is not there.
        index: u64,
    },
    /// Stubs that are not those that the record of the newest drop vouches for.
    #[error(
        "expected the stubs of archived records to have the digest {expected}, as record {record_index} \
         says; found {found}: a stub was changed, added or removed"
    )]
    StubsChanged {
        /// The record of the newest drop.
        record_index: u64,
        /// What it says.
        expected: Sha256,
        /// Over the stubs found.
        found: Sha256,
    },
    /// A stub that no record vouches for.
    #[error(
        "expected a record of the drop of the records {first} to {last}; found none: the stub was made \
         without kekd"
    )]
    StubNotRecorded {
        /// The first record.
        first: u64,
        /// The last.
        last: u64,
    },
    /// Tiles of dropped records that are not those that were there at the drop.
    #[error(
        "expected the tiles of the archived records {first} to {last} to have the digest {expected}, as \
         their stub says; found {found}: roots or times of tiles were changed"
    )]
    StubTilesChanged {
        /// The first record.
        first: u64,
        /// The last.
        last: u64,
        /// What the stub says.
        expected: Sha256,
        /// Found.
        found: Sha256,
    },
    /// An archive that is none of this log.
    #[error(
        "expected an archive of records that this log dropped; the archive with the SHA-256 {archive} is \
         none"
    )]
    ArchiveUnknown {
        /// Its SHA-256.
        archive: Sha256,
    },
    /// A record without a leaf hash beside it.
    #[error(
        "expected a leaf hash beside record {index}; found none: it was removed, or this log was \
         never opened by a kekd that keeps a tree"
    )]
    LeafMissing {
        /// The record.
        index: u64,
    },
    /// Leaf hashes of records that are not there.
    #[error(
        "expected {expected} records, as many as have leaf hashes; found {found}: records were \
         removed from the end"
    )]
    Cut {
        /// Leaf hashes.
        expected: u64,
        /// Records.
        found: u64,
    },
    /// The root stored for a tile does not follow from its records.
    #[error(
        "expected the stored root over the records from {first} on to follow from them; it does \
         not, or its neighbours are missing: it was changed"
    )]
    TileChanged {
        /// The first record of the tile.
        first: u64,
    },
    /// A checkpoint that is none of this log.
    #[error("expected a checkpoint at size {size} that the log key signed; {source}")]
    CheckpointRefused {
        /// The size it is stored under.
        size: u64,
        /// Why.
        #[source]
        source: MerkleError,
    },
    /// A checkpoint for more records than there are.
    #[error(
        "expected the {expected} records that a checkpoint was signed for; found {found}: records \
         were removed from the end"
    )]
    ShorterThanSigned {
        /// Its size.
        expected: u64,
        /// Records.
        found: u64,
    },
    /// Records and leaf hashes were changed together.
    #[error(
        "expected the root {expected} over the first {size} records, as it was signed; found \
         {found}: records from {from} on were written anew, together with their leaf hashes"
    )]
    Rewritten {
        /// The first record that no sound checkpoint covers.
        from: u64,
        /// The size of the checkpoint.
        size: u64,
        /// Its root.
        expected: Sha256,
        /// The root found.
        found: Sha256,
    },
    /// The token has seen a longer log.
    #[error(
        "the token has seen {expected} audit records, and there are {found}: this audit.db is an older \
         copy, or records were removed from it. Put the newest audit.db back. Where there is none, \
         docs/runbook.md, 'The audit log is lost', says how to go on (size {expected}, root {root})"
    )]
    RolledBack {
        /// Records the token has seen.
        expected: u64,
        /// Records found.
        found: u64,
        /// The root over those the token has seen.
        root: Sha256,
    },
    /// The token has seen another log.
    #[error(
        "the token has seen the root {expected} over the first {size} audit records; found {found}: \
         this audit.db has another history. Put the one that belongs to this token back"
    )]
    Forked {
        /// Records it is over.
        size: u64,
        /// What the token has seen.
        expected: Sha256,
        /// What was found.
        found: Sha256,
    },
    /// The token should tell which head the log had, and does not.
    #[error(
        "expected one object \"kekd audit anchor\" in the token (after a crash a few); found {found}. \
         Restore the token from its backup"
    )]
    AnchorCount {
        /// How many there are.
        found: usize,
    },
    /// An anchor that cannot be read, or one of another instance.
    #[error(
        "expected each object \"kekd audit anchor\" in the token to be an anchor of format version 1 \
         and of this instance; found one of {found_len} bytes that is not"
    )]
    AnchorMalformed {
        /// Its length.
        found_len: usize,
    },
    /// A log of another instance than the one expected.
    #[error("expected the audit log of the instance {expected}; found that of {found}")]
    OtherInstance {
        /// Expected.
        expected: Sha256,
        /// Found.
        found: Sha256,
    },
}
