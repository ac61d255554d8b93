//! The daemon's command line. It reads the configuration, makes the process safe to hold keys, and
//! hands over to the library; no rule lives here. Exit codes are one enum, [`Exit`].

use std::error::Error;
use std::future::Future;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use clap::{Parser, Subcommand, ValueEnum};
use kekd::clock::Clock;
use kekd::config::{self, Config, Environment, Loaded};
use kekd::flows::open::OpenError;
use kekd::hsm::{Hsm, HsmError, WorkerCommand};
use kekd::serve::{self, Listeners, ServeError};
use kekd::types::Next;
use kekd::{flows, hsm, systemd, telemetry};
use rustix::process::{DumpableBehavior, Resource, Rlimit};
use tokio::signal::unix::{Signal, SignalKind, signal};

/// Where the worker notes that the token refused the PIN, in the state folder.
const PIN_MARK_FILE: &str = "pin-refused";

/// SIGXFSZ (signal(7)): a write beyond `LimitFSIZE`. Its default is to kill.
const SIGXFSZ: i32 = 25;

/// A key daemon: RSA key-encryption keys in an HSM, unwrapping data keys.
#[derive(Parser)]
#[command(
    name = "kekd",
    version,
    after_help = "Examples:\n  kekd check-config --config /etc/kekd/kekd.toml\n  kekd serve --config \
                  /etc/kekd/kekd.toml\n\nExit codes: 0 stopped as asked, 64 wrong usage, 69 the token \
                  is not available at start, 70 fatal or refused to start, 78 wrong configuration \
                  (files, addresses, PIN)."
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

/// How the process ends (sysexits.h).
#[derive(Debug, Clone, Copy)]
enum Exit {
    /// Stopped as asked.
    Stopped = 0,
    /// Wrong arguments.
    Usage = 64,
    /// The token is not available at start; another start may do.
    TokenUnavailable = 69,
    /// Fatal while running, or token, ledger and audit log do not agree.
    Fatal = 70,
    /// The configuration, a file or address it names, or the PIN is wrong.
    Configuration = 78,
}

/// Why it ends otherwise than asked.
struct Failure {
    exit: Exit,
    error: Box<dyn Error>,
}

impl Failure {
    fn new(exit: Exit, error: impl Into<Box<dyn Error>>) -> Self {
        Self {
            exit,
            error: error.into(),
        }
    }

    fn configuration(error: impl Into<Box<dyn Error>>) -> Self {
        Self::new(Exit::Configuration, error)
    }

    fn fatal(error: impl Into<Box<dyn Error>>) -> Self {
        Self::new(Exit::Fatal, error)
    }
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
            return if asked.print().is_ok() {
                exit.into()
            } else {
                Exit::Fatal.into()
            };
        }
    };
    let ended = match arguments.command {
        Command::HsmWorker => hsm::worker::run().map_err(Failure::fatal),
        Command::CheckConfig { config, output } => check_config(&config, output),
        Command::Serve { config } => load(&config).and_then(|loaded| {
            telemetry::init(&loaded.config.log).map_err(Failure::configuration)?;
            protect().map_err(Failure::fatal)?;
            in_runtime(serve(loaded.config))
        }),
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

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// The error and its causes, each once.
fn in_full(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let because = error.to_string();
        if !text.contains(&because) {
            text = format!("{text}: {because}");
        }
        cause = error.source();
    }
    text
}

fn load(file: &Path) -> Result<Loaded, Failure> {
    Environment::of_process()
        .and_then(|environment| config::load(file, &environment))
        .map_err(Failure::configuration)
}

fn check_config(file: &Path, output: Output) -> Result<(), Failure> {
    let settings = load(file)?.settings;
    let mut out = io::stdout().lock();
    let printed = match output {
        Output::Text => settings.iter().try_for_each(|setting| {
            let line = if setting.value.is_null() {
                format!("{} is not set", setting.key)
            } else {
                format!("{} = {}", setting.key, setting.value)
            };
            writeln!(out, "{line:<60} # {}", setting.origin)
        }),
        Output::Json => {
            let rows: Vec<_> = settings
                .iter()
                .map(|setting| {
                    let origin = setting.origin.to_string();
                    serde_json::json!({
                        "key": setting.key, "value": setting.value, "origin": origin,
                    })
                })
                .collect();
            writeln!(out, "{:#}", serde_json::Value::from(rows))
        }
    };
    match printed {
        // Whoever reads the output, for example `head`, had enough.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        printed => printed.map_err(Failure::fatal),
    }
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

async fn serve(config: Config) -> Result<(), Failure> {
    let mut stop = Stop::new().map_err(|error| Failure::fatal(ServeError::Signals(error)))?;
    systemd::status("opening the ledger, the audit log and the token");
    let hsm = start_hsm(&config)?;
    let node = tokio::select! {
        opened = flows::open::open(&config, hsm, Clock::System) => opened.map_err(open_failure)?,
        () = stop.asked() => return Ok(()),
    };
    let node = Arc::new(node);
    let listeners = Listeners::bind(&config)
        .await
        .map_err(Failure::configuration)?;
    let served = serve::run(&config, &node, listeners, stop.asked()).await;
    node.close().await;
    served.map_err(|error| {
        let exit = match error {
            ServeError::Tls(_) => Exit::Configuration,
            ServeError::Signals(_) | ServeError::Transport(_) | ServeError::Audit(_) => Exit::Fatal,
        };
        Failure::new(exit, error)
    })
}

/// The worker is this very program.
fn start_hsm(config: &Config) -> Result<Hsm, Failure> {
    let worker = WorkerCommand {
        program: std::env::current_exe().map_err(Failure::fatal)?,
        args: vec!["hsm-worker".into()],
    };
    Ok(Hsm::start(
        config.hsm.clone(),
        worker,
        config.state_dir.join(PIN_MARK_FILE),
    ))
}

fn open_failure(error: OpenError) -> Failure {
    let exit = if let OpenError::Hsm(hsm) = &error {
        hsm_exit(hsm)
    } else {
        Exit::Fatal
    };
    Failure::new(exit, error)
}

fn hsm_exit(error: &HsmError) -> Exit {
    let of_pin = matches!(
        error,
        HsmError::PinRefused { .. } | HsmError::PinWithheld { .. } | HsmError::PinUnreadable { .. }
    );
    match error.next() {
        Next::Fatal if of_pin => Exit::Configuration,
        Next::TryAgain => Exit::TokenUnavailable,
        Next::Fatal | Next::CallerFault => Exit::Fatal,
    }
}

/// What asks the daemon to stop; and what must not stop it.
struct Stop {
    terminate: Signal,
    interrupt: Signal,
    /// Listening is ignoring: the write over a limit fails with an error instead.
    _over_limit: Signal,
    /// Who reads files again listens for it too; without one, it does nothing.
    _hangup: Signal,
}

impl Stop {
    fn new() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            _over_limit: signal(SignalKind::from_raw(SIGXFSZ))?,
            _hangup: signal(SignalKind::hangup())?,
        })
    }

    async fn asked(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => (),
            _ = self.interrupt.recv() => (),
        }
    }
}
