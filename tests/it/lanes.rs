//! Who is served first: interactive before bulk, bulk never not at all, and nothing that nobody waits
//! for. The token is held still by the fault module while calls come and goes on by so many decryptions
//! as a test allows, so what is seen is who got those, and never a time or an order among neighbours.

use std::time::Duration;

use kekd::client::{Client, ClientError, Endpoint, UnwrapCall};
use kekd::proto::v1::{Outcome, Record};
use kekd::types::Padding;
use tokio::task::JoinHandle;

use crate::harness::faulty::{Faulty, until_called};
use crate::harness::{Kek, Rig, dek, reason};

/// The longest that kekd lets a call wait.
const HELD_MAX: Duration = Duration::from_secs(600);

/// A rig with this many sessions, and a token that can be held still for as long as a test likes.
fn faulty(sessions: usize, limits: &str) -> Faulty {
    let faulty = Faulty::of(Rig::stopped());
    let hsm = format!("sessions = {sessions}\ncall_timeout_ms = 60000");
    faulty.rig.set("hsm", &hsm);
    let limits = format!("request_timeout_ms_max = 600000\n{limits}");
    faulty.rig.set("limits", &limits);
    faulty.rig.start();
    faulty
}

/// One client over TLS and one over the Unix socket, whose calls outlast all the time they are held.
async fn two_patient(rig: &Rig) -> (Client, Client) {
    let socket = Endpoint::Unix(rig.dir.join("run/kekd.sock"));
    let local = Client::connect(socket, HELD_MAX).await.unwrap();
    (rig.client_with("lkm-1", HELD_MAX).await, local)
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

fn bulk_of(records: &[Record]) -> usize {
    let is_bulk = |record: &&Record| record.request_id.starts_with("bulk-");
    records.iter().filter(is_bulk).count()
}

/// Waits until so many calls have a record; who got those is decided by then.
async fn until_recorded(rig: &Rig, count: usize) -> Vec<Record> {
    let mut records = Vec::new();
    for _ in 0..6_000 {
        records = rig.records();
        if records.len() >= count {
            break;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let found: Vec<_> = records.iter().map(|r| (&r.request_id, &r.reason)).collect();
    assert_eq!(records.len(), count, "while the token is held: {found:?}");
    records
}

/// Waits until the token holds so many decryptions more than `before`.
async fn until_held(faulty: &Faulty, before: usize, count: usize) {
    until_called(&faulty.rig.dir, "C_Decrypt", before + count).await;
}

/// Goal P9 without a clock: of the same caller and of another, beside a stream that fills all it may.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_interactive_call_waits_for_no_bulk_that_is_not_in_a_session() {
    for sessions in [1, 2] {
        let faulty = faulty(sessions, "");
        let (exporter, other) = two_patient(&faulty.rig).await;
        let kek = Kek::of(&exporter, "recordings").await;
        let before = faulty.count("C_Decrypt");
        faulty.script("C_Decrypt * hold");
        let bulk = export(&exporter, &kek, 64);
        until_held(&faulty, before, sessions).await;
        until_waiting(&faulty.rig, 64 - sessions).await;
        let calls = [
            one(&exporter, &kek, "same-caller"),
            one(&other, &kek, "other-caller"),
        ];
        until_waiting(&faulty.rig, 66 - sessions).await;
        // The bulk that is in the sessions goes on, and twice what they take then. Two sessions that come
        // free at once have the next of each lane, whichever is quicker.
        for round in 1..=2 {
            faulty.script("C_Decrypt * hold");
            until_held(&faulty, before, sessions * (round + 1)).await;
            until_waiting(&faulty.rig, 66 - sessions * (round + 1)).await;
        }
        faulty.script("C_Decrypt * hold");
        let records = until_recorded(&faulty.rig, sessions * 3).await;
        assert_eq!(
            records.len() - bulk_of(&records),
            2,
            "of {sessions} sessions"
        );
        for call in calls {
            assert_eq!(call.await.unwrap().unwrap(), [1; 32]);
        }
        faulty.script("");
        bulk.await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bulk_is_not_starved_by_interactive_calls() {
    let faulty = faulty(1, "");
    let (exporter, flood) = two_patient(&faulty.rig).await;
    let kek = Kek::of(&exporter, "recordings").await;
    let before = faulty.count("C_Decrypt");
    faulty.script("C_Decrypt * hold");
    // Fewer than one connection has streams: all of them wait at kekd.
    let calls: Vec<_> = (0..28)
        .map(|number| one(&flood, &kek, &format!("interactive-{number}")))
        .collect();
    until_held(&faulty, before, 1).await;
    until_waiting(&faulty.rig, 27).await;
    let bulk = export(&exporter, &kek, 3);
    until_waiting(&faulty.rig, 30).await;
    // Those in the session and at the door came before any bulk; of eight turns after them the last is
    // bulk. Counted between two such turns: whose turn it is may be overtaken by the next on its way.
    for (turns, done) in [(5, 6), (7, 14), (7, 22), (7, 30)] {
        faulty.script(&format!("C_Decrypt {} hold", turns + 1));
        let records = until_recorded(&faulty.rig, done).await;
        assert_eq!(bulk_of(&records), (done - 2) / 8, "of {done}");
        until_held(&faulty, before, done + 1).await;
    }
    faulty.script("");
    for call in calls {
        assert_eq!(call.await.unwrap().unwrap(), [1; 32]);
    }
    bulk.await.unwrap();
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
    until_called(&faulty.rig.dir, "C_DecryptInit", begun + 1).await;
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
        let is_own = matches!(error, ClientError::DeadlineExceeded { .. });
        assert!(said || is_own, "{error}");
    }
    until_waiting(&faulty.rig, 0).await;
    faulty.script("");
    assert_eq!(held.await.unwrap().unwrap(), [1; 32]);
    let next = one(&client, &kek, "next").await.unwrap().unwrap();
    assert_eq!(next, [1; 32]);
    assert_eq!(faulty.count("C_DecryptInit"), begun + 2);
    let records = faulty.rig.records_with(Outcome::Unavailable);
    let reasons = |reason: &str| records.iter().filter(|r| r.reason == reason).count();
    // Whose own clock was quicker has left too.
    let left = reasons("CALLER_LEFT");
    assert!(left >= 8, "{left} have left");
    assert_eq!(left + reasons("DEADLINE_EXCEEDED"), 16);
    assert_eq!(faulty.rig.records_with(Outcome::Released).len(), 2);
}
