//! Unwrapping to the daemon: what comes out, what is refused, and that a bad ciphertext is settled
//! without anybody else noticing.

use std::collections::HashSet;

use kekd::proto::worker::{
    FailureKind, Padding, Ping, Probe, request::Op, response::Result as Answer,
};

use super::harness::{Key, Worker, kind, oaep_sha1, pkcs1, unwrap_request};
use crate::harness::faulty::{count, script};
use crate::softhsm::SoftHsm;

#[test]
fn a_dek_wrapped_outside_unwraps_inside() {
    let token = SoftHsm::new("oaep");
    let mut worker = Worker::open(&token);
    let key = worker.generate("kek-rsa-3072", 1);
    assert!(worker.set_known_answer(&key, false));
    let ids: Vec<(u8, u64)> = (0..40)
        .map(|n| {
            let wrapped = oaep_sha1(&key.spki, &[n; 32]);
            let request = unwrap_request(&key, Padding::OaepSha1, wrapped);
            (n, worker.send(Op::Unwrap(request)))
        })
        .collect();
    for (n, id) in ids {
        match worker.receive(id).unwrap() {
            Answer::Unwrapped(unwrapped) => {
                assert_eq!(unwrapped.dek, [n; 32]);
                assert!(unwrapped.hsm_us > 0);
            }
            other => panic!("{other:?}"),
        }
    }
    assert!(worker.close().success());
}

#[test]
fn a_bad_ciphertext_is_blamed_only_once_the_token_has_proved_itself() {
    let token = SoftHsm::new("bad");
    let mut worker = Worker::open(&token);
    let key = worker.generate("kek-rsa-3072", 1);
    let good = oaep_sha1(&key.spki, &[1; 32]);
    let mut flipped = good.clone();
    flipped[200] ^= 1;
    let bad = |wrapped| unwrap_request(&key, Padding::OaepSha1, wrapped);
    // Without a known-answer test nobody can tell, and nothing is done with the key.
    for wrapped in [&good, &flipped] {
        let failure = worker.unwrap(bad(wrapped.clone())).unwrap_err();
        assert_eq!(kind(&failure), FailureKind::Untested);
    }
    assert!(worker.set_known_answer(&key, false));
    let not_a_key = oaep_sha1(&key.spki, &[1; 17]);
    for wrapped in [
        flipped,
        vec![0; 384],
        vec![0xff; 384],
        vec![1; 383],
        not_a_key,
    ] {
        let failure = worker.unwrap(bad(wrapped)).unwrap_err();
        assert_eq!(kind(&failure), FailureKind::BadCiphertext, "{failure:?}");
        assert_eq!(worker.unwrap(bad(good.clone())).unwrap(), [1; 32]);
    }
    for wrapped in [vec![], vec![0; 513]] {
        let failure = worker.unwrap(bad(wrapped)).unwrap_err();
        assert_eq!(kind(&failure), FailureKind::BadRequest);
    }
    let failure = worker.unwrap(unwrap_request(&key, Padding::Unspecified, good));
    assert_eq!(kind(&failure.unwrap_err()), FailureKind::BadRequest);
}

#[test]
fn what_the_token_cannot_do_is_not_the_ciphertexts_fault() {
    let token = SoftHsm::new("unsupported");
    let mut worker = Worker::open(&token);
    let key = worker.generate("kek-rsa-3072", 1);
    assert!(worker.set_known_answer(&key, false));
    let wrapped = oaep_sha1(&key.spki, &[1; 32]);
    // SoftHSM 2.6.1 has no OAEP with SHA-256, and this key may not do PKCS#1 v1.5.
    worker.call(Op::Probe(Probe {})).unwrap();
    let request = unwrap_request(&key, Padding::OaepSha256, wrapped.clone());
    let failure = worker.unwrap(request).unwrap_err();
    assert_eq!(kind(&failure), FailureKind::Unsupported, "{failure:?}");
    let secret = worker.generate("implicit-rejection", 2);
    let mut request = unwrap_request(&key, Padding::Pkcs1V15, wrapped);
    request.implicit_rejection_key = Some(secret.key_ref);
    let failure = worker.unwrap(request).unwrap_err();
    assert_eq!(kind(&failure), FailureKind::Untested, "{failure:?}");
    let failure = worker.set_pkcs1_known_answer(&key).unwrap_err();
    assert_eq!(kind(&failure), FailureKind::Unsupported, "{failure:?}");
}

