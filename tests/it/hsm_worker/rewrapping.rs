//! Handing a DEK to a recipient without anybody seeing it.

use aws_lc_rs::encoding::{AsDer, PublicKeyX509Der};
use aws_lc_rs::rsa::{KeySize, OAEP_SHA1_MGF1SHA1, OaepPrivateDecryptingKey, PrivateDecryptingKey};
use kekd::proto::worker::{
    Failure, FailureKind, Padding, Probe, Rewrap, request::Op, response::Result as Answer,
};

use super::harness::{Key, Worker, kind, oaep_sha1, pkcs1, unwrap_request};
use crate::softhsm::SoftHsm;

struct Recipient(PrivateDecryptingKey);

impl Recipient {
    fn new(size: KeySize) -> Self {
        Self(PrivateDecryptingKey::generate(size).unwrap())
    }

    fn spki(&self) -> Vec<u8> {
        let der: PublicKeyX509Der<'_> = self.0.public_key().as_der().unwrap();
        der.as_ref().to_vec()
    }

    fn open(&self, wrapped: &[u8]) -> Vec<u8> {
        let key = OaepPrivateDecryptingKey::new(self.0.clone()).unwrap();
        let mut plaintext = vec![0; key.min_output_size()];
        key.decrypt(&OAEP_SHA1_MGF1SHA1, wrapped, &mut plaintext, None)
            .unwrap()
            .to_vec()
    }
}

fn rewrap(worker: &mut Worker, request: &Rewrap) -> Result<Vec<u8>, Failure> {
    match worker.call(Op::Rewrap(request.clone()))? {
        Answer::Rewrapped(rewrapped) => Ok(rewrapped.rewrapped_dek),
        other => panic!("{other:?}"),
    }
}

fn request(key: &Key, wrapped_dek: Vec<u8>, recipient_spki: Vec<u8>) -> Rewrap {
    Rewrap {
        key: Some(key.key_ref.clone()),
        padding: Padding::OaepSha1.into(),
        wrapped_dek,
        recipient_spki,
        recipient_padding: Padding::OaepSha1.into(),
    }
}

#[test]
fn a_recipient_gets_the_dek_and_nobody_else() {
    let token = SoftHsm::new("rewrap");
    let mut worker = Worker::open(&token);
    for (number, profile) in [(1, "kek-rsa-3072-recipient"), (2, "kek-rsa-3072-both")] {
        let key = worker.generate(profile, number);
        assert!(worker.set_known_answer(&key, profile == "kek-rsa-3072-recipient"));
        for size in [KeySize::Rsa2048, KeySize::Rsa4096] {
            let recipient = Recipient::new(size);
            let wrapped = oaep_sha1(&key.spki, &[number; 32]);
            let request = request(&key, wrapped, recipient.spki());
            let rewrapped = rewrap(&mut worker, &request).unwrap();
            assert_eq!(recipient.open(&rewrapped), [number; 32]);
        }
        let wrapped = oaep_sha1(&key.spki, &[number; 32]);
        let clear = worker.unwrap(unwrap_request(&key, Padding::OaepSha1, wrapped));
        match profile {
            "kek-rsa-3072-both" => assert_eq!(clear.unwrap(), [number; 32]),
            _ => assert_eq!(kind(&clear.unwrap_err()), FailureKind::Unsupported),
        }
    }
    assert!(worker.close().success());
}

#[test]
fn what_is_no_32_byte_key_is_refused_before_it_is_wrapped() {
    let token = SoftHsm::new("rewrap-bad");
    let mut worker = Worker::open(&token);
    let key = worker.generate("kek-rsa-3072-recipient", 1);
    assert!(worker.set_known_answer(&key, true));
    let recipient = Recipient::new(KeySize::Rsa2048).spki();
    for plaintext in [&[1; 17][..], &[1; 16], &[1; 31], &[1; 33], &[1; 64], &[]] {
        let wrapped = oaep_sha1(&key.spki, plaintext);
        let failure = rewrap(&mut worker, &request(&key, wrapped, recipient.clone()));
        let failure = failure.unwrap_err();
        assert_eq!(kind(&failure), FailureKind::BadCiphertext, "{failure:?}");
    }
    for wrapped in [vec![0; 384], vec![0xff; 384], pkcs1(&key.spki, &[1; 32])] {
        let failure = rewrap(&mut worker, &request(&key, wrapped, recipient.clone()));
        let failure = failure.unwrap_err();
        assert_eq!(kind(&failure), FailureKind::BadCiphertext, "{failure:?}");
    }
}

#[test]
fn a_recipients_fault_is_not_the_ciphertexts() {
    let token = SoftHsm::new("rewrap-recipient");
    let mut worker = Worker::open(&token);
    let key = worker.generate("kek-rsa-3072-both", 1);
    let signing = worker.generate("log-signing", 2);
    assert!(worker.set_known_answer(&key, false));
    let wrapped = oaep_sha1(&key.spki, &[1; 32]);
    let recipient = Recipient::new(KeySize::Rsa2048).spki();
    for spki in [vec![], vec![0x30; 2000], b"no key".to_vec(), signing.spki] {
        let failure = rewrap(&mut worker, &request(&key, wrapped.clone(), spki));
        assert_eq!(kind(&failure.unwrap_err()), FailureKind::BadRequest);
    }
    let good = request(&key, wrapped, recipient);
    let (old, sha256) = (Padding::Pkcs1V15.into(), Padding::OaepSha256.into());
    for (padding, recipient_padding) in [(old, good.padding), (good.padding, old)] {
        let refused = Rewrap {
            padding,
            recipient_padding,
            ..good.clone()
        };
        let failure = rewrap(&mut worker, &refused).unwrap_err();
        assert_eq!(kind(&failure), FailureKind::BadRequest);
    }
    let sha256_for_recipient = Rewrap {
        recipient_padding: sha256,
        ..good.clone()
    };
    let failure = rewrap(&mut worker, &sha256_for_recipient).unwrap_err();
    assert_eq!(kind(&failure), FailureKind::Unsupported, "{failure:?}");
    // C_UnwrapKey is given parameters and ciphertext at once: the probe tells them apart.
    worker.call(Op::Probe(Probe {})).unwrap();
    let sha256_from_sender = Rewrap {
        padding: sha256,
        ..good.clone()
    };
    let failure = rewrap(&mut worker, &sha256_from_sender).unwrap_err();
    assert_eq!(kind(&failure), FailureKind::Unsupported, "{failure:?}");
    rewrap(&mut worker, &good).unwrap();
}
