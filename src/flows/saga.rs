//! What takes the HSM: a version is made, destroyed or brought in. The intent is in the ledger before
//! the HSM is asked, and one entry ends it; a crash anywhere in between is ended at the next start,
//! by the same functions. Whatever a failure leaves in the token is listed and never used.

use std::sync::Arc;

use tracing::{error, info, warn};

use super::Node;
use super::govern::{Executed, GovernError};
use super::label;
use super::make::{Forge, Issuing, MakeError, Plan};
use super::pen::{PenError, Timing};
use super::profiles;
use crate::clock::UnixMs;
use crate::hsm::profile::Profile;
use crate::hsm::{KeyRef, TRANSPORT_PROFILE};
use crate::ledger::Event;
use crate::proto::v1;
use crate::quorum::{
    Authorized, DestroyVersion, MakeVersion, NewVersion, Operation, Pending, Phase, ProposalId,
    Refusal,
};
use crate::types::KeypairId;

/// Longest reason of a failure that the ledger keeps, in bytes.
const REASON_LEN_MAX: usize = 256;

impl Node {
    /// Begins what an officer orders, and does it.
    pub(super) async fn execute_in_hsm(
        self: &Arc<Self>,
        operation: &Operation,
        statement: Vec<u8>,
        signature: Vec<u8>,
        id: ProposalId,
        timing: Timing,
    ) -> Result<Executed, GovernError> {
        // One at a time: the intent of the next would otherwise rest on a state about to change.
        let _turn = self.saga.lock().await;
        // What is expired or locked is said to be that, before anything else that may be wrong.
        let found = self.standing(id)?.phase(self.entry_time(timing)?);
        if found != Phase::Executable {
            return Err(Refusal::PhaseWrong {
                act: "an execution",
                expected: Phase::Executable.name(),
                found,
            }
            .into());
        }
        self.is_possible(operation)?;
        let keypair_id = if let Operation::DestroyVersion { .. } = operation {
            Vec::new()
        } else {
            let id = super::make::random_id();
            let id = id.map_err(|why| GovernError::NotPossible(why.to_string()))?;
            id.as_bytes().to_vec()
        };
        let begun = Event::ExecutionBegun(v1::ExecutionBegun {
            statement,
            signature,
            keypair_id,
        });
        let state = self.append(begun, timing).await?;
        let pending = state.governance().pending();
        let ours = pending.into_iter().find(|pending| pending.proposal() == id);
        let transport = match ours.ok_or(GovernError::Internal)? {
            Pending::Make(make) => self.make(&make).await.map(|()| None)?,
            Pending::Destroy(destroy) => self.destroy(&destroy).await.map(|()| None)?,
            Pending::Import(import) => self.make_transport_key(&import).await.map(Some)?,
        };
        Ok(Executed {
            standing: self.standing(id)?,
            transport,
        })
    }

    /// Makes a version and makes it real, or says in the ledger that it was not made.
    pub(super) async fn make(&self, make: &Authorized<MakeVersion>) -> Result<(), GovernError> {
        let MakeVersion {
            keypair_id,
            proposal,
            version,
            number,
        } = make.operation();
        // Its certificate and its age count from now. Without a clock that is believed it waits, and
        // the clerk goes on with it.
        let now = self.entry_time(Timing::OwnAccord)?;
        info!(kek = %version.kek, number, %keypair_id, %proposal, "a version is made");
        match self.forge(make, now).await {
            Ok(made) => self.make_real_when_covered(made, *keypair_id, now).await,
            Err(why) => Err(self.give_up(*keypair_id, &chain(&why)).await),
        }
    }

    /// The one entry that makes a version real. Where it is not taken, what was made stays unused.
    pub(super) async fn make_real(
        &self,
        activated: v1::KekVersionActivated,
        keypair_id: KeypairId,
    ) -> Result<(), GovernError> {
        let kek = activated.kek.clone();
        let number = activated.number;
        // It was proven as it was made. Noted before anybody can ask for it.
        self.proofs.passed(keypair_id);
        let event = Event::KekVersionActivated(activated);
        match self.append(event, Timing::Regardless).await {
            Ok(_) => {
                info!(kek, number, %keypair_id, "the version is active");
                self.vigil.hurry();
                Ok(())
            }
            Err(why @ (PenError::Refused(_) | PenError::Ledger(_))) => {
                Err(self.give_up(keypair_id, &chain(&why)).await)
            }
            // Ended by the clerk, when the HSM or the clock is well again, or at the next start.
            Err(why) => Err(why.into()),
        }
    }

    async fn forge(
        &self,
        make: &Authorized<MakeVersion>,
        now: UnixMs,
    ) -> Result<v1::KekVersionActivated, MakeError> {
        let MakeVersion {
            proposal,
            version,
            number,
            keypair_id,
        } = make.operation();
        let profile = self.profile(version)?;
        let state = self.snapshot();
        let forge = Forge {
            hsm: &self.hsm,
            authority: make,
            capabilities: &self.capabilities,
            now,
        };
        let plan = Plan::of(version, *number, *keypair_id, *proposal);
        let issuing = Issuing {
            key: KeyRef::from(state.issuing_key()),
            certificate: state.issuing_certificate(),
        };
        forge.kek(&plan, &profile, &issuing).await
    }

