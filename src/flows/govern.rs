//! The acts of officers: each is judged and written by the pen, and what it stops is stopped before
//! the answer. Signatures are verified where the entry is judged, in `quorum`; whoever calls is only
//! the carrier.

use std::sync::Arc;

use tracing::{error, info};

use super::Node;
use super::import::TransportKey;
use super::pen::{PenError, Timing};
use super::time::ClockSuspect;
use crate::clock::UnixMs;
use crate::hsm::HsmError;
use crate::ledger::{Event, LedgerError, State};
use crate::proto::v1;
use crate::quorum::{Execution, Operation, Phase, ProposalId, Refusal, Standing, Usage};
use crate::types::KeypairId;

/// Why an act was not taken, or did not take effect.
#[derive(Debug, thiserror::Error)]
pub enum GovernError {
    /// The act does not stand; the officer can mend it.
    #[error(transparent)]
    Refused(Box<Refusal>),
    /// The clock is not believed.
    #[error(transparent)]
    Clock(#[from] ClockSuspect),
    /// What would be made cannot be made here; nothing was begun.
    #[error("{0}")]
    NotPossible(String),
    /// A version was used too recently to be destroyed, or its use was understated.
    #[error(
        "{keypair_id} released {unwraps} DEKs, the first at {first}, the last at {last}; the \
         proposal says {stated}, and asks for {unused_days} days without use"
    )]
    StillUsed {
        /// The version.
        keypair_id: KeypairId,
        /// DEKs released, by this node's audit log.
        unwraps: u64,
        /// The first release, RFC 3339, or "never".
        first: String,
        /// The latest.
        last: String,
        /// What the proposal says.
        stated: String,
        /// Days without use that the proposal asks for.
        unused_days: u32,
    },
    /// A key or its transport key is asked for where no import waits for one.
    #[error(
        "proposal {id} is {found}: a key is delivered, and its transport key fetched, after an \
         import-kek was executed and until it ends (executing)"
    )]
    NoImport {
        /// The proposal.
        id: ProposalId,
        /// Where it stands.
        found: Phase,
    },
    /// What was delivered is not the key that was approved, wrapped as it must be.
    #[error("what was delivered is refused and the import still waits: {0}")]
    NotDelivered(String),
    /// It began, and ended without effect; the ledger says so.
    #[error("the execution began and ended without effect: {0}")]
    Failed(String),
    /// The HSM cannot sign or work now.
    #[error("the HSM is not available")]
    HsmUnavailable,
    /// The ledger takes no entry now.
    #[error("the ledger takes no entry now: {0}")]
    LedgerUnavailable(String),
    /// A stop holds, but only until kekd ends: neither ledger nor marker could be written.
    #[error("the stop holds in memory only, and will not survive a restart: {0}")]
    StopNotDurable(String),
    /// A bug, or the node stops.
    #[error("kekd cannot take this act")]
    Internal,
}

/// What an execution came to.
pub struct Executed {
    /// The proposal.
    pub standing: Arc<Standing>,
    /// For an import: the transport key.
    pub transport: Option<TransportKey>,
}

impl GovernError {
    /// Whether what was begun has ended, and the ledger says so; the error where it has not.
    pub(super) fn recorded(self) -> Result<(), Self> {
        if let Self::Failed(_) = self {
            return Ok(());
        }
        Err(self)
    }
}

impl From<Refusal> for GovernError {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(Box::new(refusal))
    }
}

impl From<PenError> for GovernError {
    fn from(error: PenError) -> Self {
        match error {
            PenError::Refused(refusal) => Self::Refused(refusal),
            PenError::Clock(suspect) => Self::Clock(suspect),
            PenError::Hsm(why) => why.into(),
            PenError::Ledger(why @ LedgerError::EntryRefused { .. }) => {
                Self::NotPossible(why.to_string())
            }
            PenError::Foreign(why) => Self::LedgerUnavailable(why),
            PenError::Ledger(why) => Self::LedgerUnavailable(why.to_string()),
            PenError::Fatal => Self::Internal,
        }
    }
}

impl From<HsmError> for GovernError {
    fn from(why: HsmError) -> Self {
        error!(%why, "the HSM did not do its part of an officer's act");
        Self::HsmUnavailable
    }
}

impl Node {
    /// Puts an operation forward: `statement` and the proposer's signature over it.
    pub async fn propose(
        self: &Arc<Self>,
        statement: Vec<u8>,
        signature: Vec<u8>,
    ) -> Result<Arc<Standing>, GovernError> {
        let id = ProposalId(crate::types::Sha256::of(&statement));
        let proposal = crate::quorum::Proposal::parse(&statement).map_err(Refusal::from)?;
        // Of what is not allowed it is said that it is not, before anything else of it.
        if self
            .snapshot()
            .governance()
            .rule(proposal.operation.kind())
            .allowed
        {
            self.is_possible(&proposal.operation)?;
        }
        let timing = Timing::Stated(proposal.opened_at);
        let event = Event::ProposalOpened(v1::ProposalOpened {
            statement,
            signature,
        });
        self.write(event, id, timing).await
    }

