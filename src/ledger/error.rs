//! What can be wrong with a ledger. Every variant says what was expected, what was found and what
//! to do. At start each refuses the start; what may happen after one in service is in `outcome`.

use std::io;
use std::path::PathBuf;

use super::copy::CopyError;
use super::state::TokenIdentity;
use crate::access::AccessError;
use crate::keyring::KeyringError;
use crate::merkle::{Head, MerkleError};
use crate::quorum::{GenesisError, Refusal};
use crate::types::{KekName, KeypairId, Sha256, TypeError};

/// Why a ledger is refused.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// No ledger where it must be.
    #[error(
        "expected the ledger at {}; found no file; kekd never makes one: restore it from the \
         backup, correct state_dir, or run kekd init for a new instance", .path.display()
    )]
    Missing {
        /// Where it must be.
        path: PathBuf,
    },
    /// A ledger where none may be.
    #[error(
        "expected no ledger; found {}; kekd init makes a new instance only where there is none: \
         choose another state_dir, or move this one to safety yourself", .path.display()
    )]
    Exists {
        /// What was found.
        path: PathBuf,
    },
    /// What an initialisation left that did not finish.
    #[error(
        "expected a whole ledger or none; found {}, left by a kekd init that did not finish: \
         nothing uses it. Choose another state_dir, or move what is there to safety, and run kekd init \
         again with a token that holds no kekd objects: the keys made before are of no use",
        .path.display()
    )]
    Unfinished {
        /// What was found.
        path: PathBuf,
    },
    /// The operating system refused something.
    #[error("cannot {action} {}: {source}", .path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// What it said.
        source: io::Error,
    },
    /// Others can reach into the state directory.
    #[error(
        "expected {} to be a directory of mode 0700; found mode {found_mode:04o}: run chmod 0700 \
         on it after looking what others did there", .path.display()
    )]
    DirOpenToOthers {
        /// The directory.
        path: PathBuf,
        /// Its permission bits.
        found_mode: u32,
    },
    /// Another process has the state directory.
    #[error(
        "expected {} to be free; found it held by {holder}: stop that kekd first, two must never \
         share a state directory", .path.display()
    )]
    Locked {
        /// The lock file.
        path: PathBuf,
        /// Who holds it, as the lock file says.
        holder: String,
    },
    /// The SQLite library is too old to be trusted.
    #[error(
        "expected SQLite {expected} or newer, which fixed a corruption in WAL reset; found \
         {found}: build kekd with its bundled SQLite"
    )]
    SqliteTooOld {
        /// The lowest version number accepted, as `sqlite3_libversion_number` counts.
        expected: i32,
        /// The version number found.
        found: i32,
    },
    /// SQLite failed.
    #[error("the ledger's database failed: {0}: check the disk, then start again")]
    Sqlite(#[from] rusqlite::Error),
    /// A file that is no ledger.
    #[error(
        "expected a kekd ledger at {} (application id {expected:#010x}); found another kind of \
         file ({found:#010x}): restore the ledger from the backup", .path.display()
    )]
    NotALedger {
        /// The file.
        path: PathBuf,
        /// The application id of a ledger.
        expected: i32,
        /// The one found.
        found: i32,
    },
    /// A ledger in a format of another kekd.
    #[error(
        "expected a ledger of format version {expected}; found version {found}: use the kekd that \
         wrote it, or a newer one"
    )]
    FormatUnknown {
        /// The version this kekd knows.
        expected: i32,
        /// The version found.
        found: i32,
    },
    /// The database file is damaged.
    #[error("expected an intact database; found: {found}: restore the ledger from the backup")]
    Damaged {
        /// What SQLite says.
        found: String,
    },
    /// A ledger without entries.
    #[error("expected at least one entry; found none: restore the ledger from the backup")]
    Empty,
    /// An index is left out.
    #[error(
        "expected entry {expected}; found entry {found} in its place: entries were removed; \
         restore the ledger from the backup"
    )]
    EntryMissing {
        /// The index that is due.
        expected: u64,
        /// The index found.
        found: u64,
    },
    /// Bytes that are not those that were written.
    #[error(
        "expected entry {index} as it was written; found other bytes: it was changed; restore the \
         ledger from the backup and find out by whom"
    )]
    EntryChanged {
        /// The entry.
        index: u64,
    },
    /// An entry that contradicts the ones before it or itself.
    #[error("entry {index} is refused: {source}")]
    EntryRefused {
        /// The entry.
        index: u64,
        /// Why.
        source: Box<EntryError>,
    },
    /// Fewer entries than were signed.
    #[error(
        "expected {expected} entries, for so many are signed; found {found}: entries were removed \
         from the end; restore the ledger from the backup"
    )]
    Shorter {
        /// How many must be there.
        expected: u64,
        /// How many are.
        found: u64,
    },
    /// A head nobody signed.
    #[error(
        "expected a signed checkpoint over {size} entries; found none: entries were added without \
         the log signing key, or the checkpoint was removed; restore the ledger from the backup"
    )]
    CheckpointMissing {
        /// The number of entries.
        size: u64,
    },
    /// The checkpoint is wrong, or the signature meant for one.
    #[error("the ledger's checkpoint is refused: {0}")]
    CheckpointRefused(#[from] MerkleError),
    /// The entries are not those that were signed.
    #[error(
        "expected the root {} over {} entries, which is signed; found {found} over {size}: an \
         entry was changed together with its hash; restore the ledger from the backup",
        .expected.root, .expected.size
    )]
    RootWrong {
        /// The number of entries found.
        size: u64,
        /// The head that is signed.
        expected: Head,
        /// The root of what is there.
        found: Sha256,
    },
    /// A prepared entry came too late. Prepare it again.
    #[error("expected the ledger to hold {expected} entries; found {found}: prepare again")]
    HeadMoved {
        /// The number of entries when it was prepared.
        expected: u64,
        /// The number now.
        found: u64,
    },
    /// Somebody else wrote to the file.
    #[error(
        "expected {expected} entries in the ledger's file; found {found}: another process wrote to \
         it; stop that, then start again"
    )]
    WrittenByAnother {
        /// The number of entries this process knows.
        expected: u64,
        /// The number in the file.
        found: u64,
    },
    /// No room on the disk. Nothing was written.
    #[error(
        "expected room for one more entry in {}; found the disk full ({source}): nothing was \
         written. Make room on that disk and try again", .path.display()
    )]
    NoSpace {
        /// The ledger's file.
        path: PathBuf,
        /// What SQLite said.
        source: rusqlite::Error,
    },
    /// An earlier append failed, and what it wrote is not known.
    #[error(
        "expected to know what {} holds; an append to it failed and may or may not be in it: \
         start again, which reads it anew", .path.display()
    )]
    OutcomeUnknown {
        /// The ledger's file.
        path: PathBuf,
    },
    /// An index past the end was asked for.
    #[error("expected an index below {size}; found {index}: there is no such entry yet")]
    EntryUnknown {
        /// The index asked for.
        index: u64,
        /// The number of entries.
        size: u64,
    },
    /// A copy, an export or a proof that is not what it must be.
    #[error(transparent)]
    Copy(#[from] CopyError),
    /// The token is not the one everything was made in.
    #[error("expected the token {expected}; found the token {found}: attach the right token")]
    TokenWrong {
        /// The token the ledger names.
        expected: Box<TokenIdentity>,
        /// The one attached.
        found: Box<TokenIdentity>,
    },
    /// An object in the token that must be there once.
    #[error(
        "expected {expected} in the token; found {found}: this is another token, or it was \
         initialised again or tampered with; do not go on before you know which"
    )]
    ObjectCount {
        /// What must be there.
        expected: &'static str,
        /// How many are.
        found: usize,
    },
    /// An object in the token that cannot be read.
    #[error(
        "expected the object {label:?} in the token to be {rule}; found {found_len} other bytes"
    )]
    ObjectMalformed {
        /// The object's label.
        label: &'static str,
        /// What was expected.
        rule: &'static str,
        /// Length of what was found.
        found_len: usize,
    },
    /// Ledger and token belong to different instances.
    #[error(
        "expected the instance {expected} that the object {label:?} in the token names; found a \
         ledger of the instance {found}: put ledger and token of one instance together"
    )]
    InstanceWrong {
        /// The label of the object that says so.
        label: &'static str,
        /// The instance the token names.
        expected: Sha256,
        /// The instance of the ledger.
        found: Sha256,
    },
    /// An older copy of the ledger.
    #[error(
        "expected at least {expected} entries, for so many the anchor in the token has seen; found \
         {found}: this is an older copy; restore the newest one"
    )]
    RolledBack {
        /// The size the anchor has seen.
        expected: u64,
        /// The size of the ledger.
        found: u64,
    },
    /// Another history than the one the anchor has seen.
    #[error(
        "expected the root {expected} over the first {size} entries, which the anchor in the token \
         has seen; found {found}: this is another history; restore the ledger from the backup"
    )]
    Forked {
        /// The size the anchor has seen.
        size: u64,
        /// The root it has seen.
        expected: Sha256,
        /// The root of the ledger at that size.
        found: Sha256,
    },
}

