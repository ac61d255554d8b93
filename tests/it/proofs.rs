//! A key is used only after this process has proven it on this token: before READY, before its first
//! use, or by and by. With `hsm.proven_at_start` at 0 no version is proven before READY.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};

use kekd::client::Client;
use kekd::proto::v1::{GetStatusResponse, Outcome, TokenStatus};
use kekd::types::Padding;
use rustix::process::{Pid, Signal, kill_process};

use crate::harness::faulty::Faulty;
use crate::harness::{Kek, Rig, copy, dek, must, reason};

/// The KEKs of a rig whose DEKs leave in clear by OAEP.
const CLEAR: [&str; 2] = ["recordings", "legacy"];

fn unproven(rig: &Rig) {
    rig.set("hsm", "proven_at_start = 0");
}

fn token(status: &GetStatusResponse) -> &TokenStatus {
    status.token.as_ref().unwrap()
}

/// The first status that is as wanted; it must come within a minute.
async fn status_when(
    operator: &Client,
    wanted: impl Fn(&GetStatusResponse) -> bool,
) -> GetStatusResponse {
    for _ in 0..600 {
        let status = operator.status().await.unwrap();
        if wanted(&status) {
            return status;
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    panic!("waited in vain: {:?}", operator.status().await.unwrap());
}

async fn all_proven(operator: &Client) {
    let all = |status: &GetStatusResponse| {
        let token = token(status);
        token.versions == 4 && token.versions_proven == 4
    };
    let status = status_when(operator, all).await;
    assert!(status.ready && status.problems.is_empty(), "{status:?}");
}

/// The object files of SoftHSM's token.
fn objects(tokens: &Path) -> HashSet<PathBuf> {
    let mut found = HashSet::new();
    for token in fs::read_dir(tokens).unwrap() {
        for entry in fs::read_dir(token.unwrap().path()).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|end| end == "object") {
                found.insert(path);
            }
        }
    }
    found
}

/// The file of a private key: the one that goes when the key is deleted from a copy of the token.
fn file_of(rig: &Rig, id: &str) -> PathBuf {
    let (tokens, spare) = (rig.dir.join("tokens"), rig.dir.join("spare"));
    copy(&tokens, &spare);
    let before = objects(&tokens);
    let delete = ["--delete-object", "--type", "privkey", "--id", id];
    must(&mut rig.pkcs11_tool(&delete));
    let gone: Vec<_> = before.difference(&objects(&tokens)).cloned().collect();
    fs::remove_dir_all(&tokens).unwrap();
    fs::rename(&spare, &tokens).unwrap();
    let [file] = gone.as_slice() else {
        panic!("{gone:?}");
    };
    file.clone()
}

/// Sets `CKA_EXTRACTABLE` of a private key in SoftHSM's file: type, kind (1: a truth value), value.
fn weaken(file: &Path) {
    let flag = [0x162_u64.to_be_bytes(), 1_u64.to_be_bytes()].concat();
    let mut bytes = fs::read(file).unwrap();
    let at = bytes.windows(flag.len()).position(|part| part == flag);
    let at = at.unwrap() + flag.len();
    assert_eq!(bytes[at], 0);
    bytes[at] = 0xff;
    fs::write(file, bytes).unwrap();
}

#[tokio::test]
async fn a_weakened_key_is_refused_at_its_first_use_and_named() {
    let rig = Rig::serving();
    let client = rig.client("lkm-1").await;
    let weak = Kek::of(&client, "recordings").await;
    let good = Kek::of(&client, "legacy").await;
    drop(client);
    rig.stop().await;
    let file = file_of(&rig, &weak.cka_id());
    let whole = fs::read(&file).unwrap();
    weaken(&file);

    // Few keys are all proven before READY.
    let log = rig.start_refused();
    let words = ["'kekd kek recordings/1'", "CKA_EXTRACTABLE", "should be"];
    assert!(words.iter().all(|word| log.contains(word)), "{log}");
    // Those beyond the bound are not, and are not used either.
    unproven(&rig);
    rig.start();
    let (client, operator) = (rig.client("lkm-1").await, rig.client("operator").await);
    for _ in 0..3 {
        let refused = client.unwrap(weak.call(Padding::OaepSha1, &[1; 32])).await;
        assert_eq!(reason(&refused.err().unwrap()), "INTERNAL");
        let answer = client.unwrap(good.call(Padding::OaepSha1, &[2; 32])).await;
        assert_eq!(dek(&answer.unwrap().release), [2; 32]);
    }
    let status = status_when(&operator, |status| token(status).versions_proven == 3).await;
    assert!(!status.ready);
    assert_eq!(status.problems.len(), 1, "{status:?}");
    for word in words {
        assert!(status.problems[0].contains(word), "{status:?}");
    }
    let released = rig.records_with(Outcome::Released);
    let of_good = good.keypair_id.to_string();
    assert!(released.iter().all(|record| record.keypair_id == of_good));
    assert_eq!(released.len(), 3);

    // Mended, it is proven again, without a restart of the daemon.
    fs::write(&file, whole).unwrap();
    end_worker(&rig).await;
    all_proven(&operator).await;
    let answer = client.unwrap(weak.call(Padding::OaepSha1, &[3; 32])).await;
    assert_eq!(dek(&answer.unwrap().release), [3; 32]);
}

