//! Bringing in a legacy RSA key: the token makes a transport key, the officer's machine wraps the
//! legacy key to it, and the token unwraps it. The legacy key is never in clear in this process.
//!
//! The invariants: what is delivered is used under the proof that its proposal was executed, and
//! nothing else; a delivery that is refused changes nothing, and may be made again; an import ends
//! with one entry, at the latest after the expiry of its proposal.

use std::sync::Arc;

use tracing::{info, warn};

use super::Node;
use super::govern::{GovernError, run};
use super::inspect::{InspectError, Seen, inspect};
use super::make::{Forge, Issuing, MakeError, Plan};
use super::profiles::builtin;
use super::saga::chain;
use crate::clock::UnixMs;
use crate::hsm::{HsmError, KeyRef, TRANSPORT_PROFILE, transport_label};
use crate::ledger::State;
use crate::quorum::{Authorized, ImportVersion, Pending, ProposalId, Standing};
use crate::types::{KeypairId, Next};

/// Bytes of the longest wrapped AES key that is taken: the modulus of a 4096-bit transport key.
pub const WRAPPED_AES_KEY_LEN_MAX: usize = 512;
/// Bytes of the longest wrapped private key that is taken: PKCS#8 of 4096 bits has some 2,400.
pub const WRAPPED_PRIVATE_KEY_LEN_MAX: usize = 4096;

/// Validity of a transport key's certificate.
const VALID_DAYS: u32 = 30;
/// A certificate that is asked for again is made anew when it ends within this: two days.
const RENEW_BEFORE_MS: u64 = 2 * 24 * 3600 * 1000;
/// A day in milliseconds.
const DAY_MS: u64 = 24 * 3600 * 1000;

/// A transport key, for the machine that has the legacy key.
#[derive(Debug, Clone)]
pub struct TransportKey {
    /// DER `SubjectPublicKeyInfo`, RSA-3072.
    pub spki: Vec<u8>,
    /// DER certificate by the instance's issuing key: subject `CN=kekd transport <keypair id>`,
    /// keyEncipherment alone, valid 30 days.
    pub certificate: Vec<u8>,
    /// DER certificate of that issuing key.
    pub issuing_certificate: Vec<u8>,
}

/// A transport key that was looked at and certified in this process.
pub(super) struct Certified {
    keypair_id: KeypairId,
    renew_at: UnixMs,
    key: TransportKey,
}

impl Node {
    /// Makes the transport key of an import that has just begun. Where the HSM is away the import
    /// stays begun and the key is made when it is asked for; where the token cannot do it, it ends.
    pub(super) async fn make_transport_key(
        &self,
        import: &Authorized<ImportVersion>,
    ) -> Result<TransportKey, GovernError> {
        match self.certified_transport_key(import).await {
            Ok(key) => Ok(key),
            Err(why) if may_pass(&why) => Err(unavailable(&why)),
            Err(why) => Err(self.end_import(import, &chain(&why)).await),
        }
    }

    /// The transport key of an import that waits for its key, as often as it is asked for.
    ///
    /// Errors: [`GovernError::NoImport`] where nothing waits under this proposal.
    pub async fn transport_key(
        self: &Arc<Self>,
        id: ProposalId,
    ) -> Result<TransportKey, GovernError> {
        let import = self.waiting_import(id)?;
        if let Some(key) = self.known_transport_key(import.operation().keypair_id) {
            return Ok(key);
        }
        let node = Arc::clone(self);
        run(async move {
            let _turn = node.saga.lock().await;
            let import = node.waiting_import(id)?;
            // Reading ends nothing: what the token says here is for whoever asked.
            let made = node.certified_transport_key(&import).await;
            made.map_err(|why| match may_pass(&why) {
                true => unavailable(&why),
                false => GovernError::NotPossible(chain(&why)),
            })
        })
        .await
    }

    /// Takes a key that was wrapped for the transport key of an import, and makes it a version.
    /// What does not unwrap to the key that was approved is refused, and the import waits on.
    /// Cut short after that, it goes on where it stopped when the same is delivered again.
    ///
    /// `wrapped_aes_key` has at most [`WRAPPED_AES_KEY_LEN_MAX`] bytes, `wrapped_private_key` at
    /// most [`WRAPPED_PRIVATE_KEY_LEN_MAX`].
    pub async fn deliver_import(
        self: &Arc<Self>,
        id: ProposalId,
        wrapped_aes_key: Vec<u8>,
        wrapped_private_key: Vec<u8>,
    ) -> Result<Arc<Standing>, GovernError> {
        let node = Arc::clone(self);
        run(async move {
            let _turn = node.saga.lock().await;
            let import = node.waiting_import(id)?;
            let proposal = node.standing(id)?;
            let expires_at = proposal.proposal.expires_at;
            if node.time.confirmed(node.snapshot().latest())? >= expires_at {
                return Err(node.end_import(&import, &too_late(expires_at)).await);
            }
            node.bring_in(&import, &wrapped_aes_key, &wrapped_private_key)
                .await?;
            node.standing(id)
        })
        .await
    }

