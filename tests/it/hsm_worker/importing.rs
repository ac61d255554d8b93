//! Keys that were made outside and come in wrapped: what is approved works and is caged, and of
//! anything else nothing stays.

mod outside;

use kekd::hsm::{Profile, TRANSPORT_PROFILE};
use kekd::proto::worker::{
    Destroy, Failure, FailureKind, Import, Inventory, KeyRef, MakeTransport, Padding, Unwrap,
    request::Op, response::Result as Answer,
};
use kekd::types::Sha256;

use self::outside::{Outside, kwp, request};
use super::harness::{Key, Worker, kind, oaep_sha1, unwrap_request};
use crate::softhsm::SoftHsm;

const TRANSPORT_ID: [u8; 16] = [0x77; 16];

fn make_transport(worker: &mut Worker) -> Result<Vec<u8>, Failure> {
    let request = MakeTransport {
        object_id: TRANSPORT_ID.to_vec(),
        label: "kekd transport".to_owned(),
        profile: Profile::builtin(TRANSPORT_PROFILE).unwrap().into(),
    };
    match worker.call(Op::MakeTransport(request))? {
        Answer::Generated(generated) => Ok(generated.spki),
        other => panic!("{other:?}"),
    }
}

fn import(worker: &mut Worker, request: &Import) -> Result<Key, Failure> {
    match worker.call(Op::Import(request.clone()))? {
        Answer::Imported(imported) => Ok(Key {
            key_ref: request.key.clone().unwrap(),
            label: request.label.clone(),
            profile: request.profile.clone(),
            spki: imported.spki,
        }),
        other => panic!("{other:?}"),
    }
}

/// Class and label of each object.
fn objects(worker: &mut Worker) -> Vec<(String, String)> {
    match worker.call(Op::Inventory(Inventory {})).unwrap() {
        Answer::Objects(found) => {
            let found = found.objects.into_iter();
            found.map(|o| (o.class, o.label)).collect()
        }
        other => panic!("{other:?}"),
    }
}

fn pair(label: &str) -> [(String, String); 2] {
    ["private-key", "public-key"].map(|class| (class.to_owned(), label.to_owned()))
}

#[test]
fn an_imported_key_works_and_is_caged() {
    let token = SoftHsm::new("import");
    let mut worker = Worker::open(&token);
    let secret = worker.generate("implicit-rejection", 9);
    for bits in [2048, 3072, 4096] {
        let transport = make_transport(&mut worker).unwrap();
        // Asked again, it is the same key.
        assert_eq!(make_transport(&mut worker).unwrap(), transport);
        let outside = Outside::rsa(bits);
        let profile = format!("kek-rsa-{bits}-imported");
        let request = request(&transport, &outside, &profile);
        let key = import(&mut worker, &request).unwrap();
        assert_eq!(key.spki, outside.spki);
        // And so is the import, by the next worker, too.
        import(&mut worker, &request).unwrap();
        worker = Worker::open(&token);
        import(&mut worker, &request).unwrap();

        assert_eq!(worker.read_back(&key), [], "{bits}");
        let report = worker.attack(&key);
        assert_eq!(report.succeeded, [""; 0], "{bits}");
        assert!(report.tried > 25, "{bits}: {}", report.tried);
        assert_eq!(worker.read_back(&key), [], "{bits}");

        assert!(worker.set_known_answer(&key, false));
        assert!(worker.set_pkcs1_known_answer(&key).unwrap());
        let wrapped = outside.encrypt("oaep", &[3; 32]);
        let dek = worker.unwrap(unwrap_request(&key, Padding::OaepSha1, wrapped));
        assert_eq!(dek.unwrap(), [3; 32]);
        let wrapped = outside.encrypt("pkcs1", &[4; 32]);
        let dek = worker.unwrap(Unwrap {
            implicit_rejection_key: Some(secret.key_ref.clone()),
            ..unwrap_request(&key, Padding::Pkcs1V15, wrapped)
        });
        assert_eq!(dek.unwrap(), [4; 32]);
        let junk = unwrap_request(&key, Padding::OaepSha1, vec![1; 256]);
        let failure = worker.unwrap(junk).unwrap_err();
        assert_eq!(kind(&failure), FailureKind::BadCiphertext);

        for (object_id, spki) in [(TRANSPORT_ID, &transport), ([1; 16], &key.spki)] {
            let key = KeyRef {
                object_id: object_id.to_vec(),
                spki_sha256: Sha256::of(spki).as_bytes().to_vec(),
            };
            let key = Some(key);
            worker.call(Op::Destroy(Destroy { key })).unwrap();
        }
        assert_eq!(objects(&mut worker).len(), 1);
    }
    assert!(worker.close().success());
}

