//! A legacy RSA private key, as it is found in files. It is here in clear, on the officer's machine
//! and nowhere else; it wipes itself, has no `Debug`, and leaves this folder wrapped.

use std::fs::File;
use std::io::Read as _;

use aws_lc_rs::encoding::{AsDer as _, PublicKeyX509Der};
use aws_lc_rs::rsa::KeyPair;
use aws_lc_rs::signature::KeyPair as _;
use der::asn1::{AnyRef, ObjectIdentifier, OctetStringRef};
use der::{Decode as _, Encode as _, Reader as _, SecretDocument, Sequence, SliceReader};
use kekd::public_key::RsaPublicKey;
use kekd::types::Sha256;
use x509_cert::spki::AlgorithmIdentifierRef;
use zeroize::Zeroizing;

use super::malformed;
use super::passphrase::KeyFile;
use super::pkcs12::{self, Shrouded};
use crate::exit::Exit;
use crate::failure::Failure;

/// Longest key file read, in bytes. PKCS#12 files hold chains of certificates, too.
const LEN_MAX: usize = 256 * 1024;
/// rsaEncryption.
const RSA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.1");
/// The only public exponent that imported keys may have.
const PUBLIC_EXPONENT: [u8; 3] = [1, 0, 1];
/// Sizes that there are profiles for.
const SIZES: [u32; 3] = [2048, 3072, 4096];

/// See the head of this file.
pub struct LegacyKey {
    pkcs8: Zeroizing<Vec<u8>>,
    public: RsaPublicKey,
}

/// `PrivateKeyInfo` (RFC 5208 section 5) without attributes.
#[derive(Sequence)]
struct PrivateKeyInfo<'a> {
    version: u8,
    algorithm: AlgorithmIdentifierRef<'a>,
    key: &'a OctetStringRef,
}

impl LegacyKey {
    /// Reads the key, and asks for its passphrase where it has one.
    pub fn read(file: &KeyFile) -> anyhow::Result<Self> {
        let bytes = bytes_of(file)?;
        if let Some((label, document)) = pem(&bytes)? {
            return match label {
                "PRIVATE KEY" => Self::of_pkcs8(document.as_bytes()),
                "RSA PRIVATE KEY" => Self::of_pkcs1(document.as_bytes()),
                _ => {
                    let shrouded: Shrouded<'_> = document.decode_msg()?;
                    Self::of_pkcs8(&shrouded.open(&file.passphrase()?)?)
                }
            };
        }
        if pkcs12::is_pfx(&bytes) {
            let key = pkcs12::private_key(&bytes, &file.passphrase()?)?;
            return Self::of_pkcs8(&key);
        }
        Err(malformed(format!(
            "{} holds no private key that is read here: PEM \"PRIVATE KEY\", \"ENCRYPTED PRIVATE \
             KEY\" or \"RSA PRIVATE KEY\", or PKCS#12 in DER",
            file.path.display()
        )))
    }

    /// DER `PrivateKeyInfo`, version 1, without attributes: what is wrapped.
    pub fn pkcs8(&self) -> &[u8] {
        &self.pkcs8
    }

    /// Bits of the modulus.
    pub const fn bits(&self) -> u32 {
        self.public.modulus_bits()
    }

    /// SHA-256 over the DER `SubjectPublicKeyInfo`: what officers approve.
    pub fn spki_sha256(&self) -> Sha256 {
        Sha256::of(self.public.spki())
    }

    /// The built-in profile it can be imported to.
    pub fn profile(&self) -> String {
        format!("kek-rsa-{}-imported", self.bits())
    }

    fn of_pkcs8(pkcs8: &[u8]) -> anyhow::Result<Self> {
        let not_one = || malformed("the private key is not a PKCS#8 PrivateKeyInfo");
        let sequence = AnyRef::from_der(pkcs8).map_err(|_| not_one())?;
        let mut reader = SliceReader::new(sequence.value())?;
        let _version: u8 = reader.decode().map_err(|_| not_one())?;
        let algorithm: AlgorithmIdentifierRef<'_> = reader.decode().map_err(|_| not_one())?;
        if algorithm.oid != RSA {
            return Err(malformed(format!(
                "the private key is of the algorithm {}; only RSA keys are imported",
                algorithm.oid
            )));
        }
        let key: &OctetStringRef = reader.decode().map_err(|_| not_one())?;
        // Attributes may follow; tokens differ in what they make of them, so they stay behind.
        Self::of_pkcs1(key.as_bytes())
    }

