//! A recording as read: parsed, its content still encrypted. The small parts become DER and are
//! parsed by `cms`; the content stays in the buffer it was read into.

use std::collections::BTreeSet;
use std::fmt;
use std::path::{Path, PathBuf};

use cms::enveloped_data::KeyTransRecipientInfo;
use der::Decode as _;
use der::asn1::{ObjectIdentifier, OctetString};
use x509_cert::spki::AlgorithmIdentifierOwned;
use zeroize::Zeroizing;

use super::ber::{CONSTRUCTED, Element, Fields, OCTET_STRING, SET};
use super::cipher::{Cipher, ID_AUTH_ENVELOPED_DATA, ID_DATA, ID_ENVELOPED_DATA, name_of};
use super::{
    Fault, RECIPIENTS_MAX, Recipient, RecipientCertificate, RecordingError, Source, armor,
};

const INTEGER: u8 = 0x02;
const OBJECT_IDENTIFIER: u8 = 0x06;
const SEQUENCE: u8 = 0x30;
/// Context-specific tags, constructed.
const CONTEXT_0: u8 = 0xa0;
const CONTEXT_1: u8 = 0xa1;
const CONTEXT_2: u8 = 0xa2;
/// Most bytes of one recipient, of one algorithm identifier and of the authenticated attributes.
const PART_LEN_MAX: usize = 64 * 1024;

/// A parsed recording. Its content opens under the DEK that one of the recipients' keys unwraps.
pub struct Envelope {
    pub(super) file: PathBuf,
    pub(super) ciphertext: Zeroizing<Vec<u8>>,
    pub(super) cipher: Cipher,
    recipients: Vec<Recipient>,
}

impl fmt::Debug for Envelope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Envelope")
            .field("file", &self.file)
            .field("content_len", &self.ciphertext.len())
            .field("recipients", &self.recipients.len())
            .finish_non_exhaustive()
    }
}

impl Envelope {
    /// Reads a file of at most `size_max` bytes, in any form, and parses it. `progress` gets the
    /// bytes read and the length, which is 0 where it is unknown. Memory: the file once.
    pub fn read(
        source: Source,
        size_max: u64,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<Self, RecordingError> {
        let (file, bytes) = source.read_all(size_max, progress)?;
        Self::parse(&file, bytes)
    }

    /// Parses a file that is in memory already. `name` is for errors.
    pub fn parse(name: &Path, mut bytes: Zeroizing<Vec<u8>>) -> Result<Self, RecordingError> {
        armor::decode(&mut bytes)
            .and_then(|()| Parts::of(&bytes))
            .and_then(|parts| {
                let len = parts.content.gather(&mut bytes)?;
                bytes.truncate(len);
                Ok(Self {
                    file: name.to_owned(),
                    ciphertext: bytes,
                    cipher: parts.cipher,
                    recipients: parts.recipients,
                })
            })
            .map_err(|fault| fault.of(name))
    }

    /// Those whose RSA key opens it, at least one; others (key agreement, passwords) are left out.
    pub fn recipients(&self) -> &[Recipient] {
        &self.recipients
    }

    /// The recipient that this certificate belongs to.
    pub fn recipient_for(&self, certificate: &RecipientCertificate) -> Option<&Recipient> {
        self.recipients
            .iter()
            .find(|recipient| recipient.is(certificate))
    }
}

/// What matters of a message: everything parsed but the content, which is only located.
struct Parts {
    recipients: Vec<Recipient>,
    cipher: Cipher,
    content: Element,
}

impl Parts {
    /// ContentInfo (RFC 5652 section 3).
    fn of(bytes: &[u8]) -> Result<Self, Fault> {
        let whole = Element {
            tag: SEQUENCE,
            content: 0..bytes.len(),
            end: bytes.len(),
        };
        let mut file = whole.fields(bytes);
        let message = file.expect(&[SEQUENCE], "a CMS file is a SEQUENCE (ContentInfo)")?;
        file.finish("nothing may follow the message")?;
        let mut fields = message.fields(bytes);
        let content_type = object_identifier(bytes, &mut fields)?;
        let explicit = fields.expect(&[CONTEXT_0], "ContentInfo has a content [0]")?;
        fields.finish("ContentInfo has two fields")?;
        if content_type != ID_AUTH_ENVELOPED_DATA && content_type != ID_ENVELOPED_DATA {
            let found = name_of(&content_type);
            return Err(Fault::ContentType { found });
        }
        let mut inner = explicit.fields(bytes);
        let envelope = inner.expect(&[SEQUENCE], "the content [0] is a SEQUENCE")?;
        inner.finish("the content [0] is one element")?;
        Self::of_envelope(bytes, &envelope, content_type == ID_AUTH_ENVELOPED_DATA)
    }

