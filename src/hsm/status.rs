//! What can be said of the HSM without asking it: the state of the worker, the token as it was when
//! last opened, what it was found able to do. Reading these never waits for an HSM.

use super::error::HsmError;
use crate::proto::worker as proto;
use crate::types::Padding;

/// Whether the HSM serves.
#[derive(Debug, Clone)]
pub enum HsmState {
    /// A worker process is being started: the first, or in place of one that served. Calls wait
    /// for it within their deadline.
    Starting,
    /// The token is open and calls are served.
    Ready,
    /// The token could not be opened. It is tried again, ever more rarely; calls are refused.
    Unavailable {
        /// What happened to the latest try.
        why: HsmError,
    },
    /// Nothing more is tried in this process, for a further login could lock the token.
    Refused {
        /// What the token or the PIN file said.
        why: HsmError,
    },
    /// It was shut down.
    ShutDown,
}

/// The token, in its own words when it was last opened (PKCS#11 `CK_TOKEN_INFO`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token {
    /// Label.
    pub label: String,
    /// Serial number.
    pub serial: String,
    /// Manufacturer.
    pub manufacturer: String,
    /// Model.
    pub model: String,
    /// `MAJOR.MINOR` of the token's firmware.
    pub firmware_version: String,
    /// `MAJOR.MINOR` of the PKCS#11 interface.
    pub cryptoki_version: String,
    /// At least one login failed since the last good one.
    pub pin_count_low: bool,
}

impl From<proto::Opened> for Token {
    fn from(opened: proto::Opened) -> Self {
        Self {
            label: opened.label,
            serial: opened.serial,
            manufacturer: opened.manufacturer,
            model: opened.model,
            firmware_version: opened.firmware_version,
            cryptoki_version: opened.cryptoki_version,
            pin_count_low: opened.pin_count_low,
        }
    }
}

/// What the token does, found out by doing it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Capabilities {
    /// RSAES-OAEP with SHA-1.
    pub oaep_sha1: bool,
    /// RSAES-OAEP with SHA-256.
    pub oaep_sha256: bool,
    /// RSAES-PKCS1-v1_5.
    pub pkcs1_v1_5: bool,
    /// ECDSA signatures on P-256.
    pub ecdsa_p256: bool,
    /// HMAC with SHA-256.
    pub hmac_sha256: bool,
    /// A ciphertext under another OAEP label is refused.
    pub oaep_label_honoured: bool,
    /// The return value for a junk OAEP ciphertext, by name.
    pub junk_return_value: String,
}

impl Capabilities {
    /// The names of what the token does, for example `oaep-sha1` and `ecdsa-p256`.
    pub fn names(&self) -> Vec<&'static str> {
        [
            (self.oaep_sha1, "oaep-sha1"),
            (self.oaep_sha256, "oaep-sha256"),
            (self.pkcs1_v1_5, "pkcs1-v1_5"),
            (self.ecdsa_p256, "ecdsa-p256"),
            (self.hmac_sha256, "hmac-sha256"),
            (self.oaep_label_honoured, "oaep-label"),
        ]
        .into_iter()
        .filter_map(|(does, name)| does.then_some(name))
        .collect()
    }

    /// The paddings the token unwraps.
    pub fn paddings(&self) -> Vec<Padding> {
        [
            (self.oaep_sha1, Padding::OaepSha1),
            (self.oaep_sha256, Padding::OaepSha256),
            (self.pkcs1_v1_5, Padding::Pkcs1V15),
        ]
        .into_iter()
        .filter_map(|(does, padding)| does.then_some(padding))
        .collect()
    }
}

impl From<proto::Probed> for Capabilities {
    fn from(probed: proto::Probed) -> Self {
        Self {
            oaep_sha1: probed.oaep_sha1,
            oaep_sha256: probed.oaep_sha256,
            pkcs1_v1_5: probed.pkcs1_v1_5,
            ecdsa_p256: probed.ecdsa_p256,
            hmac_sha256: probed.hmac_sha256,
            oaep_label_honoured: probed.oaep_label_honoured,
            junk_return_value: probed.junk_return_value,
        }
    }
}

/// Everything at once.
#[derive(Debug, Clone)]
pub struct HsmStatus {
    /// Whether it serves.
    pub state: HsmState,
    /// The token, once it was open.
    pub token: Option<Token>,
    /// What it does, once it was probed.
    pub capabilities: Option<Capabilities>,
    /// Calls of clients that wait for a session, in both lanes.
    pub queue_len: usize,
    /// Worker processes started after the first.
    pub worker_restarts: u64,
    /// The process id of the worker, while there is one.
    pub worker_pid: Option<u32>,
}
