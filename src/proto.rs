//! The generated protobuf types. Nothing is written here by hand but what generation leaves out:
//! `Debug` for messages that carry a plaintext DEK, which says only that there is one, and the words
//! of `types` in the numbers of the wire and back.

use crate::types::{Padding, ReleaseForm};

impl From<Padding> for v1::Padding {
    fn from(padding: Padding) -> Self {
        match padding {
            Padding::OaepSha1 => Self::OaepSha1,
            Padding::OaepSha256 => Self::OaepSha256,
            Padding::Pkcs1V15 => Self::Pkcs1V15,
        }
    }
}

impl From<ReleaseForm> for v1::ReleaseForm {
    fn from(form: ReleaseForm) -> Self {
        match form {
            ReleaseForm::Clear => Self::Clear,
            ReleaseForm::Recipient => Self::Recipient,
        }
    }
}

/// The padding of a number; `None` for one that states none, or that a newer kekd made.
pub fn padding(number: i32) -> Option<Padding> {
    match v1::Padding::try_from(number) {
        Ok(v1::Padding::OaepSha1) => Some(Padding::OaepSha1),
        Ok(v1::Padding::OaepSha256) => Some(Padding::OaepSha256),
        Ok(v1::Padding::Pkcs1V15) => Some(Padding::Pkcs1V15),
        Ok(v1::Padding::Unspecified) | Err(_) => None,
    }
}

/// The release form of a number; `None` as above.
pub fn release_form(number: i32) -> Option<ReleaseForm> {
    match v1::ReleaseForm::try_from(number) {
        Ok(v1::ReleaseForm::Clear) => Some(ReleaseForm::Clear),
        Ok(v1::ReleaseForm::Recipient) => Some(ReleaseForm::Recipient),
        Ok(v1::ReleaseForm::Unspecified) | Err(_) => None,
    }
}

/// `kekd.v1`: the public interface and the formats of ledger and audit log.
#[allow(
    missing_docs,
    clippy::all,
    clippy::allow_attributes_without_reason,
    clippy::indexing_slicing,
    clippy::wildcard_enum_match_arm,
    unused_qualifications,
    reason = "generated; comments come from the .proto files"
)]
pub mod v1 {
    use zeroize::Zeroize as _;

    tonic::include_proto!("kekd.v1");

    /// The descriptor set, for reflection.
    pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/kekd.v1.bin"));

    impl std::fmt::Debug for UnwrapResponse {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.debug_struct("UnwrapResponse")
                .field("request_id", &self.request_id)
                .field("record_index", &self.record_index)
                .finish_non_exhaustive()
        }
    }

    impl std::fmt::Debug for unwrap_response::Release {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str(match self {
                Self::Dek(_) => "Dek(..)",
                Self::RewrappedDek(_) => "RewrappedDek(..)",
            })
        }
    }

    impl Drop for unwrap_response::Release {
        fn drop(&mut self) {
            match self {
                Self::Dek(bytes) | Self::RewrappedDek(bytes) => bytes.zeroize(),
            }
        }
    }
}

/// `kekd.worker.v1`: what the daemon and its HSM worker say to each other.
#[allow(
    missing_docs,
    clippy::all,
    clippy::allow_attributes_without_reason,
    clippy::indexing_slicing,
    clippy::wildcard_enum_match_arm,
    unused_qualifications,
    reason = "generated; comments come from the .proto files"
)]
pub mod worker {
    use zeroize::Zeroize as _;

    tonic::include_proto!("kekd.worker.v1");

    impl std::fmt::Debug for Unwrapped {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.debug_struct("Unwrapped").finish_non_exhaustive()
        }
    }

    impl Drop for Unwrapped {
        fn drop(&mut self) {
            self.dek.zeroize();
        }
    }
}