    /// Approves a proposal.
    pub async fn approve(
        self: &Arc<Self>,
        id: ProposalId,
        signature: Vec<u8>,
    ) -> Result<Arc<Standing>, GovernError> {
        let proposal_id = id.0.as_bytes().to_vec();
        let event = Event::ApprovalGiven(v1::ApprovalGiven {
            proposal_id,
            signature,
        });
        // What a destruction's statement says of the use must be true for whoever signs it now.
        if let Ok(standing) = self.standing(id)
            && let operation @ Operation::DestroyVersion { .. } = &standing.proposal.operation
        {
            self.is_possible(operation)?;
        }
        let standing = self.write(event, id, Timing::OwnAccord).await?;
        // The threshold may have been met, and with it a version to be destroyed is stopped.
        self.drain_for(&standing.proposal.operation).await;
        Ok(standing)
    }

    /// Proves that a new officer holds the key a proposal names.
    pub async fn prove_possession(
        self: &Arc<Self>,
        id: ProposalId,
        signature: Vec<u8>,
    ) -> Result<Arc<Standing>, GovernError> {
        let proposal_id = id.0.as_bytes().to_vec();
        let event = Event::PossessionProven(v1::PossessionProven {
            proposal_id,
            signature,
        });
        self.write(event, id, Timing::OwnAccord).await
    }

    /// Closes a proposal. As a stop, it is taken whatever the clock says. An execution that waits for
    /// tokens ends by it, too.
    pub async fn veto(
        self: &Arc<Self>,
        id: ProposalId,
        signature: Vec<u8>,
    ) -> Result<Arc<Standing>, GovernError> {
        let standing = self.standing(id)?;
        if let Some(keypair_id) = standing.keypair_id
            && self.waits_for(keypair_id).is_some()
        {
            let node = Arc::clone(self);
            return run(async move { node.end_waiting(id, keypair_id, &signature).await }).await;
        }
        let proposal_id = id.0.as_bytes().to_vec();
        let event = Event::ProposalVetoed(v1::ProposalVetoed {
            proposal_id,
            signature,
        });
        self.write(event, id, Timing::Regardless).await
    }

    /// Executes an approved proposal. What makes or destroys a key is begun, done and ended before
    /// this returns, whether or not anybody still waits for the answer.
    pub async fn execute(
        self: &Arc<Self>,
        statement: Vec<u8>,
        signature: Vec<u8>,
    ) -> Result<Executed, GovernError> {
        let order = Execution::parse(&statement).map_err(Refusal::from)?;
        let id = order.proposal;
        let standing = self.standing(id)?;
        let operation = standing.proposal.operation.clone();
        let timing = Timing::Stated(order.at);
        if operation.kind().needs_hsm() {
            let node = Arc::clone(self);
            return run(async move {
                node.execute_in_hsm(&operation, statement, signature, id, timing)
                    .await
            })
            .await;
        }
        let event = Event::OperationExecuted(v1::OperationExecuted {
            statement,
            signature,
        });
        let standing = self.write(event, id, timing).await?;
        self.drain_for(&operation).await;
        info!(proposal = %id, kind = operation.kind().name(), "executed");
        Ok(Executed {
            standing,
            transport: None,
        })
    }

    /// One proposal.
    pub fn standing(&self, id: ProposalId) -> Result<Arc<Standing>, GovernError> {
        let state = self.snapshot();
        let found = state.governance().proposal(id).cloned();
        found.ok_or_else(|| Refusal::ProposalUnknown(id).into())
    }

    /// The state as the ledger tells it, and the node's clock.
    pub fn governed(&self) -> (Arc<State>, UnixMs) {
        (self.snapshot(), self.time.now())
    }

    /// The time to judge by where things stand, for those who look: the node's clock, or with one
    /// that is not believed what it should say.
    pub fn likely_time(&self) -> UnixMs {
        self.time.likeliest(self.snapshot().latest())
    }

    /// What an operator or officer should know of governance, one sentence each.
    pub fn governance_warnings(&self) -> Vec<String> {
        let state = self.snapshot();
        let mut warnings = self.rotations_ahead(self.likely_time());
        warnings.extend(self.clock_suspect());
        warnings.extend(state.governance().out_of_reach());
        warnings
    }

    /// Why the node's clock is not believed, or not for what the node does of its own accord.
    pub(super) fn clock_suspect(&self) -> Option<String> {
        let suspect = self.time.confirmed(self.snapshot().latest()).err();
        suspect.map(|suspect| suspect.to_string())
    }

