//! What every test of recordings starts from: a folder with an RSA-3072 key in software in the place
//! of the HSM's, its certificate, a recording, and the `openssl` command.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use kekd::recording::{
    Content, Envelope, Overwrite, Recipient, RecipientCertificate, RecordingError,
    SIZE_MAX_DEFAULT, Source, seal, write_new,
};
use kekd::types::Padding;
use tempfile::TempDir;
use zeroize::Zeroizing;

/// A folder with an RSA-3072 key, its certificate and a recording.
pub(super) struct Bench {
    pub(super) folder: TempDir,
}

impl Bench {
    pub(super) fn new() -> Self {
        let bench = Self {
            folder: tempfile::tempdir().unwrap(),
        };
        bench.certificate("kek", "rsa:3072");
        fs::write(bench.path("call.wav"), wav(40_000)).unwrap();
        bench
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(super) fn bytes(&self, name: &str) -> Vec<u8> {
        fs::read(self.path(name)).unwrap()
    }

    /// Runs openssl in the folder; it must succeed.
    pub(super) fn openssl(&self, arguments: &[&str]) {
        let ran = self.try_openssl(arguments);
        assert!(ran.0, "openssl {arguments:?}: {}", ran.1);
    }

    fn try_openssl(&self, arguments: &[&str]) -> (bool, String) {
        let ran = Command::new("openssl")
            .args(arguments)
            .current_dir(self.folder.path())
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let stderr = String::from_utf8_lossy(&ran.stderr).into_owned();
        (ran.status.success(), stderr)
    }

    /// Makes NAME.key and NAME.pem.
    pub(super) fn certificate(&self, name: &str, algorithm: &str) {
        let (key, pem) = (format!("{name}.key"), format!("{name}.pem"));
        let subject = format!("/O=Example/CN={name}");
        let mut arguments = vec!["req", "-x509", "-nodes", "-days", "2", "-newkey", algorithm];
        if algorithm == "ec" {
            arguments.extend(["-pkeyopt", "ec_paramgen_curve:P-256"]);
        }
        arguments.extend(["-keyout", &key, "-out", &pem, "-subj", &subject]);
        self.openssl(&arguments);
    }

    pub(super) fn read_certificate(&self, name: &str) -> RecipientCertificate {
        let path = self.path(name);
        RecipientCertificate::parse(&path, &fs::read(&path).unwrap()).unwrap()
    }

    /// Seals FROM with openssl for kek.pem.
    pub(super) fn openssl_seals(&self, from: &str, to: &str, cipher: &str, options: &[&str]) {
        let mut arguments = vec![
            "cms", "-encrypt", "-binary", cipher, "-in", from, "-out", to,
        ];
        let (keyopt, others): (Vec<&str>, Vec<&str>) = (
            options.iter().copied().filter(|o| is_keyopt(o)).collect(),
            options.iter().copied().filter(|o| !is_keyopt(o)).collect(),
        );
        arguments.extend(others);
        arguments.extend(["-recip", "kek.pem"]);
        arguments.extend(keyopt);
        self.openssl(&arguments);
    }

    pub(super) fn read(&self, name: &str) -> Result<Envelope, RecordingError> {
        read(&self.path(name))
    }

    /// The DEK of a recipient, unwrapped as an HSM would, by openssl with the key in software.
    pub(super) fn unwrap(&self, recipient: &Recipient) -> Zeroizing<[u8; 32]> {
        fs::write(self.path("wrapped"), &recipient.encrypted_key).unwrap();
        let mut arguments = vec!["pkeyutl", "-decrypt", "-inkey", "kek.key", "-in", "wrapped"];
        arguments.extend(["-out", "dek"]);
        match recipient.padding.clone().unwrap() {
            Padding::Pkcs1V15 => (),
            Padding::OaepSha1 => arguments.extend(["-pkeyopt", "rsa_padding_mode:oaep"]),
            Padding::OaepSha256 => arguments.extend([
                "-pkeyopt",
                "rsa_padding_mode:oaep",
                "-pkeyopt",
                "rsa_oaep_md:sha256",
            ]),
        }
        self.openssl(&arguments);
        Zeroizing::new(self.bytes("dek").try_into().unwrap())
    }

    pub(super) fn open(&self, name: &str) -> Result<Content, RecordingError> {
        let envelope = self.read(name)?;
        let dek = self.unwrap(&envelope.recipients()[0]);
        envelope.open(&dek, &mut |_, _| ())
    }

    pub(super) fn sealed_here(&self, to: &str, padding: Padding) {
        let source = Source::open(&self.path("call.wav")).unwrap();
        let certificate = self.read_certificate("kek.pem");
        let sealed = seal(
            source,
            &[certificate],
            padding,
            SIZE_MAX_DEFAULT,
            &mut |_, _| (),
        )
        .unwrap();
        write_new(
            &self.path(to),
            &sealed.parts(),
            Overwrite::No,
            &mut |_, _| (),
        )
        .unwrap();
    }
}

fn is_keyopt(option: &str) -> bool {
    option == "-keyopt" || option.starts_with("rsa_")
}

pub(super) fn read(path: &Path) -> Result<Envelope, RecordingError> {
    Envelope::read(Source::open(path)?, SIZE_MAX_DEFAULT, &mut |_, _| ())
}

pub(super) fn parse(bytes: &[u8]) -> Result<Envelope, RecordingError> {
    Envelope::parse(Path::new("test"), Zeroizing::new(bytes.to_vec()))
}

/// A WAV as call recorders write it: PCM, 8 kHz, two channels (one per speaker), 16 bits.
pub(super) fn wav(frames: u32) -> Vec<u8> {
    let len = frames * 4;
    let mut out = Vec::new();
    out.extend(b"RIFF");
    out.extend((36 + len).to_le_bytes());
    out.extend(b"WAVEfmt ");
    out.extend(16_u32.to_le_bytes());
    for (value, width) in [(1, 2), (2, 2), (8_000, 4), (32_000, 4), (4, 2), (16_u32, 2)] {
        out.extend(&value.to_le_bytes()[..width]);
    }
    out.extend(b"data");
    out.extend(len.to_le_bytes());
    for frame in 0..i64::from(frames) {
        for step in [37, 53] {
            let sample = i16::try_from(frame * step % 16_000 - 8_000).unwrap();
            out.extend(sample.to_le_bytes());
        }
    }
    out
}
