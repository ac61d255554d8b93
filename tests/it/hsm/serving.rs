//! What the HSM does for callers while all is well, and what bad requests do not do to it.

use std::time::Instant;

use aws_lc_rs::encoding::{AsDer, PublicKeyX509Der};
use aws_lc_rs::rsa::{KeySize, OAEP_SHA1_MGF1SHA1, OaepPrivateDecryptingKey, PrivateDecryptingKey};
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED, UnparsedPublicKey};
use kekd::config::HsmConfig;
use kekd::hsm::{DataKind, HsmError, ObjectClass, Profile, UnwrapJob};
use kekd::types::{Sha256, WrappedDek};
use rustix::process::Signal;

use super::harness::{LONG, Rig, asker, key_ref, next_worker, pid, signal};
use crate::hsm_worker::harness::Worker;
use crate::still::stand_still;

#[tokio::test]
async fn a_dek_comes_back_as_it_was_wrapped() {
    let rig = Rig::new("kekd serving", "kek-rsa-3072");
    let hsm = rig.open(rig.config()).await;
    for dek in [[1; 32], [2; 32]] {
        assert_eq!(rig.unwrap(&hsm, &rig.job(&dek)).await.unwrap(), dek);
    }
    hsm.shutdown().await;
}

#[tokio::test]
async fn a_recipient_gets_the_dek_under_its_own_key() {
    let rig = Rig::new("kekd recipient", "kek-rsa-3072-recipient");
    let hsm = rig.open(rig.config()).await;
    let recipient = PrivateDecryptingKey::generate(KeySize::Rsa2048).unwrap();
    let spki: PublicKeyX509Der<'_> = recipient.public_key().as_der().unwrap();
    let job = rig.rewrap_job(&[3; 32], spki.as_ref().to_vec());
    let answer = hsm
        .rewrap(&job, &asker(Instant::now() + LONG))
        .await
        .unwrap();
    let rewrapped = rig.release(answer.value).await;
    let recipient = OaepPrivateDecryptingKey::new(recipient).unwrap();
    let mut plaintext = [0; 256];
    let dek = recipient
        .decrypt(
            &OAEP_SHA1_MGF1SHA1,
            &rewrapped.into_bytes(),
            &mut plaintext,
            None,
        )
        .unwrap();
    assert_eq!(dek, [3; 32]);
    hsm.shutdown().await;
}

#[tokio::test]
async fn bad_ciphertexts_are_one_error_and_no_reason_to_replace_the_worker() {
    let rig = Rig::new("kekd junk", "kek-rsa-3072");
    let hsm = rig.open(rig.config()).await;
    let junk = |wrapped: Vec<u8>| UnwrapJob {
        wrapped_dek: WrappedDek::try_from(wrapped).unwrap(),
        ..rig.job(&[1; 32])
    };
    let short = UnwrapJob {
        wrapped_dek: rig.wrap(&[1; 17]),
        ..rig.job(&[1; 32])
    };
    let mut bad = vec![short];
    bad.extend((0..50).map(|n| junk(vec![n; 384])));
    let before = hsm.status().worker_pid.unwrap();
    for job in &bad {
        let error = rig.unwrap(&hsm, job).await.unwrap_err();
        assert!(matches!(error, HsmError::Undecryptable), "{error}");
    }
    assert_eq!(hsm.status().worker_pid, Some(before));
    // A new worker knows the known-answer test, or it could not tell junk from a broken token.
    signal(before, Signal::KILL);
    next_worker(&hsm, before).await;
    let error = rig.unwrap(&hsm, &junk(vec![9; 384])).await.unwrap_err();
    assert!(matches!(error, HsmError::Undecryptable), "{error}");
    assert_eq!(rig.unwrap(&hsm, &rig.job(&[1; 32])).await.unwrap(), [1; 32]);
    assert_eq!(hsm.status().worker_restarts, 1);
    hsm.shutdown().await;
}

#[tokio::test]
async fn a_known_answer_that_is_wrong_is_not_kept() {
    let rig = Rig::new("kekd known answer", "kek-rsa-3072");
    let hsm = rig.start(rig.config());
    hsm.opened().await.unwrap();
    let mut test = rig.known_answer();
    test.sha256 = Sha256::of(b"another value");
    assert!(!hsm.set_known_answer(test).await.unwrap());
    // Kept, it would keep every later worker from serving.
    let before = hsm.status().worker_pid.unwrap();
    signal(before, Signal::KILL);
    next_worker(&hsm, before).await;
    hsm.shutdown().await;
}

