//! Which records are meant: the options that `list`, `follow` and `export` share.

use clap::{Args, ValueEnum};
use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use kekd::audit::Filter;
use kekd::clock::UnixMs;
use kekd::proto::v1;

/// Options that narrow down what is shown.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Which records")]
pub struct FilterArgs {
    /// Written at this time or later: 2026-11-21 (its beginning, UTC) or 2026-11-21T14:00:00Z
    #[arg(long, value_parser = moment, value_name = "TIME")]
    since: Option<UnixMs>,
    /// Written before this time
    #[arg(long, value_parser = moment, value_name = "TIME")]
    until: Option<UnixMs>,
    /// Under this KEK
    #[arg(long, value_name = "NAME")]
    kek: Option<String>,
    /// For this key pair
    #[arg(long, value_name = "UUID")]
    keypair_id: Option<String>,
    /// Asked by this identity, for example spiffe://example/lkm-1
    #[arg(long, value_name = "IDENTITY")]
    caller: Option<String>,
    /// For this end user
    #[arg(long, value_name = "NAME")]
    end_user: Option<String>,
    /// With this outcome; may be given again
    #[arg(long, value_name = "OUTCOME")]
    outcome: Vec<OutcomeArg>,
}

/// An outcome as it is named on the command line. (No doc comments below: the names say it.)
#[derive(Debug, Clone, Copy, ValueEnum)]
enum OutcomeArg {
    Released,
    Refused,
    Undecryptable,
    Unavailable,
    ConnectionRefused,
    RecordsLost,
    RecordsArchived,
}

impl From<OutcomeArg> for v1::Outcome {
    fn from(outcome: OutcomeArg) -> Self {
        match outcome {
            OutcomeArg::Released => Self::Released,
            OutcomeArg::Refused => Self::Refused,
            OutcomeArg::Undecryptable => Self::Undecryptable,
            OutcomeArg::Unavailable => Self::Unavailable,
            OutcomeArg::ConnectionRefused => Self::ConnectionRefused,
            OutcomeArg::RecordsLost => Self::RecordsLost,
            OutcomeArg::RecordsArchived => Self::RecordsArchived,
        }
    }
}

impl FilterArgs {
    /// For a copy that is read here.
    pub fn here(&self) -> Filter {
        Filter {
            since: self.since,
            until: self.until,
            kek: self.kek.clone(),
            keypair_id: self.keypair_id.clone(),
            caller: self.caller.clone(),
            end_user: self.end_user.clone(),
            outcomes: self
                .outcome
                .iter()
                .map(|outcome| (*outcome).into())
                .collect(),
        }
    }

    /// For a running kekd.
    pub fn message(&self) -> v1::RecordFilter {
        let text = |text: &Option<String>| text.clone().unwrap_or_default();
        let outcome = |outcome: &OutcomeArg| v1::Outcome::from(*outcome).into();
        v1::RecordFilter {
            since_ms: self.since.map(|at| at.0),
            until_ms: self.until.map(|at| at.0),
            kek: text(&self.kek),
            keypair_id: text(&self.keypair_id),
            caller: text(&self.caller),
            end_user: text(&self.end_user),
            outcomes: self.outcome.iter().map(outcome).collect(),
        }
    }
}

/// A day or a moment. Without an offset there is no moment, so none is guessed.
pub fn moment(text: &str) -> Result<UnixMs, String> {
    let at = match text.parse::<Date>() {
        Ok(day) if text.len() == 10 => day.to_zoned(TimeZone::UTC).map(|day| day.timestamp()),
        Ok(_) | Err(_) => text.parse::<Timestamp>(),
    };
    at.ok()
        .and_then(|at| u64::try_from(at.as_millisecond()).ok())
        .map(UnixMs)
        .ok_or_else(|| "write a day like 2026-11-21 or a time like 2026-11-21T14:00:00Z".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_begins_in_utc_and_a_time_has_an_offset() {
        for (text, expected) in [
            ("1970-01-02", Some(86_400_000)),
            ("1970-01-02T00:00:00Z", Some(86_400_000)),
            ("1970-01-02T01:00:00+01:00", Some(86_400_000)),
            ("1970-01-02T00:00:00", None),
            ("1969-12-31", None),
            ("yesterday", None),
            ("", None),
        ] {
            assert_eq!(moment(text).ok(), expected.map(UnixMs), "{text}");
        }
    }
}
