//! What the integration tests stand on: a real rig, made once for each kind of token and copied for
//! each test, so that every test has a token, a ledger, a daemon and ports of its own.

pub mod faulty;
mod kek;

use std::fs;
use std::io::Write as _;
use std::net::TcpListener;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use kekd::client::{Client, ClientError, Endpoint, TlsFiles};
use kekd::proto::v1;
use kekd::types::Padding;
use prost::Message as _;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use tempfile::TempDir;

pub use kek::{Kek, dek, pem_bytes, reason};

use crate::token::{Token, move_home};

pub const KEKD: &str = env!("CARGO_BIN_EXE_kekd");
pub const KEKCTL: &str = env!("CARGO_BIN_EXE_kekctl");

/// Deadline of a call that should succeed on a loaded machine.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Runs a command that must succeed.
pub fn must(command: &mut Command) -> Output {
    let output = command.output().unwrap();
    assert!(
        output.status.success(),
        "{command:?} ended with {}\n{}\n{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    output
}

/// The options with which an OpenSSL command does a padding, MGF1 with the same hash: `option` is
/// `-pkeyopt` for `openssl pkeyutl` and `-keyopt` for `openssl cms`.
pub fn openssl_options(option: &'static str, padding: Padding) -> Vec<&'static str> {
    let values: &[_] = match padding {
        Padding::OaepSha1 => &["rsa_padding_mode:oaep"],
        Padding::OaepSha256 => &["rsa_padding_mode:oaep", "rsa_oaep_md:sha256"],
        Padding::Pkcs1V15 => &["rsa_padding_mode:pkcs1"],
    };
    values.iter().flat_map(|value| [option, *value]).collect()
}

/// Makes a shell script that can be run. Written by another process: were it this one, a neighbouring
/// test's fork could hold it open for writing (`ETXTBSY`).
pub fn program(path: &Path, script: &str) {
    must(
        Command::new("sh")
            .args([
                "-c",
                r#"printf '#!/bin/sh\n%s\n' "$2" >"$1" && chmod 700 "$1""#,
                "sh",
            ])
            .args([path.as_os_str(), script.as_ref()]),
    );
}

/// A PKCS#11 module for tests, built by `make modules`.
pub fn test_module(name: &str) -> PathBuf {
    let file = format!("target/modules/debug/lib{name}.so");
    let module = Path::new(env!("CARGO_MANIFEST_DIR")).join(file);
    assert!(module.exists(), "run `make modules` first: no {module:?}");
    module
}

/// Says that a test cannot be run here, past the capture of the test harness, so that it is seen
/// among tests that pass; `.ci/run` shows these lines again at its end.
pub fn skipped(test: &str, why: &str) {
    let line = format!("SKIPPED {test}: {why}\n");
    std::io::stderr().write_all(line.as_bytes()).unwrap();
}

/// Copies a folder with all it holds, through `cp`, which keeps modes.
pub fn copy(from: &Path, to: &Path) {
    must(Command::new("cp").arg("-a").arg(from).arg(to));
}

/// An instance of its own. The daemon is stopped when this is dropped.
pub struct Rig {
    home: TempDir,
    /// The kind of token it has.
    pub token: Token,
    /// The rig's folder.
    pub dir: PathBuf,
    port: u16,
    /// Variables the daemon gets beside its own.
    pub environment: Vec<(String, String)>,
}

impl Rig {
    /// A SoftHSM2 rig of its own, not started.
    pub fn stopped() -> Self {
        Self::stopped_on(Token::SoftHsm)
    }

    /// A SoftHSM2 rig of its own, serving.
    pub fn serving() -> Self {
        Self::serving_on(Token::SoftHsm)
    }

    /// A rig of its own on a token of this kind, not started.
    pub fn stopped_on(token: Token) -> Self {
        Self::of(token, token.template())
    }

    /// A copy of another stopped rig, which lies in its home as `rig`.
    pub fn of(token: Token, template: &Path) -> Self {
        let home = tempfile::Builder::new().prefix("kekd").tempdir().unwrap();
        copy(&template.join("."), home.path());
        move_home(template, home.path());
        let rig = Self {
            dir: home.path().join("rig"),
            home,
            token,
            port: free_port(),
            environment: Vec::new(),
        };
        let old = format!("127.0.0.1:{}", rig.port_in("env"));
        let new = format!("127.0.0.1:{}", rig.port);
        for file in ["kekd.toml", "env", "rig.json"] {
            rig.edit(file, |text| text.replace(&old, &new));
        }
        // The front-end is started by the tests that are about it, on ports of its own.
        rig.edit("rig.json", |text| {
            let mut mark: serde_json::Value = serde_json::from_str(&text).unwrap();
            mark.as_object_mut().unwrap().remove("lkm");
            mark.to_string()
        });
        rig
    }

    /// A rig of its own on a token of this kind, serving.
    pub fn serving_on(token: Token) -> Self {
        let rig = Self::stopped_on(token);
        rig.start();
        rig
    }

    fn port_in(&self, file: &str) -> u16 {
        let text = fs::read_to_string(self.dir.join(file)).unwrap();
        let rest = text.split("https://127.0.0.1:").nth(1).unwrap();
        rest.split(|c: char| !c.is_ascii_digit())
            .next()
            .unwrap()
            .parse()
            .unwrap()
    }

    /// Rewrites a file of the rig.
    pub fn edit(&self, file: &str, change: impl Fn(String) -> String) {
        let path = self.dir.join(file);
        let text = fs::read_to_string(&path).unwrap();
        fs::write(&path, change(text)).unwrap();
    }

    /// Adds lines to a section of kekd.toml, which must have it.
    pub fn set(&self, section: &str, lines: &str) {
        self.edit("kekd.toml", |text| {
            let head = format!("[{section}]\n");
            if text.contains(&head) {
                text.replace(&head, &format!("{head}{lines}\n"))
            } else {
                format!("{text}\n{head}{lines}\n")
            }
        });
    }

    fn rig_command(&self, verb: &str) -> Command {
        let mut command = Command::new(KEKCTL);
        command.args(["rig", verb]).arg(&self.dir);
        command.envs(self.environment.iter().cloned());
        command
    }

    /// `kekd` itself, as the rig starts it, where it is to end by itself: one that serves instead is
    /// killed after a while.
    pub fn kekd(&self, verb: &str) -> Command {
        let mut command = Command::new("timeout");
        command
            .args(["60", KEKD])
            .arg(verb)
            .arg("--config")
            .arg(self.dir.join("kekd.toml"))
            .env("SOFTHSM2_CONF", self.dir.join("softhsm2.conf"))
            .envs(self.environment.iter().cloned());
        command
    }

    /// Starts the daemon and waits until it is ready.
    pub fn start(&self) {
        must(&mut self.rig_command("start"));
    }

    /// Starts the daemon where it must refuse: the end of its log.
    pub fn start_refused(&self) -> String {
        let output = self.rig_command("start").output().unwrap();
        assert!(
            !output.status.success(),
            "the daemon started where it should have refused"
        );
        String::from_utf8_lossy(&output.stderr).into_owned()
    }

    /// Stops the daemon in order. Lets the test's own clients go on meanwhile: the daemon asks them to
    /// leave.
    pub async fn stop(&self) {
        let mut command = tokio::process::Command::from(self.rig_command("stop"));
        let output = command.output().await.unwrap();
        assert!(output.status.success(), "{output:?}");
    }

    /// The daemon's process id.
    pub fn daemon_pid(&self) -> u32 {
        fs::read_to_string(self.dir.join("kekd.pid"))
            .unwrap()
            .trim()
            .parse()
            .unwrap()
    }

    /// Whether this process is alive, no zombie (whose command line is empty), and serves this rig.
    fn is_daemon(&self, pid: Pid) -> bool {
        let config = self.dir.join("kekd.toml");
        fs::read(format!("/proc/{}/cmdline", pid.as_raw_nonzero())).is_ok_and(|line| {
            line.split(|byte| *byte == 0)
                .any(|argument| argument == config.as_os_str().as_bytes())
        })
    }

    /// What the daemon logged.
    pub fn log(&self) -> String {
        fs::read_to_string(self.dir.join("kekd.log")).unwrap_or_default()
    }

    /// `https://127.0.0.1:PORT`.
    pub fn address(&self) -> String {
        format!("https://127.0.0.1:{}", self.port)
    }

    /// Where the daemon listens.
    pub fn socket_address(&self) -> std::net::SocketAddr {
        ([127, 0, 0, 1], self.port).into()
    }

    /// The files of one of the rig's client identities.
    pub fn files(&self, name: &str) -> TlsFiles {
        let pki = self.dir.join("pki");
        TlsFiles {
            ca: pki.join("ca.crt"),
            certificate: pki.join(format!("{name}.crt")),
            private_key: pki.join(format!("{name}.key")),
        }
    }

    /// A client over TLS with one of the rig's identities.
    pub async fn client(&self, name: &str) -> Client {
        self.try_client(name).await.unwrap()
    }

    /// A client whose calls have this deadline.
    pub async fn client_with(&self, name: &str, timeout: Duration) -> Client {
        let endpoint = Endpoint::parse(&self.address(), Some(self.files(name))).unwrap();
        Client::connect(endpoint, timeout).await.unwrap()
    }

    /// As [`Rig::client`], where connecting may fail.
    pub async fn try_client(&self, name: &str) -> Result<Client, ClientError> {
        let endpoint = Endpoint::parse(&self.address(), Some(self.files(name))).unwrap();
        Client::connect(endpoint, PATIENCE).await
    }

    /// A bare channel over the Unix socket, for what the typed client does not say.
    pub async fn channel(&self) -> tonic::transport::Channel {
        let socket = self.dir.join("run/kekd.sock");
        let uri = format!("unix://{}", socket.display());
        tonic::transport::Endpoint::from_shared(uri)
            .unwrap()
            .connect()
            .await
            .unwrap()
    }

    /// A client over the Unix socket.
    pub async fn local(&self) -> Client {
        let socket = self.dir.join("run/kekd.sock");
        Client::connect(Endpoint::Unix(socket), PATIENCE)
            .await
            .unwrap()
    }

    /// `kekctl` with this rig's environment.
    pub fn kekctl(&self) -> Command {
        self.kekctl_as("lkm-1", &[])
    }

    /// `kekctl` as another of the rig's identities.
    pub fn kekctl_as(&self, name: &str, arguments: &[&str]) -> Command {
        let (mut command, files) = (Command::new(KEKCTL), self.files(name));
        command
            .env("KEKD_ENDPOINT", self.address())
            .env("KEKD_CA", files.ca)
            .env("KEKD_CERT", files.certificate)
            .env("KEKD_KEY", files.private_key)
            .env_remove("KEKD_SOCKET")
            .args(arguments);
        command
    }

    /// `kekctl` as the rig's auditor.
    pub fn auditor(&self, arguments: &[&str]) -> Command {
        self.kekctl_as("auditor", arguments)
    }

    /// A command that sees this rig's token.
    pub fn token_command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        // Always: a SoftHSM tool without it would work on the tokens of this machine.
        command.env("SOFTHSM2_CONF", self.dir.join("softhsm2.conf"));
        let (variable, file) = self.token.configuration();
        command.env(variable, self.home.path().join(file));
        command
    }

    /// OpenSC's `pkcs11-tool`, logged in, on this rig's token.
    pub fn pkcs11_tool(&self, arguments: &[&str]) -> Command {
        let mut command = self.token_command("pkcs11-tool");
        command.arg("--module").arg(self.token.module());
        command.args(["--token-label", self.token.label()]);
        command.args(["--login", "--pin", &self.pin()]);
        command.args(arguments);
        command
    }

    /// The worker's process id.
    pub async fn worker_pid(&self) -> u32 {
        let status = self.client("operator").await.status().await.unwrap();
        status.token.unwrap().worker_pid
    }

    /// The token's PIN.
    pub fn pin(&self) -> String {
        fs::read_to_string(self.home.path().join(self.token.pin_file()))
            .unwrap()
            .trim()
            .to_owned()
    }

    /// All audit records.
    pub fn records(&self) -> Vec<v1::Record> {
        let mut records = Vec::new();
        loop {
            let from = records.len() as u64;
            let page = kekd::audit::read(&self.dir.join("state"), from, 1000).unwrap();
            if page.is_empty() {
                return records;
            }
            for (index, bytes) in page {
                let record = v1::Record::decode(bytes.as_slice()).unwrap();
                assert_eq!((index, record.index), (records.len() as u64, index));
                records.push(record);
            }
        }
    }

    /// The audit records of one outcome.
    pub fn records_with(&self, outcome: v1::Outcome) -> Vec<v1::Record> {
        self.records()
            .into_iter()
            .filter(|record| record.outcome() == outcome)
            .collect()
    }

    /// Kills the daemon with SIGKILL, and the kernel its worker along with it, if it runs. Returns when
    /// the daemon is gone.
    pub fn kill(&self) {
        let Ok(text) = fs::read_to_string(self.dir.join("kekd.pid")) else {
            return;
        };
        let Some(pid) = text.trim().parse().ok().and_then(Pid::from_raw) else {
            return;
        };
        let Ok(process) = pidfd_open(pid, PidfdFlags::empty()) else {
            return;
        };
        // The number may be another process's by now; once it is pinned, the look decides.
        if self.is_daemon(pid) {
            pidfd_send_signal(&process, Signal::KILL).ok();
            while !is_gone(pid) {
                std::thread::sleep(Duration::from_millis(1));
            }
        }
    }
}

impl Drop for Rig {
    /// An orderly stop would wait for the test's own clients, whose runtime stands still while this
    /// runs; it has tests of its own.
    fn drop(&mut self) {
        self.kill();
    }
}

/// Whether nothing is left of a process but its exit status. Its memory goes first, its files (a lock, a
/// socket that listens) only with the last of its threads.
fn is_gone(pid: Pid) -> bool {
    let proc = PathBuf::from(format!("/proc/{}", pid.as_raw_nonzero()));
    let Ok(stat) = fs::read_to_string(proc.join("stat")) else {
        return true;
    };
    let is_zombie = stat.rsplit(')').next().unwrap().trim().starts_with('Z');
    let threads = fs::read_dir(proc.join("task")).map_or(0, Iterator::count);
    is_zombie && threads <= 1
}

/// A port nobody listens on, and nobody else is given: every test of this process has another, and
/// none is in the range from which the kernel takes ports for outgoing connections
/// (`ip_local_port_range`, from 32768 on), so that it stays free while a daemon is stopped.
pub fn free_port() -> u16 {
    const FIRST: u16 = 10_000;
    const LAST: u16 = 32_000;
    static NEXT: AtomicU16 = AtomicU16::new(0);
    // Test processes that run side by side begin at different places.
    let begin = u16::try_from(std::process::id() % u32::from(LAST - FIRST)).unwrap();
    loop {
        let offset = begin.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed)) % (LAST - FIRST);
        let port = FIRST + offset;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}