    /// The key profiles this node knows, by name, with SHA-256 over their bytes.
    pub fn profiles(&self) -> Vec<(String, crate::types::Sha256)> {
        super::profiles::known(self.profiles_dir.as_deref())
    }

    /// Writes an entry that concerns a proposal, as a task of its own: a caller that hangs up does
    /// not take it along.
    async fn write(
        self: &Arc<Self>,
        event: Event,
        id: ProposalId,
        timing: Timing,
    ) -> Result<Arc<Standing>, GovernError> {
        let node = Arc::clone(self);
        run(async move {
            let state = node.append(event, timing).await?;
            let standing = state.governance().proposal(id).cloned();
            standing.ok_or(GovernError::Internal)
        })
        .await
    }

    /// Whether this node could do what an operation asks of it, so that officers do not approve what
    /// is bound to fail.
    pub(super) fn is_possible(&self, operation: &Operation) -> Result<(), GovernError> {
        match operation {
            Operation::CreateKek(version) | Operation::RotateKek { version, .. } => {
                self.plan_profile(version)?;
                Ok(())
            }
            Operation::ImportKek { version, .. } => {
                self.import_profile(version)?;
                Ok(())
            }
            Operation::SetRotationMandate(mandate) => {
                self.plan_profile(&mandate.version)?;
                Ok(())
            }
            Operation::DestroyVersion {
                keypair_id,
                unused_days,
                usage,
            } => self.is_unused(*keypair_id, *unused_days, *usage),
            Operation::WithdrawRotationMandate { .. }
            | Operation::Reinstate(_)
            | Operation::RevokeVersion { .. }
            | Operation::CancelDestruction { .. }
            | Operation::AllowPkcs1V15 { .. }
            | Operation::ForbidPkcs1V15 { .. }
            | Operation::GrantUnwrap { .. }
            | Operation::WithdrawUnwrap { .. }
            | Operation::AssignRole { .. }
            | Operation::RemoveClient { .. }
            | Operation::BindRecordingPolicy { .. }
            | Operation::UnbindRecordingPolicy { .. }
            | Operation::ChangeOfficers { .. }
            | Operation::ChangePolicy(_)
            | Operation::Recover { .. } => Ok(()),
        }
    }

    /// Whether the audit log of this node bears out that a version is out of use, and what the
    /// proposal says of its use. A statement has whole seconds.
    fn is_unused(
        &self,
        keypair_id: KeypairId,
        unused_days: u32,
        stated: Usage,
    ) -> Result<(), GovernError> {
        let used = self.journal.usage(&keypair_id);
        let days_ms = u64::from(unused_days).saturating_mul(24 * 3600 * 1000);
        let is_recent = used
            .last
            .is_some_and(|last| last.0.saturating_add(days_ms) > self.likely_time().0);
        let second = |at: Option<UnixMs>| at.map(|at| at.0 / 1000);
        let is_true = used.released == stated.unwraps
            && second(used.first) == second(stated.first)
            && second(used.last) == second(stated.last);
        if is_true && !is_recent {
            return Ok(());
        }
        let shown = |at: Option<UnixMs>| at.map_or_else(|| "never".to_owned(), UnixMs::rfc3339);
        let (first, last) = (shown(stated.first), shown(stated.last));
        Err(GovernError::StillUsed {
            keypair_id,
            unwraps: used.released,
            first: shown(used.first),
            last: shown(used.last),
            stated: format!(
                "{} DEKs, the first at {first}, the last at {last}",
                stated.unwraps
            ),
            unused_days,
        })
    }

    /// Waits until nothing is under way that an operation, which the ledger has, forbids.
    async fn drain_for(&self, operation: &Operation) {
        let state = self.snapshot();
        let kek_of = |id: KeypairId| {
            let version = state.keyring().version(id);
            version.map(|version| version.kek.clone()).ok()
        };
        let kek = if let Operation::RevokeVersion { keypair_id, .. }
        | Operation::DestroyVersion { keypair_id, .. } = operation
        {
            kek_of(*keypair_id)
        } else if let Operation::ForbidPkcs1V15 { kek } | Operation::WithdrawUnwrap { kek, .. } =
            operation
        {
            Some(kek.clone())
        } else if let Operation::RemoveClient { .. } = operation {
            // Of whatever KEK: the client held any number of grants.
            None
        } else {
            return;
        };
        self.drained(kek.as_ref()).await;
    }
}

/// Runs an act as a task of its own.
pub(super) async fn run<T: Send + 'static>(
    act: impl Future<Output = Result<T, GovernError>> + Send + 'static,
) -> Result<T, GovernError> {
    tokio::spawn(act).await.unwrap_or_else(|panic| {
        error!(%panic, "an officer's act panicked");
        Err(GovernError::Internal)
    })
}
