//! Data objects, the inventory, the probe, and sessions that are taken away.

use std::fs;

use kekd::proto::worker::{
    Failure, FailureKind, Inventory, Object, Padding, Probe, Probed, ReadData, WriteData,
    request::Op, response::Result as Answer,
};

use super::harness::{Worker, kind, oaep_sha1, unwrap_request};
use crate::softhsm::SoftHsm;

fn write(worker: &mut Worker, label: &str, value: &[u8], replace: bool) -> Result<(), Failure> {
    let request = WriteData {
        label: label.to_owned(),
        value: value.to_vec(),
        replace,
    };
    worker.call(Op::WriteData(request)).map(|_| ())
}

fn read(worker: &mut Worker, label: &str) -> Vec<Vec<u8>> {
    let request = ReadData {
        labels: vec![label.to_owned()],
    };
    match worker.call(Op::ReadData(request)).unwrap() {
        Answer::DataObjects(data) => data.values,
        other => panic!("{other:?}"),
    }
}

fn inventory(worker: &mut Worker) -> Vec<Object> {
    match worker.call(Op::Inventory(Inventory {})).unwrap() {
        Answer::Objects(objects) => objects.objects,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_pin_is_fixed_and_a_head_is_replaced() {
    let token = SoftHsm::new("data");
    let mut worker = Worker::open(&token);
    assert!(read(&mut worker, "kekd genesis").is_empty());
    write(&mut worker, "kekd genesis", b"first", false).unwrap();
    let failure = write(&mut worker, "kekd genesis", b"second", false).unwrap_err();
    assert_eq!(kind(&failure), FailureKind::KeyAmbiguous);
    // Not even the holder of the PIN removes it.
    let failure = write(&mut worker, "kekd genesis", b"second", true).unwrap_err();
    assert_eq!(kind(&failure), FailureKind::RefusedByToken);
    assert_eq!(failure.return_value, "CKR_ACTION_PROHIBITED");
    assert!(read(&mut worker, "kekd genesis").contains(&b"first".to_vec()));

    for value in [&b"1"[..], b"2", b"3"] {
        write(&mut worker, "kekd head", value, true).unwrap();
        assert_eq!(read(&mut worker, "kekd head"), [value]);
    }
    for (label, value) in [("", vec![1]), ("x", vec![]), ("x", vec![0; 16 * 1024 + 1])] {
        let failure = write(&mut worker, label, &value, true).unwrap_err();
        assert_eq!(kind(&failure), FailureKind::BadRequest);
    }
    // They are private: without the PIN they are not seen.
    let mut again = Worker::open(&token);
    assert_eq!(read(&mut again, "kekd head"), [b"3"]);
}

#[test]
fn the_inventory_lists_keys_and_our_data() {
    let token = SoftHsm::new("inventory");
    let mut worker = Worker::open(&token);
    let signing = worker.generate("log-signing", 1);
    let kek = worker.generate("kek-rsa-3072", 2);
    worker.generate("implicit-rejection", 3);
    write(&mut worker, "kekd head", b"1", true).unwrap();
    write(&mut worker, "somebody's", b"1", true).unwrap();
    let mut found: Vec<_> = inventory(&mut worker)
        .into_iter()
        .map(|o| (o.class, o.object_id, o.label, o.spki_sha256))
        .collect();
    found.sort();
    let mut expected = vec![
        ("data", vec![], "kekd head", vec![]),
        ("secret-key", vec![3; 16], "key 3", vec![]),
    ];
    for (id, label, key) in [(1, "key 1", signing), (2, "key 2", kek)] {
        expected.push(("private-key", vec![id; 16], label, key.key_ref.spki_sha256));
        expected.push(("public-key", vec![id; 16], label, vec![]));
    }
    expected.sort();
    let expected: Vec<_> = expected
        .into_iter()
        .map(|(class, id, label, spki)| (class.to_owned(), id, label.to_owned(), spki))
        .collect();
    assert_eq!(found, expected);
}

#[test]
fn the_probe_finds_what_softhsm_does() {
    let token = SoftHsm::new("probe");
    let mut worker = Worker::open(&token);
    let probed = match worker.call(Op::Probe(Probe {})).unwrap() {
        Answer::Probed(probed) => probed,
        other => panic!("{other:?}"),
    };
    assert_eq!(
        probed,
        Probed {
            oaep_sha1: true,
            oaep_sha256: false,
            pkcs1_v1_5: true,
            ecdsa_p256: true,
            hmac_sha256: true,
            oaep_label_honoured: false,
            junk_return_value: "CKR_GENERAL_ERROR".to_owned(),
        }
    );
    assert!(inventory(&mut worker).is_empty());
}

#[test]
fn a_key_that_vanishes_is_missed_and_a_token_that_vanishes_is_lost() {
    let token = SoftHsm::new("vanish");
    let mut worker = Worker::open(&token);
    let key = worker.generate("kek-rsa-3072", 1);
    let other = worker.generate("kek-rsa-3072", 2);
    for key in [&key, &other] {
        assert!(worker.set_known_answer(key, false));
    }
    let wrapped = oaep_sha1(&key.spki, &[1; 32]);
    let request = unwrap_request(&key, Padding::OaepSha1, wrapped);
    assert_eq!(worker.unwrap(request.clone()).unwrap(), [1; 32]);
    // Another process destroys the key: the handle dies, and a new search finds nothing.
    token.pkcs11_tool(&[
        "--delete-object",
        "--type",
        "privkey",
        "--id",
        &"01".repeat(16),
    ]);
    let failure = worker.unwrap(request.clone()).unwrap_err();
    assert_eq!(kind(&failure), FailureKind::KeyMissing, "{failure:?}");

    let other = unwrap_request(&other, Padding::OaepSha1, vec![3; 384]);
    let failure = worker.unwrap(other.clone()).unwrap_err();
    assert_eq!(kind(&failure), FailureKind::BadCiphertext);
    fs::remove_dir_all(token.path().join("tokens")).unwrap();
    let failure = worker.unwrap(other).unwrap_err();
    assert_eq!(kind(&failure), FailureKind::LinkLost, "{failure:?}");
}
