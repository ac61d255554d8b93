//! Time-locks and expiry by two clocks, and what a wall clock that is wrong can and cannot do to a
//! node: nothing early, nothing for good, and neither unwraps nor stops wait for it.

use std::time::Duration;

use kekd::clock::UnixMs;
use kekd::proto::v1::entry::Event;
use kekd::proto::v1::{self, ProposalPhase};
use kekd::quorum::{
    Mandate, OfficerKey, OfficerRole, Operation, PROPOSAL_NAMESPACE, Proposal, ProposalDraft, Rule,
    Target,
};
use kekd::types::Padding;

use crate::harness::{Kek, Rig};
use crate::host_clock::{
    DAY, HOUR, HostClock, SECOND, count, entries, execute_at, logged, now, refused, restart,
    until_count,
};
use crate::officers::{Officers, new_version};

/// What changes little, and is the policy officers' to decide without a time-lock.
fn small_change(name: &str) -> Operation {
    Operation::GrantUnwrap {
        identity: format!("spiffe://kekd.test/{name}").parse().unwrap(),
        kek: "recordings".parse().unwrap(),
    }
}

/// The same proposal by a proposer whose clock says another time.
fn opened_at(proposal: &Proposal, opened_at: UnixMs) -> Proposal {
    let lifetime = proposal.expires_at.0 - proposal.opened_at.0;
    Proposal::draft(ProposalDraft {
        instance_id: proposal.instance_id,
        operation: proposal.operation.clone(),
        proposer: proposal.proposer.clone(),
        nonce: proposal.nonce,
        opened_at,
        rule: Rule {
            threshold: proposal.threshold,
            time_lock: proposal.time_lock,
            lifetime: Duration::from_millis(lifetime),
            allowed: true,
        },
        epoch: proposal.epoch,
        head: proposal.head,
    })
    .unwrap()
}

async fn propose(
    officers: &Officers<'_>,
    proposal: &Proposal,
) -> Result<v1::Proposal, kekd::client::ClientError> {
    let signature = officers.sign(&proposal.proposer, PROPOSAL_NAMESPACE, proposal.text());
    let text = proposal.text().to_vec();
    officers.client.propose(text, signature).await
}

/// Carol and Frank change places.
async fn other_officers(officers: &Officers<'_>) -> Operation {
    let governance = officers.governance().await;
    let of_office = governance
        .officers
        .iter()
        .filter(|of| of.role != "recovery");
    let changed = of_office.map(|of| {
        let role = match of.name.as_str() {
            "carol" => OfficerRole::PolicyOfficer,
            "frank" => OfficerRole::KeyCustodian,
            _ => of.role.parse().unwrap(),
        };
        kekd::quorum::Officer {
            name: of.name.clone(),
            role,
            key: OfficerKey::from_openssh(&of.key).unwrap(),
        }
    });
    Operation::ChangeOfficers {
        officers: changed.collect(),
    }
}

#[tokio::test]
async fn a_time_lock_ends_by_both_clocks_and_to_the_second() {
    let mut rig = Rig::stopped();
    let clock = HostClock::of(&mut rig);
    let start = UnixMs((now().0 / SECOND + 5) * SECOND);
    let after = |seconds: u64| UnixMs(start.0 + seconds * SECOND);
    clock.stand_at(start);
    rig.start();
    let officers = Officers::of(&rig).await;
    let operation = other_officers(&officers).await;
    let id = officers.propose("dave", operation).await.unwrap();
    for officer in ["erin", "frank"] {
        officers.approve(officer, id).await.unwrap();
    }
    // The lock of a rig is two seconds.
    clock.stand_at(after(1));
    for stated in [after(1), after(2)] {
        let (reason, why) = refused(execute_at(&officers, "dave", id, stated).await);
        assert_eq!(reason, "NOT_ACCEPTED");
        assert!(why.contains("time-locked"), "{why}");
    }
    clock.stand_at(after(2));
    let (_, why) = refused(execute_at(&officers, "dave", id, after(1)).await);
    assert!(
        why.contains("the officer's time: expected no earlier than"),
        "{why}"
    );
    assert!(why.contains(&after(2).rfc3339()), "{why}");
    let apart = UnixMs(after(2).0 + HOUR + SECOND);
    let (_, why) = refused(execute_at(&officers, "dave", id, apart).await);
    assert!(why.contains("within one hour"), "{why}");
    let executed = execute_at(&officers, "dave", id, after(2)).await.unwrap();
    assert_eq!(executed.proposal.unwrap().phase(), ProposalPhase::Executed);
    assert_eq!(officers.governance().await.epoch, 2);
}

