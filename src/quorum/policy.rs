//! The policy: how many must agree to what, how long an act waits, and what is not allowed at all.
//! Who decides on what is not policy (see [`OperationKind::approvers`]). Its text form is in
//! `policy_text`.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::time::Duration;

use super::genesis::Recovery;
use super::officer::Officer;
use super::operation::{Approvers, OperationKind};

/// How many may be asked to approve. One would let a single person act alone.
pub(super) const THRESHOLDS: RangeInclusive<usize> = 2..=31;
/// How many proposals of one officer may be open.
pub(super) const OPEN_MAX: RangeInclusive<usize> = 1..=64;
/// The longest life of a proposal.
pub(super) const LIFETIME_MAX: Duration = DAY.saturating_mul(366);
/// The shortest time-lock of a destruction, whatever the policy.
pub(super) const DESTROY_LOCK_MIN: Duration = DAY.saturating_mul(7);
/// How long a recovery waits where the genesis does not say.
pub(super) const RECOVERY_LOCK: Duration = HOUR.saturating_mul(72);

const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = HOUR.saturating_mul(24);
const OPEN_MAX_DEFAULT: usize = 8;

/// The rule for one kind of operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rule {
    /// Distinct officers who must approve: 2 to 31.
    pub threshold: usize,
    /// Between the threshold being met and the first moment of execution, whole seconds.
    pub time_lock: Duration,
    /// Between opening and expiry, whole seconds; more than `time_lock`, at most 366 days.
    pub lifetime: Duration,
    /// Whether it may be proposed at all.
    pub allowed: bool,
}

/// How an instance is governed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// The rule for every kind.
    pub(super) rules: BTreeMap<OperationKind, Rule>,
    /// Whether a proposer's own approval counts.
    pub proposer_may_approve: bool,
    /// Most proposals that one officer may have open, 1 to 64.
    pub open_max_per_officer: usize,
}

/// Why a policy is none: under it one person could act alone, or nobody could.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PolicyError {
    /// One person alone, or more than can sign.
    #[error("{}: expected a threshold of 2 to 31; found {found}", .kind.name())]
    Threshold {
        /// The kind of operation.
        kind: OperationKind,
        /// The threshold found.
        found: usize,
    },
    /// A threshold that the officers in office cannot reach.
    #[error(
        "{}: expected a threshold that its approvers ({approvers}) can reach; found {threshold} \
         with {found} of them: name more officers, lower it, or do not allow the operation",
        .kind.name()
    )]
    OutOfReach {
        /// The kind of operation.
        kind: OperationKind,
        /// Who approves it.
        approvers: Approvers,
        /// How many must.
        threshold: usize,
        /// How many there are.
        found: usize,
    },
    /// A proposal that would live too long.
    #[error("{}: expected a lifetime of 1 s to 366 days; found {found_seconds} s", .kind.name())]
    Lifetime {
        /// The kind of operation.
        kind: OperationKind,
        /// The lifetime found, in seconds.
        found_seconds: u64,
    },
    /// A proposal that would expire before it can be executed.
    #[error(
        "{}: expected a time-lock shorter than the lifetime of {lifetime_seconds} s; found \
         {found_seconds} s",
        .kind.name()
    )]
    LockOutlives {
        /// The kind of operation.
        kind: OperationKind,
        /// The lifetime, in seconds.
        lifetime_seconds: u64,
        /// The time-lock found, in seconds.
        found_seconds: u64,
    },
    /// A destruction that nobody would have the time to stop.
    #[error("{}: expected a time-lock of at least 604800 s (7 days); found {found_seconds} s", .kind.name())]
    LockTooShort {
        /// The kind of operation.
        kind: OperationKind,
        /// The time-lock found, in seconds.
        found_seconds: u64,
    },
    /// An operation without which an instance cannot be mended.
    #[error("{}: expected it to be allowed: without it a stop or a loss is for ever", .kind.name())]
    MustBeAllowed {
        /// The kind of operation.
        kind: OperationKind,
    },
    /// Part of a second is not written in statements.
    #[error("{}: expected whole seconds", .kind.name())]
    PartOfASecond {
        /// The kind of operation.
        kind: OperationKind,
    },
    /// Too few or too many proposals of one officer.
    #[error("expected 1 to 64 open proposals per officer; found {found}")]
    OpenMax {
        /// The number found.
        found: usize,
    },
    /// Recovery where there is nobody to recover.
    #[error("recover: the genesis names no recovery set: do not allow it")]
    NoRecoverySet,
}

impl Policy {
    /// The policy of a genesis that says no more than a threshold: no time-locks but on what changes
    /// officers or policy (24 h), recovers (72 h) or destroys (7 days, and that is not allowed).
    pub fn with_threshold(threshold: usize) -> Self {
        let rule = |kind| Rule {
            threshold,
            time_lock: default_lock(kind),
            lifetime: default_lifetime(kind),
            allowed: kind != OperationKind::DestroyVersion,
        };
        Self {
            rules: OperationKind::ALL.map(|kind| (kind, rule(kind))).into(),
            proposer_may_approve: false,
            open_max_per_officer: OPEN_MAX_DEFAULT,
        }
    }

