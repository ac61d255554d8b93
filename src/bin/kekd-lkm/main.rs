//! The front-end's command line. It reads the configuration, makes the process safe to pass DEKs
//! through, and hands over to the library; no rule lives here.

mod check_config;
mod credential;
mod exit;
mod serve;

use std::future::Future;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, Subcommand, ValueEnum};
use kekd::config::{Environment, Loaded, load_as};
use kekd::lkm::config::{LkmConfig, SCHEMA};
use kekd::telemetry;
use rustix::process::{DumpableBehavior, Resource, Rlimit};

use exit::{Exit, Failure};

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

#[derive(Clone, Copy, ValueEnum)]
enum Output {
    /// For people
    Text,
    /// One JSON array
    Json,
}

fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(asked) => {
            let exit = match asked.use_stderr() {
                true => Exit::Usage,
                false => Exit::Stopped,
            };
            return match asked.print() {
                Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Exit::Fatal.into(),
                Ok(()) | Err(_) => exit.into(),
            };
        }
    };
    let ended = match arguments.command {
        Command::Serve { config } => {
            prepare(&config).and_then(|config| in_runtime(serve::serve(config)))
        }
        Command::CheckConfig { config, output } => check_config::check_config(&config, output),
        Command::Credential(command) => command.run(),
    };
    match ended {
        Ok(()) => Exit::Stopped.into(),
        Err(Failure { exit, error }) => {
            let told = writeln!(io::stderr().lock(), "kekd-lkm: {}", exit::in_full(&*error));
            match told {
                Ok(()) => exit.into(),
                Err(_) => Exit::Fatal.into(),
            }
        }
    }
}

fn load(file: &Path) -> Result<Loaded<LkmConfig>, Failure> {
    Environment::of_process_for(&SCHEMA)
        .and_then(|environment| load_as(&SCHEMA, file, &environment))
        .map_err(Failure::configuration)
}

/// The configuration, with logging begun and the process made safe to pass DEKs through.
fn prepare(file: &Path) -> Result<LkmConfig, Failure> {
    let config = load(file)?.config;
    telemetry::init(&config.log).map_err(Failure::configuration)?;
    protect().map_err(Failure::fatal)?;
    Ok(config)
}

/// No core dump, and no other process of this user may read our memory.
fn protect() -> io::Result<()> {
    rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    let none = Rlimit {
        current: Some(0),
        maximum: Some(0),
    };
    rustix::process::setrlimit(Resource::Core, none)?;
    if rustix::process::geteuid().is_root() {
        tracing::warn!("kekd-lkm runs as root; give it a user of its own");
    }
    Ok(())
}

fn in_runtime(work: impl Future<Output = Result<(), Failure>>) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build();
    runtime.map_err(Failure::fatal)?.block_on(work)
}
