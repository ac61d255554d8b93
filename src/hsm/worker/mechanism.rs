//! From the paddings of the protocol to the mechanisms of PKCS#11 (v3.0 sections 6.1.6 and 6.1.8),
//! and whether this token is known not to do them.

use cryptoki::mechanism::rsa::{PkcsMgfType, PkcsOaepParams, PkcsOaepSource};
use cryptoki::mechanism::{Mechanism, MechanismType};

use super::error::JobError;
use super::token::Token;
use crate::proto::worker;
use crate::types::Padding;

/// The padding a request names.
pub(super) fn padding(named: i32) -> Result<Padding, JobError> {
    match worker::Padding::try_from(named) {
        Ok(worker::Padding::OaepSha1) => Ok(Padding::OaepSha1),
        Ok(worker::Padding::OaepSha256) => Ok(Padding::OaepSha256),
        Ok(worker::Padding::Pkcs1V15) => Ok(Padding::Pkcs1V15),
        Ok(worker::Padding::Unspecified) | Err(_) => {
            Err(JobError::bad_request(format!("{named} is no padding")))
        }
    }
}

/// The mechanism of a padding; OAEP labels are empty.
pub(super) fn of(padding: Padding) -> Mechanism<'static> {
    match padding {
        Padding::OaepSha1 | Padding::OaepSha256 => oaep(padding, PkcsOaepSource::empty()),
        Padding::Pkcs1V15 => Mechanism::RsaPkcs,
    }
}

/// OAEP under a label; SHA-256 for all paddings but OAEP with SHA-1.
pub(super) fn oaep(padding: Padding, label: PkcsOaepSource<'_>) -> Mechanism<'_> {
    let (hash, mgf) = match padding {
        Padding::OaepSha1 => (MechanismType::SHA1, PkcsMgfType::MGF1_SHA1),
        Padding::OaepSha256 | Padding::Pkcs1V15 => {
            (MechanismType::SHA256, PkcsMgfType::MGF1_SHA256)
        }
    };
    Mechanism::RsaPkcsOaep(PkcsOaepParams::new(hash, mgf, label))
}

/// Refuses a padding that the probe found the token not to do. Without a probe nothing is refused.
pub(super) fn check_probed(token: &Token, padding: Padding) -> Result<(), JobError> {
    let Some(probed) = token.probed() else {
        return Ok(());
    };
    let does = match padding {
        Padding::OaepSha1 => probed.oaep_sha1,
        Padding::OaepSha256 => probed.oaep_sha256,
        Padding::Pkcs1V15 => probed.pkcs1_v1_5,
    };
    if does {
        return Ok(());
    }
    Err(JobError::Unsupported {
        what: format!("the token does not do {padding}, as the probe found"),
        return_value: None,
    })
}
