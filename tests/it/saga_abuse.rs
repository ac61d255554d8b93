//! Executions as an attacker, or a bad day, would have them: ordered twice at once, by callers who
//! hang up, under the eyes of the vigil, and with nothing that can be written at their end.

use std::time::Duration;

use kekd::proto::v1::ProposalPhase;
use tokio::time::{sleep, timeout};

use crate::harness::Rig;
use crate::harness::faulty::{Faulty, count, script, until_called};
use crate::officers::Officers;
use crate::saga_scene::{Act, Scene, ended, serving};
use crate::saga_steps::faulty_scene;

/// One approval, one version: whoever orders it, however often, in one moment.
#[tokio::test]
async fn an_execution_that_is_ordered_many_times_at_once_happens_once() {
    let scene = Scene::begin(serving(Rig::stopped())).await;
    let officers = Officers::of(&scene.rig).await;
    let id = scene.agree(&officers, &Act::Rotate).await;
    let mut calls = tokio::task::JoinSet::new();
    for officer in ["alice", "alice", "bob", "carol"] {
        let (order, signature) = officers.order(officer, id).await;
        for _ in 0..2 {
            let client = scene.rig.client("officer").await;
            let (order, signature) = (order.clone(), signature.clone());
            calls.spawn(async move { client.execute(order, signature).await.is_ok() });
        }
    }
    let done = calls.join_all().await;
    assert_eq!(done.iter().filter(|done| **done).count(), 1, "{done:?}");
    assert_eq!(ended(&officers, id).await, ProposalPhase::Executed);
    let kek = officers
        .client
        .get_kek(&"recordings".parse().unwrap())
        .await;
    assert_eq!(kek.unwrap().versions.len(), 3);
    assert_eq!(scene.rig.log().matches("a version is made").count(), 2);
}

/// A caller who hangs up takes nothing along.
#[tokio::test]
async fn an_execution_goes_on_when_the_caller_hangs_up() {
    let scene = faulty_scene().await;
    let officers = Officers::of(&scene.rig).await;
    let id = scene.agree(&officers, &Act::Rotate).await;
    let (order, signature) = officers.order("alice", id).await;
    let caller = scene.rig.client("officer").await;
    let before = count(&scene.rig.dir, "C_Sign");
    script(&scene.rig.dir, "C_Sign 2 delay 1500");
    let called = timeout(Duration::from_secs(60), caller.execute(order, signature));
    let signs = until_called(&scene.rig.dir, "C_Sign", before + 2);
    tokio::select! {
        answer = called => panic!("answered: {answer:?}"),
        () = signs => {}
    }
    drop(caller);
    assert_eq!(ended(&officers, id).await, ProposalPhase::Executed);
}

/// The vigil looks while a key is in the token and in no entry: it is no stranger, and no orphan.
#[tokio::test]
async fn a_key_that_is_being_made_is_no_alarm() {
    let scene = faulty_scene().await;
    let officers = Officers::of(&scene.rig).await;
    let id = scene.agree(&officers, &Act::Rotate).await;
    let (dir, log_len) = (scene.rig.dir.clone(), scene.rig.log().len());
    // Longer than from one look to the next. The look asks for the labels of all objects.
    script(&dir, "C_Sign 2 delay 13000");
    let (order, signature) = officers.order("alice", id).await;
    let patient = scene
        .rig
        .client_with("officer", Duration::from_secs(60))
        .await;
    let looked = async {
        let made = count(&dir, "C_GenerateKeyPair");
        until_called(&dir, "C_GenerateKeyPair", made + 1).await;
        let before = count(&dir, "C_FindObjectsInit");
        sleep(Duration::from_secs(12)).await;
        assert!(count(&dir, "C_FindObjectsInit") > before, "nobody looked");
    };
    let (answer, ()) = tokio::join!(patient.execute(order, signature), looked);
    answer.unwrap();
    let log = scene.rig.log()[log_len..].to_owned();
    for words in ["does not know", "without effect", "holds no key"] {
        assert!(!log.contains(words), "{words:?} is in:\n{log}");
    }
}

/// Neither the version nor its failure can be written: the clerk writes the failure, later.
#[tokio::test]
async fn a_failure_that_cannot_be_written_is_written_later() {
    let Faulty { rig } = Faulty::of(Rig::stopped());
    rig.set("hsm", "call_timeout_ms = 5000");
    let rig = serving(rig);
    let scene = Scene::begin(rig).await;
    let officers = Officers::of(&scene.rig).await;
    let id = scene.agree(&officers, &Act::Rotate).await;
    let (order, signature) = officers.order("alice", id).await;
    let dir = scene.rig.dir.clone();
    let before = count(&dir, "C_CopyObject");
    script(&dir, "C_CopyObject 1 delay 1000");
    let falls_ill = async {
        until_called(&dir, "C_CopyObject", before + 1).await;
        script(&dir, "C_Sign * CKR_GENERAL_ERROR");
    };
    let (answer, ()) = tokio::join!(officers.client.execute(order, signature), falls_ill);
    answer.unwrap_err();
    assert_eq!(officers.phase(id).await, ProposalPhase::Executing);
    script(&dir, "");
    let phase = ended(&officers, id).await;
    assert_eq!(phase, ProposalPhase::Failed);
    let found = officers.client.get_proposal(id.0).await.unwrap();
    assert!(scene.token_holds(&found.keypair_id));
    let id = scene.agree(&officers, &Act::Rotate).await;
    officers.execute("alice", id).await.unwrap();
}
