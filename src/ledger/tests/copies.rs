//! Copies and exports: verified like a ledger in service, never changed, and held against what the
//! caller knows.

use std::fs;

use super::*;
use crate::merkle::Head;

const NOTHING: Expectations = Expectations {
    instance_id: None,
    checkpoint: None,
};

/// A ledger of three entries in service, its note at two entries, and a copy of its file.
fn copied() -> (Site, Ledger, String, PathBuf) {
    let site = Site::new();
    let mut ledger = site.bear();
    let older = ledger.reader().unwrap().newest_note().unwrap();
    site.append(&mut ledger, archive(), NOW);
    let copy = site.folder.path().join("copy");
    copy_dir(&site.dir(), &copy);
    (site, ledger, older, copy.join(LEDGER_FILE))
}

fn listed(dir: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let files = fs::read_dir(dir).unwrap().map(|file| file.unwrap().path());
    let mut files: Vec<_> = files
        .map(|path| (path.clone(), fs::read(path).unwrap()))
        .collect();
    files.sort();
    files
}

fn reason(verified: Result<Verified, LedgerError>) -> String {
    verified.err().unwrap().to_string()
}

#[test]
fn a_copy_is_verified_with_its_wal_and_not_changed() {
    let (_site, ledger, _, copy) = copied();
    let before = listed(copy.parent().unwrap());
    let wal = copy.with_file_name("ledger.db-wal");
    assert!(fs::metadata(&wal).unwrap().len() > 0, "the case needs one");
    let verified = verify_copy(&copy, &NOTHING).unwrap();
    assert_eq!(verified.state().head(), ledger.state().head());
    assert_eq!(verified.entries().len(), 3);
    assert_eq!(listed(copy.parent().unwrap()), before);
    // Without its WAL it is an older ledger, whole in itself.
    fs::remove_file(wal).unwrap();
    assert_eq!(verify_copy(&copy, &NOTHING).unwrap().state().size(), 2);
    assert!(reason(verify_copy(Path::new("/nowhere"), &NOTHING)).contains("cannot open"));
}

#[test]
fn a_copy_is_held_against_what_the_caller_knows() {
    let (site, ledger, older, copy) = copied();
    let newest = ledger.reader().unwrap().newest_note().unwrap();
    let id = ledger.state().instance_id();
    let expecting = |instance_id, checkpoint: Option<&str>| {
        let expect = Expectations {
            instance_id,
            checkpoint: checkpoint.map(str::to_owned),
        };
        verify_copy(&copy, &expect)
    };
    for note in [&older, &newest] {
        expecting(Some(id), Some(note)).unwrap();
    }
    let other = Some(Sha256::of(b"other"));
    assert!(reason(expecting(other, None)).contains("found a ledger of the instance"));
    assert!(reason(expecting(None, Some("x"))).contains("the checkpoint is malformed"));
    // What the log key signed of another history.
    let forked = |size| {
        let head = Head {
            size,
            root: Sha256::of(b"other"),
        };
        let checkpoint = Checkpoint::new(&ledger.state().origin(), head).unwrap();
        let signature = site.sign(&checkpoint.text());
        checkpoint
            .into_note(ledger.state().log_key(), &signature)
            .unwrap()
    };
    assert!(reason(expecting(None, Some(&forked(2)))).contains("two histories were signed"));
    assert!(reason(expecting(None, Some(&forked(3)))).contains("two histories were signed"));
    assert!(reason(expecting(None, Some(&forked(4)))).contains("this copy is older"));
    let stranger = Site::new().bear().reader().unwrap().newest_note().unwrap();
    assert!(reason(expecting(None, Some(&stranger))).contains("expected a checkpoint of the log"));
}

#[test]
fn entries_taken_from_elsewhere_are_verified_the_same() {
    let (_site, ledger, older, _) = copied();
    let reader = ledger.reader().unwrap();
    let (entries, note) = (
        reader.entries(0, usize::MAX).unwrap().entries,
        reader.newest_note().unwrap(),
    );
    let of = |entries: &[&Vec<u8>], note: &str| {
        let entries = entries.iter().map(|bytes| (*bytes).clone()).collect();
        Verified::of(entries, note.to_owned(), &NOTHING)
    };
    let [a, b, c] = &entries[..] else {
        unreachable!("three entries were written");
    };
    of(&[a, b, c], &note).unwrap();
    of(&[a, b], &older).unwrap();
    for (entries, note, expected) in [
        (&[a, b][..], &note, "expected 3 entries"),
        (&[a, b, c], &older, "a signed checkpoint over 3 entries"),
        (&[a, c], &older, "expected the index 1; found 2"),
        (&[a, c, b], &note, "expected the index 1; found 2"),
        (&[a, b, b], &note, "expected the index 2; found 1"),
        (&[b, c], &older, "the birth of the instance as entry 0"),
        (&[], &note, "expected at least one entry"),
        (&[a, b, c], &String::new(), "found none"),
    ] {
        let found = reason(of(entries, note));
        assert!(found.contains(expected), "{found}");
    }
}

#[test]
fn an_export_is_what_its_entries_say_and_nothing_else() {
    let (site, _ledger, _, copy) = copied();
    let verified = verify_copy(&copy, &NOTHING).unwrap();
    let files = export(&verified);
    let dir = site.folder.path().join("export");
    for (path, bytes) in &files {
        let path = dir.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }
    let whole = verify_export(&dir, &NOTHING).unwrap();
    assert_eq!(whole.state().head(), verified.state().head());
    assert_eq!(deeds(&whole).len(), 3);
    assert_eq!(deeds(&whole)[0].by, ["alice", "bob"]);
    for (path, bytes) in &files {
        let mut changed = bytes.clone();
        changed[bytes.len() / 2] ^= 1;
        fs::write(dir.join(path), changed).unwrap();
        assert!(verify_export(&dir, &NOTHING).is_err(), "{path} was changed");
        fs::remove_file(dir.join(path)).unwrap();
        assert!(verify_export(&dir, &NOTHING).is_err(), "{path} was removed");
        fs::write(dir.join(path), bytes).unwrap();
    }
    fs::write(dir.join("more"), "").unwrap();
    assert!(reason(verify_export(&dir, &NOTHING)).contains("not to be there"));
}

/// Reliability case 30: every byte of every entry, through a copy anybody may write to.
#[test]
fn no_byte_of_a_copy_can_change_whatever_the_hash_beside_it_says() {
    let (_site, _ledger, _, copy) = copied();
    let entries = verify_copy(&copy, &NOTHING).unwrap().entries().to_vec();
    let db = Connection::open(&copy).unwrap();
    db.execute_batch("PRAGMA journal_mode = DELETE").unwrap();
    drop(db);
    let note = verify_copy(&copy, &NOTHING).unwrap().note().to_owned();
    for (index, bytes) in entries.iter().enumerate() {
        for at in 0..bytes.len() {
            let mut changed = entries.clone();
            changed[index][at] ^= 1 << (at % 8);
            // With a hash that fits the bytes, only the fold and the signed root are left.
            let found = reason(Verified::of(changed, note.clone(), &NOTHING));
            // A later time is seen at the next entry, another instance there or at the note.
            let named = (index..=index + 1)
                .any(|index| found.contains(&format!("entry {index} is refused")));
            let unsigned = ["expected the root", "expected a checkpoint of the log"]
                .iter()
                .any(|reason| found.contains(reason));
            let by_key = index == 0 && found.contains("no signature by the pinned key");
            assert!(
                named || unsigned || by_key,
                "byte {at} of entry {index}: {found}"
            );
        }
    }
}
