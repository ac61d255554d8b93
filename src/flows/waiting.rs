//! A new version becomes active only once every required replica holds it: until then its execution
//! waits, in the ledger as one that was begun and has not ended. Cloning is somebody's act and takes
//! as long as it takes; the clerk looks again each round.
//!
//! The invariant: what becomes active was proven on the primary at that moment, and on each required
//! replica by its own canary; an execution ends with one entry, at the latest when
//! `hsm.coverage_timeout_ms` is over.

use std::sync::Arc;

use tokio::task::spawn_blocking;
use tracing::{info, warn};

use super::Node;
use super::awaited::Waiting;
use super::govern::GovernError;
use super::make::{Forge, Issuing, MakeError, Plan};
use super::pen::Timing;
use crate::certificate;
use crate::clock::UnixMs;
use crate::hsm::KeyRef;
use crate::hsm::profile::{CertificateKind, Profile};
use crate::proto::v1;
use crate::quorum::{Authorized, MakesKeys, ProposalId, Standing};
use crate::types::{KeypairId, Sha256};

impl Node {
    /// Makes a version real, or has it wait for required replicas.
    pub(super) async fn make_real_when_covered(
        &self,
        made: v1::KekVersionActivated,
        keypair_id: KeypairId,
        now: UnixMs,
    ) -> Result<(), GovernError> {
        if !self.fleet.has_required() {
            return self.make_real(made, keypair_id).await;
        }
        let tokens = self
            .fleet
            .required_without(keypair_id.as_bytes())
            .join(", ");
        info!(kek = made.kek, number = made.number, %keypair_id, tokens, "the version waits for tokens");
        let waiting = Waiting {
            since: now,
            made,
            is_proven: true,
        };
        let awaited = Arc::clone(&self.awaited);
        match spawn_blocking(move || awaited.add(keypair_id, waiting)).await {
            Ok(Ok(())) => {}
            Ok(Err(why)) => {
                warn!(%why, "that a version waits is not written down: a restart ends it")
            }
            Err(panic) => {
                warn!(%panic, "that a version waits is not written down: a restart ends it")
            }
        }
        self.fleet.hurry();
        Ok(())
    }

    /// Goes on with a version that waits; `None` where none does under this id. `plan` and `profile`
    /// are what the officers approved.
    pub(super) async fn go_on_waiting<Op: MakesKeys>(
        &self,
        authority: &Authorized<Op>,
        plan: &Plan<'_>,
        profile: &Profile,
    ) -> Option<Result<(), GovernError>> {
        let id = plan.keypair_id;
        let waiting = self.awaited.get(id)?;
        if !waiting.is_proven {
            return Some(self.take_up(authority, plan, profile, waiting).await);
        }
        let without = self.fleet.required_without(id.as_bytes()).join(", ");
        if without.is_empty() {
            let again = self.prove_waiting(authority, plan, profile, waiting).await;
            return Some(match again {
                Ok(again) => self.make_real(again, id).await,
                Err(why) => Err(why),
            });
        }
        let end = waiting.since.0.saturating_add(self.coverage_timeout_ms);
        match self.entry_time(Timing::OwnAccord) {
            Ok(now) if now.0 >= end => {
                let why = format!(
                    "COVERAGE: tokens {without} did not hold it within {} s (hsm.coverage_timeout_ms)",
                    self.coverage_timeout_ms / 1000
                );
                Some(self.give_up(id, &why).await.recorded())
            }
            Ok(_) | Err(_) => Some(Ok(())),
        }
    }

    /// Takes up a version that an earlier process left waiting: before any replica is looked at, the
    /// primary's worker must know the key, too.
    async fn take_up<Op: MakesKeys>(
        &self,
        authority: &Authorized<Op>,
        plan: &Plan<'_>,
        profile: &Profile,
        waiting: Waiting,
    ) -> Result<(), GovernError> {
        let id = plan.keypair_id;
        let again = self
            .prove_waiting(authority, plan, profile, waiting)
            .await?;
        info!(%id, kek = %plan.kek, number = plan.number, "a version waits on");
        self.awaited.prove(id, again);
        self.fleet.hurry();
        Ok(())
    }

