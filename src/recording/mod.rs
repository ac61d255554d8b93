//! Recordings: CMS files whose content is encrypted under a DEK, and the DEK under a KEK.
//!
//! | file | holds |
//! |---|---|
//! | `source.rs` | reading a file or a stream up to a limit |
//! | `armor.rs` | PEM and S/MIME to binary |
//! | `ber.rs` | BER, indefinite lengths included, without copying the content |
//! | `cipher.rs` | the content ciphers and their parameters |
//! | `oaep.rs` | the key-transport algorithms and their parameters |
//! | `recipient.rs` | who a recording is for |
//! | `certificate.rs` | whom to seal for |
//! | `envelope.rs` | a recording as read: parsed, still encrypted |
//! | `content.rs` | a recording opened |
//! | `seal.rs` | a recording made |
//! | `output.rs` | files that appear whole or not at all |
//! | `error.rs` | what can go wrong |
//!
//! Nothing here talks to kekd or to an HSM: to open, the caller brings the DEK; to seal, the DEK is
//! wrapped under a certificate's public key outside any HSM. No byte of plaintext leaves this
//! folder before the authentication tag has been verified (AES-CBC, which is only read, has none).
//! Formats: RFC 5652, RFC 5083, RFC 5084, RFC 4055. `docs/recordings.md` is the guide for users.

mod armor;
mod ber;
mod certificate;
mod cipher;
mod content;
mod envelope;
mod error;
mod oaep;
mod output;
mod recipient;
mod seal;
mod source;

pub use certificate::RecipientCertificate;
pub use content::Content;
pub use envelope::Envelope;
pub use error::{Fault, KeyTransportFault, RecordingError};
pub use output::{Overwrite, write_new};
pub use recipient::{Recipient, RecipientIdentifier};
pub use seal::{SealedRecording, seal};
pub use source::Source;

/// Largest file read unless the caller says otherwise: 2 GiB. openssl 3.0 itself reads DER below
/// 2 GiB only.
pub const SIZE_MAX_DEFAULT: u64 = 2 << 30;
/// Most recipients of one recording.
pub const RECIPIENTS_MAX: usize = 64;

/// Bytes between two calls of a progress callback.
const CHUNK_LEN: usize = 1 << 20;
