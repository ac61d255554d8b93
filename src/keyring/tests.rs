//! The keyring as a whole: what is found in it, and what changes do to it.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that cannot unwrap or index has failed"
)]

use proptest::prelude::*;

use super::version::tests::version;
use super::*;
use crate::types::{Padding, ReleaseForm};

#[test]
fn a_version_is_found_by_its_keypair_id_and_no_other_way() {
    let mut ring = Keyring::default();
    ring.add(version("a", 1, 1)).unwrap();
    ring.add(version("a", 2, 2)).unwrap();
    ring.add(version("b", 1, 3)).unwrap();
    let id = KeypairId::from_random([2; 16]);
    assert_eq!(ring.version(id).unwrap().number, 2);
    let unknown = KeypairId::from_random([9; 16]);
    assert_eq!(
        ring.version(unknown).unwrap_err(),
        KeyringError::KeypairUnknown(unknown)
    );
    assert_eq!(ring.kek(&"a".parse().unwrap()).unwrap().len(), 2);
    assert_eq!(ring.versions().count(), 3);
}

#[test]
fn a_ledger_that_contradicts_itself_is_refused() {
    let mut ring = Keyring::default();
    assert!(
        ring.add(version("a", 2, 1)).is_err(),
        "a first version numbered 2"
    );
    ring.add(version("a", 1, 1)).unwrap();
    assert!(ring.add(version("a", 1, 2)).is_err(), "a number used twice");
    assert!(ring.add(version("a", 3, 3)).is_err(), "a number left out");
    assert!(
        ring.add(version("b", 1, 1)).is_err(),
        "a keypair id used twice"
    );
}

fn id(n: u8) -> KeypairId {
    KeypairId::from_random([n; 16])
}

fn state(ring: &Keyring, n: u8) -> VersionState {
    ring.version(id(n)).unwrap().state()
}

fn named(name: &str) -> KekName {
    name.parse().unwrap()
}

/// `a` with the versions 1 and 2 (active), `b` with 3 (active).
fn ring() -> Keyring {
    let mut ring = Keyring::default();
    ring.add(version("a", 1, 1)).unwrap();
    ring.add(version("a", 2, 2)).unwrap();
    ring.add(version("b", 1, 3)).unwrap();
    ring
}

#[test]
fn the_newest_version_is_the_only_active_one() {
    let mut ring = ring();
    assert_eq!(state(&ring, 1), VersionState::Deactivated);
    assert_eq!(ring.active(&named("a")).unwrap().keypair_id, id(2));
    assert_eq!(
        ring.kek(&named("a")).unwrap()[0].state(),
        state(&ring, 1),
        "both ways to a version lead to the same"
    );
    ring.compromise(id(2)).unwrap();
    assert!(ring.active(&named("a")).is_none());
    ring.add(version("a", 3, 4)).unwrap();
    assert_eq!(state(&ring, 2), VersionState::Compromised, "it came back");
    assert_eq!(ring.active(&named("a")).unwrap().keypair_id, id(4));
    assert!(ring.active(&named("none")).is_none());
}

#[test]
fn a_refused_version_retires_nobody() {
    let mut ring = ring();
    assert!(ring.add(version("a", 4, 4)).is_err());
    assert!(ring.add(version("a", 3, 3)).is_err());
    assert_eq!(ring.active(&named("a")).unwrap().keypair_id, id(2));
}

