//! `kekctl propose reinstate`, `revoke-version`, `allow-pkcs1v15` and `forbid-pkcs1v15`: what may be
//! unwrapped, and what may not any more.

use clap::{ArgGroup, Args};
use kekd::quorum::{Operation, Target};
use kekd::types::{KekName, KeypairId};

/// Lift every stop of a KEK, or the stop of all
#[derive(Debug, Args)]
#[command(group(ArgGroup::new("what").required(true).args(["kek", "all"])))]
#[command(after_help = "\
Examples:
  kekctl propose reinstate --kek recordings
  kekctl propose reinstate --all")]
pub struct Reinstate {
    /// The KEK
    #[arg(long, value_name = "NAME")]
    kek: Option<KekName>,
    /// The stop of all; stops of single KEKs stay
    #[arg(long)]
    all: bool,
}

/// Stop a version for good: its key is compromised
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  kekctl propose revoke-version --keypair-id $KEKD_KEYPAIR_ID --reason 'token lost in transit'")]
pub struct RevokeVersion {
    /// The version
    #[arg(long, value_name = "KEYPAIR_ID")]
    keypair_id: KeypairId,
    /// Why, in one line of at most 200 printable ASCII characters
    #[arg(long, value_name = "TEXT")]
    reason: String,
}

/// Unwrap PKCS#1 v1.5 under a KEK, as far as the profiles of its versions allow it
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  kekctl propose allow-pkcs1v15 --kek legacy")]
pub struct AllowPkcs1V15 {
    /// The KEK
    #[arg(long, value_name = "NAME")]
    kek: KekName,
}

/// Unwrap no PKCS#1 v1.5 under a KEK
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  kekctl propose forbid-pkcs1v15 --kek legacy")]
pub struct ForbidPkcs1V15 {
    /// The KEK
    #[arg(long, value_name = "NAME")]
    kek: KekName,
}

impl Reinstate {
    pub fn operation(self) -> Operation {
        // One of the two is there: the command line asks for it.
        Operation::Reinstate(self.kek.map_or(Target::All, Target::Kek))
    }
}

impl RevokeVersion {
    pub fn operation(self) -> Operation {
        Operation::RevokeVersion {
            keypair_id: self.keypair_id,
            reason: self.reason,
        }
    }
}

impl AllowPkcs1V15 {
    pub fn operation(self) -> Operation {
        Operation::AllowPkcs1V15 { kek: self.kek }
    }
}

impl ForbidPkcs1V15 {
    pub fn operation(self) -> Operation {
        Operation::ForbidPkcs1V15 { kek: self.kek }
    }
}
