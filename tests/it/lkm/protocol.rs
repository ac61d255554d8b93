//! The protocol as its only public description has it, by our own caller, by curl and by mohawk.

use std::path::Path;
use std::process::Command;

use kekd::lkm::credentials::Lane;
use kekd::proto::v1;
use kekd::types::Padding;

use super::front::{Front, JSON, body, dek_of};
use crate::harness::{Kek, Rig, must, skipped};

#[tokio::test]
async fn kekctl_finds_nothing_wrong_with_our_own() {
    let rig = Rig::serving();
    let front = Front::serving(&rig).await;
    let id = Kek::of(&rig.client("lkm-1").await, "recordings")
        .await
        .keypair_id;
    let mut check = front.kekctl(&rig);
    check.args(["lkm", "check", &front.target.to_string()]);
    check.args(["--keypair-id", &id.to_string()]);
    let output = tokio::process::Command::from(check).output().await.unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success(),
        "{said}\n{output:?}\n{}",
        front.log()
    );
    assert!(said.contains("as they must be"), "{said}");
    // What the check did is in the audit log, under the name that the cloud gave its user.
    let of_check = |record: &v1::Record| record.end_user == "kekctl-lkm-check";
    assert!(rig.records().iter().any(of_check));
}

#[tokio::test]
async fn the_user_and_the_request_id_reach_the_audit_log() {
    let rig = Rig::serving();
    let front = Front::serving(&rig).await;
    let kek = Kek::of(&rig.client("lkm-1").await, "recordings").await;
    let wrapped = kek.wrap(Padding::OaepSha1, &[9; 32]);
    let mut call = front.post(body(kek.keypair_id, &wrapped));
    call.more = vec![
        (
            "purecloud-user-id",
            "6f9619ff-8b86-4011-b42d-00cf4fc964ff".to_owned(),
        ),
        ("x-request-id", "from-the-cloud-1".to_owned()),
    ];
    assert_eq!(dek_of(&front.say(call).await.unwrap()), [9; 32]);
    let records = rig.records_with(v1::Outcome::Released);
    let found = records
        .iter()
        .find(|record| record.request_id == "from-the-cloud-1")
        .unwrap();
    assert_eq!(found.end_user, "6f9619ff-8b86-4011-b42d-00cf4fc964ff");
    assert_eq!(found.caller, "spiffe://kekd.test/lkm-1");
}

#[tokio::test]
async fn both_paddings_both_paths_and_both_lanes_unwrap() {
    let rig = Rig::serving();
    let mut front = Front::stopped(&rig);
    let bulk = front.add("cloud-bulk", "recordings", Lane::Bulk);
    front.start();
    front.is_ready().await;
    let client = rig.client("lkm-1").await;
    let (kek, legacy) = (
        Kek::of(&client, "recordings").await,
        Kek::of(&client, "legacy").await,
    );

    let pkcs1 = body(legacy.keypair_id, &legacy.wrap(Padding::Pkcs1V15, &[4; 32]));
    let call = front.post_as(&front.id, &front.key, "?decryptType=pkcs1", pkcs1.clone());
    assert_eq!(dek_of(&front.say(call).await.unwrap()), [4; 32]);
    // Signed without the query, as the sample of the cloud's maker does.
    let path = front.target.path.clone();
    let to = format!("{path}?decryptType=pkcs1");
    let call = front.signed(&front.id, &front.key, &to, &path, pkcs1.clone());
    assert_eq!(dek_of(&front.say(call).await.unwrap()), [4; 32]);
    // The kind of padding in the body, as older versions of it did.
    let text = String::from_utf8(pkcs1)
        .unwrap()
        .replace("\"}", "\",\"decryptType\":\"pkcs1\"}");
    let call = front.post(text.into_bytes());
    assert_eq!(dek_of(&front.say(call).await.unwrap()), [4; 32]);
    for met in [
        "with-query",
        "without-query",
        "what=\"decrypt_type\" met=\"body\"",
    ] {
        assert!(
            front.log().contains(met),
            "{met} was met and not said:\n{}",
            front.log()
        );
    }

    let mut connection = front.connect().await;
    for number in 0..70 {
        let wrapped = kek.wrap(Padding::OaepSha1, &[number; 32]);
        let call = front.post_as("cloud-bulk", &bulk, "", body(kek.keypair_id, &wrapped));
        assert_eq!(dek_of(&connection.send(call).await.unwrap()), [number; 32]);
    }
}

#[tokio::test]
async fn a_setting_narrows_what_is_not_known() {
    let rig = Rig::serving();
    let mut front = Front::stopped(&rig);
    front.set("hawk", "signed_path", "with-query");
    front.set("protocol", "decrypt_type", "query");
    front.start();
    front.is_ready().await;
    let legacy = Kek::of(&rig.client("lkm-1").await, "legacy").await;
    let pkcs1 = body(legacy.keypair_id, &legacy.wrap(Padding::Pkcs1V15, &[4; 32]));
    let path = front.target.path.clone();
    let to = format!("{path}?decryptType=pkcs1");
    let call = front.signed(&front.id, &front.key, &to, &path, pkcs1.clone());
    assert_eq!(front.say(call).await.unwrap().status, 401);
    let call = front.signed(&front.id, &front.key, &to, &to, pkcs1);
    assert_eq!(dek_of(&front.say(call).await.unwrap()), [4; 32]);
}

