//! kekctl against the real daemon on a rig: every command once, as a user would go through them, with
//! OpenSSL on the other side wherever it can be.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::answers::refused;

/// A rig that goes away with the test.
struct Rig {
    dir: tempfile::TempDir,
    made: Value,
}

impl Rig {
    fn up(keks: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let rig = dir.path().join("rig");
        let mut command = kekctl();
        command.args(["rig", "up", "--output", "json", "--kekd"]);
        command.arg(env!("CARGO_BIN_EXE_kekd")).arg(&rig);
        for kek in keks {
            command.args(["--kek", kek]);
        }
        let made = serde_json::from_str(&said(&mut command)).unwrap();
        Self { dir, made }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn rig(&self) -> PathBuf {
        self.path("rig")
    }

    fn id(&self, kek: &str) -> String {
        let keks = self.made["keks"].as_array().unwrap();
        let found = keks.iter().find(|of| of["name"] == kek).unwrap();
        found["keypair_id"].as_str().unwrap().to_owned()
    }

    /// kekctl as one of the rig's clients, in the folder beside the rig.
    fn kekctl(&self, client: &str, args: &[&str]) -> Command {
        let mut command = kekctl();
        let pki = self.rig().join("pki");
        command
            .current_dir(self.dir.path())
            .args(args)
            .arg("--endpoint")
            .arg(self.made["endpoint"].as_str().unwrap())
            .arg("--ca")
            .arg(pki.join("ca.crt"))
            .arg("--cert")
            .arg(pki.join(format!("{client}.crt")))
            .arg("--key")
            .arg(pki.join(format!("{client}.key")));
        command
    }

    fn openssl(&self, args: &[&str]) {
        let mut command = Command::new("openssl");
        said(command.current_dir(self.dir.path()).args(args));
    }

    fn write(&self, name: &str, bytes: &[u8]) {
        std::fs::write(self.path(name), bytes).unwrap();
    }

    fn read(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.path(name)).unwrap()
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        // A failed test leaves no daemon behind.
        drop(kekctl().args(["rig", "down"]).arg(self.rig()).output());
    }
}

fn kekctl() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kekctl"));
    for variable in [
        "KEKD_ENDPOINT",
        "KEKD_SOCKET",
        "KEKD_CA",
        "KEKD_CERT",
        "KEKD_KEY",
        "KEKD_OFFICER",
        "KEKD_OFFICER_KEY",
        "KEKD_INSTANCE",
    ] {
        command.env_remove(variable);
    }
    command
}

fn said(command: &mut Command) -> String {
    let output = command.output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {stderr}");
    String::from_utf8(output.stdout).unwrap()
}

fn wrapped(rig: &Rig, kek: &str, padding: &[&str]) -> String {
    let id = rig.id(kek);
    let export = [
        "kek", "export", &id, "--format", "pem", "--out", "kek.pem", "--force",
    ];
    said(&mut rig.kekctl("operator", &export));
    rig.write("dek", &[0x5a; 32]);
    let encrypt = "pkeyutl -encrypt -pubin -inkey kek.pem -in dek -out wrapped";
    let mut args: Vec<&str> = encrypt.split(' ').collect();
    args.extend(padding);
    rig.openssl(&args);
    id
}

const OAEP: [&str; 2] = ["-pkeyopt", "rsa_padding_mode:oaep"];

