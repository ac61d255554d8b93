//! Reading beside the writer: what is read is what is committed, and every proof leads to its note.

use super::*;
use crate::keyring::Version;
use crate::quorum::{Genesis, NewVersion};
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

/// A version is certified as its proposal says: the name, and how long.
#[test]
fn a_certificate_for_another_name_or_another_time_is_refused() {
    let made = keys::version(&frozen_kek(1), NOW).unwrap();
    let issuer = frozen_birth().issuing_certificate;
    let genesis = Genesis::parse(&frozen_birth().genesis).unwrap();
    let approved = &genesis.keks()[0];
    let asked = |subject: &str, valid_days| NewVersion {
        kek: approved.name.clone(),
        profile: approved.profile.clone(),
        profile_sha256: Sha256::of(&made.profile),
        certificate_subject: subject.to_owned(),
        certificate_valid_days: valid_days,
    };
    let (subject, days) = (
        &*approved.certificate_subject,
        approved.certificate_valid_days,
    );
    let judged = |subject: &str, valid_days| {
        keys::is_certified_as(&made, &asked(subject, valid_days), &issuer)
            .map_err(|refused| refused.to_string())
    };
    assert_eq!(judged(subject, days), Ok(()));
    // Another spelling of the same name.
    assert_eq!(judged(&subject.replace("CN=", "cn="), days), Ok(()));
    for (subject, days, said) in [
        ("CN=mallory", days, "certificate's subject: expected"),
        (&*format!("{subject},O=x"), days, "certificate's subject"),
        (subject, days - 1, "end of the certificate: expected"),
    ] {
        let refused = judged(subject, days).unwrap_err();
        assert!(refused.contains(said), "{refused}");
    }
    // Without an issuer's end in the way, it must end when it was to end.
    let own = Version {
        is_self_signed: true,
        ..made.clone()
    };
    let longer = keys::is_certified_as(&own, &asked(subject, days + 1), &issuer);
    assert!(longer.unwrap_err().to_string().contains("end of the"));
}
