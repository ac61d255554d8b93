//! What makes and inspects keys. To make one takes an [`Authorized`] operation, which only the
//! quorum policy can construct; without it the call does not compile:
//!
//! ```compile_fail,E0061
//! # async fn init(hsm: kekd::hsm::Hsm, profile: kekd::hsm::profile::Profile) {
//! hsm.generate([7; 16], "kekd kek", &profile).await.unwrap();
//! # }
//! ```
//!
//! and nobody else can make the proof:
//!
//! ```compile_fail,E0624
//! # use kekd::quorum::{Authorized, Initialise};
//! fn forge(operation: Initialise) -> Authorized<Initialise> {
//!     Authorized::new(operation) // private to the quorum module
//! }
//! ```
//!
//! With it, this compiles:
//!
//! ```no_run
//! # use kekd::quorum::{Authorized, Initialise};
//! # async fn init(hsm: kekd::hsm::Hsm, profile: kekd::hsm::profile::Profile,
//! #               proof: Authorized<Initialise>) {
//! hsm.generate(&proof, [7; 16], "kekd kek", &profile).await.unwrap();
//! # }
//! ```

use tracing::info;

use super::call::{Call, Kind};
use super::error::HsmError;
use super::handle::Hsm;
use super::job::{DataKind, KeyRef};
use super::profile::Profile;
use super::report::{AttackReport, AttributeMismatch, Object};
use crate::proto::worker as proto;
use crate::proto::worker::request::Op;
use crate::proto::worker::response::Result as Answered;
use crate::quorum::{Authorized, Initialise};

impl Hsm {
    /// Makes a key to a profile and returns its DER `SubjectPublicKeyInfo`, empty for a secret key.
    /// Refused where an object with this id or label exists.
    pub async fn generate(
        &self,
        authority: &Authorized<Initialise>,
        object_id: [u8; 16],
        label: &str,
        profile: &Profile,
    ) -> Result<Vec<u8>, HsmError> {
        let key = KeyRef {
            object_id,
            spki_sha256: None,
        };
        let genesis_sha256 = authority.operation().genesis_sha256;
        info!(%key, label, profile = profile.name(), %genesis_sha256, "a key is made");
        let op = Op::Generate(proto::Generate {
            object_id: object_id.to_vec(),
            label: label.to_owned(),
            profile: profile.bytes().to_vec(),
        });
        let Answered::Generated(generated) =
            self.act("Generate", op, Some(&key), Kind::Once).await?
        else {
            return Err(HsmError::wrong_kind("Generate"));
        };
        Ok(generated.spki)
    }

    /// Signs a certificate body (DER `TBSCertificate`) with an RSA key that may still sign:
    /// `CKM_SHA256_RSA_PKCS`, as long as the modulus.
    pub async fn self_sign(
        &self,
        authority: &Authorized<Initialise>,
        key: &KeyRef,
        tbs: &[u8],
    ) -> Result<Vec<u8>, HsmError> {
        let genesis_sha256 = authority.operation().genesis_sha256;
        info!(%key, %genesis_sha256, "a key signs its own certificate");
        let op = Op::SelfSign(proto::SelfSign {
            key: Some(key.into()),
            tbs_certificate: tbs.to_vec(),
        });
        let Answered::Signature(signature) = self
            .act("SelfSign", op, Some(key), Kind::Repeatable)
            .await?
        else {
            return Err(HsmError::wrong_kind("SelfSign"));
        };
        Ok(signature.signature)
    }

    /// Ends the signing life of a self-signed key: SIGN=0, a copy with MODIFIABLE=0, the original
    /// destroyed.
    pub async fn cage(
        &self,
        authority: &Authorized<Initialise>,
        key: &KeyRef,
        profile: &Profile,
    ) -> Result<(), HsmError> {
        let genesis_sha256 = authority.operation().genesis_sha256;
        info!(%key, profile = profile.name(), %genesis_sha256, "a key is caged");
        let op = Op::Cage(proto::Cage {
            key: Some(key.into()),
            profile: profile.bytes().to_vec(),
        });
        let Answered::Caged(_) = self.act("Cage", op, Some(key), Kind::Once).await? else {
            return Err(HsmError::wrong_kind("Cage"));
        };
        Ok(())
    }

    /// Reads every attribute of the profile back. Empty: the token holds what the profile says.
    pub async fn read_back(
        &self,
        key: &KeyRef,
        label: &str,
        profile: &Profile,
    ) -> Result<Vec<AttributeMismatch>, HsmError> {
        let op = Op::ReadBack(proto::ReadBack {
            key: Some(key.into()),
            label: label.to_owned(),
            profile: profile.bytes().to_vec(),
        });
        let Answered::ReadBackReport(report) = self
            .act("ReadBack", op, Some(key), Kind::Repeatable)
            .await?
        else {
            return Err(HsmError::wrong_kind("ReadBack"));
        };
        Ok(report.mismatches.into_iter().map(Into::into).collect())
    }

    /// Tries everything the profile forbids.
    pub async fn attack(&self, key: &KeyRef, profile: &Profile) -> Result<AttackReport, HsmError> {
        let op = Op::Attack(proto::Attack {
            key: Some(key.into()),
            profile: profile.bytes().to_vec(),
        });
        let Answered::AttackReport(report) =
            self.act("Attack", op, Some(key), Kind::Repeatable).await?
        else {
            return Err(HsmError::wrong_kind("Attack"));
        };
        Ok(report.into())
    }

    /// All key objects, and the data objects whose label starts with `kekd `.
    pub async fn inventory(&self) -> Result<Vec<Object>, HsmError> {
        let op = Op::Inventory(proto::Inventory {});
        let Answered::Objects(objects) = self.act("Inventory", op, None, Kind::Repeatable).await?
        else {
            return Err(HsmError::wrong_kind("Inventory"));
        };
        objects.objects.into_iter().map(Object::try_from).collect()
    }

    /// The values of all data objects with this label, in no particular order.
    pub async fn read_data(&self, label: &str) -> Result<Vec<Vec<u8>>, HsmError> {
        let op = Op::ReadData(proto::ReadData {
            label: label.to_owned(),
        });
        let Answered::DataObjects(objects) =
            self.act("ReadData", op, None, Kind::Repeatable).await?
        else {
            return Err(HsmError::wrong_kind("ReadData"));
        };
        Ok(objects.values)
    }

    /// Writes a data object. Where [`DataKind::Fixed`] is cut short the outcome is unknown;
    /// [`DataKind::Replace`] is tried again, since a second time leaves the same.
    pub async fn write_data(
        &self,
        label: &str,
        value: &[u8],
        kind: DataKind,
    ) -> Result<(), HsmError> {
        let (replace, kind) = match kind {
            DataKind::Fixed => (false, Kind::Once),
            DataKind::Replace => (true, Kind::Repeatable),
        };
        let op = Op::WriteData(proto::WriteData {
            label: label.to_owned(),
            value: value.to_vec(),
            replace,
        });
        let Answered::DataWritten(_) = self.act("WriteData", op, None, kind).await? else {
            return Err(HsmError::wrong_kind("WriteData"));
        };
        Ok(())
    }

    async fn act(
        &self,
        operation: &'static str,
        op: Op,
        key: Option<&KeyRef>,
        kind: Kind,
    ) -> Result<Answered, HsmError> {
        let call = Call {
            operation,
            op,
            key,
            limit: self.shared().admin_limit(),
            kind,
        };
        self.call(call).await.map(|done| done.answered)
    }
}
