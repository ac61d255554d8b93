//! What a caller may fail: wrapped DEKs that do not unwrap, counted before the HSM is touched, and
//! refusals that fill the audit log. Cases 2 and 54 of the list of fault tests of the design, as far
//! as the quota goes.

use std::sync::Arc;
use std::time::Duration;

use kekd::client::{Client, ClientError, Refusal, UnwrapCall};
use kekd::proto::v1::{GetStatusResponse, Outcome};
use kekd::types::Padding;
use tokio::task::JoinSet;

use crate::harness::faulty::Faulty;
use crate::harness::{Kek, Rig, dek, must, reason};

fn refusal(error: ClientError) -> Refusal {
    let ClientError::Refused(refusal) = error else {
        panic!("not a refusal: {error}");
    };
    *refusal
}

fn bad(kek: &Kek) -> UnwrapCall {
    kek.call_with(Padding::OaepSha1, vec![0; 384])
}

async fn good(client: &Client, kek: &Kek) -> Result<[u8; 32], ClientError> {
    let call = kek.call(Padding::OaepSha1, &[1; 32]);
    Ok(dek(&client.unwrap(call).await?.release))
}

async fn status(rig: &Rig) -> GetStatusResponse {
    rig.client("operator").await.status().await.unwrap()
}

/// Sixty-four callers at once with one identity: what reaches the HSM is exactly the quota.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_caller_fails_as_often_as_the_quota_says_and_no_more() {
    const QUOTA: usize = 20;
    let faulty = Faulty::of(Rig::stopped());
    let rig = &faulty.rig;
    rig.set("hsm", "sessions = 4");
    rig.set("limits", "failures_max = 20\nfailures_window_ms = 86400000");
    rig.start();
    let client = rig.client("lkm-1").await;
    let other = rig.local().await;
    let kek = Kek::of(&client, "recordings").await;
    let another_kek = Kek::of(&client, "legacy").await;

    let before = faulty.count("C_DecryptInit");
    let first = client.unwrap(bad(&kek)).await.err().unwrap();
    assert_eq!(reason(&first), "UNDECRYPTABLE");
    let cost = faulty.count("C_DecryptInit") - before;
    // Good ones cost nothing, however many.
    for _ in 0..2 * QUOTA {
        assert_eq!(good(&client, &kek).await.unwrap(), [1; 32]);
    }
    let before = faulty.count("C_DecryptInit");
    let mut calls = JoinSet::new();
    let wrapped = Arc::new(bad(&kek));
    for _ in 0..64 {
        let (client, wrapped) = (client.clone(), Arc::clone(&wrapped));
        calls.spawn(async move {
            let mut heard = Vec::new();
            for _ in 0..3 {
                let error = client.unwrap((*wrapped).clone()).await.err().unwrap();
                heard.push(refusal(error));
            }
            heard
        });
    }
    let heard = calls.join_all().await.concat();
    let (failed, refused): (Vec<_>, Vec<_>) = heard
        .into_iter()
        .partition(|refusal| refusal.reason == "UNDECRYPTABLE");
    assert_eq!(failed.len(), QUOTA - 1);
    assert_eq!(faulty.count("C_DecryptInit") - before, (QUOTA - 1) * cost);
    assert_eq!(rig.records_with(Outcome::Undecryptable).len(), QUOTA);
    for refusal in &refused {
        assert_eq!(refusal.reason, "FAILURE_QUOTA");
        assert_eq!(refusal.code, tonic::Code::ResourceExhausted);
        assert!(refusal.retry_delay.is_some_and(|delay| !delay.is_zero()));
    }

    // Good or bad makes no difference now; other KEKs and other callers make one.
    let spent = good(&client, &kek).await.unwrap_err();
    assert_eq!(refusal(spent).reason, "FAILURE_QUOTA");
    let elsewhere = another_kek.call(Padding::Pkcs1V15, &[1; 32]);
    assert_eq!(
        dek(&client.unwrap(elsewhere).await.unwrap().release),
        [1; 32]
    );
    assert_eq!(good(&other, &kek).await.unwrap(), [1; 32]);
    assert_eq!(
        reason(&other.unwrap(bad(&kek)).await.err().unwrap()),
        "UNDECRYPTABLE"
    );

    // The alarm, one record of it, and the rest counted.
    let refusals = refused.len() as u64 + 1;
    let status = status(rig).await;
    assert!(status.ready, "{:?}", status.problems);
    let [alarm] = status.oracle_alarms.as_slice() else {
        panic!("not one alarm: {:?}", status.oracle_alarms);
    };
    assert_eq!(
        (alarm.caller.as_str(), alarm.kek.as_str(), alarm.refused),
        ("spiffe://kekd.test/lkm-1", "recordings", refusals)
    );
    assert!(alarm.since_ms > status.started_at_ms);
    let said = |text: &str| text.contains("ORACLE ALARM") && text.contains("lkm-1");
    assert!(status.problems.iter().any(|problem| said(problem)));
    assert!(rig.log().lines().any(said));
    let recorded = rig.records_with(Outcome::Refused);
    assert_eq!(recorded.len(), 1, "one record of the alarm");
    assert_eq!(recorded[0].reason, "FAILURE_QUOTA");
    assert_eq!(recorded[0].hsm_us, 0);
    let counters = status.counters.unwrap();
    assert_eq!(counters.refusals_unrecorded, refusals - 1);
    let shown = must(rig.kekctl().arg("status"));
    assert!(said(&String::from_utf8_lossy(&shown.stdout)));
}

