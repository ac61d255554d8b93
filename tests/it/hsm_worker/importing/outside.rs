//! What people do outside: they make keys, wrap them for a token, and encrypt for them.

use std::fs;
use std::path::Path;
use std::process::Command;

use aws_lc_rs::key_wrap::{AES_256, AesKek, KeyWrapPadded};
use kekd::hsm::Profile;
use kekd::proto::worker::{Import, KeyRef};
use kekd::types::Sha256;

use super::super::harness::oaep_sha1;
use super::TRANSPORT_ID;
use crate::harness::must;

/// An RSA key that openssl made, in files.
pub struct Outside {
    folder: tempfile::TempDir,
    /// DER PKCS#8 `PrivateKeyInfo`.
    pub pkcs8: Vec<u8>,
    /// DER, without what names the algorithm.
    pub traditional: Vec<u8>,
    /// DER `SubjectPublicKeyInfo`.
    pub spki: Vec<u8>,
}

impl Outside {
    pub fn new(arguments: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let run = |arguments: &[&str]| openssl(folder.path(), arguments);
        run(&[&["genpkey", "-out", "key.pem"], arguments].concat());
        let to_der = ["-outform", "DER", "-out"];
        let pkcs8 = ["pkcs8", "-topk8", "-nocrypt", "-in", "key.pem"];
        run(&[&pkcs8[..], &to_der, &["key"]].concat());
        // The form of PKCS#1, RFC 8017 appendix A.1.2, or of SEC 1.
        let traditional = ["pkey", "-traditional", "-in", "key.pem"];
        run(&[&traditional[..], &to_der, &["traditional"]].concat());
        let public = ["pkey", "-pubout", "-in", "key.pem"];
        run(&[&public[..], &to_der, &["spki"]].concat());
        run(&[&public[..], &["-out", "spki.pem"]].concat());
        Self {
            traditional: fs::read(folder.path().join("traditional")).unwrap(),
            pkcs8: fs::read(folder.path().join("key")).unwrap(),
            spki: fs::read(folder.path().join("spki")).unwrap(),
            folder,
        }
    }

    pub fn rsa(bits: u32) -> Self {
        let bits = format!("rsa_keygen_bits:{bits}");
        Self::new(&["-algorithm", "RSA", "-pkeyopt", &bits])
    }

    /// Wrapped as `hsm-config/README.md` says, to be imported as number 1.
    pub fn wrapped_by_hand(&self, transport: &[u8]) -> Import {
        let path = |name: &str| self.folder.path().join(name);
        fs::write(path("transport"), transport).unwrap();
        fs::write(path("aes.key"), [0x17; 32]).unwrap();
        let run = |command: &str| {
            let arguments: Vec<_> = command.split_whitespace().collect();
            openssl(self.folder.path(), &arguments);
        };
        run(&format!(
            "enc -id-aes256-wrap-pad -iv A65959A6 -K {} -in key -out key.wrapped",
            "17".repeat(32)
        ));
        run("pkey -pubin -inform DER -in transport -out transport.pem");
        run(
            "pkeyutl -encrypt -pubin -inkey transport.pem -pkeyopt rsa_padding_mode:oaep \
             -in aes.key -out aes.wrapped",
        );
        Import {
            wrapped_aes_key: fs::read(path("aes.wrapped")).unwrap(),
            wrapped_private_key: fs::read(path("key.wrapped")).unwrap(),
            ..request(transport, self, "kek-rsa-2048-imported")
        }
    }

    /// What openssl encrypts for the key.
    pub fn encrypt(&self, padding: &str, dek: &[u8]) -> Vec<u8> {
        fs::write(self.folder.path().join("dek"), dek).unwrap();
        let padding = format!("rsa_padding_mode:{padding}");
        openssl(
            self.folder.path(),
            &[
                "pkeyutl", "-encrypt", "-pubin", "-inkey", "spki.pem", "-in", "dek", "-out",
                "wrapped", "-pkeyopt", &padding,
            ],
        );
        fs::read(self.folder.path().join("wrapped")).unwrap()
    }
}

fn openssl(folder: &Path, arguments: &[&str]) {
    must(Command::new("openssl").args(arguments).current_dir(folder));
}

/// AES key wrap with padding, RFC 5649.
pub fn kwp(kek: &[u8; 32], wrapped: &[u8]) -> Vec<u8> {
    let kek = AesKek::new(&AES_256, kek).unwrap();
    let mut output = vec![0; wrapped.len() + 16];
    kek.wrap_with_padding(wrapped, &mut output)
        .unwrap()
        .to_vec()
}

/// A request to import this key as number 1, to a built-in profile.
pub fn request(transport: &[u8], outside: &Outside, profile: &str) -> Import {
    let aes_key = [0x42; 32];
    Import {
        transport_object_id: TRANSPORT_ID.to_vec(),
        key: Some(KeyRef {
            object_id: vec![1; 16],
            spki_sha256: Sha256::of(&outside.spki).as_bytes().to_vec(),
        }),
        label: "key 1".to_owned(),
        profile: Profile::builtin(profile).unwrap().into(),
        wrapped_aes_key: oaep_sha1(transport, &aes_key),
        wrapped_private_key: kwp(&aes_key, &outside.pkcs8),
    }
}
