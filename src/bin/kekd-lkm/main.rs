//! The front-end's command line. It reads the configuration, makes the process safe to pass DEKs
//! through, and hands over to the library; no rule lives here.

mod credential;
mod serve;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use kekd::config::{Environment, Loaded, load_as};
use kekd::lkm;
use kekd::lkm::config::{LkmConfig, SCHEMA};
use kekd::program::{self, Failure, Output, in_runtime};

/// The Local Key Manager that a contact-centre cloud calls: HTTPS and Hawk in front of kekd
#[derive(Parser)]
#[command(
    name = "kekd-lkm",
    version,
    after_help = "Examples:\n  kekd-lkm credential new --file /etc/kekd-lkm/credentials.toml \\\n      \
                  --id cloud-eu --kek recordings\n  kekd-lkm check-config --config \
                  /etc/kekd-lkm/kekd-lkm.toml\n  kekd-lkm serve --config \
                  /etc/kekd-lkm/kekd-lkm.toml\n\nExit codes: 0 stopped as asked, 64 wrong usage, 70 \
                  fatal, 78 wrong configuration, or a file or address it names."
)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Serve until told to stop (SIGTERM, SIGINT); SIGHUP reads certificate and credentials again
    #[command(after_help = "Example:\n  kekd-lkm serve --config /etc/kekd-lkm/kekd-lkm.toml")]
    Serve {
        /// The configuration file
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
    },
    /// Print the effective configuration and where each value came from, and try the files it names
    #[command(
        after_help = "Examples:\n  kekd-lkm check-config --config kekd-lkm.toml\n  \
                      KEKD_LKM__HTTPS__PUBLIC_PORT=8443 kekd-lkm check-config --config \
                      kekd-lkm.toml --output json"
    )]
    CheckConfig {
        /// The configuration file
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
        /// How to print it
        #[arg(long, value_enum, default_value_t = Output::Text)]
        output: Output,
    },
    /// Make, rotate and list Hawk credentials
    Credential(credential::Credential),
}

const NAME: &str = "kekd-lkm";

fn main() -> ExitCode {
    program::run(NAME, |arguments: Arguments| match arguments.command {
        Command::Serve { config } => {
            prepare(&config).and_then(|config| in_runtime(serve::serve(config)))
        }
        Command::CheckConfig { config, output } => check_config(&config, output),
        Command::Credential(command) => command.run(),
    })
}

/// Prints the configuration, and reads certificate, key and credentials. Opens no socket.
fn check_config(file: &Path, output: Output) -> Result<(), Failure> {
    let loaded = load(file)?;
    program::print_settings(&loaded.settings, output).map_err(Failure::fatal)?;
    lkm::check_files(&loaded.config).map_err(Failure::configuration)
}

fn load(file: &Path) -> Result<Loaded<LkmConfig>, Failure> {
    Environment::of_process_for(&SCHEMA)
        .and_then(|environment| load_as(&SCHEMA, file, &environment))
        .map_err(Failure::configuration)
}

/// The configuration, with logging begun and the process made safe to pass DEKs through.
fn prepare(file: &Path) -> Result<LkmConfig, Failure> {
    let config = load(file)?.config;
    program::prepare(NAME, &config.log)?;
    Ok(config)
}
