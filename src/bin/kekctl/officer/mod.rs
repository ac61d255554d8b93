//! What all commands of officers share: who signs with what, the facts that are shown before a
//! signature is made, the consent, the proposal that is meant, and the bundles that cross an air
//! gap. Commands are elsewhere, and nothing here decides whether an act is allowed: kekd does.

pub mod bundle;
mod consent;
pub mod endorse;
pub mod facts;
pub mod find;
pub mod key;
pub mod purpose;
pub mod signer;
mod ssh_keygen;
pub mod statement_file;
pub mod view;

use kekd::clock::{Clock, UnixMs};

/// Longest armored signature read (kekd takes no longer one).
pub const SIGNATURE_LEN_MAX: u64 = 16 * 1024;
/// Longest statement read (kekd takes no longer one).
pub const STATEMENT_LEN_MAX: u64 = 64 * 1024;

/// This machine's time in whole seconds, rounded up: an act right after the end of a time-lock must
/// not be dated before it.
pub fn now() -> UnixMs {
    UnixMs(Clock::System.now().0.div_ceil(1000).saturating_mul(1000))
}

/// A time on the command line: RFC 3339, cut to whole seconds.
pub fn moment(text: &str) -> Result<UnixMs, String> {
    text.parse::<jiff::Timestamp>()
        .ok()
        .and_then(|time| u64::try_from(time.as_second()).ok())
        .and_then(|seconds| seconds.checked_mul(1000))
        .map(UnixMs)
        .ok_or_else(|| "write a time like 2026-11-21T18:00:00Z".to_owned())
}

/// 16 random bytes.
pub fn nonce() -> anyhow::Result<[u8; 16]> {
    let mut nonce = [0; 16];
    aws_lc_rs::rand::fill(&mut nonce).map_err(|_| anyhow::anyhow!("no randomness"))?;
    Ok(nonce)
}