    /// The rule for one kind.
    pub fn rule(&self, kind: OperationKind) -> Rule {
        // Every constructor lists every kind; one that were missing would be forbidden.
        self.rules.get(&kind).copied().unwrap_or(Rule {
            threshold: usize::MAX,
            time_lock: Duration::MAX,
            lifetime: Duration::ZERO,
            allowed: false,
        })
    }

    /// Puts another rule in place. Whether the policy holds then is for [`Policy::check`] to say.
    pub fn set(&mut self, kind: OperationKind, rule: Rule) {
        self.rules.insert(kind, rule);
    }

    /// Whether the policy keeps its own rules and these officers can live under it.
    ///
    /// Every operation that is allowed must be within reach of its approvers. At a genesis
    /// (`strict` is false) one whose role has too few officers passes where all officers together
    /// would be enough: they can still change the officers. The threshold of `recover` is not held
    /// against anybody here, see [`Policy::check_recovery`].
    pub fn check(&self, officers: &[Officer], strict: bool) -> Result<(), PolicyError> {
        if !OPEN_MAX.contains(&self.open_max_per_officer) {
            return Err(PolicyError::OpenMax {
                found: self.open_max_per_officer,
            });
        }
        for kind in OperationKind::ALL {
            let rule = self.rule(kind);
            rule.check(kind)?;
            let approvers = kind.approvers();
            let found = match approvers {
                Approvers::Role(role) if strict => {
                    officers.iter().filter(|o| o.role == role).count()
                }
                Approvers::Role(_) | Approvers::AnyOfficer => officers.len(),
                Approvers::Recovery => continue,
            };
            if rule.allowed && rule.threshold > found {
                return Err(PolicyError::OutOfReach {
                    kind,
                    approvers,
                    threshold: rule.threshold,
                    found,
                });
            }
        }
        Ok(())
    }

    /// Whether `recover`, where it is allowed, is within reach of the recovery set.
    pub fn check_recovery(&self, recovery: Option<&Recovery>) -> Result<(), PolicyError> {
        let kind = OperationKind::Recover;
        let rule = self.rule(kind);
        if !rule.allowed {
            return Ok(());
        }
        let found = recovery.ok_or(PolicyError::NoRecoverySet)?.officers.len();
        if rule.threshold > found {
            return Err(PolicyError::OutOfReach {
                kind,
                approvers: kind.approvers(),
                threshold: rule.threshold,
                found,
            });
        }
        Ok(())
    }
}

impl Rule {
    /// Whether the rule, for this kind, is one whoever the officers are.
    pub(super) fn check(self, kind: OperationKind) -> Result<(), PolicyError> {
        let found_seconds = self.time_lock.as_secs();
        let lifetime_seconds = self.lifetime.as_secs();
        if !THRESHOLDS.contains(&self.threshold) {
            let found = self.threshold;
            return Err(PolicyError::Threshold { kind, found });
        }
        if self.time_lock.subsec_nanos() != 0 || self.lifetime.subsec_nanos() != 0 {
            return Err(PolicyError::PartOfASecond { kind });
        }
        if self.lifetime.is_zero() || self.lifetime > LIFETIME_MAX {
            let found_seconds = lifetime_seconds;
            return Err(PolicyError::Lifetime {
                kind,
                found_seconds,
            });
        }
        if self.time_lock >= self.lifetime {
            return Err(PolicyError::LockOutlives {
                kind,
                lifetime_seconds,
                found_seconds,
            });
        }
        if kind == OperationKind::DestroyVersion && self.time_lock < DESTROY_LOCK_MIN {
            return Err(PolicyError::LockTooShort {
                kind,
                found_seconds,
            });
        }
        let mends = matches!(
            kind,
            OperationKind::CancelDestruction
                | OperationKind::Reinstate
                | OperationKind::ChangeOfficers
        );
        if mends && !self.allowed {
            return Err(PolicyError::MustBeAllowed { kind });
        }
        Ok(())
    }
}

fn default_lock(kind: OperationKind) -> Duration {
    if kind == OperationKind::Recover {
        RECOVERY_LOCK
    } else if kind == OperationKind::DestroyVersion {
        DESTROY_LOCK_MIN
    } else if matches!(
        kind,
        OperationKind::ChangeOfficers | OperationKind::ChangePolicy
    ) {
        DAY
    } else {
        Duration::ZERO
    }
}

fn default_lifetime(kind: OperationKind) -> Duration {
    let waits_long = matches!(kind, OperationKind::DestroyVersion | OperationKind::Recover);
    DAY.saturating_mul(if waits_long { 30 } else { 7 })
}
