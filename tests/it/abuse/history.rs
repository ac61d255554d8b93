//! Abuse of the ledger itself: older copies, edited and missing entries, and two nodes that write one
//! history. In `refusals.rs` are a token without its anchor, a changed byte, the ledger of another
//! instance, the token of another instance and a second daemon on one state folder.

use std::fs;
use std::path::Path;

use kekd::client::ClientError;
use kekd::quorum::ProposalId;

use super::forbid;
use crate::harness::{Rig, copy, must, reason};
use crate::officers::Officers;
use crate::token::Token;

/// The rig after one act, stopped, and its state folder from before the act.
async fn with_a_past() -> (Rig, std::path::PathBuf) {
    let rig = Rig::stopped();
    let past = rig.dir.join("past");
    copy(&rig.dir.join("state"), &past);
    rig.start();
    let officers = Officers::of(&rig).await;
    officers.enact(forbid()).await.unwrap();
    rig.stop().await;
    (rig, past)
}

fn refuses(rig: &Rig, said: &[&str]) {
    let log = rig.start_refused();
    for words in said {
        assert!(log.contains(words), "no {words:?} in:\n{log}");
    }
}

#[tokio::test]
async fn a_rollback_of_the_database_file() {
    let (rig, past) = with_a_past().await;
    let state = rig.dir.join("state");
    for file in fs::read_dir(&state).unwrap() {
        let path = file.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        if name.starts_with("ledger.db") {
            fs::remove_file(&path).unwrap();
        }
    }
    copy(&past.join("ledger.db"), &state);
    // Five entries, as the copy has, and nine that the anchor has seen.
    refuses(&rig, &["anchor", "9", "5"]);
}

#[tokio::test]
async fn a_database_replaced_by_an_older_copy_with_all_that_is_beside_it() {
    let (rig, past) = with_a_past().await;
    fs::remove_dir_all(rig.dir.join("state")).unwrap();
    copy(&past, &rig.dir.join("state"));
    refuses(&rig, &["anchor", "9", "5"]);
    // As it was is as it is: nothing was repaired or written.
    refuses(&rig, &["anchor", "9", "5"]);
}

fn rewrite(state: &Path, sql: &str) {
    let ledger = rusqlite::Connection::open(state.join("ledger.db")).unwrap();
    ledger.execute_batch(sql).unwrap();
}

#[tokio::test]
async fn an_entry_edited_in_place_or_removed_is_named() {
    let (rig, _) = with_a_past().await;
    let state = rig.dir.join("state");
    let whole = rig.dir.join("whole");
    copy(&state, &whole);
    // The proposal, an approval, the execution.
    for index in [5, 6, 8] {
        let edit = format!(
            "UPDATE entry SET bytes = CAST(substr(bytes, 1, 30) || CASE substr(bytes, 31, 1) \
             WHEN x'00' THEN x'01' ELSE x'00' END || substr(bytes, 32) AS BLOB) WHERE idx = {index}"
        );
        rewrite(&state, &edit);
        refuses(&rig, &[&format!("entry {index}")]);
        fs::remove_dir_all(&state).unwrap();
        copy(&whole, &state);
    }
    let close_the_gap = "UPDATE entry SET idx = idx + 100 WHERE idx > 6; \
                         UPDATE entry SET idx = idx - 101 WHERE idx > 100";
    for (sql, said) in [("", "entry 6"), (close_the_gap, "entries")] {
        rewrite(&state, &format!("DELETE FROM entry WHERE idx = 6; {sql}"));
        refuses(&rig, &[said]);
        fs::remove_dir_all(&state).unwrap();
        copy(&whole, &state);
    }
    rig.start();
}

/// A node of its own on a copy of the state, and on the same token.
fn twin(rig: &Rig) -> Rig {
    let twin = Rig::stopped();
    twin.edit("softhsm2.conf", |text| {
        text.replace(twin.dir.to_str().unwrap(), rig.dir.to_str().unwrap())
    });
    twin
}

async fn act(officers: &Officers<'_>) -> Result<ProposalId, ClientError> {
    officers.propose("alice", forbid()).await
}

#[tokio::test]
async fn two_nodes_that_append_at_once() {
    let rig = Rig::stopped();
    let other = twin(&rig);
    rig.start();
    other.start();
    let (one, two) = (Officers::of(&rig).await, Officers::of(&other).await);
    act(&one).await.unwrap();
    // The token has seen a history that the other node does not know.
    for _ in 0..2 {
        let refused = act(&two).await.err().unwrap();
        assert_eq!(reason(&refused), "LEDGER_UNAVAILABLE", "{refused}");
        assert!(refused.to_string().contains("anchor"), "{refused}");
    }
    assert_eq!(two.size().await, 5);
    act(&one).await.unwrap();
    // Nor does it serve, or start again.
    let operator = other.client("operator").await;
    while operator.status().await.unwrap().ready {
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    other.stop().await;
    refuses(&other, &["anchor"]);
    assert!(rig.client("operator").await.status().await.unwrap().ready);
}

/// What the one node does not see of the other's entry, it sees at its next one.
#[tokio::test]
async fn two_nodes_in_a_race() {
    let rig = Rig::stopped();
    let other = twin(&rig);
    rig.start();
    other.start();
    let (one, two) = (Officers::of(&rig).await, Officers::of(&other).await);
    let _either = tokio::join!(act(&one), act(&two));
    // Whoever was ahead, no longer do both write.
    let (first, second) = (act(&one).await, act(&two).await);
    assert!(first.is_err() || second.is_err(), "two histories go on");
    let (first, second) = (act(&one).await, act(&two).await);
    assert!(first.is_err() || second.is_err(), "two histories go on");
}

#[tokio::test]
async fn an_anchor_that_is_deleted_while_the_node_serves() {
    let rig = Rig::serving();
    let officers = Officers::of(&rig).await;
    act(&officers).await.unwrap();
    let anchor = ["--type", "data", "--label", "kekd anchor"];
    must(&mut rig.pkcs11_tool(&[&["--delete-object"], &anchor[..]].concat()));
    let refused = act(&officers).await.err().unwrap();
    assert_eq!(reason(&refused), "LEDGER_UNAVAILABLE", "{refused}");
    assert!(refused.to_string().contains("found 0"), "{refused}");
    let operator = rig.client("operator").await;
    while operator.status().await.unwrap().ready {
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    rig.stop().await;
    refuses(&rig, &["kekd anchor", "found 0"]);
}

/// Case 42: what was signed for a clone of the instance, which has gone another way since.
#[tokio::test]
async fn a_proposal_of_a_clone() {
    let (rig, clone) = (Rig::serving(), Rig::serving_on(Token::SoftHsm));
    let (officers, others) = (Officers::of(&rig).await, Officers::of(&clone).await);
    act(&officers).await.unwrap();
    act(&others).await.unwrap();
    let theirs = others.draft("alice", forbid()).await;
    super::refused(officers.put(&theirs).await, "it is of another history");
    let shorter = others.draft("alice", forbid()).await;
    others.put(&shorter).await.unwrap();
    let ahead = others.draft("alice", forbid()).await;
    super::refused(officers.put(&ahead).await, "it is of another history");
}