#[test]
fn each_stop_is_lifted_by_itself_and_holds_for_what_comes() {
    use ChangeRefused as R;
    let (a, mut ring) = (named("a"), ring());
    ring.suspend(Some(&a)).unwrap();
    ring.suspend(Some(&a)).unwrap();
    assert_eq!(state(&ring, 1), VersionState::Suspended);
    assert_eq!(state(&ring, 3), VersionState::Active);
    assert_eq!(ring.lift(None), Err(R::AllNotStopped.into()));
    ring.suspend(None).unwrap();
    ring.suspend(None).unwrap();
    ring.add(version("c", 1, 5)).unwrap();
    assert_eq!(state(&ring, 5), VersionState::Suspended, "a later KEK");
    assert!(ring.active(&named("c")).is_none());
    ring.lift(None).unwrap();
    assert_eq!(state(&ring, 5), VersionState::Active);
    assert_eq!(state(&ring, 3), VersionState::Active);
    assert_eq!(state(&ring, 2), VersionState::Suspended, "its KEK's stop");
    ring.add(version("a", 3, 6)).unwrap();
    assert_eq!(state(&ring, 6), VersionState::Suspended, "a later version");
    ring.lift(Some(&a)).unwrap();
    assert_eq!(state(&ring, 6), VersionState::Active);
    assert_eq!(state(&ring, 2), VersionState::Deactivated);
    assert_eq!(ring.lift(Some(&a)), Err(R::KekNotStopped(a).into()));
    let none = named("none");
    assert_eq!(
        ring.suspend(Some(&none)),
        Err(KeyringError::KekUnknown(none))
    );
}

#[test]
fn a_version_is_destroyed_only_where_its_kek_wraps_with_another() {
    use ChangeRefused as R;
    let mut ring = ring();
    let refused = ring.destroy(id(2)).unwrap_err();
    let text = refused.to_string();
    assert!(
        text.ends_with("is active; only a deactivated or compromised version can be destroyed"),
        "{text}"
    );
    assert_eq!(ring.hold(id(2)), Err(refused));
    assert_eq!(ring.release(id(1)), Err(R::NotHeld(id(1)).into()));
    ring.hold(id(1)).unwrap();
    assert_eq!(ring.hold(id(1)), Err(R::HeldAlready(id(1)).into()));
    assert_eq!(state(&ring, 1), VersionState::Suspended);
    ring.release(id(1)).unwrap();
    assert_eq!(state(&ring, 1), VersionState::Deactivated);
    ring.hold(id(1)).unwrap();
    ring.destroy(id(1)).unwrap();
    assert_eq!(state(&ring, 1), VersionState::Destroyed);
    assert!(!ring.version(id(1)).unwrap().is_in_token());
    assert!(ring.destroy(id(1)).is_err());
    assert!(ring.compromise(id(1)).is_err());
    assert!(ring.release(id(1)).is_err());
    ring.compromise(id(2)).unwrap();
    assert!(ring.compromise(id(2)).is_err());
    ring.destroy(id(2)).unwrap();
    assert_eq!(state(&ring, 2), VersionState::Destroyed);
    assert_eq!(
        ring.destroy(id(9)),
        Err(KeyringError::KeypairUnknown(id(9)))
    );
}

#[test]
fn pkcs1_is_forbidden_under_a_kek_with_what_it_will_have() {
    let (a, mut ring) = (named("a"), ring());
    let both = |kek, number, n| Version {
        paddings_shown: vec![Padding::OaepSha1, Padding::Pkcs1V15],
        ..version(kek, number, n)
    };
    let allows = |ring: &Keyring, n| {
        let version = Arc::clone(ring.version(id(n)).unwrap());
        version
            .paddings()
            .any(|padding| padding == Padding::Pkcs1V15)
    };
    ring.add(both("a", 3, 4)).unwrap();
    ring.add(both("b", 2, 5)).unwrap();
    ring.forbid_pkcs1v15(&a, true).unwrap();
    ring.forbid_pkcs1v15(&a, true).unwrap();
    ring.add(both("a", 4, 6)).unwrap();
    assert!(!allows(&ring, 4) && !allows(&ring, 6) && allows(&ring, 5));
    ring.forbid_pkcs1v15(&a, false).unwrap();
    assert!(allows(&ring, 4) && allows(&ring, 6));
    assert!(!allows(&ring, 1), "its profile never did");
}

