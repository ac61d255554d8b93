//! What can go wrong with a recording. Every fault says what was found and what to do; the error
//! around it names the file. All are the caller's to mend (another file, certificate or DEK) except
//! [`Fault::Io`], after which the same call may be tried again. None leaves an output behind.

use std::error::Error;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use super::RECIPIENTS_MAX;

/// A file and what is wrong with it.
#[derive(Debug)]
pub struct RecordingError {
    /// The file, or the name the caller gave a stream.
    pub file: PathBuf,
    /// What is wrong.
    pub fault: Fault,
}

impl fmt::Display for RecordingError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.file.display(), self.fault)
    }
}

impl Error for RecordingError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.fault.source()
    }
}

/// What is wrong with a file, an output or a request.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// The operating system refused.
    #[error("{doing} failed; look at the cause and try again")]
    Io {
        /// What was being done, for example "reading".
        doing: &'static str,
        /// The cause.
        source: io::Error,
    },
    /// The file is longer than the caller allows.
    #[error("the file is longer than {len_max} bytes; allow more if it is meant to be")]
    TooLarge {
        /// The limit in bytes.
        len_max: u64,
    },
    /// There is not enough memory for a file of this length.
    #[error("{len} bytes of memory are not to be had; a recording is held in memory as a whole")]
    OutOfMemory {
        /// The bytes asked for.
        len: usize,
    },
    /// The file is not CMS in any of its forms.
    #[error("not a CMS file: {found}; DER, BER, PEM and S/MIME are read")]
    NotCms {
        /// What it is instead.
        found: String,
    },
    /// The base64 text of a PEM or S/MIME file is damaged.
    #[error("the base64 text is damaged near its character {at}; get an undamaged copy")]
    Base64 {
        /// Position among the characters that are not white space.
        at: usize,
    },
    /// The bytes are not well-formed BER.
    #[error("the file is cut short or damaged at byte {at}: {rule}; get an undamaged copy")]
    Malformed {
        /// Position in the binary message.
        at: usize,
        /// The rule that is broken.
        rule: &'static str,
    },
    /// A part is well-formed and not what CMS or X.509 asks for.
    #[error("{part} is not what the standard asks for; get an undamaged copy")]
    Structure {
        /// Which part.
        part: &'static str,
        /// What the parser says.
        source: der::Error,
    },
    /// A CMS file of another kind.
    #[error("the file holds CMS {found}; kekctl opens enveloped-data and auth-enveloped-data")]
    ContentType {
        /// The content type found.
        found: String,
    },
    /// What is encrypted is not plain data.
    #[error("what is encrypted is CMS {found}; kekctl opens plain data (id-data) only")]
    InnerType {
        /// The content type found.
        found: String,
    },
    /// The file has no content.
    #[error("the encrypted content is not in the file (detached); kekctl needs it inside")]
    Detached,
    /// Too many recipients.
    #[error("more than {RECIPIENTS_MAX} recipients; kekctl takes at most {RECIPIENTS_MAX}")]
    TooManyRecipients,
    /// Nobody's RSA key opens this file.
    #[error("no recipient has an RSA key (found: {found}); kekd unwraps RSA key transport only")]
    NoKeyTransport {
        /// The kinds of recipients found.
        found: String,
    },
    /// The content is encrypted with a cipher not read here.
    #[error("the content is encrypted with {found}; kekctl opens aes-256-gcm and aes-256-cbc")]
    ContentCipher {
        /// The cipher found.
        found: String,
    },
    /// A nonce, initialisation vector or tag of a length not read here.
    #[error("{part} has {found} bytes; kekctl reads {expected} only")]
    ParameterLength {
        /// Which parameter.
        part: &'static str,
        /// Bytes expected.
        expected: usize,
        /// Bytes found, or bytes the file announces.
        found: usize,
    },
    /// Wrong DEK or changed content; which of them cannot be told.
    #[error("the content does not open under this DEK: the DEK is another or the file was changed")]
    DoesNotOpen,
    /// The output exists and may not be replaced.
    #[error("the file exists; choose another name or ask to overwrite")]
    Exists,
    /// The output exists and is not a file.
    #[error("the name is not that of a regular file; choose another")]
    NotRegular,
    /// Sealing for no one.
    #[error("no certificate to seal for; name 1 to {RECIPIENTS_MAX}")]
    NoCertificate,
    /// Sealing with PKCS#1 v1.5.
    #[error("pkcs1-v1_5 is for opening old recordings only; seal with oaep-sha1 or oaep-sha256")]
    PaddingNotSealed,
    /// A certificate that is neither PEM nor DER.
    #[error("not an X.509 certificate in PEM or DER")]
    NotACertificate {
        /// What the parser says.
        source: der::Error,
    },
    /// A certificate whose key does not wrap DEKs.
    #[error("the certificate's key is {found}; kekd unwraps under RSA of 2048 to 4096 bits")]
    CertificateKey {
        /// What was found.
        found: String,
    },
    /// A certificate that forbids key transport (RFC 5280 section 4.2.1.3).
    #[error("the certificate's key usage lacks keyEncipherment; seal for a KEK's certificate")]
    CertificateUsage,
    /// AWS-LC failed where no input can make it fail.
    #[error("{doing} failed inside AWS-LC; this machine's cryptography cannot be trusted")]
    Cryptography {
        /// What was being done.
        doing: &'static str,
    },
}

impl Fault {
    /// The error for this fault of `file`.
    pub(super) fn of(self, file: &Path) -> RecordingError {
        RecordingError {
            file: file.to_owned(),
            fault: self,
        }
    }

    /// For `map_err`: the operating system refused what was being done.
    pub(super) const fn io(doing: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { doing, source }
    }

    /// For `map_err`: a part is not what the standard asks for.
    pub(super) const fn structure(part: &'static str) -> impl FnOnce(der::Error) -> Self {
        move |source| Self::Structure { part, source }
    }
}

/// Why kekd cannot unwrap the DEK of one recipient. Another recipient may still do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyTransportFault {
    /// Neither RSAES-OAEP nor RSAES-PKCS1-v1_5.
    #[error("the DEK is wrapped with {found}; kekd unwraps RSAES-OAEP and RSAES-PKCS1-v1_5")]
    Algorithm {
        /// The algorithm found.
        found: String,
    },
    /// OAEP with a hash other than SHA-1 and SHA-256.
    #[error("the DEK is wrapped with RSAES-OAEP over {found}; kekd unwraps sha1 and sha256")]
    Hash {
        /// The hash found.
        found: String,
    },
    /// OAEP with one hash for the label and another for the mask.
    #[error("the DEK is wrapped with RSAES-OAEP over {hash} and {mask}; kekd needs one for both")]
    Mask {
        /// The hash of the label.
        hash: String,
        /// The mask generation function, or the hash inside MGF1.
        mask: String,
    },
    /// OAEP with a label.
    #[error("the DEK is wrapped with RSAES-OAEP under a label; kekd unwraps empty labels only")]
    Label,
    /// The parameters do not parse.
    #[error("the parameters of RSAES-OAEP are not those of RFC 4055 section 4.1")]
    Parameters,
}
