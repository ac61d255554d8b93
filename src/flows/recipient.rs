//! To whom a DEK is wrapped again, and which keys are accepted for that. Nothing is wrapped here.

use crate::public_key::RsaPublicKey;
use crate::types::{Padding, TypeError};

/// To whom a DEK is wrapped again.
#[derive(Debug)]
pub struct Recipient {
    /// DER `SubjectPublicKeyInfo` of an RSA key of 2048 to 4096 bits.
    pub spki: Vec<u8>,
    /// How to wrap under it: one of the OAEP paddings.
    pub padding: Padding,
}

/// The recipient's key is an RSA key of an accepted size and its padding one that is safe.
pub(super) fn check(to: &Recipient) -> Result<(), TypeError> {
    let what = "a recipient";
    if RsaPublicKey::from_spki(&to.spki).is_err() {
        return Err(TypeError {
            what,
            rule: "a DER SubjectPublicKeyInfo, RSA of 2048 to 4096 bits",
        });
    }
    match to.padding {
        Padding::OaepSha1 | Padding::OaepSha256 => Ok(()),
        Padding::Pkcs1V15 => Err(TypeError {
            what,
            rule: "given oaep-sha1 or oaep-sha256",
        }),
    }
}
