//! What `kekd` and `kekd-lkm` are as programs of the operating system: how a command line is read, a
//! process made safe to have secrets in its memory, and an end told by one exit code (sysexits.h) and
//! one line. Which error ends in which code is each program's own to say; no rule lives here.

use std::error::Error;
use std::future::Future;
use std::io::{self, Write as _};
use std::process::ExitCode;

use clap::{Parser, ValueEnum};
use rustix::process::{DumpableBehavior, Resource, Rlimit};

use crate::config::{LogConfig, Setting};
use crate::telemetry;

/// How a program ends. `kekd-lkm` has no token, and so no 65, 69 and 77.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// Stopped as asked.
    Stopped = 0,
    /// Wrong arguments.
    Usage = 64,
    /// Token, ledger and audit log do not agree, or a file of the state is missing or damaged: a
    /// person must look before another start.
    Refused = 65,
    /// The token is not available at start; another start may do.
    TokenUnavailable = 69,
    /// Fatal while running; another start may do.
    Fatal = 70,
    /// The token refused the PIN, or no login was tried, so that the token does not lock.
    Pin = 77,
    /// The configuration, or a file or address it names, is wrong.
    Configuration = 78,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// Why a program ends otherwise than asked.
#[derive(Debug)]
pub struct Failure {
    /// The code it ends with.
    pub exit: Exit,
    /// What is told on standard error.
    pub error: Box<dyn Error>,
}

impl Failure {
    /// It ends with this code.
    pub fn new(exit: Exit, error: impl Into<Box<dyn Error>>) -> Self {
        Self {
            exit,
            error: error.into(),
        }
    }

    /// The configuration must be mended.
    pub fn configuration(error: impl Into<Box<dyn Error>>) -> Self {
        Self::new(Exit::Configuration, error)
    }

    /// Another start may do.
    pub fn fatal(error: impl Into<Box<dyn Error>>) -> Self {
        Self::new(Exit::Fatal, error)
    }
}

/// How `check-config` prints.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// For people
    Text,
    /// One JSON array
    Json,
}

/// Reads the command line, runs what it asks for and says how the process ends.
pub fn run<A: Parser>(name: &str, act: impl FnOnce(A) -> Result<(), Failure>) -> ExitCode {
    let arguments = match A::try_parse() {
        Ok(arguments) => arguments,
        Err(asked) => {
            let exit = match asked.use_stderr() {
                true => Exit::Usage,
                false => Exit::Stopped,
            };
            return match reader_may_leave(asked.print()) {
                Ok(()) => exit.into(),
                Err(_) => Exit::Fatal.into(),
            };
        }
    };
    match act(arguments) {
        Ok(()) => Exit::Stopped.into(),
        Err(Failure { exit, error }) => {
            // Written apart from the log, whose filter could hide it.
            let told = writeln!(io::stderr().lock(), "{name}: {}", in_full(&*error));
            match told {
                Ok(()) => exit.into(),
                Err(_) => Exit::Fatal.into(),
            }
        }
    }
}

/// The error and its causes in one line, each once.
pub fn in_full(error: &dyn Error) -> String {
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

/// Begins logging and makes the process safe to have secrets in its memory.
///
/// # Errors
/// [`Exit::Configuration`] where the log's filter is none; [`Exit::Fatal`] where the operating system
/// does not protect the process.
pub fn prepare(name: &str, log: &LogConfig) -> Result<(), Failure> {
    telemetry::init(log).map_err(Failure::configuration)?;
    protect(name).map_err(Failure::fatal)
}

/// No core dump, and no other process of this user may read our memory: `RLIMIT_CORE` alone does not
/// stop a core pattern that is a pipe (core(5)).
fn protect(name: &str) -> io::Result<()> {
    rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    let none = Rlimit {
        current: Some(0),
        maximum: Some(0),
    };
    rustix::process::setrlimit(Resource::Core, none)?;
    if rustix::process::geteuid().is_root() {
        tracing::warn!("{name} runs as root; give it a user of its own");
    }
    Ok(())
}

/// Runs `work` in a runtime with a thread for every second processor, two at least. One call is a
/// chain of short steps, and with more threads each step is taken by another one, which has to be woken
/// for it; two, so that a long step of one call does not stop all others.
///
/// # Errors
/// That of `work`, or [`Exit::Fatal`] where there is no runtime.
pub fn in_runtime(work: impl Future<Output = Result<(), Failure>>) -> Result<(), Failure> {
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads((processors / 2).max(2))
        .enable_all()
        .build();
    runtime.map_err(Failure::fatal)?.block_on(work)
}

/// Prints every effective value of a configuration and where it came from.
///
/// # Errors
/// Where standard output takes no more, but for a reader who left.
pub fn print_settings(settings: &[Setting], output: Output) -> io::Result<()> {
    let mut out = io::stdout().lock();
    reader_may_leave(match output {
        Output::Text => settings.iter().try_for_each(|setting| {
            let line = match setting.value.is_null() {
                true => format!("{} is not set", setting.key),
                false => format!("{} = {}", setting.key, setting.value),
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
    })
}

/// Whoever reads the output, for example `head`, had enough.
///
/// # Errors
/// Any other.
pub fn reader_may_leave(printed: io::Result<()>) -> io::Result<()> {
    match printed {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        printed => printed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("{0}")]
    struct Told(&'static str, #[source] Option<Box<Told>>);

    #[test]
    fn a_cause_that_is_quoted_already_is_not_told_twice() {
        let deepest = Told("no such file", None);
        let quoted = Told("cannot read x: no such file", Some(Box::new(deepest)));
        let error = Told("it does not start", Some(Box::new(quoted)));
        assert_eq!(
            in_full(&error),
            "it does not start: cannot read x: no such file"
        );
    }
}
