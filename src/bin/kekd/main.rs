//! The daemon's command line. It reads the configuration, makes the process safe to hold keys, and
//! hands over to the library; no rule lives here. Exit codes are one enum, [`Exit`].

mod check_config;
mod exit;
mod init;
mod serve;

use std::future::Future;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, Subcommand, ValueEnum};
use kekd::config::{self, Config, Environment, Loaded};
use kekd::{hsm, telemetry};
use rustix::process::{DumpableBehavior, Resource, Rlimit};

use exit::{Exit, Failure, in_full};

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

#[derive(Clone, Copy, ValueEnum)]
enum Output {
    /// For people.
    Text,
    /// One JSON array.
    Json,
}

fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(asked) => {
            let exit = if asked.use_stderr() {
                Exit::Usage
            } else {
                Exit::Stopped
            };
            return match asked.print() {
                // Whoever reads the help, for example `head`, had enough.
                Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Exit::Fatal.into(),
                Ok(()) | Err(_) => exit.into(),
            };
        }
    };
    let ended = match arguments.command {
        Command::HsmWorker => hsm::worker::run().map_err(Failure::fatal),
        Command::CheckConfig { config, output } => check_config::check_config(&config, output),
        Command::Serve { config } => {
            prepare(&config).and_then(|config| in_runtime(serve::serve(config)))
        }
        Command::Init {
            config,
            genesis,
            signatures,
        } => prepare(&config)
            .and_then(|config| in_runtime(init::init(config, &genesis, &signatures))),
    };
    match ended {
        Ok(()) => Exit::Stopped.into(),
        Err(Failure { exit, error }) => {
            // Written apart from the log, whose filter could hide it.
            let told = writeln!(io::stderr().lock(), "kekd: {}", in_full(&*error));
            if told.is_ok() {
                exit.into()
            } else {
                Exit::Fatal.into()
            }
        }
    }
}

fn load(file: &Path) -> Result<Loaded, Failure> {
    Environment::of_process()
        .and_then(|environment| config::load(file, &environment))
        .map_err(Failure::configuration)
}

/// The configuration, with logging begun and the process made safe to hold keys.
fn prepare(file: &Path) -> Result<Config, Failure> {
    let config = load(file)?.config;
    telemetry::init(&config.log).map_err(Failure::configuration)?;
    protect().map_err(Failure::fatal)?;
    Ok(config)
}

/// No core dump, and no other process of this user may read our memory: `RLIMIT_CORE` alone does not
/// stop a core pattern that is a pipe (core(5)).
fn protect() -> io::Result<()> {
    rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    let none = Rlimit {
        current: Some(0),
        maximum: Some(0),
    };
    rustix::process::setrlimit(Resource::Core, none)?;
    if rustix::process::geteuid().is_root() {
        tracing::warn!("kekd runs as root; give it a user of its own");
    }
    Ok(())
}

fn in_runtime(work: impl Future<Output = Result<(), Failure>>) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build();
    runtime.map_err(Failure::fatal)?.block_on(work)
}
