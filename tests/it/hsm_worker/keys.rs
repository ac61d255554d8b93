//! Keys to a profile: generated, read back, attacked, caged, signed with, and told apart.

use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey,
};
use kekd::hsm::profile::Profile;
use kekd::proto::worker::{
    Cage, FailureKind, Padding, SelfSign, SignDigest, request::Op, response::Result as Answer,
};
use kekd::types::Sha256;

use super::harness::{Worker, kind, oaep_sha1, unwrap_request};
use crate::softhsm::SoftHsm;

#[test]
fn a_key_to_each_profile_reads_back_clean_and_withstands_the_attack() {
    let token = SoftHsm::new("profiles");
    let mut worker = Worker::open(&token);
    // What is brought in is in `importing.rs`.
    let made_here = Profile::builtin_names().filter(|name| !name.ends_with("imported"));
    for (number, name) in (1..).zip(made_here) {
        let key = worker.generate(name, number);
        let is_self_signed = name.ends_with("self-signed");
        if is_self_signed {
            // Not yet caged: the profile's final values are not there, and it can be weakened.
            let found = worker.read_back(&key);
            let names: Vec<_> = found.iter().map(|m| m.attribute.as_str()).collect();
            assert_eq!(names, ["CKA_MODIFIABLE (private)", "CKA_SIGN (private)"]);
            assert!(!worker.attack(&key).succeeded.is_empty());
            // What the attack could change it has put back.
            assert_eq!(worker.read_back(&key).len(), 2);
            let cage = Cage {
                key: Some(key.key_ref.clone()),
                profile: key.profile.clone(),
            };
            worker.call(Op::Cage(cage)).unwrap();
        }
        assert_eq!(worker.read_back(&key), [], "{name}");
        let report = worker.attack(&key);
        assert_eq!(report.succeeded, [""; 0], "{name}");
        assert!(report.tried > 25, "{name}: {}", report.tried);
        // The attack has not changed the key, and left nothing behind.
        assert_eq!(worker.read_back(&key), [], "{name}");
    }
    assert!(worker.close().success());
}

#[test]
fn an_id_or_label_is_given_once() {
    let token = SoftHsm::new("once");
    let mut worker = Worker::open(&token);
    let key = worker.generate("log-signing", 1);
    let again = worker.generate_to(key.profile.clone(), 1).err().unwrap();
    assert_eq!(kind(&again), FailureKind::KeyAmbiguous);
    let broken = worker.generate_to(b"format = 1".to_vec(), 2).err().unwrap();
    assert_eq!(kind(&broken), FailureKind::BadRequest);
}

#[test]
fn a_p256_key_signs_digests() {
    let token = SoftHsm::new("ecdsa");
    let mut worker = Worker::open(&token);
    let key = worker.generate("log-signing", 1);
    let request = SignDigest {
        key: Some(key.key_ref.clone()),
        digest: Sha256::of(b"a tree head").as_bytes().to_vec(),
    };
    let signature = match worker.call(Op::SignDigest(request.clone())).unwrap() {
        Answer::Signature(signature) => signature.signature,
        other => panic!("{other:?}"),
    };
    UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, &key.spki)
        .verify(b"a tree head", &signature)
        .unwrap();
    let short = SignDigest {
        digest: vec![0; 31],
        ..request.clone()
    };
    let failure = worker.call(Op::SignDigest(short)).unwrap_err();
    assert_eq!(kind(&failure), FailureKind::BadRequest);
    // Another public key is expected than the token's.
    let mut other = request;
    other.key.as_mut().unwrap().spki_sha256 = vec![9; 32];
    let failure = worker.call(Op::SignDigest(other)).unwrap_err();
    assert_eq!(kind(&failure), FailureKind::KeyMismatch);
}

