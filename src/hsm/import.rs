//! Bringing in a key that was made elsewhere: a transport key is made in the token, people wrap for
//! it what they have, and the token unwraps it. What passes through this process is wrapped. Each
//! step can be repeated and then ends as the first time did.

use tracing::{info, warn};

use super::call::Kind;
use super::error::HsmError;
use super::handle::Hsm;
use super::job::KeyRef;
use super::profile::Profile;
use super::report::ObjectClass;
use crate::proto::worker as proto;
use crate::proto::worker::request::Op;
use crate::proto::worker::response::Result as Answered;
use crate::quorum::{Authorized, ImportVersion};
use crate::types::{KeypairId, Sha256};

/// The name of the built-in profile of transport keys.
pub const TRANSPORT_PROFILE: &str = "import-transport";

/// `CKA_ID` of the transport key of an import: the first 16 bytes of SHA-256 over `kekd transport`
/// and the 16 bytes of the id that the key pair will have. It cannot be that id itself, which both
/// would have for a moment.
pub fn transport_object_id(keypair_id: KeypairId) -> [u8; 16] {
    let named = [b"kekd transport".as_slice(), keypair_id.as_bytes()].concat();
    let digest = Sha256::of(&named);
    let mut id = [0; 16];
    for (byte, of_digest) in id.iter_mut().zip(digest.as_bytes()) {
        *byte = *of_digest;
    }
    id
}

/// `CKA_LABEL` of the transport key of an import.
pub fn transport_label(keypair_id: KeypairId) -> String {
    format!("kekd transport {keypair_id}")
}

impl Hsm {
    /// Makes the transport key of an import, RSA-3072 to the profile [`TRANSPORT_PROFILE`], or
    /// finds it as it was made before: then it still keeps the profile. Returns it with its DER
    /// `SubjectPublicKeyInfo`, for which people wrap an AES-256 key with RSAES-OAEP, SHA-1 and no
    /// label. To attack it is the caller's part, as with every key.
    pub async fn make_transport_key(
        &self,
        authority: &Authorized<ImportVersion>,
    ) -> Result<(KeyRef, Vec<u8>), HsmError> {
        const OPERATION: &str = "MakeTransport";
        let ImportVersion {
            proposal,
            keypair_id,
            ..
        } = authority.operation();
        let mut key = KeyRef {
            object_id: transport_object_id(*keypair_id),
            spki_sha256: None,
        };
        info!(%keypair_id, %proposal, "a transport key is made");
        let profile = Profile::builtin(TRANSPORT_PROFILE).unwrap_or_default();
        let op = Op::MakeTransport(proto::MakeTransport {
            object_id: key.object_id.to_vec(),
            label: transport_label(*keypair_id),
            profile: profile.into(),
        });
        let answered = self.act(OPERATION, op, Some(&key), Kind::Repeatable);
        let Answered::Generated(generated) = answered.await? else {
            return Err(HsmError::wrong_kind(OPERATION));
        };
        key.spki_sha256 = Some(Sha256::of(&generated.spki));
        Ok((key, generated.spki))
    }

    /// Brings in the approved RSA private key and then destroys its transport key. Returns the DER
    /// `SubjectPublicKeyInfo`, which has the SHA-256 that was approved; the attributes are those of
    /// the profile, whose SHA-256 must be the approved one, too.
    ///
    /// `wrapped_aes_key` is the AES-256 key, wrapped for the transport key, at most 512 bytes;
    /// `wrapped_private_key` is a DER PKCS#8 `PrivateKeyInfo` under that AES key, wrapped as RFC
    /// 5649 says, at most 4096 bytes. Where they do not unwrap to such a key nothing is left of
    /// them in the token, and the transport key stays for another try; see
    /// [`Hsm::destroy_transport_key`].
    pub async fn import(
        &self,
        authority: &Authorized<ImportVersion>,
        label: &str,
        profile: &Profile,
        wrapped_aes_key: &[u8],
        wrapped_private_key: &[u8],
    ) -> Result<Vec<u8>, HsmError> {
        const OPERATION: &str = "Import";
        let ImportVersion {
            proposal,
            version,
            keypair_id,
            spki_sha256,
        } = authority.operation();
        let found = Sha256::of(profile.bytes());
        if found != version.profile_sha256 {
            return Err(HsmError::ProfileNotApproved {
                operation: OPERATION,
                profile: profile.name().to_owned(),
                found,
                approved: version.profile_sha256,
            });
        }
        let key = KeyRef {
            object_id: *keypair_id.as_bytes(),
            spki_sha256: Some(*spki_sha256),
        };
        warn!(%key, label, profile = profile.name(), %proposal, "a key is brought in");
        let op = Op::Import(proto::Import {
            transport_object_id: transport_object_id(*keypair_id).to_vec(),
            key: Some((&key).into()),
            label: label.to_owned(),
            profile: profile.bytes().to_vec(),
            wrapped_aes_key: wrapped_aes_key.to_vec(),
            wrapped_private_key: wrapped_private_key.to_vec(),
        });
        let answered = self.act(OPERATION, op, Some(&key), Kind::Repeatable);
        let Answered::Imported(imported) = answered.await? else {
            return Err(HsmError::wrong_kind(OPERATION));
        };
        self.destroy_transport_key(authority).await?;
        Ok(imported.spki)
    }

    /// Destroys the transport key of an import that will not be tried again. Done where there is
    /// none.
    pub async fn destroy_transport_key(
        &self,
        authority: &Authorized<ImportVersion>,
    ) -> Result<(), HsmError> {
        let object_id = transport_object_id(authority.operation().keypair_id);
        // Its public key is not in the ledger: it is whatever the token says it is.
        let objects = self.inventory().await?;
        let mut ours = objects.into_iter().filter(|object| {
            let class = object.class;
            object.object_id == object_id
                && matches!(class, ObjectClass::PrivateKey | ObjectClass::PublicKey)
        });
        let Some(object) = ours.next() else {
            return Ok(());
        };
        let key = KeyRef {
            object_id,
            spki_sha256: object.spki_sha256,
        };
        self.end_pair(&key).await
    }
}
