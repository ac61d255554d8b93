//! Rotations under a mandate, over months of a turned clock: announced, done once, in time, and by
//! nobody's signature but the mandate's; and what keeps one from being done.

use std::fs;
use std::time::Duration;

use kekd::clock::UnixMs;
use kekd::proto::v1::entry::Event;
use kekd::quorum::{Mandate, Operation, ProposalId, Target};
use kekd::types::{KeypairId, Padding};
use rustix::process::{Pid, Signal, kill_process};

use crate::harness::{Kek, Rig, dek};
use crate::host_clock::{
    DAY, HostClock, SECOND, count, entries, logged, now, restart, rounds, until_count,
};
use crate::officers::{Officers, new_version};

/// Versions a rig begins with.
const AT_FIRST: usize = 4;

fn is_version(event: &Event) -> bool {
    matches!(event, Event::KekVersionActivated(_))
}

fn is_begun(event: &Event) -> bool {
    matches!(event, Event::MandatedRotationBegun(_))
}

fn is_failed(event: &Event) -> bool {
    matches!(event, Event::ExecutionFailed(_))
}

fn mandate(days: u64) -> Operation {
    Operation::SetRotationMandate(Mandate {
        version: new_version("recordings", "kek-rsa-3072"),
        period_days: 30,
        interval_days_min: 10,
        until: UnixMs((now().0 + days * DAY) / SECOND * SECOND),
        warn_days: vec![7, 1],
    })
}

/// Puts the mandate in force: its id.
async fn enact(officers: &Officers<'_>, operation: Operation) -> ProposalId {
    let executed = officers.enact(operation).await.unwrap();
    let id = executed.proposal.unwrap().id;
    ProposalId(kekd::types::Sha256::try_from(id.as_slice()).unwrap())
}

async fn active(rig: &Rig) -> KeypairId {
    let auditor = rig.client("auditor").await;
    let kek = auditor.get_kek(&"recordings".parse().unwrap()).await;
    let newest = kek.unwrap().versions.pop().unwrap();
    newest.keypair_id.parse().unwrap()
}

#[tokio::test]
async fn a_mandate_announces_and_rotates_once_and_a_rotation_by_hand_starts_it_anew() {
    let mut rig = Rig::stopped();
    let clock = HostClock::of(&mut rig);
    rig.start();
    let officers = Officers::of(&rig).await;
    let client = rig.client("lkm-1").await;
    let old = Kek::of(&client, "recordings").await;
    let id = enact(&officers, mandate(200)).await;
    drop(client);

    restart(&rig, || clock.days(24)).await;
    logged(&rig, 1, "a rotation under a mandate comes").await;
    let line = rig.log();
    let line = line.lines().find(|line| line.contains("comes")).unwrap();
    assert!(
        line.contains("kek=recordings") && line.contains("days_left="),
        "{line}"
    );
    let warnings = officers.governance().await.warnings;
    assert!(
        warnings
            .iter()
            .any(|text| text.contains("recordings is rotated")),
        "{warnings:?}"
    );
    assert_eq!(count(&rig, is_begun).await, 0);

    restart(&rig, || clock.days(30)).await;
    until_count(&rig, AT_FIRST + 1, is_version).await;
    let entries = entries(&rig).await;
    let Some(Event::KekVersionActivated(version)) = &entries.last().unwrap().event else {
        panic!("another entry is the last");
    };
    assert_eq!(version.proposal_id, id.0.as_bytes());
    assert_eq!((version.kek.as_str(), version.number), ("recordings", 2));
    let client = rig.client("lkm-1").await;
    let unwrapped = client.unwrap(old.call(Padding::OaepSha1, &[7; 32])).await;
    assert_eq!(dek(&unwrapped.unwrap().release), [7; 32]);
    drop(client);

    // Once: half a month later it is not due again. By hand then, and the month begins anew.
    restart(&rig, || clock.days(45)).await;
    rounds(&rig, 45).await;
    assert_eq!(count(&rig, is_begun).await, 1);
    let by_hand = Operation::RotateKek {
        version: new_version("recordings", "kek-rsa-3072"),
        retires: Some(active(&rig).await),
    };
    officers.enact(by_hand).await.unwrap();
    restart(&rig, || clock.days(62)).await;
    rounds(&rig, 62).await;
    assert_eq!(count(&rig, is_begun).await, 1);

    // A KEK that is stopped waits for its reinstatement.
    let target = Target::Kek("recordings".parse().unwrap());
    assert!(officers.suspend("frank", target.clone()).await.unwrap());
    restart(&rig, || clock.days(80)).await;
    rounds(&rig, 80).await;
    assert_eq!(count(&rig, is_begun).await, 1);
    officers.enact(Operation::Reinstate(target)).await.unwrap();
    until_count(&rig, AT_FIRST + 3, is_version).await;

    let kek = "recordings".parse().unwrap();
    let withdraw = Operation::WithdrawRotationMandate { kek };
    officers.enact(withdraw).await.unwrap();
    restart(&rig, || clock.days(115)).await;
    rounds(&rig, 115).await;
    assert_eq!(count(&rig, is_begun).await, 2);
}

