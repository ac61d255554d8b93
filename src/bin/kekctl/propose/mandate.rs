//! `kekctl propose set-rotation-mandate` and `withdraw-rotation-mandate`: rotations on schedule
//! without new signatures, and the end of that.

use clap::Args;
use kekd::clock::UnixMs;
use kekd::quorum::{Mandate, Operation};
use kekd::types::KekName;

use super::ground::Ground;
use super::version::LikeActive;
use crate::officer::{moment, now};

/// Milliseconds of a day.
const DAY_MS: u64 = 86_400_000;
/// Days before a rotation at which it is announced where nothing says others.
const WARN_DAYS_DEFAULT: [u32; 3] = [30, 7, 1];

/// Rotate a KEK on schedule without new signatures
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  kekctl propose set-rotation-mandate --kek recordings --period-days 365 --for-days 1830
  kekctl propose set-rotation-mandate --kek recordings --period-days 90 --interval-days-min 60 \\
      --until 2031-01-01T00:00:00Z --warn-days 14,3,1")]
pub struct SetRotationMandate {
    /// The KEK
    #[arg(long, value_name = "NAME")]
    kek: KekName,
    #[command(flatten)]
    like: LikeActive,
    /// Days from one version to the next
    #[arg(long, value_name = "DAYS")]
    period_days: u32,
    /// Days that must lie between two versions whatever happens [default: half the period]
    #[arg(long, value_name = "DAYS")]
    interval_days_min: Option<u32>,
    /// The end of the mandate, in UTC
    #[arg(long, value_name = "TIME", value_parser = moment, required_unless_present = "for_days")]
    until: Option<UnixMs>,
    /// The end of the mandate, in days from now
    #[arg(long, value_name = "DAYS", conflicts_with = "until")]
    for_days: Option<u32>,
    /// Days before a rotation at which it is announced, descending; empty for none [default: 30,7,1,
    /// as far as they are shorter than the period]
    #[arg(long, value_name = "DAYS", value_delimiter = ',', num_args = 0..)]
    warn_days: Option<Vec<u32>>,
}

/// End a rotation mandate
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  kekctl propose withdraw-rotation-mandate --kek recordings")]
pub struct WithdrawRotationMandate {
    /// The KEK
    #[arg(long, value_name = "NAME")]
    kek: KekName,
}

impl SetRotationMandate {
    pub async fn operation(self, ground: &Ground) -> anyhow::Result<Operation> {
        let before = ground.before(&self.kek).await?;
        let days = u64::from(self.for_days.unwrap_or_default());
        let until = now().0.saturating_add(days.saturating_mul(DAY_MS));
        let until = self.until.unwrap_or(UnixMs(until));
        let period_days = self.period_days;
        let half = (period_days / 2).max(1);
        Ok(Operation::SetRotationMandate(Mandate {
            version: self.like.version(self.kek, &before.like, ground).await?,
            period_days,
            interval_days_min: self.interval_days_min.unwrap_or(half),
            until,
            warn_days: self.warn_days.unwrap_or_else(|| {
                let days = WARN_DAYS_DEFAULT.into_iter();
                days.filter(|days| *days < period_days).collect()
            }),
        }))
    }
}

impl WithdrawRotationMandate {
    pub fn operation(self) -> Operation {
        Operation::WithdrawRotationMandate { kek: self.kek }
    }
}
