//! How a DEK was wrapped, and in what form it may leave.

use std::fmt;
use std::str::FromStr;

use super::{TypeError, refused};

/// How a DEK was wrapped. RFC 8017, sections 7.1 and 7.2; labels are empty, MGF1 uses the same hash.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Deserialize, serde::Serialize,
)]
#[serde(rename_all = "kebab-case")]
pub enum Padding {
    /// RSAES-OAEP with SHA-1.
    OaepSha1,
    /// RSAES-OAEP with SHA-256.
    OaepSha256,
    /// RSAES-PKCS1-v1_5.
    #[serde(rename = "pkcs1-v1_5")]
    Pkcs1V15,
}

impl Padding {
    /// The name used in profiles, command lines and output.
    pub const fn name(self) -> &'static str {
        match self {
            Self::OaepSha1 => "oaep-sha1",
            Self::OaepSha256 => "oaep-sha256",
            Self::Pkcs1V15 => "pkcs1-v1_5",
        }
    }
}

impl FromStr for Padding {
    type Err = TypeError;

    fn from_str(text: &str) -> Result<Self, TypeError> {
        match text {
            "oaep-sha1" => Ok(Self::OaepSha1),
            "oaep-sha256" => Ok(Self::OaepSha256),
            "pkcs1-v1_5" => Ok(Self::Pkcs1V15),
            _ => refused("a padding", "one of oaep-sha1, oaep-sha256, pkcs1-v1_5"),
        }
    }
}

impl fmt::Display for Padding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// In what form a DEK may leave.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Deserialize, serde::Serialize,
)]
#[serde(rename_all = "kebab-case")]
pub enum ReleaseForm {
    /// As it is, to the caller.
    Clear,
    /// Wrapped again inside the HSM under a recipient's RSA public key.
    Recipient,
}
