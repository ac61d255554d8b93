//! Stops, and what lifts them.

use super::refused;
use super::signing::Person;
use super::stage::{CUSTODIANS, Deed, Stage, id, kek, new_version};
use crate::keyring::VersionState;
use crate::quorum::governance::Refusal;
use crate::quorum::sshsig::SignatureError;
use crate::quorum::{Operation, SUSPENSION_NAMESPACE, Suspension, Target};
use crate::types::Sha256;

fn state(stage: &Stage, n: u8) -> VersionState {
    stage.keyring.version(id(n)).unwrap().state()
}

#[test]
fn one_officer_of_any_role_stops_and_a_quorum_of_custodians_lifts() {
    for (by, target) in [("alice", Target::All), ("frank", Target::Kek(kek("a")))] {
        let mut stage = Stage::new();
        stage.suspend(by, target.clone()).unwrap();
        assert_eq!(state(&stage, 1), VersionState::Suspended);
        let lift = Operation::Reinstate(target);
        refused!(stage.open("frank", lift.clone()), Refusal::Signature(_));
        let lift = stage.agreed(CUSTODIANS, lift);
        stage.execute("bob", lift).unwrap();
        assert_eq!(state(&stage, 1), VersionState::Active);
    }
}

#[test]
fn a_stop_is_heard_from_officers_of_this_instance_only() {
    let mut stage = Stage::new();
    refused!(stage.suspend("rita", Target::All), Refusal::Signature(_));
    refused!(stage.suspend("mallory", Target::All), Refusal::Signature(_));
    let here = stage.governance.instance_id();
    let mut stop = |instance, named: &str, by: &Person, namespace| {
        let text = Suspension::draft(instance, Target::All, named, [7; 16], stage.now).unwrap();
        let signature = by.sign(namespace, text.text());
        stage.take(&Deed::Suspend(text.text().to_vec(), signature))
    };
    let alice = Person::of("alice");
    let elsewhere = stop(Sha256::of(b"x"), "alice", alice, SUSPENSION_NAMESPACE);
    refused!(elsewhere, Refusal::InstanceWrong { .. });
    let in_anothers_name = stop(here, "bob", alice, SUSPENSION_NAMESPACE);
    refused!(in_anothers_name, Refusal::SignedByAnother { .. });
    let other_purpose = stop(here, "alice", alice, "approval@kekd");
    refused!(
        other_purpose,
        Refusal::Signature(SignatureError::NamespaceWrong { .. })
    );
    stop(here, "alice", alice, SUSPENSION_NAMESPACE).unwrap();
}

#[test]
fn a_stop_that_was_lifted_is_not_made_again_by_its_old_statement() {
    let mut stage = Stage::new();
    let here = stage.governance.instance_id();
    let text = Suspension::draft(here, Target::All, "alice", [7; 16], stage.now).unwrap();
    let signature = Person::of("alice").sign(SUSPENSION_NAMESPACE, text.text());
    let deed = Deed::Suspend(text.text().to_vec(), signature);
    stage.take(&deed).unwrap();
    let lift = stage.agreed(CUSTODIANS, Operation::Reinstate(Target::All));
    stage.execute("bob", lift).unwrap();
    refused!(stage.take(&deed), Refusal::SoAlready { .. });
}

#[test]
fn a_reinstatement_kept_in_store_does_not_lift_the_next_stop() {
    let mut stage = Stage::new();
    let everything = || Operation::Reinstate(Target::All);
    stage.suspend("alice", Target::All).unwrap();
    let before_stop = stage.draft("carol", everything());
    let used = stage.agreed(CUSTODIANS, everything());
    let stored = stage.agreed(CUSTODIANS, everything());
    stage.execute("bob", used).unwrap();
    refused!(stage.execute("bob", stored), Refusal::Nothing { .. });
    stage.take(&Deed::HostStop(None)).unwrap();
    refused!(stage.execute("bob", stored), Refusal::StoppedSince { .. });
    refused!(
        stage.put(Person::of("carol"), before_stop),
        Refusal::StoppedSince { .. }
    );
    assert_eq!(state(&stage, 1), VersionState::Suspended);
    let lift = stage.agreed(CUSTODIANS, everything());
    // Whoever stops it again while it waits has not been heard by those who approved.
    let mut objected = stage.clone();
    objected.suspend("dave", Target::All).unwrap();
    refused!(objected.execute("bob", lift), Refusal::StoppedSince { .. });
    stage.suspend("dave", Target::Kek(kek("a"))).unwrap();
    stage.execute("bob", lift).unwrap();
    assert_eq!(
        state(&stage, 1),
        VersionState::Suspended,
        "its own stop stays"
    );
}

