//! `kekctl propose grant-unwrap`, `withdraw-unwrap`, `assign-role` and `remove-client`: who may call.

use clap::Args;
use kekd::access::{Identity, Role};
use kekd::quorum::Operation;
use kekd::types::KekName;

/// Let a client unwrap under a KEK
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  kekctl propose grant-unwrap --identity spiffe://example.org/lkm-3 --kek recordings")]
pub struct GrantUnwrap {
    /// The client: uid:N, or the URI in its certificate
    #[arg(long, value_name = "IDENTITY")]
    identity: Identity,
    /// The KEK
    #[arg(long, value_name = "NAME")]
    kek: KekName,
}

/// Take a client's right to unwrap under a KEK back
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  kekctl propose withdraw-unwrap --identity spiffe://example.org/lkm-3 --kek recordings")]
pub struct WithdrawUnwrap {
    /// The client: uid:N, or the URI in its certificate
    #[arg(long, value_name = "IDENTITY")]
    identity: Identity,
    /// The KEK
    #[arg(long, value_name = "NAME")]
    kek: KekName,
}

/// Name a client for a role
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  kekctl propose assign-role --identity spiffe://example.org/audit-2 --role auditor")]
pub struct AssignRole {
    /// The client: uid:N, or the URI in its certificate
    #[arg(long, value_name = "IDENTITY")]
    identity: Identity,
    /// The role: unwrap-client, officer, operator or auditor
    #[arg(long, value_name = "ROLE")]
    role: Role,
}

/// Name a client no more: it may not call from then on
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  kekctl propose remove-client --identity spiffe://example.org/lkm-3")]
pub struct RemoveClient {
    /// The client: uid:N, or the URI in its certificate
    #[arg(long, value_name = "IDENTITY")]
    identity: Identity,
}

impl GrantUnwrap {
    pub fn operation(self) -> Operation {
        Operation::GrantUnwrap {
            identity: self.identity,
            kek: self.kek,
        }
    }
}

impl WithdrawUnwrap {
    pub fn operation(self) -> Operation {
        Operation::WithdrawUnwrap {
            identity: self.identity,
            kek: self.kek,
        }
    }
}

impl AssignRole {
    pub fn operation(self) -> Operation {
        Operation::AssignRole {
            identity: self.identity,
            role: self.role,
        }
    }
}

impl RemoveClient {
    pub fn operation(self) -> Operation {
        Operation::RemoveClient {
            identity: self.identity,
        }
    }
}