#[test]
fn the_token_says_that_an_imported_key_was_not_made_in_it() {
    let token = SoftHsm::new("import origin");
    let mut worker = Worker::open(&token);
    let transport = make_transport(&mut worker).unwrap();
    let outside = Outside::rsa(3072);
    let request = request(&transport, &outside, "kek-rsa-3072-imported");
    let mut key = import(&mut worker, &request).unwrap();
    key.profile = Profile::builtin("kek-rsa-3072-pkcs1").unwrap().into();
    let found = worker.read_back(&key);
    let found: Vec<_> = found
        .iter()
        .map(|m| (m.attribute.as_str(), m.found.as_str()))
        .collect();
    let expected = [
        ("CKA_ALWAYS_SENSITIVE (private)", "false"),
        ("CKA_NEVER_EXTRACTABLE (private)", "false"),
        ("CKA_LOCAL (private)", "false"),
        ("CKA_KEY_GEN_MECHANISM (private)", "not shown by the token"),
    ];
    assert_eq!(found, expected);
    // Nor is one generated to the profile of an imported key, or the other way round.
    let imported = Profile::builtin("kek-rsa-3072-imported").unwrap();
    let failure = worker.generate_to(imported.into(), 2).err().unwrap();
    assert_eq!(kind(&failure), FailureKind::BadRequest);
    let other = Import {
        profile: key.profile,
        ..request
    };
    let failure = import(&mut worker, &other).err().unwrap();
    assert_eq!(kind(&failure), FailureKind::BadRequest);
}

#[test]
fn of_what_was_not_approved_nothing_stays() {
    let token = SoftHsm::new("import refused");
    let mut worker = Worker::open(&token);
    let transport = make_transport(&mut worker).unwrap();
    let before = objects(&mut worker);
    assert_eq!(before, pair("kekd transport"));
    let outside = Outside::rsa(2048);
    let good = request(&transport, &outside, "kek-rsa-2048-imported");
    let key = good.key.clone().unwrap();
    let aes_key = [0x42; 32];
    let ec = Outside::new(&["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"]);
    let other = request(&transport, &Outside::rsa(2048), "kek-rsa-2048-imported");
    let mut flipped = good.wrapped_private_key.clone();
    flipped[100] ^= 1;
    let refused = FailureKind::RefusedByToken;
    let aes = |wrapped_aes_key| Import {
        wrapped_aes_key,
        ..good.clone()
    };
    let private = |wrapped_private_key| Import {
        wrapped_private_key,
        ..good.clone()
    };
    let of_profile = |name| Import {
        profile: Profile::builtin(name).unwrap().into(),
        ..good.clone()
    };
    let of_key = |key| Import {
        key: Some(key),
        ..good.clone()
    };
    for (what, request, expected) in [
        (
            "another key than approved",
            of_key(other.key.clone().unwrap()),
            FailureKind::KeyMismatch,
        ),
        ("a flipped bit", private(flipped), refused),
        ("junk", private(vec![7; 1232]), refused),
        ("junk of no block", private(vec![7; 1231]), refused),
        ("no key", private(kwp(&aes_key, b"no key at all")), refused),
        ("zeros", private(kwp(&aes_key, &[0; 1200])), refused),
        (
            "a PKCS#1 key",
            private(kwp(&aes_key, &outside.traditional)),
            refused,
        ),
        ("an EC key", private(kwp(&aes_key, &ec.pkcs8)), refused),
        (
            "a public key",
            private(kwp(&aes_key, &outside.spki)),
            refused,
        ),
        (
            "a key cut short",
            private(kwp(&aes_key, &outside.pkcs8[..1000])),
            refused,
        ),
        (
            "another AES key",
            aes(oaep_sha1(&transport, &[0; 32])),
            refused,
        ),
        (
            "a short AES key",
            aes(oaep_sha1(&transport, &[0x42; 17])),
            refused,
        ),
        ("no AES key", aes(vec![7; 384]), refused),
        ("no length", aes(vec![7; 383]), refused),
        ("another size", of_profile("kek-rsa-3072-imported"), refused),
        ("nothing", private(vec![]), FailureKind::BadRequest),
        ("too much", private(vec![7; 4097]), FailureKind::BadRequest),
        ("too long", aes(vec![7; 513]), FailureKind::BadRequest),
        (
            "no transport key",
            Import {
                transport_object_id: vec![5; 16],
                ..good.clone()
            },
            FailureKind::KeyMissing,
        ),
        (
            "a taken label",
            Import {
                label: "kekd transport".to_owned(),
                ..good.clone()
            },
            FailureKind::KeyAmbiguous,
        ),
        (
            "no digest",
            of_key(KeyRef {
                spki_sha256: vec![],
                ..key.clone()
            }),
            FailureKind::BadRequest,
        ),
    ] {
        let failure = import(&mut worker, &request).err().unwrap();
        assert_eq!(kind(&failure), expected, "{what}: {failure:?}");
        assert_eq!(objects(&mut worker), before, "{what}");
    }
    // The transport key is good for another try.
    import(&mut worker, &good).unwrap();
    assert_eq!(objects(&mut worker).len(), 4);
    // What is there already is not replaced, nor destroyed, by a request for another key.
    let failure = import(&mut worker, &other).err().unwrap();
    assert_eq!(kind(&failure), FailureKind::KeyMismatch);
    assert_eq!(objects(&mut worker).len(), 4);
}

