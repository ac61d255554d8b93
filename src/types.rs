//! The words kekd speaks: names, ids, key material of bounded shape. To parse is to construct:
//! a value of these types has been checked, so nothing downstream checks it again. No logic about
//! keys, rights or time lives here.

use std::fmt;
use std::str::FromStr;

use aws_lc_rs::digest;
use uuid::Uuid;
use zeroize::Zeroizing;

/// Bytes of a DEK: an AES-256 key.
pub const DEK_LEN: usize = 32;
/// Longest wrapped DEK accepted anywhere: RSA-4096.
pub const WRAPPED_DEK_LEN_MAX: usize = 512;
/// Longest DER `SubjectPublicKeyInfo` accepted anywhere: RSA-4096 takes 550 bytes.
pub const SPKI_LEN_MAX: usize = 1024;

/// A value that is not what it must be. The text names the rule, never the value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what} must be {rule}")]
pub struct TypeError {
    /// What was parsed, for example "a KEK name".
    pub what: &'static str,
    /// The rule it broke, to be read after "must be".
    pub rule: &'static str,
}

const fn refused<T>(what: &'static str, rule: &'static str) -> Result<T, TypeError> {
    Err(TypeError { what, rule })
}

/// The name of a KEK: 1 to 63 characters, lower-case ASCII letters, digits and inner hyphens
/// (a DNS label, RFC 1123 section 2.1).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KekName(String);

impl KekName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for KekName {
    type Err = TypeError;

    fn from_str(text: &str) -> Result<Self, TypeError> {
        let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        if text.is_empty()
            || text.len() > 63
            || !text.chars().all(inner)
            || text.starts_with('-')
            || text.ends_with('-')
        {
            return refused("a KEK name", "1 to 63 of a-z, 0-9 and inner hyphens");
        }
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for KekName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The id of one RSA key pair: an RFC 9562 UUID. Its 16 bytes are the `CKA_ID` of the objects.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeypairId(Uuid);

impl KeypairId {
    /// The 16 bytes, in network order.
    pub const fn as_bytes(&self) -> &[u8; 16] {
        self.0.as_bytes()
    }

    /// A version 4 UUID (RFC 9562 section 5.4) from 16 random bytes.
    pub const fn from_random(bytes: [u8; 16]) -> Self {
        Self(uuid::Builder::from_random_bytes(bytes).into_uuid())
    }
}

impl TryFrom<&[u8]> for KeypairId {
    type Error = TypeError;

    fn try_from(bytes: &[u8]) -> Result<Self, TypeError> {
        match Uuid::from_slice(bytes) {
            Ok(uuid) => Ok(Self(uuid)),
            Err(_) => refused("a keypair id", "16 bytes"),
        }
    }
}

impl FromStr for KeypairId {
    type Err = TypeError;

    /// Accepts the hyphenated text form in either case, and no other.
    fn from_str(text: &str) -> Result<Self, TypeError> {
        match Uuid::try_parse(text) {
            Ok(uuid) if text.len() == 36 => Ok(Self(uuid)),
            Ok(_) | Err(_) => refused("a keypair id", "a UUID in hyphenated form (RFC 9562)"),
        }
    }
}

impl fmt::Display for KeypairId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.hyphenated().fmt(f)
    }
}

/// How a DEK was wrapped. RFC 8017, sections 7.1 and 7.2; labels are empty, MGF1 uses the same hash.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Deserialize, serde::Serialize,
)]
#[serde(rename_all = "kebab-case")]
pub enum Padding {
    /// RSAES-OAEP with SHA-1.
    OaepSha1,
    /// RSAES-OAEP with SHA-256.
    OaepSha256,
    /// RSAES-PKCS1-v1_5.
    #[serde(rename = "pkcs1-v1_5")]
    Pkcs1V15,
}

impl Padding {
    /// The name used in profiles, command lines and output.
    pub const fn name(self) -> &'static str {
        match self {
            Self::OaepSha1 => "oaep-sha1",
            Self::OaepSha256 => "oaep-sha256",
            Self::Pkcs1V15 => "pkcs1-v1_5",
        }
    }
}

impl FromStr for Padding {
    type Err = TypeError;

    fn from_str(text: &str) -> Result<Self, TypeError> {
        match text {
            "oaep-sha1" => Ok(Self::OaepSha1),
            "oaep-sha256" => Ok(Self::OaepSha256),
            "pkcs1-v1_5" => Ok(Self::Pkcs1V15),
            _ => refused("a padding", "one of oaep-sha1, oaep-sha256, pkcs1-v1_5"),
        }
    }
}

impl fmt::Display for Padding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// In what form a DEK may leave.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Deserialize, serde::Serialize,
)]
#[serde(rename_all = "kebab-case")]
pub enum ReleaseForm {
    /// As it is, to the caller.
    Clear,
    /// Wrapped again inside the HSM under a recipient's RSA public key.
    Recipient,
}

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
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The bytes, to be sent.
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

