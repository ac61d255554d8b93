//! What one officer orders: the execution of a proposal, and a suspension. Each is a text of one
//! form, kept as the exact bytes that were signed. Whether the order is obeyed is `governance`'s
//! concern.

use super::lines::{Reader, hex, same, whole_seconds, written};
use super::operation::{OperationKind, Target};
use super::proposal::{Proposal, ProposalId, officer_name};
use super::statement::StatementError;
use crate::clock::UnixMs;
use crate::types::Sha256;

/// The first line of an execution.
const EXECUTION_TITLE: &str = "kekd execution v1";
/// The first line of a suspension.
const SUSPENSION_TITLE: &str = "kekd suspension v1";

/// The order to execute a proposal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Execution {
    pub(super) text: Vec<u8>,
    /// The instance.
    pub instance_id: Sha256,
    /// The proposal.
    pub proposal: ProposalId,
    /// The kind of operation the officer saw. Whoever has the proposal compares it.
    pub kind: OperationKind,
    /// The effect the officer saw. Whoever has the proposal compares it.
    pub effect: String,
    /// The name of the officer who orders it.
    pub officer: String,
    /// The officer's time, whole seconds.
    pub at: UnixMs,
}

/// A stop by one officer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Suspension {
    pub(super) text: Vec<u8>,
    /// The instance.
    pub instance_id: Sha256,
    /// What is stopped.
    pub target: Target,
    /// The name of the officer who stops it.
    pub officer: String,
    /// 16 random bytes: a stop that a quorum lifted is not made again by its old statement.
    pub nonce: [u8; 16],
    /// The officer's time, whole seconds.
    pub at: UnixMs,
}

impl Execution {
    /// Puts an execution together and reads it back. `at` is cut to whole seconds.
    pub fn draft(proposal: &Proposal, officer: &str, at: UnixMs) -> Result<Self, StatementError> {
        let mut execution = Self {
            text: Vec::new(),
            instance_id: proposal.instance_id,
            proposal: proposal.id,
            kind: proposal.operation.kind(),
            effect: proposal.operation.effect(),
            officer: officer.to_owned(),
            at: whole_seconds(at),
        };
        execution.text = written(EXECUTION_TITLE, &execution.lines());
        let read = Self::parse(&execution.text)?;
        if read != execution {
            return Err(StatementError::Unwritable { what: "execution" });
        }
        Ok(read)
    }

    /// Reads a statement. Nothing but the one text of an execution is accepted; its effect is any
    /// sentence, see [`Execution::is_of`].
    pub fn parse(bytes: &[u8]) -> Result<Self, StatementError> {
        let mut reader = Reader::statement(bytes, EXECUTION_TITLE)?;
        let execution = Self {
            text: bytes.to_vec(),
            instance_id: reader.value("instance")?.parse()?,
            proposal: ProposalId(reader.value("proposal")?.parse()?),
            kind: reader.value("operation")?.parse()?,
            effect: reader.value("effect")?.text.to_owned(),
            officer: officer_name(reader.value("officer")?)?,
            at: reader.value("at")?.time()?,
        };
        reader.end()?;
        same(bytes, &written(EXECUTION_TITLE, &execution.lines()))?;
        Ok(execution)
    }

    /// Whether it says of this proposal what this proposal says: id, instance, kind and effect.
    pub fn is_of(&self, proposal: &Proposal) -> bool {
        self.proposal == proposal.id
            && self.instance_id == proposal.instance_id
            && self.kind == proposal.operation.kind()
            && self.effect == proposal.operation.effect()
    }

    /// The statement, byte for byte as it is signed.
    pub fn text(&self) -> &[u8] {
        &self.text
    }

    fn lines(&self) -> Vec<(&'static str, String)> {
        vec![
            ("instance", self.instance_id.to_string()),
            ("proposal", self.proposal.to_string()),
            ("operation", self.kind.to_string()),
            ("effect", self.effect.clone()),
            ("officer", self.officer.clone()),
            ("at", self.at.rfc3339()),
        ]
    }
}

impl Suspension {
    /// Puts a suspension together and reads it back. `nonce` is random; `at` is cut to whole seconds.
    pub fn draft(
        instance_id: Sha256,
        target: Target,
        officer: &str,
        nonce: [u8; 16],
        at: UnixMs,
    ) -> Result<Self, StatementError> {
        let mut suspension = Self {
            text: Vec::new(),
            instance_id,
            target,
            officer: officer.to_owned(),
            nonce,
            at: whole_seconds(at),
        };
        suspension.text = written(SUSPENSION_TITLE, &suspension.lines());
        let read = Self::parse(&suspension.text)?;
        if read != suspension {
            return Err(StatementError::Unwritable { what: "suspension" });
        }
        Ok(read)
    }

    /// Reads a statement. Nothing but the one text of a suspension is accepted.
    pub fn parse(bytes: &[u8]) -> Result<Self, StatementError> {
        let mut reader = Reader::statement(bytes, SUSPENSION_TITLE)?;
        let instance_id = reader.value("instance")?.parse()?;
        let target: Target = reader.value("target")?.parse()?;
        reader
            .value("effect")?
            .equals(&target.suspension_effect())?;
        let suspension = Self {
            text: bytes.to_vec(),
            instance_id,
            target,
            officer: officer_name(reader.value("officer")?)?,
            nonce: reader.value("nonce")?.nonce()?,
            at: reader.value("at")?.time()?,
        };
        reader.end()?;
        same(bytes, &written(SUSPENSION_TITLE, &suspension.lines()))?;
        Ok(suspension)
    }

    /// The statement, byte for byte as it is signed.
    pub fn text(&self) -> &[u8] {
        &self.text
    }

    fn lines(&self) -> Vec<(&'static str, String)> {
        vec![
            ("instance", self.instance_id.to_string()),
            ("target", self.target.to_string()),
            ("effect", self.target.suspension_effect()),
            ("officer", self.officer.clone()),
            ("nonce", hex(&self.nonce)),
            ("at", self.at.rfc3339()),
        ]
    }
}
