//! The audit log seen from outside: over AuditService and kekctl by an auditor, as a copy offline, and
//! against a token that has seen a newer one.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use kekd::client::ClientError;
use kekd::proto::v1;
use kekd::proto::v1::get_audit_proof_request::What;
use kekd::types::Padding;
use prost::Message as _;
use rusqlite::Connection;

use crate::answers::{lines, refused, refused_because};
use crate::harness::{Kek, PATIENCE, Rig, must, reason};

/// A rig whose audit log is signed ten times a second.
fn rig() -> Rig {
    let rig = Rig::stopped();
    rig.set("audit", "checkpoint_interval_ms = 100");
    rig.start();
    rig
}

fn log_key(rig: &Rig) -> PathBuf {
    let dir = rig.dir.join("export");
    must(rig.auditor(&["ledger", "export"]).arg(&dir));
    dir.join("log-key.pem")
}

/// Three releases and one refusal.
async fn use_it(rig: &Rig) {
    let client = rig.client("lkm-1").await;
    let kek = Kek::of(&client, "recordings").await;
    for value in 0..3 {
        let call = kek.call(Padding::OaepSha1, &[value; 32]);
        client.unwrap(call).await.unwrap();
    }
    let mut junk = kek.call(Padding::OaepSha1, &[7; 32]);
    junk.keypair_id = "6f9619ff-8b86-4011-b42d-00cf4fc964ff".parse().unwrap();
    assert!(client.unwrap(junk).await.is_err());
}

