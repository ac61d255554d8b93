//! Who must agree before a key's life changes. Pure: no async, files, clock, randomness or logging.

mod authorized;
mod document;
mod genesis;
mod governance;
mod lines;
mod officer;
mod officer_text;
mod operation;
mod operation_effect;
mod operation_text;
mod orders;
mod policy;
mod policy_text;
mod proposal;
mod rules;
#[cfg(test)]
mod ssh_keygen;
mod sshsig;
mod statement;

pub use authorized::{
    Authorized, DestroyVersion, ImportVersion, Initialise, MakeVersion, MakesKeys,
};
pub use genesis::{
    GENESIS_LEN_MAX, GENESIS_NAMESPACE, Genesis, GenesisError, GenesisKek, Issuer, Recovery,
};
pub use governance::{
    Begun, Closure, Effect, Governance, MandateInForce, Pending, Phase, RecordingPolicy, Refusal,
    Standing, StopRecord, World,
};
pub use officer::{KeyError, OFFICERS_MAX, Officer, OfficerKey, OfficerRole};
pub use operation::{Approvers, Mandate, NewVersion, Operation, OperationKind, Target, Usage};
pub use orders::{Execution, Suspension};
pub use policy::{Policy, PolicyError, Rule};
pub use proposal::{Proposal, ProposalDraft, ProposalId};
pub use sshsig::{SIGNATURE_LEN_MAX, SignatureError};
pub use statement::{
    APPROVAL_NAMESPACE, EXECUTION_NAMESPACE, POSSESSION_NAMESPACE, PROPOSAL_NAMESPACE,
    STATEMENT_LEN_MAX, SUSPENSION_NAMESPACE, StatementError, VETO_NAMESPACE,
};
