//! A proposal as kekctl shows it: what its statement says, read here, beside what kekd says of it.
//! The JSON form is an interface: fields are added, never renamed.

use std::fmt;

use kekd::clock::UnixMs;
use kekd::proto::v1;
use kekd::proto::v1::ProposalPhase;
use serde::Serialize;

use super::facts::short_id;
use super::find::Found;

/// One proposal.
#[derive(Debug, Serialize)]
pub struct ProposalView {
    /// SHA-256 over the statement, computed here.
    pub proposal_id: String,
    pub operation: &'static str,
    pub effect: String,
    pub phase: &'static str,
    pub proposer: String,
    pub opened_at: String,
    pub expires_at: String,
    pub approvals: Vec<String>,
    pub threshold: u32,
    /// Null before the threshold is met.
    pub executable_at: Option<String>,
    pub possession_missing: Vec<String>,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub closed_because: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub closed_by: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub keypair_id: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub waits_for: String,
}

impl From<&Found> for ProposalView {
    fn from(found: &Found) -> Self {
        let Found { said, proposal } = found;
        let executable_at = Some(said.executable_at_ms).filter(|ms| *ms != 0);
        Self {
            proposal_id: proposal.id.to_string(),
            operation: proposal.operation.kind().name(),
            effect: proposal.operation.effect(),
            phase: phase_name(said.phase),
            proposer: proposal.proposer.clone(),
            opened_at: proposal.opened_at.rfc3339(),
            expires_at: proposal.expires_at.rfc3339(),
            approvals: said.approvals.clone(),
            threshold: said.threshold,
            executable_at: executable_at.map(|ms| UnixMs(ms).rfc3339()),
            possession_missing: said.possession_missing.clone(),
            closed_because: said.closed_because.clone(),
            closed_by: said.closed_by.clone(),
            keypair_id: said.keypair_id.clone(),
            waits_for: said.waits_for.clone(),
        }
    }
}

impl ProposalView {
    /// Reads what kekd answered and shows it.
    pub fn read(said: v1::Proposal) -> anyhow::Result<Self> {
        Ok(Self::from(&Found::read(said)?))
    }

    /// `alice, bob (2 of 2)`.
    pub fn approvals(&self) -> String {
        approvals(&self.approvals, self.threshold)
    }
}

impl fmt::Display for ProposalView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let short = short_id(&self.proposal_id);
        writeln!(f, "proposal {short} ({}): {}", self.phase, self.operation)?;
        writeln!(f, "  {}", self.effect)?;
        let mut line = |name: &str, value: &str| match value.is_empty() {
            true => Ok(()),
            false => writeln!(f, "  {name:<20}  {value}"),
        };
        line("id", &self.proposal_id)?;
        line("proposer", &self.proposer)?;
        line("opened", &self.opened_at)?;
        line("expires", &self.expires_at)?;
        line("approvals", &self.approvals())?;
        let executable_at = self.executable_at.as_deref();
        line("may be executed from", executable_at.unwrap_or_default())?;
        line("possession missing", &self.possession_missing.join(", "))?;
        line("closed because", &self.closed_because)?;
        line("closed by", &self.closed_by)?;
        line("keypair id", &self.keypair_id)?;
        line("waits", &self.waits_for)
    }
}

/// Whose approvals count, and how many there must be.
pub fn approvals(names: &[String], threshold: u32) -> String {
    let who = match names.is_empty() {
        true => "none".to_owned(),
        false => names.join(", "),
    };
    format!("{who} ({} of {threshold})", names.len())
}

/// The word for a phase; `unknown` for one that a newer kekd may send.
pub fn phase_name(number: i32) -> &'static str {
    match ProposalPhase::try_from(number) {
        Ok(ProposalPhase::Open) => "open",
        Ok(ProposalPhase::TimeLocked) => "time-locked",
        Ok(ProposalPhase::Executable) => "executable",
        Ok(ProposalPhase::Executing) => "executing",
        Ok(ProposalPhase::Executed) => "executed",
        Ok(ProposalPhase::Vetoed) => "vetoed",
        Ok(ProposalPhase::Expired) => "expired",
        Ok(ProposalPhase::Cancelled) => "cancelled",
        Ok(ProposalPhase::Failed) => "failed",
        Ok(ProposalPhase::Unspecified) | Err(_) => "unknown",
    }
}
