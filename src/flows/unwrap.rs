//! One unwrap, from an authenticated identity to a DEK that may leave. The steps are numbered as in
//! ARCHITECTURE.md, "One unwrap"; steps 1, 2 and 7 belong to `grpc/`.
//!
//! The invariant this file keeps: every attempt ends in exactly one durable audit record, or is a
//! refusal beyond its caller's ration (`ration.rs`), which is counted; and a DEK leaves only after the
//! record of its release.

mod error;

use std::sync::Arc;
use std::time::{Duration, Instant};

use tracing::{error, warn};

use error::RETRY_AFTER_OUTAGE;
pub use error::UnwrapError;

pub use super::recipient::Recipient;
use super::recipient::check as check_recipient;
use super::{Node, label};
use crate::access::Identity;
use crate::audit::{Draft, Outcome, Sealed};
use crate::hsm::{Answer, Asker, HsmError, KeyRef, Presence, RewrapJob, Routed, UnwrapJob};
use crate::keyring::{KeyringError, Version, VersionState};
use crate::stops::Passage;
use crate::types::{
    Dek, EndUser, KekName, KeypairId, Lane, Next, Padding, ReleaseForm, RequestId, RewrappedDek,
    Sha256, TypeError, WrappedDek,
};

/// Work is not begun when less than this is left of the caller's deadline: one RSA-3072 operation
/// and one sync take about as long.
const DEADLINE_LEFT_MIN: Duration = Duration::from_millis(5);

/// One DEK to unwrap, in checked types.
#[derive(Debug)]
pub struct UnwrapCommand {
    /// The key pair that wrapped it.
    pub keypair_id: KeypairId,
    /// The wrapped DEK.
    pub wrapped_dek: WrappedDek,
    /// How it was wrapped.
    pub padding: Padding,
    /// Where set, the DEK leaves wrapped again under this key.
    pub recipient: Option<Recipient>,
    /// The request's id.
    pub request_id: RequestId,
    /// The end user the caller names.
    pub end_user: EndUser,
}

/// A request that is not a command: what of it can still be recorded.
#[derive(Debug)]
pub struct Malformed {
    /// The request's id, where it had a good one.
    pub request_id: Option<RequestId>,
    /// The keypair id as asked for, cut to 64 bytes.
    pub keypair_id: String,
    /// What is wrong.
    pub error: TypeError,
}

/// How the caller of an attempt waits for it.
struct Patience {
    lane: Lane,
    deadline: Instant,
    /// Whether the caller is still there.
    presence: Presence,
}

/// What leaves.
pub enum Release {
    /// The DEK.
    Clear(Dek),
    /// The DEK wrapped under the recipient's key.
    Recipient(RewrappedDek),
}

/// A release with its receipt.
pub struct Unwrapped {
    /// The request's id.
    pub request_id: RequestId,
    /// What leaves.
    pub release: Release,
    /// The index of the audit record of this release.
    pub record_index: u64,
    /// Held until the release was handed to the transport, and no longer.
    pub passage: Passage,
}

/// A DEK as the HSM handed it out: sealed, in one of the two forms.
enum SealedRelease {
    Clear(Sealed<Dek>),
    Recipient(Sealed<RewrappedDek>),
}

impl Node {
    /// Unwraps one DEK, or says why not; either way the attempt is recorded before this returns. Only
    /// what a caller floods the node with, so that it is not even begun or is refused more often than
    /// is recorded, has no record.
    ///
    /// The attempt runs as a task of its own: a caller that hangs up does not take the record along. An
    /// attempt whose caller has hung up does not begin at the HSM.
    pub async fn unwrap(
        self: &Arc<Self>,
        identity: &Identity,
        command: UnwrapCommand,
        lane: Lane,
        deadline: Instant,
    ) -> Result<Unwrapped, UnwrapError> {
        let node = Arc::clone(self);
        let identity = identity.clone();
        let (_attendance, presence) = Presence::begin();
        let attempt = tokio::spawn(async move {
            let patience = Patience {
                lane,
                deadline,
                presence,
            };
            let _turn = tokio::select! {
                turn = node.attempts.turn(lane, &identity, deadline) => turn?,
                () = patience.presence.ended() => return Err(UnwrapError::CallerLeft),
            };
            node.attempt(&identity, command, &patience).await
        });
        let result = attempt.await.unwrap_or_else(|panic| {
            error!(%panic, "an unwrap panicked");
            Err(UnwrapError::Internal)
        });
        self.counters.count_unwrap(result.is_ok());
        result
    }

