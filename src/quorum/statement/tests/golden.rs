//! Statements that officers may have signed. Files are added, never edited.

use super::*;

/// The frozen text of a name.
macro_rules! frozen {
    ($($name:literal),* $(,)?) => {
        [$((
            $name,
            include_bytes!(concat!(
                env!("CARGO_MANIFEST_DIR"),
                "/tests/golden/statements-v1/",
                $name,
                ".txt"
            )) as &[u8],
        )),*]
    };
}

pub(super) const FROZEN: [(&str, &[u8]); 23] = frozen![
    "create-kek",
    "rotate-kek",
    "set-rotation-mandate",
    "withdraw-rotation-mandate",
    "reinstate",
    "revoke-version",
    "destroy-version",
    "cancel-destruction",
    "import-kek",
    "allow-pkcs1v15",
    "forbid-pkcs1v15",
    "grant-unwrap",
    "withdraw-unwrap",
    "assign-role",
    "remove-client",
    "bind-recording-policy",
    "unbind-recording-policy",
    "change-officers",
    "change-policy",
    "recover",
    "execution",
    "suspension-kek",
    "suspension-all",
];

#[test]
fn every_statement_is_written_as_it_always_was() {
    let drafted = drafted();
    assert_eq!(drafted.len(), FROZEN.len());
    for ((name, text), (frozen_name, frozen)) in drafted.iter().zip(FROZEN) {
        assert_eq!(name, frozen_name);
        let (text, frozen) = (str::from_utf8(text), str::from_utf8(frozen));
        assert_eq!(text.unwrap(), frozen.unwrap(), "{name}");
    }
}

#[test]
fn every_frozen_statement_is_read_as_what_it_was_written_from() {
    let values = OperationKind::ALL.map(|kind| operation(kind).settled());
    for ((name, frozen), expected) in FROZEN.iter().zip(values) {
        let read = Proposal::parse(frozen).unwrap();
        assert_eq!(read.operation, expected, "{name}");
        assert_eq!(read.operation.kind().name(), *name);
        assert_eq!(read.approvers, expected.kind().approvers());
        assert_eq!(read.opened_at, UnixMs(1_795_284_000_000));
        assert_eq!((read.proposer.as_str(), read.nonce), ("alice", [0x1f; 16]));
        assert_eq!((read.epoch, read.head.size, read.threshold), (3, 1024, 2));
    }
    for (name, frozen) in FROZEN {
        read(name, frozen).unwrap();
    }
}

#[test]
fn every_effect_can_be_read_by_a_person_and_is_of_its_operation_alone() {
    let effects = OperationKind::ALL.map(|kind| operation(kind).effect());
    for (at, effect) in effects.iter().enumerate() {
        assert!(effect.ends_with('.') && effect.len() > 40, "{effect}");
        assert!(effect.chars().all(|c| c.is_ascii_graphic() || c == ' '));
        assert!(!effect.contains("  "), "{effect}");
        assert!(!effects.iter().skip(at + 1).any(|other| other == effect));
    }
}
