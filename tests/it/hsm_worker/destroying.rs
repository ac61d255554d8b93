//! The end of a key pair: both halves gone, also when it is asked twice or by the next worker, and
//! nothing else touched.

use kekd::proto::worker::{
    Destroy, Failure, FailureKind, Inventory, KeyRef, Padding, request::Op,
    response::Result as Answer,
};

use super::harness::{Worker, kind, oaep_sha1, unwrap_request};
use crate::softhsm::SoftHsm;

fn destroy(worker: &mut Worker, key: &KeyRef) -> Result<(), Failure> {
    let key = Some(key.clone());
    match worker.call(Op::Destroy(Destroy { key }))? {
        Answer::Destroyed(_) => Ok(()),
        other => panic!("{other:?}"),
    }
}

/// Class and first byte of the `CKA_ID` of each object.
fn objects(worker: &mut Worker) -> Vec<(String, u8)> {
    match worker.call(Op::Inventory(Inventory {})).unwrap() {
        Answer::Objects(found) => {
            let found = found.objects.into_iter();
            found.map(|o| (o.class, o.object_id[0])).collect()
        }
        other => panic!("{other:?}"),
    }
}

fn pair(number: u8) -> [(String, u8); 2] {
    ["private-key", "public-key"].map(|class| (class.to_owned(), number))
}

#[test]
fn a_destroyed_key_is_gone_and_the_others_are_not() {
    let token = SoftHsm::new("destroy");
    let mut worker = Worker::open(&token);
    let key = worker.generate("kek-rsa-3072", 1);
    let other = worker.generate("kek-rsa-3072", 2);
    for key in [&key, &other] {
        assert!(worker.set_known_answer(key, false));
        // Each of the two sessions has seen the key, and holds a handle on it.
        let request = unwrap_request(key, Padding::OaepSha1, oaep_sha1(&key.spki, &[1; 32]));
        let ids = [(); 8].map(|()| worker.send(Op::Unwrap(request.clone())));
        for id in ids {
            worker.receive(id).unwrap();
        }
    }
    // Twice is as once.
    for _ in 0..2 {
        destroy(&mut worker, &key.key_ref).unwrap();
        assert_eq!(objects(&mut worker), pair(2));
    }
    // Good and bad ciphertexts alike: there is no key, and no test that wants it.
    for wrapped in [oaep_sha1(&key.spki, &[1; 32]), vec![3; 384]] {
        let request = unwrap_request(&key, Padding::OaepSha1, wrapped);
        for id in [(); 8].map(|()| worker.send(Op::Unwrap(request.clone()))) {
            let failure = worker.receive(id).unwrap_err();
            assert_eq!(kind(&failure), FailureKind::KeyMissing, "{failure:?}");
        }
    }
    let junk = unwrap_request(&other, Padding::OaepSha1, vec![3; 384]);
    let failure = worker.unwrap(junk).unwrap_err();
    assert_eq!(kind(&failure), FailureKind::BadCiphertext, "{failure:?}");
    // The id and the label are free again.
    worker.generate("kek-rsa-3072", 1);
}

#[test]
fn the_next_worker_ends_what_one_began() {
    let token = SoftHsm::new("destroy again");
    let mut worker = Worker::open_faulty(&token, "C_DestroyObject 2 segv\n");
    let key = worker.generate("kek-rsa-3072", 1).key_ref;
    worker.send(Op::Destroy(Destroy {
        key: Some(key.clone()),
    }));
    assert!(!worker.wait().success());
    // The private half went first.
    let mut worker = Worker::open(&token);
    assert_eq!(objects(&mut worker), pair(1)[1..]);
    destroy(&mut worker, &key).unwrap();
    assert!(objects(&mut worker).is_empty());
    drop(worker);
    destroy(&mut Worker::open(&token), &key).unwrap();
}

#[test]
fn a_token_that_only_says_that_it_destroys_is_not_believed() {
    let token = SoftHsm::new("destroy lie");
    let mut worker = Worker::open_faulty(&token, "C_DestroyObject * CKR_OK\n");
    let key = worker.generate("kek-rsa-3072", 1).key_ref;
    let failure = destroy(&mut worker, &key).unwrap_err();
    assert_eq!(kind(&failure), FailureKind::RefusedByToken);
    let still = "still shows its private half";
    assert!(failure.detail.contains(still), "{}", failure.detail);
    assert_eq!(objects(&mut worker), pair(1));
}

#[test]
fn only_the_key_that_was_named_is_destroyed() {
    let token = SoftHsm::new("destroy named");
    let mut worker = Worker::open(&token);
    let key = worker.generate("kek-rsa-3072", 1).key_ref;
    let with = |object_id: Vec<u8>, spki_sha256: Vec<u8>| KeyRef {
        object_id,
        spki_sha256,
    };
    let id = key.object_id.clone();
    for (named, expected) in [
        (with(id.clone(), vec![9; 32]), FailureKind::KeyMismatch),
        (with(id.clone(), vec![]), FailureKind::BadRequest),
        (with(vec![1; 15], vec![9; 32]), FailureKind::BadRequest),
    ] {
        let failure = destroy(&mut worker, &named).unwrap_err();
        assert_eq!(kind(&failure), expected, "{failure:?}");
        assert_eq!(objects(&mut worker), pair(1));
    }
    // A private key with this id was planted beside it: which one is meant, a person must say.
    token.pkcs11_tool(&[
        "--keypairgen",
        "--key-type",
        "EC:prime256v1",
        "--id",
        &"01".repeat(16),
        "--label",
        "another",
    ]);
    let failure = destroy(&mut worker, &key).unwrap_err();
    assert_eq!(kind(&failure), FailureKind::KeyAmbiguous, "{failure:?}");
    assert_eq!(objects(&mut worker).len(), 4);
}

#[test]
fn a_key_the_token_may_not_destroy_stays_whole() {
    let token = SoftHsm::new("destroy not");
    let mut worker = Worker::open(&token);
    let text = kekd::hsm::Profile::builtin("kek-rsa-3072").unwrap();
    let destroyable = "attribute = \"CKA_DESTROYABLE\"\nvalue = true";
    assert!(text.contains(destroyable));
    let fixed = text.replace(destroyable, &destroyable.replace("true", "false"));
    let key = worker.generate_to(fixed.into_bytes(), 1).unwrap();
    assert!(worker.set_known_answer(&key, false));
    let failure = destroy(&mut worker, &key.key_ref).unwrap_err();
    assert_eq!(kind(&failure), FailureKind::RefusedByToken);
    assert_eq!(failure.return_value, "CKR_ACTION_PROHIBITED");
    assert_eq!(objects(&mut worker), pair(1));
    // It is still settled whose fault a bad ciphertext is.
    let junk = unwrap_request(&key, Padding::OaepSha1, vec![3; 384]);
    let failure = worker.unwrap(junk).unwrap_err();
    assert_eq!(kind(&failure), FailureKind::BadCiphertext);
}
