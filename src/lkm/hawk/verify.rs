//! The server's verdict on a Hawk header: whose it is, whether the MAC is right and the time near.
//! The payload hash and the nonce are looked at by the caller once the body is there. The invariant:
//! an unknown id costs what a wrong MAC costs, and only a right MAC is told more than "no".

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::header::{Header, Malformed};
use super::mac::{Artifacts, Secret};
use crate::lkm::credentials::{Credential, Credentials};

/// Which path the MAC may be over. Hawk says path and query; the sample front-end of the cloud's
/// maker signs the path alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum SignedPath {
    /// Either of the two.
    Either,
    /// With the query, as Hawk says.
    WithQuery,
    /// The path alone.
    WithoutQuery,
}

/// Which of the two was met.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reading {
    /// There was no query, so both are one.
    NoQuery,
    /// With the query.
    WithQuery,
    /// The path alone.
    WithoutQuery,
}

impl Reading {
    /// The word in logs and metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::NoQuery => "no-query",
            Self::WithQuery => "with-query",
            Self::WithoutQuery => "without-query",
        }
    }
}

/// What a server holds headers against.
pub struct Verifier {
    /// The host that callers call, whatever the request says it is.
    pub host: String,
    /// The port that callers call.
    pub port: u16,
    /// Seconds a clock may be off, either way.
    pub skew_s_max: u64,
    /// Which path is signed.
    pub signed_path: SignedPath,
    /// Seconds since 1970 when this process began. Nonces of before are not remembered, so no request
    /// of before is believed.
    pub began_s: u64,
}

/// A header whose MAC is right and whose time is near.
pub struct Authenticated {
    /// Whose it is.
    pub credential: Arc<Credential>,
    /// The header.
    pub header: Header,
    /// Which path was signed.
    pub reading: Reading,
    /// 0 for the newer secret, 1 for the older.
    pub secret: usize,
}

/// Why a request is nobody's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotAuthentic {
    /// No header, or more than one, or one that is no text.
    #[error("there is no Authorization header, or more than one")]
    Missing,
    /// The header is none.
    #[error("the Authorization header is malformed: {0}")]
    Malformed(#[from] Malformed),
    /// Nobody has this id.
    #[error("nobody has this id")]
    UnknownId,
    /// The MAC is wrong: secret, method, path, public host, public port or attributes differ.
    #[error("the MAC is wrong: the secret, the path, the public host or the public port differ")]
    Mac,
    /// The time is too far off.
    #[error("the time is {off_s} s off")]
    Stale {
        /// By how much.
        off_s: u64,
        /// What the answer says: the server's time.
        now_s: u64,
        /// And its MAC, base64.
        time_mac: String,
    },
    /// The body is not the one that was hashed.
    #[error("the payload hash is not that of the body")]
    PayloadHash,
    /// The nonce was used before.
    #[error("the nonce was used before: a replay")]
    Replay,
    /// The time is of before this process, which knows no nonces of then.
    #[error("the request is older than this process")]
    BeforeStart,
}

impl Verifier {
    /// The verdict on one header for one request; `now_s` in seconds since 1970.
    ///
    /// # Errors
    /// Where it is not a known caller's, of now.
    pub fn verify(
        &self,
        credentials: &Credentials,
        authorization: &str,
        method: &str,
        uri: &http::Uri,
        now_s: u64,
    ) -> Result<Authenticated, NotAuthentic> {
        let header = Header::parse(authorization)?;
        let known = credentials.of(&header.id);
        let credential = known.unwrap_or_else(|| credentials.nobody());
        let met = self.find(&credential.secrets, &header, method, uri);
        if !credentials.has(&header.id) {
            return Err(NotAuthentic::UnknownId);
        }
        let (index, secret, reading) = met.ok_or(NotAuthentic::Mac)?;
        let off_s = header.ts.abs_diff(now_s);
        if off_s > self.skew_s_max {
            return Err(NotAuthentic::Stale {
                off_s,
                now_s,
                time_mac: secret.time_mac(now_s),
            });
        }
        if header.ts <= self.began_s {
            return Err(NotAuthentic::BeforeStart);
        }
        Ok(Authenticated {
            secret: index,
            reading,
            credential: Arc::clone(credential),
            header,
        })
    }

    /// Every secret with every path allowed, whether one was right or not.
    fn find<'a>(
        &self,
        secrets: &'a [Secret],
        header: &Header,
        method: &str,
        uri: &http::Uri,
    ) -> Option<(usize, &'a Secret, Reading)> {
        let full = uri.path_and_query().map_or("/", |full| full.as_str());
        let readings: &[(&str, Reading)] = match (uri.query(), self.signed_path) {
            (None, _) => &[(full, Reading::NoQuery)],
            (Some(_), SignedPath::WithQuery) => &[(full, Reading::WithQuery)],
            (Some(_), SignedPath::WithoutQuery) => &[(uri.path(), Reading::WithoutQuery)],
            (Some(_), SignedPath::Either) => &[
                (full, Reading::WithQuery),
                (uri.path(), Reading::WithoutQuery),
            ],
        };
        let mut met = None;
        for (index, secret) in secrets.iter().enumerate() {
            for (resource, reading) in readings {
                let artifacts = Artifacts {
                    method,
                    resource,
                    host: &self.host,
                    port: self.port,
                };
                if secret.is_mac_of(header, &artifacts) {
                    met = Some((index, secret, *reading));
                }
            }
        }
        met
    }
}