#[tokio::test]
async fn a_proposal_is_refused_a_second_too_late_and_a_second_too_early() {
    let mut rig = Rig::stopped();
    let clock = HostClock::of(&mut rig);
    let start = UnixMs((now().0 / SECOND + 5) * SECOND);
    clock.stand_at(start);
    rig.start();
    let officers = Officers::of(&rig).await;
    let draft = officers.draft("dave", small_change("a")).await;
    assert_eq!(draft.expires_at, UnixMs(start.0 + 7 * DAY));

    // Its last second; and over, by none and by one.
    for late in [0, SECOND] {
        let over = opened_at(&draft, UnixMs(start.0 - 7 * DAY - late));
        let (reason, why) = refused(propose(&officers, &over).await);
        assert_eq!(reason, "NOT_ACCEPTED");
        assert!(
            why.contains("expires") && why.contains(&start.rfc3339()),
            "{why}"
        );
    }
    let last = opened_at(&draft, UnixMs(start.0 - 7 * DAY + SECOND));
    propose(&officers, &last).await.unwrap();
    officers.approve("erin", last.id).await.unwrap();
    officers.approve("frank", last.id).await.unwrap();

    // Five minutes ahead, and a second more.
    let early = opened_at(&draft, UnixMs(start.0 + 301 * SECOND));
    let (_, why) = refused(propose(&officers, &early).await);
    assert!(
        why.contains("opens") && why.contains(&early.opened_at.rfc3339()),
        "{why}"
    );
    let near = opened_at(&draft, UnixMs(start.0 + 300 * SECOND));
    propose(&officers, &near).await.unwrap();

    assert_eq!(officers.phase(last.id).await, ProposalPhase::Executable);
    clock.stand_at(UnixMs(start.0 + SECOND));
    let (_, why) = refused(execute_at(&officers, "dave", last.id, start).await);
    assert!(why.contains("the proposal is expired"), "{why}");
    until_count(&rig, 1, |event| matches!(event, Event::ProposalExpired(_))).await;
}

#[tokio::test]
async fn a_clock_that_jumps_while_the_node_runs_stops_officers_and_neither_unwraps_nor_stops() {
    let mut rig = Rig::stopped();
    let clock = HostClock::of(&mut rig);
    rig.start();
    let officers = Officers::of(&rig).await;
    let client = rig.client("lkm-1").await;
    let kek = Kek::of(&client, "recordings").await;
    officers.enact(monthly("recordings")).await.unwrap();
    let ready = officers.propose("dave", small_change("a")).await.unwrap();
    officers.approve("erin", ready).await.unwrap();
    officers.approve("frank", ready).await.unwrap();
    let open = officers.propose("dave", small_change("b")).await.unwrap();
    let size = officers.governance().await.ledger_size;
    let newest = entries(&rig).await.last().unwrap().time_ms;

    for (nth, (days, stopped)) in [(365, "legacy"), (-3, "vault")].into_iter().enumerate() {
        clock.days(days);
        logged(&rig, nth + 1, "by the time gone by since the start").await;
        let unwrapped = client.unwrap(kek.call(Padding::OaepSha1, &[7; 32])).await;
        assert!(unwrapped.is_ok(), "{days}");
        let executed = officers.execute("dave", ready).await;
        assert_eq!(refused(executed).0, "CLOCK_SUSPECT");
        let honest = execute_at(&officers, "dave", ready, now()).await;
        assert_eq!(refused(honest).0, "CLOCK_SUSPECT");
        assert_eq!(
            refused(officers.approve("erin", open).await).0,
            "CLOCK_SUSPECT"
        );
        let proposed = officers.propose("dave", small_change("c")).await;
        assert_eq!(refused(proposed).0, "CLOCK_SUSPECT");
        assert_eq!(officers.phase(ready).await, ProposalPhase::Executable);
        assert_eq!(officers.phase(open).await, ProposalPhase::Open);

        let said = |texts: &[String]| texts.iter().any(|text| text.contains("host's clock"));
        assert!(said(&officers.governance().await.warnings));
        let status = rig.client("operator").await.status().await.unwrap();
        assert!(
            status.ready && said(&status.problems),
            "{:?}",
            status.problems
        );

        let target = Target::Kek(stopped.parse().unwrap());
        assert!(officers.suspend("frank", target).await.unwrap());
        let entries = entries(&rig).await;
        assert_eq!(entries.len() as u64, size + nth as u64 + 1);
        assert_eq!(
            entries.last().unwrap().time_ms,
            newest,
            "its time did not jump"
        );
        clock.shift(0);
        logged(&rig, nth + 1, "the clerk's work goes on").await;
    }

    officers.execute("dave", ready).await.unwrap();
    officers.approve("erin", open).await.unwrap();
    assert_eq!(
        count(&rig, |event| matches!(event, Event::ProposalExpired(_))).await,
        0
    );
    let begun = |event: &Event| matches!(event, Event::MandatedRotationBegun(_));
    assert_eq!(count(&rig, begun).await, 0);
    let status = rig.client("operator").await.status().await.unwrap();
    assert!(!status.problems.iter().any(|text| text.contains("clock")));
    let log = rig.log();
    let warned = log.matches("the clerk could not do its work").count();
    assert_eq!(warned, 2, "each jump is said once\n{log}");
}

