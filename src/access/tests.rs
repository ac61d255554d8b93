//! Rights, roles and grants, each change of them and each refusal.

#![expect(clippy::unwrap_used, reason = "a test that cannot unwrap has failed")]

use super::*;

fn clients() -> Clients {
    let mut clients = Clients::default();
    let keks = BTreeSet::from(["a".parse().unwrap()]);
    for (identity, role, keks) in [
        ("spiffe://t/lkm", Role::UnwrapClient, keks),
        ("uid:0", Role::Operator, BTreeSet::new()),
        ("spiffe://t/auditor", Role::Auditor, BTreeSet::new()),
    ] {
        clients.add(identity.parse().unwrap(), role, keks).unwrap();
    }
    clients
}

#[test]
fn nobody_is_let_in_by_default() {
    let clients = clients();
    let cases = [
        ("spiffe://t/lkm", "a", Ok(())),
        ("spiffe://t/lkm", "b", Err("holds no grant")),
        ("uid:0", "a", Err("role")),
        ("spiffe://t/auditor", "a", Err("role")),
    ];
    for (identity, kek, verdict) in cases {
        let caller = clients.caller(&identity.parse().unwrap()).unwrap();
        let found = caller
            .require_grant(&kek.parse().unwrap())
            .map_err(|e| e.to_string());
        match verdict {
            Ok(()) => assert_eq!(found, Ok(()), "{identity} {kek}"),
            Err(text) => assert!(found.unwrap_err().contains(text), "{identity} {kek}"),
        }
    }
    for unknown in ["spiffe://t/lkm2", "spiffe://t/LKM", "uid:1"] {
        assert!(
            clients.caller(&unknown.parse().unwrap()).is_err(),
            "{unknown}"
        );
    }
}

#[test]
fn an_unwrap_client_sees_only_its_own_keks() {
    let clients = clients();
    let sees = |identity: &str, kek: &str| {
        clients
            .caller(&identity.parse().unwrap())
            .unwrap()
            .sees(&kek.parse().unwrap())
    };
    assert!(sees("spiffe://t/lkm", "a"));
    assert!(!sees("spiffe://t/lkm", "b"));
    assert!(sees("uid:0", "b"));
}

#[test]
fn one_identity_has_one_role() {
    let mut clients = clients();
    let again = clients.add(Identity::Uid(0), Role::Auditor, BTreeSet::new());
    assert_eq!(again, Err(AccessError::NamedTwice(Identity::Uid(0))));
}

#[test]
fn identities_parse_strictly() {
    for bad in ["", "uid:", "uid:-1", "nocolon", "a b:c", "x:", ":x"] {
        assert!(bad.parse::<Identity>().is_err(), "{bad:?} was accepted");
    }
}

#[test]
fn the_user_of_everybody_without_a_mapping_is_nobody() {
    let refused = "uid:65534".parse::<Identity>().unwrap_err().to_string();
    assert!(refused.contains("another than 65534"), "{refused}");
    assert!(Identity::of_uid(65534).is_err());
    assert_eq!(Identity::of_uid(65533), Ok(Identity::Uid(65533)));
}

#[test]
fn each_role_reaches_its_actions_and_no_other() {
    use Action::{
        DropAudit, Govern, ReadAudit, ReadGovernance, ReadKeys, ReadLedger, ReadStatus, Stop,
        Unwrap,
    };
    let all = [
        Unwrap,
        ReadKeys,
        ReadStatus,
        ReadLedger,
        ReadAudit,
        DropAudit,
        ReadGovernance,
        Govern,
        Stop,
    ];
    let table: [(Role, &[Action]); 4] = [
        (Role::UnwrapClient, &[Unwrap, ReadKeys, ReadStatus]),
        (
            Role::Officer,
            &[
                Govern,
                Stop,
                ReadKeys,
                ReadStatus,
                ReadLedger,
                ReadGovernance,
            ],
        ),
        (
            Role::Operator,
            &[Stop, ReadKeys, ReadStatus, ReadLedger, ReadGovernance],
        ),
        (
            Role::Auditor,
            &[
                ReadKeys,
                ReadStatus,
                ReadLedger,
                ReadAudit,
                DropAudit,
                ReadGovernance,
            ],
        ),
    ];
    for (role, allowed) in table {
        for action in all {
            assert_eq!(
                role.may(action),
                allowed.contains(&action),
                "{role} {action:?}"
            );
        }
        assert_eq!(role.name().parse(), Ok(role));
        let json = serde_json::to_value(role).unwrap();
        assert_eq!(json, role.name());
        assert_eq!(serde_json::from_value::<Role>(json).unwrap(), role);
    }
    assert!("Officer".parse::<Role>().is_err());
}

