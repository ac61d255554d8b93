//! Key profiles: what a key in the HSM must be, attribute by attribute, each with its reason. A
//! profile is data, a TOML file under `hsm-config/profiles/`; its exact bytes travel in the ledger
//! and to the worker. No PKCS#11 binding is named here: attributes and mechanisms are the names of
//! the standard, and the worker maps them. The invariant: a [`Profile`] keeps every rule of
//! `parse.rs`, so that no profile, built in or given, describes a key that could leave its token.
//!
//! The format, `kekd-key-profile-v1`:
//!
//! ```toml
//! format = "kekd-key-profile-v1"
//! name = "kek-rsa-3072"              # as a KEK name: a-z, 0-9 and inner hyphens
//! summary = "one sentence for people"
//! paddings = ["oaep-sha1"]           # RSA only; what the daemon may ask for
//! release = ["clear"]                # RSA only; "clear", "recipient"; DECRYPT and UNWRAP follow
//! certificate = "issued"             # "issued", "self-signed", "none"
//! allowed_mechanisms = ["CKM_RSA_PKCS_OAEP"]   # CKA_ALLOWED_MECHANISMS
//!
//! [key]
//! type = "rsa"                       # "rsa", "ec-p256", "generic-secret" (32 bytes)
//! bits = 3072                        # RSA only: 2048, 3072, 4096
//! public_exponent = 65537            # RSA only
//! imported = true                    # optional, RSA only: made elsewhere and brought in wrapped
//!
//! [[private]]                        # the private or secret key; [[public]]: the public key
//! attribute = "CKA_EXTRACTABLE"
//! value = false                      # what is read back when the key is finished
//! reason = "why"                     # never empty
//! at_birth = true                    # optional: the value at generation where it differs
//! read_only = true                   # optional: compared, never asked for
//!
//! [[token_cannot]]                   # waivers: not asked for, not compared, not counted in attacks
//! attribute = "CKA_COPYABLE"
//! reason = "which token, and why that is borne"
//! ```

mod attribute;
mod parse;
#[cfg(test)]
mod tests;

pub use attribute::{AttributeName, MechanismName, Value};

use crate::types::{Padding, ReleaseForm};

/// Bytes of the longest profile accepted.
pub const PROFILE_LEN_MAX: usize = 64 * 1024;

/// A profile that cannot be taken. Whoever wrote it mends it; nothing is retried.
#[derive(Debug, thiserror::Error)]
pub enum ProfileError {
    /// Longer than [`PROFILE_LEN_MAX`].
    #[error("a key profile may have {PROFILE_LEN_MAX} bytes, this one has {found}")]
    TooLong {
        /// Its length in bytes.
        found: usize,
    },
    /// Not UTF-8.
    #[error("a key profile must be TOML in UTF-8, this one is not UTF-8")]
    NotText,
    /// Not TOML, or not the keys and names of the format.
    #[error("a key profile does not follow the format kekd-key-profile-v1")]
    Syntax(#[from] toml::de::Error),
    /// A value that breaks a rule.
    #[error("key profile {profile}: {what} must be {must}, and is {found}")]
    Rule {
        /// The profile's name, as it gives it.
        profile: String,
        /// The key or attribute at fault.
        what: String,
        /// The rule, to be read after "must be".
        must: &'static str,
        /// What the profile says.
        found: String,
    },
}

/// The kind of key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyKind {
    /// RSA, for unwrapping.
    Rsa {
        /// 2048, 3072 or 4096.
        modulus_bits: u32,
        /// Odd, from 65537 upwards.
        public_exponent: u32,
    },
    /// P-256 (FIPS 186-5, `prime256v1`), for signing.
    EcP256,
    /// A 32-byte secret, for HMAC.
    GenericSecret,
}

/// Who signs the certificate of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CertificateKind {
    /// The certificate-issuing key in the token.
    Issued,
    /// The key itself, once, before it is caged.
    SelfSigned,
    /// Nobody.
    None,
}

/// One attribute of a key object, and why it is so.
#[derive(Debug, Clone, PartialEq, Eq, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AttributeRule {
    /// Which attribute.
    pub attribute: AttributeName,
    /// Its value when the key is finished.
    pub value: Value,
    /// Why; never empty.
    pub reason: String,
    /// The value to generate it with, where that is another one.
    pub at_birth: Option<bool>,
    /// It is compared when read back and never asked for.
    #[serde(default)]
    pub read_only: bool,
}

/// An attribute that a token cannot promise, and why that is borne.
#[derive(Debug, Clone, PartialEq, Eq, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Waiver {
    /// Which attribute.
    pub attribute: AttributeName,
    /// Why; never empty.
    pub reason: String,
}

/// A key profile that keeps all rules. Made by [`Profile::parse`] only.
#[derive(Debug, Clone)]
pub struct Profile {
    source: Box<[u8]>,
    name: String,
    kind: KeyKind,
    is_imported: bool,
    paddings: Vec<Padding>,
    release: Vec<ReleaseForm>,
    certificate: CertificateKind,
    allowed_mechanisms: Vec<MechanismName>,
    private: Vec<AttributeRule>,
    public: Vec<AttributeRule>,
    token_cannot: Vec<Waiver>,
}

