//! A throw-away SoftHSM token in a folder of its own. Any number of them can be used at once,
//! each by processes that are given its `SOFTHSM2_CONF`.
#![expect(clippy::unwrap_used, reason = "a test without its token has failed")]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Where Debian puts the module.
pub const MODULE: &str = "/usr/lib/softhsm/libsofthsm2.so";
/// The user PIN of every token made here.
pub const PIN: &str = "73924186";
/// The security officer's PIN of every token made here.
pub const SO_PIN: &str = "55554444";

/// A token; gone when dropped.
pub struct SoftHsm {
    folder: tempfile::TempDir,
    /// Its label.
    pub label: String,
    /// Its serial number, as the token reports it.
    pub serial: String,
}

impl SoftHsm {
    /// Initialises a token with this label, and a PIN file beside it.
    pub fn new(label: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("tokens")).unwrap();
        fs::create_dir(folder.path().join("state")).unwrap();
        let conf = format!(
            "directories.tokendir = {}\nobjectstore.backend = file\nlog.level = ERROR\n",
            folder.path().join("tokens").display()
        );
        fs::write(folder.path().join("softhsm2.conf"), conf).unwrap();
        let mut token = Self {
            folder,
            label: label.to_owned(),
            serial: String::new(),
        };
        token.util(&[
            "--init-token",
            "--free",
            "--label",
            label,
            "--pin",
            PIN,
            "--so-pin",
            SO_PIN,
        ]);
        let slots = token.util(&["--show-slots"]);
        let serial = slots.lines().filter_map(|line| {
            let (name, value) = line.split_once(':')?;
            (name.trim() == "Serial number").then(|| value.trim().to_owned())
        });
        token.serial = serial
            .into_iter()
            .find(|serial| !serial.is_empty())
            .unwrap();
        token.write_pin(PIN);
        token
    }

    /// The value for `SOFTHSM2_CONF`.
    pub fn conf(&self) -> PathBuf {
        self.folder.path().join("softhsm2.conf")
    }

    /// The PIN file, mode 0600.
    pub fn pin_file(&self) -> PathBuf {
        self.folder.path().join("pin")
    }

    /// Where a "PIN refused" mark would be.
    pub fn pin_mark_file(&self) -> PathBuf {
        self.folder.path().join("state").join("pin-refused")
    }

    /// The folder of everything.
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Writes another PIN to the PIN file.
    pub fn write_pin(&self, pin: &str) {
        fs::write(self.pin_file(), format!("{pin}\n")).unwrap();
        fs::set_permissions(self.pin_file(), fs::Permissions::from_mode(0o600)).unwrap();
    }

    /// Runs `softhsm2-util` on this token and returns what it wrote.
    pub fn util(&self, arguments: &[&str]) -> String {
        self.run("softhsm2-util", arguments)
    }

    /// Runs OpenSC's `pkcs11-tool`, logged in, on this token.
    pub fn pkcs11_tool(&self, arguments: &[&str]) -> String {
        let mut all = vec!["--module", MODULE, "--token-label", &self.label];
        all.extend(["--login", "--pin", PIN]);
        all.extend(arguments);
        self.run("pkcs11-tool", &all)
    }

    fn run(&self, program: &str, arguments: &[&str]) -> String {
        let output = Command::new(program)
            .args(arguments)
            .env("SOFTHSM2_CONF", self.conf())
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(
            output.status.success(),
            "{program} {arguments:?}: {said}{}",
            String::from_utf8_lossy(&output.stderr)
        );
        said
    }
}
