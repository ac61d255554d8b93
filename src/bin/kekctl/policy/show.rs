//! `kekctl policy show`: rules, mandates, stops, recording policies and what kekd warns of.

use std::fmt;

use clap::Args;
use comfy_table::{Table, presets};
use kekd::clock::UnixMs;
use kekd::proto::v1;
use serde::Serialize;

use crate::connection::Connection;
use crate::exit::Exit;
use crate::output::{self, Format, Stream};
use crate::status::hex;

/// Show who must agree to what, mandates, stops and recording policies in force
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  kekctl policy show
  kekctl policy show --output json | jq '.rules[] | select(.allowed | not)'
  kekctl policy show --output json | jq -r .instance_id      # for --instance (KEKD_INSTANCE)")]
pub struct Show {}

impl Show {
    pub async fn run(self, kekd: &Connection, format: Format) -> anyhow::Result<Exit> {
        let governance = kekd.open().await?.governance().await?;
        output::show(format, Stream::Out, &Shown::from(governance))?;
        Ok(Exit::Done)
    }
}

#[derive(Debug, Serialize)]
struct Shown {
    instance_id: String,
    instance_name: String,
    epoch: u64,
    proposer_may_approve: bool,
    open_max_per_officer: u32,
    rules: Vec<Rule>,
    mandates: Vec<Mandate>,
    stops: Vec<Stop>,
    recording_policies: Vec<RecordingPolicy>,
    profiles: Vec<Profile>,
    warnings: Vec<String>,
}

#[derive(Debug, Serialize)]
struct Rule {
    operation: String,
    approvers: String,
    threshold: u32,
    time_lock_seconds: u64,
    lifetime_seconds: u64,
    allowed: bool,
}

#[derive(Debug, Serialize)]
struct Mandate {
    kek: String,
    mandate_id: String,
    period_days: u32,
    until: String,
    due_at: String,
}

#[derive(Debug, Serialize)]
struct Stop {
    /// Null for all.
    kek: Option<String>,
    by: String,
    /// Null where the ledger does not have it yet.
    at: Option<String>,
}

#[derive(Debug, Serialize)]
struct RecordingPolicy {
    key: String,
    kek: String,
    fallback_kek: Option<String>,
}

#[derive(Debug, Serialize)]
struct Profile {
    name: String,
    sha256: String,
}

impl From<v1::GetGovernanceResponse> for Shown {
    fn from(governance: v1::GetGovernanceResponse) -> Self {
        let rule = |rule: v1::Rule| Rule {
            operation: rule.operation,
            approvers: rule.approvers,
            threshold: rule.threshold,
            time_lock_seconds: rule.time_lock_seconds,
            lifetime_seconds: rule.lifetime_seconds,
            allowed: rule.allowed,
        };
        let mandate = |mandate: v1::Mandate| Mandate {
            kek: mandate.kek,
            mandate_id: hex(&mandate.mandate_id),
            period_days: mandate.period_days,
            until: UnixMs(mandate.until_ms).rfc3339(),
            due_at: UnixMs(mandate.due_at_ms).rfc3339(),
        };
        let stop = |stop: v1::Stop| Stop {
            kek: Some(stop.kek).filter(|kek| !kek.is_empty()),
            by: stop.by,
            at: Some(stop.at_ms)
                .filter(|ms| *ms != 0)
                .map(|ms| UnixMs(ms).rfc3339()),
        };
        let recording_policy = |policy: v1::RecordingPolicy| RecordingPolicy {
            key: policy.key,
            kek: policy.kek,
            fallback_kek: Some(policy.fallback_kek).filter(|kek| !kek.is_empty()),
        };
        let profile = |profile: v1::Profile| Profile {
            name: profile.name,
            sha256: hex(&profile.sha256),
        };
        let recording_policies = governance.recording_policies.into_iter();
        Self {
            instance_id: hex(&governance.instance_id),
            instance_name: governance.instance_name,
            epoch: governance.epoch,
            proposer_may_approve: governance.proposer_may_approve,
            open_max_per_officer: governance.open_max_per_officer,
            rules: governance.rules.into_iter().map(rule).collect(),
            mandates: governance.mandates.into_iter().map(mandate).collect(),
            stops: governance.stops.into_iter().map(stop).collect(),
            recording_policies: recording_policies.map(recording_policy).collect(),
            profiles: governance.profiles.into_iter().map(profile).collect(),
            warnings: governance.warnings,
        }
    }
}

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "instance {} ({})", self.instance_name, self.instance_id)?;
        writeln!(f, "epoch {}", self.epoch)?;
        let may = match self.proposer_may_approve {
            true => "counts",
            false => "does not count",
        };
        writeln!(f, "a proposer's own approval {may}")?;
        let open_max = self.open_max_per_officer;
        writeln!(f, "at most {open_max} open proposals per officer\n")?;
        let mut table = Table::new();
        table.load_style(presets::NOTHING);
        table.set_header(["OPERATION", "APPROVALS", "TIME-LOCK", "LIFETIME", "ALLOWED"]);
        for rule in &self.rules {
            table.add_row([
                rule.operation.clone(),
                format!("{} of {}", rule.threshold, rule.approvers),
                length(rule.time_lock_seconds),
                length(rule.lifetime_seconds),
                if rule.allowed { "yes" } else { "no" }.to_owned(),
            ]);
        }
        for line in table.lines() {
            writeln!(f, "{}", line.trim())?;
        }
        self.in_force(f)
    }
}

