//! A version that is made while something goes wrong, and all that must hold afterwards: the old or the
//! new version is active, never none and never two; every DEK unwraps; the ledger verifies; what was
//! left behind is listed and never used; and the officers' next try makes exactly one version.

use std::fmt;
use std::time::{Duration, Instant};

use kekd::client::{Client, ClientError, UnwrapCall};
use kekd::proto::v1::{ProposalPhase, Version, VersionState};
use kekd::quorum::{Operation, ProposalId};
use kekd::types::{KeypairId, Padding};
use tokio::time::sleep;

use crate::harness::{KEKCTL, Kek, Rig, copy, dek, must, reason};
use crate::officers::{Officers, new_version};

/// The KEK that is rotated.
const ROTATED: &str = "recordings";
pub const PROFILE: &str = "kek-rsa-3072";
/// Starts a rig whose officers may wait for a key pair on a busy machine.
pub fn serving(rig: Rig) -> Rig {
    rig.set("limits", "request_timeout_ms_max = 120000");
    rig.start();
    rig
}

/// Waits until the token of a running rig has one anchor, of the newest head; gives its text.
pub async fn anchored(rig: &Rig) -> String {
    let size = Officers::of(rig).await.governance().await.ledger_size;
    let tool = |does: &[&str]| {
        let data = [does, &["--type", "data"]].concat();
        let output = rig.pkcs11_tool(&data).output().unwrap();
        // It fails on an anchor that is replaced while it looks.
        match output.status.success() {
            true => String::from_utf8(output.stdout).unwrap(),
            false => String::new(),
        }
    };
    for _ in 0..200 {
        if tool(&["--list-objects"]).matches("'kekd anchor'").count() == 1 {
            let text = tool(&["--read-object", "--label", "kekd anchor"]);
            if text.contains(&format!("\nsize {size}\n")) {
                return text;
            }
        }
        sleep(Duration::from_millis(50)).await;
    }
    panic!("the anchor is not caught up");
}

/// What is cut short.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Act {
    /// A KEK of this name is made, to this profile.
    Create(String, &'static str),
    /// [`ROTATED`] gets its next version.
    Rotate,
}

impl Act {
    fn kek(&self) -> &str {
        match self {
            Self::Create(name, _) => name,
            Self::Rotate => ROTATED,
        }
    }

    /// The act, for a table.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Create(_, _) => "create",
            Self::Rotate => "rotate",
        }
    }
}

/// What became of an execution that was cut short.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Outcome {
    /// The ledger knows nothing of it; it was ordered again.
    NotBegun,
    /// It was begun, and made after the start.
    Resumed,
    /// It failed, and a key is in quarantine.
    FailedWithOrphan,
    /// It failed, and left nothing.
    Failed,
    /// The version was active when the kill came.
    Active,
    /// The officer had the answer by then.
    Answered,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::NotBegun => "killed before it was begun",
            Self::Resumed => "resumed after the start",
            Self::FailedWithOrphan => "failed, with an orphan",
            Self::Failed => "failed, nothing left",
            Self::Active => "active, not answered",
            Self::Answered => "active and answered",
        })
    }
}

/// A rig whose executions are cut short, and the DEKs it must never lose.
pub struct Scene {
    pub rig: Rig,
    deks: Vec<UnwrapCall>,
    /// How long one execution takes.
    pub takes: Duration,
}

impl Scene {
    /// One that serves, after one rotation that nobody disturbs.
    pub async fn begin(rig: Rig) -> Self {
        let mut scene = Self {
            deks: Vec::new(),
            takes: Duration::ZERO,
            rig,
        };
        scene.keep_dek().await;
        let officers = Officers::of(&scene.rig).await;
        let id = scene.agree(&officers, &Act::Rotate).await;
        let begun = Instant::now();
        officers.execute("alice", id).await.unwrap();
        scene.takes = begun.elapsed();
        scene.keep_dek().await;
        scene
    }

    /// A DEK under every version of the KEK that is rotated.
    async fn keep_dek(&mut self) {
        let client = self.rig.client("lkm-1").await;
        let current = self.current(&client).await;
        let pem = kekd::proto::v1::PublicKeyFormat::SpkiPem;
        let pem = client.get_public_key(current, pem).await.unwrap();
        let spki = crate::harness::pem_bytes(&String::from_utf8(pem).unwrap());
        let kek = Kek {
            keypair_id: current,
            public_key: kekd::public_key::RsaPublicKey::from_spki(&spki).unwrap(),
        };
        self.deks.push(kek.call(Padding::OaepSha1, &[7; 32]));
    }