    /// The key was made some time ago, perhaps by another process: all is proven anew on the primary.
    async fn prove_waiting<Op: MakesKeys>(
        &self,
        authority: &Authorized<Op>,
        plan: &Plan<'_>,
        profile: &Profile,
        waiting: Waiting,
    ) -> Result<v1::KekVersionActivated, GovernError> {
        let (id, made) = (plan.keypair_id, waiting.made);
        let state = self.snapshot();
        let forge = Forge {
            hsm: &self.hsm,
            authority,
            capabilities: &self.capabilities,
            now: self.time.now(),
        };
        let issuing = Issuing {
            key: KeyRef::from(state.issuing_key()),
            certificate: state.issuing_certificate(),
        };
        let key = KeyRef {
            object_id: *id.as_bytes(),
            spki_sha256: Some(Sha256::of(&made.spki)),
        };
        let proved = async {
            let certificate = match (waiting.is_proven, profile.certificate()) {
                (true, _) => made.certificate.clone(),
                // What was read of is believed only where the key itself has signed it: it signs no
                // more.
                (false, CertificateKind::SelfSigned) => {
                    certificate::verify_self_signed(&made.certificate, &made.spki).map_err(
                        |source| MakeError::Certificate {
                            label: plan.label(),
                            source,
                        },
                    )?;
                    made.certificate.clone()
                }
                (false, CertificateKind::Issued | CertificateKind::None) => {
                    forge.issued(plan, &made.spki, &issuing).await?
                }
            };
            let spki = made.spki.clone();
            forge.prove(plan, profile, &key, spki, certificate).await
        };
        match proved.await {
            // The replicas have proven what was written down: it must be the same.
            Ok(again) if is_alike(&again, &made) => Ok(again),
            Ok(_) => {
                let why = "what was written down of the version is not what is in the token";
                Err(self.give_up(id, why).await)
            }
            Err(why) if super::import::may_pass(&why) => {
                warn!(%id, why = super::saga::chain(&why), "the version waits on");
                Err(GovernError::HsmUnavailable)
            }
            Err(why) => Err(self.give_up(id, &super::saga::chain(&why)).await),
        }
    }

    /// Ends a version that waits, because an officer who may veto its proposal says so.
    pub(super) async fn end_waiting(
        &self,
        id: ProposalId,
        keypair_id: KeypairId,
        signature: &[u8],
    ) -> Result<Arc<Standing>, GovernError> {
        let _turn = self.saga.lock().await;
        let state = self.snapshot();
        let governance = state.governance();
        let officer = governance.vetoes_execution(id, signature, self.likely_time())?;
        let why = format!("{officer} vetoed it while it waited for tokens");
        self.give_up(keypair_id, &why).await.recorded()?;
        self.standing(id)
    }

    /// What the execution that began this key pair waits for, in one sentence.
    pub fn waits_for(&self, id: KeypairId) -> Option<String> {
        let waiting = self.awaited.get(id)?;
        let begun = self.snapshot().governance().begun(id).is_some();
        let without = self.fleet.required_without(id.as_bytes());
        let (kek, number) = (&waiting.made.kek, waiting.made.number);
        let until = waiting.since.0.saturating_add(self.coverage_timeout_ms);
        let label = super::label::kek(&kek.parse().ok()?, number, Some(id));
        begun.then(|| match without.as_slice() {
            [] => format!("version {number} of {kek} is on all required tokens and becomes active"),
            tokens => format!(
                "version {number} of {kek} is made and waits for tokens {}: clone '{label}' (CKA_ID \
                 {id}) there before {}",
                tokens.join(", "),
                UnixMs(until).rfc3339()
            ),
        })
    }

    /// The same of all that wait.
    pub(super) fn waiting_said(&self) -> Vec<String> {
        let waiting = self.awaited.all();
        let said = waiting.iter().filter_map(|(id, _)| self.waits_for(*id));
        said.collect()
    }

    /// Forgets those whose executions have ended.
    pub(super) fn forget_ended(&self) {
        let state = self.snapshot();
        let governance = state.governance();
        self.awaited.keep_only(|id| governance.begun(id).is_some());
    }
}

/// Whether two are of one key, to be used in one way; certificates may differ.
fn is_alike(one: &v1::KekVersionActivated, other: &v1::KekVersionActivated) -> bool {
    let bare = |version: &v1::KekVersionActivated| v1::KekVersionActivated {
        certificate: Vec::new(),
        ..version.clone()
    };
    bare(one) == bare(other)
}
