//! What is refused in the parameters of operations, with the line and the rule.

use super::refusals::refusal;
use super::*;

#[test]
fn parameters_are_refused_with_their_line_and_rule() {
    use OperationKind as Kind;
    let cases = [
        (
            Kind::RotateKek,
            "6f96",
            "6F96",
            "line 9, retires: expected the form",
        ),
        (
            Kind::RevokeVersion,
            "6f9619ff-",
            "6f9619ff",
            "line 4, keypair-id",
        ),
        (
            Kind::SetRotationMandate,
            "min 30",
            "min 366",
            "from 1 to 365",
        ),
        (
            Kind::SetRotationMandate,
            "days 365\n",
            "days 3651\n",
            "from 1 to 3650",
        ),
        (
            Kind::SetRotationMandate,
            "30,7,1",
            "7,30,1",
            "line 12, warn-days",
        ),
        (
            Kind::SetRotationMandate,
            "30,7,1",
            "30,7,7",
            "line 12, warn-days",
        ),
        (
            Kind::SetRotationMandate,
            "30,7,1",
            "30,7,1,",
            "line 12, warn-days",
        ),
        (
            Kind::SetRotationMandate,
            "30,7,1",
            "9,8,7,6,5,4,3,2,1",
            "at most 8",
        ),
        (
            Kind::Reinstate,
            "target kek",
            "target keks",
            "line 4, target: expected all",
        ),
        (
            Kind::DestroyVersion,
            "days 90\n",
            "days 3651\n",
            "from 0 to 3650",
        ),
        (
            Kind::DestroyVersion,
            "unwraps 184467\n",
            "unwraps 0\n",
            "line 7, first-use",
        ),
        (
            Kind::DestroyVersion,
            "last-use 2026",
            "last-use 2023",
            "line 8, last-use",
        ),
        (
            Kind::DestroyVersion,
            "first-use 2024-12-21T18:00:00Z",
            "first-use never",
            "line 7",
        ),
        (
            Kind::DestroyVersion,
            "lock 604800s",
            "lock 604799s",
            "line 14, time-lock",
        ),
        (
            Kind::GrantUnwrap,
            "identity spiffe",
            "identity  spiffe",
            "line 4, identity",
        ),
        (
            Kind::AssignRole,
            "uid:1017",
            "uid:01017",
            "expected the form \"uid:1017\"",
        ),
        (
            Kind::AssignRole,
            "uid:1017",
            "uid:65534",
            "another than 65534",
        ),
        (
            Kind::AssignRole,
            "role auditor",
            "role Auditor",
            "line 5, role: expected one of",
        ),
        (
            Kind::BindRecordingPolicy,
            "support/eu",
            "support eu",
            "line 4, key",
        ),
        (
            Kind::BindRecordingPolicy,
            "fallback archive",
            "fallback None",
            "line 6, fallback",
        ),
        (
            Kind::ChangeOfficers,
            " bob\n",
            " aaron\n",
            "in order of their names",
        ),
        (
            Kind::ChangeOfficers,
            " bob\n",
            " alice\n",
            "in order of their names",
        ),
        (
            Kind::ChangeOfficers,
            " bob\n",
            "  bob\n",
            "line 5, officer: expected 1 to 63",
        ),
        (
            Kind::ChangeOfficers,
            " bob\n",
            "\n",
            "line 5, officer: expected a role",
        ),
        (
            Kind::ChangeOfficers,
            "key-custodian ecdsa",
            "recovery ecdsa",
            "key-custodian or policy",
        ),
        (
            Kind::ChangeOfficers,
            "ssh-ed25519 AAAAC",
            "ssh-ed25519 AAAAD",
            "line 4: expected one",
        ),
        (
            Kind::ChangePolicy,
            "approve yes",
            "approve maybe",
            "line 4, proposer-may-approve",
        ),
        (
            Kind::ChangePolicy,
            "officer 8",
            "officer 65",
            "line 5, open-max-per-officer",
        ),
        (
            Kind::ChangePolicy,
            "create-kek threshold 2",
            "create-kek threshold 1",
            "line 6, rule",
        ),
        (
            Kind::ChangePolicy,
            "rule create-kek",
            "rule rotate-kek",
            "line 6, rule",
        ),
        (
            Kind::ChangePolicy,
            "lock 1209600s",
            "lock 604799s",
            "line 12: destroy-version",
        ),
        (
            Kind::ChangePolicy,
            "lock 86400s",
            "lock 604800s",
            "line 23: change-officers",
        ),
    ];
    for (kind, from, to, expected) in cases {
        let found = refusal(kind, from, to);
        assert!(found.contains(expected), "{kind} {to:?}: {found}");
    }
}

#[test]
fn a_key_is_one_officers() {
    let again = format!("officer key-custodian {ED25519} bea\n");
    let found = refusal(
        OperationKind::ChangeOfficers,
        "officer key-custodian ecdsa",
        &format!("{again}officer key-custodian ecdsa"),
    );
    assert!(
        found.contains("line 5, officer: expected a key that no other"),
        "{found}"
    );
}
