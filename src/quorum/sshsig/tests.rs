//! Signatures of `ssh-keygen`; security keys are played by aws-lc-rs, and `ssh-keygen -Y verify`
//! is asked about every one of them as well.
#![expect(clippy::unwrap_used, reason = "a test that cannot unwrap has failed")]

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _,
};
use ssh_key::Signature;

use super::*;
use crate::quorum::ssh_keygen::{Keys, mpint, rebuilt};
use crate::quorum::{GENESIS_NAMESPACE, OfficerRole};

type Sign<'a> = &'a dyn Fn(&[u8]) -> Vec<u8>;

#[test]
fn signatures_that_are_altered_are_refused() {
    let keys = Keys::new();
    for (kind, bits) in [("ed25519", "256"), ("ecdsa", "256"), ("rsa", "3072")] {
        let key = keys.make(kind, kind, bits);
        let officers = [Officer {
            name: kind.to_owned(),
            role: OfficerRole::KeyCustodian,
            key: OfficerKey::from_openssh(&key).unwrap(),
        }];
        let armored = keys.sign(kind, GENESIS_NAMESPACE, b"text");
        let verdict = |armored: &[u8]| {
            signer(&officers, GENESIS_NAMESPACE, b"text", armored).map(|o| o.name.clone())
        };
        assert_eq!(verdict(&armored).unwrap(), kind);
        let envelope = SshSig::from_pem(&armored).unwrap();
        for at in 0..envelope.signature_bytes().len() {
            let mut bytes = envelope.signature_bytes().to_vec();
            *bytes.get_mut(at).unwrap() ^= 1;
            if let Ok(signature) = Signature::new(envelope.algorithm(), bytes) {
                let bad = rebuilt(&envelope, envelope.namespace(), signature);
                assert!(verdict(&bad).is_err(), "{kind}: byte {at} flipped");
            }
        }
        for at in 0..armored.len() {
            let mut bad = armored.clone();
            *bad.get_mut(at).unwrap() ^= 1;
            // Line ends may be written in other ways; all else must be refused.
            let flips_line_end = armored.get(at) == Some(&b'\n');
            assert!(
                flips_line_end || verdict(&bad).is_err(),
                "{kind}: character {at}"
            );
        }
        let text = String::from_utf8(armored.clone()).unwrap();
        assert!(verdict(text.replace('\n', "\r\n").as_bytes()).is_ok());
        assert!(verdict(format!("{text}\n").as_bytes()).is_err());
        for bad in [&[][..], &[0; SIGNATURE_LEN_MAX + 1], b"text"] {
            assert!(matches!(
                verdict(bad),
                Err(SignatureError::Malformed { .. })
            ));
        }
    }
}

#[test]
fn security_keys_sign_only_when_touched() {
    let keys = Keys::new();
    let ed25519 = Ed25519KeyPair::generate().unwrap();
    let ed25519_data = [
        string(b"sk-ssh-ed25519@openssh.com"),
        string(ed25519.public_key().as_ref()),
        string(b"ssh:"),
    ]
    .concat();
    let p256 = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
    let p256_data = [
        string(b"sk-ecdsa-sha2-nistp256@openssh.com"),
        string(b"nistp256"),
        string(p256.public_key().as_ref()),
        string(b"ssh:"),
    ]
    .concat();
    let sign_ed25519 = |signed: &[u8]| ed25519.sign(signed).as_ref().to_vec();
    let sign_p256 = |signed: &[u8]| {
        let fixed = p256.sign(&SystemRandom::new(), signed).unwrap();
        let (r, s) = fixed.as_ref().split_at(32);
        [string(mpint(r)), string(mpint(s))].concat()
    };
    let cases: [(&str, &[u8], Sign); 2] = [
        ("sk-ssh-ed25519@openssh.com", &ed25519_data, &sign_ed25519),
        ("sk-ecdsa-sha2-nistp256@openssh.com", &p256_data, &sign_p256),
    ];
    for (kind, data, sign) in cases {
        let line = format!("{kind} {} x", BASE64.encode(data));
        let officers = [Officer {
            name: "alice".to_owned(),
            role: OfficerRole::PolicyOfficer,
            key: OfficerKey::from_openssh(&line).unwrap(),
        }];
        for (flags, application, accepted) in [
            (0x01, "ssh:", true),
            (0x05, "ssh:", true),
            (0x00, "ssh:", false),
            (0x01, "ssh:other", false),
        ] {
            let armored = sk_signature(kind, data, flags, application, sign);
            let found = signer(&officers, GENESIS_NAMESPACE, b"text", &armored);
            assert_eq!(found.is_ok(), accepted, "{kind} {flags} {application}");
            // ssh-keygen accepts a signature without a touch, too.
            let accepted = accepted || application == "ssh:";
            assert_eq!(keys.openssh_accepts(&line, &armored, b"text"), accepted);
            assert!(signer(&officers, GENESIS_NAMESPACE, b"texts", &armored).is_err());
            assert!(signer(&officers, "file", b"text", &armored).is_err());
        }
    }
}

/// An SSHSIG as a security key makes it (PROTOCOL.u2f).
fn sk_signature(kind: &str, data: &[u8], flags: u8, application: &str, sign: Sign) -> Vec<u8> {
    let inner = SshSig::signed_data(GENESIS_NAMESPACE, HashAlg::Sha512, b"text").unwrap();
    let trailer = [&[flags][..], &9_u32.to_be_bytes()].concat();
    let signed = [
        Sha256::of(application.as_bytes()).as_bytes(),
        &trailer[..],
        Sha256::of(&inner).as_bytes(),
    ]
    .concat();
    let blob = [string(kind.as_bytes()), string(sign(&signed)), trailer].concat();
    let envelope = [
        b"SSHSIG".to_vec(),
        1_u32.to_be_bytes().to_vec(),
        string(data),
        string(GENESIS_NAMESPACE.as_bytes()),
        string(b""),
        string(b"sha512"),
        string(&blob),
    ]
    .concat();
    let text = BASE64.encode(envelope);
    let lines: Vec<_> = text.as_bytes().chunks(70).collect();
    let (begin, end) = (
        "-----BEGIN SSH SIGNATURE-----\n",
        "\n-----END SSH SIGNATURE-----\n",
    );
    [begin.as_bytes(), &lines.join(&b'\n'), end.as_bytes()].concat()
}
