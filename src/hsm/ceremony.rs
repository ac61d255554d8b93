//! What makes, inspects and destroys keys. To make or destroy one takes an [`Authorized`] operation,
//! which only the quorum policy can construct; without it the call does not compile:
//!
//! ```compile_fail,E0061
//! # async fn init(hsm: kekd::hsm::Hsm, profile: kekd::hsm::profile::Profile) {
//! hsm.generate([7; 16], "kekd kek", &profile).await.unwrap();
//! # }
//! ```
//!
//! nor does it with the proof of another operation:
//!
//! ```compile_fail,E0277
//! # use kekd::quorum::{Authorized, DestroyVersion};
//! # async fn init(hsm: kekd::hsm::Hsm, profile: kekd::hsm::profile::Profile,
//! #               proof: Authorized<DestroyVersion>) {
//! hsm.generate(&proof, [7; 16], "kekd kek", &profile).await.unwrap();
//! # }
//! ```
//!
//! ```compile_fail,E0308
//! # use kekd::quorum::{Authorized, MakeVersion};
//! # async fn end(hsm: kekd::hsm::Hsm, key: kekd::hsm::KeyRef, proof: Authorized<MakeVersion>) {
//! hsm.destroy(&proof, &key).await.unwrap();
//! # }
//! ```
//!
//! ```compile_fail,E0061
//! # async fn end(hsm: kekd::hsm::Hsm, key: kekd::hsm::KeyRef) {
//! hsm.destroy(&key).await.unwrap();
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
//! # use kekd::quorum::{Authorized, DestroyVersion, Initialise};
//! # async fn init(hsm: kekd::hsm::Hsm, profile: kekd::hsm::profile::Profile,
//! #               proof: Authorized<Initialise>) {
//! hsm.generate(&proof, [7; 16], "kekd kek", &profile).await.unwrap();
//! # }
//! # async fn end(hsm: kekd::hsm::Hsm, key: kekd::hsm::KeyRef, proof: Authorized<DestroyVersion>) {
//! hsm.destroy(&proof, &key).await.unwrap();
//! # }
//! ```

use tracing::{info, warn};

use super::call::{Call, Kind};
use super::error::HsmError;
use super::handle::Hsm;
use super::job::{DataKind, KeyRef};
use super::profile::Profile;
use super::report::{AttackReport, AttributeMismatch, Object};
use crate::proto::worker as proto;
use crate::proto::worker::request::Op;
use crate::proto::worker::response::Result as Answered;
use crate::quorum::{Authorized, DestroyVersion, MakesKeys};

/// The call that destroys, in messages.
const DESTROY: &str = "Destroy";

impl Hsm {
    /// Makes a key to a profile and returns its DER `SubjectPublicKeyInfo`, empty for a secret key.
    /// Refused where an object with this id or label exists.
    pub async fn generate(
        &self,
        authority: &Authorized<impl MakesKeys>,
        object_id: [u8; 16],
        label: &str,
        profile: &Profile,
    ) -> Result<Vec<u8>, HsmError> {
        let key = KeyRef {
            object_id,
            spki_sha256: None,
        };
        let authority = authority.operation().authority();
        info!(%key, label, profile = profile.name(), authority, "a key is made");
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
        authority: &Authorized<impl MakesKeys>,
        key: &KeyRef,
        tbs: &[u8],
    ) -> Result<Vec<u8>, HsmError> {
        let authority = authority.operation().authority();
        info!(%key, authority, "a key signs its own certificate");
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
        authority: &Authorized<impl MakesKeys>,
        key: &KeyRef,
        profile: &Profile,
    ) -> Result<(), HsmError> {
        let authority = authority.operation().authority();
        info!(%key, profile = profile.name(), authority, "a key is caged");
        let op = Op::Cage(proto::Cage {
            key: Some(key.into()),
            profile: profile.bytes().to_vec(),
        });
        let Answered::Caged(_) = self.act("Cage", op, Some(key), Kind::Once).await? else {
            return Err(HsmError::wrong_kind("Cage"));
        };
        Ok(())
    }

    /// Destroys both halves of a key pair, the private one first, and answers only once a search
    /// finds neither; what is gone already is no failure. Its known-answer tests are dropped before,
    /// so that a worker that starts in between does not want the key.
    ///
    /// Where this fails the key may be there still or not: the tests that it passes now are set
    /// again. Where the HSM gave no service and the key is to be used again, set them anew.
    pub async fn destroy(
        &self,
        authority: &Authorized<DestroyVersion>,
        key: &KeyRef,
    ) -> Result<(), HsmError> {
        let DestroyVersion {
            proposal,
            keypair_id,
        } = authority.operation();
        if *keypair_id.as_bytes() != key.object_id {
            return Err(HsmError::NotApproved {
                operation: DESTROY,
                key: key.clone(),
                approved: *keypair_id,
            });
        }
        warn!(%key, %proposal, "a key is destroyed");
        let tests = self.shared().take_known_answers(key);
        let ended = self.end_pair(key).await;
        if ended.is_err() {
            for test in tests {
                // Not kept where it does not pass, for example because the key is gone.
                drop(self.set_known_answer(test).await);
            }
        }
        ended
    }

    /// Reads every attribute of the profile back. Empty: the token holds what the profile says. Looks
    /// that no other key has the label, unless an inventory has shown it.
    pub async fn read_back(
        &self,
        key: &KeyRef,
        label: &str,
        profile: &Profile,
        was_inventoried: bool,
    ) -> Result<Vec<AttributeMismatch>, HsmError> {
        let op = Op::ReadBack(proto::ReadBack {
            key: Some(key.into()),
            label: label.to_owned(),
            profile: profile.bytes().to_vec(),
            was_inventoried,
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

    /// The values of all data objects with these labels, for each label in no particular order.
    pub async fn read_data<const N: usize>(
        &self,
        labels: [&str; N],
    ) -> Result<[Vec<Vec<u8>>; N], HsmError> {
        let op = Op::ReadData(proto::ReadData {
            labels: labels.map(str::to_owned).to_vec(),
        });
        let Answered::DataObjects(objects) =
            self.act("ReadData", op, None, Kind::Repeatable).await?
        else {
            return Err(HsmError::wrong_kind("ReadData"));
        };
        let mut found = [const { Vec::new() }; N];
        for (at, value) in objects.labels.into_iter().zip(objects.values) {
            if let Some(values) = usize::try_from(at).ok().and_then(|at| found.get_mut(at)) {
                values.push(value);
            }
        }
        Ok(found)
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

    /// Destroys a key pair for whoever has the authority.
    pub(super) async fn end_pair(&self, key: &KeyRef) -> Result<(), HsmError> {
        let op = Op::Destroy(proto::Destroy {
            key: Some(key.into()),
        });
        let answered = self.act(DESTROY, op, Some(key), Kind::Repeatable);
        let Answered::Destroyed(_) = answered.await? else {
            return Err(HsmError::wrong_kind(DESTROY));
        };
        Ok(())
    }

    pub(super) async fn act(
        &self,
        operation: &'static str,
        op: Op,
        key: Option<&KeyRef>,
        kind: Kind<'_>,
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
