//! What is proven where: keys that a replica does not have, or has otherwise, are served by the
//! primary alone, and coverage says why.

use std::process::{Command, Output};

use kekd::proto::v1::CoverState;
use kekd::types::Padding;

use super::{
    KEKS, clone_keys, cover, cover_when, folder, kekctl_coverage, on_replica, replica, serving,
    status_when, stopped,
};
use crate::harness::faulty::Faulty;
use crate::harness::{KEKCTL, Kek, Rig, dek, must, test_module};
use crate::softhsm;

async fn is_served_by_the_primary_alone(rig: &Rig, name: &str, padding: Padding) {
    let (client, operator) = (rig.client("lkm-1").await, rig.client("operator").await);
    let kek = Kek::of(&client, name).await;
    let before = replica(&operator, "b").await.unwraps;
    for _ in 0..6 {
        let answer = client.unwrap(kek.call(padding, &[9; 32])).await.unwrap();
        assert_eq!(dek(&answer.release), [9; 32]);
    }
    assert_eq!(replica(&operator, "b").await.unwraps, before, "{name}");
}

#[tokio::test]
async fn a_replica_is_asked_only_for_keys_it_has_proven() {
    let rig = stopped(&[("b", "")]);
    rig.start();
    let client = rig.client("lkm-1").await;
    let recordings = Kek::of(&client, "recordings").await;
    let vault = Kek::of(&rig.client("operator").await, "vault").await;
    rig.stop().await;
    drop(client);
    // Another key by the same name and id, and one that is not there.
    let (id, gone) = (recordings.cka_id(), vault.cka_id());
    for class in ["privkey", "pubkey"] {
        for id in [&id, &gone] {
            must(&mut on_replica(
                &rig,
                "b",
                &["--delete-object", "--type", class, "--id", id],
            ));
        }
    }
    let label = "kekd kek recordings/1";
    let other = [
        "--keypairgen",
        "--key-type",
        "rsa:3072",
        "--id",
        &id,
        "--label",
        label,
    ];
    must(&mut on_replica(&rig, "b", &other));

    rig.start();
    let operator = rig.client("operator").await;
    let why = cover_when(&operator, "recordings", "b", CoverState::Wrong).await;
    assert!(why.contains("was replaced"), "{why}");
    let why = cover_when(&operator, "vault", "b", CoverState::Missing).await;
    assert!(why.contains("no such key"), "{why}");
    for kek in ["legacy", "engage"] {
        cover_when(&operator, kek, "b", CoverState::Proven).await;
    }
    for kek in KEKS {
        assert_eq!(cover(&operator, kek, "primary").await.0, CoverState::Proven);
    }
    is_served_by_the_primary_alone(&rig, "recordings", Padding::OaepSha1).await;
    let status = status_when(&operator, |status| status.replicas[0].versions_proven == 2).await;
    assert!(status.ready);

    let output = kekctl_coverage(&rig, "operator", &[]);
    assert_eq!(output.status.code(), Some(79), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(
        text.contains("vault/1 on b: there is no such key"),
        "{text}"
    );
    assert!(text.contains("NOT COVERED"), "{text}");
    let output = kekctl_coverage(&rig, "operator", &["--kek", "engage"]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");

    // A client sees what it was granted; the primary would unwrap the trial, which is not enough.
    let output = kekctl_coverage(&rig, "lkm-1", &["--output", "json"]);
    let shown: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let seen = shown["versions"].as_array().unwrap().iter();
    let seen: Vec<_> = seen.map(|one| one["kek"].as_str().unwrap()).collect();
    assert!(seen.contains(&"recordings"), "{seen:?}");
    let output = kekctl_coverage(&rig, "lkm-2", &["--kek", "recordings"]);
    assert!(!output.status.success(), "{output:?}");
    let output = registration(&rig);
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("is not proven on"), "{text}");
    assert!(text.contains("on the token b: wrong"), "{text}");

    clone_keys(&rig);
    cover_when(&operator, "recordings", "b", CoverState::Proven).await;
    let output = registration(&rig);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(
        output.status.success() && text.contains("(tokens primary, b)"),
        "{text}"
    );
}

/// `kekctl lkm registration recordings`.
fn registration(rig: &Rig) -> Output {
    let mut command = rig.kekctl();
    command.args(["lkm", "registration", "recordings"]);
    command.output().unwrap()
}

/// Without the key behind implicit rejection, or with another, a bad PKCS#1 v1.5 ciphertext would have
/// two answers.
#[tokio::test]
async fn a_replica_without_the_rejection_key_serves_no_pkcs1_v1_5() {
    let rig = stopped(&[("b", ""), ("c", "")]);
    let secret = "kekd implicit rejection";
    let key = ["--type", "secrkey", "--label", secret];
    let listed = must(&mut on_replica(
        &rig,
        "b",
        &[&["--list-objects"], &key[..]].concat(),
    ));
    let listed = String::from_utf8(listed.stdout).unwrap();
    let id = listed
        .lines()
        .find_map(|line| line.trim().strip_prefix("ID:"));
    for replica in ["b", "c"] {
        must(&mut on_replica(
            &rig,
            replica,
            &[&["--delete-object"], &key[..]].concat(),
        ));
    }
    let other = [
        "--keygen",
        "--key-type",
        "GENERIC:32",
        "--label",
        secret,
        "--id",
    ];
    let other = [&other[..], &[id.unwrap().trim()], &["--sensitive"]].concat();
    must(&mut on_replica(&rig, "c", &other));
    rig.start();
    let operator = rig.client("operator").await;
    for replica in ["b", "c"] {
        let why = cover_when(&operator, "legacy", replica, CoverState::Wrong).await;
        assert!(why.contains("implicit rejection"), "{why}");
        cover_when(&operator, "recordings", replica, CoverState::Proven).await;
    }
    is_served_by_the_primary_alone(&rig, "legacy", Padding::Pkcs1V15).await;
}

/// A token whose list is right and whose private key does not do what its public key says: no list
/// shows it, the canary does. What it gives for a ciphertext is never a DEK.
#[tokio::test]
async fn a_replica_that_gives_other_values_is_found_by_its_canary() {
    let rig = stopped(&[("b", "")]);
    let script = rig.dir.join("faults");
    std::fs::write(&script, "C_Decrypt * corrupt\n").unwrap();
    let module = test_module("kekd_test_fault");
    rig.edit("kekd.toml", |text| {
        let more = format!(
            "name = \"b\"\nmodule = \"{}\"\nenvironment.PKCS11_FAULT_SCRIPT = \"{}\"",
            module.display(),
            script.display()
        );
        let text = text.replace("name = \"b\"", &more);
        text.replace(
            "environment = { SOFTHSM2_CONF = ",
            "environment.SOFTHSM2_CONF = ",
        )
        .replace("-b.conf\" }", "-b.conf\"")
    });
    rig.start();
    let operator = rig.client("operator").await;
    let why = cover_when(&operator, "recordings", "b", CoverState::Wrong).await;
    assert!(why.contains("does not unwrap"), "{why}");
    is_served_by_the_primary_alone(&rig, "recordings", Padding::OaepSha1).await;
    assert_eq!(operator.status().await.unwrap().replicas[0].unwraps, 0);
    // The token is well again: so is the replica, half a minute later at most.
    std::fs::remove_file(script).unwrap();
    cover_when(&operator, "recordings", "b", CoverState::Proven).await;
}

/// A replica's answer hides nothing: a key that the primary fails with is not said to be proven there,
/// and the primary is not asked for it before it has proven it anew.
#[tokio::test]
async fn a_key_that_fails_on_the_primary_is_named_though_a_replica_serves_it() {
    let faulty = Faulty::of(stopped(&[("b", "")]));
    let rig = &faulty.rig;
    rig.edit("kekd.toml", |text| {
        let healthy = format!("name = \"b\"\nmodule = \"{}\"", softhsm::MODULE);
        text.replace("name = \"b\"", &healthy)
    });
    rig.start();
    let operator = rig.client("operator").await;
    status_when(&operator, |status| status.replicas[0].versions_proven == 4).await;
    // The attempt, the key's test and the same once more; between those another key's test passes. And
    // from now on no proof does.
    let before = faulty.count("C_Decrypt");
    let rules = ["1", "2", "4"].map(|n| format!("C_Decrypt {n} CKR_DEVICE_ERROR\n"));
    let weak = "C_GetAttributeValue * lie-attribute CKA_EXTRACTABLE 01";
    faulty.script(&(rules.concat() + weak));
    is_served(rig).await;
    assert!(faulty.count("C_Decrypt") >= before + 4, "nothing failed");

    let why = cover_when(&operator, "recordings", "primary", CoverState::Wrong).await;
    assert!(why.contains("CKA_EXTRACTABLE"), "{why}");
    let status = operator.status().await.unwrap();
    let token = status.token.unwrap();
    assert_eq!((token.versions_proven, token.worker_restarts), (3, 0));
    is_served(rig).await;
    let unwraps = async || operator.status().await.unwrap().token.unwrap().unwraps;
    assert_eq!(unwraps().await, token.unwraps, "the primary was asked");

    faulty.script("");
    cover_when(&operator, "recordings", "primary", CoverState::Proven).await;
    is_served(rig).await;
    assert!(unwraps().await > token.unwraps);
}

/// What vanishes from a replica while it serves is withdrawn, and proven again when it is back.
#[tokio::test]
async fn a_key_that_vanishes_from_a_replica_is_withdrawn_until_it_is_cloned_again() {
    let rig = serving(&[("b", "")]).await;
    let (client, operator) = (rig.client("lkm-1").await, rig.client("operator").await);
    let id = Kek::of(&client, "recordings").await.cka_id();
    must(&mut on_replica(
        &rig,
        "b",
        &["--delete-object", "--type", "privkey", "--id", &id],
    ));
    is_served(&rig).await;
    cover_when(&operator, "recordings", "b", CoverState::Missing).await;
    is_served_by_the_primary_alone(&rig, "recordings", Padding::OaepSha1).await;
    clone_keys(&rig);
    cover_when(&operator, "recordings", "b", CoverState::Proven).await;
    let before = replica(&operator, "b").await.unwraps;
    is_served(&rig).await;
    assert!(replica(&operator, "b").await.unwraps > before);
}

async fn is_served(rig: &Rig) {
    let client = rig.client("lkm-1").await;
    let kek = Kek::of(&client, "recordings").await;
    for _ in 0..6 {
        let answer = client.unwrap(kek.call(Padding::OaepSha1, &[4; 32])).await;
        assert_eq!(dek(&answer.unwrap().release), [4; 32]);
    }
}

#[tokio::test]
async fn coverage_is_for_whoever_the_ledger_names() {
    let rig = serving(&[("b", "required = false")]).await;
    for (client, code) in [
        ("operator", 0),
        ("officer", 0),
        ("auditor", 0),
        ("lkm-1", 0),
        ("stranger", 77),
    ] {
        let output = kekctl_coverage(&rig, client, &["--output", "json"]);
        assert_eq!(output.status.code(), Some(code), "{client}: {output:?}");
    }
    let output = kekctl_coverage(
        &rig,
        "auditor",
        &["--kek", "recordings", "--output", "json"],
    );
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(json["covered"], true);
    assert_eq!(json["versions"][0]["tokens"]["b"]["state"], "proven");
    assert_eq!(json["tokens"][1]["required"], false);
    let output = kekctl_coverage(&rig, "operator", &["--kek", "nothing"]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    // What a replica that is not required lacks makes nothing uncovered.
    std::fs::remove_dir_all(folder(&rig, "b")).unwrap();
    let operator = rig.client("operator").await;
    status_when(&operator, |status| status.replicas[0].versions_proven == 0).await;
    let output = kekctl_coverage(&rig, "operator", &[]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
}

/// `kekctl rig up --tokens`, as a person types it.
#[tokio::test]
async fn a_rig_has_as_many_tokens_as_it_is_asked_for() {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().join("rig");
    let mut up = Command::new(KEKCTL);
    up.args(["rig", "up", "--without-lkm", "--tokens", "2"]);
    up.args(["--kek", "recordings=kek-rsa-3072"]).arg(&dir);
    must(&mut up);
    must(Command::new(KEKCTL).args(["rig", "stop"]).arg(&dir));
    let rig = Rig::of(crate::token::Token::SoftHsm, home.path());
    for file in ["kekd.toml", "softhsm2-b.conf"] {
        let (from, to) = (home.path().display(), rig.dir.parent().unwrap().display());
        rig.edit(file, |text| {
            text.replace(&from.to_string(), &to.to_string())
        });
    }
    rig.start();
    let operator = rig.client("operator").await;
    cover_when(&operator, "recordings", "b", CoverState::Proven).await;
    let output = kekctl_coverage(&rig, "operator", &[]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
}
