//! Every refusal to start: nothing is created, adopted or repaired because something was missing, and
//! the message says what was expected, what was found and what to do.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use crate::harness::{KEKCTL, KEKD, Kek, Rig, copy, must};

/// Asserts that the daemon refuses to start and that its message says all of this.
fn refuses(rig: &Rig, said: &[&str]) {
    let log = rig.start_refused();
    for words in said {
        assert!(
            log.contains(words),
            "the refusal does not say {words:?}:\n{log}"
        );
    }
}

fn state(rig: &Rig, file: &str) -> PathBuf {
    rig.dir.join("state").join(file)
}

/// A token of the same module with another label, and its serial number.
fn other_token(rig: &Rig, label: &str) -> String {
    must(rig.token_command("softhsm2-util").args([
        "--init-token",
        "--free",
        "--label",
        label,
        "--pin",
        "1234567",
        "--so-pin",
        "12345678",
    ]));
    let slots = must(rig.token_command("softhsm2-util").arg("--show-slots"));
    let text = String::from_utf8(slots.stdout).unwrap();
    let slot = text
        .split("Slot ")
        .find(|slot| slot.contains(label))
        .unwrap();
    let line = slot
        .lines()
        .find(|line| line.contains("Serial number"))
        .unwrap();
    line.split(':').nth(1).unwrap().trim().to_owned()
}

#[test]
fn a_token_that_is_not_there() {
    let rig = Rig::stopped();
    rig.edit("kekd.toml", |text| {
        text.replace("kekd-rig", "kekd-elsewhere")
    });
    refuses(&rig, &["kekd-elsewhere", "hsm.token_label", "kekd-rig"]);
}

#[test]
fn another_token_than_the_ledgers() {
    let rig = Rig::stopped();
    let serial = other_token(&rig, "second");
    fs::write(rig.dir.join("pin"), "1234567\n").unwrap();
    rig.edit("kekd.toml", |text| {
        let old = text
            .lines()
            .find(|line| line.starts_with("token_serial"))
            .unwrap()
            .to_owned();
        text.replace(&old, &format!("token_serial = \"{serial}\""))
            .replace("token_label = \"kekd-rig\"", "token_label = \"second\"")
    });
    refuses(
        &rig,
        &[
            "expected the token \"kekd-rig\"",
            "found the token \"second\"",
        ],
    );
}

#[test]
fn a_missing_ledger() {
    let rig = Rig::stopped();
    fs::remove_file(state(&rig, "ledger.db")).unwrap();
    refuses(&rig, &["ledger.db; found no file", "backup", "kekd init"]);
    assert!(
        !state(&rig, "ledger.db").exists(),
        "a ledger was born by accident"
    );
}

#[test]
fn a_missing_audit_log() {
    let rig = Rig::stopped();
    fs::remove_file(state(&rig, "audit.db")).unwrap();
    refuses(&rig, &["audit.db", "missing"]);
    assert!(
        !state(&rig, "audit.db").exists(),
        "an audit log was born by accident"
    );
}

/// Runs SQL on the stopped ledger, with the library kekd itself carries.
fn rewrite_ledger(rig: &Rig, sql: &str) {
    let ledger = rusqlite::Connection::open(state(rig, "ledger.db")).unwrap();
    ledger.execute_batch(sql).unwrap();
}

#[test]
fn a_shorter_ledger() {
    let rig = Rig::stopped();
    rewrite_ledger(
        &rig,
        "DELETE FROM entry WHERE idx = (SELECT max(idx) FROM entry)",
    );
    refuses(&rig, &["ledger", "expected", "found"]);
}