    /// Goes on with an import that waits: for replicas to hold its key, or for the key itself.
    pub(super) async fn go_on_with_import(
        &self,
        import: &Authorized<ImportVersion>,
    ) -> Result<(), GovernError> {
        let ImportVersion {
            proposal,
            version,
            keypair_id,
            ..
        } = import.operation();
        if self.awaited.get(*keypair_id).is_none() {
            return self.end_import_if_late(import).await;
        }
        let plan = Plan::of(version, 1, *keypair_id, *proposal);
        let profile = match self.profile(version) {
            Ok(profile) => profile,
            Err(why) => return self.give_up(*keypair_id, &chain(&why)).await.recorded(),
        };
        let went = self.go_on_waiting(import, &plan, &profile).await;
        went.unwrap_or(Ok(()))
    }

    /// Ends an import whose proposal expired before its key came. The transport key is destroyed: it
    /// is the node's own, made for this import under the proof that is still at hand, and with it
    /// goes whatever else was wrapped for it.
    pub(super) async fn end_import_if_late(
        &self,
        import: &Authorized<ImportVersion>,
    ) -> Result<(), GovernError> {
        let id = import.operation().proposal;
        let expires_at = self.standing(id)?.proposal.expires_at;
        if self.time.now() < expires_at {
            return Ok(());
        }
        let newest = self.snapshot().latest();
        self.time.confirmed(newest)?;
        let ended = self.end_import(import, &too_late(expires_at)).await;
        ended.recorded()
    }

    /// First the transport key goes, then the ledger says so: cut short, it is done again. A legacy
    /// key that came in and was not proved stays in quarantine, as every key that may be of use.
    async fn end_import(&self, import: &Authorized<ImportVersion>, why: &str) -> GovernError {
        if let Err(error) = self.hsm.destroy_transport_key(import).await {
            return error.into();
        }
        let keypair_id = import.operation().keypair_id;
        self.forget_transport_key(keypair_id);
        self.give_up(keypair_id, why).await
    }

    fn waiting_import(&self, id: ProposalId) -> Result<Authorized<ImportVersion>, GovernError> {
        let found = self.standing(id)?.phase(self.time.now());
        let pending = self.snapshot().governance().pending();
        let import = pending.into_iter().find_map(|pending| match pending {
            Pending::Import(import) if import.operation().proposal == id => Some(import),
            Pending::Import(_) | Pending::Make(_) | Pending::Destroy(_) => None,
        });
        let import = import.ok_or(GovernError::NoImport { id, found })?;
        match self.waits_for(import.operation().keypair_id) {
            None => Ok(import),
            Some(why) => Err(GovernError::NotPossible(format!(
                "the key was delivered: {why}"
            ))),
        }
    }

    async fn certified_transport_key(
        &self,
        import: &Authorized<ImportVersion>,
    ) -> Result<TransportKey, MakeError> {
        let keypair_id = import.operation().keypair_id;
        let label = transport_label(keypair_id);
        let profile = builtin(TRANSPORT_PROFILE)?;
        let made = self.hsm.make_transport_key(import).await;
        let (key, spki) = made.map_err(|source| MakeError::Hsm {
            label: label.clone(),
            source,
        })?;
        inspect(&self.hsm, &key, &label, &profile, Seen::Made).await?;
        let state = self.snapshot();
        let forge = self.import_forge(import);
        let subject = format!("CN={label}");
        let issuing = issuing(&state);
        let issued = forge.certify(&subject, VALID_DAYS, &spki, &label, &issuing);
        let key = TransportKey {
            certificate: issued.await?,
            spki,
            issuing_certificate: state.issuing_certificate().to_vec(),
        };
        info!(%keypair_id, "the transport key is made, attacked and certified");
        let valid_ms = u64::from(VALID_DAYS).saturating_mul(DAY_MS);
        let mut known = self.transport_keys();
        known.retain(|known| known.keypair_id != keypair_id);
        known.push(Certified {
            keypair_id,
            renew_at: UnixMs(forge.now.0.saturating_add(valid_ms - RENEW_BEFORE_MS)),
            key: key.clone(),
        });
        Ok(key)
    }

