//! The steps of making a version, one by one, by a token that hangs, dies, errs and lies at each of
//! them: the daemon killed there (case 18), key generation denied (17), signatures that are wrong
//! (19), and a worker that is lost while the daemon lives. What must hold afterwards is `saga_scene.rs`'s.

use std::path::PathBuf;

use kekd::proto::v1::ProposalPhase;

use crate::harness::faulty::{Faulty, count, script, until_called};
use crate::harness::{Rig, reason};
use crate::officers::Officers;
use crate::saga_scene::{Act, Outcome, Scene, anchored, ended, serving};

const SELF_SIGNED: &str = "kek-rsa-3072-self-signed";

/// A scene whose token can be told to err.
pub async fn faulty_scene() -> Scene {
    let Faulty { rig } = Faulty::of(Rig::stopped());
    let rig = serving(rig);
    Scene::begin(rig).await
}

/// Sets the token in this folder a trap, and waits until it has it.
pub async fn trapped(dir: PathBuf, function: &str, nth: usize) {
    let before = count(&dir, function);
    script(&dir, &format!("{function} {nth} hang"));
    until_called(&dir, function, before + nth).await;
}

/// How often each function is called for one rotation that goes well.
async fn calls_of_one(scene: &Scene, act: &Act, functions: [&str; 2]) -> [usize; 2] {
    let officers = Officers::of(&scene.rig).await;
    let id = scene.agree(&officers, act).await;
    let before = functions.map(|function| count(&scene.rig.dir, function));
    officers.execute("alice", id).await.unwrap();
    let after = functions.map(|function| count(&scene.rig.dir, function));
    [after[0] - before[0], after[1] - before[1]]
}

/// Case 18, at each step: the HSM hangs there, and the daemon is killed.
#[tokio::test]
async fn a_kill_at_each_step_of_making_a_version_leaves_one_active_version() {
    let mut scene = faulty_scene().await;
    let anchors = ["C_CreateObject", "C_DestroyObject"];
    let [created, destroyed] = calls_of_one(&scene, &Act::Rotate, anchors).await;
    for (step, function, nth, expected) in [
        ("the intent is signed", "C_Sign", 1, Outcome::NotBegun),
        (
            "the intent is anchored",
            "C_CreateObject",
            1,
            Outcome::Resumed,
        ),
        (
            "the key pair is made",
            "C_GenerateKeyPair",
            1,
            Outcome::Resumed,
        ),
        (
            "the certificate is signed",
            "C_Sign",
            2,
            Outcome::FailedWithOrphan,
        ),
        (
            "the key is attacked",
            "C_CopyObject",
            1,
            Outcome::FailedWithOrphan,
        ),
        (
            "the key is tested",
            "C_Decrypt",
            1,
            Outcome::FailedWithOrphan,
        ),
        (
            "the version is signed",
            "C_Sign",
            3,
            Outcome::FailedWithOrphan,
        ),
        (
            "the version is anchored",
            "C_CreateObject",
            created,
            Outcome::Active,
        ),
        (
            "the old anchor goes",
            "C_DestroyObject",
            destroyed,
            Outcome::Active,
        ),
    ] {
        let found = scene.cut_short_at(&Act::Rotate, function, nth).await;
        assert_eq!(found, expected, "{step}");
        anchored(&scene.rig).await;
    }
}

/// A key that signs its own certificate exists twice for a moment, and is not caged before.
#[tokio::test]
async fn a_kill_while_a_key_is_caged_leaves_it_in_quarantine() {
    let mut scene = faulty_scene().await;
    for (number, function, nth) in [
        (0, "C_Sign", 2),
        (1, "C_CopyObject", 1),
        (2, "C_DestroyObject", 2),
    ] {
        let act = Act::Create(format!("caged-{number}"), SELF_SIGNED);
        let found = scene.cut_short_at(&act, function, nth).await;
        assert_eq!(found, Outcome::FailedWithOrphan, "{function} {nth}");
    }
}

/// The worker is lost, or a call of it, while the daemon lives.
#[tokio::test]
async fn a_worker_lost_while_a_version_is_made_leaves_one_active_version() {
    let mut scene = faulty_scene().await;
    for fault in [
        "C_GenerateKeyPair 1 segv",
        "C_Sign 1 abort",
        "C_Sign 2 exit",
        "C_CopyObject 1 segv",
        "C_Decrypt 1 abort",
        "C_Sign 3 exit",
        "C_GenerateKeyPair 1 lie CKR_SESSION_HANDLE_INVALID",
    ] {
        let before = count(&scene.rig.dir, "C_GenerateKeyPair");
        let outcome = scene.meets(&Act::Rotate, fault).await;
        let made = count(&scene.rig.dir, "C_GenerateKeyPair") - before;
        // What failed was made again by the retry; what was resumed had left no key behind.
        let most = match outcome {
            Outcome::Active | Outcome::Answered => 1,
            Outcome::NotBegun | Outcome::Resumed | Outcome::Failed | Outcome::FailedWithOrphan => 2,
        };
        assert!(made <= most, "{fault}: {outcome:?}, {made} key pairs");
    }
}

/// Case 17: the token makes the key and denies it. Nobody uses what it made.
#[tokio::test]
async fn a_key_that_the_token_made_and_denied_is_in_quarantine() {
    let mut scene = faulty_scene().await;
    for code in ["CKR_DEVICE_ERROR", "CKR_FUNCTION_FAILED", "CKR_HOST_MEMORY"] {
        let lie = format!("C_GenerateKeyPair 1 lie {code}");
        let outcome = scene.meets(&Act::Rotate, &lie).await;
        assert_eq!(outcome, Outcome::FailedWithOrphan, "{code}");
    }
}

/// Case 19: `CKR_OK` and a wrong signature. Nothing is written that does not verify; the officer is
/// told; the node goes on when the token is well.
#[tokio::test]
async fn a_wrong_signature_is_not_written() {
    let mut scene = faulty_scene().await;
    let officers = Officers::of(&scene.rig).await;
    let id = scene.agree(&officers, &Act::Rotate).await;
    let (order, signature) = officers.order("alice", id).await;
    let size = officers.governance().await.ledger_size;
    script(&scene.rig.dir, "C_Sign * corrupt");
    for _ in 0..3 {
        let error = officers
            .client
            .execute(order.clone(), signature.clone())
            .await;
        let error = error.unwrap_err();
        assert_ne!(reason(&error), "INTERNAL", "{error}");
        assert_eq!(officers.governance().await.ledger_size, size);
        assert_eq!(officers.phase(id).await, ProposalPhase::Executable);
    }
    script(&scene.rig.dir, "");
    officers.client.execute(order, signature).await.unwrap();
    assert_eq!(ended(&officers, id).await, ProposalPhase::Executed);
    drop(officers);

    for nth in [2, 3] {
        let outcome = scene
            .meets(&Act::Rotate, &format!("C_Sign {nth} corrupt"))
            .await;
        assert_eq!(outcome, Outcome::FailedWithOrphan, "signature {nth}");
    }
}

impl Scene {
    /// The daemon is killed while the token hangs in this call.
    async fn cut_short_at(&mut self, act: &Act, function: &str, nth: usize) -> Outcome {
        let moment = trapped(self.rig.dir.clone(), function, nth);
        self.cut_short(act, moment).await
    }

    /// The token does this to the execution, and the daemon lives.
    async fn meets(&mut self, act: &Act, fault: &str) -> Outcome {
        let (dir, fault) = (self.rig.dir.clone(), fault.to_owned());
        let moment = async move { script(&dir, &fault) };
        self.disturb(act, moment, false).await
    }
}
