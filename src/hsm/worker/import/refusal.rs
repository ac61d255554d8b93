//! What it means that the token did not unwrap what people brought. It is told to them in words they
//! can act on. No token is called here.

use cryptoki::error::RvError;

use crate::hsm::profile::Profile;
use crate::hsm::worker::error::JobError;
use crate::hsm::worker::return_value::{self, Class};

/// How tokens refuse an attribute. Some say so after they unwrapped, but none of these says that
/// the wrapped key is bad.
const OF_ATTRIBUTE: [RvError; 5] = [
    RvError::AttributeReadOnly,
    RvError::AttributeTypeInvalid,
    RvError::AttributeValueInvalid,
    RvError::TemplateIncomplete,
    RvError::TemplateInconsistent,
];

/// Of the AES key. Without the token's code: which way an OAEP padding is bad is nobody's business.
pub(super) fn of_aes_key(error: JobError) -> JobError {
    if is_of_loss(&error) || error.return_value().is_none() {
        return error;
    }
    JobError::Refused {
        why: "the wrapped AES key does not unwrap under the transport key; it must be 32 bytes, \
              wrapped by RSAES-OAEP with SHA-1 and MGF1 with SHA-1"
            .to_owned(),
        return_value: None,
    }
}

/// Of the private key. Tokens have many codes for a wrapped key that is bad.
pub(super) fn of_private_key(error: JobError, profile: &Profile) -> JobError {
    let Some(code) = error.return_value().filter(|_| !is_of_loss(&error)) else {
        return error;
    };
    let name = return_value::name(code);
    let return_value = Some(code);
    if code == RvError::MechanismInvalid {
        let what = "the token does not unwrap a private key with CKM_AES_KEY_WRAP_PAD, which must \
                    do RFC 5649; SoftHSM is known to"
            .to_owned();
        return JobError::Unsupported { what, return_value };
    }
    let why = match OF_ATTRIBUTE.contains(&code) {
        true => format!(
            "the token does not import a key to profile {} ({name}); where it cannot promise an \
             attribute, only a profile that waives it by name can be used",
            profile.name()
        ),
        false => format!(
            "the wrapped private key does not unwrap under the wrapped AES key to an RSA private \
             key ({name}); it must be a DER PKCS#8 PrivateKeyInfo, wrapped by AES key wrap with \
             padding (RFC 5649)"
        ),
    };
    JobError::Refused { why, return_value }
}

/// Whether a new session or a new worker is the cure.
pub(super) fn is_of_loss(error: &JobError) -> bool {
    matches!(error.class(), Some(Class::SessionLost | Class::LinkLost))
}
