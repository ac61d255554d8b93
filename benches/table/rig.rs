//! A throw-away instance to measure, made and driven by kekctl, and what can be seen of its
//! processes from outside.

use std::ffi::OsStr;
use std::fs;
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use aws_lc_rs::rand;
use base64::Engine as _;
use kekd::client::{Client, Endpoint, TlsFiles, UnwrapCall};
use kekd::proto::v1;
use kekd::public_key::RsaPublicKey;
use kekd::types::{EndUser, KeypairId, Padding, RequestId};

/// The daemon, built for release by `cargo bench`.
pub const KEKD: &str = env!("CARGO_BIN_EXE_kekd");
const KEKCTL: &str = env!("CARGO_BIN_EXE_kekctl");
/// The module that stands for any HSM.
pub const SOFTHSM: &str = "/usr/lib/softhsm/libsofthsm2.so";
/// Deadline of one call.
const PATIENCE: Duration = Duration::from_secs(10);
/// Different ciphertexts in a load.
const CALLS_LEN: usize = 64;

/// An instance. The daemon is stopped when this is dropped.
pub struct Rig {
    pub dir: PathBuf,
    /// The configuration as kekctl wrote it.
    original: String,
    environment: Vec<(&'static str, String)>,
    /// Whether it is this process's to stop.
    is_ours: bool,
}

/// A key to unwrap under.
#[derive(Clone)]
pub struct Kek {
    pub keypair_id: KeypairId,
    pub public_key: Arc<RsaPublicKey>,
}

impl Rig {
    /// Makes an instance with these KEKs and leaves it stopped.
    pub fn make(dir: &Path, keks: &[String]) -> anyhow::Result<Self> {
        let mut up = Command::new(KEKCTL);
        // The front-end would ask for readiness and take its part of the processors.
        up.args(["rig", "up", "--without-lkm"]).arg(dir);
        for kek in keks {
            up.arg("--kek").arg(format!("{kek}=kek-rsa-3072"));
        }
        run(up)?;
        let rig = Self {
            dir: dir.to_owned(),
            original: fs::read_to_string(dir.join("kekd.toml"))?,
            environment: Vec::new(),
            is_ours: true,
        };
        rig.stop()?;
        Ok(rig)
    }

    /// An instance that another process made and runs.
    pub fn existing(dir: &Path) -> anyhow::Result<Self> {
        Ok(Self {
            dir: dir.to_owned(),
            original: fs::read_to_string(dir.join("kekd.toml"))?,
            environment: Vec::new(),
            is_ours: false,
        })
    }

    /// Starts the daemon with these lines of configuration, `(section, line)`, on this module, and
    /// says how long it took to be ready.
    pub fn start(
        &mut self,
        settings: &[(&str, String)],
        module: &Module,
    ) -> anyhow::Result<Duration> {
        self.stop()?;
        let mut text = self.original.clone();
        self.environment.clear();
        if let Module::Null { path, latency_ms } = module {
            text = text.replace(SOFTHSM, &path.display().to_string());
            self.environment
                .push(("PKCS11_NULL_LATENCY_MS", latency_ms.to_string()));
        }
        for (section, line) in settings {
            let head = format!("[{section}]\n");
            text = match text.contains(&head) {
                true => text.replace(&head, &format!("{head}{line}\n")),
                false => format!("{text}\n{head}{line}\n"),
            };
        }
        fs::write(self.dir.join("kekd.toml"), text)?;
        let began = Instant::now();
        run(self.rig_command("start"))?;
        Ok(began.elapsed())
    }

    /// Stops the daemon, if it runs.
    pub fn stop(&self) -> anyhow::Result<()> {
        run(self.rig_command("stop")).map(drop)
    }

    fn rig_command(&self, verb: &str) -> Command {
        let mut command = Command::new(KEKCTL);
        command.args(["rig", verb]).arg(&self.dir);
        command.envs(self.environment.iter().cloned());
        command
    }

