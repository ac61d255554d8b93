//! The rig where things go wrong: daemons that do not come up. What a rig is good for when all goes
//! well, every test that uses one shows.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::harness::{KEKCTL, program};

/// A program that stands where kekd should be; `$1` is `init` or `serve`.
fn not_kekd(dir: &Path, script: &str) -> PathBuf {
    let path = dir.join("not-kekd");
    program(&path, script);
    path
}

fn kekctl(args: &[&str], kekd: Option<&Path>, rig: &Path) -> Output {
    let mut command = Command::new(KEKCTL);
    command.args(args).arg(rig);
    if let Some(kekd) = kekd {
        command.arg("--kekd").arg(kekd);
    }
    command.output().unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

#[test]
fn a_daemon_that_cannot_be_initialised_is_quoted() {
    let dir = tempfile::tempdir().unwrap();
    let kekd = not_kekd(dir.path(), "echo the token refused >&2; exit 69");
    let rig = dir.path().join("rig");
    let up = kekctl(&["rig", "up"], Some(&kekd), &rig);
    assert_eq!(up.status.code(), Some(1));
    assert!(stderr(&up).contains("the token refused"), "{}", stderr(&up));
    let down = kekctl(&["rig", "down"], None, &rig);
    assert!(down.status.success(), "{}", stderr(&down));
    assert!(!rig.exists());
}

#[test]
fn a_daemon_that_ends_before_it_is_ready_is_quoted_from_its_log() {
    let dir = tempfile::tempdir().unwrap();
    let script = "[ $1 = serve ] || exit 0; echo this ledger is of another token; exit 78";
    let kekd = not_kekd(dir.path(), script);
    let rig = dir.path().join("rig");
    let up = kekctl(&["rig", "up"], Some(&kekd), &rig);
    assert_eq!(up.status.code(), Some(69), "{}", stderr(&up));
    for text in [
        "exit status: 78",
        "this ledger is of another token",
        "kekd.log",
    ] {
        assert!(stderr(&up).contains(text), "{}", stderr(&up));
    }
    let status = kekctl(&["rig", "status"], None, &rig);
    assert_eq!(status.status.code(), Some(75));
    let stop = kekctl(&["rig", "stop"], None, &rig);
    assert!(stop.status.success(), "{}", stderr(&stop));
}

#[test]
fn a_stranger_with_the_daemons_process_id_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let kekd = not_kekd(dir.path(), "exit 1");
    let rig = dir.path().join("rig");
    kekctl(&["rig", "up"], Some(&kekd), &rig);
    // A process id that was passed on since: this test's own.
    std::fs::write(rig.join("kekd.pid"), std::process::id().to_string()).unwrap();
    let down = kekctl(&["rig", "down", "--output", "json"], None, &rig);
    let said = String::from_utf8(down.stdout).unwrap();
    assert!(said.contains(r#""was_running":false"#), "{said}");
}
