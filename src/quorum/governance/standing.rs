//! Where one proposal stands.

use std::fmt;
use std::sync::Arc;

use super::super::proposal::Proposal;
use crate::clock::UnixMs;
use crate::types::KeypairId;

/// The life of a proposal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Gathers approvals.
    Open,
    /// Has its approvals; the time-lock runs.
    TimeLocked,
    /// May be executed.
    Executable,
    /// Its execution has begun.
    Executing,
    /// Took effect.
    Executed,
    /// Closed by an officer.
    Vetoed,
    /// Closed by time.
    Expired,
    /// Closed because officers or policy changed, or by an operation.
    Cancelled,
    /// Began and ended without effect.
    Failed,
}

impl Phase {
    /// The name used in output.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::TimeLocked => "time-locked",
            Self::Executable => "executable",
            Self::Executing => "executing",
            Self::Executed => "executed",
            Self::Vetoed => "vetoed",
            Self::Expired => "expired",
            Self::Cancelled => "cancelled",
            Self::Failed => "failed",
        }
    }

    /// Whether approvals and vetoes are still taken.
    pub const fn is_open(self) -> bool {
        match self {
            Self::Open | Self::TimeLocked | Self::Executable => true,
            Self::Executing
            | Self::Executed
            | Self::Vetoed
            | Self::Expired
            | Self::Cancelled
            | Self::Failed => false,
        }
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// How a proposal ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Closure {
    /// One of the phases that end it.
    pub phase: Phase,
    /// The officer who closed or executed it; empty where nobody did.
    pub by: String,
    /// Why, for people; may be empty.
    pub because: String,
    /// The time of the entry that did.
    pub at: UnixMs,
}

/// A proposal and what was done with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// The proposal.
    pub proposal: Arc<Proposal>,
    /// The time of the entry that opened it.
    pub entered_at: UnixMs,
    /// Who approved, in order.
    pub approvals: Vec<String>,
    /// New officers who proved that they hold their keys.
    pub proven: Vec<String>,
    /// When the threshold was met.
    pub met_at: Option<UnixMs>,
    /// The key pair that its execution makes or destroys.
    pub keypair_id: Option<KeypairId>,
    /// Who ordered the execution.
    pub executed_by: Option<String>,
    /// How it ended.
    pub closed: Option<Closure>,
}

impl Standing {
    /// When the time-lock ends, where the threshold was met.
    pub fn executable_at(&self) -> Option<UnixMs> {
        let lock = u64::try_from(self.proposal.time_lock.as_millis()).unwrap_or(u64::MAX);
        self.met_at.map(|met| UnixMs(met.0.saturating_add(lock)))
    }

    /// Where it stands at this time.
    pub fn phase(&self, now: UnixMs) -> Phase {
        if let Some(closure) = &self.closed {
            return closure.phase;
        }
        if self.executed_by.is_some() {
            return Phase::Executing;
        }
        if now >= self.proposal.expires_at {
            return Phase::Expired;
        }
        match self.executable_at() {
            None => Phase::Open,
            Some(at) if now < at => Phase::TimeLocked,
            Some(_) => Phase::Executable,
        }
    }
}