impl LedgerError {
    /// Names the entry at fault.
    pub(super) fn refused(index: u64, source: EntryError) -> Self {
        Self::EntryRefused {
            index,
            source: Box::new(source),
        }
    }
}

/// Why an entry cannot follow the ones before it.
#[derive(Debug, thiserror::Error)]
pub enum EntryError {
    /// An officer's act, or the end of one, that does not stand.
    #[error("{0}")]
    Refused(Box<Refusal>),
    /// The clients do not allow it.
    #[error("{0}")]
    Access(#[from] AccessError),
    /// Longer than any entry.
    #[error("expected at most 1048576 bytes; found {found_len}")]
    TooLong {
        /// The length found.
        found_len: usize,
    },
    /// Not an entry.
    #[error("expected a kekd.v1.Entry; found bytes that are none: {0}")]
    Malformed(#[from] prost::DecodeError),
    /// More than this kekd knows, or not in the one form it writes.
    #[error(
        "expected the fields this kekd knows, each in its one form; found others: use the kekd \
         that wrote it, or a newer one"
    )]
    NotCanonical,
    /// An event this kekd does not know.
    #[error("expected an event this kekd knows; found another: use the kekd that wrote it")]
    EventUnknown,
    /// An event out of place: the birth is entry 0 and no other.
    #[error("expected {expected}; found {found}")]
    EventOutOfPlace {
        /// What may stand there.
        expected: &'static str,
        /// What does.
        found: &'static str,
    },
    /// An index that is not its place.
    #[error("expected the index {expected}; found {found}: entries were moved or repeated")]
    IndexWrong {
        /// Its place.
        expected: u64,
        /// What it says.
        found: u64,
    },
    /// An entry of another instance.
    #[error("expected the instance {expected}; found an entry of another instance")]
    InstanceWrong {
        /// The instance.
        expected: String,
    },
    /// A time before that of the entry before.
    #[error("expected a time of {expected_ms} ms or later; found {found_ms} ms")]
    TimeBackwards {
        /// The time of the entry before, in milliseconds since 1970-01-01 UTC.
        expected_ms: u64,
        /// The time found.
        found_ms: u64,
    },
    /// A genesis document or signatures that do not authorise this instance.
    #[error("the genesis: {0}")]
    GenesisRefused(#[from] GenesisError),
    /// A field that breaks its rule.
    #[error("{field}: expected {rule}")]
    FieldRefused {
        /// The field, as in ledger.proto.
        field: &'static str,
        /// What was expected.
        rule: &'static str,
    },
    /// A name or id that breaks its rule.
    #[error("{field}: {source}")]
    NameRefused {
        /// The field, as in ledger.proto.
        field: &'static str,
        /// The rule.
        source: TypeError,
    },
    /// A certificate over another key.
    #[error("{field}: expected a certificate of the key beside it; found one of another key")]
    CertificateOfAnotherKey {
        /// The field, as in ledger.proto.
        field: &'static str,
    },
    /// One object id for two keys, or one key under two ids.
    #[error("expected each key to be new and to have an id of its own; found {0} again")]
    KeyTwice(KeypairId),
    /// A KEK the officers did not sign for.
    #[error("expected a KEK of the genesis; found {0}")]
    KekNotInGenesis(KekName),
    /// A first version made to another profile than the officers signed for.
    #[error("expected {expected} for {kek}, as the officers signed; found {found}")]
    ProfileNotAsSigned {
        /// The KEK.
        kek: KekName,
        /// The profile's name or digest in the genesis.
        expected: String,
        /// The one in the entry.
        found: String,
    },
    /// A version that contradicts the keyring.
    #[error(transparent)]
    Keyring(#[from] KeyringError),
}

impl From<Refusal> for EntryError {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(Box::new(refusal))
    }
}