#[test]
fn a_known_answer_that_is_another_does_not_pass() {
    let token = SoftHsm::new("known");
    let mut worker = Worker::open(&token);
    let mut key = worker.generate("kek-rsa-3072", 1);
    let other = worker.generate("kek-rsa-3072", 2);
    key.spki = other.spki;
    assert!(!worker.set_known_answer(&key, false));
    let recipient = worker.generate("kek-rsa-3072-recipient", 3);
    assert!(worker.set_known_answer(&recipient, true));
}

#[test]
fn a_wrong_pkcs1_ciphertext_yields_a_dek_of_its_own() {
    let token = SoftHsm::new("pkcs1");
    let mut worker = Worker::open(&token);
    let key = worker.generate("kek-rsa-3072-pkcs1", 1);
    let secret = worker.generate("implicit-rejection", 2);
    let request = |wrapped| {
        let mut request = unwrap_request(&key, Padding::Pkcs1V15, wrapped);
        request.implicit_rejection_key = Some(secret.key_ref.clone());
        request
    };
    let good = pkcs1(&key.spki, &[5; 32]);
    // Neither is answered before the token can prove itself, with this very padding.
    assert!(worker.set_known_answer(&key, false));
    for wrapped in [good.clone(), vec![0; 384]] {
        let failure = worker.unwrap(request(wrapped)).unwrap_err();
        assert_eq!(kind(&failure), FailureKind::Untested);
    }
    assert!(worker.set_pkcs1_known_answer(&key).unwrap());
    assert_eq!(worker.unwrap(request(good.clone())).unwrap(), [5; 32]);

    let mut flipped = good;
    flipped[100] ^= 1;
    let oaep = oaep_sha1(&key.spki, &[5; 32]);
    let wrong = [
        flipped,
        vec![0; 384],
        vec![0xff; 384],
        vec![1; 383],
        oaep,
        pkcs1(&key.spki, &[5; 31]),
        pkcs1(&key.spki, &[5; 33]),
        pkcs1(&key.spki, &[]),
    ];
    let mut seen = HashSet::from([vec![5; 32], vec![0; 32]]);
    for wrapped in &wrong {
        let first = worker.unwrap(request(wrapped.clone())).unwrap();
        let again = worker.unwrap(request(wrapped.clone())).unwrap();
        assert_eq!(first, again);
        assert_eq!(first.len(), 32);
        assert!(seen.insert(first), "two ciphertexts yield one DEK");
    }
    // And after a restart.
    let mut worker = Worker::open(&token);
    assert!(worker.set_pkcs1_known_answer(&key).unwrap());
    let after = worker.unwrap(request(wrong[0].clone())).unwrap();
    assert!(!seen.insert(after));
}

