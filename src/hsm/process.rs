//! Starts worker processes. They are all started by one thread that lives as long as the
//! supervisor: the worker asks the kernel to be killed with its parent (`PR_SET_PDEATHSIG`), and
//! for the kernel the parent is the *thread* that started it (prctl(2)). A thread of the runtime's
//! pools may end at any time and would take the worker with it.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream as StdUnixStream;
use std::process::Stdio;
use std::sync::{Arc, mpsc};
use std::thread;

use tokio::net::UnixStream;
use tokio::process::{Child, Command};
use tokio::runtime::Handle;
use tokio::sync::oneshot;

use super::error::HsmError;
use super::job::WorkerCommand;
use super::tray::Tray;

/// A worker process and our ends of its sockets. Killed when dropped.
pub(super) struct Process {
    pub(super) child: Child,
    pub(super) socket: UnixStream,
    pub(super) tray: Tray,
}

type Order = oneshot::Sender<io::Result<Process>>;

/// The thread that starts workers. It ends when this is dropped.
pub(super) struct Launcher {
    orders: mpsc::Sender<Order>,
    command: WorkerCommand,
}

impl Launcher {
    /// Starts the thread. Must be called inside a tokio runtime.
    pub(super) fn start(command: WorkerCommand) -> io::Result<Self> {
        let (orders, inbox) = mpsc::channel::<Order>();
        let runtime = Handle::current();
        let ours = command.clone();
        thread::Builder::new()
            .name("kekd-hsm-launch".to_owned())
            .spawn(move || {
                let _entered = runtime.enter();
                for order in inbox {
                    // A supervisor that no longer waits drops the process, which kills it.
                    drop(order.send(launch(&ours)));
                }
            })?;
        Ok(Self { orders, command })
    }

    /// Starts one worker process.
    pub(super) async fn launch(&self) -> Result<Process, HsmError> {
        let (order, answer) = oneshot::channel();
        let gone = || io::Error::other("the thread that starts workers has ended");
        let process = match self.orders.send(order) {
            Ok(()) => answer.await.unwrap_or_else(|_| Err(gone())),
            Err(_) => Err(gone()),
        };
        process.map_err(|source| HsmError::Spawn {
            program: self.command.program.clone(),
            source: Arc::new(source),
        })
    }
}

/// The environment is passed on: the module may need it (`SOFTHSM2_CONF`).
fn launch(command: &WorkerCommand) -> io::Result<Process> {
    let (ours, theirs) = StdUnixStream::pair()?;
    ours.set_nonblocking(true)?;
    let (tray, sessions) = Tray::new()?;
    // `theirs` closes in this process at the end of the statement, with the `Command` that owns
    // it: only then does the worker's death close the socket.
    let child = Command::new(&command.program)
        .args(&command.args)
        .envs(&command.environment)
        .stdin(Stdio::from(OwnedFd::from(theirs)))
        .stdout(Stdio::from(sessions))
        .stderr(Stdio::inherit())
        // Ctrl-C in a terminal is for the daemon, which then stops in its own order.
        .process_group(0)
        .kill_on_drop(true)
        .spawn()?;
    Ok(Process {
        child,
        socket: UnixStream::from_std(ours)?,
        tray,
    })
}
