//! The daemon's command line. It reads the configuration, makes the process safe to hold keys, and
//! hands over to the library; no rule lives here. Exit codes are one enum, [`Exit`].

mod exit;
mod init;
mod serve;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use kekd::config::{self, Config, Environment, Loaded};
use kekd::hsm;
use kekd::program::{self, Failure, Output, in_runtime};

/// A key daemon: RSA key-encryption keys in an HSM, unwrapping data keys.
#[derive(Parser)]
#[command(
    name = "kekd",
    version,
    after_help = "Examples:\n  kekd check-config --config /etc/kekd/kekd.toml\n  kekd serve --config \
                  /etc/kekd/kekd.toml\n\nExit codes: 0 stopped as asked, 64 wrong usage, 65 token, \
                  ledger or audit log refused, 69 the token is not available at start, 70 fatal, 77 \
                  the PIN was refused, 78 wrong configuration."
)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Open the node and serve it until told to stop (SIGTERM, SIGINT).
    ///
    /// SIGHUP reads certificates, keys and revocation lists again.
    #[command(after_help = "Example:\n  kekd serve --config /etc/kekd/kekd.toml")]
    Serve {
        /// The configuration file.
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
    },
    /// Make an instance: its keys in the token, its ledger and its audit log, from a genesis document
    /// that its officers signed.
    #[command(
        after_help = "Example:\n  kekd init --config /etc/kekd/kekd.toml --genesis genesis.toml \\\n    \
                      --signature alice.sig --signature bob.sig"
    )]
    Init {
        /// The configuration file.
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
        /// The genesis document, byte for byte as it was signed.
        #[arg(long, value_name = "FILE")]
        genesis: PathBuf,
        /// An officer's signature: `ssh-keygen -Y sign -n genesis@kekd -f KEY genesis.toml`. Once
        /// for each.
        #[arg(long = "signature", value_name = "FILE", required = true)]
        signatures: Vec<PathBuf>,
    },
    /// Print the effective configuration and where each value came from; open nothing.
    #[command(after_help = "Examples:\n  kekd check-config --config kekd.toml\n  \
                      KEKD__HSM__SESSIONS=8 kekd check-config --config kekd.toml --output json")]
    CheckConfig {
        /// The configuration file.
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
        /// How to print it.
        #[arg(long, value_enum, default_value_t = Output::Text)]
        output: Output,
    },
    /// Started by kekd itself: the process that holds the PKCS#11 module.
    #[command(hide = true)]
    HsmWorker,
}

const NAME: &str = "kekd";

fn main() -> ExitCode {
    program::run(NAME, |arguments: Arguments| match arguments.command {
        Command::HsmWorker => hsm::worker::run().map_err(Failure::fatal),
        // Opens nothing but the file.
        Command::CheckConfig { config, output } => {
            program::print_settings(&load(&config)?.settings, output).map_err(Failure::fatal)
        }
        Command::Serve { config } => {
            prepare(&config).and_then(|config| in_runtime(serve::serve(config)))
        }
        Command::Init {
            config,
            genesis,
            signatures,
        } => prepare(&config)
            .and_then(|config| in_runtime(init::init(config, &genesis, &signatures))),
    })
}

fn load(file: &Path) -> Result<Loaded, Failure> {
    Environment::of_process()
        .and_then(|environment| config::load(file, &environment))
        .map_err(Failure::configuration)
}

/// The configuration, with logging begun and the process made safe to hold keys.
fn prepare(file: &Path) -> Result<Config, Failure> {
    let config = load(file)?.config;
    program::prepare(NAME, &config.log)?;
    Ok(config)
}
