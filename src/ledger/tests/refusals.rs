//! Entries that were changed, moved, removed or never fit: each is refused, and named.

use super::*;

#[test]
fn no_byte_of_an_entry_can_change() {
    let site = Site::born();
    let ledger = site.open().unwrap();
    let mut entries = Vec::new();
    ledger
        .store
        .read_entries(|row| {
            entries.push(row.bytes);
            Ok(())
        })
        .unwrap();
    drop(ledger);
    let db = Connection::open(site.file()).unwrap();
    let write = |sql: &str, index: usize, value: &[u8]| {
        let index = i64::try_from(index).unwrap();
        db.execute(sql, rusqlite::params![value, index]).unwrap();
    };
    for (index, bytes) in entries.iter().enumerate() {
        for at in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[at] ^= 1 << (at % 8);
            write(
                "UPDATE entry SET bytes = ?1 WHERE idx = ?2",
                index,
                &changed,
            );
            let found = site.refusal();
            let named = format!("expected entry {index} as it was written");
            assert!(
                found.contains(&named),
                "byte {at} of entry {index}: {found}"
            );
        }
        // Whoever changes the hash beside it as well meets the signed root or the fold.
        for at in (0..bytes.len()).step_by(37) {
            let mut changed = bytes.clone();
            changed[at] ^= 1 << (at % 8);
            write(
                "UPDATE entry SET bytes = ?1 WHERE idx = ?2",
                index,
                &changed,
            );
            let leaf = leaf_hash(&changed);
            write(
                "UPDATE entry SET leaf = ?1 WHERE idx = ?2",
                index,
                leaf.as_bytes(),
            );
            assert!(
                site.open().is_err(),
                "byte {at} of entry {index} and its hash"
            );
        }
        write("UPDATE entry SET bytes = ?1 WHERE idx = ?2", index, bytes);
        write(
            "UPDATE entry SET leaf = ?1 WHERE idx = ?2",
            index,
            leaf_hash(bytes).as_bytes(),
        );
    }
    drop(db);
    site.open().unwrap();
}

#[test]
fn entries_cannot_be_removed_moved_or_added() {
    let cases = [
        (
            "DELETE FROM entry WHERE idx = 2",
            "expected 3 entries, for so many are signed; found 2",
        ),
        (
            "DELETE FROM entry WHERE idx = 1",
            "expected entry 1; found entry 2 in its place",
        ),
        (
            "DELETE FROM entry WHERE idx = 0",
            "expected entry 0; found entry 1 in its place",
        ),
        (
            "DELETE FROM entry",
            "expected at least one entry; found none",
        ),
        (
            "UPDATE entry SET idx = 9 WHERE idx = 1; UPDATE entry SET idx = 1 WHERE idx = 2;
             UPDATE entry SET idx = 2 WHERE idx = 9",
            "entry 1 is refused: expected the index 1; found 2",
        ),
        (
            "DELETE FROM entry WHERE idx = 1; UPDATE entry SET idx = 1 WHERE idx = 2",
            "entry 1 is refused: expected the index 1; found 2",
        ),
        (
            "INSERT INTO entry SELECT 3, leaf, bytes FROM entry WHERE idx = 2",
            "entry 3 is refused: expected the index 3; found 2",
        ),
        (
            "UPDATE entry SET leaf = zeroblob(32) WHERE idx = 1",
            "expected entry 1 as it was",
        ),
        (
            "DELETE FROM checkpoint",
            "expected a signed checkpoint over 3 entries; found none",
        ),
        (
            "DELETE FROM checkpoint WHERE size = 3",
            "signed checkpoint over 3 entries; found none",
        ),
        (
            "UPDATE checkpoint SET note = 'x'",
            "the checkpoint is malformed",
        ),
        (
            "UPDATE checkpoint SET note = replace(note, x'0a' || '3' || x'0a', x'0a' || '4' || x'0a')",
            "does not verify under the pinned key",
        ),
        (
            "UPDATE checkpoint SET note = (SELECT note FROM checkpoint WHERE size = 2)",
            "expected the root",
        ),
        (
            "UPDATE checkpoint SET size = 4 WHERE size = 3",
            "expected 4 entries",
        ),
        ("DROP TABLE checkpoint", "no such table"),
        (
            "ALTER TABLE entry RENAME TO old; CREATE VIEW entry AS SELECT * FROM old",
            "access to view",
        ),
    ];
    for (sql, reason) in cases {
        let site = Site::new();
        let mut ledger = site.bear();
        site.append(&mut ledger, archive(), NOW);
        drop(ledger);
        site.open().unwrap();
        site.tamper(sql);
        let found = site.refusal();
        assert!(found.contains(reason), "{sql}: {found}");
    }
}

