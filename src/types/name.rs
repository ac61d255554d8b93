//! Names and ids: of KEKs, key pairs, requests and end users. All are short, printable and bounded.

use std::fmt;
use std::str::FromStr;

use uuid::Uuid;

use super::{TypeError, refused};

/// The name of a KEK: 1 to 63 characters, lower-case ASCII letters, digits and inner hyphens
/// (a DNS label, RFC 1123 section 2.1).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KekName(String);

impl KekName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for KekName {
    type Err = TypeError;

    fn from_str(text: &str) -> Result<Self, TypeError> {
        let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        if text.is_empty()
            || text.len() > 63
            || !text.chars().all(inner)
            || text.starts_with('-')
            || text.ends_with('-')
        {
            return refused("a KEK name", "1 to 63 of a-z, 0-9 and inner hyphens");
        }
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for KekName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The id of one RSA key pair: an RFC 9562 UUID. Its 16 bytes are the `CKA_ID` of the objects.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeypairId(Uuid);

impl KeypairId {
    /// The 16 bytes, in network order.
    pub const fn as_bytes(&self) -> &[u8; 16] {
        self.0.as_bytes()
    }

    /// A version 4 UUID (RFC 9562 section 5.4) from 16 random bytes.
    pub const fn from_random(bytes: [u8; 16]) -> Self {
        Self(uuid::Builder::from_random_bytes(bytes).into_uuid())
    }
}

impl TryFrom<&[u8]> for KeypairId {
    type Error = TypeError;

    fn try_from(bytes: &[u8]) -> Result<Self, TypeError> {
        match Uuid::from_slice(bytes) {
            Ok(uuid) => Ok(Self(uuid)),
            Err(_) => refused("a keypair id", "16 bytes"),
        }
    }
}

impl FromStr for KeypairId {
    type Err = TypeError;

    /// Accepts the hyphenated text form in either case, and no other.
    fn from_str(text: &str) -> Result<Self, TypeError> {
        match Uuid::try_parse(text) {
            Ok(uuid) if text.len() == 36 => Ok(Self(uuid)),
            Ok(_) | Err(_) => refused("a keypair id", "a UUID in hyphenated form (RFC 9562)"),
        }
    }
}

impl fmt::Display for KeypairId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.hyphenated().fmt(f)
    }
}

/// The id a caller gives a request: 1 to 128 printable ASCII characters.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct RequestId(String);

impl RequestId {
    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl RequestId {
    /// A fresh random id: a UUID in text form.
    ///
    /// # Errors
    /// Where the operating system gives no randomness.
    pub fn random() -> Result<Self, aws_lc_rs::error::Unspecified> {
        let mut bytes = [0; 16];
        aws_lc_rs::rand::fill(&mut bytes)?;
        Ok(Self(KeypairId::from_random(bytes).to_string()))
    }
}

impl FromStr for RequestId {
    type Err = TypeError;

    fn from_str(text: &str) -> Result<Self, TypeError> {
        if text.is_empty() || text.len() > 128 || !text.chars().all(|c| c.is_ascii_graphic()) {
            return refused("a request id", "1 to 128 printable ASCII characters");
        }
        Ok(Self(text.to_owned()))
    }
}

/// The end user a caller names: at most 256 bytes of UTF-8 without control characters, maybe none.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct EndUser(String);

impl EndUser {
    /// The name as text, empty where none was given.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for EndUser {
    type Err = TypeError;

    fn from_str(text: &str) -> Result<Self, TypeError> {
        if text.len() > 256 || text.chars().any(char::is_control) {
            return refused(
                "an end user",
                "at most 256 bytes without control characters",
            );
        }
        Ok(Self(text.to_owned()))
    }
}