/// Name and text of each profile that is part of the program.
const BUILTIN: [(&str, &str); 12] = [
    (
        "kek-rsa-3072",
        include_str!("../../hsm-config/profiles/kek-rsa-3072.toml"),
    ),
    (
        "kek-rsa-3072-recipient",
        include_str!("../../hsm-config/profiles/kek-rsa-3072-recipient.toml"),
    ),
    (
        "kek-rsa-3072-both",
        include_str!("../../hsm-config/profiles/kek-rsa-3072-both.toml"),
    ),
    (
        "kek-rsa-3072-pkcs1",
        include_str!("../../hsm-config/profiles/kek-rsa-3072-pkcs1.toml"),
    ),
    (
        "kek-rsa-3072-self-signed",
        include_str!("../../hsm-config/profiles/kek-rsa-3072-self-signed.toml"),
    ),
    (
        "log-signing",
        include_str!("../../hsm-config/profiles/log-signing.toml"),
    ),
    (
        "certificate-issuing",
        include_str!("../../hsm-config/profiles/certificate-issuing.toml"),
    ),
    (
        "implicit-rejection",
        include_str!("../../hsm-config/profiles/implicit-rejection.toml"),
    ),
    (
        "kek-rsa-2048-imported",
        include_str!("../../hsm-config/profiles/kek-rsa-2048-imported.toml"),
    ),
    (
        "kek-rsa-3072-imported",
        include_str!("../../hsm-config/profiles/kek-rsa-3072-imported.toml"),
    ),
    (
        "kek-rsa-4096-imported",
        include_str!("../../hsm-config/profiles/kek-rsa-4096-imported.toml"),
    ),
    (
        "import-transport",
        include_str!("../../hsm-config/profiles/import-transport.toml"),
    ),
];

impl Profile {
    /// Reads a profile: TOML of at most [`PROFILE_LEN_MAX`] bytes that keeps every rule.
    pub fn parse(bytes: &[u8]) -> Result<Self, ProfileError> {
        parse::parse(bytes)
    }

    /// The text of the built-in profile with this name.
    pub fn builtin(name: &str) -> Option<&'static str> {
        BUILTIN
            .iter()
            .find(|(builtin, _)| *builtin == name)
            .map(|(_, text)| *text)
    }

    /// The names of all built-in profiles.
    pub fn builtin_names() -> impl Iterator<Item = &'static str> {
        BUILTIN.iter().map(|(name, _)| *name)
    }

    /// Its name, for example `kek-rsa-3072`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The exact bytes it was read from.
    pub const fn bytes(&self) -> &[u8] {
        &self.source
    }

    /// The kind of key.
    pub const fn kind(&self) -> KeyKind {
        self.kind
    }

    /// Bits of the modulus; `None` where it is no RSA key.
    pub const fn modulus_bits(&self) -> Option<u32> {
        match self.kind {
            KeyKind::Rsa { modulus_bits, .. } => Some(modulus_bits),
            KeyKind::EcP256 | KeyKind::GenericSecret => None,
        }
    }

    /// Whether a key to it is made elsewhere and brought in; the others are made in the token.
    pub const fn is_imported(&self) -> bool {
        self.is_imported
    }

    /// The paddings it may be asked to unwrap; empty where it is no RSA key. Whether the token can
    /// do each of them is the probe's answer.
    pub fn paddings(&self) -> &[Padding] {
        &self.paddings
    }

    /// The forms in which a DEK may leave; empty where it is no RSA key.
    pub fn release_forms(&self) -> &[ReleaseForm] {
        &self.release
    }

    /// Who signs its certificate.
    pub const fn certificate(&self) -> CertificateKind {
        self.certificate
    }

    /// `CKA_ALLOWED_MECHANISMS`.
    pub fn allowed_mechanisms(&self) -> &[MechanismName] {
        &self.allowed_mechanisms
    }

    /// The attributes of the private or secret key.
    pub fn private(&self) -> &[AttributeRule] {
        &self.private
    }

    /// The attributes of the public key; empty for a secret key.
    pub fn public(&self) -> &[AttributeRule] {
        &self.public
    }

    /// The waivers.
    pub fn token_cannot(&self) -> &[Waiver] {
        &self.token_cannot
    }

    /// Whether the profile bears that a token does not keep this attribute.
    pub fn waives(&self, attribute: AttributeName) -> bool {
        self.token_cannot
            .iter()
            .any(|waiver| waiver.attribute == attribute)
    }

    /// The final value of a private attribute that is true or false; `None` where the profile
    /// does not name it.
    pub fn private_flag(&self, attribute: AttributeName) -> Option<bool> {
        self.private
            .iter()
            .find(|rule| rule.attribute == attribute)
            .and_then(|rule| rule.value.flag())
    }
}