#[test]
fn a_self_signed_kek_signs_until_it_is_caged() {
    let token = SoftHsm::new("cage");
    let mut worker = Worker::open(&token);
    let key = worker.generate("kek-rsa-3072-self-signed", 1);
    let sign = Op::SelfSign(SelfSign {
        key: Some(key.key_ref.clone()),
        tbs_certificate: b"a certificate body".to_vec(),
    });
    let signature = match worker.call(sign.clone()).unwrap() {
        Answer::Signature(signature) => signature.signature,
        other => panic!("{other:?}"),
    };
    UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, &key.spki)
        .verify(b"a certificate body", &signature)
        .unwrap();
    let cage = Op::Cage(Cage {
        key: Some(key.key_ref.clone()),
        profile: key.profile.clone(),
    });
    assert!(matches!(worker.call(cage.clone()), Ok(Answer::Caged(_))));
    let failure = worker.call(sign).unwrap_err();
    assert_eq!(kind(&failure), FailureKind::Unsupported);
    assert_eq!(failure.return_value, "CKR_KEY_FUNCTION_NOT_PERMITTED");
    // It is still the KEK it was.
    let wrapped = oaep_sha1(&key.spki, &[3; 32]);
    assert!(worker.set_known_answer(&key, false));
    let request = unwrap_request(&key, Padding::OaepSha1, wrapped);
    assert_eq!(worker.unwrap(request).unwrap(), [3; 32]);
    // A caged key cannot be caged again, and other keys not at all.
    let failure = worker.call(cage).unwrap_err();
    assert_eq!(kind(&failure), FailureKind::RefusedByToken);
    let plain = worker.generate("kek-rsa-3072", 2);
    let cage = Op::Cage(Cage {
        key: Some(plain.key_ref),
        profile: plain.profile,
    });
    let failure = worker.call(cage).unwrap_err();
    assert_eq!(kind(&failure), FailureKind::BadRequest);
}

#[test]
fn a_look_alike_is_seen() {
    let token = SoftHsm::new("twins");
    let mut worker = Worker::open(&token);
    let key = worker.generate("log-signing", 1);
    let wrapped = vec![0; 384];
    let missing = unwrap_request(&key, Padding::OaepSha1, wrapped.clone());
    let mut missing = missing;
    missing.key.as_mut().unwrap().object_id = vec![8; 16];
    let failure = worker.unwrap(missing).unwrap_err();
    assert_eq!(kind(&failure), FailureKind::KeyMissing);
    // Somebody with the PIN makes a second key with the same label, then one with the same id.
    plant(&token, "0202", &key.label);
    let found = worker.read_back(&key);
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!(found[0].attribute, "CKA_LABEL (private)");
    assert_eq!(found[0].found, "borne by 2");
    plant(&token, &"01".repeat(16), "another");
    let mut worker = Worker::open(&token);
    let failure = worker
        .unwrap(unwrap_request(&key, Padding::OaepSha1, wrapped))
        .unwrap_err();
    assert_eq!(kind(&failure), FailureKind::KeyAmbiguous);
}

fn plant(token: &SoftHsm, id: &str, label: &str) {
    token.pkcs11_tool(&[
        "--keypairgen",
        "--key-type",
        "EC:prime256v1",
        "--usage-sign",
        "--id",
        id,
        "--label",
        label,
    ]);
}

#[test]
fn what_a_token_cannot_promise_must_be_waived_by_name() {
    let token = SoftHsm::new("waiver");
    let mut worker = Worker::open(&token);
    let text = Profile::builtin("log-signing").unwrap();
    // SoftHSM lets a key be modifiable, so a waiver of COPYABLE leaves its default, true.
    let copyable = "[[private]]\nattribute = \"CKA_COPYABLE\"\nvalue = false\nreason = \"Some tokens weaken attributes in a copy.\"\n\n";
    assert!(text.contains(copyable));
    let waiver = "\n[[token_cannot]]\nattribute = \"CKA_COPYABLE\"\nreason = \"a test\"\n";
    let waived = format!("{}{waiver}", text.replacen(copyable, "", 1));
    let key = worker.generate_to(waived.into_bytes(), 1).unwrap();
    assert_eq!(worker.attack(&key).succeeded, [""; 0]);
    // Held against the strict profile, the same key is found out.
    let mut strict = key;
    strict.profile = text.as_bytes().to_vec();
    let found = worker.read_back(&strict);
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!(found[0].attribute, "CKA_COPYABLE (private)");
    assert_eq!(
        worker.attack(&strict).succeeded,
        ["the key was copied to a token object (CKA_COPYABLE should have stopped it)"]
    );
}
