//! A witness of the audit log: it cosigns what only grew, remembers across runs, and refuses a fork.

use std::fs;
use std::time::Instant;

use kekd::types::Padding;

use crate::answers::{answer, refused};
use crate::harness::{Kek, PATIENCE, Rig, must};

async fn unwrap_some(rig: &Rig) {
    let client = rig.client("lkm-1").await;
    let kek = Kek::of(&client, "recordings").await;
    for value in 0..3 {
        let call = kek.call(Padding::OaepSha1, &[value; 32]);
        client.unwrap(call).await.unwrap();
    }
}

async fn signed(rig: &Rig, size: u64) {
    let client = rig.client("auditor").await;
    let started = Instant::now();
    let is_signed = async || {
        let note = client.audit_checkpoint().await;
        note.is_ok_and(|note| note.lines().nth(1) == Some(&size.to_string()))
    };
    while !is_signed().await {
        assert!(started.elapsed() < PATIENCE, "no checkpoint");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_witness_cosigns_what_grew_and_refuses_a_fork() {
    let rig = Rig::stopped();
    rig.set("audit", "checkpoint_interval_ms = 100");
    rig.start();
    let export = rig.dir.join("export");
    must(rig.auditor(&["ledger", "export"]).arg(&export));
    let instance = fs::read_to_string(export.join("instance")).unwrap();
    let (instance, key) = (instance.trim(), export.join("log-key.pem"));
    let dir = rig.dir.join("witness");
    let (dir_name, key_name) = (dir.to_str().unwrap(), key.to_str().unwrap());
    let log = ["--log-key", key_name, "--instance", instance];
    let init = ["witness", "init", dir_name, "--name", "witness.test/w1"];
    let made = answer(rig.auditor(&init).args(log));
    let witness = made["witness"].as_str().unwrap();

    let note = rig.dir.join("note");
    let note_name = note.to_str().unwrap();
    let cosign = ["witness", "cosign", dir_name, "--force", "--out", note_name];
    let check = ["witness", "check", note_name, "--witness", witness];
    for size in [3, 6] {
        unwrap_some(&rig).await;
        signed(&rig, size).await;
        let cosigned = answer(&mut rig.auditor(&cosign));
        assert_eq!(
            (&cosigned["size"], &cosigned["before"]),
            (&size.into(), &(size - 3).into())
        );
        let seen = answer(rig.auditor(&check).args(log));
        assert_eq!(seen["size"], size);
    }
    // Once more: nothing grew, and that is no fork.
    assert_eq!(answer(&mut rig.auditor(&cosign))["before"], 6);
    let text = fs::read_to_string(&note).unwrap();
    fs::write(
        &note,
        text.replacen("witness.test/w1", "witness.test/w2", 1),
    )
    .unwrap();
    assert_eq!(refused(rig.auditor(&check).args(log)).0, 65);

    // The witness has seen another history, or a longer one: it refuses and forgets nothing.
    let newest = dir.join("newest");
    let known = fs::read_to_string(&newest).unwrap();
    let root = known.lines().last().unwrap();
    let forked = known.replace(root, &format!("root {}", "0".repeat(64)));
    for memory in [forked, known.replace("size 6", "size 7")] {
        fs::write(&newest, &memory).unwrap();
        assert_eq!(refused(&mut rig.auditor(&cosign)), (1, "FORK".to_owned()));
        assert_eq!(fs::read_to_string(&newest).unwrap(), memory);
    }
    // A witness that lost its memory is none.
    fs::write(&newest, "").unwrap();
    assert_eq!(refused(&mut rig.auditor(&cosign)).0, 65);
}
