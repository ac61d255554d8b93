//! A front-end of a test's own, before a rig's kekd, and the cloud that calls it.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::Method;
use kekd::clock::Clock;
use kekd::lkm::caller::{Call, CallError, Caller, Connection, Reply, Target, signed, unsigned};
use kekd::lkm::credential_file::CredentialFile;
use kekd::lkm::credentials::Lane;
use kekd::lkm::hawk::{Artifacts, Secret};
use kekd::types::{KeypairId, Padding};
use rustix::process::{Pid, Signal, kill_process};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, ServerName};
use tokio::task::JoinHandle;
use toml::{Table, Value};

use crate::harness::{KEKCTL, Kek, PATIENCE, Rig, copy, free_port};
use crate::still::stand_still;

pub const KEKD_LKM: &str = env!("CARGO_BIN_EXE_kekd-lkm");
pub const JSON: &str = "application/json";

/// A front-end. Killed when it is dropped.
pub struct Front {
    child: Option<Child>,
    dir: PathBuf,
    local: u16,
    pub port: u16,
    pub target: Target,
    pub roots: PathBuf,
    pub id: String,
    pub key: String,
    /// Where set, it is handed over as systemd does, and `https.listen` is not.
    pub socket: Option<TcpListener>,
    /// Variables it gets beside its own.
    pub environment: Vec<(String, String)>,
}

impl Front {
    /// Before this rig's kekd, not started.
    pub fn stopped(rig: &Rig) -> Self {
        let (port, local) = (free_port(), free_port());
        let front = Self {
            child: None,
            dir: rig.dir.clone(),
            local,
            port,
            target: format!("https://127.0.0.1:{port}/key-management/v1/decrypt")
                .parse()
                .unwrap(),
            roots: rig.dir.join("pki/ca.crt"),
            id: "rig-cloud".to_owned(),
            key: rig_key(rig),
            socket: None,
            environment: Vec::new(),
        };
        front.set("https", "listen", format!("127.0.0.1:{port}"));
        front.set("https", "public_port", i64::from(port));
        front.set("https", "reload_interval_ms", 100);
        front.set("local", "listen", format!("127.0.0.1:{local}"));
        front.set("kekd", "endpoint", rig.address());
        front
    }

    /// Before this rig's kekd, ready.
    pub async fn serving(rig: &Rig) -> Self {
        let mut front = Self::stopped(rig);
        front.start();
        front.is_ready().await;
        front
    }

    /// A second one behind the same name: another process on other ports, with a configuration and
    /// a file of credentials of its own, both as they are here now. Not started.
    pub fn beside(&self) -> Self {
        let dir = self.dir.join("beside");
        fs::create_dir(&dir).unwrap();
        for file in ["kekd-lkm.toml", "credentials.toml"] {
            copy(&self.dir.join(file), &dir);
        }
        let (port, local) = (free_port(), free_port());
        let front = Self {
            child: None,
            local,
            port,
            target: Target {
                port,
                ..self.target.clone()
            },
            roots: self.roots.clone(),
            id: self.id.clone(),
            key: self.key.clone(),
            socket: None,
            environment: Vec::new(),
            dir,
        };
        front.set("https", "listen", format!("127.0.0.1:{port}"));
        front.set("local", "listen", format!("127.0.0.1:{local}"));
        let credentials = front.dir.join("credentials.toml");
        front.set("hawk", "credentials_file", credentials.to_str().unwrap());
        front
    }

    /// Changes a setting.
    pub fn set(&self, section: &str, key: &str, value: impl Into<Value>) {
        let path = self.config();
        let mut table: Table = toml::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
        let section = table.entry(section).or_insert_with(|| Table::new().into());
        section
            .as_table_mut()
            .unwrap()
            .insert(key.to_owned(), value.into());
        fs::write(&path, table.to_string()).unwrap();
    }

    /// Has it ask this rig's kekd over the Unix socket, as who it runs as and with no certificate.
    pub fn ask_over_unix_socket(&self, rig: &Rig) {
        let mut table: Table = toml::from_str(&fs::read_to_string(self.config()).unwrap()).unwrap();
        table.remove("kekd");
        fs::write(self.config(), table.to_string()).unwrap();
        let socket = rig.dir.join("run/kekd.sock");
        self.set("kekd", "endpoint", format!("unix:{}", socket.display()));
    }

    pub fn config(&self) -> PathBuf {
        self.dir.join("kekd-lkm.toml")
    }

