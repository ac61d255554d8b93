//! The marker byte by byte, its slots when they are full or damaged, and the drop folder.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that cannot unwrap has failed"
)]

use std::fs;

use tempfile::TempDir;

use super::marker::{decode, encode, parse};
use super::*;

fn kek(name: &str) -> KekName {
    name.parse().unwrap()
}

fn by_host(name: &str) -> Stop {
    Stop {
        target: Some(kek(name)),
        source: Source::Host,
    }
}

fn of_all(source: Source) -> Stop {
    Stop {
        target: None,
        source,
    }
}

fn by_officer(name: &str) -> Stop {
    Stop {
        target: Some(kek(name)),
        source: Source::Officer {
            statement: b"kekd suspension v1\n".repeat(60),
            signature: b"-----BEGIN SSH SIGNATURE-----\n".repeat(60),
        },
    }
}

fn folder() -> TempDir {
    tempfile::tempdir().unwrap()
}

fn stops(dir: &TempDir) -> Stops {
    Stops::open(dir.path()).unwrap()
}

fn touch(dir: &TempDir, name: &str) {
    fs::write(dir.path().join(FOLDER).join(name), "").unwrap();
}

fn bytes(dir: &TempDir) -> Vec<u8> {
    fs::read(dir.path().join(FILE_NAME)).unwrap()
}

#[test]
fn a_stop_is_in_effect_at_once_and_after_a_restart() {
    let dir = folder();
    let first = stops(&dir);
    let (a, b) = (kek("a"), kek("b"));
    assert!(!first.is_stopped(&a) && first.pending().is_empty());
    assert_eq!(first.add(by_officer("a")).unwrap(), Added::New);
    assert_eq!(first.add(by_officer("a")).unwrap(), Added::Already);
    assert!(first.is_stopped(&a) && !first.is_stopped(&b) && !first.is_all_stopped());
    // As after SIGKILL: nothing is closed in order.
    let again = stops(&dir);
    assert!(again.is_stopped(&a) && !again.is_stopped(&b));
    assert_eq!(again.pending(), [by_officer("a")]);
    again.add(of_all(Source::Host)).unwrap();
    assert!(again.is_stopped(&b) && again.is_all_stopped());

    again.settled(&by_officer("a")).unwrap();
    again.settled(&of_all(Source::Host)).unwrap();
    assert!(!again.is_stopped(&a) && again.pending().is_empty());
    assert!(again.problems().is_empty());
    assert!(stops(&dir).pending().is_empty());
}

#[test]
fn the_file_has_its_length_from_the_start_and_is_the_services_alone() {
    use std::os::unix::fs::MetadataExt as _;
    let dir = folder();
    let stops = stops(&dir);
    let of = |name: &str| fs::metadata(dir.path().join(name)).unwrap();
    let (before, mode) = (of(FILE_NAME), of(FILE_NAME).mode() & 0o777);
    assert_eq!((before.len(), mode), (256 * 1024, 0o600));
    assert_eq!(of(FOLDER).mode() & 0o777, 0o700);
    assert!(
        before.blocks() * 512 >= before.len(),
        "the blocks are not there"
    );
    stops.add(by_officer("a")).unwrap();
    let after = of(FILE_NAME);
    assert_eq!(
        (after.len(), after.blocks(), after.ino()),
        (before.len(), before.blocks(), before.ino())
    );
}

#[test]
fn a_copy_with_holes_gets_its_blocks_back() {
    use std::os::unix::fs::{FileExt as _, MetadataExt as _};
    let dir = folder();
    stops(&dir).add(by_host("a")).unwrap();
    let good = bytes(&dir);
    let path = dir.path().join(FILE_NAME);
    fs::remove_file(&path).unwrap();
    let sparse = fs::File::create_new(&path).unwrap();
    sparse.set_len(256 * 1024).unwrap();
    sparse.write_all_at(&good[..16 * 1024], 0).unwrap();
    assert_eq!(stops(&dir).pending(), [by_host("a")]);
    assert_eq!(bytes(&dir), good);
    assert!(fs::metadata(&path).unwrap().blocks() * 512 >= 256 * 1024);
}

/// Whether `found` stops at least what `said` did.
fn no_less(said: Option<&Stop>, found: Option<&Stop>) -> bool {
    match (said, found) {
        (None, _) => true,
        (Some(_), None) => false,
        (Some(said), Some(found)) => found.target.is_none() || found.target == said.target,
    }
}

