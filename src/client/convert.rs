//! Between the enums of the messages and the words of `types` and of the command line. Exhaustive:
//! a value this client does not know is named as such, never taken for another.

use crate::proto::{self, v1};
use crate::types::{Padding, ReleaseForm};

/// The name of a padding in a message, as in profiles and command lines; `unknown` for a number
/// that a newer kekd may send.
pub fn padding_name(number: i32) -> &'static str {
    proto::padding(number).map_or("unknown", Padding::name)
}

/// The name of a version's state (NIST SP 800-57 part 1, section 7); `unknown` as above.
pub fn version_state_name(number: i32) -> &'static str {
    match v1::VersionState::try_from(number) {
        Ok(v1::VersionState::PreActive) => "pre-active",
        Ok(v1::VersionState::Active) => "active",
        Ok(v1::VersionState::Deactivated) => "deactivated",
        Ok(v1::VersionState::Suspended) => "suspended",
        Ok(v1::VersionState::Compromised) => "compromised",
        Ok(v1::VersionState::Destroyed) => "destroyed",
        Ok(v1::VersionState::Unspecified) | Err(_) => "unknown",
    }
}

/// The name of where a private key came from; `unknown` as above.
pub fn key_origin_name(number: i32) -> &'static str {
    match v1::KeyOrigin::try_from(number) {
        Ok(v1::KeyOrigin::Generated) => "generated",
        Ok(v1::KeyOrigin::Imported) => "imported",
        Ok(v1::KeyOrigin::Unspecified) | Err(_) => "unknown",
    }
}

/// The name of a release form; `unknown` as above.
pub fn release_form_name(number: i32) -> &'static str {
    match proto::release_form(number) {
        Some(ReleaseForm::Clear) => "clear",
        Some(ReleaseForm::Recipient) => "recipient",
        None => "unknown",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_from_a_newer_kekd_is_unknown_and_nothing_else() {
        assert_eq!(padding_name(99), "unknown");
        assert_eq!(version_state_name(99), "unknown");
        assert_eq!(key_origin_name(99), "unknown");
        assert_eq!(release_form_name(0), "unknown");
        assert_eq!(
            padding_name(v1::Padding::from(Padding::Pkcs1V15).into()),
            "pkcs1-v1_5"
        );
    }
}