fn monthly(kek: &str) -> Operation {
    Operation::SetRotationMandate(Mandate {
        version: new_version(kek, "kek-rsa-3072"),
        period_days: 30,
        interval_days_min: 10,
        until: UnixMs((now().0 + 2000 * DAY) / SECOND * SECOND),
        warn_days: vec![7, 1],
    })
}

#[tokio::test]
async fn a_node_that_starts_a_year_ahead_does_nothing_until_an_officer_agrees() {
    let mut rig = Rig::stopped();
    let clock = HostClock::of(&mut rig);
    rig.start();
    let officers = Officers::of(&rig).await;
    officers.enact(monthly("recordings")).await.unwrap();
    let open = officers.propose("dave", small_change("a")).await.unwrap();
    let size = officers.governance().await.ledger_size;
    let true_time = now();

    // Twice: the records of what was unwrapped meanwhile do not vouch for the clock.
    for nth in 1..=2 {
        restart(&rig, || clock.days(365)).await;
        logged(&rig, nth, "the latest time known to be true is").await;
        let client = rig.client("lkm-1").await;
        Kek::of(&client, "recordings")
            .await
            .comes_back(&client)
            .await;
        assert_eq!(officers.governance().await.ledger_size, size);
    }
    let proposal = officers.draft("dave", small_change("b")).await;
    let honest = opened_at(&proposal, UnixMs(now().0 / SECOND * SECOND));
    let (reason, why) = refused(propose(&officers, &honest).await);
    assert_eq!(reason, "CLOCK_SUSPECT");
    assert!(why.contains(&honest.opened_at.rfc3339()), "{why}");
    let year = |at: UnixMs| at.rfc3339()[..7].to_owned();
    assert!(
        why.contains(&year(UnixMs(true_time.0 + 365 * DAY))),
        "{why}"
    );
    assert_eq!(
        refused(officers.approve("erin", open).await).0,
        "CLOCK_SUSPECT"
    );
    let warnings = officers.governance().await.warnings;
    assert!(
        warnings
            .iter()
            .any(|text| text.contains("known to be true")),
        "{warnings:?}"
    );

    // A stop is taken, and moves no time.
    let target = Target::Kek("legacy".parse().unwrap());
    assert!(officers.suspend("frank", target).await.unwrap());
    let stopped = entries(&rig).await.last().unwrap().time_ms;
    assert!(stopped <= now().0, "{}", UnixMs(stopped).rfc3339());
    assert_eq!(officers.governance().await.ledger_size, size + 1);

    // An officer whose clock says the same.
    propose(&officers, &proposal).await.unwrap();
    until_count(&rig, 1, |event| matches!(event, Event::ProposalExpired(_))).await;
    assert_eq!(officers.phase(open).await, ProposalPhase::Expired);
    until_count(&rig, 5, |event| {
        matches!(event, Event::KekVersionActivated(_))
    })
    .await;
}

#[tokio::test]
async fn a_node_that_starts_days_behind_takes_no_act_but_stops() {
    let mut rig = Rig::stopped();
    let clock = HostClock::of(&mut rig);
    rig.start();
    let officers = Officers::of(&rig).await;
    let open = officers.propose("dave", small_change("a")).await.unwrap();
    restart(&rig, || clock.days(-3)).await;
    let client = rig.client("lkm-1").await;
    Kek::of(&client, "recordings")
        .await
        .comes_back(&client)
        .await;
    let (reason, why) = refused(officers.propose("dave", small_change("b")).await);
    assert_eq!(reason, "CLOCK_SUSPECT");
    assert!(why.contains("the ledger has an entry of"), "{why}");
    assert_eq!(
        refused(officers.approve("erin", open).await).0,
        "CLOCK_SUSPECT"
    );
    officers.veto("erin", open).await.unwrap();
    assert!(officers.suspend("frank", Target::All).await.unwrap());
    restart(&rig, || clock.shift(0)).await;
    assert_eq!(officers.phase(open).await, ProposalPhase::Vetoed);
    officers
        .enact(Operation::Reinstate(Target::All))
        .await
        .unwrap();
}