/// What was spent comes back, one after another, and the alarm goes with the last.
#[tokio::test]
async fn a_quota_recovers_and_its_alarm_ends() {
    let rig = Rig::stopped();
    rig.set("limits", "failures_max = 2\nfailures_window_ms = 3000");
    rig.start();
    let client = rig.client("lkm-1").await;
    let kek = Kek::of(&client, "recordings").await;
    let mut heard = Vec::new();
    while !heard.contains(&"FAILURE_QUOTA".to_owned()) {
        assert!(heard.len() < 100, "the quota is never spent");
        heard.push(refusal(client.unwrap(bad(&kek)).await.err().unwrap()).reason);
    }
    assert_eq!(status(&rig).await.oracle_alarms.len(), 1);
    while let Err(error) = good(&client, &kek).await {
        assert_eq!(reason(&error), "FAILURE_QUOTA");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let mut looks = 0;
    while !status(&rig).await.oracle_alarms.is_empty() {
        looks += 1;
        assert!(looks < 1_200, "the alarm does not end");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(rig.log().contains("the oracle alarm has ended"));
    let recorded = rig.records_with(Outcome::Refused).len();
    assert_eq!(recorded, 1, "one alarm, one record");
}

/// Refusals that cost a caller nothing fill its ration of the log and no more; good calls go on.
#[tokio::test]
async fn refusals_fill_a_ration_of_the_log_and_no_more() {
    const CALLS: usize = 200;
    let rig = Rig::stopped();
    rig.set("limits", "refusals_recorded_per_minute_max = 6");
    rig.start();
    let (client, other) = (rig.client("lkm-1").await, rig.local().await);
    let kek = Kek::of(&client, "recordings").await;
    let mut unknown = kek.call(Padding::OaepSha1, &[1; 32]);
    unknown.keypair_id = "6f9619ff-8b86-4011-b42d-00cf4fc964ff".parse().unwrap();
    let mut told = 0;
    for number in 0..CALLS {
        // What is malformed and what is unknown are refused in two places.
        let call = match number % 2 {
            0 => unknown.clone(),
            _ => kek.call_with(Padding::OaepSha1, vec![1; 100]),
        };
        let heard = refusal(client.unwrap(call).await.err().unwrap());
        if heard.reason == "REFUSED_TOO_OFTEN" {
            assert_eq!(heard.code, tonic::Code::ResourceExhausted);
            assert!(heard.retry_delay.is_some_and(|delay| !delay.is_zero()));
        } else {
            assert!(["KEYPAIR_UNKNOWN", "INVALID_REQUEST"].contains(&heard.reason.as_str()));
            told += 1;
        }
    }
    // Who is told why has a record of it, and there are no others.
    assert_eq!(rig.records_with(Outcome::Refused).len(), told);
    assert!((6..CALLS / 2).contains(&told), "{told} recorded");
    let status = status(&rig).await;
    let counters = status.counters.unwrap();
    assert_eq!(counters.refusals_unrecorded, (CALLS - told) as u64);
    assert!(status.ready);
    assert!(
        status
            .problems
            .iter()
            .any(|problem| problem.contains("lkm-1")),
        "{:?}",
        status.problems
    );
    assert_eq!(good(&client, &kek).await.unwrap(), [1; 32]);
    let heard = other.unwrap(unknown).await.err().unwrap();
    assert_eq!(reason(&heard), "KEYPAIR_UNKNOWN");
}