#[derive(Debug, Clone)]
enum Change {
    Add(u8),
    Suspend(Option<u8>),
    Lift(Option<u8>),
    Compromise(u8),
    Hold(u8),
    Release(u8),
    Destroy(u8),
    Forbid(u8, bool),
}

fn changes() -> impl Strategy<Value = Vec<Change>> {
    let kek = 0..3_u8;
    let one = 0..12_u8;
    let change = prop_oneof![
        kek.clone().prop_map(Change::Add),
        prop::option::of(kek.clone()).prop_map(Change::Suspend),
        prop::option::of(kek.clone()).prop_map(Change::Lift),
        one.clone().prop_map(Change::Compromise),
        one.clone().prop_map(Change::Hold),
        one.clone().prop_map(Change::Release),
        one.prop_map(Change::Destroy),
        (kek, any::<bool>()).prop_map(|(kek, forbidden)| Change::Forbid(kek, forbidden)),
    ];
    prop::collection::vec(change, 0..60)
}

/// Whether it was taken.
fn apply(ring: &mut Keyring, change: &Change) -> bool {
    let name = |kek: u8| named(["a", "b", "c"][usize::from(kek)]);
    let target = |kek: Option<u8>| kek.map(name);
    let applied = match *change {
        Change::Add(kek) => {
            let kek = name(kek);
            let number = ring.kek(&kek).map_or(0, <[_]>::len) + 1;
            let n = ring.versions().count();
            let (number, n) = (u32::try_from(number).unwrap(), u8::try_from(n).unwrap());
            ring.add(version(kek.as_str(), number, n))
        }
        Change::Suspend(kek) => ring.suspend(target(kek).as_ref()),
        Change::Lift(kek) => ring.lift(target(kek).as_ref()),
        Change::Compromise(n) => ring.compromise(id(n)),
        Change::Hold(n) => ring.hold(id(n)),
        Change::Release(n) => ring.release(id(n)),
        Change::Destroy(n) => ring.destroy(id(n)),
        Change::Forbid(kek, forbidden) => ring.forbid_pkcs1v15(&name(kek), forbidden),
    };
    applied.is_ok()
}

/// A whole keyring as text, to be compared.
fn picture(ring: &Keyring) -> String {
    let versions: Vec<_> = ring.versions().collect();
    format!("{versions:?} {:?} {}", ring.stopped, ring.is_all_stopped)
}

fn check(ring: &Keyring) {
    for (name, versions) in ring.keks() {
        let active = |v: &&Arc<Version>| v.lifecycle == Lifecycle::Active;
        assert!(versions.iter().filter(active).count() <= 1, "{name}");
        let older = versions.split_last().unwrap().1;
        assert!(!older.iter().any(|v| active(&v)), "{name}");
        for version in versions {
            assert!(Arc::ptr_eq(
                version,
                ring.version(version.keypair_id).unwrap()
            ));
            assert_eq!(version.stops.of_all, ring.is_all_stopped);
            assert_eq!(version.stops.of_kek, ring.stopped.contains(name));
            let is_past = version.lifecycle >= Lifecycle::Compromised;
            let admitted = version.admit(Padding::OaepSha1, ReleaseForm::Clear, 384);
            assert_eq!(admitted.is_ok(), !is_past && !version.stops.any());
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever is decided in whatever order: one active version at most, nothing that is stopped or
    /// gone unwraps, nothing comes back, and a refused change changes nothing.
    #[test]
    fn no_order_of_changes_brings_a_version_back(changes in changes()) {
        let mut ring = Keyring::default();
        for change in &changes {
            let before = ring.clone();
            if !apply(&mut ring, change) {
                prop_assert_eq!(picture(&before), picture(&ring), "{:?}", change);
            }
            check(&ring);
            for old in before.versions() {
                let new = ring.version(old.keypair_id).unwrap();
                prop_assert!(new.lifecycle >= old.lifecycle, "{:?} of {:?}", change, old.keypair_id);
            }
        }
    }
}