/// Kills the worker, and returns when the next one serves.
async fn end_worker(rig: &Rig) {
    let operator = rig.client("operator").await;
    let before = rig.worker_pid().await;
    kill_process(
        Pid::from_raw(before.try_into().unwrap()).unwrap(),
        Signal::KILL,
    )
    .unwrap();
    let is_next = |status: &GetStatusResponse| {
        let token = token(status);
        token.state == "ready" && token.worker_pid != before
    };
    status_when(&operator, is_next).await;
}

/// However many callers come first, and though the node proves what nobody asks for: each key is
/// attacked once, as often as by a start that proves all before READY.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_first_use_proves_once_however_many_come() {
    let strict = Faulty::of(Rig::stopped());
    strict.rig.start();
    let once = strict.count("C_CopyObject");
    assert!(once > 0);
    all_proven(&strict.rig.client("operator").await).await;
    assert_eq!(strict.count("C_CopyObject"), once);

    let faulty = Faulty::of(Rig::stopped());
    unproven(&faulty.rig);
    faulty.rig.start();
    let client = faulty.rig.client("lkm-1").await;
    let mut keks = Vec::new();
    for name in CLEAR {
        keks.push(Kek::of(&client, name).await);
    }
    let callers: Vec<_> = (0..64_usize)
        .map(|n| {
            let (client, value) = (client.clone(), [u8::try_from(n).unwrap(); 32]);
            let call = keks[n % keks.len()].call(Padding::OaepSha1, &value);
            tokio::spawn(async move {
                let answer = client.unwrap(call).await.unwrap();
                assert_eq!(dek(&answer.release), value);
            })
        })
        .collect();
    for caller in callers {
        caller.await.unwrap();
    }
    // And the others by and by.
    all_proven(&faulty.rig.client("operator").await).await;
    assert_eq!(faulty.count("C_CopyObject"), once);
}

/// A new worker is judged by one key of each kind, whatever the number of keys; each of the others
/// passes its own test before it is used.
#[tokio::test]
async fn a_new_worker_serves_at_once_and_tests_a_key_before_its_use() {
    let faulty = Faulty::of(Rig::stopped());
    faulty.rig.start();
    let client = faulty.rig.client("lkm-1").await;
    let before = faulty.rig.worker_pid().await;
    end_worker(&faulty.rig).await;
    let worker = faulty.rig.worker_pid().await;
    assert_ne!(worker, before);
    let count = |function: &str| {
        let counts = fs::read_to_string(faulty.rig.dir.join("counts")).unwrap();
        let line = format!("{function} {worker}");
        counts.lines().filter(|found| *found == line).count()
    };
    assert_eq!((count("C_Decrypt"), count("C_UnwrapKey")), (1, 1));
    assert_eq!(count("C_CopyObject"), 0, "what was proven stays proven");
    for (name, paddings) in [
        ("recordings", &[Padding::OaepSha1][..]),
        ("legacy", &[Padding::OaepSha1]),
    ] {
        let kek = Kek::of(&client, name).await;
        for padding in paddings {
            // The first time its test, the second time not.
            let mut cost = Vec::new();
            for _ in 0..2 {
                let before = count("C_Decrypt");
                let answer = client.unwrap(kek.call(*padding, &[5; 32])).await;
                assert_eq!(dek(&answer.unwrap().release), [5; 32]);
                cost.push(count("C_Decrypt") - before);
            }
            assert!(cost == [2, 1] || cost == [1, 1], "{name}: {cost:?}");
        }
    }
    assert_eq!(faulty.rig.worker_pid().await, worker);
}