    async fn current(&self, client: &Client) -> KeypairId {
        let versions = versions(client, ROTATED).await;
        let mut active = versions
            .iter()
            .filter(|v| v.state() == VersionState::Active);
        active.next().unwrap().keypair_id.parse().unwrap()
    }

    /// Puts an act forward and approves it.
    pub async fn agree(&self, officers: &Officers<'_>, act: &Act) -> ProposalId {
        let operation = match act {
            Act::Create(kek, profile) => Operation::CreateKek(new_version(kek, profile)),
            Act::Rotate => {
                let version = new_version(ROTATED, PROFILE);
                let retires = Some(self.current(&officers.client).await);
                Operation::RotateKek { version, retires }
            }
        };
        officers.agree(operation).await.unwrap()
    }

    /// Executes, and kills the daemon when `moment` has come, at the latest with the answer. Then all
    /// that must hold is looked at, and the act is done to its end.
    pub async fn cut_short(&mut self, act: &Act, moment: impl Future<Output = ()>) -> Outcome {
        self.disturb(act, moment, true).await
    }

    /// As [`Scene::cut_short`]; whether the daemon is killed is for the caller to say.
    pub async fn disturb(
        &mut self,
        act: &Act,
        moment: impl Future<Output = ()>,
        is_killed: bool,
    ) -> Outcome {
        let officers = Officers::of(&self.rig).await;
        let before = versions(&officers.client, act.kek()).await;
        let id = self.agree(&officers, act).await;
        let (order, signature) = officers.order("alice", id).await;
        let executed = officers.client.execute(order, signature);
        let killed = async {
            moment.await;
            if is_killed {
                self.rig.kill();
            }
        };
        let mut log_len = self.rig.log().len();
        // The order leaves before the moment is waited for, and nothing answers before both began.
        let (answer, ()) = tokio::join!(executed, killed);
        self.verify_ledger();
        if is_killed {
            log_len = self.rig.log().len();
            self.rig.start();
        }
        is_ready(&self.rig).await;

        let officers = Officers::of(&self.rig).await;
        let phase = ended(&officers, id).await;
        let found = officers.client.get_proposal(id.0).await.unwrap();
        let after = versions(&officers.client, act.kek()).await;
        let made = self.rig.log()[log_len..]
            .matches("a version is made")
            .count();
        let was_resumed = made > usize::from(!is_killed);
        let has_orphan = self.is_listed(&found.keypair_id).await;
        let outcome = match phase {
            ProposalPhase::Executed if answer.is_ok() => Outcome::Answered,
            ProposalPhase::Executed if was_resumed => Outcome::Resumed,
            ProposalPhase::Executed => Outcome::Active,
            ProposalPhase::Failed if has_orphan => Outcome::FailedWithOrphan,
            ProposalPhase::Failed => Outcome::Failed,
            ProposalPhase::Executable => Outcome::NotBegun,
            ProposalPhase::Unspecified
            | ProposalPhase::Open
            | ProposalPhase::TimeLocked
            | ProposalPhase::Executing
            | ProposalPhase::Vetoed
            | ProposalPhase::Expired
            | ProposalPhase::Cancelled => panic!("{act:?} ended as {phase:?}"),
        };
        let is_made = phase == ProposalPhase::Executed;
        assert!(is_made || answer.is_err(), "{outcome:?} was answered well");
        self.one_is_active(act, &before, &after, is_made);
        if is_made {
            assert_eq!(after.last().unwrap().keypair_id, found.keypair_id);
            assert_eq!(private_keys(&self.rig, &found.keypair_id), 1);
        } else if !found.keypair_id.is_empty() {
            self.is_never_used(&found.keypair_id, act).await;
        }
        if !is_made {
            let id = match phase == ProposalPhase::Executable {
                true => id,
                false => self.agree(&officers, act).await,
            };
            let answer = officers.execute("alice", id).await;
            // A deadline may pass on a busy machine; the execution goes on.
            let phase = ended(&officers, id).await;
            assert_eq!(phase, ProposalPhase::Executed, "{answer:?}");
            let retried = versions(&officers.client, act.kek()).await;
            self.one_is_active(act, &before, &retried, true);
        }
        if *act == Act::Rotate {
            self.keep_dek().await;
        }
        self.every_dek_unwraps().await;
        outcome
    }

    /// The old or the new version is active; none is lost, and at most one is gained.
    fn one_is_active(&self, act: &Act, before: &[Version], after: &[Version], is_made: bool) {
        assert_eq!(
            after.len(),
            before.len() + usize::from(is_made),
            "{act:?}: {after:?}"
        );
        let ids = |versions: &[Version]| -> Vec<String> {
            let ids = versions.iter().map(|version| version.keypair_id.clone());
            ids.collect()
        };
        assert_eq!(ids(&after[..before.len()]), ids(before));
        let active = after.iter().filter(|v| v.state() == VersionState::Active);
        assert_eq!(
            active.count(),
            usize::from(!after.is_empty()),
            "{act:?}: {after:?}"
        );
        if let Some(newest) = after.last() {
            assert_eq!(newest.state(), VersionState::Active, "{act:?}: {after:?}");
        }
    }

