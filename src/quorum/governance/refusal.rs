//! Why an officer's act is refused. All of these are the officer's to mend; nothing was changed.

use super::super::operation::Approvers;
use super::super::policy::PolicyError;
use super::super::proposal::ProposalId;
use super::super::sshsig::SignatureError;
use super::super::statement::StatementError;
use super::Phase;
use crate::access::AccessError;
use crate::keyring::KeyringError;
use crate::types::{KekName, KeypairId, Sha256};

/// Why an act is refused.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// Not a statement of its kind.
    #[error("the statement is refused: {0}")]
    Statement(#[from] StatementError),
    /// Not a signature by one of those who may sign this.
    #[error("the signature is refused: {0}")]
    Signature(#[from] SignatureError),
    /// Signed by another officer than the statement names.
    #[error("the statement names {expected:?}; it was signed by {found:?}: sign what names you")]
    SignedByAnother {
        /// Who is named.
        expected: String,
        /// Who signed.
        found: String,
    },
    /// For another instance.
    #[error("the statement is for the instance {found}; this is {expected}")]
    InstanceWrong {
        /// This instance.
        expected: Sha256,
        /// The one in the statement.
        found: Sha256,
    },
    /// Of another epoch.
    #[error(
        "the statement belongs to quorum epoch {found}; officers or policy have changed since, this \
         is epoch {expected}: draft it again"
    )]
    EpochWrong {
        /// The current epoch.
        expected: u64,
        /// The one in the statement.
        found: u64,
    },
    /// Built on a ledger this one never was.
    #[error(
        "the statement was built on a ledger of {size} entries with another root: it is of another \
         history"
    )]
    HeadUnknown {
        /// The size in the statement.
        size: u64,
    },
    /// Put forward before.
    #[error("the proposal {0} is in the ledger already")]
    ProposalKnown(ProposalId),
    /// Never put forward.
    #[error("the ledger has no proposal {0}")]
    ProposalUnknown(ProposalId),
    /// The policy forbids it.
    #[error("the policy does not allow {operation}: change the policy first")]
    NotAllowed {
        /// The kind of operation.
        operation: &'static str,
    },
    /// The statement's rules are not the policy's.
    #[error(
        "the policy says {what} {expected} for {operation}; the statement says {found}: draft it again"
    )]
    RuleDiffers {
        /// The kind of operation.
        operation: &'static str,
        /// Which rule.
        what: &'static str,
        /// What the policy says.
        expected: String,
        /// What the statement says.
        found: String,
    },
    /// A time that does not fit.
    #[error("{what}: expected {expected}; found {found}")]
    Time {
        /// Which time.
        what: &'static str,
        /// The rule.
        expected: String,
        /// What was found.
        found: String,
    },
    /// Too many open.
    #[error("{officer} has {found} open proposals, and may have {max}: execute or veto one first")]
    TooManyOpen {
        /// The officer.
        officer: String,
        /// How many are open.
        found: usize,
        /// How many may be.
        max: usize,
    },
    /// Too many in a day.
    #[error("{officer} has opened {found} proposals in 24 hours, and may open {max}")]
    TooManyInADay {
        /// The officer.
        officer: String,
        /// How many were opened.
        found: usize,
        /// How many may be.
        max: usize,
    },
    /// The proposal stands elsewhere.
    #[error("the proposal is {found}; {act} needs one that is {expected}")]
    PhaseWrong {
        /// What was tried.
        act: &'static str,
        /// Where it must stand.
        expected: &'static str,
        /// Where it stands.
        found: Phase,
    },
    /// Counted once already.
    #[error("{officer} has signed this already")]
    SignedTwice {
        /// The officer.
        officer: String,
    },
    /// One's own proposal.
    #[error("{officer} put this forward, and the policy does not count a proposer's own approval")]
    OwnProposal {
        /// The officer.
        officer: String,
    },
    /// Too few who still are officers approve.
    #[error("expected approvals of {expected} officers; found those of {}: {}", .found.len(), .found.join(", "))]
    BelowThreshold {
        /// How many must approve.
        expected: usize,
        /// Who does.
        found: Vec<String>,
    },
    /// New officers have not shown that they hold their keys.
    #[error(
        "these new officers have not proved that they hold their keys: {}: each signs the statement \
         with -n possession@kekd", .missing.join(", ")
    )]
    PossessionMissing {
        /// Their names.
        missing: Vec<String>,
    },
    /// Nothing to prove.
    #[error("the proposal makes nobody a new officer who has that key")]
    NothingToProve,
    /// The officers would not fit the policy, or the policy the officers.
    #[error("{0}")]
    Policy(#[from] PolicyError),
    /// Nobody could decide on something any more that can be decided on now.
    #[error(
        "{operation} would be out of reach: it takes {needed} of {approvers}, the proposer among them, \
         and there would be {found}: name more officers, lower its threshold, or do not allow it"
    )]
    LocksOut {
        /// The kind of operation.
        operation: &'static str,
        /// Who approves it.
        approvers: Approvers,
        /// How many it takes to propose and approve it.
        needed: usize,
        /// How many there would be.
        found: usize,
    },
    /// The keys do not allow it.
    #[error("{0}")]
    Keyring(#[from] KeyringError),
    /// The clients do not allow it.
    #[error("{0}")]
    Access(#[from] AccessError),
    /// A KEK of this name exists or is being made.
    #[error("a KEK {0} exists already, or is being made")]
    KekExists(KekName),
    /// The statement retires another version than the active one.
    #[error("the active version of {kek} is {}; the statement retires {}: draft it again", shown(*.expected), shown(*.found))]
    ActiveDiffers {
        /// The KEK.
        kek: KekName,
        /// The active version.
        expected: Option<KeypairId>,
        /// The one in the statement.
        found: Option<KeypairId>,
    },
    /// Something under way stands in the way.
    #[error("{what} is under way for {kek}: wait until it ends")]
    UnderWay {
        /// What it is.
        what: &'static str,
        /// What it concerns.
        kek: String,
    },
    /// There is nothing of the kind to change.
    #[error("{what}: there is none")]
    Nothing {
        /// What would have been changed.
        what: String,
    },
    /// A stop that the proposal to lift it did not see.
    #[error(
        "entry {newest} stopped it again; the proposal was built on {size} entries and lifts what \
         these stopped: draft it again"
    )]
    StoppedSince {
        /// Number of entries the proposal was built on.
        size: u64,
        /// The index of the entry that stopped it.
        newest: u64,
    },
    /// It is so already.
    #[error("{what} is so already")]
    SoAlready {
        /// What would have been changed.
        what: String,
    },
    /// The act takes another kind of entry.
    #[error("{operation} is executed {expected}")]
    WrongEntry {
        /// The kind of operation.
        operation: &'static str,
        /// How.
        expected: &'static str,
    },
    /// The execution's facts are not the proposal's.
    #[error("the execution's {what} is not the proposal's: draft it again")]
    FactDiffers {
        /// Which fact.
        what: &'static str,
    },
    /// An entry that nothing begun asks for.
    #[error("nothing that was begun asks for the key pair {0}")]
    NotBegun(KeypairId),
    /// The key pair id is in use.
    #[error("the key pair id {0} is in use")]
    IdInUse(KeypairId),
    /// What was made is not what was approved.
    #[error("{what}: expected {expected}, as approved; found {found}")]
    NotAsApproved {
        /// Which fact.
        what: &'static str,
        /// What was approved.
        expected: String,
        /// What was made.
        found: String,
    },
}

fn shown(id: Option<KeypairId>) -> String {
    id.map_or_else(|| "none".to_owned(), |id| id.to_string())
}