    /// Destroys a private key and says so in the ledger. Cut short anywhere, it is done again.
    pub(super) async fn destroy(
        &self,
        destroy: &Authorized<DestroyVersion>,
    ) -> Result<(), GovernError> {
        let id = destroy.operation().keypair_id;
        let state = self.snapshot();
        let version = state.keyring().version(id).map_err(Refusal::from)?;
        let key = KeyRef::from(&**version);
        warn!(key = label::of(version), "a private key is destroyed");
        self.proofs.forget([id]);
        self.hsm.destroy(destroy, &key).await?;
        let keypair_id = id.as_bytes().to_vec();
        let event = Event::VersionDestroyed(v1::VersionDestroyed { keypair_id });
        self.append(event, Timing::Regardless).await?;
        self.vigil.hurry();
        Ok(())
    }

    /// Says in the ledger that what was begun ended without effect.
    pub(super) async fn give_up(&self, keypair_id: KeypairId, why: &str) -> GovernError {
        error!(%keypair_id, why, "what was begun ends without effect");
        // A worker to come must not want an orphan to be there.
        self.proofs.forget([keypair_id]);
        self.fleet.forget_known_answers(&KeyRef {
            object_id: *keypair_id.as_bytes(),
            spki_sha256: None,
        });
        let reason: String = why
            .chars()
            .map(|c| if c.is_ascii_graphic() { c } else { ' ' })
            .take(REASON_LEN_MAX)
            .collect();
        let event = Event::ExecutionFailed(v1::ExecutionFailed {
            keypair_id: keypair_id.as_bytes().to_vec(),
            reason: reason.clone(),
        });
        self.vigil.hurry();
        match self.append(event, Timing::Regardless).await {
            Ok(_) => GovernError::Failed(reason),
            // The clerk says it later.
            Err(why) => why.into(),
        }
    }

    /// Ends what an earlier process, or an HSM that went away, left begun. A version whose key was
    /// not made yet is made now; one whose key is in the token is given up, for nobody knows how far
    /// it got. One that cannot be ended now does not keep the others from it.
    pub(super) async fn resume(&self) -> Result<(), GovernError> {
        let Ok(_turn) = self.saga.try_lock() else {
            return Ok(());
        };
        self.forget_ended();
        let mut first = Ok(());
        for pending in self.snapshot().governance().pending() {
            let ended = match pending {
                Pending::Make(make) => self.make_or_give_up(&make).await,
                Pending::Destroy(destroy) => self.destroy(&destroy).await,
                Pending::Import(import) => self.go_on_with_import(&import).await,
            };
            first = first.and(ended);
        }
        first
    }

    async fn make_or_give_up(&self, make: &Authorized<MakeVersion>) -> Result<(), GovernError> {
        let MakeVersion {
            keypair_id: id,
            proposal,
            version,
            number,
        } = make.operation();
        let id = *id;
        if self.awaited.get(id).is_some() {
            let plan = Plan::of(version, *number, id, *proposal);
            let profile = match self.profile(version) {
                Ok(profile) => profile,
                Err(why) => return self.give_up(id, &chain(&why)).await.recorded(),
            };
            if let Some(went) = self.go_on_waiting(make, &plan, &profile).await {
                return went;
            }
        }
        let objects = self.hsm.inventory().await?;
        let mut ids = objects.iter().map(|object| object.object_id.as_slice());
        if !ids.any(|found| found == id.as_bytes()) {
            return self.make(make).await;
        }
        let why = "kekd or its HSM stopped while the version was made";
        self.give_up(id, why).await.recorded()
    }

    /// The profile that a version is to be made to, as the officers signed for it.
    pub(super) fn profile(&self, version: &NewVersion) -> Result<Profile, profiles::ProfilesError> {
        let folder = self.profiles_dir.as_deref();
        profiles::profile(folder, &version.profile, Some(version.profile_sha256))
    }

    /// As [`Node::profile`], for a key that is made here.
    pub(super) fn plan_profile(&self, version: &NewVersion) -> Result<Profile, GovernError> {
        let profile = self.usable_profile(version)?;
        let name = profile.name();
        match profile.is_imported() || name == TRANSPORT_PROFILE {
            false => Ok(profile),
            true => Err(GovernError::NotPossible(format!(
                "profile '{name}' is not for KEKs that are made in the token"
            ))),
        }
    }

    /// As [`Node::profile`], for a key that is brought in.
    pub(super) fn import_profile(&self, version: &NewVersion) -> Result<Profile, GovernError> {
        let profile = self.usable_profile(version)?;
        match profile.is_imported() {
            true => Ok(profile),
            false => Err(GovernError::NotPossible(format!(
                "profile '{}' is not for keys that are brought in: name one for imported keys of \
                 this size, for example kek-rsa-2048-imported",
                profile.name()
            ))),
        }
    }

    /// As [`Node::profile`], and the token can do one of its paddings.
    fn usable_profile(&self, version: &NewVersion) -> Result<Profile, GovernError> {
        let not_possible = |why: String| GovernError::NotPossible(why);
        let profile = self
            .profile(version)
            .map_err(|why| not_possible(chain(&why)))?;
        let able = self.capabilities.paddings();
        if !profile
            .paddings()
            .iter()
            .any(|padding| able.contains(padding))
        {
            let name = profile.name();
            return Err(not_possible(format!(
                "the token can do none of the paddings of profile '{name}'"
            )));
        }
        Ok(profile)
    }
}

/// An error with its causes, in one line.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
