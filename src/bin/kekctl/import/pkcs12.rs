//! PKCS#12 files (RFC 7292), as far as a private key is in them: one key, in a bag that is encrypted
//! by itself or in contents that are. The file's MAC is not looked at: what comes out is compared
//! with the public key that the officers approved.

use der::asn1::{AnyRef, ObjectIdentifier, OctetStringRef};
use der::{Decode as _, Reader as _, Sequence, SliceReader, Tag, TagNumber, Tagged as _};
use x509_cert::spki::AlgorithmIdentifierRef;
use zeroize::Zeroizing;

use super::malformed;
use super::pbe;

const DATA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.7.1");
const ENCRYPTED_DATA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.7.6");
const KEY_BAG: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.12.10.1.1");
const SHROUDED_KEY_BAG: ObjectIdentifier =
    ObjectIdentifier::new_unwrap("1.2.840.113549.1.12.10.1.2");
/// The version of every PFX there is.
const VERSION: u8 = 3;

/// `EncryptedPrivateKeyInfo` (RFC 5208 section 6).
#[derive(Sequence)]
pub struct Shrouded<'a> {
    algorithm: AlgorithmIdentifierRef<'a>,
    encrypted: &'a OctetStringRef,
}

impl Shrouded<'_> {
    /// The DER `PrivateKeyInfo` in it.
    pub fn open(&self, passphrase: &str) -> anyhow::Result<Zeroizing<Vec<u8>>> {
        pbe::decrypt(&self.algorithm, passphrase, self.encrypted.as_bytes())
    }
}

/// Whether the bytes begin as a PFX in DER does.
pub fn is_pfx(bytes: &[u8]) -> bool {
    auth_safe(bytes).is_ok()
}

/// The DER `PrivateKeyInfo` of the one private key in the file.
pub fn private_key(bytes: &[u8], passphrase: &str) -> anyhow::Result<Zeroizing<Vec<u8>>> {
    let mut found = Vec::new();
    let mut unread = None;
    for content in items(octets(auth_safe(bytes)?)?)? {
        let (kind, content) = tagged(content)?;
        if kind == DATA {
            found.extend(keys(octets(content)?, passphrase)?);
        } else if kind == ENCRYPTED_DATA {
            // Certificates are often in one that is weakly encrypted, and are of no interest.
            match open(content, passphrase) {
                Ok(safe) => found.extend(keys(&safe, passphrase)?),
                Err(why) => unread = Some(why),
            }
        }
    }
    let count = found.len();
    match (found.pop(), unread) {
        (Some(key), _) if count == 1 => Ok(key),
        (None, Some(why)) => Err(why),
        (_, _) => Err(malformed(format!(
            "the PKCS#12 file holds {count} private keys; expected one: take the one out with \
             openssl pkcs12"
        ))),
    }
}

/// The private keys among the bags of one `SafeContents`.
fn keys(safe: &[u8], passphrase: &str) -> anyhow::Result<Vec<Zeroizing<Vec<u8>>>> {
    let mut keys = Vec::new();
    for bag in items(safe)? {
        let (kind, value) = tagged(bag)?;
        if kind == SHROUDED_KEY_BAG {
            keys.push(value.decode_as::<Shrouded<'_>>()?.open(passphrase)?);
        } else if kind == KEY_BAG {
            keys.push(Zeroizing::new(der::Encode::to_der(&value)?));
        }
    }
    Ok(keys)
}

/// The plaintext of an `EncryptedData` (RFC 5652 section 8).
fn open(content: AnyRef<'_>, passphrase: &str) -> anyhow::Result<Zeroizing<Vec<u8>>> {
    let mut reader = SliceReader::new(of(content, Tag::Sequence)?)?;
    let _version: u8 = reader.decode()?;
    let info: AnyRef<'_> = reader.decode()?;
    let mut reader = SliceReader::new(of(info, Tag::Sequence)?)?;
    let _kind: ObjectIdentifier = reader.decode()?;
    let algorithm: AlgorithmIdentifierRef<'_> = reader.decode()?;
    let encrypted: AnyRef<'_> = reader.decode()?;
    let implicit = Tag::ContextSpecific {
        constructed: false,
        number: TagNumber(0),
    };
    pbe::decrypt(&algorithm, passphrase, of(encrypted, implicit)?)
}

/// The content of the file: `PFX`, its version, its `authSafe`.
fn auth_safe(bytes: &[u8]) -> anyhow::Result<AnyRef<'_>> {
    let mut reader = SliceReader::new(of(AnyRef::from_der(bytes)?, Tag::Sequence)?)?;
    let version: u8 = reader.decode()?;
    if version != VERSION {
        anyhow::bail!("the version of a PFX is {VERSION}; found {version}");
    }
    let (kind, content) = tagged(reader.decode()?)?;
    if kind != DATA {
        return Err(malformed(
            "the PKCS#12 file is sealed by a public key; only passphrases are read",
        ));
    }
    Ok(content)
}

/// A `ContentInfo` or a `SafeBag`: what it is, and its `[0] EXPLICIT` content.
fn tagged(item: AnyRef<'_>) -> anyhow::Result<(ObjectIdentifier, AnyRef<'_>)> {
    let mut reader = SliceReader::new(of(item, Tag::Sequence)?)?;
    let kind = reader.decode()?;
    let explicit = Tag::ContextSpecific {
        constructed: true,
        number: TagNumber(0),
    };
    let content: AnyRef<'_> = reader.decode()?;
    Ok((kind, AnyRef::from_der(of(content, explicit)?)?))
}

/// The elements of a DER `SEQUENCE OF`.
fn items(bytes: &[u8]) -> anyhow::Result<Vec<AnyRef<'_>>> {
    let mut reader = SliceReader::new(of(AnyRef::from_der(bytes)?, Tag::Sequence)?)?;
    let mut items = Vec::new();
    while !reader.is_finished() {
        items.push(reader.decode()?);
    }
    Ok(items)
}

fn octets(value: AnyRef<'_>) -> anyhow::Result<&[u8]> {
    of(value, Tag::OctetString)
}

fn of(value: AnyRef<'_>, tag: Tag) -> anyhow::Result<&[u8]> {
    if value.tag() != tag {
        return Err(malformed(format!(
            "the PKCS#12 file is not DER as RFC 7292 says: expected {tag}, found {}; \
             `openssl pkcs12 -in FILE -nodes | openssl pkcs12 -export` writes it anew",
            value.tag()
        )));
    }
    Ok(value.value())
}
