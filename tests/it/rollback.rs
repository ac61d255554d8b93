//! Cases 12 and 32: an older ledger, an older token, and how far the one may be behind the other.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use kekd::quorum::Operation;
use kekd::types::Padding;

use crate::harness::{Kek, Rig, copy, dek, must};
use crate::officers::{Officers, new_version};
use crate::saga_scene::{anchored, serving};

async fn enact(rig: &Rig, operation: Operation) {
    Officers::of(rig).await.enact(operation).await.unwrap();
}

fn forbid(kek: &str) -> Operation {
    let kek = kek.parse().unwrap();
    Operation::ForbidPkcs1V15 { kek }
}

/// Puts a copy in the place of a folder of the rig, which is kept under another name.
fn put_back(rig: &Rig, spare: &str, folder: &str) {
    let kept = rig.dir.join(format!("{folder}-of-now"));
    fs::rename(rig.dir.join(folder), kept).unwrap();
    fs::rename(rig.dir.join(spare), rig.dir.join(folder)).unwrap();
}

/// The anchor of a stopped rig.
fn anchor(rig: &Rig) -> String {
    let read = ["--read-object", "--type", "data", "--label", "kekd anchor"];
    String::from_utf8(must(&mut rig.pkcs11_tool(&read)).stdout).unwrap()
}

fn files(dir: &Path) -> BTreeSet<PathBuf> {
    let mut files = BTreeSet::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => files.extend(self::files(&path)),
            false => drop(files.insert(path)),
        }
    }
    files
}

/// Case 32: yesterday's state folder undoes what officers did since; the token knows better.
#[tokio::test]
async fn an_older_state_folder_is_refused() {
    let rig = serving(Rig::stopped());
    enact(&rig, forbid("legacy")).await;
    rig.kill();
    copy(&rig.dir.join("state"), &rig.dir.join("spare"));
    rig.start();
    let kek = "legacy".parse().unwrap();
    enact(&rig, Operation::AllowPkcs1V15 { kek }).await;
    rig.kill();
    put_back(&rig, "spare", "state");
    let said = rig.start_refused();
    for words in ["anchor", "9", "13"] {
        assert!(said.contains(words), "{words:?} is not in:\n{said}");
    }
    fs::rename(rig.dir.join("state"), rig.dir.join("spare")).unwrap();
    fs::rename(rig.dir.join("state-of-now"), rig.dir.join("state")).unwrap();
    rig.start();
}

/// Case 12: an older clone of the token is as good as the keys it holds. Its anchor is caught up;
/// where it lacks a key, it is refused.
#[tokio::test]
async fn an_older_clone_of_the_token_is_caught_up_or_refused() {
    let rig = serving(Rig::stopped());
    let older = anchored(&rig).await;
    copy(&rig.dir.join("tokens"), &rig.dir.join("spare"));
    enact(&rig, forbid("legacy")).await;
    let newest = anchored(&rig).await;
    rig.kill();
    put_back(&rig, "spare", "tokens");
    assert_eq!(anchor(&rig), older);
    copy(&rig.dir.join("tokens"), &rig.dir.join("spare"));
    rig.start();
    assert_eq!(anchored(&rig).await, newest);

    let create = Operation::CreateKek(new_version("archive", "kek-rsa-3072"));
    enact(&rig, create).await;
    rig.kill();
    fs::remove_dir_all(rig.dir.join("tokens-of-now")).unwrap();
    put_back(&rig, "spare", "tokens");
    let said = rig.start_refused();
    for words in ["kekd kek archive/1", "Restore the token from its backup"] {
        assert!(said.contains(words), "{words:?} is not in:\n{said}");
    }
}

/// A start right behind a kill: the worker of the daemon that was killed may still be putting a new
/// anchor in the place of the last. Here that takes it a second.
#[tokio::test]
async fn an_anchor_that_is_being_replaced_is_waited_for() {
    let rig = serving(Rig::stopped());
    rig.kill();
    let label = ["--type", "data", "--label", "kekd anchor"];
    let value = rig.dir.join("anchor");
    let value = value.to_str().unwrap();
    let read = [&["--read-object", "--output-file", value], &label[..]].concat();
    must(&mut rig.pkcs11_tool(&read));
    must(&mut rig.pkcs11_tool(&[&["--delete-object"], &label[..]].concat()));
    let said = rig.log().len();
    std::thread::scope(|scope| {
        scope.spawn(|| rig.start());
        while !rig.log()[said..].contains("the token is looked at again") {
            std::thread::sleep(Duration::from_millis(20));
        }
        let write = [&["--write-object", value, "--private"], &label[..]].concat();
        must(&mut rig.pkcs11_tool(&write));
    });
    assert!(rig.client("operator").await.status().await.unwrap().ready);
}

/// A start that finds everything as it was changes nothing in the token.
#[tokio::test]
async fn a_start_that_changes_nothing_writes_nothing_to_the_token() {
    let rig = serving(Rig::stopped());
    enact(&rig, forbid("legacy")).await;
    let before = files(&rig.dir.join("tokens"));
    for _ in 0..2 {
        rig.kill();
        rig.start();
        // Rounds of the clerk.
        tokio::time::sleep(Duration::from_millis(2500)).await;
    }
    // An anchor that is written again is another file.
    assert_eq!(files(&rig.dir.join("tokens")), before);
    let client = rig.client("lkm-1").await;
    let kek = Kek::of(&client, "recordings").await;
    let answer = client.unwrap(kek.call(Padding::OaepSha1, &[1; 32])).await;
    assert_eq!(dek(&answer.unwrap().release), [1; 32]);
}
