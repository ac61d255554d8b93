//! What is refused in a statement, with the line and the rule.

use super::*;

/// The refusal of the golden text of a kind with one change.
pub(super) fn refusal(kind: OperationKind, from: &str, to: &str) -> String {
    let proposal = proposal(kind);
    let text = str::from_utf8(proposal.text()).unwrap();
    assert!(text.contains(from), "{kind} has no {from:?}");
    let altered = text.replacen(from, to, 1);
    Proposal::parse(altered.as_bytes()).unwrap_err().to_string()
}

#[test]
fn terms_are_refused_with_their_line_and_rule() {
    use OperationKind as Kind;
    let cases = [
        (
            Kind::CreateKek,
            "v1",
            "v2",
            "line 1: expected \"kekd proposal v1\"",
        ),
        (
            Kind::CreateKek,
            "instance 7b",
            "instance 7B",
            "line 2, instance: expected 64",
        ),
        (
            Kind::CreateKek,
            "create-kek",
            "create-keks",
            "line 3, operation:",
        ),
        (
            Kind::CreateKek,
            "create-kek",
            "Create-kek",
            "line 3, operation:",
        ),
        (Kind::CreateKek, "kek rec", "kek  rec", "line 4, kek:"),
        (
            Kind::CreateKek,
            "kek-rsa",
            "../kek-rsa",
            "line 5, profile: expected 1 to 63",
        ),
        (
            Kind::CreateKek,
            "subject CN=",
            "subject XY=",
            "line 7, certificate-subject",
        ),
        (
            Kind::CreateKek,
            "days 3650",
            "days 03650",
            "line 8, certificate-valid-days",
        ),
        (
            Kind::CreateKek,
            "days 3650",
            "days +3650",
            "line 8, certificate-valid-days",
        ),
        (
            Kind::CreateKek,
            "days 3650",
            "days 36501",
            "from 1 to 36500",
        ),
        (Kind::CreateKek, "days 3650", "days 0", "from 1 to 36500"),
        (
            Kind::CreateKek,
            "first version",
            "last version",
            "line 9: by the other lines it",
        ),
        (
            Kind::CreateKek,
            "3650 days.",
            "3650 days. ",
            "line 9: by the other lines it",
        ),
        (
            Kind::CreateKek,
            "proposer alice",
            "proposer  alice",
            "without outer spaces",
        ),
        (
            Kind::CreateKek,
            "nonce 1f",
            "nonce 1F",
            "line 11, nonce: expected 32 lower",
        ),
        (
            Kind::CreateKek,
            "nonce 1f",
            "nonce +f",
            "line 11, nonce: expected 32 lower",
        ),
        (
            Kind::CreateKek,
            "nonce 1f",
            "nonce 1f1f",
            "line 11, nonce: expected 32 lower",
        ),
        (
            Kind::CreateKek,
            "18:00:00Z",
            "18:00:00z",
            "line 12, opened: expected a time",
        ),
        (
            Kind::CreateKek,
            "18:00:00Z",
            "18:00:60Z",
            "line 12, opened: expected a time",
        ),
        (
            Kind::CreateKek,
            "18:00:00Z",
            "18:00:00.0Z",
            "line 12, opened: expected a time",
        ),
        (
            Kind::CreateKek,
            "18:00:00Z",
            "18:00:00+00:00",
            "line 12, opened: expected a time",
        ),
        (
            Kind::CreateKek,
            "T18:00:00Z",
            " 18:00:00Z",
            "line 12, opened: expected a time",
        ),
        (
            Kind::CreateKek,
            "expires 2026",
            "expires 2025",
            "line 13, expires: expected a time",
        ),
        (
            Kind::CreateKek,
            "expires 2026",
            "expires 2028",
            "line 13, expires: expected a time",
        ),
        (Kind::CreateKek, "lock 0s", "lock 0", "line 14, time-lock"),
        (Kind::CreateKek, "lock 0s", "lock 00s", "line 14, time-lock"),
        (
            Kind::CreateKek,
            "lock 0s",
            "lock 604800s",
            "line 14, time-lock",
        ),
        (
            Kind::CreateKek,
            "2 of key-custodian",
            "1 of key-custodian",
            "line 15, approvals",
        ),
        (
            Kind::CreateKek,
            "2 of key-custodian",
            "2 of any-officer",
            "line 15, approvals",
        ),
        (
            Kind::CreateKek,
            "2 of key-custodian",
            "2 key-custodian",
            "line 15, approvals",
        ),
        (Kind::CreateKek, "epoch 3", "epoch 0", "line 16, epoch"),
        (
            Kind::CreateKek,
            "epoch 3",
            "epoch 18446744073709551616",
            "line 16, epoch",
        ),
        (
            Kind::CreateKek,
            "ledger-size 1024",
            "ledger-size 0",
            "line 17, ledger-size",
        ),
    ];
    for (kind, from, to, expected) in cases {
        let found = refusal(kind, from, to);
        assert!(found.contains(expected), "{kind} {to:?}: {found}");
    }
}

#[test]
fn there_is_an_end_to_officers_and_to_text() {
    let found = refusal(
        OperationKind::CreateKek,
        "alice",
        &"x".repeat(STATEMENT_LEN_MAX),
    );
    assert!(found.contains("at most 65536 bytes"), "{found}");
    for name in ["proposal", "execution", "suspension"] {
        assert!(read(name, b"").is_err());
        assert!(read(name, b"\n").is_err());
    }
    let line = |number: u8| {
        // Any 32 bytes but a weak point can be a key.
        let key = [
            &[0, 0, 0, 11][..],
            b"ssh-ed25519",
            &[0, 0, 0, 32],
            &[number; 32],
        ]
        .concat();
        let key = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, key);
        let value = format!("key-custodian ssh-ed25519 {key} officer {number:03}");
        ("officer".to_owned(), value)
    };
    let lines: Vec<_> = (10..43).map(line).collect();
    let (_, most) = lines.split_first().unwrap();
    assert!(Operation::parse_lines("change-officers", most).is_ok());
    let found = Operation::parse_lines("change-officers", &lines).unwrap_err();
    assert!(
        found
            .to_string()
            .starts_with("line 33, officer: expected at most 32")
    );
    let found = Operation::parse_lines("change-officers", &[]).unwrap_err();
    assert!(
        matches!(found, StatementError::LineOpen { line: 1 }),
        "{found}"
    );
}