#[test]
fn an_older_ledger_with_its_own_good_checkpoint() {
    // A whole ledger of the same instance that ends earlier is what a restored backup is. The first
    // entry and a checkpoint over it alone cannot be forged without the HSM, so the anchor is moved
    // ahead instead, as later entries would have done.
    let rig = Rig::stopped();
    let ahead = rig.dir.join("anchor");
    let anchor = ["--type", "data", "--label", "kekd anchor"];
    let read = ["--read-object", "-o", ahead.to_str().unwrap()];
    must(&mut rig.pkcs11_tool(&[&anchor[..], &read].concat()));
    let text = fs::read_to_string(&ahead).unwrap();
    let moved = text.replace("size 5", "size 6");
    assert_ne!(
        text, moved,
        "the anchor does not say its size as expected: {text}"
    );
    fs::write(&ahead, moved).unwrap();
    let write = ["--private", "--write-object", ahead.to_str().unwrap()];
    must(&mut rig.pkcs11_tool(&[&anchor[..], &write].concat()));
    refuses(&rig, &["anchor", "6", "5"]);
}

#[test]
fn a_changed_byte() {
    let rig = Rig::stopped();
    rewrite_ledger(
        &rig,
        "UPDATE entry SET bytes = CAST(substr(bytes, 1, 40) || x'ff' || substr(bytes, 42) AS BLOB) \
         WHERE idx = 1",
    );
    refuses(&rig, &["entry 1"]);
}

#[test]
fn the_ledger_of_another_instance() {
    let (rig, other) = (Rig::stopped(), Rig::stopped());
    drop(other);
    let foreign = tempfile::tempdir().unwrap();
    let folder = foreign.path().join("rig");
    must(
        Command::new(KEKCTL)
            .args(["rig", "up", "--kek", "recordings=kek-rsa-3072"])
            .arg(&folder),
    );
    must(Command::new(KEKCTL).args(["rig", "stop"]).arg(&folder));
    fs::remove_dir_all(rig.dir.join("state")).unwrap();
    copy(&folder.join("state"), &rig.dir.join("state"));
    // The other rig's token has the same label and another serial number.
    refuses(&rig, &["serial"]);
}

/// The `CKA_ID` of the first KEK.
async fn first_id(rig: &Rig) -> String {
    rig.start();
    let kek = Kek::of(&rig.client("lkm-1").await, "recordings").await;
    rig.stop().await;
    kek.cka_id()
}

/// Plants a key pair under the label of the first KEK.
fn plant(rig: &Rig, id: &str) {
    let label = "kekd kek recordings/1";
    let pair = ["--keypairgen", "--key-type", "rsa:2048"];
    must(&mut rig.pkcs11_tool(&[&pair[..], &["--id", id, "--label", label]].concat()));
}

#[tokio::test]
async fn a_lookalike_key() {
    let rig = Rig::stopped();
    let id = first_id(&rig).await;
    plant(&rig, &id);
    refuses(&rig, &["look like 'kekd kek recordings/1'", "planted"]);
}

#[test]
fn a_lookalike_by_label_alone() {
    let rig = Rig::stopped();
    plant(&rig, "ff");
    refuses(&rig, &["look like 'kekd kek recordings/1'", "planted"]);
}

#[tokio::test]
async fn a_missing_key() {
    let rig = Rig::stopped();
    let id = first_id(&rig).await;
    let delete = ["--delete-object", "--type", "privkey", "--id", &id];
    must(&mut rig.pkcs11_tool(&delete));
    refuses(
        &rig,
        &[
            "holds no key 'kekd kek recordings/1'",
            "backup",
            "never makes",
        ],
    );
}

#[test]
fn a_wrong_pin_is_tried_once_and_never_again() {
    let rig = Rig::stopped();
    let good = fs::read_to_string(rig.dir.join("pin")).unwrap();
    fs::write(rig.dir.join("pin"), "0000000\n").unwrap();
    refuses(&rig, &["refused the PIN", "hsm.pin_file"]);
    refuses(&rig, &["no login was tried"]);
    refuses(&rig, &["no login was tried"]);
    // The right PIN is another PIN, so it gets its one try.
    fs::write(rig.dir.join("pin"), good).unwrap();
    rig.start();
}

