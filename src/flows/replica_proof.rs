//! The proof that a replica holds a key as the ledger has it: it is there once, with the ledger's
//! public key; its attributes are the profile's; nothing forbidden succeeds; it unwraps what was
//! wrapped outside, under every padding; and for PKCS#1 v1.5 the replica has the primary's key behind
//! implicit rejection. Looking only: nothing is made, adopted or removed in a replica.

use std::sync::{Mutex, PoisonError};

use super::holdings::Holdings;
use super::inspect::{InspectError, Seen, inspect, self_test};
use super::label;
use super::open::OpenError;
use crate::hsm::profile::Profile;
use crate::hsm::{Hsm, HsmError, KeyRef};
use crate::keyring::Version;
use crate::proto::{self, v1};
use crate::types::{KekName, KeypairId, Next, Padding, ReleaseForm, Sha256};

/// What is to be proven.
#[derive(Debug, Clone)]
pub(super) struct Subject {
    pub(super) key: KeyRef,
    pub(super) label: String,
    spki: Vec<u8>,
    paddings: Vec<Padding>,
    forms: Vec<ReleaseForm>,
    profile: Vec<u8>,
}

/// Why it is not proven.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Unproven {
    /// The key is not there.
    Missing(String),
    /// The key is there and not as the ledger says.
    Wrong(String),
    /// It could not be looked at.
    Later(String),
}

impl From<&Version> for Subject {
    fn from(version: &Version) -> Self {
        Self {
            key: KeyRef::from(version),
            label: label::of(version),
            spki: version.spki.clone(),
            // Those that are forbidden now as well: officers may allow them again.
            paddings: version.paddings_shown.clone(),
            forms: version.release_forms.clone(),
            profile: version.profile.clone(),
        }
    }
}

impl Subject {
    /// A version that is made and not in the ledger yet; `None` where it is no version.
    pub(super) fn of_made(made: &v1::KekVersionActivated) -> Option<Self> {
        let kek: KekName = made.kek.parse().ok()?;
        let id = KeypairId::try_from(made.keypair_id.as_slice()).ok()?;
        let paddings = made.paddings.iter().copied().map(proto::padding);
        let forms = made.release_forms.iter().copied().map(proto::release_form);
        Some(Self {
            key: KeyRef {
                object_id: *id.as_bytes(),
                spki_sha256: Some(Sha256::of(&made.spki)),
            },
            label: label::kek(&kek, made.number, Some(id)),
            spki: made.spki.clone(),
            paddings: paddings.collect::<Option<_>>()?,
            forms: forms.collect::<Option<_>>()?,
            profile: made.profile.clone(),
        })
    }
}

/// What proofs stand on beside the replica.
pub(super) struct ReplicaProver {
    primary: Hsm,
    /// Which key the primary has behind implicit rejection; asked once.
    rejection: Mutex<Option<Sha256>>,
}

impl ReplicaProver {
    pub(super) fn new(primary: Hsm) -> Self {
        Self {
            primary,
            rejection: Mutex::default(),
        }
    }

    /// Whether the key is there once and has the ledger's public key, by the replica's own list.
    pub(super) fn is_listed(holdings: &Holdings<'_>, subject: &Subject) -> Result<(), Unproven> {
        let found = holdings.check(&subject.key, &subject.label);
        found.map_err(|why| match matches!(why, OpenError::KeyMissing { .. }) {
            true => Unproven::Missing("there is no such key".to_owned()),
            false => Unproven::Wrong(why.to_string()),
        })
    }

    /// All the rest. `rejection_key` is the instance's key behind implicit rejection.
    pub(super) async fn prove(
        &self,
        replica: &Hsm,
        rejection_key: &KeyRef,
        subject: &Subject,
    ) -> Result<(), Unproven> {
        let Subject {
            key, label, spki, ..
        } = subject;
        let profile = Profile::parse(&subject.profile)
            .map_err(|why| Unproven::Wrong(format!("its profile cannot be read: {why}")))?;
        inspect(replica, key, label, &profile, Seen::InInventory)
            .await
            .map_err(|why| of_inspection(&why))?;
        for padding in &subject.paddings {
            self_test(replica, key, label, spki, *padding, &subject.forms)
                .await
                .map_err(|why| of_inspection(&why))?;
        }
        let in_clear = subject.forms.contains(&ReleaseForm::Clear);
        if in_clear && subject.paddings.contains(&Padding::Pkcs1V15) {
            self.rejects_alike(replica, rejection_key).await?;
        }
        Ok(())
    }

    async fn rejects_alike(&self, replica: &Hsm, rejection_key: &KeyRef) -> Result<(), Unproven> {
        let known = *self
            .rejection
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let expected = match known {
            Some(digest) => digest,
            None => {
                let asked = self.primary.secret_proof(rejection_key).await;
                let digest = asked.map_err(|why| {
                    Unproven::Later(format!("the primary could not be asked to compare: {why}"))
                })?;
                *self
                    .rejection
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner) = Some(digest);
                digest
            }
        };
        match replica.secret_proof(rejection_key).await {
            Ok(found) if found == expected => Ok(()),
            Ok(_) => Err(Unproven::Wrong(
                "the replica's key behind implicit rejection ('kekd implicit rejection') is another \
                 one than the primary's: a bad PKCS#1 v1.5 ciphertext would have two answers. Clone \
                 that key too"
                    .to_owned(),
            )),
            Err(why) if why.next() == Next::TryAgain => Err(Unproven::Later(why.to_string())),
            Err(why) => Err(Unproven::Wrong(format!(
                "the replica has no use of the key behind implicit rejection: {why}. Clone that key \
                 too"
            ))),
        }
    }
}

fn of_inspection(why: &InspectError) -> Unproven {
    match why {
        InspectError::Hsm {
            source: HsmError::KeyMissing { .. },
            ..
        } => Unproven::Missing("there is no such key".to_owned()),
        InspectError::Hsm { source, .. } if source.next() == Next::TryAgain => {
            Unproven::Later(source.to_string())
        }
        InspectError::Randomness => Unproven::Later(why.to_string()),
        InspectError::Hsm { .. }
        | InspectError::Attribute { .. }
        | InspectError::Attack { .. }
        | InspectError::SelfTest { .. }
        | InspectError::PublicKey { .. } => Unproven::Wrong(super::saga::chain(why)),
    }
}
