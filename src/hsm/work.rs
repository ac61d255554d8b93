//! What callers wait for: DEKs and signatures. A plaintext DEK is sealed here, in the one place it
//! enters the daemon, and everything it passed through before is wiped when dropped: the frame
//! (`link.rs`), the message (`proto.rs`). What the kernel's socket buffer held is beyond reach.

use std::time::Duration;

use super::asker::Asker;
use super::call::{Call, Done, Kind};
use super::error::HsmError;
use super::handle::Hsm;
use super::job::{Answer, KeyRef, RewrapJob, UnwrapJob};
use crate::audit::Sealed;
use crate::proto::worker as proto;
use crate::proto::worker::request::Op;
use crate::proto::worker::response::Result as Answered;
use crate::types::{Dek, Padding, RewrappedDek, Sha256};

/// Workers that may be lost between a key's test and its use before a call gives up.
const TESTS_MAX: u8 = 3;

impl Hsm {
    /// Decrypts a DEK. [`HsmError::Undecryptable`] is all that is said of any bad ciphertext.
    pub async fn unwrap(
        &self,
        job: &UnwrapJob,
        asker: &Asker<'_>,
    ) -> Result<Answer<Sealed<Dek>>, HsmError> {
        self.unwrap_as(job, Kind::Client(asker)).await
    }

    pub(super) async fn unwrap_as(
        &self,
        job: &UnwrapJob,
        kind: Kind<'_>,
    ) -> Result<Answer<Sealed<Dek>>, HsmError> {
        let done = self
            .work(
                "Unwrap",
                || Op::Unwrap(job.into()),
                (&job.key, job.padding),
                kind,
            )
            .await?;
        let Answered::Unwrapped(unwrapped) = done.answered else {
            return Err(HsmError::wrong_kind("Unwrap"));
        };
        // The worker answers with 32 bytes. If ever it did not, the caller must not see a
        // difference from a bad padding.
        let dek = Dek::try_from(unwrapped.dek.as_slice()).map_err(|_| HsmError::Undecryptable)?;
        Ok(Answer {
            value: Sealed::new(dek),
            queue: done.queue,
            hsm: Duration::from_micros(unwrapped.hsm_us),
        })
    }

    /// Unwraps a DEK inside the HSM and wraps it there for the recipient: the plaintext is never
    /// in this host's memory.
    pub async fn rewrap(
        &self,
        job: &RewrapJob,
        asker: &Asker<'_>,
    ) -> Result<Answer<Sealed<RewrappedDek>>, HsmError> {
        self.rewrap_as(job, Kind::Client(asker)).await
    }

    pub(super) async fn rewrap_as(
        &self,
        job: &RewrapJob,
        kind: Kind<'_>,
    ) -> Result<Answer<Sealed<RewrappedDek>>, HsmError> {
        let done = self
            .work(
                "Rewrap",
                || Op::Rewrap(job.into()),
                (&job.key, job.padding),
                kind,
            )
            .await?;
        let Answered::Rewrapped(rewrapped) = done.answered else {
            return Err(HsmError::wrong_kind("Rewrap"));
        };
        let dek =
            RewrappedDek::try_from(rewrapped.rewrapped_dek).map_err(|_| HsmError::Undecryptable)?;
        Ok(Answer {
            value: Sealed::new(dek),
            queue: done.queue,
            hsm: Duration::from_micros(rewrapped.hsm_us),
        })
    }

    /// Signs a SHA-256 digest with a P-256 key: r || s, 64 bytes (raw `CKM_ECDSA`). The caller
    /// verifies it against the public key it expects: a token can answer CKR_OK and a wrong
    /// signature.
    pub async fn sign_digest(&self, key: &KeyRef, digest: &Sha256) -> Result<[u8; 64], HsmError> {
        let call = Call {
            operation: "SignDigest",
            op: Op::SignDigest(proto::SignDigest {
                key: Some(key.into()),
                digest: digest.as_bytes().to_vec(),
            }),
            key: Some(key),
            limit: self.shared().call_limit(),
            kind: Kind::Repeatable,
        };
        let Answered::Signature(signature) = self.call(call).await?.answered else {
            return Err(HsmError::wrong_kind("SignDigest"));
        };
        signature
            .signature
            .try_into()
            .map_err(|_| HsmError::AnswerMalformed {
                operation: "SignDigest",
                expected: "64 bytes, r || s",
            })
    }

    /// What two tokens agree on where they hold the same key behind implicit rejection, and on nothing
    /// else: with two keys, one bad PKCS#1 v1.5 ciphertext would have two answers, and that would tell
    /// it from a good one.
    pub async fn secret_proof(&self, key: &KeyRef) -> Result<Sha256, HsmError> {
        const OPERATION: &str = "SecretProof";
        let call = Call {
            operation: OPERATION,
            op: Op::SecretProof(proto::SecretProof {
                key: Some(key.into()),
            }),
            key: Some(key),
            limit: self.shared().call_limit(),
            kind: Kind::Repeatable,
        };
        let Answered::SecretProved(proved) = self.call(call).await?.answered else {
            return Err(HsmError::wrong_kind(OPERATION));
        };
        let malformed = |_| HsmError::AnswerMalformed {
            operation: OPERATION,
            expected: "32 bytes",
        };
        Sha256::try_from(proved.sha256.as_slice()).map_err(malformed)
    }

    /// Does it, after the key's test where the worker that serves has not run it yet.
    async fn work(
        &self,
        operation: &'static str,
        op: impl Fn() -> Op,
        (key, padding): (&KeyRef, Padding),
        kind: Kind<'_>,
    ) -> Result<Done, HsmError> {
        let mut tests_left = TESTS_MAX;
        loop {
            let call = Call {
                operation,
                op: op(),
                key: Some(key),
                limit: self.shared().call_limit(),
                kind,
            };
            match self.call(call).await {
                Err(HsmError::Untested { .. }) if tests_left > 0 => {
                    tests_left = tests_left.saturating_sub(1);
                    self.test(operation, key, padding, kind).await?;
                }
                done => return done,
            }
        }
    }

    async fn test(
        &self,
        operation: &'static str,
        key: &KeyRef,
        padding: Padding,
        kind: Kind<'_>,
    ) -> Result<(), HsmError> {
        let Some(test) = self.shared().known_answer(key, padding) else {
            let key = key.clone();
            return Err(HsmError::Untested { operation, key });
        };
        match self.run_known_answer(&test, kind).await? {
            true => Ok(()),
            false => Err(HsmError::KeyUnwell {
                operation,
                key: key.clone(),
                detail: "another value came back".to_owned(),
            }),
        }
    }
}