    /// Starts it.
    pub fn start(&mut self) {
        let log = fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.log_file())
            .unwrap();
        let mut command = match &self.socket {
            None => Command::new(KEKD_LKM),
            Some(socket) => handed_over(socket),
        };
        let child = command
            .envs(self.environment.iter().cloned())
            .args(["serve", "--config"])
            .arg(self.config())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn();
        self.child = Some(child.unwrap());
    }

    /// Its process id.
    pub fn pid(&self) -> Pid {
        Pid::from_child(self.child.as_ref().unwrap())
    }

    /// Asks it to stop (SIGTERM), and waits until it has: how it ended.
    pub async fn stop(&mut self) -> ExitStatus {
        kill_process(self.pid(), Signal::TERM).unwrap();
        self.ended().await
    }

    /// Waits until it has ended: how.
    pub async fn ended(&mut self) -> ExitStatus {
        let mut child = self.child.take().unwrap();
        tokio::task::spawn_blocking(move || child.wait().unwrap())
            .await
            .unwrap()
    }

    /// Kills it.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().ok();
            child.wait().ok();
        }
    }

    fn log_file(&self) -> PathBuf {
        self.dir.join("kekd-lkm.log")
    }

    pub fn log(&self) -> String {
        fs::read_to_string(self.log_file()).unwrap_or_default()
    }

    /// What the local door says: status line and all.
    pub fn local(&self, path: &str) -> String {
        let Ok(mut stream) = TcpStream::connect(("127.0.0.1", self.local)) else {
            return String::new();
        };
        let ask = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
        stream.write_all(ask.as_bytes()).unwrap();
        let mut said = String::new();
        stream.read_to_string(&mut said).ok();
        said
    }

    /// Waits until it says that it is ready.
    pub async fn is_ready(&self) {
        self.says("/ready", "HTTP/1.1 200").await;
    }

    /// Waits until the local door says this.
    pub async fn says(&self, path: &str, text: &str) {
        for _ in 0..600 {
            if self.local(path).contains(text) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!(
            "{path} never said {text:?}: {}\n{}",
            self.local(path),
            self.log()
        );
    }

    /// Waits until the log has said this so often.
    pub async fn says_in_log(&self, text: &str, times: usize) {
        for _ in 0..600 {
            if self.log().matches(text).count() >= times {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("the log never said {text:?} so often: {}", self.log());
    }

    /// Adds a credential; its secret.
    pub fn add(&self, id: &str, kek: &str, lane: Lane) -> String {
        let path = self.dir.join("credentials.toml");
        let mut file = CredentialFile::parse(&fs::read_to_string(&path).unwrap()).unwrap();
        let secret = file.add(id, vec![kek.parse().unwrap()], lane).unwrap();
        file.write(&path).unwrap();
        secret.to_string()
    }

    /// `kekd-lkm credential …` on its file.
    pub fn credential(&self, arguments: &[&str]) -> std::process::Output {
        let mut command = Command::new(KEKD_LKM);
        command.arg("credential").args(arguments);
        command.arg("--file").arg(self.dir.join("credentials.toml"));
        command.output().unwrap()
    }

    /// `kekctl`, told of it.
    pub fn kekctl(&self, rig: &Rig) -> Command {
        let mut command = rig.kekctl();
        command
            .env("KEKD_LKM_URL", self.target.to_string())
            .env("KEKD_LKM_ID", &self.id)
            .env("KEKD_LKM_KEY", &self.key)
            .env("KEKD_LKM_CA", &self.roots);
        assert_eq!(command.get_program(), KEKCTL);
        command
    }

    pub fn caller(&self) -> Caller {
        let roots = fs::read(&self.roots).unwrap();
        Caller::new(self.target.clone(), &roots, PATIENCE).unwrap()
    }

    pub async fn connect(&self) -> Connection {
        self.caller().connect().await.unwrap()
    }

    /// A TLS connection, for what no client would send.
    pub async fn raw(&self) -> tokio_rustls::client::TlsStream<tokio::net::TcpStream> {
        let mut roots = rustls::RootCertStore::empty();
        for root in CertificateDer::pem_file_iter(&self.roots).unwrap() {
            roots.add(root.unwrap()).unwrap();
        }
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let stream = tokio::net::TcpStream::connect(("127.0.0.1", self.port))
            .await
            .unwrap();
        let name = ServerName::try_from("127.0.0.1").unwrap();
        let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
        connector.connect(name, stream).await.unwrap()
    }

    /// The certificate that it shows now, DER.
    pub async fn certificate(&self) -> Vec<u8> {
        let stream = self.raw().await;
        let (_, tls) = stream.get_ref();
        tls.peer_certificates().unwrap()[0].to_vec()
    }

    /// A signed POST of this body.
    pub fn post(&self, body: Vec<u8>) -> Call {
        self.post_as(&self.id, &self.key, "", body)
    }

    /// The same as another, with a query.
    pub fn post_as(&self, id: &str, key: &str, query: &str, body: Vec<u8>) -> Call {
        let resource = format!("{}{query}", self.target.path);
        self.signed(id, key, &resource, &resource, body)
    }

    /// A POST to one resource that was signed for another.
    pub fn signed(&self, id: &str, key: &str, to: &str, signed_for: &str, body: Vec<u8>) -> Call {
        let mut target = self.target.clone();
        target.path = signed_for.to_owned();
        Call {
            resource: to.to_owned(),
            ..post(&target, id, key, body)
        }
    }

    /// One request on a connection of its own.
    pub async fn say(&self, call: Call) -> Result<Reply, CallError> {
        self.caller().connect().await?.send(call).await
    }
}

/// A kekd that stands still (SIGSTOP) under callers of its front-end.
pub struct StandStill {
    pub daemon: Pid,
    /// Each on a connection of its own.
    pub asked: Vec<JoinHandle<Result<Reply, CallError>>>,
    kek: Kek,
}

impl StandStill {
    /// Sees that one unwrap is good, stops kekd, and lets so many ask for another.
    pub async fn under(rig: &Rig, front: &Front, callers: usize) -> Self {
        front.is_ready().await;
        let kek = Kek::of(&rig.client("lkm-1").await, "recordings").await;
        let daemon = Pid::from_raw(rig.daemon_pid().cast_signed()).unwrap();
        let mut still = Self {
            daemon,
            asked: Vec::new(),
            kek,
        };
        assert_eq!(front.say(still.call(front)).await.unwrap().status, 200);
        stand_still(daemon);
        for _ in 0..callers {
            let (caller, call) = (front.caller(), still.call(front));
            let asked = tokio::spawn(async move { caller.connect().await?.send(call).await });
            still.asked.push(asked);
        }
        still
    }

    /// One more unwrap.
    pub fn call(&self, front: &Front) -> Call {
        let wrapped = self.kek.wrap(Padding::OaepSha1, &[1; 32]);
        front.post(body(self.kek.keypair_id, &wrapped))
    }
}

impl Drop for Front {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The program with a socket as systemd hands it over (`sd_listen_fds(3)`): descriptor 3, and the process
/// id of who is meant. A shell moves it there, since what we start gets only three.
fn handed_over(socket: &TcpListener) -> Command {
    let script = r#"exec 3<&0 0</dev/null; LISTEN_PID=$$ LISTEN_FDS=1 exec "$@""#;
    let mut command = Command::new("sh");
    command.args(["-c", script, "sh", KEKD_LKM]);
    command.env("LISTEN_FDNAMES", "kekd-lkm.socket");
    command.stdin(OwnedFd::from(socket.try_clone().unwrap()));
    command
}

fn rig_key(rig: &Rig) -> String {
    let text = fs::read_to_string(rig.dir.join("credentials.toml")).unwrap();
    let file = CredentialFile::parse(&text).unwrap();
    file.credential[0].secrets[0].clone()
}

/// The body of a request.
pub fn body(id: KeypairId, wrapped: &[u8]) -> Vec<u8> {
    let wrapped = STANDARD.encode(wrapped);
    format!(r#"{{"keypairId":"{id}","body":"{wrapped}"}}"#).into_bytes()
}

/// The DEK of an answer.
pub fn dek_of(reply: &Reply) -> Vec<u8> {
    assert_eq!(
        reply.status,
        200,
        "{}",
        String::from_utf8_lossy(&reply.body)
    );
    let answer: serde_json::Value = serde_json::from_slice(&reply.body).unwrap();
    STANDARD.decode(answer["body"].as_str().unwrap()).unwrap()
}

/// A signed POST.
pub fn post(target: &Target, id: &str, key: &str, body: Vec<u8>) -> Call {
    let artifacts = Artifacts {
        method: "POST",
        resource: &target.path,
        host: &target.host,
        port: target.port,
    };
    let header = unsigned(id, Clock::System.now().0 / 1000).unwrap();
    let header = signed(&Secret::new(key), header, &artifacts);
    Call {
        method: Method::POST,
        resource: target.path.clone(),
        authorization: Some(header.to_string()),
        content_type: Some(JSON),
        more: Vec::new(),
        body,
    }
}