    /// Records a request that could not be understood, and returns the refusal to answer with.
    pub async fn refuse(
        &self,
        identity: &Identity,
        malformed: Malformed,
        lane: Lane,
        deadline: Instant,
    ) -> UnwrapError {
        self.counters.count_unwrap(false);
        let _turn = match self.attempts.turn(lane, identity, deadline).await {
            Ok(turn) => turn,
            Err(not_begun) => return not_begun,
        };
        let request_id = malformed.request_id.or_else(|| RequestId::random().ok());
        let Some(request_id) = request_id else {
            return UnwrapError::Internal;
        };
        let draft = Draft {
            keypair_id: malformed.keypair_id,
            ..Draft::new(identity.to_string(), request_id)
        };
        let error = UnwrapError::Malformed(malformed.error);
        // On the heap, so that those who still wait for their turn, who may be many, stay small.
        Box::pin(self.refused(identity, draft, error)).await
    }

    async fn attempt(
        &self,
        identity: &Identity,
        command: UnwrapCommand,
        patience: &Patience,
    ) -> Result<Unwrapped, UnwrapError> {
        let mut draft = self.draft(identity, &command);
        match self
            .unwrap_sealed(identity, &command, patience, &mut draft)
            .await
        {
            Ok((passage, sealed)) => {
                let request_id = command.request_id;
                self.release(draft, request_id, passage, sealed).await
            }
            Err(error) => Err(self.refused(identity, draft, error).await),
        }
    }

    /// What is known of an attempt before it is judged.
    fn draft(&self, identity: &Identity, command: &UnwrapCommand) -> Draft {
        let recipient = command.recipient.as_ref();
        Draft {
            end_user: command.end_user.clone(),
            keypair_id: command.keypair_id.to_string(),
            padding: Some(command.padding),
            release_form: Some(form_of(command)),
            ciphertext_digest: Some(self.journal.digest(&command.wrapped_dek)),
            recipient_spki_sha256: recipient.map(|to| Sha256::of(&to.spki)),
            ..Draft::new(identity.to_string(), command.request_id.clone())
        }
    }

    /// Steps 2 to 5: everything that can refuse, then the HSM, then what may have changed meanwhile.
    async fn unwrap_sealed(
        &self,
        identity: &Identity,
        command: &UnwrapCommand,
        patience: &Patience,
        draft: &mut Draft,
    ) -> Result<(Passage, SealedRelease), UnwrapError> {
        // 2. Work nobody will wait for is not begun.
        if patience.deadline.saturating_duration_since(Instant::now()) < DEADLINE_LEFT_MIN {
            return Err(UnwrapError::DeadlineTooShort);
        }

        // 3 and 4. As everything stands now.
        let version = &self.judge(identity, command, |kek| draft.kek = Some(kek.clone()))?;

        // 5. The HSM, as long as it is the one this ledger is tied to, and as far as this caller's
        //    failures under this KEK allow. What comes back is sealed.
        if !self.vigil.is_ours() {
            return Err(UnwrapError::HsmUnavailable {
                retry_after: RETRY_AFTER_OUTAGE,
            });
        }
        let use_primary = self.proven_somewhere(version, patience.deadline).await?;
        let allowance = self.quota.allowance(identity, &version.kek);
        let asker = &Asker::new(identity, patience.lane, patience.deadline)
            .while_present(&patience.presence)
            .within(allowance.ok_or(UnwrapError::Busy {
                retry_after: RETRY_AFTER_OUTAGE,
            })?);
        let sealed = match &command.recipient {
            None => {
                self.unwrap_clear(version, command, (asker, use_primary), draft)
                    .await?
            }
            Some(to) => {
                self.rewrap(version, command, to, (asker, use_primary), draft)
                    .await?
            }
        };

        // 3 and 4 again. The HSM took its time: what was stopped, revoked or withdrawn meanwhile is
        // not released, and what is stopped from here on waits until this release has left.
        let passage = self.switch.gate().enter(&version.kek, || {
            self.judge(identity, command, |_| ()).map(drop)
        })?;
        Ok((passage, sealed))
    }