#[test]
fn a_key_made_under_a_stop_is_stopped() {
    let mut stage = Stage::new();
    stage.take(&Deed::HostStop(None)).unwrap();
    let made = stage.agreed(CUSTODIANS, Operation::CreateKek(new_version("b")));
    stage
        .execute_at("alice", made, stage.now, Some(id(9)))
        .unwrap();
    stage.take(&stage.activated(id(9)).unwrap()).unwrap();
    assert_eq!(state(&stage, 9), VersionState::Suspended);
}

#[test]
fn a_stop_of_a_kek_that_is_none_is_refused() {
    let mut stage = Stage::new();
    let nowhere = Target::Kek(kek("nowhere"));
    refused!(stage.suspend("alice", nowhere), Refusal::Keyring(_));
    assert_eq!(stage.governance.stops().count(), 0);
}

#[test]
fn a_stop_in_force_is_not_made_again_by_whoever_made_it() {
    let mut stage = Stage::new();
    let by_host = |kek: Option<&str>| Deed::HostStop(kek.map(self::kek));
    stage.suspend("alice", Target::All).unwrap();
    let size = stage.roots.len();
    refused!(
        stage.suspend("alice", Target::All),
        Refusal::SoAlready { .. }
    );
    assert_eq!(stage.roots.len(), size, "nothing was written");
    // Another officer, another target and the host say something else; each says it once.
    stage.suspend("dave", Target::All).unwrap();
    stage.suspend("alice", Target::Kek(kek("a"))).unwrap();
    stage.take(&by_host(None)).unwrap();
    stage.take(&by_host(Some("a"))).unwrap();
    for deed in [by_host(None), by_host(Some("a"))] {
        refused!(stage.take(&deed), Refusal::SoAlready { .. });
    }
    let stops: Vec<_> = stage.governance.stops().collect();
    let names = |n: usize| {
        stops[n]
            .1
            .all
            .iter()
            .map(String::as_str)
            .collect::<Vec<_>>()
    };
    assert_eq!(names(0), ["alice", "dave", "host"]);
    assert_eq!(names(1), ["alice", "host"]);
    // Lifted is lifted: from then on a stop is a new one.
    let lift = stage.agreed(CUSTODIANS, Operation::Reinstate(Target::All));
    stage.execute("bob", lift).unwrap();
    stage.suspend("alice", Target::All).unwrap();
}

#[test]
fn a_stop_in_force_is_made_again_against_what_would_lift_it() {
    let mut stage = Stage::new();
    stage.suspend("alice", Target::All).unwrap();
    let of_a = stage.agreed(CUSTODIANS, Operation::Reinstate(Target::All));
    assert_eq!(stage.phase(of_a), crate::quorum::Phase::Executable);
    stage.suspend("alice", Target::All).unwrap();
    refused!(stage.execute("bob", of_a), Refusal::StoppedSince { .. });
    // Once for what is open now, and not for another target's.
    refused!(
        stage.suspend("alice", Target::All),
        Refusal::SoAlready { .. }
    );
    stage.suspend("alice", Target::Kek(kek("a"))).unwrap();
    stage
        .open("bob", Operation::Reinstate(Target::Kek(kek("a"))))
        .unwrap();
    refused!(
        stage.suspend("alice", Target::All),
        Refusal::SoAlready { .. }
    );
    stage.suspend("alice", Target::Kek(kek("a"))).unwrap();
}

#[test]
fn a_ledger_that_has_repeated_stops_is_read() {
    let mut stage = Stage::new();
    let here = stage.governance.instance_id();
    for n in [1, 2, 3] {
        let text = Suspension::draft(here, Target::All, "alice", [n; 16], stage.now).unwrap();
        let signature = Person::of("alice").sign(SUSPENSION_NAMESPACE, text.text());
        let deed = Deed::Suspend(text.text().to_vec(), signature);
        stage.read(&deed).unwrap();
        stage.read(&Deed::HostStop(None)).unwrap();
    }
    let (_, stop) = stage.governance.stops().next().unwrap();
    assert_eq!((stop.newest, &*stop.by), (7, "alice"));
    let lift = stage.agreed(CUSTODIANS, Operation::Reinstate(Target::All));
    stage.execute("bob", lift).unwrap();
    assert_eq!(stage.governance.stops().count(), 0);
}