#[test]
fn keks_are_listed_shown_and_exported() {
    let rig = Rig::up(&["recordings=kek-rsa-3072", "engage=kek-rsa-3072-self-signed"]);
    let list = said(&mut rig.kekctl("operator", &["kek", "list", "--output", "json"]));
    let list: Value = serde_json::from_str(&list).unwrap();
    assert_eq!(list["keks"][0]["name"], "engage");
    assert_eq!(
        list["keks"][1]["versions"][0]["keypair_id"],
        rig.id("recordings")
    );
    let own = said(&mut rig.kekctl("lkm-1", &["kek", "list"]));
    assert!(
        own.contains("recordings") && !own.contains("engage"),
        "{own}"
    );
    let show = said(&mut rig.kekctl("lkm-1", &["kek", "show", "recordings"]));
    assert!(show.contains("version 1 (active)"), "{show}");

    let id = rig.id("recordings");
    let export = |format: &str| {
        let args = ["kek", "export", &id, "--format", format, "--out", format];
        said(&mut rig.kekctl("lkm-1", &args));
        rig.read(format)
    };
    let lkm = export("lkm");
    assert!(!lkm.contains(&b'\n'));
    rig.write("lkm.b64", &[lkm.as_slice(), b"\n"].concat());
    rig.openssl(&["base64", "-d", "-A", "-in", "lkm.b64", "-out", "lkm.der"]);
    assert_eq!(rig.read("lkm.der"), export("pkcs1-der"));
    export("pem");
    rig.openssl(&[
        "rsa",
        "-pubin",
        "-in",
        "pem",
        "-RSAPublicKey_out",
        "-outform",
        "DER",
        "-out",
        "p1",
    ]);
    assert_eq!(rig.read("p1"), rig.read("lkm.der"));
    let jwk: Value = serde_json::from_slice(&export("jwk")).unwrap();
    assert_eq!(jwk["kid"], id);
    export("cert");
    let chain = String::from_utf8(export("chain")).unwrap();
    let (leaf, issuer) = chain.split_at(chain.rfind("-----BEGIN").unwrap());
    assert_eq!(leaf.as_bytes(), rig.read("cert"));
    rig.write("issuer", issuer.as_bytes());
    rig.openssl(&["verify", "-x509_strict", "-CAfile", "issuer", "cert"]);
}

#[test]
fn a_dek_is_unwrapped_in_the_clear_and_for_a_recipient() {
    let rig = Rig::up(&["recordings=kek-rsa-3072", "vault=kek-rsa-3072-recipient"]);
    let id = wrapped(&rig, "recordings", &OAEP);
    let unwrap = [
        "unwrap",
        &id,
        "--in",
        "wrapped",
        "--out",
        "out",
        "--request-id",
        "r-1",
    ];
    let report = said(&mut rig.kekctl("lkm-1", &[&unwrap[..], &["--output", "json"]].concat()));
    let report: Value = serde_json::from_str(&report).unwrap();
    assert_eq!(report["request_id"], "r-1");
    assert_eq!(rig.read("out"), [0x5a; 32]);

    // The same over the Unix socket, as the user who runs this test.
    let mut local = kekctl();
    local
        .current_dir(rig.dir.path())
        .arg("--socket")
        .arg(rig.made["socket"].as_str().unwrap());
    let raw = local
        .args(["unwrap", &id, "--in", "wrapped", "--out", "-"])
        .output()
        .unwrap();
    assert_eq!(raw.stdout, [0x5a; 32]);

    let id = wrapped(&rig, "vault", &OAEP);
    let unwrap = ["unwrap", &id, "--in", "wrapped", "--out", "again"];
    let clear = refused(&mut rig.kekctl("lkm-1", &unwrap));
    assert_eq!(clear.1, "RELEASE_FORM_NOT_ALLOWED");
    let request =
        "req -x509 -newkey rsa:2048 -nodes -keyout player.key -out player.crt -subj /CN=p";
    rig.openssl(&request.split(' ').collect::<Vec<_>>());
    let to_player = [&unwrap[..], &["--recipient", "player.crt"]].concat();
    said(&mut rig.kekctl("lkm-1", &to_player));
    let decrypt = "pkeyutl -decrypt -inkey player.key -in again -out opened";
    rig.openssl(&[&decrypt.split(' ').collect::<Vec<_>>()[..], &OAEP].concat());
    assert_eq!(rig.read("opened"), [0x5a; 32]);
}

#[test]
fn refusals_have_their_exit_status_and_reason() {
    let rig = Rig::up(&["recordings=kek-rsa-3072", "engage=kek-rsa-3072"]);
    let id = wrapped(&rig, "recordings", &OAEP);
    let engage = rig.id("engage");
    let unwrap = |client: &str, id: &str, more: &[&str]| {
        let args = ["unwrap", id, "--in", "wrapped", "--out", "out"];
        let answer = refused(&mut rig.kekctl(client, &[&args[..], more].concat()));
        assert!(!rig.path("out").exists());
        answer
    };
    let not_permitted = |reason: &str| (77, reason.to_owned());
    assert_eq!(unwrap("lkm-1", &engage, &[]), not_permitted("NOT_GRANTED"));
    assert_eq!(
        unwrap("operator", &id, &[]),
        not_permitted("ROLE_NOT_ALLOWED")
    );
    assert_eq!(
        unwrap("stranger", &id, &[]),
        not_permitted("CALLER_UNKNOWN")
    );
    let v15 = unwrap("lkm-1", &id, &["--padding", "pkcs1-v1_5"]);
    assert_eq!(v15, (1, "PADDING_NOT_ALLOWED".to_owned()));
    rig.write("wrapped", &[1; 384]);
    let junk = unwrap("lkm-1", &id, &[]);
    assert_eq!(junk, (1, "UNDECRYPTABLE".to_owned()));
}

