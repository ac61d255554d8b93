//! The words of the command line: global options and the top of the command tree. No work is done
//! here.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::builder::{OsStringValueParser, TypedValueParser};
use clap::{Args, Parser, Subcommand};

use crate::connection::{Connection, Explicit};
use crate::exit;
use crate::output::{Colour, Format};

const EXAMPLES: &str = "\
Examples:
  kekctl rig up ./rig && . ./rig/env      # a throw-away kekd to try everything on
  kekctl status
  kekctl kek list
  kekctl recording open --in call.cms --out call.wav
  . ./rig/officer-env && kekctl propose rotate-kek --kek recordings";

/// Works with kekd: reads KEKs, unwraps DEKs, seals and opens recordings, governs keys
#[derive(Debug, Parser)]
#[command(name = "kekctl", version, max_term_width = 100)]
#[command(after_help = format!("{EXAMPLES}\n\n{}", exit::CODES))]
pub struct Cli {
    #[command(flatten)]
    pub global: Global,
    #[command(subcommand)]
    pub command: Command,
}

/// Options of every command.
#[derive(Debug, Args)]
#[command(next_help_heading = "Connection and output")]
pub struct Global {
    /// Where kekd is: https://HOST:PORT, or unix:/PATH
    #[arg(
        long,
        global = true,
        env = "KEKD_ENDPOINT",
        hide_env_values = true,
        value_name = "URL"
    )]
    endpoint: Option<String>,
    /// kekd's Unix socket; used when no endpoint is named
    #[arg(
        long,
        global = true,
        env = "KEKD_SOCKET",
        hide_env_values = true, value_parser = path(),
        value_name = "PATH"
    )]
    socket: Option<PathBuf>,
    /// PEM file: the authorities that issue kekd's server certificate
    #[arg(
        long,
        global = true,
        env = "KEKD_CA",
        hide_env_values = true, value_parser = path(),
        value_name = "FILE"
    )]
    ca: Option<PathBuf>,
    /// PEM file: your client certificate
    #[arg(
        long,
        global = true,
        env = "KEKD_CERT",
        hide_env_values = true, value_parser = path(),
        value_name = "FILE"
    )]
    cert: Option<PathBuf>,
    /// PEM file: the private key of your client certificate
    #[arg(
        long,
        global = true,
        env = "KEKD_KEY",
        hide_env_values = true, value_parser = path(),
        value_name = "FILE"
    )]
    key: Option<PathBuf>,
    /// How long to wait for kekd, for example 500ms or 30s; at most 1h
    #[arg(long, global = true, default_value = "10s", value_parser = duration, value_name = "TIME")]
    timeout: Duration,
    /// How results and errors are written
    #[arg(long, global = true, default_value = "text", value_name = "FORMAT")]
    pub output: Format,
    /// Whether to use colour
    #[arg(long, global = true, default_value = "auto", value_name = "WHEN")]
    pub color: Colour,
}

impl Global {
    /// How to reach kekd, as far as these options say.
    pub fn connection(self, explicit: Explicit) -> Connection {
        Connection {
            // A variable set to nothing is a variable not set.
            endpoint: self.endpoint.filter(|text| !text.is_empty()),
            socket: self.socket.filter(|path| is_named(path)),
            ca: self.ca.filter(|path| is_named(path)),
            certificate: self.cert.filter(|path| is_named(path)),
            private_key: self.key.filter(|path| is_named(path)),
            timeout: self.timeout,
            explicit,
        }
    }
}

fn is_named(path: &Path) -> bool {
    !path.as_os_str().is_empty()
}

/// The top of the command tree.
#[derive(Debug, Subcommand)]
pub enum Command {
    Kek(crate::kek::Kek),
    Unwrap(crate::unwrap::Unwrap),
    Recording(crate::recording::Recording),
    Ledger(crate::ledger::Ledger),
    Lkm(crate::lkm::Lkm),
    Audit(crate::audit::Audit),
    Witness(crate::witness::Witness),
    Status(crate::status::Status),
    Coverage(crate::coverage::Coverage),
    Propose(crate::propose::Propose),
    Proposals(crate::proposals::Proposals),
    Proposal(crate::proposal::Proposal),
    Approve(crate::approve::Approve),
    Veto(crate::veto::Veto),
    ProvePossession(crate::prove_possession::ProvePossession),
    Execute(crate::execute::Execute),
    Import(crate::import::Import),
    Suspend(crate::suspend::Suspend),
    Officers(crate::officers::Officers),
    Policy(crate::policy::Policy),
    Completions(crate::completions::Completions),
    Rig(crate::rig::Rig),
}

/// Any path, the empty one included: see [`Global::connection`].
pub fn path() -> impl TypedValueParser<Value = PathBuf> {
    OsStringValueParser::new().map(PathBuf::from)
}

/// A duration from one millisecond to one hour, in jiff's friendly form (`500ms`, `1m30s`).
fn duration(text: &str) -> Result<Duration, String> {
    let allowed = Duration::from_millis(1)..=Duration::from_secs(3600);
    text.parse::<jiff::SignedDuration>()
        .ok()
        .and_then(|duration| Duration::try_from(duration).ok())
        .filter(|duration| allowed.contains(duration))
        .ok_or_else(|| "write a time from 1ms to 1h, for example 500ms or 30s".to_owned())
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test that cannot unwrap has failed")]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_command_tree_holds_together() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_command_has_examples() {
        fn walk(path: &str, command: &clap::Command) {
            let path = format!("{path} {}", command.get_name());
            let help = command.get_after_help().map(ToString::to_string);
            let examples = help.unwrap_or_default();
            assert!(examples.contains("Example"), "{path} has no example");
            for inner in command.get_subcommands() {
                walk(&path, inner);
            }
        }
        walk("", &Cli::command());
    }

    #[test]
    fn a_timeout_has_a_unit_and_bounds() {
        assert_eq!(duration("500ms").unwrap(), Duration::from_millis(500));
        assert_eq!(duration("1m30s").unwrap(), Duration::from_secs(90));
        for bad in ["", "10", "0s", "-1s", "2h"] {
            assert!(duration(bad).is_err(), "{bad:?} was accepted");
        }
    }
}