    /// Whether the operator is told of a key that was left behind. Of planted keys there is no word.
    async fn is_listed(&self, keypair_id: &str) -> bool {
        let status = self.rig.client("operator").await.status().await.unwrap();
        assert!(status.ready, "{status:?}");
        let problems = status.problems.join("\n");
        assert!(!problems.contains("does not know"), "{problems}");
        assert!(
            !self.rig.log().contains("does not know"),
            "{}",
            self.rig.log()
        );
        let is_in_token = !keypair_id.is_empty() && self.token_holds(keypair_id);
        if problems.contains("ended without effect") {
            assert!(problems.contains("are not used"), "{problems}");
        }
        is_in_token
    }

    /// Whether the token holds a private key of this id.
    pub fn token_holds(&self, keypair_id: &str) -> bool {
        token_holds(&self.rig, keypair_id)
    }

    async fn is_never_used(&self, keypair_id: &str, act: &Act) {
        let in_label = &keypair_id[..8];
        let client = self.rig.client("lkm-1").await;
        let mut call = self.deks[0].clone();
        call.keypair_id = keypair_id.parse().unwrap();
        let error = client.unwrap(call).await.err().unwrap();
        assert_eq!(reason(&error), "KEYPAIR_UNKNOWN", "{act:?}");
        if !self.token_holds(keypair_id) {
            return;
        }
        let operator = self.rig.client("operator").await;
        for _ in 0..600 {
            let status = operator.status().await.unwrap();
            let problems = status.problems.join("\n");
            if problems.contains("ended without effect") && problems.contains(in_label) {
                return;
            }
            // The list has an end; the newest may be among those that are only counted.
            if problems.contains("ended without effect") && problems.contains(" more: ") {
                return;
            }
            sleep(Duration::from_millis(50)).await;
        }
        panic!(
            "the orphan {keypair_id} is not listed: {:?}",
            operator.status().await
        );
    }

    async fn every_dek_unwraps(&self) {
        let client = self.rig.client("lkm-1").await;
        for call in &self.deks {
            let answer = client.unwrap(call.clone()).await;
            assert_eq!(dek(&answer.unwrap().release), [7; 32]);
        }
    }

    /// A copy of the ledger as the kill left it, before anything opens it again.
    fn verify_ledger(&self) {
        let dir = tempfile::tempdir().unwrap();
        copy(&self.rig.dir.join("state"), dir.path());
        let file = dir.path().join("state/ledger.db");
        must(
            std::process::Command::new(KEKCTL)
                .args(["ledger", "verify"])
                .arg(file),
        );
    }
}

/// Whether a rig's token holds a private key of this id.
pub fn token_holds(rig: &Rig, keypair_id: &str) -> bool {
    private_keys(rig, keypair_id) > 0
}

/// How many private keys of this id a rig's token holds. A key that signs its own certificate is there
/// twice while it is caged.
fn private_keys(rig: &Rig, keypair_id: &str) -> usize {
    let id = keypair_id.replace('-', "");
    let list = ["--list-objects", "--type", "privkey"];
    let found = must(&mut rig.pkcs11_tool(&list)).stdout;
    String::from_utf8_lossy(&found).matches(&id).count()
}

/// Waits until a rig's daemon is ready.
pub async fn is_ready(rig: &Rig) {
    let operator = rig.client("operator").await;
    for _ in 0..600 {
        if operator.status().await.unwrap().ready {
            return;
        }
        sleep(Duration::from_millis(50)).await;
    }
    panic!("not ready: {:?}", operator.status().await);
}

/// The versions of a KEK, oldest first; none where there is no such KEK.
async fn versions(client: &Client, kek: &str) -> Vec<Version> {
    match client.get_kek(&kek.parse().unwrap()).await {
        Ok(kek) => kek.versions,
        Err(error @ ClientError::Refused(_)) => {
            assert_eq!(reason(&error), "KEK_UNKNOWN");
            Vec::new()
        }
        Err(error) => panic!("{error}"),
    }
}

/// Where a proposal stands once nothing is under way; that must come within a minute.
pub async fn ended(officers: &Officers<'_>, id: ProposalId) -> ProposalPhase {
    for _ in 0..1200 {
        let phase = officers.phase(id).await;
        if phase != ProposalPhase::Executing {
            return phase;
        }
        sleep(Duration::from_millis(50)).await;
    }
    panic!("what was begun does not end");
}
