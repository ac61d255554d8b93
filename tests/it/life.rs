//! The whole life of a KEK as officers live it: `docs/life.sh`, by kekctl and ssh-keygen alone, each
//! act first with one approval too few. What the script asserts on the way it says itself; here is
//! what is read out of its ledger afterwards, and what front ends ask while the keys change.

use std::fs;
use std::path::Path;
use std::process::Command;

use kekd::proto::v1;
use kekd::proto::v1::keys_service_client::KeysServiceClient;
use kekd::quorum::{Operation, OperationKind, Target};
use tonic::{Code, Status};

use crate::harness::{KEKCTL, Rig, must};
use crate::officers::Officers;

/// The statements of an export with this first line.
fn statements(export: &Path, head: &str) -> Vec<String> {
    let mut found = Vec::new();
    for signed in fs::read_dir(export.join("signed")).unwrap() {
        // An approval's statement is the proposal's, which its entry does not hold again.
        let text = fs::read_to_string(signed.unwrap().path().join("statement"));
        found.extend(text.ok().filter(|text| text.starts_with(head)));
    }
    found
}

#[test]
fn a_kek_lives_by_script_and_its_ledger_proves_it() {
    let rig = Rig::serving();
    let bin = Path::new(KEKCTL).parent().unwrap();
    let work = rig.dir.join("life");
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/life.sh");
    let output = must(
        Command::new("sh")
            .args(["-c", r#"PATH="$1:$PATH" exec sh "$2" "$3""#, "sh"])
            .arg(bin)
            .arg(script)
            .arg(&rig.dir)
            .env("LIFE", &work),
    );
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(said.contains("\nOK "), "{said}");

    // Every kind of operation but an import was put forward, and all but the destruction and what
    // the change of policy cancelled took effect.
    let export = work.join("ledger");
    let proposed = statements(&export, "kekd proposal v1\n");
    let executed = statements(&export, "kekd execution v1\n");
    for kind in OperationKind::ALL {
        let line = format!("\noperation {}\n", kind.name());
        let count = |texts: &[String]| texts.iter().filter(|text| text.contains(&line)).count();
        let (put_forward, done) = (count(&proposed), count(&executed));
        let found = (put_forward, done);
        if kind == OperationKind::ImportKek {
            assert_eq!(found, (0, 0));
        } else if kind == OperationKind::DestroyVersion {
            assert_eq!(found, (1, 0));
        } else if kind == OperationKind::RotateKek {
            assert_eq!(found, (14, 13));
        } else {
            assert!(put_forward > 0 && put_forward == done, "{line}: {found:?}");
        }
    }
    let after_none = proposed
        .iter()
        .filter(|text| text.contains("\nretires none\n"));
    assert_eq!(after_none.count(), 1);
    let text = fs::read_to_string(rig.dir.join("kekd.log")).unwrap();
    assert!(
        !text.contains("PRIVATE KEY"),
        "an officer's key is in the log"
    );
}

/// What new recordings of a queue are to be wrapped under: a KEK, and whether it is the fallback.
async fn look_up(rig: &Rig, queue: &str) -> Result<(String, bool), Status> {
    let request = v1::LookUpRecordingPolicyRequest {
        key: queue.to_owned(),
    };
    let mut keys = KeysServiceClient::new(rig.channel().await);
    let found = keys.look_up_recording_policy(request).await?.into_inner();
    let kek = found.kek.parse().unwrap();
    let versions = rig.client("auditor").await.get_kek(&kek).await.unwrap();
    let is_active = |version: &&v1::Version| version.state() == v1::VersionState::Active;
    let active = versions.versions.iter().find(is_active).unwrap();
    assert_eq!(active.keypair_id, found.keypair_id);
    Ok((found.kek, found.is_fallback))
}

#[tokio::test]
async fn recordings_go_to_the_fallback_while_their_kek_is_stopped() {
    let rig = Rig::serving();
    let officers = Officers::of(&rig).await;
    let kek = |name: &str| name.parse().unwrap();
    let none = look_up(&rig, "support-de").await.unwrap_err();
    assert_eq!(none.code(), Code::NotFound);

    let bind = Operation::BindRecordingPolicy {
        key: "support-de".to_owned(),
        kek: kek("recordings"),
        fallback: Some(kek("vault")),
    };
    officers.enact(bind).await.unwrap();
    let found = look_up(&rig, "support-de").await.unwrap();
    assert_eq!(found, ("recordings".to_owned(), false));

    let recordings = Target::Kek(kek("recordings"));
    officers.suspend("dave", recordings.clone()).await.unwrap();
    let found = look_up(&rig, "support-de").await.unwrap();
    assert_eq!(found, ("vault".to_owned(), true));
    officers.suspend("dave", Target::All).await.unwrap();
    let nothing = look_up(&rig, "support-de").await.unwrap_err();
    assert_eq!(nothing.code(), Code::FailedPrecondition, "{nothing:?}");

    for stop in [Target::All, recordings] {
        officers.enact(Operation::Reinstate(stop)).await.unwrap();
    }
    let found = look_up(&rig, "support-de").await.unwrap();
    assert_eq!(found, ("recordings".to_owned(), false));
    let key = "support-de".to_owned();
    let unbind = Operation::UnbindRecordingPolicy { key };
    officers.enact(unbind).await.unwrap();
    let none = look_up(&rig, "support-de").await.unwrap_err();
    assert_eq!(none.code(), Code::NotFound);
}
