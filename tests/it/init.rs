//! `kekd init` that fails or dies at each of its steps. Whatever is left, the next `kekd init` and
//! `kekd serve` refuse, say what was found and what to do, and adopt, finish and delete nothing.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

use tempfile::TempDir;

use crate::harness::faulty::Faulty;
use crate::harness::{KEKCTL, Rig, must};
use crate::token::Token;

/// A rig with one KEK, stopped.
fn template() -> &'static Path {
    static TEMPLATE: OnceLock<TempDir> = OnceLock::new();
    let dir = TEMPLATE.get_or_init(|| {
        let dir = tempfile::tempdir().unwrap();
        let rig = dir.path().join("rig");
        let up = ["rig", "up", "--kek", "recordings=kek-rsa-3072"];
        must(Command::new(KEKCTL).args(up).arg(&rig));
        must(Command::new(KEKCTL).args(["rig", "stop"]).arg(&rig));
        dir
    });
    dir.path()
}

/// A genesis with its signatures, an empty token, and no state.
struct Unborn(Faulty);

impl Unborn {
    fn new() -> Self {
        let rig = Rig::of(Token::SoftHsm, template());
        fs::remove_dir_all(rig.dir.join("state")).unwrap();
        fs::remove_dir_all(rig.dir.join("tokens")).unwrap();
        fs::create_dir(rig.dir.join("tokens")).unwrap();
        let unborn = Self(Faulty::of(rig));
        unborn.new_token();
        unborn
    }

    /// Puts an empty token with the configured label in place of the one there was.
    fn new_token(&self) {
        let tokens = self.dir().join("tokens");
        fs::remove_dir_all(&tokens).unwrap();
        fs::create_dir(&tokens).unwrap();
        let rig = &self.0.rig;
        let pin = rig.pin();
        must(rig.token_command("softhsm2-util").args([
            "--init-token",
            "--free",
            "--label",
            "kekd-rig",
            "--pin",
            &pin,
            "--so-pin",
            "12345678",
        ]));
        let slots = must(rig.token_command("softhsm2-util").arg("--show-slots")).stdout;
        let slots = String::from_utf8(slots).unwrap();
        let serial = slots.lines().find_map(|line| {
            let (name, value) = line.split_once(':')?;
            let is_serial = name.trim() == "Serial number" && !value.trim().is_empty();
            is_serial.then(|| value.trim().to_owned())
        });
        let serial = serial.unwrap();
        rig.edit("kekd.toml", |text| {
            let lines = text.lines().map(|line| match line.split_once('=') {
                Some((key, _)) if key.trim() == "token_serial" => {
                    format!("token_serial = \"{serial}\"\n")
                }
                Some(_) | None => format!("{line}\n"),
            });
            lines.collect()
        });
    }

    /// An init that this fault ends: exit code and what it says. Faults are counted in each worker,
    /// so one that a loaded machine made kekd replace meets no fault; then it is tried again.
    fn ended_by(fault: &str) -> (Self, i32, String) {
        for _ in 0..5 {
            let unborn = Self::new();
            unborn.0.script(fault);
            let output = unborn.init();
            if let (false, Some(code)) = (output.status.success(), output.status.code()) {
                assert!(!unborn.state("ledger.db").exists(), "a ledger was born");
                return (unborn, code, said(&output));
            }
            assert!(
                said(&output).contains("is replaced"),
                "{fault}: {}",
                said(&output)
            );
        }
        panic!("{fault}: met nothing in five tries");
    }

    fn dir(&self) -> &Path {
        &self.0.rig.dir
    }

    fn state(&self, file: &str) -> PathBuf {
        self.dir().join("state").join(file)
    }

    fn init(&self) -> Output {
        let mut command = self.0.rig.kekd("init");
        command
            .arg("--genesis")
            .arg(self.dir().join("genesis.toml"));
        for officer in ["alice", "bob"] {
            let signature = format!("genesis.toml.{officer}.sig");
            command.arg("--signature").arg(self.dir().join(signature));
        }
        command.output().unwrap()
    }

