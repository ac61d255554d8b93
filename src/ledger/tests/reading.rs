//! Reading beside the writer: what is read is what is committed, and every proof leads to its note.

use super::*;
use crate::types::Next;

#[test]
fn entries_are_read_in_pages_as_they_are_stored() {
    let site = Site::new();
    let mut ledger = site.bear();
    let reader = ledger.reader().unwrap();
    let whole = reader.entries(0, usize::MAX).unwrap();
    assert_eq!((whole.entries.len(), whole.size), (2, 2));
    // The reader was open before this entry was.
    site.append(&mut ledger, archive(), NOW);
    let [first, second, third] = &reader.entries(0, usize::MAX).unwrap().entries[..] else {
        unreachable!("three entries were written");
    };
    assert_eq!([first.clone(), second.clone()], whole.entries[..]);
    let page = |from, bytes_max| reader.entries(from, bytes_max).unwrap().entries;
    let two = first.len() + second.len();
    assert_eq!(page(0, two), [first.clone(), second.clone()]);
    assert_eq!(page(0, two - 1), std::slice::from_ref(first));
    assert_eq!(page(1, 0), std::slice::from_ref(second));
    assert_eq!(page(2, usize::MAX), std::slice::from_ref(third));
    for from in [3, u64::MAX] {
        let none = reader.entries(from, usize::MAX).unwrap();
        assert_eq!((none.entries.len(), none.size), (0, 3));
    }
}

#[test]
fn a_reader_never_waits_for_the_writer() {
    let site = Site::new();
    let mut ledger = site.bear();
    let reader = ledger.reader().unwrap();
    let held = Connection::open(site.file()).unwrap();
    held.execute_batch("BEGIN IMMEDIATE").unwrap();
    assert_eq!(reader.entries(0, 0).unwrap().size, 2);
    assert_eq!(reader.prove(1).unwrap().index, 1);
    held.execute_batch("ROLLBACK").unwrap();
    // And a reader in the middle of its work does not hold the writer up.
    let _still = reader.newest_note().unwrap();
    assert_eq!(site.append(&mut ledger, archive(), NOW).size(), 3);
}

#[test]
fn every_entry_is_proved_and_no_altered_proof_is_accepted() {
    let site = Site::new();
    let mut ledger = site.bear();
    site.append(&mut ledger, archive(), NOW);
    let reader = ledger.reader().unwrap();
    let state = Arc::clone(ledger.state());
    for index in 0..3 {
        let proof = reader.prove(index).unwrap();
        assert_eq!(proof.note, reader.newest_note().unwrap());
        let proved = check_proof(&proof, state.log_key()).unwrap();
        assert_eq!(proved.instance_id, state.instance_id());
        assert_eq!((proved.head, proved.entry.index), (state.head(), index));

        let text = proof.to_text();
        assert_eq!(InclusionProof::parse(&text).unwrap(), proof);
        // One bit of each character in turn; what is no text any more no file can be read as.
        for at in 0..text.len() {
            let mut changed = text.clone().into_bytes();
            changed[at] ^= 1;
            let accepted = String::from_utf8(changed).is_ok_and(|text| {
                InclusionProof::parse(&text)
                    .is_ok_and(|proof| check_proof(&proof, state.log_key()).is_ok())
            });
            assert!(!accepted, "character {at} of the proof of entry {index}");
        }
        let stranger = Site::new();
        let key = stranger.log_key.public_key().as_der().unwrap();
        let key = crate::merkle::LogKey::from_spki(key.as_ref()).unwrap();
        assert!(check_proof(&proof, &key).is_err());
    }
    for index in [3, u64::MAX] {
        let found = reader.prove(index).unwrap_err();
        assert!(
            matches!(found, LedgerError::EntryUnknown { size: 3, .. }),
            "{found}"
        );
        assert_eq!(found.next(), Next::CallerFault);
    }
}

#[test]
fn a_file_changed_behind_the_reader_is_not_proved() {
    let site = Site::new();
    let ledger = site.bear();
    let reader = ledger.reader().unwrap();
    site.tamper("UPDATE entry SET leaf = zeroblob(32) WHERE idx = 0");
    assert_eq!(reader.prove(1).unwrap_err().next(), Next::Fatal);
    site.tamper("UPDATE entry SET bytes = x'00' WHERE idx = 1");
    assert_eq!(reader.prove(1).unwrap_err().next(), Next::Fatal);
}

#[test]
fn two_writers_do_not_both_write() {
    let site = Site::new();
    let mut ledger = site.bear();
    let mut other = Store::open(&site.file()).unwrap();
    let append = |ledger: &Ledger| {
        let prepared = ledger.prepare(archive(), NOW).unwrap();
        let signature = site.sign(&prepared.checkpoint.text());
        (prepared, signature)
    };
    let (here, by_here) = append(&ledger);
    let (there, by_there) = append(&ledger);
    let note = there.checkpoint.clone();
    let note = note.into_note(ledger.state().log_key(), &by_there).unwrap();
    other.append(&there.entry, &note).unwrap();
    let found = ledger.commit(here, &by_here).err().unwrap();
    assert!(
        matches!(
            found,
            LedgerError::WrittenByAnother {
                expected: 2,
                found: 3
            }
        ),
        "{found}"
    );
    assert_eq!(found.next(), Next::Fatal);
    // From here on this process does not know the file, and says so.
    let (again, by_again) = append(&ledger);
    let found = ledger.commit(again, &by_again).err().unwrap();
    assert!(
        matches!(found, LedgerError::OutcomeUnknown { .. }),
        "{found}"
    );
    drop((ledger, other));
    assert_eq!(site.open().unwrap().state().size(), 3);
}