    async fn bring_in(
        &self,
        import: &Authorized<ImportVersion>,
        wrapped_aes_key: &[u8],
        wrapped_private_key: &[u8],
    ) -> Result<(), GovernError> {
        let ImportVersion {
            proposal,
            version,
            keypair_id,
            spki_sha256,
        } = import.operation();
        let profile = self.import_profile(version)?;
        let plan = Plan::of(version, 1, *keypair_id, *proposal);
        let label = plan.label();
        let (aes, key) = (wrapped_aes_key, wrapped_private_key);
        let brought = self.hsm.import(import, &label, &profile, aes, key).await;
        let spki = brought.map_err(|why| self.not_brought_in(*keypair_id, why))?;
        self.forget_transport_key(*keypair_id);

        let state = self.snapshot();
        let (forge, issuing) = (self.import_forge(import), issuing(&state));
        let key = KeyRef {
            object_id: *keypair_id.as_bytes(),
            spki_sha256: Some(*spki_sha256),
        };
        let proved = async {
            let certificate = forge.issued(&plan, &spki, &issuing).await?;
            forge.prove(&plan, &profile, &key, spki, certificate).await
        };
        match proved.await {
            Ok(made) => {
                let now = self.time.now();
                self.make_real_when_covered(made, *keypair_id, now).await
            }
            // Delivered again, it goes on from here: the key is in the token.
            Err(why) if may_pass(&why) => Err(unavailable(&why)),
            Err(why) => Err(self.give_up(*keypair_id, &chain(&why)).await),
        }
    }

    /// What it means that a delivery did not come in. The worker has left nothing of it.
    fn not_brought_in(&self, keypair_id: KeypairId, why: HsmError) -> GovernError {
        warn!(%keypair_id, %why, "what was delivered is refused");
        if let HsmError::KeyMissing { .. } = why {
            // Somebody took it: the next who asks gets another.
            self.forget_transport_key(keypair_id);
            let text =
                "the transport key is no longer in the token; fetch a new one and wrap for it";
            return GovernError::NotDelivered(text.to_owned());
        }
        if let HsmError::KeyMismatch { detail, .. }
        | HsmError::RefusedByToken { detail, .. }
        | HsmError::BadRequest { detail, .. } = why
        {
            return GovernError::NotDelivered(detail);
        }
        if let HsmError::Unsupported { .. } | HsmError::ProfileNotApproved { .. } = why {
            return GovernError::NotPossible(why.to_string());
        }
        why.into()
    }

    fn import_forge<'a>(
        &'a self,
        authority: &'a Authorized<ImportVersion>,
    ) -> Forge<'a, ImportVersion> {
        Forge {
            hsm: &self.hsm,
            authority,
            capabilities: &self.capabilities,
            now: self.time.now(),
        }
    }

    fn known_transport_key(&self, keypair_id: KeypairId) -> Option<TransportKey> {
        let now = self.time.now();
        let known = self.transport_keys();
        let mut known = known.iter();
        let known = known.find(|known| known.keypair_id == keypair_id && now < known.renew_at);
        known.map(|known| known.key.clone())
    }

    fn forget_transport_key(&self, keypair_id: KeypairId) {
        let mut known = self.transport_keys();
        known.retain(|known| known.keypair_id != keypair_id);
    }
}

fn issuing(state: &State) -> Issuing<'_> {
    Issuing {
        key: KeyRef::from(state.issuing_key()),
        certificate: state.issuing_certificate(),
    }
}

fn too_late(expires_at: UnixMs) -> String {
    let at = expires_at.rfc3339();
    format!("no key was delivered before the proposal expired at {at}")
}

/// Whether the same may succeed later: the HSM was away, and nothing is known against the key.
pub(super) fn may_pass(why: &MakeError) -> bool {
    let source = match why {
        MakeError::Hsm { source, .. } | MakeError::Inspect(InspectError::Hsm { source, .. }) => {
            source
        }
        MakeError::Inspect(_)
        | MakeError::Certificate { .. }
        | MakeError::Profile(_)
        | MakeError::NoPadding { .. }
        | MakeError::NotAlone { .. }
        | MakeError::Randomness => return false,
    };
    source.next() == Next::TryAgain || matches!(source, HsmError::OutcomeUnknown { .. })
}

fn unavailable(why: &MakeError) -> GovernError {
    warn!(
        why = chain(why),
        "an import waits until the HSM is well again"
    );
    GovernError::HsmUnavailable
}