    /// EnvelopedData (RFC 5652 section 6.1) and AuthEnvelopedData (RFC 5083 section 2.1).
    fn of_envelope(bytes: &[u8], envelope: &Element, authenticated: bool) -> Result<Self, Fault> {
        let mut fields = envelope.fields(bytes);
        // The version follows from what is present and decides nothing, so it is not held against
        // a writer that got it wrong.
        fields.expect(&[INTEGER], "an envelope starts with its version")?;
        fields.optional(&[CONTEXT_0])?; // originatorInfo: certificates, of no use here
        let recipients = recipients(bytes, &fields.expect(&[SET], "recipients are a SET")?)?;
        let encrypted = fields.expect(&[SEQUENCE], "EncryptedContentInfo is a SEQUENCE")?;
        let attributes = fields.optional(&[CONTEXT_1])?;
        let (algorithm, content) = encrypted_content(bytes, &encrypted)?;
        let cipher = if authenticated {
            // RFC 5083 section 2.2: what is authenticated is the DER of a SET OF, not of the [1].
            let aad = match attributes {
                Some(attributes) => attributes.to_der(bytes, SET, PART_LEN_MAX)?,
                None => Vec::new(),
            };
            let tags = [OCTET_STRING, OCTET_STRING | CONSTRUCTED];
            let mac = fields.expect(&tags, "AuthEnvelopedData has a mac")?;
            fields.optional(&[CONTEXT_2])?; // unauthAttrs
            let mac = mac.to_der(bytes, OCTET_STRING, PART_LEN_MAX)?;
            let mac = OctetString::from_der(&mac).map_err(Fault::structure("the mac"))?;
            Cipher::authenticated(&algorithm, aad, mac.as_bytes())?
        } else {
            Cipher::unauthenticated(&algorithm)?
        };
        fields.finish("nothing may follow inside the envelope")?;
        Ok(Self {
            recipients,
            cipher,
            content,
        })
    }
}

/// RecipientInfos. The kinds other than key transport are told apart by their context tags.
fn recipients(bytes: &[u8], set: &Element) -> Result<Vec<Recipient>, Fault> {
    const PART: &str = "a recipient (KeyTransRecipientInfo)";
    let mut found = Vec::new();
    let mut others = BTreeSet::new();
    let mut count: usize = 0;
    let mut infos = set.fields(bytes);
    while let Some(info) = infos.next()? {
        count += 1;
        if count > RECIPIENTS_MAX {
            return Err(Fault::TooManyRecipients);
        }
        match info.tag {
            SEQUENCE => {
                let der = info.to_der(bytes, SEQUENCE, PART_LEN_MAX)?;
                let ktri = KeyTransRecipientInfo::from_der(&der).map_err(Fault::structure(PART))?;
                found.push(Recipient::new(ktri).map_err(Fault::structure(PART))?);
            }
            0xa1 => drop(others.insert("key agreement")),
            0xa2 => drop(others.insert("a symmetric KEK")),
            0xa3 => drop(others.insert("a password")),
            _ => drop(others.insert("another kind")),
        }
    }
    if found.is_empty() {
        let others: Vec<&str> = others.into_iter().collect();
        let found = if others.is_empty() {
            "none at all".to_owned()
        } else {
            others.join(", ")
        };
        return Err(Fault::NoKeyTransport { found });
    }
    Ok(found)
}

/// EncryptedContentInfo.
fn encrypted_content(
    bytes: &[u8],
    encrypted: &Element,
) -> Result<(AlgorithmIdentifierOwned, Element), Fault> {
    let mut fields = encrypted.fields(bytes);
    let inner_type = object_identifier(bytes, &mut fields)?;
    if inner_type != ID_DATA {
        return Err(Fault::InnerType {
            found: name_of(&inner_type),
        });
    }
    let algorithm = fields.expect(&[SEQUENCE], "a content cipher is an AlgorithmIdentifier")?;
    let algorithm = algorithm.to_der(bytes, SEQUENCE, PART_LEN_MAX)?;
    let algorithm = AlgorithmIdentifierOwned::from_der(&algorithm)
        .map_err(Fault::structure("the content cipher"))?;
    let content = fields.optional(&[CONTEXT_0, CONTEXT_0 & !CONSTRUCTED])?;
    fields.finish("EncryptedContentInfo has three fields")?;
    Ok((algorithm, content.ok_or(Fault::Detached)?))
}

fn object_identifier(bytes: &[u8], fields: &mut Fields<'_>) -> Result<ObjectIdentifier, Fault> {
    let element = fields.expect(&[OBJECT_IDENTIFIER], "a content type comes first")?;
    let octets = bytes.get(element.content).unwrap_or_default();
    ObjectIdentifier::from_bytes(octets)
        .map_err(|cause| Fault::structure("an object identifier")(cause.into()))
}