#[test]
fn a_pin_others_may_read() {
    use std::os::unix::fs::PermissionsExt as _;
    let rig = Rig::stopped();
    let pin = rig.dir.join("pin");
    fs::set_permissions(&pin, fs::Permissions::from_mode(0o644)).unwrap();
    refuses(&rig, &["pin", "hsm.pin_file"]);
}

#[test]
fn a_module_that_is_not_there() {
    let rig = Rig::stopped();
    rig.edit("kekd.toml", |text| {
        text.replace("libsofthsm2.so", "libnothing.so")
    });
    refuses(&rig, &["libnothing.so", "hsm.module"]);
}

#[test]
fn a_second_daemon_on_one_state_folder() {
    let rig = Rig::serving();
    let second = Command::new(KEKD)
        .args(["serve", "--config"])
        .arg(rig.dir.join("kekd.toml"))
        .env("SOFTHSM2_CONF", rig.dir.join("softhsm2.conf"))
        .output()
        .unwrap();
    assert_eq!(second.status.code(), Some(70), "{second:?}");
    let said = String::from_utf8_lossy(&second.stderr).into_owned();
    assert!(said.contains("held by process"), "{said}");
}

#[test]
fn a_token_without_its_anchor() {
    let rig = Rig::stopped();
    let anchor = ["--type", "data", "--label", "kekd anchor"];
    must(&mut rig.pkcs11_tool(&[&["--delete-object"], &anchor[..]].concat()));
    refuses(&rig, &["kekd anchor", "found 0"]);
}

#[test]
fn a_token_that_was_initialised_again() {
    let rig = Rig::stopped();
    let serial_line = fs::read_to_string(rig.dir.join("kekd.toml")).unwrap();
    assert!(serial_line.contains("token_serial"));
    must(rig.token_command("softhsm2-util").args([
        "--init-token",
        "--token",
        "kekd-rig",
        "--label",
        "kekd-rig",
        "--pin",
        &rig.pin(),
        "--so-pin",
        &so_pin(&rig),
    ]));
    refuses(&rig, &["kekd-rig"]);
}

fn so_pin(rig: &Rig) -> String {
    fs::read_to_string(rig.dir.join("so-pin"))
        .unwrap()
        .trim()
        .to_owned()
}

/// `kekd init` with the signatures of these officers, which must be refused: what it says.
fn init_refused(rig: &Rig, officers: &[&str]) -> String {
    let mut command = Command::new(KEKD);
    command.arg("init").arg("--config");
    command.arg(rig.dir.join("kekd.toml")).arg("--genesis");
    command.arg(rig.dir.join("genesis.toml"));
    command.env("SOFTHSM2_CONF", rig.dir.join("softhsm2.conf"));
    for officer in officers {
        let signature = rig.dir.join(format!("genesis.toml.{officer}.sig"));
        command.arg("--signature").arg(signature);
    }
    let output = command.output().unwrap();
    assert!(!output.status.success());
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn init_refuses_where_an_instance_exists() {
    let rig = Rig::stopped();
    let said = init_refused(&rig, &["alice", "bob"]);
    assert!(said.contains("ledger.db"), "{said}");

    // Without the ledger, the keys in the token still say that something was here.
    fs::remove_dir_all(rig.dir.join("state")).unwrap();
    let said = init_refused(&rig, &["alice", "bob"]);
    assert!(said.contains("kekd "), "{said}");
    assert!(!state(&rig, "ledger.db").exists());
}

#[test]
fn init_needs_the_officers() {
    let rig = Rig::stopped();
    fs::remove_dir_all(rig.dir.join("state")).unwrap();
    let said = init_refused(&rig, &["alice"]);
    assert!(said.contains('2') && said.contains("alice"), "{said}");
    let said = init_refused(&rig, &["alice", "alice"]);
    assert!(said.contains("alice has signed already"), "{said}");
}
