//! A legacy RSA key that openssl made, in all the files that such keys are found in.

use std::fs;
use std::path::Path;
use std::process::Command;

use kekd::types::Padding;
use tempfile::TempDir;

use crate::harness::{must, openssl_options};

/// The passphrase of those that have one.
const PHRASE: &str = "Geh heim: \u{e4}\u{20ac}";

/// A key, in files.
pub struct Legacy {
    folder: TempDir,
    pub bits: u32,
    /// DER `SubjectPublicKeyInfo`.
    pub spki: Vec<u8>,
}

impl Legacy {
    pub fn new(bits: u32) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let run = |line: &str| openssl(folder.path(), line);
        fs::write(folder.path().join("phrase"), format!("{PHRASE}\n")).unwrap();
        run(&format!(
            "genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:{bits} -out key.pem"
        ));
        run("pkey -in key.pem -traditional -out pkcs1.pem");
        run("pkcs8 -topk8 -in key.pem -passout file:phrase -out encrypted.pem");
        run("pkcs8 -topk8 -in key.pem -passout file:phrase -scrypt -out scrypt.pem");
        run(
            "pkcs8 -topk8 -in key.pem -passout file:phrase -v2 des3 -v2prf hmacWithSHA1 -out des3.pem",
        );
        run("pkcs8 -topk8 -in key.pem -passout file:phrase -v1 PBE-SHA1-3DES -out 3des.pem");
        run("req -x509 -key key.pem -subj /CN=legacy -days 30 -out crt.pem");
        let p12 = "pkcs12 -export -inkey key.pem -in crt.pem -passout file:phrase";
        run(&format!("{p12} -out key.p12"));
        run(&format!(
            "{p12} -keypbe PBE-SHA1-3DES -certpbe PBE-SHA1-3DES -macalg sha1 -out key-3des.p12"
        ));
        run(&format!(
            "{p12} -keypbe NONE -certpbe NONE -out key-plain.p12"
        ));
        run("pkey -in key.pem -pubout -outform DER -out spki");
        run("pkey -in key.pem -pubout -out spki.pem");
        // As `openssl pkcs12 -nodes` writes it: words and a certificate around the key.
        let read = |name: &str| fs::read_to_string(folder.path().join(name)).unwrap();
        let text = format!("Bag Attributes\n{}{}", read("crt.pem"), read("key.pem"));
        fs::write(folder.path().join("with-words.pem"), text).unwrap();
        Self {
            bits,
            spki: fs::read(folder.path().join("spki")).unwrap(),
            folder,
        }
    }

    /// Every file the key is in.
    pub const fn files(&self) -> [&'static str; 10] {
        [
            "key.pem",
            "with-words.pem",
            "pkcs1.pem",
            "encrypted.pem",
            "scrypt.pem",
            "des3.pem",
            "3des.pem",
            "key.p12",
            "key-3des.p12",
            "key-plain.p12",
        ]
    }

    pub fn path(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }

    /// What openssl encrypts for the key.
    pub fn encrypt(&self, padding: Padding, dek: &[u8]) -> Vec<u8> {
        fs::write(self.folder.path().join("dek"), dek).unwrap();
        must(
            Command::new("openssl")
                .args("pkeyutl -encrypt -pubin -inkey spki.pem -in dek -out wrapped".split(' '))
                .args(openssl_options("-pkeyopt", padding))
                .current_dir(self.folder.path()),
        );
        fs::read(self.folder.path().join("wrapped")).unwrap()
    }

    /// A transport certificate by an issuing key of the same name as this one's: its path.
    pub fn forged_transport(&self, issuing: &str) -> String {
        let run = |line: &str| openssl(self.folder.path(), line);
        let subject = Command::new("openssl")
            .args([
                "x509", "-in", issuing, "-noout", "-subject", "-nameopt", "RFC2253",
            ])
            .output()
            .unwrap();
        let subject = String::from_utf8(subject.stdout).unwrap();
        let subject = subject.trim().trim_start_matches("subject=CN=");
        run("ecparam -name prime256v1 -genkey -noout -out ca.key");
        must(
            Command::new("openssl")
                .args("req -x509 -key ca.key -days 30 -out ca.crt -subj".split(' '))
                .arg(format!("/CN={subject}"))
                .current_dir(self.folder.path()),
        );
        must(
            Command::new("openssl")
                .args("req -x509 -key key.pem -CA ca.crt -CAkey ca.key -days 30".split(' '))
                .args("-addext keyUsage=keyEncipherment -out forged.crt -subj".split(' '))
                .arg("/CN=kekd transport 6f9619ff-8b86-4011-b42d-00cf4fc964ff")
                .current_dir(self.folder.path()),
        );
        self.path("forged.crt")
    }

    /// Both primes, most significant byte first.
    pub fn primes(&self) -> Vec<Vec<u8>> {
        let output = must(
            Command::new("openssl")
                .args(["rsa", "-in", "key.pem", "-noout", "-text"])
                .current_dir(self.folder.path()),
        );
        let text = String::from_utf8(output.stdout).unwrap();
        ["prime1:", "prime2:"].map(|name| prime(&text, name)).into()
    }
}

/// The number after this line, without the zero in front of it.
fn prime(text: &str, name: &str) -> Vec<u8> {
    let lines = text.lines().skip_while(|line| *line != name).skip(1);
    let digits: String = lines
        .take_while(|line| line.starts_with(' '))
        .flat_map(str::chars)
        .filter(char::is_ascii_hexdigit)
        .collect();
    let bytes = digits.as_bytes().chunks(2).map(|pair| {
        let pair = std::str::from_utf8(pair).unwrap();
        u8::from_str_radix(pair, 16).unwrap()
    });
    bytes.skip_while(|byte| *byte == 0).collect()
}

fn openssl(folder: &Path, line: &str) {
    must(
        Command::new("openssl")
            .args(line.split(' '))
            .current_dir(folder),
    );
}
