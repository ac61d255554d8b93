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
