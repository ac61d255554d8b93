//! People with keys, made in this process so that thousands of signatures take a moment. A name and
//! a number make a key, always the same one. No test is here.

use std::collections::HashMap;
use std::sync::{LazyLock, Mutex};

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _,
};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use ssh_key::{HashAlg, SshSig};

use crate::quorum::OfficerKey;
use crate::quorum::ssh_keygen::mpint;
use crate::quorum::sshsig::string;
use crate::types::Sha256;

/// Somebody who can sign.
pub(super) struct Person {
    pub(super) name: &'static str,
    key: Key,
    /// The key in the SSH wire format.
    blob: Vec<u8>,
    pub(super) public: OfficerKey,
}

enum Key {
    Ed25519(Ed25519KeyPair),
    P256(EcdsaKeyPair),
}

impl Person {
    /// The person's first key: Ed25519.
    pub(super) fn of(name: &'static str) -> &'static Self {
        Self::with_key(name, 1)
    }

    /// The person's key of this number: P-256 for 0, Ed25519 for others.
    pub(super) fn with_key(name: &'static str, number: u8) -> &'static Self {
        static KNOWN: LazyLock<Mutex<HashMap<(&str, u8), &'static Person>>> =
            LazyLock::new(Mutex::default);
        let mut known = KNOWN.lock().unwrap();
        known
            .entry((name, number))
            .or_insert_with(|| Box::leak(Box::new(Self::make(name, number))))
    }

    fn make(name: &'static str, number: u8) -> Self {
        let seed = Sha256::of(format!("{name} {number}").as_bytes());
        let (key, kind, parts) = if number == 0 {
            // ECPrivateKey of RFC 5915 without the public key: it is computed.
            let curve = [
                0xa0, 0x0a, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07,
            ];
            let der = [
                &[0x30, 0x31, 0x02, 0x01, 0x01, 0x04, 0x20][..],
                seed.as_bytes(),
                &curve,
            ];
            let der = der.concat();
            let algorithm = &ECDSA_P256_SHA256_FIXED_SIGNING;
            let key = EcdsaKeyPair::from_private_key_der(algorithm, &der).unwrap();
            let point = string(key.public_key().as_ref());
            let parts = [string("nistp256"), point].concat();
            (Key::P256(key), "ecdsa-sha2-nistp256", parts)
        } else {
            let key = Ed25519KeyPair::from_seed_unchecked(seed.as_bytes()).unwrap();
            let parts = string(key.public_key().as_ref());
            (Key::Ed25519(key), "ssh-ed25519", parts)
        };
        let blob = [string(kind), parts].concat();
        let public = format!("{kind} {}", BASE64.encode(&blob));
        Self {
            name,
            key,
            blob,
            public: OfficerKey::from_openssh(&public).unwrap(),
        }
    }

    /// An armored SSHSIG, as `ssh-keygen -Y sign` writes it.
    pub(super) fn sign(&self, namespace: &str, text: &[u8]) -> Vec<u8> {
        let signed = SshSig::signed_data(namespace, HashAlg::Sha512, text).unwrap();
        let signature = match &self.key {
            Key::Ed25519(key) => key.sign(&signed).as_ref().to_vec(),
            Key::P256(key) => {
                let fixed = key.sign(&SystemRandom::new(), &signed).unwrap();
                let (r, s) = fixed.as_ref().split_at(32);
                [string(mpint(r)), string(mpint(s))].concat()
            }
        };
        let kind = self.public.kind();
        let envelope = [
            b"SSHSIG".to_vec(),
            1_u32.to_be_bytes().to_vec(),
            string(&self.blob),
            string(namespace),
            string(""),
            string("sha512"),
            string([string(kind), string(signature)].concat()),
        ];
        let body = BASE64.encode(envelope.concat());
        let lines: Vec<_> = body.as_bytes().chunks(70).collect();
        let begin = b"-----BEGIN SSH SIGNATURE-----\n";
        let end = b"\n-----END SSH SIGNATURE-----\n";
        [&begin[..], &lines.join(&b'\n'), end].concat()
    }
}