/// What may happen after an error. Every error enum answers it with `next()`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Next {
    /// Whoever asked must ask for something else. We never retry it.
    CallerFault,
    /// The same request may be well in a moment: busy, token away, deadline passed.
    TryAgain,
    /// No retry helps: the outcome is unknown, or what we hold contradicts itself. An operator must
    /// look, and this process must not go on as if nothing were.
    Fatal,
}

/// The id a caller gives a request: 1 to 128 printable ASCII characters.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct RequestId(String);

impl RequestId {
    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl RequestId {
    /// A fresh random id: a UUID in text form.
    ///
    /// # Errors
    /// Where the operating system gives no randomness.
    pub fn random() -> Result<Self, aws_lc_rs::error::Unspecified> {
        let mut bytes = [0; 16];
        aws_lc_rs::rand::fill(&mut bytes)?;
        Ok(Self(KeypairId::from_random(bytes).to_string()))
    }
}

impl FromStr for RequestId {
    type Err = TypeError;

    fn from_str(text: &str) -> Result<Self, TypeError> {
        if text.is_empty() || text.len() > 128 || !text.chars().all(|c| c.is_ascii_graphic()) {
            return refused("a request id", "1 to 128 printable ASCII characters");
        }
        Ok(Self(text.to_owned()))
    }
}

/// The end user a caller names: at most 256 bytes of UTF-8 without control characters, maybe none.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct EndUser(String);

impl EndUser {
    /// The name as text, empty where none was given.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for EndUser {
    type Err = TypeError;

    fn from_str(text: &str) -> Result<Self, TypeError> {
        if text.len() > 256 || text.chars().any(char::is_control) {
            return refused(
                "an end user",
                "at most 256 bytes without control characters",
            );
        }
        Ok(Self(text.to_owned()))
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test that cannot unwrap has failed")]
mod tests {
    use super::*;

    #[test]
    fn a_kek_name_is_a_dns_label() {
        for good in ["a", "recordings", "eu-1", "0"] {
            assert_eq!(good.parse::<KekName>().unwrap().as_str(), good);
        }
        let long = "a".repeat(64);
        for bad in ["", "-a", "a-", "A", "a.b", "a b", "ä", &long] {
            assert!(bad.parse::<KekName>().is_err(), "{bad:?} was accepted");
        }
    }

    #[test]
    fn a_keypair_id_is_a_hyphenated_uuid() {
        let id: KeypairId = "6F9619FF-8B86-4011-B42D-00CF4FC964FF".parse().unwrap();
        assert_eq!(id.to_string(), "6f9619ff-8b86-4011-b42d-00cf4fc964ff");
        assert_eq!(KeypairId::try_from(&id.as_bytes()[..]).unwrap(), id);
        for bad in [
            "",
            "6f9619ff8b864011b42d00cf4fc964ff",
            "{6f9619ff-8b86-4011-b42d-00cf4fc964ff}",
        ] {
            assert!(bad.parse::<KeypairId>().is_err(), "{bad:?} was accepted");
        }
    }

    #[test]
    fn wrapped_deks_and_ids_are_bounded() {
        assert!(WrappedDek::try_from(vec![0; 512]).is_ok());
        assert!(WrappedDek::try_from(vec![0; 513]).is_err());
        assert!(WrappedDek::try_from(vec![]).is_err());
        assert!("req 1".parse::<RequestId>().is_err());
        assert!("a".repeat(129).parse::<RequestId>().is_err());
        assert!("a\nb".parse::<EndUser>().is_err());
        assert!("".parse::<EndUser>().is_ok());
    }

    #[test]
    fn released_deks_have_their_length() {
        assert_eq!(Dek::try_from(&[7; 32][..]).unwrap().as_bytes(), &[7; 32]);
        for bad in [0, 31, 33] {
            assert!(Dek::try_from(&vec![7; bad][..]).is_err(), "{bad} bytes");
        }
        assert!(RewrappedDek::try_from(vec![0; 384]).is_ok());
        assert!(RewrappedDek::try_from(vec![]).is_err());
        assert!(RewrappedDek::try_from(vec![0; 513]).is_err());
    }

    #[test]
    fn digests_are_written_in_hexadecimal_and_read_back() {
        let digest = Sha256::of(b"abc");
        let text = digest.to_string();
        assert!(text.starts_with("ba7816bf8f01cfea"));
        assert_eq!(text.parse(), Ok(digest));
        let cut = text.get(1..).unwrap();
        for bad in [
            "",
            cut,
            &format!("{text}0"),
            &text.to_uppercase(),
            &format!("g{cut}"),
        ] {
            assert!(bad.parse::<Sha256>().is_err(), "{bad:?} was accepted");
        }
    }

    #[test]
    fn padding_names_round_trip() {
        for padding in [Padding::OaepSha1, Padding::OaepSha256, Padding::Pkcs1V15] {
            assert_eq!(padding.name().parse::<Padding>().unwrap(), padding);
            assert_eq!(serde_json::to_value(padding).unwrap(), padding.name());
        }
    }
}