    /// Steps 3 and 4: whether the caller may have this, as the ledger and the kill switch have it
    /// now. `found` is told the KEK that is asked for.
    fn judge(
        &self,
        identity: &Identity,
        command: &UnwrapCommand,
        found: impl FnOnce(&KekName),
    ) -> Result<Arc<Version>, UnwrapError> {
        // 3. The caller is somebody the ledger names, in a role that unwraps.
        let snapshot = self.snapshot();
        let caller = snapshot.clients().caller(identity)?;
        caller.require(crate::access::Action::Unwrap)?;

        // 4. The keypair id names one version; the caller has a grant for its KEK; and the version
        //    serves this padding, this form and this length in its present state. A stop that the
        //    ledger does not have yet is no other answer than one it has.
        let version = snapshot.keyring().version(command.keypair_id)?;
        found(&version.kek);
        caller.require_grant(&version.kek)?;
        if self.switch.is_stopped(&version.kek) && version.state().unwraps() {
            return Err(stopped());
        }
        version.admit(
            command.padding,
            form_of(command),
            command.wrapped_dek.as_bytes().len(),
        )?;
        Ok(Arc::clone(version))
    }

    async fn unwrap_clear(
        &self,
        version: &Version,
        command: &UnwrapCommand,
        (asker, use_primary): (&Asker<'_>, bool),
        draft: &mut Draft,
    ) -> Result<SealedRelease, UnwrapError> {
        let job = UnwrapJob {
            key: KeyRef::from(version),
            padding: command.padding,
            wrapped_dek: command.wrapped_dek.clone(),
            implicit_rejection_key: match command.padding {
                Padding::Pkcs1V15 => Some(KeyRef::from(self.snapshot().implicit_rejection_key())),
                Padding::OaepSha1 | Padding::OaepSha256 => None,
            },
        };
        let routed = self.fleet.unwrap(&job, asker, use_primary).await;
        let answer = self.heard(version, routed);
        let answer = answer.map_err(|error| self.failed_on(version, error))?;
        draft.queue = answer.queue;
        draft.hsm = answer.hsm;
        Ok(SealedRelease::Clear(answer.value))
    }

    async fn rewrap(
        &self,
        version: &Version,
        command: &UnwrapCommand,
        to: &Recipient,
        (asker, use_primary): (&Asker<'_>, bool),
        draft: &mut Draft,
    ) -> Result<SealedRelease, UnwrapError> {
        check_recipient(to)?;
        let job = RewrapJob {
            key: KeyRef::from(version),
            padding: command.padding,
            wrapped_dek: command.wrapped_dek.clone(),
            recipient_spki: to.spki.clone(),
            recipient_padding: to.padding,
        };
        let routed = self.fleet.rewrap(&job, asker, use_primary).await;
        let answer = match self.heard(version, routed) {
            Err(error @ HsmError::Unsupported { .. }) => {
                warn!(%error, "the token cannot wrap to this recipient");
                return Err(UnwrapError::RecipientNotPossible);
            }
            answer => answer.map_err(|error| self.failed_on(version, error))?,
        };
        draft.queue = answer.queue;
        draft.hsm = answer.hsm;
        Ok(SealedRelease::Recipient(answer.value))
    }

    /// The last word of the HSM. A primary whose key failed has not proven it any more, though a replica
    /// served the caller: until it has proven it anew, it is not asked (`prover.rs`).
    fn heard<T>(&self, version: &Version, routed: Routed<T>) -> Result<Answer<T>, HsmError> {
        if let Some(why) = routed.primary_fault {
            // Once, and not for each call that was under way: a proof under way must not be forgotten.
            if matches!(self.proofs.found(version.keypair_id), Some(Ok(_))) {
                let key = label::of(version);
                warn!(key, %why, "the primary does not serve a key of the ledger; it is proven anew");
                self.proofs.forget([version.keypair_id]);
            }
            self.vigil.hurry();
        }
        routed.answer
    }

    /// What a failure of the HSM means to a caller. What it means to the operator is in the log, and
    /// in the status once the token was looked at.
    fn failed_on(&self, version: &Version, error: HsmError) -> UnwrapError {
        if let HsmError::Busy { retry_after } = error {
            return UnwrapError::Busy { retry_after };
        }
        if let HsmError::FailuresTooMany {
            retry_after,
            is_first,
        } = error
        {
            return UnwrapError::FailuresTooMany {
                retry_after,
                is_first,
            };
        }
        if matches!(error, HsmError::Undecryptable) {
            return UnwrapError::Undecryptable;
        }
        if matches!(error, HsmError::CallerLeft) {
            return UnwrapError::CallerLeft;
        }
        if matches!(error, HsmError::DeadlineExceeded) {
            return UnwrapError::DeadlineExceeded;
        }
        if matches!(error, HsmError::KeyUnwell { .. }) {
            self.proofs.forget([version.keypair_id]);
        }
        match error.next() {
            Next::TryAgain => {
                warn!(%error, "the HSM is not available");
                UnwrapError::HsmUnavailable {
                    retry_after: RETRY_AFTER_OUTAGE,
                }
            }
            Next::CallerFault | Next::Fatal => {
                let key = label::of(version);
                error!(key, %error, "the HSM does not serve a key of the ledger");
                self.vigil.hurry();
                UnwrapError::Internal
            }
        }
    }

    /// Step 6, the commit point: the record is on disk, then the seal is opened. A crash just before
    /// leaves a caller without an answer; a crash just after leaves a record of a release that did
    /// not arrive. Neither leaves a release without a record.
    async fn release(
        &self,
        mut draft: Draft,
        request_id: RequestId,
        passage: Passage,
        sealed: SealedRelease,
    ) -> Result<Unwrapped, UnwrapError> {
        draft.outcome = Outcome::Released;
        let (release, record_index) = match sealed {
            SealedRelease::Clear(dek) => {
                let released = self.journal.record_and_release(draft, dek).await?;
                (Release::Clear(released.value), released.record_index)
            }
            SealedRelease::Recipient(dek) => {
                let released = self.journal.record_and_release(draft, dek).await?;
                (Release::Recipient(released.value), released.record_index)
            }
        };
        if passage.is_revoked() {
            // The record took longer than a stop waits. It says released, and nothing was.
            warn!(
                record_index,
                "a recorded release was withheld: its KEK was stopped"
            );
            return Err(stopped());
        }
        Ok(Unwrapped {
            request_id,
            release,
            record_index,
            passage,
        })
    }
}

/// What a stopped KEK answers: the same as a version that the ledger says is suspended.
const fn stopped() -> UnwrapError {
    UnwrapError::Keyring(KeyringError::NotUsable {
        state: VersionState::Suspended,
    })
}

const fn form_of(command: &UnwrapCommand) -> ReleaseForm {
    match command.recipient {
        None => ReleaseForm::Clear,
        Some(_) => ReleaseForm::Recipient,
    }
}