#[tokio::test]
async fn a_credential_reaches_its_own_keks_only() {
    let rig = Rig::serving();
    let mut front = Front::stopped(&rig);
    let other = front.add("other-tenant", "legacy", Lane::Interactive);
    front.start();
    front.is_ready().await;
    let client = rig.client("lkm-1").await;
    let kek = Kek::of(&client, "recordings").await;
    let wrapped = body(kek.keypair_id, &kek.wrap(Padding::OaepSha1, &[9; 32]));
    let before = rig.records().len();
    let call = front.post_as("other-tenant", &other, "", wrapped.clone());
    let foreign = front.say(call).await.unwrap();
    let unknown = "00000000-0000-4000-8000-000000000000".parse().unwrap();
    let nothing = front
        .say(front.post(body(unknown, &[1; 384])))
        .await
        .unwrap();
    assert_eq!(foreign.status, 400);
    assert_eq!(
        foreign.body, nothing.body,
        "another tenant's key looks like no key"
    );
    assert_eq!(rig.records().len(), before, "kekd was asked");
    assert_eq!(
        dek_of(&front.say(front.post(wrapped)).await.unwrap()),
        [9; 32]
    );
}

#[tokio::test]
async fn registration_prints_what_the_cloud_takes_and_refuses_what_is_not_proven() {
    let rig = Rig::serving();
    let front = Front::serving(&rig).await;
    let kek = Kek::of(&rig.client("lkm-1").await, "recordings").await;
    let registration = |arguments: &[&str]| {
        let mut command = front.kekctl(&rig);
        command.args(["lkm", "registration"]).args(arguments);
        command.output().unwrap()
    };
    let output = registration(&["recordings", "--output", "json", "--show-key"]);
    assert!(output.status.success(), "{output:?}");
    let bodies: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(bodies["local_key"]["keypairId"], kek.keypair_id.to_string());
    let key = bodies["local_key"]["publicKey"].as_str().unwrap();
    // RSA-3072 in PKCS#1, not SubjectPublicKeyInfo: by its first bytes and its length.
    assert!(key.starts_with("MIIBigKCAYEA") && key.len() == 532, "{key}");
    let configuration = &bodies["key_configuration"];
    assert_eq!(configuration["url"], front.target.to_string());
    assert_eq!(configuration["apiId"], front.id);
    assert_eq!(configuration["apiKey"], front.key);
    assert_eq!(configuration["keyConfigurationType"], "LocalKeyManager");
    let output = registration(&["recordings"]);
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        said.contains("/api/v2/recording/localkeys") && !said.contains(&front.key),
        "{said}"
    );

    let output = registration(&["recordings", "--node", "https://127.0.0.1:1"]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(
        said.contains("is not proven on https://127.0.0.1:1"),
        "{said}"
    );
    // Released to recipients only, so the cloud would get nothing.
    let output = registration(&["vault"]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
}

#[tokio::test]
async fn curl_and_mohawk_are_understood() {
    const TEST: &str = "lkm::protocol::curl_and_mohawk_are_understood";
    let rig = Rig::serving();
    let front = Front::serving(&rig).await;
    let kek = Kek::of(&rig.client("lkm-1").await, "recordings").await;
    let body = body(kek.keypair_id, &kek.wrap(Padding::OaepSha1, &[5; 32]));
    let text = String::from_utf8(body.clone()).unwrap();
    let curl = |authorization: &str| {
        let mut curl = Command::new("curl");
        curl.args(["--silent", "--show-error", "--fail-with-body", "--cacert"])
            .arg(&front.roots);
        curl.args(["-H", &format!("Authorization: {authorization}")]);
        curl.args([
            "-H",
            &format!("Content-Type: {JSON}"),
            "--data-binary",
            &text,
        ]);
        must(curl.arg(front.target.to_string()))
    };
    if Command::new("curl").arg("--version").output().is_err() {
        return skipped(TEST, "there is no curl");
    }
    let expected = r#"{"body":"BQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQU="}"#;
    let header = front.post(body.clone()).authorization.unwrap();
    assert_eq!(String::from_utf8_lossy(&curl(&header).stdout), expected);

    const SENDER: &str = "
import sys, mohawk
id, key, url, body, hashed = sys.argv[1:]
sender = mohawk.Sender({'id': id, 'key': key, 'algorithm': 'sha256'}, url, 'POST',
    content=body if hashed == 'yes' else mohawk.base.EmptyValue, content_type='application/json',
    always_hash_content=hashed == 'yes')
print(sender.request_header)";
    // `make setup` puts it there.
    let python = concat!(env!("CARGO_MANIFEST_DIR"), "/target/python/bin/python");
    let python = if Path::new(python).exists() {
        python
    } else {
        "python3"
    };
    for hashed in ["yes", "no"] {
        let mut python = Command::new(python);
        python.args([
            "-c",
            SENDER,
            &front.id,
            &front.key,
            &front.target.to_string(),
            &text,
            hashed,
        ]);
        let Ok(output) = python.output() else {
            return skipped(TEST, "no python3");
        };
        if !output.status.success() {
            let why = String::from_utf8_lossy(&output.stderr).into_owned();
            let last = why.lines().last().unwrap_or_default();
            return skipped(TEST, &format!("no mohawk (make setup): {last}"));
        }
        let header = String::from_utf8(output.stdout).unwrap();
        assert_eq!(header.contains("hash="), hashed == "yes");
        assert_eq!(
            String::from_utf8_lossy(&curl(header.trim()).stdout),
            expected
        );
    }
}
