//! Power cuts: what was acknowledged is there whatever of the writes since the last sync is not, and a write
//! that was torn is as if it were never begun. Only the C library is lied to (`disk.c`); SQLite, the file
//! system and the kill are real.

use std::collections::HashMap;
use std::io::{BufRead as _, BufReader, Read as _, Seek as _, SeekFrom, Write as _};
use std::process::Command;

use kekd::audit::{AuditReader, Expectations};

use super::disk::{disk_library, killed_after, lost_of, prepared_dir, record_for_ever, tell};
use super::*;

/// A change of a file that no sync has followed.
enum Undo {
    /// At an offset, so many bytes, in a file of this size; what was there.
    Write(u64, u64, u64, Vec<u8>),
    /// The file had this size and was cut; what was cut off.
    Cut(u64, u64, Vec<u8>),
}

/// The changes of each file since its last sync, the oldest first.
fn unsynced(path: &Path) -> HashMap<String, Vec<Undo>> {
    let mut undo: HashMap<String, Vec<Undo>> = HashMap::new();
    let mut log = BufReader::new(fs::File::open(path).unwrap());
    loop {
        let mut line = String::new();
        if log.read_line(&mut line).unwrap() == 0 {
            return undo;
        }
        let words: Vec<_> = line.split_whitespace().collect();
        let number = |at: usize| words[at].parse::<u64>().unwrap();
        let mut old = |len: u64| {
            let mut bytes = vec![0; usize::try_from(len).unwrap()];
            log.read_exact(&mut bytes).unwrap();
            bytes
        };
        let changes = undo.entry(words[1].to_owned()).or_default();
        match words[0] {
            "S" => changes.clear(),
            "W" => changes.push(Undo::Write(number(2), number(3), number(4), old(number(5)))),
            "T" => changes.push(Undo::Cut(number(2), number(3), old(number(4)))),
            other => panic!("{other}"),
        }
    }
}

/// What the disk holds after the cut: of the changes since the last sync those that `is_lost` picks are not
/// there. Returns how many were lost.
fn cut_power(dir: &Path, is_lost: &mut dyn FnMut() -> bool) -> usize {
    let mut lost = 0;
    for (name, changes) in unsynced(&dir.join("undo")) {
        let path = dir.join(&name);
        let mut file = fs::File::options()
            .read(true)
            .write(true)
            .open(path)
            .unwrap();
        for change in changes.into_iter().rev() {
            if !is_lost() {
                continue;
            }
            lost += 1;
            match change {
                Undo::Write(at, len, size, old) => {
                    // What was beyond the end is a hole now, or the end again.
                    let end = file.metadata().unwrap().len();
                    let rest = usize::try_from(len).unwrap() - old.len();
                    file.seek(SeekFrom::Start(at)).unwrap();
                    file.write_all(&old).unwrap();
                    file.write_all(&vec![0; rest]).unwrap();
                    if end == at + len && size < end {
                        file.set_len(size.max(at)).unwrap();
                    }
                }
                Undo::Cut(size, from, old) => {
                    file.seek(SeekFrom::Start(from)).unwrap();
                    file.write_all(&old).unwrap();
                    file.set_len(size).unwrap();
                }
            }
        }
    }
    // Shared memory is no file of a disk.
    fs::remove_file(dir.join("audit.db-shm")).ok();
    lost
}

/// Case 28. In every other round each change since the last sync is lost or kept by a throw of a coin.
#[test]
fn what_was_acknowledged_outlives_a_power_cut() {
    let mut coin = 0x2545_f491_4f6c_dd1d_u64;
    let (mut lost, mut held, mut anew) = (0, 0, 0);
    for round in 0..50_usize {
        // Where the kill always met a writer at rest, nothing was tried yet.
        if round >= 10 && lost > 0 {
            break;
        }
        let dir = tempfile::tempdir().unwrap();
        let mut command = Command::new(std::env::current_exe().unwrap());
        command
            .env("LD_PRELOAD", disk_library(dir.path()))
            .env("DISK_UNDO", dir.path().join("undo"));
        let (child, count) = ("power::child_whose_power_is_cut", 200 + 700 * (round % 10));
        let acknowledged = killed_after(count, command, dir.path(), child);
        assert_eq!(acknowledged.len(), count);
        // Copied into the database once, the WAL is written over from its beginning.
        let database = fs::metadata(dir.path().join("audit.db")).unwrap();
        anew += usize::from(database.len() > 1 << 18);
        lost += cut_power(dir.path(), &mut || {
            coin ^= coin << 13;
            coin ^= coin >> 7;
            coin ^= coin << 17;
            round.is_multiple_of(2) || coin.is_multiple_of(2)
        });
        drop(open(dir.path()).unwrap());
        let reader = AuditReader::of_copy(&dir.path().join("audit.db")).unwrap();
        reader
            .verify(&Expectations::default(), &mut |_, _| ())
            .unwrap();
        assert_eq!(lost_of(&acknowledged, dir.path()), [""; 0], "round {round}");
        held += acknowledged.len();
    }
    assert!(lost > 0, "nothing was lost: this was no power cut");
    assert!(anew >= 2, "the WAL began anew in {anew} rounds only");
    tell(&format!(
        "{lost} writes lost, none of {held} records; the WAL had begun anew {anew} times"
    ));
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "runs in a process of its own, started by another test"]
async fn child_whose_power_is_cut() {
    let Some(dir) = prepared_dir() else { return };
    Journal::create(&dir, &instance()).unwrap();
    let config = AuditConfig {
        batch_len_max: 8,
        ..AuditConfig::default()
    };
    record_for_ever(&open_with(&dir, config).unwrap(), 64).await;
}

/// Case 33: the last commit is torn at any place. The records before it are there, it is not, and the log
/// goes on in its place.
#[tokio::test]
async fn a_torn_last_write_is_as_if_it_were_never_begun() {
    let (dir, journal) = created();
    journal.record(draft("before")).await.unwrap();
    let (path, wal) = (dir.path().join("audit.db"), dir.path().join("audit.db-wal"));
    let begin = fs::read(&wal).unwrap().len();
    journal.record(draft("torn")).await.unwrap();
    let (database, whole) = (fs::read(&path).unwrap(), fs::read(&wal).unwrap());
    drop(journal);
    let places = (begin..whole.len()).step_by(509);
    for len in places.chain([begin, begin + 24, whole.len() - 1, whole.len()]) {
        let copy = tempfile::tempdir().unwrap();
        fs::write(copy.path().join("audit.db"), &database).unwrap();
        fs::write(copy.path().join("audit.db-wal"), &whole[..len]).unwrap();
        let journal = open(copy.path()).unwrap();
        let expected = u64::from(len == whole.len()) + 1;
        assert_eq!(journal.head().size, expected, "{len} of {}", whole.len());
        assert_eq!(journal.record(draft("next")).await.unwrap(), expected);
        journal.close().await.unwrap();
        let reader = AuditReader::of_copy(&copy.path().join("audit.db")).unwrap();
        let verified = reader.verify(&Expectations::default(), &mut |_, _| ());
        assert_eq!(verified.unwrap().head.size, expected + 1);
    }
}