#[test]
fn grants_are_given_and_taken_back() {
    let mut clients = clients();
    let (lkm, new, a, b) = (
        "spiffe://t/lkm".parse().unwrap(),
        "spiffe://t/new".parse().unwrap(),
        "a".parse::<KekName>().unwrap(),
        "b".parse::<KekName>().unwrap(),
    );
    clients.grant(&lkm, b.clone()).unwrap();
    clients.grant(&new, b.clone()).unwrap();
    for (identity, kek, expected) in [(&lkm, &a, true), (&lkm, &b, true), (&new, &a, false)] {
        let caller = clients.caller(identity).unwrap();
        assert_eq!(caller.require_grant(kek).is_ok(), expected);
        assert_eq!(caller.sees(kek), expected);
    }
    clients.withdraw(&lkm, &a).unwrap();
    clients.withdraw(&lkm, &b).unwrap();
    assert!(clients.names(&lkm), "named still, without grants");
    assert!(clients.caller(&lkm).unwrap().require_grant(&a).is_err());
    clients.remove(&new).unwrap();
    assert!(!clients.names(&new));
    let found: Vec<_> = clients
        .iter()
        .map(|(identity, role, keks)| format!("{identity} {role} {}", keks.len()))
        .collect();
    let expected = [
        "spiffe://t/auditor auditor 0",
        "spiffe://t/lkm unwrap-client 0",
        "uid:0 operator 0",
    ];
    assert_eq!(found, expected);
}

#[test]
fn changes_that_do_not_fit_are_refused_and_change_nothing() {
    use ChangeRefused as R;
    let mut clients = clients();
    let (root, stranger, lkm): (_, Identity, Identity) = (
        Identity::Uid(0),
        "spiffe://t/stranger".parse().unwrap(),
        "spiffe://t/lkm".parse().unwrap(),
    );
    let (a, b) = ("a".parse::<KekName>().unwrap(), "b".parse().unwrap());
    let cases = [
        (
            clients.grant(&root, a.clone()),
            R::RoleConflict {
                identity: root.clone(),
                found: Role::Operator,
            },
        ),
        (
            clients.grant(&lkm, a.clone()),
            R::GrantedAlready {
                identity: lkm.clone(),
                kek: a.clone(),
            },
        ),
        (
            clients.withdraw(&lkm, &b),
            R::NoSuchGrant {
                identity: lkm.clone(),
                kek: b,
            },
        ),
        (
            clients.withdraw(&stranger, &a),
            R::ClientUnknown(stranger.clone()),
        ),
        (
            clients.assign(&root, Role::Officer),
            R::NamedAlready {
                identity: root.clone(),
                found: Role::Operator,
            },
        ),
        (
            clients.remove(&stranger),
            R::ClientUnknown(stranger.clone()),
        ),
    ];
    for (found, expected) in cases {
        assert_eq!(found, Err(expected.into()));
    }
    assert!(!clients.names(&stranger));
    assert_eq!(clients.iter().count(), 3);
    clients.assign(&stranger, Role::Officer).unwrap();
    let officer = clients.caller(&stranger).unwrap();
    assert!(officer.require(Action::Govern).is_ok() && officer.sees(&a));
    assert!(officer.require_grant(&a).is_err(), "an officer unwraps");
}