#[tokio::test]
async fn a_mandate_that_is_over_rotates_and_announces_nothing() {
    let mut rig = Rig::stopped();
    let clock = HostClock::of(&mut rig);
    rig.start();
    let officers = Officers::of(&rig).await;
    enact(&officers, mandate(28)).await;
    for days in [26, 31] {
        restart(&rig, || clock.days(days)).await;
        rounds(&rig, u64::try_from(days).unwrap()).await;
        assert_eq!(count(&rig, is_begun).await, 0);
        assert!(
            officers
                .governance()
                .await
                .warnings
                .iter()
                .all(|text| !text.contains("rotated"))
        );
    }
    assert!(!rig.log().contains("a rotation under a mandate comes"));
}

#[tokio::test]
async fn a_rotation_that_was_cut_short_is_ended_or_made_again_after_an_hour() {
    let mut rig = Rig::stopped();
    let clock = HostClock::of(&mut rig);
    rig.start();
    let officers = Officers::of(&rig).await;
    let id = enact(&officers, mandate(200)).await;
    restart(&rig, || clock.days(30)).await;
    logged(&rig, 1, "a version is made").await;
    let pid = i32::try_from(rig.daemon_pid()).unwrap();
    kill_process(Pid::from_raw(pid).unwrap(), Signal::KILL).unwrap();
    while fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| !line.is_empty()) {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    rig.start();
    // One way or the other it ends.
    while count(&rig, is_version).await == AT_FIRST && count(&rig, is_failed).await == 0 {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    if count(&rig, is_failed).await == 1 {
        restart(&rig, || {
            clock.shift(i64::try_from(30 * DAY + 50 * 60 * SECOND).unwrap())
        })
        .await;
        rounds(&rig, 30).await;
        assert_eq!(count(&rig, is_begun).await, 1, "an hour has not gone by");
        restart(&rig, || {
            clock.shift(i64::try_from(30 * DAY + 65 * 60 * SECOND).unwrap())
        })
        .await;
    }
    until_count(&rig, AT_FIRST + 1, is_version).await;
    let entries = entries(&rig).await;
    let Some(Event::KekVersionActivated(version)) = &entries.last().unwrap().event else {
        panic!("another entry is the last");
    };
    assert_eq!(version.proposal_id, id.0.as_bytes());
    rig.client("operator").await.status().await.unwrap();
    restart(&rig, || ()).await;
}

#[tokio::test]
async fn a_mandate_whose_profile_is_gone_begins_nothing_and_says_why_once() {
    let mut rig = Rig::stopped();
    let profiles = rig.dir.join("profiles");
    fs::create_dir(&profiles).unwrap();
    rig.set("hsm", &format!("profiles_dir = {profiles:?}"));
    let clock = HostClock::of(&mut rig);
    rig.start();
    let officers = Officers::of(&rig).await;
    enact(&officers, mandate(200)).await;
    let changed = profiles.join("kek-rsa-3072.toml");
    fs::write(&changed, "not what the officers signed for").unwrap();
    let size = officers.governance().await.ledger_size;
    restart(&rig, || clock.days(30)).await;
    logged(&rig, 1, "the rotation of recordings").await;
    rounds(&rig, 30).await;
    assert_eq!(rig.log().matches("the rotation of recordings").count(), 1);
    let governance = officers.governance().await;
    assert_eq!(governance.ledger_size, size);
    let warnings = governance.warnings;
    assert!(
        warnings.iter().any(|text| text.contains("'kek-rsa-3072'")),
        "{warnings:?}"
    );

    fs::remove_file(changed).unwrap();
    restart(&rig, || ()).await;
    until_count(&rig, AT_FIRST + 1, is_version).await;
}
