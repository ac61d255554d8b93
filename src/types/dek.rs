//! DEKs, plain and wrapped, and the lengths of key material accepted anywhere.

use std::fmt;

use zeroize::Zeroizing;

use super::{TypeError, refused};

/// Bytes of a DEK: an AES-256 key.
pub const DEK_LEN: usize = 32;
/// Longest wrapped DEK accepted anywhere: RSA-4096.
pub const WRAPPED_DEK_LEN_MAX: usize = 512;
/// Longest DER `SubjectPublicKeyInfo` accepted anywhere: RSA-4096 takes 550 bytes.
pub const SPKI_LEN_MAX: usize = 1024;
/// A wrapped DEK: 1 to 512 bytes. Whether the length fits the key is the keyring's question.
#[derive(Clone, PartialEq, Eq)]
pub struct WrappedDek(Box<[u8]>);

impl WrappedDek {
    /// The bytes.
    pub const fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl TryFrom<Vec<u8>> for WrappedDek {
    type Error = TypeError;

    fn try_from(bytes: Vec<u8>) -> Result<Self, TypeError> {
        if bytes.is_empty() || bytes.len() > WRAPPED_DEK_LEN_MAX {
            return refused("a wrapped DEK", "1 to 512 bytes");
        }
        Ok(Self(bytes.into_boxed_slice()))
    }
}

impl fmt::Debug for WrappedDek {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "WrappedDek({} bytes)", self.0.len())
    }
}

/// A plaintext DEK: 32 bytes, an AES-256 key. Wiped when dropped; no `Debug` and no `Clone`. The
/// bytes live on the heap, so that moving the value leaves no copy behind.
pub struct Dek(Box<Zeroizing<[u8; DEK_LEN]>>);

impl Dek {
    /// The 32 bytes.
    pub fn as_bytes(&self) -> &[u8; DEK_LEN] {
        &self.0
    }
}

impl TryFrom<&[u8]> for Dek {
    type Error = TypeError;

    /// Copies 32 bytes; wiping the source is the caller's duty.
    fn try_from(bytes: &[u8]) -> Result<Self, TypeError> {
        if bytes.len() != DEK_LEN {
            return refused("a DEK", "32 bytes");
        }
        let mut dek = Self(Box::default());
        dek.0.copy_from_slice(bytes);
        Ok(dek)
    }
}

/// A DEK wrapped again under a recipient's RSA public key: 1 to 512 bytes. Not a secret, but it
/// leaves only after its audit record like any other release; so it has no `Debug` and no `Clone`.
pub struct RewrappedDek(Vec<u8>);

impl RewrappedDek {
    /// The bytes, as long as the recipient's modulus.
    pub fn into_bytes(self) -> Vec<u8> {
        self.0
    }
}

impl TryFrom<Vec<u8>> for RewrappedDek {
    type Error = TypeError;

    fn try_from(bytes: Vec<u8>) -> Result<Self, TypeError> {
        if bytes.is_empty() || bytes.len() > WRAPPED_DEK_LEN_MAX {
            return refused("a re-wrapped DEK", "1 to 512 bytes");
        }
        Ok(Self(bytes))
    }
}