impl Shown {
    fn in_force(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for mandate in &self.mandates {
            let Mandate {
                kek,
                period_days,
                until,
                due_at,
                ..
            } = mandate;
            write!(f, "\nmandate: {kek} rotates every {period_days} days, ")?;
            write!(f, "next {due_at}, until {until}")?;
        }
        for stop in &self.stops {
            let what = stop.kek.as_deref().unwrap_or("every KEK");
            let at = stop.at.as_deref().unwrap_or("not in the ledger yet");
            write!(f, "\nstopped: {what}, by {} ({at})", stop.by)?;
        }
        for policy in &self.recording_policies {
            write!(f, "\nrecordings of {}: {}", policy.key, policy.kek)?;
            if let Some(fallback) = &policy.fallback_kek {
                write!(f, ", else {fallback}")?;
            }
        }
        for warning in &self.warnings {
            write!(f, "\nwarning: {warning}")?;
        }
        Ok(())
    }
}

/// Seconds as people say them, exactly: `7 d`, `36 h`, `90 s`, `none`.
fn length(seconds: u64) -> String {
    match seconds {
        0 => "none".to_owned(),
        days if days % 86_400 == 0 => format!("{} d", days / 86_400),
        hours if hours % 3_600 == 0 => format!("{} h", hours / 3_600),
        seconds => format!("{seconds} s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_length_is_exact() {
        assert_eq!(length(0), "none");
        assert_eq!(length(7 * 86_400), "7 d");
        assert_eq!(length(36 * 3_600), "36 h");
        assert_eq!(length(90), "90 s");
    }

    #[test]
    fn what_is_in_force_is_said_after_the_rules() {
        let governance = v1::GetGovernanceResponse {
            instance_id: vec![0xab; 32],
            instance_name: "rig".to_owned(),
            epoch: 1,
            rules: vec![v1::Rule {
                operation: "destroy-version".to_owned(),
                approvers: "key-custodian".to_owned(),
                threshold: 2,
                time_lock_seconds: 604_800,
                lifetime_seconds: 2_592_000,
                allowed: false,
            }],
            stops: vec![v1::Stop {
                kek: String::new(),
                by: "host".to_owned(),
                at_ms: 0,
            }],
            warnings: vec!["an orphan".to_owned()],
            ..v1::GetGovernanceResponse::default()
        };
        let text = Shown::from(governance).to_string();
        let expected = "\
destroy-version  2 of key-custodian  7 d        30 d      no

stopped: every KEK, by host (not in the ledger yet)
warning: an orphan";
        assert!(text.ends_with(expected), "{text}");
    }
}
