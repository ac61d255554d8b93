//! The tokens the suite knows, and a rig on each: made once by `kekctl rig up`, stopped, and copied
//! for every test. What one token does and another does not is said here and nowhere else.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use kekd::types::Padding;
use tempfile::TempDir;

use crate::harness::{KEKCTL, must, test_module};
use crate::softhsm;

/// A kind of token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Token {
    /// SoftHSM2, in a rig that made its token itself.
    SoftHsm,
    /// kryoptic, which was there before its rig. It has no self-signed KEK; see `kryoptic.rs`.
    Kryoptic,
}

/// Runs each case, an `async fn(Token)` beside the call, on each token, as a test of its own: the
/// token is in the test's name.
macro_rules! on_each_token {
    ($($case:ident)+) => {
        mod softhsm { $crate::token::on_each_token!(@ SoftHsm $($case)+); }
        mod kryoptic { $crate::token::on_each_token!(@ Kryoptic $($case)+); }
    };
    (@ $token:ident $($case:ident)+) => {
        $(
            #[tokio::test]
            async fn $case() {
                super::$case($crate::token::Token::$token).await;
            }
        )+
    };
}
pub(crate) use on_each_token;

impl Token {
    /// The PKCS#11 module.
    pub fn module(self) -> PathBuf {
        match self {
            Self::SoftHsm => softhsm::MODULE.into(),
            Self::Kryoptic => test_module("kekd_test_kryoptic"),
        }
    }

    /// The token's label.
    pub const fn label(self) -> &'static str {
        match self {
            Self::SoftHsm => "kekd-rig",
            Self::Kryoptic => "somebody's",
        }
    }

    /// The variable that shows the module its token, and the file it names, in the rig's home.
    pub const fn configuration(self) -> (&'static str, &'static str) {
        match self {
            Self::SoftHsm => ("SOFTHSM2_CONF", "rig/softhsm2.conf"),
            Self::Kryoptic => ("KRYOPTIC_CONF", "token/kryoptic.conf"),
        }
    }

    /// The file with the PIN, in the rig's home.
    pub const fn pin_file(self) -> &'static str {
        match self {
            Self::SoftHsm => "rig/pin",
            Self::Kryoptic => "pin",
        }
    }

    /// The OAEP paddings it does, and so those of a KEK that was made in it.
    pub const fn oaep(self) -> &'static [Padding] {
        match self {
            Self::SoftHsm => &[Padding::OaepSha1],
            Self::Kryoptic => &[Padding::OaepSha1, Padding::OaepSha256],
        }
    }

    /// The home all rigs on this token are copied from: a rig that is stopped, and what it needs.
    pub fn template(self) -> &'static Path {
        static SOFTHSM: OnceLock<TempDir> = OnceLock::new();
        static KRYOPTIC: OnceLock<TempDir> = OnceLock::new();
        let (template, make): (_, fn(&Path)) = match self {
            Self::SoftHsm => (&SOFTHSM, rig_with_its_token),
            Self::Kryoptic => (&KRYOPTIC, rig_on_kryoptic),
        };
        let home = template.get_or_init(|| {
            let home = tempfile::tempdir().unwrap();
            make(home.path());
            must(
                Command::new(KEKCTL)
                    .args(["rig", "stop"])
                    .arg(home.path().join("rig")),
            );
            home
        });
        home.path()
    }
}

/// Four KEKs in a SoftHSM2 token.
fn rig_with_its_token(home: &Path) {
    let mut up = Command::new(KEKCTL);
    must(
        up.args(["rig", "up", "--without-lkm"])
            .arg(home.join("rig")),
    );
}

/// Three KEKs in a kryoptic token.
fn rig_on_kryoptic(home: &Path) {
    let serial = kryoptic_token(home);
    must(rig_up_on_kryoptic(home, &serial).args([
        "--kek",
        "recordings=kek-rsa-3072",
        "--kek",
        "legacy=kek-rsa-3072-pkcs1",
        "--kek",
        "vault=kek-rsa-3072-recipient",
    ]));
}

/// Makes a kryoptic token in a rig's home and returns its serial number.
pub fn kryoptic_token(home: &Path) -> String {
    let pin = home.join("pin");
    must(
        Command::new("sh")
            .args(["-c", r#"umask 077 && printf '%s' 73924186 >"$1""#, "sh"])
            .arg(&pin),
    );
    let make_token = Path::new(env!("CARGO_MANIFEST_DIR")).join("hsm-config/kryoptic/make-token");
    let made = must(
        Command::new(make_token)
            .arg(home.join("token"))
            .arg(Token::Kryoptic.label())
            .arg(pin)
            .env("KRYOPTIC_MODULE", Token::Kryoptic.module()),
    );
    String::from_utf8(made.stdout).unwrap().trim().to_owned()
}

/// `kekctl rig up` on that token, for the caller to add to.
pub fn rig_up_on_kryoptic(home: &Path, serial: &str) -> Command {
    let (variable, file) = Token::Kryoptic.configuration();
    let mut up = Command::new(KEKCTL);
    up.args(["rig", "up", "--without-lkm"])
        .arg(home.join("rig"))
        .arg("--module")
        .arg(Token::Kryoptic.module())
        .args(["--token-label", Token::Kryoptic.label()])
        .args(["--token-serial", serial, "--pin-file"])
        .arg(home.join(Token::Kryoptic.pin_file()))
        .arg("--env")
        .arg(format!("{variable}={}", home.join(file).display()));
    up
}

/// Makes the files of a copied home name their own place instead of the template's.
pub fn move_home(from: &Path, to: &Path) {
    for file in [
        "rig/kekd.toml",
        "rig/kekd-lkm.toml",
        "rig/env",
        "rig/officer-env",
        "rig/rig.json",
        "rig/softhsm2.conf",
        "token/kryoptic.conf",
    ] {
        let path = to.join(file);
        if path.exists() {
            let text = fs::read_to_string(&path).unwrap();
            let text = text.replace(from.to_str().unwrap(), to.to_str().unwrap());
            fs::write(&path, text).unwrap();
        }
    }
}