#[test]
fn recordings_are_opened_whoever_sealed_them() {
    let rig = Rig::up(&["recordings=kek-rsa-3072", "legacy=kek-rsa-3072-pkcs1"]);
    let call: Vec<u8> = (0..3_000_000_u32).map(|n| n.to_le_bytes()[1]).collect();
    rig.write("call.wav", &call);
    for kek in ["recordings", "legacy"] {
        let seal = [
            "recording",
            "seal",
            "--kek",
            kek,
            "--in",
            "call.wav",
            "--out",
            "sealed",
            "--force",
        ];
        said(&mut rig.kekctl("lkm-1", &seal));
        let open = [
            "recording",
            "open",
            "--in",
            "sealed",
            "--out",
            "opened",
            "--force",
        ];
        said(&mut rig.kekctl("lkm-1", &open));
        assert_eq!(rig.read("opened"), call);
    }
    let id = rig.id("recordings");
    let export = ["kek", "export", &id, "--format", "cert", "--out", "kek.crt"];
    said(&mut rig.kekctl("lkm-1", &export));
    for (cipher, padding) in [("-aes-256-gcm", "oaep"), ("-aes-256-cbc", "oaep")] {
        let mode = format!("rsa_padding_mode:{padding}");
        rig.openssl(&[
            "cms", "-encrypt", "-binary", "-in", "call.wav", "-outform", "DER", "-out", "theirs",
            cipher, "-recip", "kek.crt", "-keyopt", &mode,
        ]);
        let open = [
            "recording",
            "open",
            "--in",
            "theirs",
            "--out",
            "opened",
            "--force",
        ];
        said(&mut rig.kekctl("lkm-1", &open));
        assert_eq!(rig.read("opened"), call, "{cipher}");
    }
    // For somebody else: the caller sees no KEK that it is for, and no key is tried.
    let request = "req -x509 -newkey rsa:2048 -nodes -keyout x.key -out x.crt -subj /CN=x";
    rig.openssl(&request.split(' ').collect::<Vec<_>>());
    let seal = [
        "recording",
        "seal",
        "--recipient",
        "x.crt",
        "--in",
        "call.wav",
        "--out",
        "other",
    ];
    said(&mut rig.kekctl("lkm-1", &seal));
    let open = ["recording", "open", "--in", "other", "--out", "none"];
    let answer = refused(&mut rig.kekctl("lkm-1", &open));
    assert_eq!(answer, (1, "RECIPIENT_UNKNOWN".to_owned()));
    assert!(!rig.path("none").exists());
}

#[test]
fn a_rig_stops_starts_and_goes_away() {
    let rig = Rig::up(&["recordings=kek-rsa-3072"]);
    let before = said(&mut rig.kekctl("lkm-1", &["kek", "show", "recordings"]));
    assert!(said(&mut rig.kekctl("auditor", &["status"])).starts_with("ready\n"));
    let run = |command: &str| {
        kekctl()
            .args(["rig", command])
            .arg(rig.rig())
            .output()
            .unwrap()
    };
    assert!(run("status").status.success());
    assert!(run("stop").status.success());
    assert_eq!(run("status").status.code(), Some(75));
    assert_eq!(refused(&mut rig.kekctl("lkm-1", &["status"])).0, 69);
    assert!(run("start").status.success());
    let after = said(&mut rig.kekctl("lkm-1", &["kek", "show", "recordings"]));
    assert_eq!(before, after);

    // A shell that has read the rig's env needs no option at all.
    let script = r#". "$1/env" && "$2" kek export "$KEKD_KEYPAIR_ID" --format pem"#;
    let mut shell = Command::new("sh");
    shell.args(["-c", script, "sh"]).arg(rig.rig());
    let pem = said(shell.arg(Path::new(env!("CARGO_BIN_EXE_kekctl"))));
    assert!(pem.starts_with("-----BEGIN PUBLIC KEY-----"), "{pem}");
    assert!(run("down").status.success());
    assert!(!rig.rig().exists());
}