#[test]
fn an_import_that_was_cut_short_is_completed() {
    let token = SoftHsm::new("import again");
    let outside = Outside::rsa(2048);
    let mut worker = Worker::open(&token);
    let transport = make_transport(&mut worker).unwrap();
    let request = outside.wrapped_by_hand(&transport);
    drop(worker);
    // Of the AES key, of the private key for a look, of the private key for good; its public half.
    for (rules, stays) in [
        ("C_UnwrapKey 1 segv\n", 2),
        ("C_UnwrapKey 2 segv\n", 2),
        ("C_UnwrapKey 3 segv\n", 2),
        ("C_CreateObject 1 segv\n", 3),
    ] {
        let mut worker = Worker::open_faulty(&token, rules);
        worker.send(Op::Import(request.clone()));
        assert!(!worker.wait().success(), "{rules}");
        let mut worker = Worker::open(&token);
        assert_eq!(objects(&mut worker).len(), stays, "{rules}");
    }
    let mut worker = Worker::open(&token);
    let key = import(&mut worker, &request).unwrap();
    assert_eq!(key.spki, outside.spki);
    assert_eq!(worker.read_back(&key), []);
}

#[test]
fn what_a_token_brought_in_and_denied_or_did_not_keep_is_destroyed() {
    let token = SoftHsm::new("import lie");
    let outside = Outside::rsa(2048);
    let mut worker = Worker::open(&token);
    let transport = make_transport(&mut worker).unwrap();
    let request = request(&transport, &outside, "kek-rsa-2048-imported");
    drop(worker);
    for rules in [
        "C_UnwrapKey 3 lie CKR_DEVICE_ERROR\n",
        "C_CreateObject 1 lie CKR_DEVICE_ERROR\n",
        "C_GetAttributeValue * lie-attribute CKA_EXTRACTABLE 01\n",
    ] {
        let mut worker = Worker::open_faulty(&token, rules);
        assert!(import(&mut worker, &request).is_err(), "{rules}");
        let mut worker = Worker::open(&token);
        assert_eq!(objects(&mut worker), pair("kekd transport"), "{rules}");
    }
    // A token that cannot unwrap so, or cannot promise an attribute, is told from a bad key.
    for (rules, expected) in [
        (
            "C_UnwrapKey 2 CKR_MECHANISM_INVALID\n",
            FailureKind::Unsupported,
        ),
        (
            "C_UnwrapKey 2 CKR_TEMPLATE_INCONSISTENT\n",
            FailureKind::RefusedByToken,
        ),
    ] {
        let mut worker = Worker::open_faulty(&token, rules);
        let failure = import(&mut worker, &request).err().unwrap();
        assert_eq!(kind(&failure), expected, "{failure:?}");
    }
}

#[test]
fn a_transport_key_that_was_planted_is_not_used() {
    let token = SoftHsm::new("import planted");
    token.pkcs11_tool(&[
        "--keypairgen",
        "--key-type",
        "rsa:3072",
        "--id",
        &"77".repeat(16),
        "--label",
        "kekd transport",
    ]);
    let mut worker = Worker::open(&token);
    let failure = make_transport(&mut worker).unwrap_err();
    assert_eq!(kind(&failure), FailureKind::RefusedByToken, "{failure:?}");
}
