//! The attributes and mechanisms a profile may name, spelled as PKCS#11 v3.0 spells them. Whatever
//! is not in these lists cannot be asked of a token. No values of a binding live here.

use std::fmt;

use serde::Deserialize;

/// An attribute of a key object (PKCS#11 v3.0 sections 4.4 to 4.10).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Deserialize)]
#[expect(missing_docs, reason = "the names are those of the standard")]
pub enum AttributeName {
    #[serde(rename = "CKA_TOKEN")]
    Token,
    #[serde(rename = "CKA_PRIVATE")]
    Private,
    #[serde(rename = "CKA_SENSITIVE")]
    Sensitive,
    #[serde(rename = "CKA_EXTRACTABLE")]
    Extractable,
    #[serde(rename = "CKA_MODIFIABLE")]
    Modifiable,
    #[serde(rename = "CKA_COPYABLE")]
    Copyable,
    #[serde(rename = "CKA_DESTROYABLE")]
    Destroyable,
    #[serde(rename = "CKA_DECRYPT")]
    Decrypt,
    #[serde(rename = "CKA_UNWRAP")]
    Unwrap,
    #[serde(rename = "CKA_SIGN")]
    Sign,
    #[serde(rename = "CKA_SIGN_RECOVER")]
    SignRecover,
    #[serde(rename = "CKA_DERIVE")]
    Derive,
    #[serde(rename = "CKA_ENCRYPT")]
    Encrypt,
    #[serde(rename = "CKA_WRAP")]
    Wrap,
    #[serde(rename = "CKA_VERIFY")]
    Verify,
    #[serde(rename = "CKA_VERIFY_RECOVER")]
    VerifyRecover,
    #[serde(rename = "CKA_WRAP_WITH_TRUSTED")]
    WrapWithTrusted,
    #[serde(rename = "CKA_ALWAYS_SENSITIVE")]
    AlwaysSensitive,
    #[serde(rename = "CKA_NEVER_EXTRACTABLE")]
    NeverExtractable,
    #[serde(rename = "CKA_LOCAL")]
    Local,
    #[serde(rename = "CKA_KEY_GEN_MECHANISM")]
    KeyGenMechanism,
    #[serde(rename = "CKA_ALLOWED_MECHANISMS")]
    AllowedMechanisms,
}

impl AttributeName {
    /// The name in the standard, for example `CKA_TOKEN`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Token => "CKA_TOKEN",
            Self::Private => "CKA_PRIVATE",
            Self::Sensitive => "CKA_SENSITIVE",
            Self::Extractable => "CKA_EXTRACTABLE",
            Self::Modifiable => "CKA_MODIFIABLE",
            Self::Copyable => "CKA_COPYABLE",
            Self::Destroyable => "CKA_DESTROYABLE",
            Self::Decrypt => "CKA_DECRYPT",
            Self::Unwrap => "CKA_UNWRAP",
            Self::Sign => "CKA_SIGN",
            Self::SignRecover => "CKA_SIGN_RECOVER",
            Self::Derive => "CKA_DERIVE",
            Self::Encrypt => "CKA_ENCRYPT",
            Self::Wrap => "CKA_WRAP",
            Self::Verify => "CKA_VERIFY",
            Self::VerifyRecover => "CKA_VERIFY_RECOVER",
            Self::WrapWithTrusted => "CKA_WRAP_WITH_TRUSTED",
            Self::AlwaysSensitive => "CKA_ALWAYS_SENSITIVE",
            Self::NeverExtractable => "CKA_NEVER_EXTRACTABLE",
            Self::Local => "CKA_LOCAL",
            Self::KeyGenMechanism => "CKA_KEY_GEN_MECHANISM",
            Self::AllowedMechanisms => "CKA_ALLOWED_MECHANISMS",
        }
    }

    /// Whether the token alone sets it.
    pub const fn is_set_by_token(self) -> bool {
        matches!(
            self,
            Self::AlwaysSensitive | Self::NeverExtractable | Self::Local | Self::KeyGenMechanism
        )
    }
}

impl fmt::Display for AttributeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A mechanism. `CKM_RSA_X_509` is not among them: raw RSA decrypts every padding and signs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Deserialize)]
#[expect(missing_docs, reason = "the names are those of the standard")]
pub enum MechanismName {
    #[serde(rename = "CKM_RSA_PKCS_KEY_PAIR_GEN")]
    RsaPkcsKeyPairGen,
    #[serde(rename = "CKM_RSA_PKCS_OAEP")]
    RsaPkcsOaep,
    #[serde(rename = "CKM_RSA_PKCS")]
    RsaPkcs,
    #[serde(rename = "CKM_SHA256_RSA_PKCS")]
    Sha256RsaPkcs,
    #[serde(rename = "CKM_EC_KEY_PAIR_GEN")]
    EcKeyPairGen,
    #[serde(rename = "CKM_ECDSA")]
    Ecdsa,
    #[serde(rename = "CKM_GENERIC_SECRET_KEY_GEN")]
    GenericSecretKeyGen,
    #[serde(rename = "CKM_SHA256_HMAC")]
    Sha256Hmac,
}

impl MechanismName {
    /// The name in the standard, for example `CKM_ECDSA`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::RsaPkcsKeyPairGen => "CKM_RSA_PKCS_KEY_PAIR_GEN",
            Self::RsaPkcsOaep => "CKM_RSA_PKCS_OAEP",
            Self::RsaPkcs => "CKM_RSA_PKCS",
            Self::Sha256RsaPkcs => "CKM_SHA256_RSA_PKCS",
            Self::EcKeyPairGen => "CKM_EC_KEY_PAIR_GEN",
            Self::Ecdsa => "CKM_ECDSA",
            Self::GenericSecretKeyGen => "CKM_GENERIC_SECRET_KEY_GEN",
            Self::Sha256Hmac => "CKM_SHA256_HMAC",
        }
    }
}

impl fmt::Display for MechanismName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What an attribute is to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
pub enum Value {
    /// True or false.
    Flag(bool),
    /// A mechanism; for `CKA_KEY_GEN_MECHANISM` only.
    Mechanism(MechanismName),
}

impl Value {
    /// The value where it is true or false.
    pub const fn flag(self) -> Option<bool> {
        match self {
            Self::Flag(flag) => Some(flag),
            Self::Mechanism(_) => None,
        }
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag(flag) => flag.fmt(f),
            Self::Mechanism(mechanism) => mechanism.fmt(f),
        }
    }
}