    /// `RSAPrivateKey` (RFC 8017 appendix A.1.2).
    fn of_pkcs1(key: &[u8]) -> anyhow::Result<Self> {
        let info = PrivateKeyInfo {
            version: 0,
            algorithm: AlgorithmIdentifierRef {
                oid: RSA,
                parameters: Some(AnyRef::NULL),
            },
            key: OctetStringRef::new(key)?,
        };
        let pkcs8 = Zeroizing::new(info.to_der()?);
        let pair = KeyPair::from_pkcs8(&pkcs8).map_err(|why| {
            malformed(format!(
                "the private key is not an RSA key of 2048 bits or more whose parts fit each other \
                 ({why})"
            ))
        })?;
        let spki: PublicKeyX509Der<'_> = pair.public_key().as_der()?;
        let public = RsaPublicKey::from_spki(spki.as_ref())?;
        let is_usual = public.public_exponent() == PUBLIC_EXPONENT;
        if !is_usual || !SIZES.contains(&public.modulus_bits()) {
            let bits = public.modulus_bits();
            return Err(malformed(format!(
                "the key has {bits} bits and {} public exponent; imported are keys of 2048, 3072 or \
                 4096 bits with the public exponent 65537",
                if is_usual { "the usual" } else { "another" }
            )));
        }
        Ok(Self { pkcs8, public })
    }
}

/// All of the file, in memory that is neither moved nor left behind.
fn bytes_of(file: &KeyFile) -> anyhow::Result<Zeroizing<Vec<u8>>> {
    let path = &file.path;
    let missing = |error: std::io::Error| {
        let text = format!("{} cannot be read: {error}", path.display());
        Failure::new(Exit::NoInput, "INPUT_MISSING", text)
    };
    // Some more, because reading to the end asks for room once more.
    let mut bytes = Zeroizing::new(Vec::with_capacity(LEN_MAX + 64));
    let limit = u64::try_from(LEN_MAX + 1)?;
    let opened = File::open(path).map_err(missing)?;
    opened
        .take(limit)
        .read_to_end(&mut bytes)
        .map_err(missing)?;
    if bytes.len() > LEN_MAX {
        let text = format!("{} is longer than {LEN_MAX} bytes", path.display());
        return Err(Failure::new(Exit::Malformed, "TOO_LARGE", text).into());
    }
    Ok(bytes)
}

/// The first private key among PEM blocks and what stands around them, with its label.
fn pem(bytes: &[u8]) -> anyhow::Result<Option<(&'static str, SecretDocument)>> {
    const LABELS: [&str; 3] = ["PRIVATE KEY", "RSA PRIVATE KEY", "ENCRYPTED PRIVATE KEY"];
    let Ok(text) = std::str::from_utf8(bytes) else {
        return Ok(None);
    };
    for label in LABELS {
        let (begin, end) = (
            format!("-----BEGIN {label}-----"),
            format!("-----END {label}-----"),
        );
        let block = text.find(&begin).and_then(|from| {
            let block = text.get(from..)?;
            let to = block.find(&end)?.checked_add(end.len())?;
            block.get(..to)
        });
        let Some(block) = block else {
            continue;
        };
        if block.contains("Proc-Type:") {
            return Err(malformed(
                "the key is encrypted in the way of OpenSSL before 1.0, which is weak; convert it \
                 with `openssl pkcs8 -topk8 -v2 aes-256-cbc -in FILE -out NEW`",
            ));
        }
        let (_, document) = SecretDocument::from_pem(block)
            .map_err(|error| malformed(format!("the PEM block \"{label}\" is damaged: {error}")))?;
        return Ok(Some((label, document)));
    }
    Ok(None)
}