    /// `kekd init` where it must fail: exit code and what it says.
    fn init_fails(&self) -> (i32, String) {
        let output = self.init();
        assert!(!output.status.success(), "an instance was born");
        assert!(!self.state("ledger.db").exists(), "a ledger was born");
        (output.status.code().unwrap(), said(&output))
    }

    /// Both commands refuse, say these words, and change nothing.
    fn refuses(&self, what: &str, init: &[&str], serve: &[&str]) {
        self.0.script("");
        let before = self.files();
        let (_, told) = self.init_fails();
        contains(what, &told, init);
        let output = self.0.rig.kekd("serve").output().unwrap();
        assert_eq!(output.status.code(), Some(65), "{what}: {}", said(&output));
        contains(what, &said(&output), serve);
        assert_eq!(
            self.files(),
            before,
            "{what}: something was made or deleted"
        );
    }

    /// The objects in the token and the files of the state, by path.
    fn files(&self) -> BTreeSet<PathBuf> {
        let mut found = BTreeSet::new();
        let mut folders = vec![self.dir().join("tokens"), self.dir().join("state")];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).into_iter().flatten() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path);
                } else if !path.ends_with("kekd.lock") {
                    found.insert(path);
                }
            }
        }
        found
    }

    /// `*.object` files in the token.
    fn objects(&self) -> usize {
        let is_object = |path: &&PathBuf| {
            path.extension().is_some_and(|ext| ext == "object") && !path.ends_with("token.object")
        };
        self.files().iter().filter(is_object).count()
    }
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn contains(what: &str, told: &str, words: &[&str]) {
    for word in words {
        assert!(told.contains(word), "{what}: {word:?} is not in:\n{told}");
    }
}

const NO_LEDGER: [&str; 2] = ["ledger.db; found no file", "kekd init"];
const UNFINISHED: [&str; 3] = ["ledger.db.new", "did not finish", "kekd init"];
const IN_USE: [&str; 3] = [
    "already holds objects of kekd",
    "adopts and deletes",
    "use another token",
];

/// Before anything is in the token a failure leaves nothing, and `init` can simply be run again.
#[test]
fn a_token_that_is_away_leaves_nothing_behind() {
    let unborn = Unborn::new();
    let hurry = "admin_timeout_ms = 1000";
    unborn.0.rig.set("hsm", hurry);
    for fault in [
        "C_Login * CKR_DEVICE_REMOVED",
        "C_FindObjectsInit * CKR_DEVICE_REMOVED",
    ] {
        unborn.0.script(fault);
        let (code, told) = unborn.init_fails();
        assert_eq!(code, 69, "{fault}: {told}");
        assert_eq!(unborn.objects(), 0, "{fault}");
    }
    unborn
        .0
        .rig
        .edit("kekd.toml", |text| text.replace(hurry, ""));
    unborn.0.script("");
    let output = unborn.init();
    assert!(output.status.success(), "{}", said(&output));
    unborn.0.rig.start();
}

