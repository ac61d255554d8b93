//! Case 49: fewer officers than must approve.

use std::fs;
use std::process::Command;

use kekd::quorum::{OfficerRole, Operation, Target};
use kekd::types::Padding;

use crate::harness::{Kek, Rig, dek, must};
use crate::officers::Officers;

/// The rig made anew from a genesis that was changed: another instance, on an empty token.
fn born_again(rig: &Rig, change: impl Fn(String) -> String) {
    let so_pin = fs::read_to_string(rig.dir.join("so-pin")).unwrap();
    let old = |text: &str| {
        let line = text.lines().find(|line| line.starts_with("token_serial"));
        line.unwrap().to_owned()
    };
    fs::remove_dir_all(rig.dir.join("state")).unwrap();
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
    let slots = must(rig.token_command("softhsm2-util").arg("--show-slots"));
    let slots = String::from_utf8(slots.stdout).unwrap();
    let slot = slots
        .split("Slot ")
        .find(|slot| slot.contains("kekd-rig"))
        .unwrap();
    let serial = slot
        .lines()
        .find(|line| line.contains("Serial number"))
        .unwrap();
    let serial = serial.split(':').nth(1).unwrap().trim().to_owned();
    rig.edit("kekd.toml", |text| {
        text.replace(&old(&text), &format!("token_serial = \"{serial}\""))
    });
    rig.edit("genesis.toml", change);
    let genesis = rig.dir.join("genesis.toml");
    let mut init = rig.kekd("init");
    init.arg("--genesis").arg(&genesis);
    for officer in ["alice", "bob"] {
        let signature = rig.dir.join(format!("genesis.toml.{officer}.sig"));
        fs::remove_file(&signature).ok();
        fs::remove_file(rig.dir.join("genesis.toml.sig")).ok();
        let mut sign = Command::new("ssh-keygen");
        sign.args(["-q", "-Y", "sign", "-n", "genesis@kekd", "-f"]);
        must(
            sign.arg(rig.dir.join("officers").join(officer))
                .arg(&genesis),
        );
        fs::rename(rig.dir.join("genesis.toml.sig"), &signature).unwrap();
        init.arg("--signature").arg(signature);
    }
    must(&mut init);
}

/// Without the officers of these names. Nothing of theirs is in another table.
fn without(genesis: &str, names: &[&str]) -> String {
    let is_theirs = |table: &&str| {
        names
            .iter()
            .any(|name| table.contains(&format!("\nname = \"{name}\"\n")))
    };
    let tables = genesis.split("\n\n");
    tables
        .filter(|table| !is_theirs(table))
        .collect::<Vec<_>>()
        .join("\n\n")
}

#[tokio::test]
async fn officers_below_m() {
    let rig = Rig::stopped();
    born_again(&rig, |genesis| without(&genesis, &["erin", "frank"]));
    rig.start();
    let client = rig.client("lkm-1").await;
    let kek = Kek::of(&client, "recordings").await;
    let answer = client.unwrap(kek.call(Padding::OaepSha1, &[9; 32])).await;
    assert_eq!(dek(&answer.unwrap().release), [9; 32]);

    let officers = Officers::of(&rig).await;
    let warnings = officers.governance().await.warnings;
    let few = "3 of policy-officer must propose and approve, and there are 1";
    let said = warnings.iter().find(|said| said.contains(few));
    let said = said.unwrap_or_else(|| panic!("{warnings:?}"));
    assert!(said.contains("change-officers or the recovery set can mend it"));
    // What custodians and all officers decide on goes on: here is how it is mended.
    let stop = Target::Kek("recordings".parse().unwrap());
    officers.suspend("dave", stop.clone()).await.unwrap();
    officers.enact(Operation::Reinstate(stop)).await.unwrap();
    let mut set = officers.in_office().await;
    for name in ["erin", "frank"] {
        set.push(super::set::officer(
            &rig,
            name,
            name,
            OfficerRole::PolicyOfficer,
        ));
    }
    let operation = Operation::ChangeOfficers { officers: set };
    let id = officers.propose("alice", operation).await.unwrap();
    for name in ["erin", "frank"] {
        officers.prove_possession(name, id).await.unwrap();
    }
    for name in ["bob", "dave"] {
        officers.approve(name, id).await.unwrap();
    }
    super::lock_ended(&officers, id).await;
    officers.execute("alice", id).await.unwrap();
    let warnings = officers.governance().await.warnings;
    assert!(
        !warnings.iter().any(|said| said.contains(few)),
        "{warnings:?}"
    );
    let identity = "spiffe://kekd.test/lkm-3".parse().unwrap();
    let kek = "recordings".parse().unwrap();
    let grant = Operation::GrantUnwrap { identity, kek };
    officers.enact(grant).await.unwrap();
}
