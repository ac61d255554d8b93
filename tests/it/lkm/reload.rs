//! Credentials and certificates that change while the front-end serves.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use kekd::types::Padding;

use super::faults::load;
use super::front::{Front, body};
use crate::harness::{Kek, Rig, copy, must};

#[tokio::test]
async fn a_secret_is_rotated_without_a_gap_and_a_replay_stays_one() {
    let rig = Rig::serving();
    let front = Front::serving(&rig).await;
    let kek = Kek::of(&rig.client("lkm-1").await, "recordings").await;
    let body = || body(kek.keypair_id, &kek.wrap(Padding::OaepSha1, &[6; 32]));
    let status = async |key: &str| {
        let call = front.post_as(&front.id, key, "", body());
        front.say(call).await.unwrap().status.as_u16()
    };
    let before = front.post(body());
    assert_eq!(front.say(before.clone()).await.unwrap().status, 200);
    // How often it was said that the newer of two secrets is in use.
    let said_newer = || {
        let newer = "what=\"secret\" met=\"newer\"";
        front.log().matches(newer).count()
    };
    let rotate = || {
        let output = front.credential(&["rotate", "--id", &front.id]);
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    };
    assert_eq!(said_newer(), 0, "there is one secret");

    let newer = rotate();
    let comes_to = async |key: &str, expected: u16| {
        for _ in 0..200 {
            if status(key).await == expected {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("the credential never came to {expected}: {}", front.log());
    };
    comes_to(&newer, 200).await;
    assert_eq!(said_newer(), 1, "{}", front.log());
    assert_eq!(
        status(&front.key).await,
        200,
        "the older secret is live still"
    );
    assert_eq!(
        front.say(before).await.unwrap().status,
        401,
        "a reload let a replay in"
    );

    let output = front.credential(&["rotate", "--id", &front.id, "--finish"]);
    assert!(output.status.success(), "{output:?}");
    comes_to(&front.key, 401).await;
    assert_eq!(status(&newer).await, 200);
    // Once more in the same process: it is said anew, and not before the newest is used.
    let newest = rotate();
    front.says_in_log("were loaded again", 3).await;
    assert_eq!(status(&newer).await, 200);
    assert_eq!(said_newer(), 1, "{}", front.log());
    assert_eq!(status(&newest).await, 200);
    assert_eq!(said_newer(), 2, "{}", front.log());

    let list = front.credential(&["list"]);
    let said = String::from_utf8(list.stdout).unwrap();
    assert!(said.contains(&front.id) && !said.contains(&newer), "{said}");
    assert!(!front.log().contains(&newer) && !front.log().contains(&front.key));
}

#[tokio::test]
async fn a_file_that_does_not_serve_changes_nothing() {
    let rig = Rig::serving();
    let front = Front::serving(&rig).await;
    let kek = Kek::of(&rig.client("lkm-1").await, "recordings").await;
    let good = || front.post(body(kek.keypair_id, &kek.wrap(Padding::OaepSha1, &[6; 32])));
    let file = rig.dir.join("credentials.toml");
    fs::write(&file, "nothing of the kind").unwrap();
    for _ in 0..200 {
        if front.log().contains("stays in force") {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(
        front.log().contains("is not a file of credentials"),
        "{}",
        front.log()
    );
    assert_eq!(front.say(good()).await.unwrap().status, 200);
}

/// A new certificate of the rig's authority for the front-end, and its key.
fn issued(rig: &Rig, name: &str) -> (PathBuf, PathBuf) {
    let (dir, pki) = (rig.dir.join(name), rig.dir.join("pki"));
    fs::create_dir(&dir).unwrap();
    fs::write(dir.join("ext"), "subjectAltName=IP:127.0.0.1\n").unwrap();
    let openssl = |arguments: &str, more: &[(&str, &Path)]| {
        let mut command = Command::new("openssl");
        command.args(arguments.split(' ')).current_dir(&dir);
        for (option, path) in more {
            command.arg(option).arg(path);
        }
        must(&mut command);
    };
    openssl(
        "req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -noenc -keyout key -out csr -subj /CN=lkm",
        &[],
    );
    let (ca, ca_key) = (pki.join("ca.crt"), pki.join("ca.key"));
    openssl(
        "x509 -req -in csr -days 2 -extfile ext -out crt",
        &[("-CA", &ca), ("-CAkey", &ca_key)],
    );
    (dir.join("crt"), dir.join("key"))
}

/// Puts a file in the place of another, in one step and with its mode.
fn replace(new: &Path, old: &Path) {
    let beside = old.with_extension("new");
    fs::copy(new, &beside).unwrap();
    fs::rename(&beside, old).unwrap();
}

async fn comes(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    for _ in 0..600 {
        if is_so().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("it never came that {what}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_is_replaced_under_load_and_no_request_fails() {
    let rig = Rig::serving();
    let mut front = Front::stopped(&rig);
    let (certificate, key) = (rig.dir.join("lkm.crt"), rig.dir.join("lkm.key"));
    copy(&rig.dir.join("pki/server.crt"), &certificate);
    copy(&rig.dir.join("pki/server.key"), &key);
    front.set("https", "certificate_file", certificate.to_str().unwrap());
    front.set("https", "private_key_file", key.to_str().unwrap());
    // New connections all the while, and so handshakes.
    front.set("limits", "connection_age_ms_max", 1_000);
    front.start();
    front.is_ready().await;
    let kek = Kek::of(&rig.client("lkm-1").await, "recordings").await;
    let (load, callers) = load(&front, &kek, &front.id, &front.key);
    let before = front.certificate().await;
    for name in ["second", "third"] {
        load.goes_on().await;
        let (new, new_key) = issued(&rig, name);
        replace(&new_key, &key);
        // Until both fit, nothing changes, and it is said.
        front.says("/ready", "do not serve together").await;
        front.says("/metrics", "kekd_lkm_files_faulty 1").await;
        assert!(front.local("/ready").contains("200 OK"));
        replace(&new, &certificate);
        front.says("/metrics", "kekd_lkm_files_faulty 0").await;
        let pem = fs::read(&new).unwrap();
        let expected = pem_der(&pem);
        comes("the new certificate is shown", async || {
            front.certificate().await == expected
        })
        .await;
        assert_ne!(expected, before);
        load.goes_on().await;
    }
    // A file that is cut off: what is in force stays, and the alarm is in the log, too.
    let whole = fs::read(&certificate).unwrap();
    let shown = front.certificate().await;
    fs::write(&certificate, &whole[..whole.len() / 2]).unwrap();
    front.says("/ready", "https.certificate_file").await;
    assert_eq!(front.certificate().await, shown);
    load.goes_on().await;
    assert!(
        front
            .log()
            .contains("what was loaded before stays in force")
    );
    fs::write(&certificate, &whole).unwrap();
    front.says("/metrics", "kekd_lkm_files_faulty 0").await;
    assert!(!front.local("/ready").contains("https.certificate_file"));
    load.ends(callers).await;
    load.lost_nothing("a new certificate cost requests");
    assert_eq!(load.told_to_wait(), 0, "a request failed meanwhile");
}

fn pem_der(pem: &[u8]) -> Vec<u8> {
    use rustls_pki_types::CertificateDer;
    use rustls_pki_types::pem::PemObject as _;
    CertificateDer::from_pem_slice(pem).unwrap().to_vec()
}

/// Towards kekd the files are read for each connection: kekd ends those once an hour.
#[tokio::test(flavor = "multi_thread")]
async fn the_certificate_towards_kekd_is_read_for_each_connection() {
    let rig = Rig::serving();
    let mut front = Front::stopped(&rig);
    let (certificate, key) = (rig.dir.join("client.crt"), rig.dir.join("client.key"));
    let take = |name: &str| {
        let files = rig.files(name);
        replace(&files.private_key, &key);
        replace(&files.certificate, &certificate);
    };
    take("stranger");
    front.set("kekd", "certificate_file", certificate.to_str().unwrap());
    front.set("kekd", "private_key_file", key.to_str().unwrap());
    front.start();
    front.says("/ready", "CALLER_UNKNOWN").await;
    take("lkm-1");
    rig.stop().await;
    rig.start();
    front.is_ready().await;
    let kek = Kek::of(&rig.client("lkm-1").await, "recordings").await;
    let good = || front.post(body(kek.keypair_id, &kek.wrap(Padding::OaepSha1, &[6; 32])));
    assert_eq!(front.say(good()).await.unwrap().status, 200);
    // One that cannot be read: told, and mended without a restart.
    fs::write(&certificate, "no certificate").unwrap();
    rig.stop().await;
    rig.start();
    let reply = front.say(good()).await.unwrap();
    assert_eq!(reply.status, 503);
    front.says("/ready", "client.crt").await;
    take("lkm-1");
    front.is_ready().await;
    comes("it answers again", async || {
        front.say(good()).await.unwrap().status == 200
    })
    .await;
}
