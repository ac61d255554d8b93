//! The file of credentials as its owner has it: made by `kekd-lkm credential new`, closed to others, or
//! handed over by systemd.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Command, Output};

use kekd::types::Padding;

use super::front::{Front, KEKD_LKM, body, dek_of};
use crate::harness::{Kek, Rig};

fn mode(path: &std::path::Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

fn check_config(front: &Front) -> Output {
    let mut command = Command::new(KEKD_LKM);
    command
        .args(["check-config", "--config"])
        .arg(front.config());
    command.output().unwrap()
}

#[tokio::test]
async fn a_credential_is_made_once_for_its_keks_and_its_file_is_closed_to_others() {
    let rig = Rig::serving();
    let mut front = Front::stopped(&rig);
    let file = rig.dir.join("credentials.toml");
    fs::remove_file(&file).unwrap();
    let new = ["new", "--id", "cloud-eu", "--kek", "recordings"];
    let output = front.credential(&new);
    assert!(output.status.success(), "{output:?}");
    assert_eq!(mode(&file), 0o600);
    let secret = String::from_utf8(output.stdout).unwrap().trim().to_owned();
    assert!(secret.len() >= 32, "{secret}");
    // A second time would take the first one's secret away.
    let again = front.credential(&new);
    assert_eq!(again.status.code(), Some(78), "{again:?}");
    let bulk = ["new", "--id", "export-eu", "--kek", "recordings", "--lane"];
    let output = front.credential(&[&bulk[..], &["bulk"]].concat());
    assert!(output.status.success(), "{output:?}");
    let list = String::from_utf8(front.credential(&["list"]).stdout).unwrap();
    let line = list.lines().find(|line| line.starts_with("export-eu"));
    assert!(line.is_some_and(|line| line.contains("bulk")), "{list}");
    assert!(check_config(&front).status.success());

    front.start();
    front.is_ready().await;
    let kek = Kek::of(&rig.client("lkm-1").await, "recordings").await;
    let good = || body(kek.keypair_id, &kek.wrap(Padding::OaepSha1, &[2; 32]));
    let call = || front.post_as("cloud-eu", &secret, "", good());
    assert_eq!(dek_of(&front.say(call()).await.unwrap()), [2; 32]);
    // Opened to others while it serves: said, and nothing new is taken from it.
    fs::set_permissions(&file, Permissions::from_mode(0o644)).unwrap();
    let text = fs::read_to_string(&file).unwrap();
    fs::write(&file, format!("{text}\n")).unwrap();
    front.says("/ready", "has mode 0644").await;
    assert_eq!(front.say(call()).await.unwrap().status, 200);
    let refused = check_config(&front);
    assert_eq!(refused.status.code(), Some(78), "{refused:?}");
    front.kill();
    front.start();
    assert_eq!(front.ended().await.code(), Some(78), "{}", front.log());
    fs::set_permissions(&file, Permissions::from_mode(0o600)).unwrap();
    fs::set_permissions(
        rig.dir.join("pki/server.key"),
        Permissions::from_mode(0o644),
    )
    .unwrap();
    let refused = check_config(&front);
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!(refused.status.code(), Some(78), "{said}");
    assert!(said.contains("https.private_key_file"), "{said}");
}

/// `LoadCredential=`: a relative path is below the folder that systemd names, and a file there is 0440.
#[tokio::test]
async fn a_credential_of_systemd_is_taken() {
    let rig = Rig::serving();
    let mut front = Front::stopped(&rig);
    let folder = rig.dir.join("loaded");
    fs::create_dir(&folder).unwrap();
    let loaded = folder.join("hawk.toml");
    fs::rename(rig.dir.join("credentials.toml"), &loaded).unwrap();
    fs::set_permissions(&loaded, Permissions::from_mode(0o440)).unwrap();
    front.set("hawk", "credentials_file", "hawk.toml");
    let folder = folder.to_str().unwrap().to_owned();
    front
        .environment
        .push(("CREDENTIALS_DIRECTORY".to_owned(), folder));
    front.start();
    front.is_ready().await;
    let kek = Kek::of(&rig.client("lkm-1").await, "recordings").await;
    let good = body(kek.keypair_id, &kek.wrap(Padding::OaepSha1, &[2; 32]));
    let reply = front.say(front.post(good)).await.unwrap();
    assert_eq!(dek_of(&reply), [2; 32]);
}