#[test]
fn a_ledger_signed_by_another_key_is_refused() {
    let (site, other) = (Site::new(), Site::new());
    let mut ledger = site.bear();
    let prepared = ledger.prepare(archive(), NOW).unwrap();
    let note = |log_key: &EcdsaKeyPair| {
        let spki = log_key.public_key().as_der().unwrap();
        let key = crate::merkle::LogKey::from_spki(spki.as_ref()).unwrap();
        let signature = other.sign(&prepared.checkpoint.text());
        prepared.checkpoint.clone().into_note(&key, &signature)
    };
    let forged = note(&other.log_key).unwrap();
    ledger.store.append(&prepared.entry, &forged).unwrap();
    drop(ledger);
    assert!(
        site.refusal()
            .contains("carries no signature by the pinned key")
    );
}

/// What is wrong with an event that follows the birth.
fn refused(change: impl FnOnce(&mut v1::KekVersionActivated)) -> String {
    let mut kek = frozen_kek(1);
    change(&mut kek);
    let events = vec![
        Event::InstanceCreated(frozen_birth()),
        Event::KekVersionActivated(kek),
    ];
    Draft::new(events, NOW).err().unwrap().to_string()
}

#[test]
fn versions_that_contradict_themselves_or_the_genesis_are_refused() {
    let other = frozen_kek(2);
    let cases: [(&str, String); 17] = [
        ("found unknown", refused(|k| k.kek = "unknown".to_owned())),
        (
            "kek: a KEK name must be",
            refused(|k| k.kek = "Recordings".to_owned()),
        ),
        (
            "expected a proposal that asks for it",
            refused(|k| k.number = 2),
        ),
        (
            "keypair_id: a keypair id",
            refused(|k| k.keypair_id.truncate(k.keypair_id.len() - 1)),
        ),
        (
            "one of another key",
            refused(|k| k.spki = other.spki.clone()),
        ),
        (
            "one of another key",
            refused(|k| k.certificate = other.certificate.clone()),
        ),
        (
            "certificate: expected a DER",
            refused(|k| k.certificate.truncate(k.certificate.len() - 1)),
        ),
        (
            "certificate: expected a DER",
            refused(|k| k.certificate.push(0)),
        ),
        (
            "spki: expected",
            refused(|k| k.spki.truncate(k.spki.len() - 1)),
        ),
        ("spki: expected", refused(|k| k.spki.push(0))),
        (
            "found \"other\"",
            refused(|k| k.profile = b"name = \"other\"".to_vec()),
        ),
        (
            "the profile with SHA-256",
            refused(|k| k.profile.push(b'\n')),
        ),
        (
            "profile: expected a key profile",
            refused(|k| k.profile = b"x = 1".to_vec()),
        ),
        ("at least one value", refused(|k| k.paddings.clear())),
        ("values this kekd knows", refused(|k| k.paddings = vec![0])),
        ("each value once", refused(|k| k.paddings = vec![1, 1])),
        (
            "values this kekd knows",
            refused(|k| k.release_forms = vec![9]),
        ),
    ];
    for (reason, found) in cases {
        assert!(
            found.starts_with("entry 1 is refused") && found.contains(reason),
            "{found}"
        );
    }
}

#[test]
fn keys_are_new_and_have_ids_of_their_own() {
    let draft = |events| Draft::new(events, NOW).err().unwrap().to_string();
    let birth = frozen_birth();
    let log_id = birth.log_signing_key.as_ref().unwrap().object_id.clone();
    let found = refused(|kek| kek.keypair_id = log_id.clone());
    assert!(found.contains("to have an id of its own"), "{found}");

    let begin = |kek| {
        vec![
            event(ENTRIES[0]),
            recordings(),
            Event::KekVersionActivated(kek),
        ]
    };
    let same_id = v1::KekVersionActivated {
        keypair_id: frozen_kek(1).keypair_id,
        ..frozen_kek(2)
    };
    let same_key = v1::KekVersionActivated {
        kek: "archive".to_owned(),
        keypair_id: frozen_kek(2).keypair_id,
        ..frozen_kek(1)
    };
    assert!(draft(begin(same_id)).contains("does not follow what the keyring holds"));
    assert!(draft(begin(same_key)).contains("expected each key to be new"));

    let mut shared = birth.clone();
    shared.issuing_key.as_mut().unwrap().object_id = log_id.clone();
    assert!(draft(vec![Event::InstanceCreated(shared)]).contains("an id of its own"));
    let mut shared = birth.clone();
    shared.implicit_rejection_key.as_mut().unwrap().object_id = log_id;
    assert!(draft(vec![Event::InstanceCreated(shared)]).contains("an id of its own"));
    let mut shared = birth;
    shared.log_signing_key.as_mut().unwrap().spki =
        shared.issuing_key.as_ref().unwrap().spki.clone();
    assert!(draft(vec![Event::InstanceCreated(shared)]).contains("an id of its own"));
}

