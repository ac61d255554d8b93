//! The one helper of the integration tests: a real rig, made once by `kekctl rig up` and copied for
//! each test, so that every test has a token, a ledger, a daemon and ports of its own.

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;
use std::time::Duration;

use kekd::client::{Client, ClientError, Endpoint, Release, TlsFiles, UnwrapCall};
use kekd::proto::v1;
use kekd::public_key::RsaPublicKey;
use kekd::types::{EndUser, KeypairId, Padding, WrappedDek};
use prost::Message as _;
use tempfile::TempDir;

pub const KEKD: &str = env!("CARGO_BIN_EXE_kekd");
pub const KEKCTL: &str = env!("CARGO_BIN_EXE_kekctl");

/// Deadline of a call that should succeed on a loaded machine.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// The rig all others are copied from: a token with four KEKs, stopped.
fn template() -> &'static Path {
    static TEMPLATE: OnceLock<TempDir> = OnceLock::new();
    let dir = TEMPLATE.get_or_init(|| {
        let dir = tempfile::tempdir().unwrap();
        let rig = dir.path().join("rig");
        must(Command::new(KEKCTL).args(["rig", "up"]).arg(&rig));
        must(Command::new(KEKCTL).args(["rig", "stop"]).arg(&rig));
        dir
    });
    dir.path()
}

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

/// Copies a folder with all it holds, through `cp`, which keeps modes.
pub fn copy(from: &Path, to: &Path) {
    must(Command::new("cp").arg("-a").arg(from).arg(to));
}

/// An instance of its own. The daemon is stopped when this is dropped.
pub struct Rig {
    _home: TempDir,
    /// The rig's folder.
    pub dir: PathBuf,
    port: u16,
    /// Variables the daemon gets beside its own.
    pub environment: Vec<(String, String)>,
}

impl Rig {
    /// A copy of the template, not started.
    pub fn stopped() -> Self {
        Self::of(&template().join("rig"))
    }

    /// A copy of another stopped rig.
    pub fn of(old: &Path) -> Self {
        let home = tempfile::Builder::new().prefix("kekd").tempdir().unwrap();
        let dir = home.path().join("rig");
        copy(old, &dir);
        let port = free_port();
        let rig = Self {
            _home: home,
            dir,
            port,
            environment: Vec::new(),
        };
        let old_port = rig.port_in("env");
        for file in ["kekd.toml", "softhsm2.conf", "env", "rig.json"] {
            rig.edit(file, |text| {
                text.replace(old.to_str().unwrap(), rig.dir.to_str().unwrap())
                    .replace(
                        &format!("127.0.0.1:{old_port}"),
                        &format!("127.0.0.1:{port}"),
                    )
            });
        }
        rig
    }

    /// A copy of the template, serving.
    pub fn serving() -> Self {
        let rig = Self::stopped();
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

    /// Stops the daemon in order.
    pub fn stop(&self) {
        must(&mut self.rig_command("stop"));
    }

    /// The daemon's process id.
    pub fn daemon_pid(&self) -> u32 {
        fs::read_to_string(self.dir.join("kekd.pid"))
            .unwrap()
            .trim()
            .parse()
            .unwrap()
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
        let mut command = Command::new(KEKCTL);
        let files = self.files("lkm-1");
        command
            .env("KEKD_ENDPOINT", self.address())
            .env("KEKD_CA", files.ca)
            .env("KEKD_CERT", files.certificate)
            .env("KEKD_KEY", files.private_key)
            .env_remove("KEKD_SOCKET");
        command
    }

    /// A command that sees this rig's SoftHSM token.
    pub fn token_command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.env("SOFTHSM2_CONF", self.dir.join("softhsm2.conf"));
        command
    }

    /// The token's PIN.
    pub fn pin(&self) -> String {
        fs::read_to_string(self.dir.join("pin"))
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
}

impl Drop for Rig {
    fn drop(&mut self) {
        // The daemon may be gone already, and the worker goes with it.
        self.rig_command("stop").output().ok();
    }
}

/// A port nobody listens on at this moment.
pub fn free_port() -> u16 {
    TcpListener::bind(("127.0.0.1", 0))
        .unwrap()
        .local_addr()
        .unwrap()
        .port()
}

/// A KEK of the rig and its public key.
pub struct Kek {
    pub keypair_id: KeypairId,
    pub public_key: RsaPublicKey,
}

impl Kek {
    /// The first version of a KEK the client may see.
    pub async fn of(client: &Client, name: &str) -> Self {
        let kek = client.get_kek(&name.parse().unwrap()).await.unwrap();
        let keypair_id = kek.versions[0].keypair_id.parse().unwrap();
        let pem = client
            .get_public_key(keypair_id, v1::PublicKeyFormat::SpkiPem)
            .await
            .unwrap();
        let spki = pem_bytes(&String::from_utf8(pem).unwrap());
        Self {
            keypair_id,
            public_key: RsaPublicKey::from_spki(&spki).unwrap(),
        }
    }

    /// `value` wrapped outside the HSM.
    pub fn wrap(&self, padding: Padding, value: &[u8]) -> Vec<u8> {
        self.public_key
            .wrap(padding, value)
            .unwrap()
            .as_bytes()
            .to_vec()
    }

    /// A call that unwraps `dek`.
    pub fn call(&self, padding: Padding, dek: &[u8]) -> UnwrapCall {
        self.call_with(padding, self.wrap(padding, dek))
    }

    /// A call with these bytes as the wrapped DEK.
    pub fn call_with(&self, padding: Padding, wrapped: Vec<u8>) -> UnwrapCall {
        UnwrapCall {
            keypair_id: self.keypair_id,
            wrapped_dek: WrappedDek::try_from(wrapped).unwrap(),
            padding,
            recipient: None,
            request_id: None,
            end_user: EndUser::default(),
        }
    }
}

/// The DER inside a PEM text.
pub fn pem_bytes(pem: &str) -> Vec<u8> {
    use base64::Engine as _;
    let body: String = pem.lines().filter(|line| !line.starts_with('-')).collect();
    base64::engine::general_purpose::STANDARD
        .decode(body)
        .unwrap()
}

/// The DEK of a clear release.
pub fn dek(release: &Release) -> [u8; 32] {
    match release {
        Release::Dek(dek) => *dek.as_bytes(),
        Release::Rewrapped(_) => panic!("a wrapped DEK where a clear one was asked for"),
    }
}

/// Reason of a refusal.
pub fn reason(error: &ClientError) -> &str {
    let ClientError::Refused(refusal) = error else {
        panic!("not a refusal: {error}");
    };
    &refusal.reason
}
