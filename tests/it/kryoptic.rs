//! What only kryoptic can show: a token that counts wrong PINs and locks, a token that cannot keep a
//! profile, and a rig on a token that was there before it.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use kekd::types::Padding;

use crate::harness::{KEKCTL, Kek, Rig, dek, must};
use crate::token::{Token, kryoptic_token, rig_up_on_kryoptic};

/// `pkcs11-tool` on the token of a rig's home.
fn pkcs11_tool(home: &Path, arguments: &[&str]) -> Output {
    let (variable, file) = Token::Kryoptic.configuration();
    Command::new("pkcs11-tool")
        .arg("--module")
        .arg(Token::Kryoptic.module())
        .args(arguments)
        .env(variable, home.join(file))
        .output()
        .unwrap()
}

/// The token's flags, as `pkcs11-tool` words them.
fn token_flags(home: &Path) -> String {
    let slots = pkcs11_tool(home, &["--list-slots"]);
    let text = String::from_utf8(slots.stdout).unwrap();
    let line = text.lines().find(|line| line.contains("token flags"));
    line.unwrap().to_owned()
}

fn log_in(home: &Path, pin: &str) -> Output {
    pkcs11_tool(home, &["--login", "--pin", pin, "--list-objects"])
}

#[tokio::test]
async fn the_last_try_before_the_token_locks_is_not_kekds() {
    let rig = Rig::stopped_on(Token::Kryoptic);
    let home = rig.dir.parent().unwrap();
    for _ in 0..20 {
        if token_flags(home).contains("final user PIN try") {
            break;
        }
        assert!(!log_in(home, "00000000").status.success());
    }
    let flags = token_flags(home);
    assert!(flags.contains("final user PIN try"), "{flags}");

    // Even with a wrong PIN, which would lock the token, and again and again.
    let pin = fs::read(home.join("pin")).unwrap();
    for tried in [&b"00000000"[..], &pin, &pin] {
        fs::write(home.join("pin"), tried).unwrap();
        let log = rig.start_refused();
        for words in ["one more wrong PIN locks it", "no login was tried"] {
            assert!(log.contains(words), "{log}");
        }
    }
    // No login was tried: the right PIN would have cleared the flag, the wrong one locked the token.
    assert_eq!(token_flags(home), flags);

    // By hand, as the message says; then kekd starts.
    let by_hand = log_in(home, &rig.pin());
    assert!(by_hand.status.success(), "{by_hand:?}");
    rig.start();
    let client = rig.client("lkm-1").await;
    let kek = Kek::of(&client, "recordings").await;
    let call = kek.call(Padding::OaepSha256, &[1; 32]);
    assert_eq!(dek(&client.unwrap(call).await.unwrap().release), [1; 32]);
}

#[test]
fn starts_with_a_wrong_pin_never_lock_the_token() {
    let rig = Rig::stopped_on(Token::Kryoptic);
    let home = rig.dir.parent().unwrap();
    let pin = fs::read(home.join("pin")).unwrap();
    fs::write(home.join("pin"), "00000000").unwrap();
    // The tenth wrong PIN would lock it.
    assert!(rig.start_refused().contains("the token refused the PIN"));
    for _ in 0..11 {
        assert!(rig.start_refused().contains("is not offered again"));
    }
    let flags = token_flags(home);
    for word in ["count low", "final user PIN try", "locked"] {
        assert!(!flags.contains(word), "{flags}");
    }
    fs::write(home.join("pin"), pin).unwrap();
    rig.start();
}

#[test]
fn a_token_that_cannot_keep_a_profile_gets_no_such_key() {
    let home = tempfile::tempdir().unwrap();
    let serial = kryoptic_token(home.path());
    // Copies of a key that may be copied are as weak there as whoever copies wishes.
    let up = rig_up_on_kryoptic(home.path(), &serial)
        .args(["--kek", "engage=kek-rsa-3072-self-signed"])
        .output()
        .unwrap();
    assert!(!up.status.success());
    let said = String::from_utf8(up.stderr).unwrap();
    for words in [
        "'kekd kek engage/1' as profile 'kek-rsa-3072-self-signed' demands",
        "a copy of the key was made with CKA_PRIVATE false",
        "a copy of the key was made with CKA_SIGN true",
        "another profile",
    ] {
        assert!(said.contains(words), "{said}");
    }
    assert!(!home.path().join("rig/state/ledger.db").exists());
}

#[test]
fn a_token_that_was_there_before_its_rig_outlives_it() {
    let rig = Rig::stopped_on(Token::Kryoptic);
    let home = rig.dir.parent().unwrap();
    let env = fs::read_to_string(rig.dir.join("env")).unwrap();
    assert!(env.contains("export KRYOPTIC_CONF='"), "{env}");
    assert!(!env.contains("SOFTHSM2_CONF"), "{env}");
    assert!(!rig.dir.join("tokens").exists());

    let down = must(Command::new(KEKCTL).args(["rig", "down"]).arg(&rig.dir));
    let said = String::from_utf8(down.stdout).unwrap();
    assert!(said.contains("stay in the token \"somebody's\""), "{said}");
    assert!(!rig.dir.exists());
    let keys = pkcs11_tool(
        home,
        &[
            "--login",
            "--pin",
            &rig.pin(),
            "--list-objects",
            "--type",
            "privkey",
        ],
    );
    let keys = String::from_utf8(keys.stdout).unwrap();
    assert!(keys.contains("kekd kek recordings/1"), "{keys}");
}