    /// A file of the rig.
    pub fn file(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// `https://127.0.0.1:PORT`.
    pub fn address(&self) -> anyhow::Result<String> {
        let mark: serde_json::Value = serde_json::from_slice(&fs::read(self.file("rig.json"))?)?;
        let endpoint = mark.get("endpoint").and_then(serde_json::Value::as_str);
        Ok(endpoint.context("rig.json names no endpoint")?.to_owned())
    }

    /// The TLS files of one of its clients.
    pub fn tls(&self, name: &str) -> TlsFiles {
        TlsFiles {
            ca: self.file("pki/ca.crt"),
            certificate: self.file(&format!("pki/{name}.crt")),
            private_key: self.file(&format!("pki/{name}.key")),
        }
    }

    /// A connection over mutual TLS.
    pub async fn client(&self, name: &str) -> anyhow::Result<Client> {
        let endpoint = Endpoint::parse(&self.address()?, Some(self.tls(name)))?;
        Ok(Client::connect(endpoint, PATIENCE).await?)
    }

    /// So many connections over the door named.
    pub async fn clients(&self, door: Door, count: usize) -> anyhow::Result<Vec<Client>> {
        let mut clients = Vec::new();
        for _ in 0..count {
            clients.push(match door {
                Door::Tls => self.client("lkm-1").await?,
                Door::Unix => {
                    let socket = Endpoint::Unix(self.file("run/kekd.sock"));
                    Client::connect(socket, PATIENCE).await?
                }
            });
        }
        Ok(clients)
    }

    /// The first version of a KEK.
    pub async fn kek(&self, name: &str) -> anyhow::Result<Kek> {
        let client = self.client("lkm-1").await?;
        let kek = client.get_kek(&name.parse()?).await?;
        let version = kek.versions.first().context("a KEK without a version")?;
        let keypair_id = version.keypair_id.parse()?;
        let format = v1::PublicKeyFormat::SpkiPem;
        let pem = String::from_utf8(client.get_public_key(keypair_id, format).await?)?;
        let body: String = pem.lines().filter(|line| !line.starts_with('-')).collect();
        let spki = base64::engine::general_purpose::STANDARD.decode(body)?;
        Ok(Kek {
            keypair_id,
            public_key: Arc::new(RsaPublicKey::from_spki(&spki)?),
        })
    }

    /// The processes: the daemon, then its worker.
    pub async fn pids(&self) -> anyhow::Result<[u32; 2]> {
        let daemon = fs::read_to_string(self.file("kekd.pid"))?.trim().parse()?;
        let status = self.client("operator").await?.status().await?;
        let worker = status.token.context("no token")?.worker_pid;
        Ok([daemon, worker])
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        if self.is_ours {
            // Nobody is left to hear that it failed.
            drop(self.stop());
        }
    }
}

/// How a client comes in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Door {
    Tls,
    Unix,
}

/// What does the RSA.
pub enum Module {
    SoftHsm,
    /// tests/modules/null.
    Null {
        path: PathBuf,
        latency_ms: u64,
    },
}

impl Kek {
    /// So many calls, each with a DEK of its own.
    pub fn calls(&self) -> anyhow::Result<Vec<UnwrapCall>> {
        (0..CALLS_LEN).map(|_| self.call()).collect()
    }

    /// A call.
    pub fn call(&self) -> anyhow::Result<UnwrapCall> {
        let mut dek = [0; 32];
        rand::fill(&mut dek)?;
        let padding = Padding::OaepSha1;
        Ok(UnwrapCall {
            keypair_id: self.keypair_id,
            wrapped_dek: self.public_key.wrap(padding, &dek)?,
            padding,
            recipient: None,
            request_id: Some(RequestId::random()?),
            end_user: EndUser::default(),
        })
    }

    /// The keypair id as bytes: `CKA_ID`.
    pub fn object_id(&self) -> anyhow::Result<[u8; 16]> {
        Ok(*uuid::Uuid::parse_str(&self.keypair_id.to_string())?.as_bytes())
    }
}

/// Runs a command that must succeed, and gives its output.
pub fn run(mut command: Command) -> anyhow::Result<String> {
    let output = command.output()?;
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    ensure!(
        output.status.success(),
        "{command:?} ended with {}: {}",
        output.status,
        text(&output.stderr)
    );
    Ok(text(&output.stdout))
}

/// Runs `ssh-keygen -Y sign` over a text.
pub fn sign(key: &Path, namespace: &str, text: &[u8]) -> anyhow::Result<Vec<u8>> {
    let mut keygen = Command::new("ssh-keygen");
    keygen
        .args(["-q", "-Y", "sign", "-n", namespace, "-f"])
        .arg(key);
    keygen.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = keygen.spawn()?;
    child.stdin.take().context("a pipe")?.write_all(text)?;
    let mut signature = Vec::new();
    child
        .stdout
        .take()
        .context("a pipe")?
        .read_to_end(&mut signature)?;
    ensure!(child.wait()?.success(), "ssh-keygen signs nothing");
    Ok(signature)
}

/// `kekctl` with a rig's certificates.
pub fn kekctl<S: AsRef<OsStr>>(
    rig: &Rig,
    client: &str,
    arguments: impl IntoIterator<Item = S>,
) -> anyhow::Result<String> {
    let files = rig.tls(client);
    let mut command = Command::new(KEKCTL);
    command
        .env("KEKD_ENDPOINT", rig.address()?)
        .env("KEKD_CA", files.ca)
        .env("KEKD_CERT", files.certificate)
        .env("KEKD_KEY", files.private_key)
        .args(arguments);
    run(command)
}

/// Processor time a process has used, in seconds (proc(5), `utime` and `stime`, at 100 Hz).
pub fn processor_seconds(pid: u32) -> anyhow::Result<f64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let (_, rest) = stat.rsplit_once(')').context("no stat")?;
    let ticks = rest
        .split_whitespace()
        .skip(11)
        .take(2)
        .map(str::parse::<u64>)
        .sum::<Result<u64, _>>()?;
    Ok(ticks as f64 / 100.0)
}

/// A field of `/proc/PID/status` that is in kB, in MiB.
pub fn memory_mib(pid: u32, field: &str) -> anyhow::Result<f64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    for line in status.lines() {
        if let Some(rest) = line.strip_prefix(field) {
            let kib: f64 = rest.trim_matches([':', ' ', '\t', 'k', 'B']).parse()?;
            return Ok(kib / 1024.0);
        }
    }
    bail!("no {field} of process {pid}")
}