/// Once a key is made, by whatever outcome, the token is in use. The fault, what `init` says, its exit
/// code, and one of the objects that the next `init` names.
#[test]
fn an_init_that_ends_among_the_keys_is_not_built_upon() {
    // Key pairs 1 and 2 are the probe's; then come log signing and certificate issuing, two for
    // attacks on the secret key, and the KEK. Signatures 1 to 4 are the probe's, then come the two
    // certificates and the checkpoint.
    let cases = [
        (
            "C_GenerateKeyPair 3 lie CKR_DEVICE_ERROR",
            65,
            "kekd log signing",
            "log signing",
        ),
        (
            "C_GenerateKeyPair 4 CKR_DEVICE_ERROR",
            65,
            "kekd certificate issuing",
            "log signing",
        ),
        ("C_GenerateKeyPair 4 exit", 70, "not known", "log signing"),
        (
            "C_GenerateKeyPair 7 CKR_DEVICE_ERROR",
            65,
            "kekd kek recordings/1",
            "implicit rejection",
        ),
        (
            "C_GenerateKeyPair 7 lie CKR_DEVICE_ERROR",
            65,
            "kekd kek recordings/1",
            "kek recordings/1",
        ),
        (
            "C_GenerateKeyPair 7 segv",
            70,
            "not known",
            "implicit rejection",
        ),
        (
            "C_Sign 5 corrupt",
            65,
            "certificate of 'kekd certificate issuing'",
            "log signing",
        ),
        (
            "C_Sign 6 corrupt",
            65,
            "certificate of 'kekd kek recordings/1'",
            "kek recordings/1",
        ),
        ("C_Sign 7 corrupt", 65, "checkpoint", "kek recordings/1"),
    ];
    for (fault, code, told, left) in cases {
        let (unborn, found, text) = Unborn::ended_by(fault);
        contains(fault, &text, &[told]);
        assert_eq!(found, code, "{fault}: {text}");
        unborn.refuses(fault, &[&IN_USE[..], &[left]].concat(), &NO_LEDGER);
    }
}

/// From the staged ledger on, that is what stands in the way, and it says so.
#[test]
fn an_init_that_ends_at_pin_or_anchor_is_unfinished() {
    for fault in [
        "C_CreateObject 1 CKR_DEVICE_ERROR",
        "C_CreateObject 1 lie CKR_TEMPLATE_INCONSISTENT",
        "C_CreateObject 1 exit",
        "C_CreateObject 2 CKR_TEMPLATE_INCONSISTENT",
        "C_CreateObject 2 lie CKR_TEMPLATE_INCONSISTENT",
    ] {
        let (unborn, ..) = Unborn::ended_by(fault);
        unborn.refuses(fault, &UNFINISHED, &UNFINISHED);
        // Who moves the staged ledger away meets the token next.
        fs::rename(unborn.state("ledger.db.new"), unborn.dir().join("aside")).unwrap();
        unborn.refuses(fault, &IN_USE, &NO_LEDGER);
    }
}

/// A worker that dies over the anchor is replaced, and the anchor written by the next one.
#[test]
fn an_anchor_that_was_cut_short_is_written_again() {
    let unborn = Unborn::new();
    unborn.0.script("C_CreateObject 2 exit");
    let output = unborn.init();
    assert!(output.status.success(), "{}", said(&output));
    unborn.0.rig.start();
}

/// What a crash just before the rename leaves: everything but the ledger's name.
#[test]
fn an_init_that_ends_before_the_rename_is_unfinished() {
    let unborn = Unborn::new();
    let output = unborn.init();
    assert!(output.status.success(), "{}", said(&output));
    for beside in ["ledger.db-wal", "ledger.db-shm"] {
        fs::remove_file(unborn.state(beside)).ok();
    }
    fs::rename(unborn.state("ledger.db"), unborn.state("ledger.db.new")).unwrap();
    unborn.refuses("before the rename", &UNFINISHED, &UNFINISHED);

    // With the ledger moved away and another token the audit log is in the way, and that is found
    // before there are keys in the new token.
    fs::rename(unborn.state("ledger.db.new"), unborn.dir().join("aside")).unwrap();
    unborn.new_token();
    unborn.refuses(
        "a log is left",
        &["audit.db exists already", "state_dir"],
        &NO_LEDGER,
    );
    assert_eq!(
        unborn.objects(),
        0,
        "keys were made before the log was found"
    );

    // With a state folder of its own the new token becomes an instance.
    fs::rename(unborn.dir().join("state"), unborn.dir().join("state.aside")).unwrap();
    let output = unborn.init();
    assert!(output.status.success(), "{}", said(&output));
    unborn.0.rig.start();
}
