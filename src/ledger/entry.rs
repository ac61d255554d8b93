//! One entry as bytes: encoded once when it is written, and from then on only read. What an entry
//! means is `state`'s concern.

use prost::Message as _;

use super::error::EntryError;
use crate::clock::UnixMs;
use crate::merkle::leaf_hash;
use crate::proto::v1;
use crate::types::Sha256;

/// What an entry says happened.
pub use crate::proto::v1::entry::Event;

/// Longest entry, in bytes: a genesis document of 256 KiB with its signatures fits.
pub const ENTRY_LEN_MAX: usize = 1024 * 1024;

/// An entry with the bytes that are stored and hashed.
#[derive(Debug, Clone)]
pub(super) struct StoredEntry {
    bytes: Vec<u8>,
    entry: v1::Entry,
}

impl StoredEntry {
    /// The one place where an entry is encoded. `instance_id` is left out in entry 0 only.
    pub(super) fn encode(
        index: u64,
        time: UnixMs,
        instance_id: Option<Sha256>,
        event: Event,
    ) -> Self {
        let entry = v1::Entry {
            index,
            time_ms: time.0,
            instance_id: instance_id.map_or_else(Vec::new, |id| id.as_bytes().to_vec()),
            event: Some(event),
        };
        Self {
            bytes: entry.encode_to_vec(),
            entry,
        }
    }

    /// Reads stored bytes. Strict: protobuf has many forms for one message and passes over fields
    /// it does not know, and an entry with a field unknown here may mean something else.
    pub(super) fn decode(bytes: Vec<u8>) -> Result<Self, EntryError> {
        if bytes.len() > ENTRY_LEN_MAX {
            return Err(EntryError::TooLong {
                found_len: bytes.len(),
            });
        }
        let entry = v1::Entry::decode(bytes.as_slice())?;
        if entry.encode_to_vec() != bytes {
            return Err(EntryError::NotCanonical);
        }
        Ok(Self { bytes, entry })
    }

    /// The bytes that are stored and hashed.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// What they say.
    pub(super) const fn entry(&self) -> &v1::Entry {
        &self.entry
    }

    /// The hash of the entry as a leaf of the tree.
    pub(super) fn leaf(&self) -> Sha256 {
        leaf_hash(&self.bytes)
    }
}
