//! What a PKCS#11 return value means for what may happen next (PKCS#11 v3.0 section 5.1, and what
//! real tokens answer). Nothing here calls a token. The invariant: a code that is not in a table
//! is ambiguous, never taken for a bad ciphertext or a lost link without a test.

use cryptoki::context::Function;
use cryptoki::error::RvError;

/// What may happen after a return value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Class {
    /// This session or this handle is gone: a new session and a new search cure it.
    SessionLost,
    /// The module or the token is gone: only a new worker cures it.
    LinkLost,
    /// The ciphertext is at fault, and the token says so.
    BadCiphertext,
    /// The token cannot do this.
    Unsupported,
    /// The token can, and refuses.
    Refused,
    /// The PIN was not accepted.
    PinRefused,
    /// It may be the request or the token: a known-answer test tells.
    Ambiguous,
}

/// A fresh session cures these; so does it an operation that an earlier error left active.
const SESSION_LOST: [RvError; 9] = [
    RvError::SessionHandleInvalid,
    RvError::SessionClosed,
    RvError::ObjectHandleInvalid,
    RvError::KeyHandleInvalid,
    RvError::UnwrappingKeyHandleInvalid,
    RvError::WrappingKeyHandleInvalid,
    RvError::UserNotLoggedIn,
    RvError::OperationActive,
    RvError::OperationNotInitialized,
];

const LINK_LOST: [RvError; 5] = [
    RvError::DeviceRemoved,
    RvError::TokenNotPresent,
    RvError::TokenNotRecognized,
    RvError::CryptokiNotInitialized,
    RvError::SlotIdInvalid,
];

/// From a call that was given a ciphertext. `KeySizeRange` is how some tokens refuse to import an
/// AES key of 17 bytes.
const BAD_CIPHERTEXT: [RvError; 7] = [
    RvError::EncryptedDataInvalid,
    RvError::EncryptedDataLenRange,
    RvError::WrappedKeyInvalid,
    RvError::WrappedKeyLenRange,
    RvError::DataInvalid,
    RvError::DataLenRange,
    RvError::KeySizeRange,
];

const UNSUPPORTED: [RvError; 13] = [
    RvError::MechanismInvalid,
    RvError::MechanismParamInvalid,
    RvError::FunctionNotSupported,
    RvError::CurveNotSupported,
    RvError::DomainParamsInvalid,
    RvError::KeySizeRange,
    RvError::KeyTypeInconsistent,
    RvError::KeyFunctionNotPermitted,
    RvError::UnwrappingKeyTypeInconsistent,
    RvError::WrappingKeyTypeInconsistent,
    RvError::WrappingKeySizeRange,
    RvError::AttributeTypeInvalid,
    RvError::PublicKeyInvalid,
];

const REFUSED: [RvError; 12] = [
    RvError::AttributeReadOnly,
    RvError::AttributeSensitive,
    RvError::AttributeValueInvalid,
    RvError::TemplateIncomplete,
    RvError::TemplateInconsistent,
    RvError::ActionProhibited,
    RvError::TokenWriteProtected,
    RvError::SessionReadOnly,
    RvError::FunctionRejected,
    RvError::KeyUnextractable,
    RvError::KeyNotWrappable,
    RvError::DeviceMemory,
];

const PIN_REFUSED: [RvError; 5] = [
    RvError::PinIncorrect,
    RvError::PinInvalid,
    RvError::PinLenRange,
    RvError::PinExpired,
    RvError::PinLocked,
];

/// Sorts the return value of a call.
pub(super) fn class(call: Function, return_value: RvError) -> Class {
    let is_in = |table: &[RvError]| table.contains(&return_value);
    if is_in(&SESSION_LOST) {
        Class::SessionLost
    } else if is_in(&LINK_LOST) {
        Class::LinkLost
    } else if saw_ciphertext(call) {
        // Whatever else a token says of a ciphertext is a matter for the test: an answer that went
        // another way for one kind of ciphertext would tell it from the others.
        match is_in(&BAD_CIPHERTEXT) {
            true => Class::BadCiphertext,
            false => Class::Ambiguous,
        }
    } else if is_in(&UNSUPPORTED) {
        Class::Unsupported
    } else if is_in(&PIN_REFUSED) {
        Class::PinRefused
    } else if is_in(&REFUSED) {
        Class::Refused
    } else {
        Class::Ambiguous
    }
}

/// Whether the call was given a ciphertext, so that its answer may be about that.
pub(super) const fn saw_ciphertext(call: Function) -> bool {
    matches!(call, Function::Decrypt | Function::UnwrapKey)
}

/// Whether the call was given the parameters of a mechanism or of a caller's public key, and no
/// ciphertext.
pub(super) const fn saw_parameters(call: Function) -> bool {
    matches!(
        call,
        Function::DecryptInit
            | Function::EncryptInit
            | Function::SignInit
            | Function::GenerateKey
            | Function::WrapKey
            | Function::CreateObject
    )
}

/// The name in the standard, for example `CKR_GENERAL_ERROR`. The binding spells the same words
/// in camel case, so the name is made from its `Debug` form.
pub(super) fn name(return_value: RvError) -> String {
    if let RvError::VendorDefined(code) | RvError::UnknownErrorCode(code) = return_value {
        return format!("0x{code:08x}");
    }
    let mut name = String::from("CKR");
    for c in format!("{return_value:?}").chars() {
        if c.is_ascii_uppercase() {
            name.push('_');
        }
        name.push(c.to_ascii_uppercase());
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_the_standard() {
        assert_eq!(name(RvError::GeneralError), "CKR_GENERAL_ERROR");
        assert_eq!(
            name(RvError::SessionReadWriteSoExists),
            "CKR_SESSION_READ_WRITE_SO_EXISTS"
        );
        assert_eq!(name(RvError::VendorDefined(0x8000_0001)), "0x80000001");
    }

    #[test]
    fn only_a_call_that_saw_the_ciphertext_blames_it() {
        let code = RvError::DataLenRange;
        assert_eq!(class(Function::Decrypt, code), Class::BadCiphertext);
        assert_eq!(class(Function::Sign, code), Class::Ambiguous);
        let code = RvError::KeySizeRange;
        assert_eq!(class(Function::UnwrapKey, code), Class::BadCiphertext);
        assert_eq!(class(Function::GenerateKeyPair, code), Class::Unsupported);
    }

    #[test]
    fn what_tokens_say_of_junk_and_of_trouble_alike_is_ambiguous() {
        for code in [
            RvError::GeneralError,
            RvError::DeviceError,
            RvError::FunctionFailed,
            RvError::ArgumentsBad,
            RvError::DeviceMemory,
            RvError::MechanismParamInvalid,
            RvError::KeyFunctionNotPermitted,
            RvError::PinExpired,
            RvError::VendorDefined(0x8000_0001),
        ] {
            for call in [Function::Decrypt, Function::UnwrapKey] {
                assert_eq!(class(call, code), Class::Ambiguous, "{call:?} {code:?}");
            }
        }
    }
}
