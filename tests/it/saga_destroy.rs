//! The end of a version, cut short, and what comes after it. The time-lock of a destruction is seven
//! days at least, so the daemon is started again eight days later, by libfaketime.

use std::fs;
use std::path::Path;

use kekd::proto::v1::{ProposalPhase, VersionState};
use kekd::quorum::{Operation, Usage};
use kekd::types::Padding;
use rustix::process::{Pid, Signal, kill_process};

use crate::harness::faulty::{Faulty, count};
use crate::harness::{Kek, Rig, copy, dek, reason, skipped};
use crate::officers::{Officers, deciding, new_version};
use crate::saga_scene::{ended, is_ready, serving, token_holds};
use crate::saga_steps::trapped;

/// Debian's and Fedora's places for libfaketime.
const FAKETIME: [&str; 3] = [
    "/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1",
    "/usr/lib/aarch64-linux-gnu/faketime/libfaketimeMT.so.1",
    "/usr/lib64/faketime/libfaketimeMT.so.1",
];

/// Starts a stopped rig eight days from now. Its timers go on as they do.
fn start_later(rig: &mut Rig, faketime: &str) {
    for (variable, value) in [
        ("LD_PRELOAD", faketime),
        ("FAKETIME", "+8d"),
        ("FAKETIME_DONT_FAKE_MONOTONIC", "1"),
    ] {
        let pair = (variable.to_owned(), value.to_owned());
        rig.environment.push(pair);
    }
    rig.start();
}

#[tokio::test]
async fn a_kill_between_a_destruction_and_its_entry_is_ended_by_the_next_start() {
    let Some(faketime) = FAKETIME.into_iter().find(|path| Path::new(path).exists()) else {
        let test = "a_kill_between_a_destruction_and_its_entry_is_ended_by_the_next_start";
        return skipped(&format!("saga_destroy::{test}"), "there is no libfaketime");
    };
    let Faulty { rig } = Faulty::of(Rig::stopped());
    let mut rig = serving(rig);
    let client = rig.client("lkm-1").await;
    let old = Kek::of(&client, "recordings").await;
    let officers = Officers::of(&rig).await;
    let rotation = Operation::RotateKek {
        version: new_version("recordings", "kek-rsa-3072"),
        retires: Some(old.keypair_id),
    };
    officers.enact(rotation).await.unwrap();
    let operation = Operation::DestroyVersion {
        keypair_id: old.keypair_id,
        unused_days: 0,
        usage: Usage {
            unwraps: 0,
            first: None,
            last: None,
        },
    };
    let [proposer, approvers @ ..] = deciding(&operation);
    let id = officers.propose(proposer, operation).await.unwrap();
    for officer in approvers {
        officers.approve(officer, id).await.unwrap();
    }
    let spare = rig.dir.join("spare");
    copy(&rig.dir.join("tokens"), &spare);
    rig.kill();

    start_later(&mut rig, faketime);
    let officers = Officers::of(&rig).await;
    let (order, signature) = officers.order(proposer, id).await;
    // The first signature is that of the intent, the second that of the end.
    let cut = async {
        trapped(rig.dir.clone(), "C_Sign", 2).await;
        rig.kill();
    };
    let (answer, ()) = tokio::join!(officers.client.execute(order, signature), cut);
    answer.unwrap_err();
    assert!(!token_holds(&rig, &old.keypair_id.to_string()));

    rig.start();
    is_ready(&rig).await;
    is_destroyed(&rig, &old).await;
    let officers = Officers::of(&rig).await;
    assert_eq!(ended(&officers, id).await, ProposalPhase::Executed);
    // A worker to come does not want the key.
    let worker = Pid::from_raw(rig.worker_pid().await.cast_signed()).unwrap();
    kill_process(worker, Signal::KILL).unwrap();
    is_ready(&rig).await;
    is_destroyed(&rig, &old).await;

    rig.kill();
    bring_back(&spare, &rig.dir.join("tokens"));
    assert!(token_holds(&rig, &old.keypair_id.to_string()));
    rig.start();
    let status = rig.client("operator").await.status().await.unwrap();
    let problems = status.problems.join("\n");
    assert!(status.ready, "{problems}");
    assert!(
        problems.contains("versions that were destroyed"),
        "{problems}"
    );
    is_destroyed(&rig, &old).await;
}

/// The version is destroyed, its calls are refused before the HSM, and its successor serves.
async fn is_destroyed(rig: &Rig, old: &Kek) {
    let client = rig.client("lkm-1").await;
    let name = "recordings".parse().unwrap();
    for _ in 0..1200 {
        let versions = client.get_kek(&name).await.unwrap().versions;
        if versions[0].state() == VersionState::Destroyed {
            assert_eq!(versions.len(), 2);
            assert_eq!(versions[1].state(), VersionState::Active);
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    let before = count(&rig.dir, "C_DecryptInit");
    let call = old.call(Padding::OaepSha1, &[1; 32]);
    let error = client.unwrap(call).await.err().unwrap();
    assert_eq!(reason(&error), "VERSION_NOT_USABLE");
    assert_eq!(count(&rig.dir, "C_DecryptInit"), before);
    let legacy = Kek::of(&client, "legacy").await;
    let answer = client
        .unwrap(legacy.call(Padding::OaepSha1, &[2; 32]))
        .await;
    assert_eq!(dek(&answer.unwrap().release), [2; 32]);
}

/// Puts all objects back that a copy of the tokens has and the tokens have not: the key, and an older
/// anchor. Which is which is encrypted.
fn bring_back(from: &Path, to: &Path) {
    for token in fs::read_dir(from).unwrap() {
        let token = token.unwrap();
        for object in fs::read_dir(token.path()).unwrap() {
            let object = object.unwrap();
            let to = to.join(token.file_name()).join(object.file_name());
            if !to.exists() {
                copy(&object.path(), &to);
            }
        }
    }
}
