//! A disk that is full: the append is known not to have happened, and the ledger goes on. The test
//! runs this test binary again, with one ignored test as its main function, on a tmpfs of one MiB.

use std::io::Write as _;
use std::process::Command;

use super::*;
use crate::types::Next;

/// A file that says that the current folder is the small disk.
const MARK: &str = "a-small-disk";

/// The options with which `unshare` gives a process mounts of its own here, if any do.
fn own_mounts() -> Option<&'static [&'static str]> {
    let ways: [&[&str]; 2] = [&["--map-root-user", "--mount"], &["--mount"]];
    ways.into_iter().find(|way| {
        let mut unshare = Command::new("unshare");
        unshare.args(*way).args(["mount", "-t", "tmpfs", "tmpfs"]);
        let output = unshare.arg(std::env::temp_dir()).output();
        output.is_ok_and(|output| output.status.success())
    })
}

#[test]
fn a_full_disk_changes_nothing_and_the_ledger_goes_on() {
    let Some(own_mounts) = own_mounts() else {
        let why = "a file system of one MiB needs root or user namespaces (unshare -rm)";
        let line = format!("SKIPPED ledger::tests::disk: {why}\n");
        return std::io::stderr().write_all(line.as_bytes()).unwrap();
    };
    let dir = tempfile::tempdir().unwrap();
    let output = Command::new("unshare")
        .args(own_mounts)
        .args(["sh", "-c"])
        .arg(format!(
            "mount -t tmpfs -o size=1m tmpfs \"$1\" && cd \"$1\" && : >{MARK} && shift && exec \"$@\""
        ))
        .arg("sh")
        .arg(dir.path())
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "ledger::tests::disk::child_on_a_small_disk"])
        .args(["--ignored", "--nocapture"])
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success() && text.contains("1 passed"),
        "{text}{said}"
    );
}

#[test]
#[ignore = "runs in a process of its own, started by another test"]
fn child_on_a_small_disk() {
    let dir = std::env::current_dir().unwrap();
    // Where somebody runs ignored tests by hand, no disk is filled.
    if !dir.join(MARK).exists() {
        return;
    }
    let site = Site {
        folder: TempDir::new_in(&dir).unwrap(),
        log_key: EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap(),
    };
    let mut ledger = site.bear();
    let before = ledger.state().head();
    // Whether the log grew before the disk filled must not matter.
    for left in [0, 1, 4096] {
        let filler = fill(&dir, left);
        let prepared = ledger.prepare(archive(), NOW).unwrap();
        let signature = site.sign(&prepared.checkpoint.text());
        let outcome = ledger.commit(prepared, &signature);
        assert!(outcome.is_err(), "{left} bytes were enough");
        let refused = outcome.err().unwrap();
        assert!(matches!(refused, LedgerError::NoSpace { .. }), "{refused}");
        assert_eq!(refused.next(), Next::TryAgain);
        assert!(refused.to_string().contains("Make room"), "{refused}");
        assert_eq!(ledger.state().head(), before);
        assert_eq!(ledger.reader().unwrap().entries(0, 0).unwrap().size, 2);
        std::fs::remove_file(filler).unwrap();
    }
    let after = site.append(&mut ledger, archive(), NOW).head();
    drop(ledger);
    assert_eq!(site.open().unwrap().state().head(), after);
}

/// Fills the disk but for this many bytes, or the page they are in.
fn fill(dir: &Path, left: u64) -> PathBuf {
    let path = dir.join("filler");
    let mut file = std::fs::File::create(&path).unwrap();
    let mut len = 1 << 20;
    while len > 0 {
        if file.write_all(&vec![0; len]).is_err() {
            len /= 2;
        }
    }
    let filled = file.metadata().unwrap().len();
    file.set_len(filled - left).unwrap();
    path
}
