//! Who is served first: interactive before bulk, bulk never not at all, and nothing that nobody waits
//! for. The token is held still by the fault module while calls come, so what is counted is the
//! order of audit records and never a time.

use std::time::Duration;

use kekd::client::{Client, ClientError, UnwrapCall};
use kekd::proto::v1::{Outcome, Record};
use kekd::types::Padding;
use tokio::task::JoinHandle;

use crate::faults::Faulty;
use crate::harness::{Kek, Rig, dek, reason};

/// At most so many records of work that was begun before stand before one that overtakes: what is in
/// the sessions, and one for the order in which neighbours reach the audit log.
const fn before(sessions: usize) -> usize {
    sessions + 1
}

/// A rig with this many sessions, and a token that can be held still for as long as a test likes.
fn faulty(sessions: usize, limits: &str) -> Faulty {
    let faulty = Faulty::of(Rig::stopped());
    let hsm = format!("sessions = {sessions}\ncall_timeout_ms = 60000");
    faulty.rig.set("hsm", &hsm);
    let limits = format!("request_timeout_ms_max = 60000\n{limits}");
    faulty.rig.set("limits", &limits);
    faulty.rig.start();
    faulty
}

async fn until_waiting(rig: &Rig, count: usize) {
    let operator = rig.client("operator").await;
    let mut found = 0;
    for _ in 0..6_000 {
        let token = operator.status().await.unwrap().token.unwrap();
        found = usize::try_from(token.queue_len).unwrap();
        if found == count {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("{found} calls wait, and not {count}");
}

fn named(call: UnwrapCall, name: &str) -> UnwrapCall {
    UnwrapCall {
        request_id: Some(name.parse().unwrap()),
        ..call
    }
}

/// A stream of `count` calls, each of which must be served.
fn export(client: &Client, kek: &Kek, count: usize) -> JoinHandle<()> {
    let (client, call) = (client.clone(), kek.call(Padding::OaepSha1, &[2; 32]));
    tokio::spawn(async move {
        let calls = (0..count).map(move |n| named(call.clone(), &format!("bulk-{n}")));
        let answers = client.unwrap_stream(tokio_stream::iter(calls)).await;
        let mut answers = answers.unwrap();
        let mut served = 0;
        while let Some(answer) = answers.next().await {
            let released = answer.unwrap().outcome.unwrap();
            assert_eq!(dek(&released.release), [2; 32]);
            served += 1;
        }
        assert_eq!(served, count);
    })
}

fn one(client: &Client, kek: &Kek, name: &str) -> JoinHandle<Result<[u8; 32], ClientError>> {
    let call = named(kek.call(Padding::OaepSha1, &[1; 32]), name);
    let client = client.clone();
    tokio::spawn(async move { Ok(dek(&client.unwrap(call).await?.release)) })
}

fn is_bulk(record: &Record) -> bool {
    record.request_id.starts_with("bulk-")
}

/// How many bulk records stand before this one.
fn bulk_before(records: &[Record], name: &str) -> usize {
    let at = records.iter().position(|record| record.request_id == name);
    records[..at.unwrap()].iter().filter(|r| is_bulk(r)).count()
}

/// Goal P9 without a clock: of the same caller and of another, beside a stream that fills all it may.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_interactive_call_waits_for_no_bulk_that_is_not_in_a_session() {
    for sessions in [1, 2] {
        let faulty = faulty(sessions, "");
        let exporter = faulty.rig.client("lkm-1").await;
        let other = faulty.rig.local().await;
        let kek = Kek::of(&exporter, "recordings").await;
        faulty.script("C_Decrypt * hold");
        let bulk = export(&exporter, &kek, 64);
        until_waiting(&faulty.rig, 64 - sessions).await;
        let calls = [
            one(&exporter, &kek, "same-caller"),
            one(&other, &kek, "other-caller"),
        ];
        until_waiting(&faulty.rig, 66 - sessions).await;
        faulty.script("");
        for call in calls {
            assert_eq!(call.await.unwrap().unwrap(), [1; 32]);
        }
        bulk.await.unwrap();
        let records = faulty.rig.records();
        for name in ["same-caller", "other-caller"] {
            let found = bulk_before(&records, name);
            assert!(
                found <= before(sessions),
                "{name}: {found} of 64 bulk calls went before it, with {sessions} sessions"
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bulk_is_not_starved_by_interactive_calls() {
    let faulty = faulty(1, "");
    let (flood, exporter) = (faulty.rig.local().await, faulty.rig.client("lkm-1").await);
    let kek = Kek::of(&exporter, "recordings").await;
    faulty.script("C_Decrypt * hold");
    // Fewer than one connection has streams: all of them wait at kekd.
    let calls: Vec<_> = (0..28)
        .map(|number| one(&flood, &kek, &format!("interactive-{number}")))
        .collect();
    until_waiting(&faulty.rig, 27).await;
    let bulk = export(&exporter, &kek, 3);
    until_waiting(&faulty.rig, 30).await;
    faulty.script("");
    for call in calls {
        assert_eq!(call.await.unwrap().unwrap(), [1; 32]);
    }
    bulk.await.unwrap();
    let records = faulty.rig.records();
    let turns: Vec<usize> = (0..records.len())
        .filter(|n| is_bulk(&records[*n]))
        .collect();
    for (number, at) in turns.into_iter().enumerate() {
        let latest = (number + 1) * 8 + before(1);
        assert!(
            at <= latest,
            "bulk call {number} is record {at}, not {latest} at most"
        );
    }
}

/// Deadlines that pass, and callers who hang up, while the only session is busy.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_nobody_waits_for_does_not_reach_the_hsm() {
    let faulty = faulty(1, "");
    let client = faulty.rig.client("lkm-1").await;
    let hurried = faulty
        .rig
        .client_with("lkm-1", Duration::from_secs(2))
        .await;
    let kek = Kek::of(&client, "recordings").await;
    faulty.script("C_Decrypt * hold");
    let begun = faulty.count("C_DecryptInit");
    let held = one(&client, &kek, "held");
    while faulty.count("C_DecryptInit") == begun {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let late: Vec<_> = (0..8)
        .map(|n| one(&hurried, &kek, &format!("late-{n}")))
        .collect();
    let gone: Vec<_> = (0..8)
        .map(|n| one(&client, &kek, &format!("gone-{n}")))
        .collect();
    until_waiting(&faulty.rig, 16).await;
    for call in &gone {
        call.abort();
    }
    for call in late {
        let error = call.await.unwrap().unwrap_err();
        let said =
            matches!(&error, ClientError::Refused(_)) && reason(&error) == "DEADLINE_EXCEEDED";
        // Where the client's own clock was quicker than kekd's answer, it says so itself.
        assert!(
            said || error.to_string().to_lowercase().contains("time"),
            "{error}"
        );
    }
    until_waiting(&faulty.rig, 0).await;
    faulty.script("");
    assert_eq!(held.await.unwrap().unwrap(), [1; 32]);
    let next = one(&client, &kek, "next").await.unwrap().unwrap();
    assert_eq!(next, [1; 32]);
    assert_eq!(faulty.count("C_DecryptInit"), begun + 2);
    let records = faulty.rig.records_with(Outcome::Unavailable);
    let reasons = |reason: &str| records.iter().filter(|r| r.reason == reason).count();
    assert_eq!(reasons("CALLER_LEFT"), 8);
    assert_eq!(reasons("DEADLINE_EXCEEDED"), 8);
    assert_eq!(faulty.rig.records_with(Outcome::Released).len(), 2);
}