#[test]
fn no_flipped_byte_makes_fewer_stops() {
    let dir = folder();
    let marker = stops(&dir);
    for stop in [
        by_officer("a"),
        by_host("b"),
        of_all(Source::Host),
        of_all(Source::NoSlotLeft),
    ] {
        marker.add(stop).unwrap();
    }
    let good = bytes(&dir);
    let said = parse(&good);
    assert_eq!(said.iter().flatten().count(), 4);
    // Every byte of the full slots and of an empty one, each flip of one bit and of all.
    let mut differing = 0;
    for (index, block) in good.chunks(8192).enumerate().skip(1).take(5) {
        let mut block = block.to_vec();
        for offset in 0..block.len() {
            for flip in [1, 0x80, 0xff] {
                block[offset] ^= flip;
                let found = decode(&block);
                let before = said[index].as_ref();
                assert!(
                    no_less(before, found.as_ref()),
                    "slot {index} byte {offset}: {found:?}"
                );
                differing += usize::from(found.as_ref() != before);
                block[offset] ^= flip;
            }
        }
    }
    assert!(differing > 3 * 1500, "the checksum covers nothing");
    // Every byte of the head.
    for offset in 0..24 {
        let mut bytes = good.clone();
        bytes[offset] ^= 1;
        assert_eq!(parse(&bytes)[0], Some(Stop::unreadable()), "byte {offset}");
    }
}

#[test]
fn a_torn_write_stops_no_less() {
    let slot = encode(&by_officer("a")).unwrap();
    assert!(slot.len() > 4 * 512);
    let mut block = vec![0; 8192];
    block[..slot.len()].copy_from_slice(&slot);
    assert_eq!(decode(&block), Some(by_officer("a")));
    // Any set of sectors that did not get to the disk: here, all from one on, and each alone.
    for sector in 0..slot.len().div_ceil(512) {
        let place = sector * 512;
        let mut cut = block.clone();
        cut[place..].fill(0);
        let expected = (sector > 0).then(Stop::unreadable);
        assert_eq!(decode(&cut), expected, "all from sector {sector} on");
        let mut hole = block.clone();
        hole[place..place + 512].fill(0);
        let expected = (sector > 0).then(Stop::unreadable);
        assert_eq!(decode(&hole), expected, "without sector {sector}");
    }
    // A slot that is used again: the new stop over what is left of the old one.
    let small = encode(&by_host("b")).unwrap();
    block[..small.len()].copy_from_slice(&small);
    assert_eq!(decode(&block), Some(by_host("b")));
}

#[test]
fn a_damaged_marker_stops_everything_until_the_ledger_says_so() {
    type Damage = fn(&mut Vec<u8>);
    let damages: [(&str, Damage); 6] = [
        ("head", |bytes| bytes[3] ^= 1),
        ("slot", |bytes| bytes[8192 + 100] ^= 1),
        ("empty slot", |bytes| bytes[5 * 8192] = 1),
        ("short", |bytes| bytes.truncate(100_000)),
        ("empty", Vec::clear),
        ("long", |bytes| bytes.push(0)),
    ];
    for (name, damage) in damages {
        let dir = folder();
        stops(&dir).add(by_officer("a")).unwrap();
        let mut damaged = bytes(&dir);
        damage(&mut damaged);
        fs::write(dir.path().join(FILE_NAME), damaged).unwrap();
        for _ in 0..2 {
            let stops = stops(&dir);
            assert!(stops.is_stopped(&kek("z")), "{name}");
            assert!(stops.pending().contains(&Stop::unreadable()), "{name}");
            let said = stops.problems();
            assert!(said.iter().any(|text| text.contains("damaged")), "{name}");
            // Stops are still taken.
            stops.add(by_host("c")).unwrap();
        }
        let stops = stops(&dir);
        for stop in stops.pending() {
            stops.settled(&stop).unwrap();
        }
        let healed = self::stops(&dir);
        assert!(healed.pending().is_empty(), "{name}");
        assert_eq!(bytes(&dir).len(), 256 * 1024, "{name}");
        healed.add(by_host("d")).unwrap();
        assert_eq!(self::stops(&dir).pending(), [by_host("d")], "{name}");
    }
}

