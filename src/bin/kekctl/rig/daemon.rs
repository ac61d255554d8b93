//! The rig's programs as processes, kekd and the front-end before it: started detached from this terminal, waited for until it says that
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

/// The programs of a rig.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// The daemon.
    Kekd,
    /// The Local Key Manager in front of it.
    Lkm,
}

impl Role {
    /// The program's name, and that of its files in the rig's folder.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Kekd => "kekd",
            Self::Lkm => "kekd-lkm",
        }
    }
}

/// A program: the one named, or that of this name beside this program.
pub fn program(role: Role, named: Option<&Path>) -> anyhow::Result<PathBuf> {
    let name = role.name();
    let path = match named {
        Some(path) => std::path::absolute(path)?,
        None => std::env::current_exe()?.with_file_name(name),
    };
    if path.is_file() {
        return Ok(path);
    }
    let text = format!(
        "the daemon {} does not exist; build it, or name it with --{name}",
        path.display()
    );
    Err(Failure::new(Exit::NoInput, "PROGRAM_MISSING", text).into())
}

/// Runs `kekd init` with the genesis and its signatures.
pub fn init(layout: &Layout, mark: &Mark, signatures: &[PathBuf]) -> anyhow::Result<()> {
    let mut command = Command::new(&mark.kekd);
    command
        .arg("init")
        .arg("--config")
        .arg(layout.config(Role::Kekd));
    command.arg("--genesis").arg(layout.genesis());
    for signature in signatures {
        command.arg("--signature").arg(signature);
    }
    tool::run(environment(&mut command, mark), b"")?;
    Ok(())
}

/// Starts kekd, and the front-end if the rig has one; those that run already are left alone. Returns
/// kekd's process.
pub fn start_all(layout: &Layout, mark: &Mark) -> anyhow::Result<Pid> {
    let kekd = match running(layout, Role::Kekd) {
        Some(pid) => pid,
        None => start(layout, mark, Role::Kekd, &mark.kekd)?,
    };
    if let Some(lkm) = &mark.lkm
        && running(layout, Role::Lkm).is_none()
    {
        start(layout, mark, Role::Lkm, &lkm.program)?;
    }
    Ok(kekd)
}

/// Starts `serve` in a process group of its own and waits until it is ready.
fn start(layout: &Layout, mark: &Mark, role: Role, program: &Path) -> anyhow::Result<Pid> {
    let notify = Notify::bind(&layout.notify_socket())?;
    let log = fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(layout.log(role))?;
    let mut command = Command::new(program);
    command
        .arg("serve")
        .arg("--config")
        .arg(layout.config(role));
    environment(&mut command, mark)
        .env("NOTIFY_SOCKET", layout.notify_socket())
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .process_group(0);
    let mut child = command
        .spawn()
        .with_context(|| format!("{} cannot be run", program.display()))?;
    let pid = Pid::from_child(&child);
    fs::write(layout.pid(role), format!("{}\n", pid.as_raw_nonzero()))?;
    match wait_until_ready(&mut child, &notify) {
        Ok(()) => Ok(pid),
        Err(problem) => {
            // Whatever came of it, a daemon that did not become ready must not stay behind.
            child.kill().ok();
            child.wait().ok();
            let text = format!("{} {problem}; {}", role.name(), log_tail(layout, role));
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

fn log_tail(layout: &Layout, role: Role) -> String {
    let tail = || -> io::Result<String> {
        let mut log = fs::File::open(layout.log(role))?;
        let len = log.metadata()?.len();
        log.seek(SeekFrom::Start(len.saturating_sub(LOG_TAIL_LEN)))?;
        let mut bytes = Vec::new();
        log.take(LOG_TAIL_LEN).read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).trim().to_owned())
    };
    let log = layout.log(role);
    match tail() {
        Ok(text) => format!("the end of {}:\n{text}", log.display()),
        Err(error) => format!("{} cannot be read: {error}", log.display()),
    }
}

/// The program's process, if it runs.
pub fn running(layout: &Layout, role: Role) -> Option<Pid> {
    let text = fs::read_to_string(layout.pid(role)).ok()?;
    let pid = Pid::from_raw(text.trim().parse().ok()?)?;
    is_ours(layout, role, pid).then_some(pid)
}

/// Whether this process is alive, no zombie, and serves this rig's configuration.
fn is_ours(layout: &Layout, role: Role, pid: Pid) -> bool {
    let proc = PathBuf::from(format!("/proc/{}", pid.as_raw_nonzero()));
    // A zombie's command line is empty.
    let Ok(command_line) = fs::read(proc.join("cmdline")) else {
        return false;
    };
    let config = layout.config(role);
    command_line
        .split(|byte| *byte == 0)
        .any(|argument| argument == config.as_os_str().as_bytes())
}

/// Stops the front-end, then kekd. False when kekd did not run.
pub fn stop_all(layout: &Layout) -> anyhow::Result<bool> {
    stop(layout, Role::Lkm)?;
    stop(layout, Role::Kekd)
}

/// Stops a program: SIGTERM, and SIGKILL when that does not help. False when it did not run.
fn stop(layout: &Layout, role: Role) -> anyhow::Result<bool> {
    let stopped = match running(layout, role) {
        None => false,
        Some(pid) => {
            let process = pidfd_open(pid, PidfdFlags::empty())?;
            // The number may have passed to another process before it was pinned: look again.
            if is_ours(layout, role, pid) {
                pidfd_send_signal(&process, Signal::TERM)?;
                if !is_gone_within(layout, role, pid, STOP_WAIT_MAX) {
                    pidfd_send_signal(&process, Signal::KILL)?;
                    is_gone_within(layout, role, pid, STOP_WAIT_MAX);
                }
            }
            true
        }
    };
    match fs::remove_file(layout.pid(role)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error.into()),
        Ok(()) | Err(_) => Ok(stopped),
    }
}

fn is_gone_within(layout: &Layout, role: Role, pid: Pid, wait: Duration) -> bool {
    let started = Instant::now();
    while started.elapsed() < wait {
        if !is_ours(layout, role, pid) {
            return true;
        }
        std::thread::sleep(LOOK_INTERVAL);
    }
    false
}
