//! A recording as a person handles it: sealed by OpenSSL and opened by `kekctl`, and the other way.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::harness::{Kek, Rig, must, openssl_options};
use crate::token::{Token, on_each_token};

on_each_token! {
    what_openssl_seals_kekctl_opens
    what_kekctl_seals_it_opens_again
}

/// A second and a half of two-channel 8 kHz telephone sound: 16-bit PCM WAV (RIFF, WAVE, fmt, data).
fn wav() -> Vec<u8> {
    let samples: Vec<u8> = (0..12_000_i64)
        .flat_map(|at| {
            let left = ((at * 440 * 65_536 / 8_000) % 65_536 - 32_768) / 4;
            let right = ((at * 350 * 65_536 / 8_000) % 65_536 - 32_768) / 4;
            [left, right]
        })
        .flat_map(|sample| i16::try_from(sample).unwrap().to_le_bytes())
        .collect();
    let length = u32::try_from(samples.len()).unwrap();
    let mut wav = Vec::new();
    wav.extend(b"RIFF");
    wav.extend((36 + length).to_le_bytes());
    wav.extend(b"WAVEfmt ");
    wav.extend(16_u32.to_le_bytes());
    for field in [1_u16, 2] {
        wav.extend(field.to_le_bytes());
    }
    for field in [8_000_u32, 32_000] {
        wav.extend(field.to_le_bytes());
    }
    for field in [4_u16, 16] {
        wav.extend(field.to_le_bytes());
    }
    wav.extend(b"data");
    wav.extend(length.to_le_bytes());
    wav.extend(samples);
    wav
}

struct Desk {
    rig: Rig,
    call: PathBuf,
}

impl Desk {
    fn new() -> Self {
        Self::with(Token::SoftHsm)
    }

    fn with(token: Token) -> Self {
        let rig = Rig::serving_on(token);
        let call = rig.dir.join("call.wav");
        fs::write(&call, wav()).unwrap();
        Self { rig, call }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.rig.dir.join(name)
    }

    async fn certificate(&self, kek: &str) -> PathBuf {
        let id = Kek::of(&self.rig.client("lkm-1").await, kek)
            .await
            .keypair_id
            .to_string();
        let path = self.path(&format!("{kek}.pem"));
        must(
            self.rig
                .kekctl()
                .args(["kek", "export", &id, "--format", "cert", "--out"])
                .arg(&path),
        );
        path
    }

    fn openssl_seal(&self, certificate: &Path, options: &[&str], out: &str) -> PathBuf {
        let out = self.path(out);
        must(
            Command::new("openssl")
                .args(["cms", "-encrypt", "-binary", "-in"])
                .arg(&self.call)
                .arg("-out")
                .arg(&out)
                .args(options)
                .arg("-recip")
                .arg(certificate),
        );
        out
    }

    fn open(&self, sealed: &Path, out: &str) -> std::process::Output {
        self.rig
            .kekctl()
            .args(["recording", "open", "--in"])
            .arg(sealed)
            .arg("--out")
            .arg(self.path(out))
            .output()
            .unwrap()
    }
}

async fn what_openssl_seals_kekctl_opens(token: Token) {
    let desk = Desk::with(token);
    let recordings = desk.certificate("recordings").await;
    let legacy = desk.certificate("legacy").await;
    let forms: [&[&str]; 4] = [
        &["-aes-256-gcm", "-outform", "DER"],
        &["-aes-256-cbc", "-outform", "DER", "-stream"],
        &["-aes-256-gcm", "-outform", "PEM"],
        &["-aes-256-cbc"],
    ];
    let paddings = token.oaep().iter();
    let cases = paddings.flat_map(|padding| forms.map(|options| (*padding, options)));
    for (number, (padding, options)) in cases.enumerate() {
        let mut command = Command::new("openssl");
        let sealed = desk.path(&format!("{number}.p7m"));
        command
            .args(["cms", "-encrypt", "-binary", "-in"])
            .arg(&desk.call);
        command
            .arg("-out")
            .arg(&sealed)
            .args(options)
            .arg("-recip")
            .arg(&recordings)
            .args(openssl_options("-keyopt", padding));
        must(&mut command);
        let opened = desk.open(&sealed, &format!("{number}.wav"));
        assert!(
            opened.status.success(),
            "{padding}, {options:?}: {opened:?}"
        );
        assert_eq!(
            fs::read(desk.path(&format!("{number}.wav"))).unwrap(),
            wav(),
            "{padding}, {options:?}"
        );
    }
    // PKCS#1 v1.5, which OpenSSL takes by default, under the KEK whose profile allows it.
    let sealed = desk.openssl_seal(&legacy, &["-aes-256-cbc", "-outform", "DER"], "legacy.p7m");
    let opened = desk.open(&sealed, "legacy.wav");
    assert!(opened.status.success(), "{opened:?}");
    assert_eq!(fs::read(desk.path("legacy.wav")).unwrap(), wav());
}

