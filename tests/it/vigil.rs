//! What becomes of the token behind kekd's back, before a start and while the node serves: keys that
//! appear, vanish or are weakened, a token that is taken away, brought back, or initialised again.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use kekd::client::Client;
use kekd::proto::v1::GetStatusResponse;
use kekd::types::{KeypairId, Padding};

use crate::harness::{Kek, Rig, copy, dek, must, reason};

const SOFTHSM: &str = "/usr/lib/softhsm/libsofthsm2.so";

fn pkcs11_tool(rig: &Rig, arguments: &[&str]) {
    let pin = rig.pin();
    let token = [
        "--module",
        SOFTHSM,
        "--token-label",
        "kekd-rig",
        "--login",
        "--pin",
        &pin,
    ];
    must(rig.token_command("pkcs11-tool").args(token).args(arguments));
}

fn make_key(rig: &Rig, id: &str, label: &str) {
    let key = [
        "--keypairgen",
        "--key-type",
        "rsa:2048",
        "--id",
        id,
        "--label",
        label,
    ];
    pkcs11_tool(rig, &key);
}

fn hex(id: &KeypairId) -> String {
    id.as_bytes()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

/// The first status that is as wanted; it must come within half a minute, three times the vigil.
async fn status_when(
    operator: &Client,
    wanted: impl Fn(&GetStatusResponse) -> bool,
) -> GetStatusResponse {
    for _ in 0..300 {
        let status = operator.status().await.unwrap();
        if wanted(&status) {
            return status;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("waited in vain: {:?}", operator.status().await.unwrap());
}

fn says(status: &GetStatusResponse, words: &[&str]) -> bool {
    let is_in = |word: &&str| {
        status
            .problems
            .iter()
            .any(|problem| problem.contains(*word))
    };
    words.iter().all(is_in)
}

/// A key the ledger does not know is an alarm. It is never used, whether it was there at the start or
/// came later, and whatever its label tries to write.
#[tokio::test]
async fn keys_the_ledger_does_not_know_are_told_of_and_never_used() {
    let rig = Rig::stopped();
    let id: KeypairId = "6f9619ff-8b86-4011-b42d-00cf4fc964ff".parse().unwrap();
    make_key(&rig, &hex(&id), "not\nours");
    rig.start();
    let (client, operator) = (rig.client("lkm-1").await, rig.client("operator").await);
    let status = operator.status().await.unwrap();
    assert!(
        status.ready,
        "a key of somebody else's is no reason to stop"
    );
    assert!(
        says(&status, &["ledger does not know", "not\\nours", "not used"]),
        "{status:?}"
    );

    let kek = Kek::of(&client, "recordings").await;
    let mut call = kek.call(Padding::OaepSha1, &[1; 32]);
    call.keypair_id = id;
    assert_eq!(
        reason(&client.unwrap(call).await.err().unwrap()),
        "KEYPAIR_UNKNOWN"
    );

    for number in 0..10 {
        make_key(&rig, &format!("0{number}"), &format!("another {number}"));
    }
    let status = status_when(&operator, |status| says(status, &["and 3 more"])).await;
    assert!(status.ready);
    assert_eq!(status.problems.len(), 1, "{status:?}");
    let answer = client.unwrap(kek.call(Padding::OaepSha1, &[1; 32])).await;
    assert_eq!(dek(&answer.unwrap().release), [1; 32]);
}

/// A key that vanishes: its callers get an error, all others their DEKs, and the operator its name.
#[tokio::test]
async fn a_key_that_vanishes_is_named_and_costs_nobody_else() {
    let rig = Rig::serving();
    let (client, operator) = (rig.client("lkm-1").await, rig.client("operator").await);
    let lost = Kek::of(&client, "recordings").await;
    let kept = Kek::of(&client, "legacy").await;
    let id = hex(&lost.keypair_id);
    pkcs11_tool(&rig, &["--delete-object", "--type", "privkey", "--id", &id]);

    let status = status_when(&operator, |status| !status.ready).await;
    assert!(
        says(&status, &["kekd kek recordings/1", "backup"]),
        "{status:?}"
    );
    let error = client.unwrap(lost.call(Padding::OaepSha1, &[1; 32])).await;
    assert_eq!(reason(&error.err().unwrap()), "INTERNAL");
    let answer = client.unwrap(kept.call(Padding::OaepSha1, &[2; 32])).await;
    assert_eq!(dek(&answer.unwrap().release), [2; 32]);
}

/// Case 10: not ready while the token is away, ready by itself when it is back.
#[tokio::test]
async fn a_token_that_is_taken_away_is_used_again_when_it_is_back() {
    let rig = Rig::serving();
    let (client, operator) = (rig.client("lkm-1").await, rig.client("operator").await);
    let kek = Kek::of(&client, "recordings").await;
    let (here, away) = (rig.dir.join("tokens"), rig.dir.join("away"));
    fs::rename(&here, &away).unwrap();
    fs::create_dir(&here).unwrap();

    let status = status_when(&operator, |status| !status.ready).await;
    assert!(!status.problems.is_empty(), "{status:?}");
    let error = client.unwrap(kek.call(Padding::OaepSha1, &[1; 32])).await;
    let error = error.err().unwrap();
    assert!(
        ["HSM_UNAVAILABLE", "DEADLINE_EXCEEDED"].contains(&reason(&error)),
        "{error}"
    );
    status_when(&operator, |status| {
        says(status, &["was not found", "hsm.token_label"])
    })
    .await;

    fs::remove_dir_all(&here).unwrap();
    fs::rename(&away, &here).unwrap();
    let status = status_when(&operator, |status| status.ready).await;
    assert!(status.problems.is_empty(), "{status:?}");
    let answer = client.unwrap(kek.call(Padding::OaepSha1, &[1; 32])).await;
    assert_eq!(dek(&answer.unwrap().release), [1; 32]);
}

/// Case 11: the security officer initialises the token again under a running daemon. No session
/// notices; the vigil does. Nothing is released any more, and nothing is pinned.
#[tokio::test]
async fn a_token_that_is_initialised_again_is_not_taken_for_ours() {
    let rig = Rig::serving();
    let (client, operator) = (rig.client("lkm-1").await, rig.client("operator").await);
    let kek = Kek::of(&client, "recordings").await;
    let so_pin = fs::read_to_string(rig.dir.join("so-pin")).unwrap();
    let pin = rig.pin();
    must(rig.token_command("softhsm2-util").args([
        "--init-token",
        "--token",
        "kekd-rig",
        "--label",
        "kekd-rig",
        "--pin",
        &pin,
        "--so-pin",
        so_pin.trim(),
    ]));
    let status = status_when(&operator, |status| !status.ready).await;
    assert!(!status.problems.is_empty());
    for _ in 0..5 {
        let error = client.unwrap(kek.call(Padding::OaepSha1, &[1; 32])).await;
        assert!(error.is_err(), "a token without the pin released a DEK");
    }
    let status = operator.status().await.unwrap();
    assert!(!status.ready && !status.problems.is_empty(), "{status:?}");
    assert_eq!(
        object_files(&rig.dir.join("tokens")),
        Vec::<PathBuf>::new(),
        "something was made"
    );
}

/// The object files of all tokens below a folder.
pub fn object_files(tokens: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for token in fs::read_dir(tokens).unwrap() {
        for entry in fs::read_dir(token.unwrap().path()).unwrap() {
            let path = entry.unwrap().path();
            let is_object = path
                .extension()
                .is_some_and(|extension| extension == "object");
            if is_object && !path.ends_with("token.object") {
                found.push(path);
            }
        }
    }
    found
}

/// Case 14: an attribute changed in SoftHSM's own files. An attribute there is its type, the kind of
/// its value (1: a truth value) and the value: eight bytes, eight bytes, one byte.
#[test]
fn a_kek_weakened_on_disk_is_refused() {
    const CLASS: u64 = 0;
    const PRIVATE_KEY: u64 = 3;
    for (attribute, name, weak) in [
        (0x162_u64, "CKA_EXTRACTABLE", 0xff_u8),
        (0x103, "CKA_SENSITIVE", 0),
        (0x108, "CKA_SIGN", 0xff),
        (0x170, "CKA_MODIFIABLE", 0xff),
    ] {
        let rig = Rig::stopped();
        let private_class = [
            CLASS.to_be_bytes(),
            2_u64.to_be_bytes(),
            PRIVATE_KEY.to_be_bytes(),
        ];
        let flag = [attribute.to_be_bytes(), 1_u64.to_be_bytes()].concat();
        let mut changed = 0;
        for path in object_files(&rig.dir.join("tokens")) {
            let mut bytes = fs::read(&path).unwrap();
            if position(&bytes, &private_class.concat()).is_none() {
                continue;
            }
            let Some(at) = position(&bytes, &flag) else {
                continue;
            };
            if bytes[at + 16] != weak {
                bytes[at + 16] = weak;
                changed += 1;
            }
            fs::write(path, bytes).unwrap();
        }
        assert!(changed > 0, "{name} is in no object file");
        let log = rig.start_refused();
        for words in [
            "the key 'kekd ",
            name,
            "should be",
            "Somebody changed the token",
        ] {
            assert!(log.contains(words), "{name}: {words:?} is not in:\n{log}");
        }
    }
}

fn position(bytes: &[u8], part: &[u8]) -> Option<usize> {
    bytes.windows(part.len()).position(|window| window == part)
}

/// An older copy of the token, whole in its time, put in the place of the present one: it has the
/// same serial number, label and keys, so it is ours; what it lacks is said.
#[tokio::test]
async fn a_copy_of_the_token_is_as_good_as_what_it_holds() {
    let rig = Rig::serving();
    let (client, operator) = (rig.client("lkm-1").await, rig.client("operator").await);
    let kek = Kek::of(&client, "recordings").await;
    let (here, spare) = (rig.dir.join("tokens"), rig.dir.join("spare"));
    copy(&here, &spare);
    pkcs11_tool(
        &rig,
        &[
            "--delete-object",
            "--type",
            "data",
            "--label",
            "kekd anchor",
        ],
    );
    let status = status_when(&operator, |status| !status.ready).await;
    assert!(says(&status, &["kekd anchor", "found 0"]), "{status:?}");
    let error = client.unwrap(kek.call(Padding::OaepSha1, &[1; 32])).await;
    assert_eq!(reason(&error.err().unwrap()), "HSM_UNAVAILABLE");

    fs::rename(&here, rig.dir.join("old")).unwrap();
    fs::rename(&spare, &here).unwrap();
    status_when(&operator, |status| status.ready).await;
    let answer = client.unwrap(kek.call(Padding::OaepSha1, &[1; 32])).await;
    assert_eq!(dek(&answer.unwrap().release), [1; 32]);
}
