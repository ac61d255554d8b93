//! Formats that were ever signed or written to a token. Files are added, never edited.

use super::*;
use crate::merkle::root_of;

const NOTE: &str = include_str!("../../../tests/golden/ledger-v1/checkpoint.txt");
const PIN: &[u8] = include_bytes!("../../../tests/golden/ledger-v1/pin.txt");
const ANCHOR: &[u8] = include_bytes!("../../../tests/golden/ledger-v1/anchor.txt");
const GENESIS: &[u8] = include_bytes!("../../../tests/golden/ledger-v1/genesis.toml");
const BY_ALICE: &[u8] = include_bytes!("../../../tests/golden/ledger-v1/genesis.toml.alice.sig");
const BY_BOB: &[u8] = include_bytes!("../../../tests/golden/ledger-v1/genesis.toml.bob.sig");
const INSTANCE: &str = "618fb78fc23d7e3c322697495575f44eff5e54b9bc75f2e45cc43eb7d1bbdf36";

#[test]
fn entries_are_written_as_they_always_were() {
    let draft = Draft::new(ENTRIES.map(event).to_vec(), NOW).unwrap();
    for frozen in ENTRIES {
        StoredEntry::decode(frozen.to_vec()).unwrap();
    }
    // The root stands for every byte of what was encoded anew.
    assert_eq!(draft.state().root(), root_of(&ENTRIES.map(leaf_hash)));
    assert_eq!(draft.state().instance_id().to_string(), INSTANCE);
    let birth = frozen_birth();
    assert_eq!(birth.genesis, GENESIS);
    assert_eq!(birth.signatures, [BY_ALICE, BY_BOB]);
}

#[test]
fn checkpoints_pins_and_anchors_are_read_and_written_as_they_always_were() {
    let draft = Draft::new(ENTRIES.map(event).to_vec(), NOW).unwrap();
    let state = draft.state();
    let signed = Checkpoint::open(NOTE, &state.origin(), state.log_key()).unwrap();
    assert_eq!(signed.head(), state.head());
    assert!(NOTE.starts_with(&state.checkpoint().unwrap().text()));
    let pin = Pin {
        instance_id: state.instance_id(),
    };
    assert_eq!(pin.to_bytes(), PIN);
    assert_eq!(Pin::parse(PIN).unwrap(), pin);
    let anchor = Anchor {
        instance_id: state.instance_id(),
        head: state.head(),
    };
    assert_eq!(anchor.to_bytes(), ANCHOR);
    assert_eq!(Anchor::parse(ANCHOR).unwrap(), anchor);
}

/// Every event as it is encoded, from fixed values; the birth and a KEK version are those above.
fn every_event() -> Vec<(&'static str, Event)> {
    let statement = || b"a statement\n".to_vec();
    let signature = || b"a signature\n".to_vec();
    let proposal_id = || vec![0x11; 32];
    let keypair_id = || vec![0x22; 16];
    vec![
        (
            "proposal-opened",
            Event::ProposalOpened(v1::ProposalOpened {
                statement: statement(),
                signature: signature(),
            }),
        ),
        (
            "approval-given",
            Event::ApprovalGiven(v1::ApprovalGiven {
                proposal_id: proposal_id(),
                signature: signature(),
            }),
        ),
        (
            "possession-proven",
            Event::PossessionProven(v1::PossessionProven {
                proposal_id: proposal_id(),
                signature: signature(),
            }),
        ),
        (
            "proposal-vetoed",
            Event::ProposalVetoed(v1::ProposalVetoed {
                proposal_id: proposal_id(),
                signature: signature(),
            }),
        ),
        (
            "proposal-expired",
            Event::ProposalExpired(v1::ProposalExpired {
                proposal_id: proposal_id(),
            }),
        ),
        (
            "operation-executed",
            Event::OperationExecuted(v1::OperationExecuted {
                statement: statement(),
                signature: signature(),
            }),
        ),
        (
            "execution-begun",
            Event::ExecutionBegun(v1::ExecutionBegun {
                statement: statement(),
                signature: signature(),
                keypair_id: keypair_id(),
            }),
        ),
        (
            "mandated-rotation-begun",
            Event::MandatedRotationBegun(v1::MandatedRotationBegun {
                mandate_id: proposal_id(),
                keypair_id: keypair_id(),
            }),
        ),
        (
            "execution-failed",
            Event::ExecutionFailed(v1::ExecutionFailed {
                keypair_id: keypair_id(),
                reason: "the token refused".to_owned(),
            }),
        ),
        (
            "version-destroyed",
            Event::VersionDestroyed(v1::VersionDestroyed {
                keypair_id: keypair_id(),
            }),
        ),
        (
            "suspended",
            Event::Suspended(v1::Suspended {
                statement: statement(),
                signature: signature(),
            }),
        ),
        (
            "suspended-by-host",
            Event::SuspendedByHost(v1::SuspendedByHost {
                kek: "recordings".to_owned(),
            }),
        ),
        (
            "kek-version-activated-by-proposal",
            Event::KekVersionActivated(v1::KekVersionActivated {
                number: 2,
                proposal_id: proposal_id(),
                ..frozen_kek(1)
            }),
        ),
        ("instance-created", Event::InstanceCreated(frozen_birth())),
    ]
}

#[test]
fn every_event_is_encoded_as_it_always_was() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/ledger-entries-v1");
    let instance_id: Sha256 = INSTANCE.parse().unwrap();
    for (name, event) in every_event() {
        let birth = matches!(event, Event::InstanceCreated(_));
        let (index, instance) = match birth {
            true => (0, None),
            false => (7, Some(instance_id)),
        };
        let encoded = StoredEntry::encode(index, NOW, instance, event);
        let frozen = std::fs::read(folder.join(format!("{name}.bin"))).unwrap_or_default();
        assert!(encoded.bytes() == frozen, "{name} is encoded otherwise");
        StoredEntry::decode(frozen).unwrap();
    }
    assert_eq!(
        std::fs::read_dir(folder).unwrap().count(),
        every_event().len()
    );
}
