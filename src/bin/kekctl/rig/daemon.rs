//! The rig's daemon as a process: started detached from this terminal, waited for until it says that
//! it is ready, found again by its pid file, stopped. A pid is believed only when the process still
//! carries this rig's configuration on its command line.

use std::fs;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use super::layout::{Layout, Mark};
use super::notify::Notify;
use super::tool;
use crate::exit::Exit;
use crate::failure::Failure;

/// How long the daemon may take to become ready.
const READY_WAIT_MAX: Duration = Duration::from_secs(60);
/// How long the daemon may take to stop before it is killed.
const STOP_WAIT_MAX: Duration = Duration::from_secs(15);
/// Between two looks at a process.
const LOOK_INTERVAL: Duration = Duration::from_millis(50);
/// Bytes of the log's end that go into an error.
const LOG_TAIL_LEN: u64 = 4096;

/// The daemon's program: the one named, or `kekd` beside this program.
pub fn program(named: Option<&Path>) -> anyhow::Result<PathBuf> {
    let path = match named {
        Some(path) => std::path::absolute(path)?,
        None => std::env::current_exe()?.with_file_name("kekd"),
    };
    if path.is_file() {
        return Ok(path);
    }
    let text = format!(
        "the daemon {} does not exist; build it, or name it with --kekd",
        path.display()
    );
    Err(Failure::new(Exit::NoInput, "PROGRAM_MISSING", text).into())
}

/// Runs `kekd init` with the genesis and its signatures.
pub fn init(layout: &Layout, mark: &Mark, signatures: &[PathBuf]) -> anyhow::Result<()> {
    let mut command = Command::new(&mark.kekd);
    command.arg("init").arg("--config").arg(layout.config());
    command.arg("--genesis").arg(layout.genesis());
    for signature in signatures {
        command.arg("--signature").arg(signature);
    }
    tool::run(environment(&mut command, mark), b"")?;
    Ok(())
}

/// Starts `kekd serve` in a process group of its own and waits until it is ready.
pub fn start(layout: &Layout, mark: &Mark) -> anyhow::Result<Pid> {
    let notify = Notify::bind(&layout.notify_socket())?;
    let log = fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(layout.log())?;
    let mut command = Command::new(&mark.kekd);
    command.arg("serve").arg("--config").arg(layout.config());
    environment(&mut command, mark)
        .env("NOTIFY_SOCKET", layout.notify_socket())
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .process_group(0);
    let mut child = command
        .spawn()
        .with_context(|| format!("{} cannot be run", mark.kekd.display()))?;
    let pid = Pid::from_child(&child);
    fs::write(layout.pid(), format!("{}\n", pid.as_raw_nonzero()))?;
    match wait_until_ready(&mut child, &notify) {
        Ok(()) => Ok(pid),
        Err(problem) => {
            // Whatever came of it, a daemon that did not become ready must not stay behind.
            child.kill().ok();
            child.wait().ok();
            let text = format!("kekd {problem}; {}", log_tail(layout));
            Err(Failure::new(Exit::Unavailable, "DAEMON_NOT_READY", text).into())
        }
    }
}

/// The environment of the daemon: the rig's token, and nothing that systemd may have left in ours.
fn environment<'a>(command: &'a mut Command, mark: &Mark) -> &'a mut Command {
    for name in [
        "NOTIFY_SOCKET",
        "WATCHDOG_USEC",
        "WATCHDOG_PID",
        "LISTEN_FDS",
        "LISTEN_PID",
        "CREDENTIALS_DIRECTORY",
    ] {
        command.env_remove(name);
    }
    command.envs(&mark.environment)
}

fn wait_until_ready(child: &mut Child, notify: &Notify) -> Result<(), String> {
    let started = Instant::now();
    while started.elapsed() < READY_WAIT_MAX {
        match notify.is_ready_within(LOOK_INTERVAL) {
            Ok(true) => return Ok(()),
            Ok(false) => {}
            Err(error) => return Err(format!("cannot be heard: {error}")),
        }
        match child.try_wait() {
            Ok(None) => {}
            Ok(Some(status)) => return Err(format!("ended before it was ready ({status})")),
            Err(error) => return Err(format!("cannot be waited for: {error}")),
        }
    }
    Err(format!(
        "was not ready within {} s",
        READY_WAIT_MAX.as_secs()
    ))
}

fn log_tail(layout: &Layout) -> String {
    let tail = || -> io::Result<String> {
        let mut log = fs::File::open(layout.log())?;
        let len = log.metadata()?.len();
        log.seek(SeekFrom::Start(len.saturating_sub(LOG_TAIL_LEN)))?;
        let mut bytes = Vec::new();
        log.take(LOG_TAIL_LEN).read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).trim().to_owned())
    };
    let log = layout.log();
    match tail() {
        Ok(text) => format!("the end of {}:\n{text}", log.display()),
        Err(error) => format!("{} cannot be read: {error}", log.display()),
    }
}

/// The daemon's process, if it runs.
pub fn running(layout: &Layout) -> Option<Pid> {
    let text = fs::read_to_string(layout.pid()).ok()?;
    let pid = Pid::from_raw(text.trim().parse().ok()?)?;
    is_ours(layout, pid).then_some(pid)
}

/// Whether this process is alive, no zombie, and serves this rig's configuration.
fn is_ours(layout: &Layout, pid: Pid) -> bool {
    let proc = PathBuf::from(format!("/proc/{}", pid.as_raw_nonzero()));
    // A zombie's command line is empty.
    let Ok(command_line) = fs::read(proc.join("cmdline")) else {
        return false;
    };
    let config = layout.config();
    command_line
        .split(|byte| *byte == 0)
        .any(|argument| argument == config.as_os_str().as_bytes())
}

/// Stops the daemon: SIGTERM, and SIGKILL when that does not help. False when it did not run.
pub fn stop(layout: &Layout) -> anyhow::Result<bool> {
    let stopped = match running(layout) {
        None => false,
        Some(pid) => {
            let process = pidfd_open(pid, PidfdFlags::empty())?;
            // The number may have passed to another process before it was pinned: look again.
            if is_ours(layout, pid) {
                pidfd_send_signal(&process, Signal::TERM)?;
                if !is_gone_within(layout, pid, STOP_WAIT_MAX) {
                    pidfd_send_signal(&process, Signal::KILL)?;
                    is_gone_within(layout, pid, STOP_WAIT_MAX);
                }
            }
            true
        }
    };
    match fs::remove_file(layout.pid()) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error.into()),
        Ok(()) | Err(_) => Ok(stopped),
    }
}

fn is_gone_within(layout: &Layout, pid: Pid, wait: Duration) -> bool {
    let started = Instant::now();
    while started.elapsed() < wait {
        if !is_ours(layout, pid) {
            return true;
        }
        std::thread::sleep(LOOK_INTERVAL);
    }
    false
}
