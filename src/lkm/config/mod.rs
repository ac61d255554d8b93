//! What `kekd-lkm` is told: one TOML file and `KEKD_LKM__SECTION__KEY` variables, read as kekd's are.
//! Secrets are never here, only paths to them.

mod limits;
mod schema;

use std::net::SocketAddr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

pub use schema::SCHEMA;

use super::hawk::SignedPath;
use super::message::DecryptTypePlace;
use crate::config::LogConfig;

/// Everything `kekd-lkm` is told.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct LkmConfig {
    /// The door the cloud comes through.
    pub https: HttpsConfig,
    /// Who may ask.
    #[serde(default)]
    pub hawk: HawkConfig,
    /// What of the protocol is not known for certain.
    #[serde(default)]
    pub protocol: ProtocolConfig,
    /// The way to kekd.
    pub kekd: KekdConfig,
    /// Health, readiness and metrics, for this host only.
    #[serde(default)]
    pub local: LocalConfig,
    /// Limits.
    #[serde(default)]
    pub limits: LkmLimits,
    /// Logging.
    #[serde(default)]
    pub log: LogConfig,
}

/// The door: `[https]`.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct HttpsConfig {
    /// Address and port; not used where systemd hands over a socket.
    #[serde(default = "default_listen")]
    pub listen: SocketAddr,
    /// PEM file: the server's certificate, then its intermediates.
    pub certificate_file: PathBuf,
    /// PEM file: its private key, mode 0600. Relative as in `hawk.credentials_file`.
    pub private_key_file: PathBuf,
    /// The host of the URL that the cloud calls. It is in every MAC.
    pub public_host: String,
    /// The port of that URL, whatever the port here. It is in every MAC.
    #[serde(default = "default_public_port")]
    pub public_port: u16,
    /// The path of that URL.
    #[serde(default = "default_path")]
    pub path: String,
    /// The oldest TLS spoken: 1.2 or 1.3.
    #[serde(default)]
    pub tls_min: TlsMin,
    /// Networks that may connect, `203.0.113.0/24, 2001:db8::/32`; empty for any.
    #[serde(default)]
    pub allow_sources: String,
    /// Milliseconds between two looks at the files. 100 to 3600000.
    #[serde(default = "default_reload_interval_ms")]
    pub reload_interval_ms: u64,
}

/// The oldest TLS spoken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize)]
pub enum TlsMin {
    /// TLS 1.2 with AEAD cipher suites and forward secrecy only.
    #[default]
    #[serde(rename = "1.2")]
    Tls12,
    /// TLS 1.3.
    #[serde(rename = "1.3")]
    Tls13,
}

/// Who may ask: `[hawk]`.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct HawkConfig {
    /// The file of credentials, mode 0600. A relative path is taken from `$CREDENTIALS_DIRECTORY`
    /// where that is set, else from the folder of the configuration file.
    pub credentials_file: PathBuf,
    /// Seconds a caller's clock may be off, either way. 1 to 600.
    pub skew_s_max: u64,
    /// Which path is signed.
    pub signed_path: SignedPath,
    /// Nonces remembered of one credential. 1000 to 1000000.
    pub nonces_max: usize,
}

/// What is not known for certain: `[protocol]`.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct ProtocolConfig {
    /// Where the kind of padding is named.
    pub decrypt_type: DecryptTypePlace,
}

/// The way to kekd: `[kekd]`.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct KekdConfig {
    /// `https://HOST:PORT` or `unix:/PATH`.
    pub endpoint: String,
    /// PEM file: the authorities that issue kekd's server certificate. With https only, as the next.
    pub ca_file: Option<PathBuf>,
    /// PEM file: this program's client certificate.
    pub certificate_file: Option<PathBuf>,
    /// PEM file: its private key. Relative as in `hawk.credentials_file`.
    pub private_key_file: Option<PathBuf>,
    /// Connections for interactive calls. 1 to 64.
    #[serde(default = "default_connections")]
    pub connections: usize,
    /// Milliseconds kekd may take for one unwrap. 100 to 60000.
    #[serde(default = "default_timeout_ms")]
    pub timeout_ms: u64,
    /// Milliseconds between two canaries: one unwrap of a known value under each KEK. 1000 to
    /// 3600000.
    #[serde(default = "default_canary_interval_ms")]
    pub canary_interval_ms: u64,
}

/// The local door: `[local]`.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct LocalConfig {
    /// Address and port for `/health`, `/ready` and `/metrics`, plain HTTP: a loopback address.
    pub listen: SocketAddr,
}

/// Limits: `[limits]`.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct LkmLimits {
    /// Open connections. 1 to 65536.
    pub connections_max: usize,
    /// Open connections of one address. 1 to 65536.
    pub connections_per_address_max: usize,
    /// Milliseconds from accept to the end of the TLS handshake. 100 to 60000.
    pub handshake_timeout_ms: u64,
    /// Milliseconds from the end of one request to the end of the next one's head. 100 to 600000.
    pub head_timeout_ms: u64,
    /// Milliseconds one request may take from the end of its head to its answer. 100 to 120000.
    pub request_timeout_ms: u64,
    /// Milliseconds after which the next answer on a connection is its last. 1000 to 86400000.
    pub connection_age_ms_max: u64,
    /// Bytes of a request's head. 8192 to 65536.
    pub head_bytes_max: usize,
    /// Bytes of a request's body. 1024 to 65536.
    pub body_bytes_max: usize,
    /// Requests a second of one credential, and as many at once. 1 to 100000.
    pub requests_per_s_of_credential: u32,
    /// Requests a second of one address, known or not, and as many at once. 1 to 100000.
    pub requests_per_s_of_address: u32,
    /// Interactive unwraps under way. 1 to 4096.
    pub interactive_max: usize,
    /// Bulk unwraps under way, on streams of 32. 1 to 1024.
    pub bulk_max: usize,
}

impl Default for HawkConfig {
    fn default() -> Self {
        Self {
            credentials_file: PathBuf::from("credentials.toml"),
            skew_s_max: 60,
            signed_path: SignedPath::Either,
            nonces_max: 200_000,
        }
    }
}

impl Default for ProtocolConfig {
    fn default() -> Self {
        Self {
            decrypt_type: DecryptTypePlace::Either,
        }
    }
}

impl Default for LocalConfig {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 9484)),
        }
    }
}

impl Default for LkmLimits {
    fn default() -> Self {
        Self {
            connections_max: 512,
            connections_per_address_max: 128,
            handshake_timeout_ms: 5_000,
            head_timeout_ms: 15_000,
            request_timeout_ms: 5_000,
            connection_age_ms_max: 600_000,
            head_bytes_max: 16 * 1024,
            body_bytes_max: 4 * 1024,
            requests_per_s_of_credential: 1_000,
            requests_per_s_of_address: 1_000,
            interactive_max: 64,
            bulk_max: 32,
        }
    }
}

fn default_listen() -> SocketAddr {
    SocketAddr::from(([0, 0, 0, 0], 443))
}

const fn default_public_port() -> u16 {
    443
}

fn default_path() -> String {
    "/key-management/v1/decrypt".to_owned()
}

const fn default_reload_interval_ms() -> u64 {
    2_000
}

const fn default_connections() -> usize {
    4
}

const fn default_timeout_ms() -> u64 {
    3_000
}

const fn default_canary_interval_ms() -> u64 {
    60_000
}
