//! The ledger read from outside: over LedgerService, as an export before docs/verify-ledger.sh, as a
//! copy of the file, and entry by entry as proofs.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

use crate::answers::refused;
use crate::harness::{KEKCTL, Rig, must, reason};

fn auditor(rig: &Rig) -> Command {
    rig.auditor(&["ledger"])
}

fn exported(rig: &Rig) -> PathBuf {
    let dir = rig.dir.join("export");
    must(auditor(rig).arg("export").arg(&dir));
    dir
}

fn offline(args: &[&str]) -> Command {
    let mut command = Command::new(KEKCTL);
    command.arg("ledger").args(args);
    for variable in ["KEKD_ENDPOINT", "KEKD_SOCKET"] {
        command.env_remove(variable);
    }
    command
}

fn verified(path: &Path, more: &[&str]) -> Value {
    let mut command = offline(&["verify", path.to_str().unwrap(), "--output", "json"]);
    serde_json::from_slice(&must(command.args(more)).stdout).unwrap()
}

fn script(dir: &Path) -> Output {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/verify-ledger.sh");
    Command::new("sh").arg(script).arg(dir).output().unwrap()
}

fn files_in(dir: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for item in fs::read_dir(dir).unwrap() {
        let path = item.unwrap().path();
        match path.is_dir() {
            true => files.extend(files_in(&path)),
            false => files.push(path),
        }
    }
    files
}

#[tokio::test]
async fn an_export_is_verified_without_kekd_and_no_file_of_it_can_change() {
    let rig = Rig::serving();
    let dir = exported(&rig);
    let output = script(&dir);
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(said.starts_with("OK 5 entries, 2 signatures\n"), "{said}");

    let status = rig.client("auditor").await.status().await.unwrap();
    let report = verified(&dir, &[]);
    let instance = report["instance_id"].as_str().unwrap();
    assert!(said.contains(&format!("instance {instance}\n")));
    let shown: String = status
        .instance_id
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    assert_eq!(instance, shown);
    assert_eq!(report["log"][0]["by"], serde_json::json!(["alice", "bob"]));
    assert_eq!(report["log"].as_array().unwrap().len(), 5);

    for path in files_in(&dir) {
        let whole = fs::read(&path).unwrap();
        let mut changed = whole.clone();
        changed[whole.len() / 2] ^= 1;
        fs::write(&path, changed).unwrap();
        let output = script(&dir);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{path:?}: {said}");
        assert!(said.starts_with("REFUSED "), "{path:?}: {said}");
        if let Some(index) = path.to_str().unwrap().rsplit_once("entries/0000000") {
            let named = format!("REFUSED entry {}: ", &index.1[..1]);
            assert!(said.starts_with(&named), "{path:?}: {said}");
        }
        let found = refused(&mut offline(&["verify", dir.to_str().unwrap()]));
        assert_eq!(found, (65, "LEDGER_REFUSED".to_owned()), "{path:?}");
        fs::write(&path, whole).unwrap();
    }
    assert!(script(&dir).status.success());
    // Nothing is exported over it.
    let found = refused(auditor(&rig).arg("export").arg(&dir));
    assert_eq!(found, (73, "OUTPUT_EXISTS".to_owned()));
}

#[tokio::test]
async fn a_copy_of_the_file_is_verified_and_exported_offline() {
    let rig = Rig::serving();
    let dir = exported(&rig);
    rig.stop().await;
    let copy = rig.dir.join("copy.db");
    fs::copy(rig.dir.join("state/ledger.db"), &copy).unwrap();
    let before = fs::read(&copy).unwrap();
    let instance = fs::read_to_string(dir.join("instance")).unwrap();
    let checkpoint = dir.join("checkpoint");
    let more = [
        "--instance",
        instance.trim(),
        "--checkpoint",
        checkpoint.to_str().unwrap(),
    ];
    assert_eq!(verified(&copy, &more), verified(&dir, &more));
    assert_eq!(fs::read(&copy).unwrap(), before);

    let again = rig.dir.join("again");
    let from = ["--from", copy.to_str().unwrap()];
    must(offline(&["export", again.to_str().unwrap()]).args(from));
    must(Command::new("diff").arg("-r").arg(&dir).arg(&again));

    let copy = copy.to_str().unwrap();
    let other = "0".repeat(64);
    let mut command = offline(&["verify", copy, "--instance", &other]);
    assert_eq!(refused(&mut command), (65, "LEDGER_REFUSED".to_owned()));
    let mut command = offline(&["verify", "/nowhere"]);
    assert_eq!(refused(&mut command), (66, "INPUT_MISSING".to_owned()));
}

#[tokio::test]
async fn an_entry_is_proved_to_whoever_knows_the_log_key() {
    let rig = Rig::serving();
    let dir = exported(&rig);
    let key = dir.join("log-key.pem");
    let proof = rig.dir.join("entry.tlog-proof");
    must(auditor(&rig).args(["prove", "3", "--out"]).arg(&proof));
    let (proof_name, key_name) = (proof.to_str().unwrap(), key.to_str().unwrap());
    let check = ["prove", "--check", proof_name, "--log-key", key_name];
    let said = must(&mut offline(&check)).stdout;
    let said = String::from_utf8(said).unwrap();
    assert!(said.starts_with("entry 3 of 5 is proved"), "{said}");

    let text = fs::read_to_string(&proof).unwrap();
    fs::write(&proof, text.replace("index 3", "index 2")).unwrap();
    let found = refused(&mut offline(&check));
    assert_eq!(found, (65, "LEDGER_REFUSED".to_owned()));

    let client = rig.client("auditor").await;
    let error = client.ledger_proof(5).await.unwrap_err();
    assert_eq!(reason(&error), "ENTRY_UNKNOWN");
    let past = client.read_entries(u64::MAX).await.unwrap();
    assert_eq!((past.entries.len(), past.size), (0, 5));
    let error = rig.client("stranger").await.ledger_checkpoint().await;
    assert_eq!(reason(&error.unwrap_err()), "CALLER_UNKNOWN");
}
