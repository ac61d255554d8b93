//! Abuse of the set of officers: keys that count twice, people who are no officers any more, people
//! who never showed that they hold a key.

use std::process::Command;

use kekd::quorum::{
    APPROVAL_NAMESPACE, Officer, OfficerKey, OfficerRole, Operation, PROPOSAL_NAMESPACE, Target,
};

use super::{forbid, lock_ended, refused};
use crate::harness::{Rig, must};
use crate::officers::Officers;

/// Makes a key pair where the rig's officers have theirs.
fn key_of(rig: &Rig, name: &str) {
    let mut keygen = Command::new("ssh-keygen");
    keygen.args(["-q", "-t", "ed25519", "-N", "", "-C", name, "-f"]);
    must(keygen.arg(rig.dir.join("officers").join(name)));
}

impl Officers<'_> {
    /// The officers there are.
    pub(super) async fn in_office(&self) -> Vec<Officer> {
        let governance = self.governance().await;
        let officers = governance.officers.into_iter();
        let officers = officers.filter(|officer| officer.role != "recovery");
        let officer = |officer: kekd::proto::v1::Officer| Officer {
            name: officer.name,
            role: officer.role.parse().unwrap(),
            key: OfficerKey::from_openssh(&officer.key).unwrap(),
        };
        officers.map(officer).collect()
    }
}

fn custodian(rig: &Rig, name: &str, key: &str) -> Officer {
    officer(rig, name, key, OfficerRole::KeyCustodian)
}

/// An officer with the public key that lies in the rig under a name.
pub(super) fn officer(rig: &Rig, name: &str, key: &str, role: OfficerRole) -> Officer {
    let file = rig.dir.join("officers").join(format!("{key}.pub"));
    let text = std::fs::read_to_string(file).unwrap();
    let words: Vec<&str> = text.split_whitespace().take(2).collect();
    Officer {
        name: name.to_owned(),
        role,
        key: OfficerKey::from_openssh(&words.join(" ")).unwrap(),
    }
}

/// Case 39.
#[tokio::test]
async fn two_officers_with_one_key() {
    let rig = Rig::serving();
    let officers = Officers::of(&rig).await;
    key_of(&rig, "judy");
    let mut set = officers.in_office().await;
    set.push(custodian(&rig, "judy", "judy"));
    let honest = officers.draft("alice", Operation::ChangeOfficers { officers: set });
    let honest = String::from_utf8(honest.await.text().to_vec()).unwrap();
    let key = |name: &str| {
        let of = custodian(&rig, name, name).key.to_openssh();
        of.split(' ').nth(1).unwrap().to_owned()
    };
    // Bob's key under a second name; no library of ours would write this down.
    let twice = honest.replace(&key("judy"), &key("bob"));
    assert_ne!(twice, honest);
    let signature = officers.sign("alice", PROPOSAL_NAMESPACE, twice.as_bytes());
    let answer = officers.client.propose(twice.into_bytes(), signature).await;
    refused(answer, "key");
    // And one of the recovery set, who would count in both.
    let mut set = officers.in_office().await;
    set.push(custodian(&rig, "judy", "grace"));
    let recovery = officers.propose("alice", Operation::ChangeOfficers { officers: set });
    refused(recovery.await, "recovery set");
}

/// Cases 40 and 41: carol leaves while her approvals are in open proposals and in her pocket.
#[tokio::test]
async fn a_removed_officer() {
    let rig = Rig::serving();
    let officers = Officers::of(&rig).await;
    key_of(&rig, "judy");
    let approved = officers.propose("alice", forbid()).await.unwrap();
    for officer in ["bob", "carol"] {
        officers.approve(officer, approved).await.unwrap();
    }
    let mut set = officers.in_office().await;
    set.retain(|officer| officer.name != "carol");
    set.push(custodian(&rig, "judy", "judy"));
    let operation = Operation::ChangeOfficers { officers: set };
    let id = officers.propose("alice", operation).await.unwrap();
    for officer in ["bob", "carol"] {
        officers.approve(officer, id).await.unwrap();
    }
    lock_ended(&officers, id).await;
    // Case 47: a new set without proof.
    let unproven = officers.execute("alice", id).await;
    refused(unproven, "have not proved that they hold their keys: judy");
    let by_bob = officers.prove_possession("bob", id).await;
    refused(by_bob, "the signature is refused");
    officers.prove_possession("judy", id).await.unwrap();
    officers.execute("alice", id).await.unwrap();

    refused(
        officers.execute("alice", approved).await,
        "the proposal is cancelled",
    );
    let proposal = officers.draft("alice", forbid()).await;
    let by_carol = officers.sign("carol", APPROVAL_NAMESPACE, proposal.text());
    let next = officers.put(&proposal).await.unwrap();
    let nobody = "no officer has the key";
    refused(officers.client.approve(next.0, by_carol).await, nobody);
    refused(officers.veto("carol", next).await, nobody);
    refused(officers.propose("carol", forbid()).await, nobody);
    refused(officers.suspend("carol", Target::All).await, nobody);
    officers.approve("bob", next).await.unwrap();
    refused(officers.execute("carol", next).await, nobody);
    officers.approve("judy", next).await.unwrap();
    officers.execute("judy", next).await.unwrap();
}
