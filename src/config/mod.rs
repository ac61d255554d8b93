//! The configuration: one TOML file, read whole before anything is opened. This is the only module
//! that reads the environment. Secrets are never here, only paths to them; officers, clients,
//! thresholds and grants are not here either: they live in the ledger.
//!
//! A value is taken from the environment (`KEKD__SECTION__KEY`) where it is there, else from the
//! file, else it is the default. Relative paths are taken from the folder of the file, except the
//! two files that hold secrets: see `hsm.pin_file`.

mod check;
mod error;
mod kind;
mod load;
mod paths;
mod schema;
mod tokens;

pub use check::{Number, Text};
pub use error::{ConfigError, Place};
pub use load::{Environment, Loaded, Origin, Setting, load, load_as};
pub use paths::from as path_from;
pub use schema::Schema;
pub use tokens::{PRIMARY, TokenConfig};

use std::net::SocketAddr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// Everything `kekd` is told from outside the ledger.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Where the ledger, the audit log and the marks live. Created by `kekd init`, mode 0700.
    pub state_dir: PathBuf,
    /// The name of this node in audit records: 1 to 63 printable ASCII characters, no spaces.
    #[serde(default = "default_node")]
    pub node: String,
    /// The HSM: the primary token.
    pub hsm: HsmConfig,
    /// Replicas: further tokens with the same KEKs, that unwrap beside the primary.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub token: Vec<TokenConfig>,
    /// gRPC over TCP with mutual TLS. Left out: no TCP.
    pub tcp: Option<TcpConfig>,
    /// gRPC over a Unix socket. Left out: no Unix socket.
    pub unix: Option<UnixConfig>,
    /// Limits of the network side.
    #[serde(default)]
    pub limits: LimitsConfig,
    /// The audit log.
    #[serde(default)]
    pub audit: AuditConfig,
    /// Logging.
    #[serde(default)]
    pub log: LogConfig,
}

/// The HSM: `[hsm]`.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct HsmConfig {
    /// Path of the PKCS#11 module, a shared object.
    pub module: PathBuf,
    /// Label of the token, 1 to 32 bytes. Slots are never used: their numbers change.
    pub token_label: String,
    /// Serial number of the token, as the token reports it, 1 to 16 bytes.
    pub token_serial: String,
    /// File that holds the user PIN, mode 0600 or tighter; a trailing line feed is not part of it.
    /// A relative path is taken from `$CREDENTIALS_DIRECTORY` (systemd's LoadCredential) when that
    /// is set, else from the folder of the configuration file.
    pub pin_file: PathBuf,
    /// PKCS#11 sessions for work; each has a thread of its own in the worker. Default: the number
    /// of processors. 1 to 64.
    #[serde(default = "default_sessions")]
    pub sessions: usize,
    /// Calls that may wait for a session before further ones are refused as busy: half of them in the
    /// interactive lane, half in the bulk lane. In each, one client gets no more than an even part.
    /// One more lies with the worker. 1 to 65536.
    #[serde(default = "default_queue_len_max")]
    pub queue_len_max: usize,
    /// Milliseconds one unwrap may take inside the HSM before the worker process is killed and
    /// replaced. 100 to 60000.
    #[serde(default = "default_call_timeout_ms")]
    pub call_timeout_ms: u64,
    /// Milliseconds that opening the token, generating or inspecting a key may take. A start gives
    /// up when the token is not open after twice as long. 1000 to 600000.
    #[serde(default = "default_admin_timeout_ms")]
    pub admin_timeout_ms: u64,
    /// Versions that are attacked and tested before the node serves: the active ones first, the
    /// newest first. The others are before their first use, and by and by. 0 to 65536.
    #[serde(default = "default_proven_at_start")]
    pub proven_at_start: usize,
    /// Milliseconds that a new version waits to be held by every required replica (`[[token]]`)
    /// before its execution ends without effect. Default: a day. 1000 to 2592000000, 30 days.
    #[serde(default = "default_coverage_timeout_ms")]
    pub coverage_timeout_ms: u64,
    /// Folder of key profiles beside the built-in ones and before them, read by `kekd init` and whenever
    /// a version is made or brought in.
    pub profiles_dir: Option<PathBuf>,
}

/// gRPC over TCP: `[tcp]`. TLS 1.3 only; client certificates are required.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct TcpConfig {
    /// Address and port.
    pub listen: SocketAddr,
    /// PEM file: the server's certificate, then its intermediates.
    pub certificate_file: PathBuf,
    /// PEM file: the server's private key, mode 0600 or tighter. Relative as in `hsm.pin_file`.
    pub private_key_file: PathBuf,
    /// PEM file: the authorities that issue client certificates.
    pub client_ca_file: PathBuf,
    /// PEM or DER file: certificate revocation lists. Where it is given, every authority in a
    /// client's chain needs a list in it: a certificate whose standing is unknown is refused.
    pub client_crl_file: Option<PathBuf>,
    /// Milliseconds between two looks at these files. 100 to 3600000.
    #[serde(default = "default_reload_interval_ms")]
    pub reload_interval_ms: u64,
}

/// gRPC over a Unix socket: `[unix]`. The caller is the peer's user id.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct UnixConfig {
    /// Path of the socket. Its folder must exist and should be 0750.
    pub socket: PathBuf,
}

