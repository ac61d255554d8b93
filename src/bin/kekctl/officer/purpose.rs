//! What an officer's signature is for. The SSHSIG namespace says it, so that a signature for one
//! purpose is worth nothing for another.

use clap::ValueEnum;
use kekd::quorum::{
    APPROVAL_NAMESPACE, EXECUTION_NAMESPACE, POSSESSION_NAMESPACE, PROPOSAL_NAMESPACE,
    SUSPENSION_NAMESPACE, VETO_NAMESPACE,
};
use serde::{Deserialize, Serialize};

/// What a signature is for. (No doc comments below: clap would show them as help of values.)
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Purpose {
    Propose,
    Approve,
    Possession,
    Veto,
    Execute,
    Suspend,
}

impl Purpose {
    /// The SSHSIG namespace.
    pub const fn namespace(self) -> &'static str {
        match self {
            Self::Propose => PROPOSAL_NAMESPACE,
            Self::Approve => APPROVAL_NAMESPACE,
            Self::Possession => POSSESSION_NAMESPACE,
            Self::Veto => VETO_NAMESPACE,
            Self::Execute => EXECUTION_NAMESPACE,
            Self::Suspend => SUSPENSION_NAMESPACE,
        }
    }

    /// What the signature will do, for people.
    pub const fn deed(self) -> &'static str {
        match self {
            Self::Propose => "put this forward",
            Self::Approve => "APPROVE this proposal",
            Self::Possession => "prove that you hold a key this proposal names",
            Self::Veto => "VETO this proposal, which closes it",
            Self::Execute => "EXECUTE this proposal",
            Self::Suspend => "STOP this, until a quorum lifts it",
        }
    }
}
