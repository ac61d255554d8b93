//! From TOML to a profile, and the rules on the way. Each rule is a question with a name; a
//! profile that fails one is refused whole.

use serde::Deserialize;

use super::{
    AttributeName, AttributeRule, CertificateKind, KeyKind, MechanismName, PROFILE_LEN_MAX,
    Profile, ProfileError, Value, Waiver,
};
use crate::types::{KekName, Padding, ReleaseForm};

/// The one format this program reads.
const FORMAT: &str = "kekd-key-profile-v1";

/// Private attributes that are the same in every profile, and cannot be waived.
const ALWAYS: [(AttributeName, bool); 5] = [
    (AttributeName::Token, true),
    (AttributeName::Private, true),
    (AttributeName::Sensitive, true),
    (AttributeName::Extractable, false),
    (AttributeName::Modifiable, false),
];

/// Private attributes that no profile leaves to the token's default: `CKA_SIGN_RECOVER` and
/// `CKA_COPYABLE` default to true on real tokens.
const STATED: [AttributeName; 4] = [
    AttributeName::Copyable,
    AttributeName::Destroyable,
    AttributeName::Sign,
    AttributeName::Derive,
];

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    format: String,
    name: String,
    /// For the people who read the file.
    #[serde(rename = "summary")]
    _summary: String,
    #[serde(default)]
    paddings: Vec<Padding>,
    #[serde(default)]
    release: Vec<ReleaseForm>,
    certificate: CertificateKind,
    allowed_mechanisms: Vec<MechanismName>,
    key: Key,
    private: Vec<AttributeRule>,
    #[serde(default)]
    public: Vec<AttributeRule>,
    #[serde(default)]
    token_cannot: Vec<Waiver>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Key {
    r#type: Type,
    bits: Option<u32>,
    public_exponent: Option<u32>,
    #[serde(default)]
    imported: bool,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Type {
    Rsa,
    EcP256,
    GenericSecret,
}

pub(super) fn parse(bytes: &[u8]) -> Result<Profile, ProfileError> {
    if bytes.len() > PROFILE_LEN_MAX {
        return Err(ProfileError::TooLong { found: bytes.len() });
    }
    let text = std::str::from_utf8(bytes).map_err(|_| ProfileError::NotText)?;
    let file: File = toml::from_str(text)?;
    if file.format != FORMAT {
        return Err(file.refused("format", FORMAT, &file.format));
    }
    if file.name.parse::<KekName>().is_err() {
        return Err(file.refused("name", "1 to 63 of a-z, 0-9 and inner hyphens", &file.name));
    }
    let kind = file.kind()?;
    file.has_reasons()?;
    file.names_attributes_once()?;
    file.is_caged()?;
    file.says_where_the_key_was_made()?;
    file.agrees_with_its_use(kind)?;
    file.allows_only_what_it_uses(kind)?;
    Ok(Profile {
        source: bytes.into(),
        name: file.name,
        kind,
        is_imported: file.key.imported,
        paddings: file.paddings,
        release: file.release,
        certificate: file.certificate,
        allowed_mechanisms: file.allowed_mechanisms,
        private: file.private,
        public: file.public,
        token_cannot: file.token_cannot,
    })
}

impl File {
    fn refused(&self, what: &str, must: &'static str, found: impl ToString) -> ProfileError {
        ProfileError::Rule {
            profile: self.name.clone(),
            what: what.to_owned(),
            must,
            found: found.to_string(),
        }
    }

    fn kind(&self) -> Result<KeyKind, ProfileError> {
        let is_rsa = matches!(self.key.r#type, Type::Rsa);
        let says_rsa = self.key.bits.is_some() || self.key.public_exponent.is_some();
        if !is_rsa && says_rsa {
            return Err(self.refused("[key]", "without bits and exponent unless RSA", "with them"));
        }
        if !is_rsa && (!self.paddings.is_empty() || !self.release.is_empty()) {
            return Err(self.refused("paddings, release", "absent unless RSA", "there"));
        }
        if !is_rsa && self.certificate != CertificateKind::None {
            let found = format!("{:?}", self.certificate);
            return Err(self.refused("certificate", "none unless RSA", found));
        }
        if self.key.imported && self.certificate != CertificateKind::Issued {
            let found = format!("{:?}", self.certificate);
            return Err(self.refused("certificate", "issued for an imported key", found));
        }
        match self.key.r#type {
            Type::EcP256 => Ok(KeyKind::EcP256),
            Type::GenericSecret if self.public.is_empty() => Ok(KeyKind::GenericSecret),
            Type::GenericSecret => Err(self.refused("[[public]]", "absent for a secret", "there")),
            Type::Rsa => {
                let modulus_bits = self.key.bits.unwrap_or_default();
                if ![2048, 3072, 4096].contains(&modulus_bits) {
                    return Err(self.refused("bits", "2048, 3072 or 4096", modulus_bits));
                }
                let public_exponent = self.key.public_exponent.unwrap_or_default();
                // FIPS 186-5 section 5.1: odd and above 2^16.
                if public_exponent < 65_537 || public_exponent.is_multiple_of(2) {
                    let must = "odd and at least 65537";
                    return Err(self.refused("public_exponent", must, public_exponent));
                }
                if self.paddings.is_empty() || self.release.is_empty() {
                    return Err(self.refused("paddings, release", "there for RSA", "empty"));
                }
                Ok(KeyKind::Rsa {
                    modulus_bits,
                    public_exponent,
                })
            }
        }
    }

    fn has_reasons(&self) -> Result<(), ProfileError> {
        let rules = self.private.iter().chain(&self.public);
        let reasons = rules
            .map(|rule| (rule.attribute, &rule.reason))
            .chain(self.token_cannot.iter().map(|w| (w.attribute, &w.reason)));
        for (attribute, reason) in reasons {
            if reason.trim().is_empty() {
                let what = format!("the reason of {attribute}");
                return Err(self.refused(&what, "a sentence", "empty"));
            }
        }
        Ok(())
    }

    fn names_attributes_once(&self) -> Result<(), ProfileError> {
        for rules in [&self.private, &self.public] {
            for (at, rule) in rules.iter().enumerate() {
                let name = rule.attribute;
                if rules.iter().skip(at + 1).any(|r| r.attribute == name) {
                    return Err(self.refused(name.as_str(), "named once", "named twice"));
                }
                if name == AttributeName::AllowedMechanisms {
                    let found = "an attribute";
                    return Err(self.refused(name.as_str(), "given as allowed_mechanisms", found));
                }
                let wants_mechanism = name == AttributeName::KeyGenMechanism;
                if wants_mechanism != matches!(rule.value, Value::Mechanism(_)) {
                    let must = "a mechanism for CKA_KEY_GEN_MECHANISM, else true or false";
                    return Err(self.refused(name.as_str(), must, rule.value));
                }
                if name.is_set_by_token() && !rule.read_only {
                    return Err(self.refused(name.as_str(), "read_only", "not"));
                }
                if rule.at_birth.is_some() && (rule.read_only || !self.is_self_signed()) {
                    let must = "without at_birth unless self-signed and not read_only";
                    return Err(self.refused(name.as_str(), must, "with at_birth"));
                }
            }
        }
        Ok(())
    }

    fn is_caged(&self) -> Result<(), ProfileError> {
        for (name, must) in ALWAYS {
            if self.private_flag(name) != Some(must) || self.waives(name) {
                let must = if must { "true" } else { "false" };
                return Err(self.refused(name.as_str(), must, self.found(name)));
            }
            let mut rules = self.private.iter();
            let is_read_only = rules.any(|rule| rule.attribute == name && rule.read_only);
            if is_read_only {
                return Err(self.refused(name.as_str(), "asked for", "read_only"));
            }
        }
        for name in STATED {
            if self.private_flag(name).is_none() && !self.waives(name) {
                return Err(self.refused(name.as_str(), "stated or waived", "neither"));
            }
        }
        Ok(())
    }

    /// A key that was outside the token must say so, and one that was not must not: what is stated
    /// of it is compared for ever.
    fn says_where_the_key_was_made(&self) -> Result<(), ProfileError> {
        let must = !self.key.imported;
        for name in [
            AttributeName::AlwaysSensitive,
            AttributeName::NeverExtractable,
            AttributeName::Local,
        ] {
            let stated = self.private_flag(name);
            let is_missing = stated.is_none() && self.key.imported && !self.waives(name);
            if is_missing || stated.is_some_and(|stated| stated != must) {
                let must = match must {
                    true => "true where the key is made in the token",
                    false => "false where the key is imported",
                };
                return Err(self.refused(name.as_str(), must, self.found(name)));
            }
        }
        Ok(())
    }

    fn agrees_with_its_use(&self, kind: KeyKind) -> Result<(), ProfileError> {
        let is_rsa = matches!(kind, KeyKind::Rsa { .. });
        let clear = self.release.contains(&ReleaseForm::Clear);
        let recipient = self.release.contains(&ReleaseForm::Recipient);
        // For RSA all of these are stated; elsewhere what is stated must be false.
        let uses = [
            (AttributeName::Decrypt, clear),
            (AttributeName::Unwrap, recipient),
            (AttributeName::SignRecover, false),
        ];
        for (name, must) in uses {
            let stated = self.private_flag(name);
            if stated != Some(must) && (is_rsa || stated.is_some()) {
                let must = if must { "true" } else { "false" };
                return Err(self.refused(name.as_str(), must, self.found(name)));
            }
        }
        if self.private_flag(AttributeName::Sign) == Some(is_rsa) {
            let must = "false in the end for RSA, true otherwise";
            return Err(self.refused("CKA_SIGN", must, is_rsa));
        }
        let mut rules = self.private.iter();
        let born_signing =
            rules.any(|rule| rule.attribute == AttributeName::Sign && rule.at_birth == Some(true));
        if born_signing != self.is_self_signed() {
            let must = "true at birth exactly where certificate is self-signed";
            return Err(self.refused("CKA_SIGN", must, self.found(AttributeName::Sign)));
        }
        if recipient && self.paddings.contains(&Padding::Pkcs1V15) {
            // Unwrapping to an object cannot reject implicitly: the object either appears or not.
            let must = "without pkcs1-v1_5 where a recipient may be named";
            return Err(self.refused("paddings", must, "with it"));
        }
        Ok(())
    }

    fn allows_only_what_it_uses(&self, kind: KeyKind) -> Result<(), ProfileError> {
        let mut uses = Vec::new();
        match kind {
            KeyKind::EcP256 => uses.push(MechanismName::Ecdsa),
            KeyKind::GenericSecret => uses.push(MechanismName::Sha256Hmac),
            KeyKind::Rsa { .. } => {
                if self.paddings.iter().any(|p| *p != Padding::Pkcs1V15) {
                    uses.push(MechanismName::RsaPkcsOaep);
                }
                if self.paddings.contains(&Padding::Pkcs1V15) {
                    uses.push(MechanismName::RsaPkcs);
                }
                if self.is_self_signed() {
                    uses.push(MechanismName::Sha256RsaPkcs);
                }
            }
        }
        let allowed = &self.allowed_mechanisms;
        let same = uses.iter().all(|used| allowed.contains(used)) && uses.len() == allowed.len();
        if same {
            return Ok(());
        }
        let must = "what paddings and certificate use, and no more";
        Err(self.refused("allowed_mechanisms", must, format!("{allowed:?}")))
    }

    fn is_self_signed(&self) -> bool {
        self.certificate == CertificateKind::SelfSigned
    }

    fn waives(&self, name: AttributeName) -> bool {
        self.token_cannot.iter().any(|w| w.attribute == name)
    }

    fn private_flag(&self, name: AttributeName) -> Option<bool> {
        let mut rules = self.private.iter();
        rules
            .find(|rule| rule.attribute == name)
            .and_then(|rule| rule.value.flag())
    }

    fn found(&self, name: AttributeName) -> String {
        match self.private_flag(name) {
            Some(_) if self.waives(name) => "waived".to_owned(),
            Some(flag) => flag.to_string(),
            None => "absent".to_owned(),
        }
    }
}