/// Limits of the network side: `[limits]`.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct LimitsConfig {
    /// Open connections, all together; with both doors open, an eighth of them is kept for the Unix
    /// socket. 1 to 65536.
    pub connections_max: usize,
    /// Open connections of one peer address or user id. 1 to 65536.
    pub connections_per_peer_max: usize,
    /// Concurrent streams of one connection (HTTP/2 `SETTINGS_MAX_CONCURRENT_STREAMS`). 1 to 1024.
    pub streams_per_connection_max: u32,
    /// Requests of one `UnwrapStream` that are under way at once, or have answers that the client
    /// did not take yet. 1 to 1024.
    pub requests_per_stream_max: usize,
    /// Bytes of one request message. 4096 to 1048576.
    pub request_bytes_max: usize,
    /// Bytes of a request's header list. 1024 to 65536.
    pub header_bytes_max: u32,
    /// Milliseconds from accept to the end of the TLS handshake, from there to the end of the
    /// HTTP/2 preface, and from the beginning to the end of any one HTTP/2 frame or header block.
    /// 100 to 60000.
    pub handshake_timeout_ms: u64,
    /// Milliseconds of silence before an HTTP/2 ping. 100 to 3600000.
    pub keepalive_interval_ms: u64,
    /// Milliseconds to wait for the answer to that ping. 100 to 600000.
    pub keepalive_timeout_ms: u64,
    /// Milliseconds after which a connection is asked to end, so that its identity is proved anew;
    /// 30 seconds later it is cut. 1000 to 86400000.
    pub connection_age_ms_max: u64,
    /// Milliseconds one unary call, or one request of a stream, may take, whatever deadline it
    /// names; and as many again until a stream's client takes an answer, or is cut. 100 to 600000.
    pub request_timeout_ms_max: u64,
    /// Wrapped DEKs of one client that may fail to unwrap under one KEK within
    /// `failures_window_ms`; then the client is refused under that KEK, and an alarm is raised. There
    /// is no value that turns this off. 1 to 1000000.
    pub failures_max: u32,
    /// Milliseconds after which all of `failures_max` are back; they come back one after another.
    /// 1000 to 86400000.
    pub failures_window_ms: u64,
    /// Refused attempts of one client that are recorded in the audit log within a minute. Further
    /// ones are counted and not recorded. 1 to 1000000.
    pub refusals_recorded_per_minute_max: u32,
}

/// The audit log: `[audit]`.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct AuditConfig {
    /// Records that may wait to be written before further calls are refused as busy. 1 to 65536.
    pub queue_len_max: usize,
    /// Records one sync may serve. 1 to 65536.
    pub batch_len_max: usize,
    /// Milliseconds a record may take to become durable before its call is refused. 100 to 60000.
    pub sync_timeout_ms: u64,
    /// Milliseconds between two signed checkpoints of the log; none is made where there is no new
    /// record. 100 to 3600000.
    pub checkpoint_interval_ms: u64,
    /// Days for which every record is kept, before an auditor who has archived it may have it dropped. 0
    /// to 36500.
    pub retention_days_min: u64,
}

/// Logging: `[log]`.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct LogConfig {
    /// `text` or `json`.
    pub format: LogFormat,
    /// A level or a filter in the syntax of `tracing-subscriber`'s `EnvFilter`.
    pub filter: String,
}

/// The form of a log line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

impl Default for LimitsConfig {
    fn default() -> Self {
        Self {
            connections_max: 256,
            connections_per_peer_max: 64,
            streams_per_connection_max: 32,
            requests_per_stream_max: 64,
            request_bytes_max: 16 * 1024,
            header_bytes_max: 8 * 1024,
            handshake_timeout_ms: 5_000,
            keepalive_interval_ms: 30_000,
            keepalive_timeout_ms: 10_000,
            connection_age_ms_max: 3_600_000,
            request_timeout_ms_max: 10_000,
            failures_max: 100,
            failures_window_ms: 600_000,
            refusals_recorded_per_minute_max: 600,
        }
    }
}

impl Default for AuditConfig {
    fn default() -> Self {
        Self {
            queue_len_max: 4096,
            batch_len_max: 256,
            sync_timeout_ms: 5_000,
            checkpoint_interval_ms: 60_000,
            retention_days_min: 365,
        }
    }
}

impl Default for LogConfig {
    fn default() -> Self {
        Self {
            format: LogFormat::Text,
            filter: "info".to_owned(),
        }
    }
}

fn default_node() -> String {
    rustix::system::uname()
        .nodename()
        .to_string_lossy()
        .into_owned()
}

fn default_sessions() -> usize {
    std::thread::available_parallelism().map_or(1, |count| count.get().min(64))
}

const fn default_queue_len_max() -> usize {
    512
}

const fn default_call_timeout_ms() -> u64 {
    1_000
}

const fn default_admin_timeout_ms() -> u64 {
    60_000
}

const fn default_proven_at_start() -> usize {
    32
}

const fn default_coverage_timeout_ms() -> u64 {
    24 * 3600 * 1000
}

const fn default_reload_interval_ms() -> u64 {
    2_000
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test that cannot unwrap has failed")]
mod tests;