#[test]
fn a_flood_of_bad_ciphertexts_leaves_everybody_else_alone() {
    let token = SoftHsm::new("flood");
    let mut worker = Worker::open(&token);
    let key = worker.generate("kek-rsa-3072", 1);
    assert!(worker.set_known_answer(&key, false));
    let send = |worker: &mut Worker, key: &Key, n: u8| {
        let good = oaep_sha1(&key.spki, &[n; 32]);
        let junk = unwrap_request(key, Padding::OaepSha1, vec![n; 384]);
        let good = unwrap_request(key, Padding::OaepSha1, good);
        (worker.send(Op::Unwrap(junk)), worker.send(Op::Unwrap(good)))
    };
    let ids: Vec<_> = (0..100).map(|n| (n, send(&mut worker, &key, n))).collect();
    assert!(matches!(
        worker.call(Op::Ping(Ping {})),
        Ok(Answer::Pong(_))
    ));
    let mut failures = HashSet::new();
    for (n, (junk, good)) in ids {
        let failure = worker.receive(junk).unwrap_err();
        assert_eq!(kind(&failure), FailureKind::BadCiphertext);
        failures.insert(failure.detail);
        match worker.receive(good).unwrap() {
            Answer::Unwrapped(unwrapped) => assert_eq!(unwrapped.dek, [n; 32]),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(failures.len(), 1);
}

/// One damaged key is told from a token that does not do its work, for as long as others pass; the
/// module `fault` stands for the damage.
#[test]
fn a_key_that_fails_alone_does_not_cost_the_link() {
    let token = SoftHsm::new("unwell");
    let mut worker = Worker::open_faulty(&token, "");
    let [key, other] = [1, 2].map(|number| worker.generate("kek-rsa-3072", number));
    let spoil = |rules: &str| script(token.path(), rules);
    assert!(worker.set_known_answer(&key, false));
    let good = unwrap_request(&key, Padding::OaepSha1, oaep_sha1(&key.spki, &[1; 32]));
    // The attempt and the test fail: with nobody to compare with it is the token.
    spoil("C_Decrypt * CKR_DEVICE_ERROR\n");
    let failure = worker.unwrap(good.clone()).unwrap_err();
    assert_eq!(kind(&failure), FailureKind::LinkLost, "{failure:?}");
    spoil("");
    assert!(worker.set_known_answer(&other, false));
    // The attempt, the test, and the test once more; between those, the other key's passes.
    let one_key = ["1", "2", "4"].map(|n| format!("C_Decrypt {n} CKR_DEVICE_ERROR\n"));
    spoil(&one_key.concat());
    let failure = worker.unwrap(good.clone()).unwrap_err();
    assert_eq!(kind(&failure), FailureKind::KeyUnwell, "{failure:?}");
    // It is not used again before its test passes.
    let failure = worker.unwrap(good.clone()).unwrap_err();
    assert_eq!(kind(&failure), FailureKind::Untested, "{failure:?}");
    assert!(worker.set_known_answer(&key, false));
    assert_eq!(worker.unwrap(good.clone()).unwrap(), [1; 32]);
    // Neither passes, or the same one passes and fails: the token.
    for fails in [&["1", "2", "3"][..], &["1", "2"]] {
        let rules: Vec<_> = fails
            .iter()
            .map(|n| format!("C_Decrypt {n} 0x30\n"))
            .collect();
        spoil(&rules.concat());
        let failure = worker.unwrap(good.clone()).unwrap_err();
        assert_eq!(kind(&failure), FailureKind::LinkLost, "{failure:?}");
    }
}

/// Two calls at once under a key that is damaged meanwhile: one is told so, and the other finds that its
/// test must pass again; the worker stays.
#[test]
fn a_key_that_fails_two_calls_at_once_does_not_cost_the_link() {
    let token = SoftHsm::new("unwell-twice");
    let mut worker = Worker::open_faulty(&token, "");
    let [key, other] = [1, 2].map(|number| worker.generate("kek-rsa-3072-pkcs1", number));
    let secret = worker.generate("implicit-rejection", 3);
    for key in [&key, &other] {
        assert!(worker.set_pkcs1_known_answer(key).unwrap());
    }
    let mut call = unwrap_request(&key, Padding::Pkcs1V15, pkcs1(&key.spki, &[1; 32]));
    call.implicit_rejection_key = Some(secret.key_ref);

    // The first waits in its attempt. The second's is done; its test fails, the other key's passes, and
    // its own does not again.
    let before = count(token.path(), "C_Decrypt");
    let fails = ["3", "5"].map(|n| format!("C_Decrypt {n} CKR_DEVICE_ERROR\n"));
    script(
        token.path(),
        &format!("C_Decrypt 1 hold\n{}", fails.concat()),
    );
    let first = worker.send(Op::Unwrap(call.clone()));
    let is_held = || count(token.path(), "C_Decrypt") > before;
    for _ in 0..6_000 {
        if is_held() {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    assert!(is_held(), "the first call never came to the token");
    let failure = worker.unwrap(call.clone()).unwrap_err();
    assert_eq!(kind(&failure), FailureKind::KeyUnwell, "{failure:?}");
    script(token.path(), "");
    let failure = worker.receive(first).unwrap_err();
    assert_eq!(kind(&failure), FailureKind::Untested, "{failure:?}");

    assert!(worker.set_pkcs1_known_answer(&key).unwrap());
    assert_eq!(worker.unwrap(call).unwrap(), [1; 32]);
}