#[test]
fn a_stop_never_fails_for_want_of_a_slot() {
    let dir = folder();
    let full = stops(&dir);
    for number in 0..30 {
        let stop = by_officer(&format!("k{number}"));
        assert_eq!(full.add(stop).unwrap(), Added::New);
    }
    assert!(!full.is_stopped(&kek("z")) && !full.is_all_stopped());
    // One KEK too many stops all of them; and a stop of all has its place.
    assert_eq!(full.add(by_officer("z")).unwrap(), Added::Widened);
    assert!(full.is_stopped(&kek("z")) && full.is_all_stopped());
    let source = by_officer("z").source;
    assert_eq!(full.add(of_all(source.clone())).unwrap(), Added::Already);
    let again = stops(&dir);
    assert_eq!(again.pending().len(), 31);
    assert!(again.pending().contains(&of_all(Source::NoSlotLeft)));
    again.settled(&of_all(Source::NoSlotLeft)).unwrap();
    assert_eq!(again.add(of_all(source.clone())).unwrap(), Added::New);
    assert!(stops(&dir).pending().contains(&of_all(source)));
}

#[test]
fn what_does_not_fit_a_slot_stops_all_the_same() {
    let dir = folder();
    let mut stop = by_officer("a");
    if let Source::Officer { signature, .. } = &mut stop.source {
        signature.resize(16 * 1024, b'=');
    }
    let first = stops(&dir);
    first.add(stop.clone()).unwrap();
    assert_eq!(first.pending(), [stop]);
    assert_eq!(stops(&dir).pending(), [by_host("a")]);
}

#[test]
fn a_marker_that_is_gone_is_said_and_the_stop_stays() {
    let dir = folder();
    let stops = stops(&dir);
    let (path, away) = (dir.path().join(FILE_NAME), dir.path().join("away"));
    fs::rename(&path, &away).unwrap();
    let refused = stops.add(by_host("a"));
    assert!(matches!(refused, Err(StopsError::MarkerMoved { .. })));
    assert!(stops.is_stopped(&kek("a")));
    assert!(stops.problems()[1].contains("moved"));
    fs::rename(&away, &path).unwrap();
    stops.look();
    assert_eq!(stops.problems().len(), 1, "written as soon as possible");
    assert_eq!(self::stops(&dir).pending(), [by_host("a")]);
}

#[test]
fn a_file_in_the_folder_stops_until_the_ledger_has_it() {
    let dir = folder();
    let first = stops(&dir);
    touch(&dir, "a");
    touch(&dir, "Not_A_KEK");
    assert_eq!(first.look(), ["Not_A_KEK"]);
    assert!(first.is_stopped(&kek("a")) && !first.is_all_stopped());
    // Taking the file away lifts nothing.
    let file = dir.path().join(FOLDER).join("a");
    fs::remove_file(&file).unwrap();
    first.look();
    assert!(first.is_stopped(&kek("a")) && stops(&dir).is_stopped(&kek("a")));

    touch(&dir, "a");
    touch(&dir, "all");
    let again = stops(&dir);
    assert!(again.is_all_stopped(), "seen before anything is served");
    for stop in again.pending() {
        again.settled(&stop).unwrap();
    }
    assert!(!file.exists());
    again.look();
    assert!(!again.is_stopped(&kek("a")));
}

#[test]
fn a_file_that_cannot_be_removed_goes_on_stopping() {
    let dir = folder();
    let stops = stops(&dir);
    // What is no file cannot be removed as one.
    let stuck = dir.path().join(FOLDER).join("a");
    fs::create_dir(&stuck).unwrap();
    stops.look();
    let refused = stops.settled(&by_host("a"));
    assert!(matches!(refused, Err(StopsError::NotRemoved { .. })));
    stops.look();
    assert!(stops.is_stopped(&kek("a")));
    assert!(stops.pending().is_empty(), "recorded again and again");
    fs::remove_dir(&stuck).unwrap();
    stops.look();
    assert!(!stops.is_stopped(&kek("a")));
    assert!(self::stops(&dir).pending().is_empty());
}

#[test]
fn a_crowded_folder_hides_no_stop_of_all() {
    let dir = folder();
    let stops = stops(&dir);
    for number in 0..1100 {
        touch(&dir, &format!("Junk{number}"));
    }
    touch(&dir, "all");
    stops.look();
    assert!(stops.is_all_stopped());
    fs::remove_dir_all(dir.path().join(FOLDER)).unwrap();
    stops.look();
    assert!(dir.path().join(FOLDER).is_dir() && stops.is_all_stopped());
}