#[tokio::test]
async fn keys_are_signed_with_read_back_and_attacked() {
    let rig = Rig::new("kekd keys", "kek-rsa-3072");
    let mut worker = Worker::open(&rig.token);
    let log_key = worker.generate("log-signing", 8);
    assert!(worker.close().success());
    let hsm = rig.open(rig.config()).await;

    let digest = Sha256::of(b"a tree head");
    let signature = hsm.sign_digest(&key_ref(&log_key), &digest).await.unwrap();
    // The uncompressed point ends a P-256 SubjectPublicKeyInfo (RFC 5480 section 2.2).
    let point = &log_key.spki[log_key.spki.len() - 65..];
    UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point)
        .verify(b"a tree head", &signature)
        .unwrap();

    let profile = Profile::parse(Profile::builtin(rig.profile).unwrap().as_bytes()).unwrap();
    let key = rig.key();
    let other = Profile::builtin("kek-rsa-3072-recipient").unwrap();
    let other = Profile::parse(other.as_bytes()).unwrap();
    let same = hsm.read_back(&key, &rig.kek.label, &profile, false).await;
    assert_eq!(same.unwrap(), []);
    let differs = hsm.read_back(&key, &rig.kek.label, &other, true).await;
    assert!(!differs.unwrap().is_empty());
    let report = hsm.attack(&key, &profile).await.unwrap();
    assert!(
        report.succeeded.is_empty() && report.tried > 0,
        "{report:?}"
    );

    let objects = hsm.inventory().await.unwrap();
    let ours = objects.iter().find(|object| {
        object.class == ObjectClass::PrivateKey && object.object_id == rig.key().object_id
    });
    assert_eq!(ours.unwrap().spki_sha256, rig.key().spki_sha256);
    let missing = kekd::hsm::KeyRef {
        object_id: [0xee; 16],
        ..rig.key()
    };
    let error = hsm.sign_digest(&missing, &digest).await.unwrap_err();
    assert!(matches!(error, HsmError::KeyMissing { .. }), "{error}");
    hsm.shutdown().await;
}

#[tokio::test]
async fn data_objects_are_fixed_or_replaced() {
    let rig = Rig::new("kekd data", "kek-rsa-3072");
    let hsm = rig.open(rig.config()).await;
    let fixed = |value| hsm.write_data("kekd pin", value, DataKind::Fixed);
    fixed(b"once").await.unwrap();
    assert!(fixed(b"twice").await.is_err());
    assert_eq!(hsm.read_data(["kekd pin"]).await.unwrap(), [[b"once"]]);
    for value in [b"1", b"2"] {
        let replaced = hsm.write_data("kekd head", value, DataKind::Replace);
        replaced.await.unwrap();
        assert_eq!(hsm.read_data(["kekd head"]).await.unwrap(), [[value]]);
    }
    hsm.shutdown().await;
}

#[tokio::test]
async fn a_full_queue_is_an_answer_and_those_in_it_are_served() {
    let rig = Rig::new("kekd queue", "kek-rsa-3072");
    let hsm = rig
        .open(HsmConfig {
            sessions: 1,
            queue_len_max: 1,
            ..rig.config()
        })
        .await;
    // A stopped worker keeps its only session busy while the calls come.
    stand_still(pid(hsm.status().worker_pid.unwrap()));
    let job = rig.job(&[4; 32]);
    let call = || rig.unwrap(&hsm, &job);
    let answers = tokio::join!(call(), call(), call(), call(), call());
    let answers = [answers.0, answers.1, answers.2, answers.3, answers.4];
    let busy = |answer: &&Result<[u8; 32], HsmError>| matches!(answer, Err(HsmError::Busy { .. }));
    let served = |answer: &&Result<[u8; 32], HsmError>| matches!(answer, Ok([4, ..]));
    assert_eq!(answers.iter().filter(busy).count(), 2, "{answers:?}");
    // In the session, at the door of the worker, and in the line.
    assert_eq!(answers.iter().filter(served).count(), 3, "{answers:?}");
    hsm.shutdown().await;
}
