//! `kekctl propose change-policy`: the policy in force with the changes named. A statement holds the
//! whole policy.

use std::str::FromStr;
use std::time::Duration;

use clap::{Args, ValueEnum};
use kekd::quorum::{Operation, OperationKind, Policy, Rule};
use kekd::types::TypeError;

use super::ground::Ground;
use crate::exit::Exit;
use crate::failure::Failure;

/// Change the policy; what is not named stays
///
/// Proposals that are open when this is executed are cancelled.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  kekctl propose change-policy --rule destroy-version:allowed=yes,time-lock=14d
  kekctl propose change-policy --rule create-kek:threshold=3 --rule rotate-kek:threshold=3 \\
      --proposer-may-approve no --open-max-per-officer 4")]
pub struct ChangePolicy {
    /// What changes in the rule for one operation: threshold=N, time-lock=TIME, lifetime=TIME,
    /// allowed=yes|no; may be given several times
    #[arg(long = "rule", value_name = "OPERATION:CHANGE,…")]
    rules: Vec<RuleChange>,
    /// Whether a proposer's own approval counts
    #[arg(long, value_name = "WHETHER")]
    proposer_may_approve: Option<YesNo>,
    /// Most proposals that one officer may have open
    #[arg(long, value_name = "N")]
    open_max_per_officer: Option<usize>,
}

/// (No doc comments below: clap would show them as help of values.)
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum YesNo {
    Yes,
    No,
}

/// `OPERATION:CHANGE,…` on the command line.
#[derive(Debug, Clone, PartialEq, Eq)]
struct RuleChange {
    kind: OperationKind,
    changes: Vec<Change>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Change {
    Threshold(usize),
    TimeLock(Duration),
    Lifetime(Duration),
    Allowed(bool),
}

impl FromStr for RuleChange {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (kind, changes) = text
            .split_once(':')
            .ok_or("write OPERATION:CHANGE,…, for example create-kek:threshold=3")?;
        let kind = kind.parse().map_err(|error: TypeError| error.to_string())?;
        let changes = changes.split(',').map(Change::from_str);
        Ok(Self {
            kind,
            changes: changes.collect::<Result<_, _>>()?,
        })
    }
}

impl FromStr for Change {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let refused = || {
            format!(
                "{text:?} is no change: write threshold=3, time-lock=24h, lifetime=7d or \
                 allowed=yes"
            )
        };
        let change = match text.split_once('=') {
            Some(("threshold", n)) => n.parse().ok().map(Self::Threshold),
            Some(("time-lock", time)) => seconds(time).map(Self::TimeLock),
            Some(("lifetime", time)) => seconds(time).map(Self::Lifetime),
            Some(("allowed", "yes")) => Some(Self::Allowed(true)),
            Some(("allowed", "no")) => Some(Self::Allowed(false)),
            Some(_) | None => None,
        };
        change.ok_or_else(refused)
    }
}

/// A time in whole seconds: `90s`, `24h`, `7d`, `0s`.
fn seconds(text: &str) -> Option<Duration> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_lowercase());
    let unit = match text.strip_prefix(digits)? {
        "s" => 1,
        "m" => 60,
        "h" => 3_600,
        "d" => 86_400,
        _ => return None,
    };
    let count: u64 = digits.parse().ok()?;
    count.checked_mul(unit).map(Duration::from_secs)
}

impl RuleChange {
    fn apply(&self, rule: Rule) -> Rule {
        self.changes
            .iter()
            .fold(rule, |rule, change| match *change {
                Change::Threshold(threshold) => Rule { threshold, ..rule },
                Change::TimeLock(time_lock) => Rule { time_lock, ..rule },
                Change::Lifetime(lifetime) => Rule { lifetime, ..rule },
                Change::Allowed(allowed) => Rule { allowed, ..rule },
            })
    }
}

impl ChangePolicy {
    pub fn operation(self, ground: &Ground) -> anyhow::Result<Operation> {
        let mut policy = Policy::parse(&ground.governance.policy)?;
        for change in &self.rules {
            policy.set(change.kind, change.apply(policy.rule(change.kind)));
        }
        if let Some(may) = self.proposer_may_approve {
            policy.proposer_may_approve = may == YesNo::Yes;
        }
        if let Some(max) = self.open_max_per_officer {
            policy.open_max_per_officer = max;
        }
        if policy == Policy::parse(&ground.governance.policy)? {
            let text = "this is the policy in force: name what changes, for example with --rule";
            return Err(Failure::new(Exit::Usage, "USAGE", text).into());
        }
        Ok(Operation::ChangePolicy(policy))
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test that cannot unwrap has failed")]
mod tests {
    use super::*;

    #[test]
    fn a_rule_changes_where_it_is_told_to() {
        let text = "destroy-version:allowed=yes,time-lock=14d,lifetime=36h";
        let change: RuleChange = text.parse().unwrap();
        let policy = Policy::with_threshold(2);
        let rule = change.apply(policy.rule(OperationKind::DestroyVersion));
        assert_eq!(
            rule,
            Rule {
                threshold: 2,
                time_lock: Duration::from_secs(14 * 86_400),
                lifetime: Duration::from_secs(36 * 3_600),
                allowed: true,
            }
        );
    }

    #[test]
    fn what_is_no_change_is_refused() {
        for bad in [
            "",
            "create-kek",
            "make-kek:threshold=3",
            "create-kek:",
            "create-kek:threshold",
            "create-kek:threshold=-1",
            "create-kek:allowed=maybe",
            "create-kek:time-lock=7",
            "create-kek:time-lock=d",
            "create-kek:time-lock=1w",
        ] {
            assert!(bad.parse::<RuleChange>().is_err(), "{bad:?}");
        }
    }
}