async fn what_kekctl_seals_it_opens_again(token: Token) {
    let desk = Desk::with(token);
    let sealed = desk.path("sealed.p7m");
    must(
        desk.rig
            .kekctl()
            .args(["recording", "seal", "--kek", "recordings", "--in"])
            .arg(&desk.call)
            .arg("--out")
            .arg(&sealed),
    );
    let opened = desk.open(&sealed, "opened.wav");
    assert!(opened.status.success(), "{opened:?}");
    assert_eq!(fs::read(desk.path("opened.wav")).unwrap(), wav());
}

#[tokio::test]
async fn what_kekctl_seals_openssl_opens_with_a_software_key() {
    let desk = Desk::new();
    let (key, certificate) = (desk.path("soft.key"), desk.path("soft.pem"));
    must(
        Command::new("openssl")
            .args([
                "req", "-x509", "-newkey", "rsa:3072", "-nodes", "-subj", "/CN=soft",
            ])
            .args(["-addext", "keyUsage=keyEncipherment", "-keyout"])
            .arg(&key)
            .arg("-out")
            .arg(&certificate),
    );
    let sealed = desk.path("soft.p7m");
    must(
        desk.rig
            .kekctl()
            .args(["recording", "seal", "--recipient"])
            .arg(&certificate)
            .arg("--in")
            .arg(&desk.call)
            .arg("--out")
            .arg(&sealed),
    );
    must(
        Command::new("openssl")
            .args(["cms", "-decrypt", "-binary", "-inform", "DER", "-in"])
            .arg(&sealed)
            .arg("-inkey")
            .arg(&key)
            .arg("-recip")
            .arg(&certificate)
            .arg("-out")
            .arg(desk.path("soft.wav")),
    );
    assert_eq!(fs::read(desk.path("soft.wav")).unwrap(), wav());
}

#[tokio::test]
async fn a_damaged_recording_leaves_no_file() {
    let desk = Desk::new();
    let certificate = desk.certificate("recordings").await;
    let options = [
        "-aes-256-gcm",
        "-outform",
        "DER",
        "-keyopt",
        "rsa_padding_mode:oaep",
    ];
    let mut command = Command::new("openssl");
    let sealed = desk.path("good.p7m");
    command
        .args(["cms", "-encrypt", "-binary", "-in"])
        .arg(&desk.call)
        .arg("-out")
        .arg(&sealed);
    command
        .args(&options[..3])
        .arg("-recip")
        .arg(certificate)
        .args(&options[3..]);
    must(&mut command);
    let good = fs::read(&sealed).unwrap();
    for at in [good.len() / 2, good.len() - 1] {
        let mut bad = good.clone();
        bad[at] ^= 1;
        fs::write(desk.path("bad.p7m"), &bad).unwrap();
        let opened = desk.open(&desk.path("bad.p7m"), "bad.wav");
        assert!(
            !opened.status.success(),
            "a flipped byte at {at} was not noticed"
        );
        let left: Vec<_> = fs::read_dir(&desk.rig.dir)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|name| name.contains("bad.wav"))
            .collect();
        assert!(left.is_empty(), "left behind: {left:?}");
    }
}

#[tokio::test]
async fn the_certificate_verifies_under_its_issuer() {
    let desk = Desk::new();
    let client = desk.rig.client("lkm-1").await;
    let kek = Kek::of(&client, "recordings").await;
    let chain = client.get_certificate(kek.keypair_id).await.unwrap();
    let convert = |der: &[u8], name: &str| {
        let (from, to) = (
            desk.path(&format!("{name}.der")),
            desk.path(&format!("{name}.pem")),
        );
        fs::write(&from, der).unwrap();
        must(
            Command::new("openssl")
                .args(["x509", "-inform", "DER", "-in"])
                .arg(&from)
                .arg("-out")
                .arg(&to),
        );
        to
    };
    let leaf = convert(&chain.certificate, "leaf");
    let issuer = convert(&chain.issuers[0], "issuer");
    must(
        Command::new("openssl")
            .args(["verify", "-x509_strict", "-CAfile"])
            .arg(issuer)
            .arg(leaf),
    );
}
