//! SHA-256 digests.

use std::fmt;
use std::str::FromStr;

use aws_lc_rs::digest;

use super::{TypeError, refused};

/// A SHA-256 digest, 32 bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Sha256([u8; 32]);

impl Sha256 {
    /// The digest of `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        let mut out = [0; 32];
        out.copy_from_slice(digest::digest(&digest::SHA256, bytes).as_ref());
        Self(out)
    }

    /// The 32 bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl From<[u8; 32]> for Sha256 {
    fn from(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }
}

impl TryFrom<&[u8]> for Sha256 {
    type Error = TypeError;

    fn try_from(bytes: &[u8]) -> Result<Self, TypeError> {
        match bytes.try_into() {
            Ok(array) => Ok(Self(array)),
            Err(_) => refused("a SHA-256 digest", "32 bytes"),
        }
    }
}

impl FromStr for Sha256 {
    type Err = TypeError;

    /// Accepts 64 lower-case hexadecimal digits, as `Display` writes them.
    fn from_str(text: &str) -> Result<Self, TypeError> {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let mut out = [0; 32];
        let mut digits = text
            .bytes()
            .map(|digit| DIGITS.iter().zip(0_u8..).find(|(d, _)| **d == digit));
        for byte in &mut out {
            let (Some(Some((_, high))), Some(Some((_, low)))) = (digits.next(), digits.next())
            else {
                return refused("a SHA-256 digest", "64 lower-case hexadecimal digits");
            };
            *byte = high << 4 | low;
        }
        if digits.next().is_some() {
            return refused("a SHA-256 digest", "64 lower-case hexadecimal digits");
        }
        Ok(Self(out))
    }
}

impl fmt::Display for Sha256 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Sha256 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