/// Waits until a checkpoint covers this many records.
async fn signed(rig: &Rig, size: u64) -> String {
    let client = rig.client("auditor").await;
    let started = Instant::now();
    loop {
        match client.audit_checkpoint().await {
            Ok(note) if note.lines().nth(1) == Some(&size.to_string()) => return note,
            Ok(_) => {}
            Err(error) => assert_eq!(reason(&error), "NOT_SIGNED"),
        }
        assert!(started.elapsed() < PATIENCE, "no checkpoint: {}", rig.log());
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_auditor_asks_who_unwrapped_what_and_nobody_else_may() {
    let rig = rig();
    use_it(&rig).await;
    signed(&rig, 4).await;
    let today = "audit list --kek recordings --since 2026-01-01 --until 2100-01-01";
    let today = lines(&mut rig.auditor(&today.split(' ').collect::<Vec<_>>()));
    assert_eq!(today.len(), 3, "{today:?}");
    for line in &today {
        assert_eq!(line["outcome"], "released");
        assert_eq!(line["caller"], "spiffe://kekd.test/lkm-1");
    }
    let none = ["audit", "list", "--until", "2026-01-01"];
    assert!(lines(&mut rig.auditor(&none)).is_empty());
    let refusals = ["audit", "list", "--outcome", "refused"];
    let refusals = lines(&mut rig.auditor(&refusals));
    assert_eq!(refusals.len(), 1);
    assert_eq!(refusals[0]["reason"], "KEYPAIR_UNKNOWN");
    let name = "recordings".parse().unwrap();
    let kek = rig.client("auditor").await.get_kek(&name).await.unwrap();
    let usage = kek.versions[0].usage.clone().unwrap();
    let by_caller = usage
        .by_caller
        .iter()
        .map(|by| (by.caller.as_str(), by.unwraps));
    let by_caller: Vec<_> = by_caller.collect();
    assert_eq!(by_caller, [("spiffe://kekd.test/lkm-1", 3)]);
    let csv = must(&mut rig.auditor(&["audit", "export", "--format", "csv"])).stdout;
    assert_eq!(String::from_utf8(csv).unwrap().lines().count(), 5);

    for name in ["operator", "lkm-1", "stranger"] {
        let client = rig.client(name).await;
        let expected = match name {
            "stranger" => "CALLER_UNKNOWN",
            _ => "ROLE_NOT_ALLOWED",
        };
        let refused = [
            client
                .read_records(0, v1::RecordFilter::default())
                .await
                .err(),
            client.audit_checkpoint().await.err(),
            client.audit_proof(What::Index(0)).await.err(),
            client
                .follow_records(None, v1::RecordFilter::default())
                .await
                .err(),
        ];
        for error in refused {
            assert_eq!(reason(&error.unwrap()), expected, "{name}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn records_are_followed_as_they_are_written_until_the_node_stops() {
    let rig = rig();
    let client = rig.client("auditor").await;
    let filter = v1::RecordFilter {
        outcomes: vec![v1::Outcome::Released.into()],
        ..v1::RecordFilter::default()
    };
    let mut live = client.follow_records(None, filter).await.unwrap();
    use_it(&rig).await;
    for expected in 0..3 {
        let bytes = live.next().await.unwrap().unwrap();
        let record = v1::Record::decode(bytes.as_slice()).unwrap();
        assert_eq!(record.index, expected);
    }
    // From the beginning, and one that takes nothing for a while.
    let all = v1::RecordFilter::default();
    let mut again = client.follow_records(Some(0), all.clone()).await.unwrap();
    for expected in 0..4 {
        let bytes = again.next().await.unwrap().unwrap();
        assert_eq!(
            v1::Record::decode(bytes.as_slice()).unwrap().index,
            expected
        );
    }
    let mut many = Vec::new();
    let error = loop {
        // A connection has so many streams.
        let client = rig.client("auditor").await;
        match client.follow_records(None, all.clone()).await {
            Ok(live) => many.push((client, live)),
            Err(error) => break error,
        }
        assert!(many.len() < 100);
    };
    assert_eq!(reason(&error), "TOO_MANY_FOLLOWERS");
    drop(many);
    let (stopped, last) = tokio::join!(rig.stop(), live.next());
    let () = stopped;
    match last {
        Err(ClientError::Refused(refusal)) => assert_eq!(refusal.reason, "STOPPING"),
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_is_proved_online_and_from_a_copy() {
    let rig = rig();
    use_it(&rig).await;
    let note = signed(&rig, 4).await;
    let key = log_key(&rig);
    let key = ["--log-key", key.to_str().unwrap()];
    let proof = rig.dir.join("proof");
    let proof_name = proof.to_str().unwrap();
    must(
        rig.auditor(&["audit", "prove", "2", "--out", proof_name])
            .args(key),
    );
    let check = ["audit", "prove", "--check", proof_name];
    let told = lines(rig.auditor(&check).args(key));
    assert_eq!(
        (&told[0]["size"], &told[0]["record"]["index"]),
        (&4.into(), &2.into())
    );
    let text = fs::read_to_string(&proof).unwrap();
    assert!(text.ends_with(&note));
    fs::write(&proof, text.replace("index 2", "index 1")).unwrap();
    assert_eq!(refused(rig.auditor(&check).args(key)).0, 65);

    use_it(&rig).await;
    rig.stop().await;
    let state = rig.dir.join("state/audit.db");
    let copy = rig.dir.join("copy.db");
    fs::copy(&state, &copy).unwrap();
    let before = fs::read(&copy).unwrap();
    let copy = copy.to_str().unwrap();
    let old = rig.dir.join("old.note");
    fs::write(&old, note).unwrap();
    let verify = [
        "audit",
        "verify",
        copy,
        "--checkpoint",
        old.to_str().unwrap(),
    ];
    let report = lines(rig.auditor(&verify).args(key));
    // An orderly stop signs what is there.
    assert_eq!(
        (&report[0]["size"], &report[0]["signed"]),
        (&8.into(), &8.into())
    );
    assert_eq!(report[0]["signatures_verified"], true);
    let from_copy = ["audit", "prove", "7", "--file", copy];
    must(rig.auditor(&from_copy).args(key));
    assert_eq!(
        lines(&mut rig.auditor(&["audit", "list", "--file", copy])).len(),
        8
    );
    assert_eq!(fs::read(copy).unwrap(), before);
    assert_eq!(
        fs::read_dir(&rig.dir)
            .unwrap()
            .filter(|item| {
                let name = item.as_ref().unwrap().file_name();
                name.to_str().unwrap().starts_with("copy.db-")
            })
            .count(),
        0
    );

    let damaged = Connection::open(copy).unwrap();
    damaged
        .execute_batch(
            "DROP TRIGGER record_not_changed;
             UPDATE record SET bytes = CAST(bytes || x'00' AS BLOB) WHERE record_index = 5",
        )
        .unwrap();
    drop(damaged);
    let (exit, _, message) = refused_because(&mut rig.auditor(&["audit", "verify", copy]));
    assert_eq!(exit, 65);
    assert!(message.contains("record 5"), "{message}");
}

fn put_back(saved: &Path, state: &Path) {
    for suffix in ["-wal", "-shm"] {
        fs::remove_file(format!("{}{suffix}", state.display())).ok();
    }
    fs::copy(saved, state).unwrap();
}

/// The hole that a log without anchors has: an older copy put in place of the newest.
#[tokio::test(flavor = "multi_thread")]
async fn an_older_audit_log_is_refused_at_the_start() {
    let rig = rig();
    use_it(&rig).await;
    rig.stop().await;
    let state = rig.dir.join("state/audit.db");
    let (older, newest) = (rig.dir.join("older.db"), rig.dir.join("newest.db"));
    fs::copy(&state, &older).unwrap();
    rig.start();
    use_it(&rig).await;
    signed(&rig, 8).await;
    rig.stop().await;
    fs::copy(&state, &newest).unwrap();

    put_back(&older, &state);
    let said = rig.start_refused();
    assert!(
        said.contains("the token has seen 8 audit records, and there are 4"),
        "{said}"
    );
    // Cut behind the last checkpoint but one, and everything that tells of it.
    put_back(&newest, &state);
    let cut = Connection::open(&state).unwrap();
    cut.execute_batch(
        "DROP TRIGGER record_not_deleted; DROP TRIGGER leaf_not_deleted;
         DROP TRIGGER checkpoint_not_deleted;
         DELETE FROM record WHERE record_index >= 6; DELETE FROM leaf WHERE record_index >= 6;
         DELETE FROM checkpoint WHERE size > 6",
    )
    .unwrap();
    drop(cut);
    let said = rig.start_refused();
    assert!(
        said.contains("the token has seen 8 audit records, and there are 6"),
        "{said}"
    );
    put_back(&newest, &state);
    rig.start();
    assert_eq!(rig.records().len(), 8);
    rig.stop().await;

    // The newest is lost for good: accepted in writing, and on record for ever.
    put_back(&older, &state);
    let said = rig.start_refused();
    let root = said
        .split("root ")
        .nth(1)
        .unwrap()
        .split(')')
        .next()
        .unwrap();
    let instance = Connection::open(&state)
        .unwrap()
        .query_row("SELECT lower(hex(instance_id)) FROM meta", (), |row| {
            row.get::<_, String>(0)
        })
        .unwrap();
    let loss = format!("kekd-audit-loss-v1\ninstance {instance}\nsize 8\nroot {root}\n");
    fs::write(rig.dir.join("state/audit.loss"), loss).unwrap();
    rig.start();
    let lost = rig.records_with(v1::Outcome::RecordsLost);
    assert_eq!((lost.len(), lost[0].index, lost[0].lost_until), (1, 4, 8));
    use_it(&rig).await;
    signed(&rig, 9).await;
    rig.stop().await;
    rig.start();
    assert_eq!(rig.records().len(), 9);
}