#[test]
fn a_birth_that_nobody_agreed_to_or_that_is_not_whole_is_refused() {
    let refused = |change: &dyn Fn(&mut v1::InstanceCreated)| {
        let mut birth = frozen_birth();
        change(&mut birth);
        let draft = Draft::new(vec![Event::InstanceCreated(birth)], NOW);
        draft.err().unwrap().to_string()
    };
    let cases = [
        (
            "found those of 1",
            refused(&|b| b.signatures.truncate(b.signatures.len() - 1)),
        ),
        ("does not verify", refused(&|b| b.genesis.push(b'\n'))),
        (
            "has signed already",
            refused(&|b| b.signatures[1] = b.signatures[0].clone()),
        ),
        ("token: expected", refused(&|b| b.token = None)),
        (
            "token: expected",
            refused(&|b| b.token.as_mut().unwrap().serial.clear()),
        ),
        (
            "log_signing_key: expected",
            refused(&|b| b.log_signing_key = None),
        ),
        (
            "P-256",
            refused(&|b| b.log_signing_key.as_mut().unwrap().spki.clear()),
        ),
        (
            "P-256",
            refused(&|b| b.issuing_key.as_mut().unwrap().spki = frozen_kek(1).spki),
        ),
        (
            "issuing_certificate",
            refused(&|b| b.issuing_certificate.clear()),
        ),
        (
            "one of another key",
            refused(&|b| b.issuing_certificate = frozen_kek(1).certificate),
        ),
        (
            "a secret key",
            refused(&|b| b.implicit_rejection_key.as_mut().unwrap().spki.push(1)),
        ),
    ];
    for (reason, found) in cases {
        assert!(
            found.starts_with("entry 0 is refused") && found.contains(reason),
            "{found}"
        );
    }
    let second = vec![event(ENTRIES[0]), event(ENTRIES[0])];
    let found = Draft::new(second, NOW).err().unwrap().to_string();
    assert!(found.contains("anything but a second birth"), "{found}");
    let found = Draft::new(vec![recordings()], NOW)
        .err()
        .unwrap()
        .to_string();
    assert!(
        found.contains("the birth of the instance as entry 0"),
        "{found}"
    );
    assert!(matches!(Draft::new(vec![], NOW), Err(LedgerError::Empty)));
}

#[test]
fn entries_that_do_not_follow_are_refused() {
    let state = Draft::new(vec![event(ENTRIES[0])], NOW).unwrap();
    let state = state.state().clone();
    let id = Some(state.instance_id());
    let other = Some(Sha256::of(b"other"));
    let before = UnixMs(NOW.0 - 1);
    for (index, time, instance, reason) in [
        (2, NOW, id, "expected the index 1; found 2"),
        (0, NOW, id, "expected the index 1; found 0"),
        (1, NOW, other, "an entry of another instance"),
        (1, NOW, None, "an entry of another instance"),
        (1, before, id, "ms or later"),
    ] {
        let entry = StoredEntry::encode(index, time, instance, recordings());
        let found = state.clone().advance(&entry).err().unwrap().to_string();
        assert!(found.contains(reason), "{found}");
    }
    let named = StoredEntry::encode(0, NOW, other, event(ENTRIES[0]));
    assert!(State::begin(&named).is_err(), "entry 0 names an instance");
}

#[test]
fn bytes_that_this_kekd_would_not_write_are_refused() {
    let good = ENTRIES[1].to_vec();
    StoredEntry::decode(good.clone()).unwrap();
    let unknown_field = [&good[..], &[0x98, 0x06, 0x01]].concat();
    let repeated_field = [&good[..], &[0x08, 0x01]].concat();
    for (bytes, reason) in [
        (unknown_field, "use the kekd that wrote it, or a newer one"),
        (repeated_field, "each in its one form"),
        (good[..good.len() - 1].to_vec(), "bytes that are none"),
        (vec![0; ENTRY_LEN_MAX + 1], "at most 1048576 bytes"),
    ] {
        let found = StoredEntry::decode(bytes).err().unwrap().to_string();
        assert!(found.contains(reason), "{found}");
    }
    // No event at all, or one with a number of the future.
    let empty = StoredEntry::decode(vec![]).unwrap();
    assert!(matches!(
        State::begin(&empty),
        Err(EntryError::EventUnknown)
    ));
}
