//! Certificates and public keys as OpenSSL judges them. The signing keys are in software here; the
//! token signs the same bytes.

use std::path::{Path, PathBuf};
use std::process::Command;

use aws_lc_rs::encoding::{AsDer as _, Pkcs8V1Der, PublicKeyX509Der};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    self, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _, RsaKeyPair,
};
use der::{Decode as _, Encode as _};
use kekd::certificate::{Body, CertificateError, Unsigned};
use kekd::clock::UnixMs;
use kekd::public_key::RsaPublicKey;
use x509_cert::Certificate;

const NOW: UnixMs = UnixMs(1_795_284_000_999);
const SERIAL: [u8; 16] = [0xff; 16];

struct Keys {
    issuing: EcdsaKeyPair,
    issuing_spki: Vec<u8>,
    kek: RsaKeyPair,
    kek_spki: Vec<u8>,
}

fn keys() -> Keys {
    let issuing = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
    let kek = RsaKeyPair::generate(KeySize::Rsa3072).unwrap();
    let der: PublicKeyX509Der<'_> = issuing.public_key().as_der().unwrap();
    let issuing_spki = der.as_ref().to_vec();
    let der: PublicKeyX509Der<'_> = kek.public_key().as_der().unwrap();
    let kek_spki = der.as_ref().to_vec();
    Keys {
        issuing,
        issuing_spki,
        kek,
        kek_spki,
    }
}

fn body<'a>(subject: &'a str, spki: &'a [u8], valid_days: u32, serial: [u8; 16]) -> Body<'a> {
    Body {
        subject,
        spki,
        not_before: NOW,
        valid_days,
        serial,
    }
}

fn read(certificate: &[u8]) -> Certificate {
    Certificate::from_der(certificate).unwrap()
}

impl Keys {
    fn sign(&self, unsigned: &Unsigned) -> Vec<u8> {
        let signed = self.issuing.sign(&SystemRandom::new(), unsigned.tbs());
        signed.unwrap().as_ref().to_vec()
    }

    fn issuing_certificate(&self) -> Vec<u8> {
        let subject = "CN=kekd issuing,O=Example\\, Inc.,C=DE";
        let unsigned = Unsigned::issuing(&body(subject, &self.issuing_spki, 7300, SERIAL)).unwrap();
        unsigned.assemble(&self.sign(&unsigned)).unwrap()
    }

    fn kek_certificate(&self) -> Vec<u8> {
        let unsigned = self.kek_unsigned(3650).unwrap();
        unsigned.assemble(&self.sign(&unsigned)).unwrap()
    }

    fn kek_unsigned(&self, valid_days: u32) -> Result<Unsigned, CertificateError> {
        let (subject, issuer) = ("CN=recordings 1,O=Example", self.issuing_certificate());
        Unsigned::kek(&body(subject, &self.kek_spki, valid_days, [7; 16]), &issuer)
    }

    fn self_signed_certificate(&self) -> Vec<u8> {
        let unsigned =
            Unsigned::kek_self_signed(&body("CN=recordings 1", &self.kek_spki, 3650, SERIAL))
                .unwrap();
        let wrong = unsigned.assemble(&vec![1; self.kek.public_modulus_len()]);
        assert!(matches!(wrong, Err(CertificateError::SignatureWrong)));
        let mut signature = vec![0; self.kek.public_modulus_len()];
        let random = SystemRandom::new();
        self.kek
            .sign(
                &signature::RSA_PKCS1_SHA256,
                &random,
                unsigned.tbs(),
                &mut signature,
            )
            .unwrap();
        unsigned.assemble(&signature).unwrap()
    }
}

fn pem(dir: &Path, name: &str, label: &str, bytes: &[u8]) -> PathBuf {
    let path = dir.join(name);
    let text = der::pem::encode_string(label, der::pem::LineEnding::LF, bytes).unwrap();
    std::fs::write(&path, text).unwrap();
    path
}

/// What `openssl` says, on success. A machine without it fails these tests, as it should.
fn openssl(dir: &Path, arguments: &str) -> String {
    let output = Command::new("openssl")
        .args(arguments.split_whitespace())
        .current_dir(dir)
        .output()
        .unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "openssl {arguments}: {error}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn openssl_verifies_the_chain_and_reads_the_extensions() {
    let (dir, keys) = (tempfile::tempdir().unwrap(), keys());
    pem(
        dir.path(),
        "ca.pem",
        "CERTIFICATE",
        &keys.issuing_certificate(),
    );
    pem(
        dir.path(),
        "kek.pem",
        "CERTIFICATE",
        &keys.kek_certificate(),
    );
    let at = NOW.0 / 1000 + 60;
    let verify = format!("verify -x509_strict -attime {at} -CAfile ca.pem");
    assert!(openssl(dir.path(), &format!("{verify} kek.pem")).contains("kek.pem: OK"));
    assert!(openssl(dir.path(), &format!("{verify} -check_ss_sig ca.pem")).contains("ca.pem: OK"));

    let ca = openssl(dir.path(), "x509 -in ca.pem -noout -text");
    for expected in [
        "Version: 3 (0x2)",
        "C = DE, O = \"Example, Inc.\", CN = kekd issuing",
        "CA:TRUE, pathlen:0",
        "Certificate Sign, CRL Sign",
        "ecdsa-with-SHA256",
        "Not Before: Nov 21 18:00:00 2026 GMT",
        "ff:ff:ff:ff:ff:ff:ff:ff:ff:ff:ff:ff:ff:ff:ff:ff",
    ] {
        assert!(ca.contains(expected), "{expected} in {ca}");
    }
    let kek = openssl(dir.path(), "x509 -in kek.pem -noout -text");
    for expected in [
        "X509v3 Key Usage: critical\n                Key Encipherment\n",
        "CA:FALSE",
        "Subject Key Identifier",
        "Authority Key Identifier",
        "Issuer: C = DE, O = \"Example, Inc.\", CN = kekd issuing",
        "Public-Key: (3072 bit)",
        "Signature Algorithm: ecdsa-with-SHA256",
    ] {
        assert!(kek.contains(expected), "{expected} in {kek}");
    }
}

#[test]
fn openssl_wraps_a_key_under_either_certificate() {
    let keys = keys();
    for certificate in [keys.kek_certificate(), keys.self_signed_certificate()] {
        let dir = tempfile::tempdir().unwrap();
        pem(dir.path(), "kek.pem", "CERTIFICATE", &certificate);
        let private: Pkcs8V1Der<'_> = keys.kek.as_der().unwrap();
        pem(dir.path(), "kek.key", "PRIVATE KEY", private.as_ref());
        std::fs::write(dir.path().join("plain"), "a recording").unwrap();
        let oaep = "-keyopt rsa_padding_mode:oaep";
        openssl(
            dir.path(),
            &format!(
                "cms -encrypt -binary -aes-256-gcm -in plain -outform DER -out sealed -recip kek.pem {oaep}"
            ),
        );
        openssl(
            dir.path(),
            "cms -decrypt -inform DER -in sealed -inkey kek.key -recip kek.pem -out opened",
        );
        let opened = std::fs::read_to_string(dir.path().join("opened")).unwrap();
        assert_eq!(opened, "a recording");
    }
}

#[test]
fn openssl_verifies_a_self_signed_kek() {
    let (dir, keys) = (tempfile::tempdir().unwrap(), keys());
    pem(
        dir.path(),
        "kek.pem",
        "CERTIFICATE",
        &keys.self_signed_certificate(),
    );
    let at = NOW.0 / 1000 + 60;
    let verify = format!("verify -attime {at} -check_ss_sig -CAfile kek.pem kek.pem");
    assert!(openssl(dir.path(), &verify).contains("OK"));
    let text = openssl(dir.path(), "x509 -in kek.pem -noout -text");
    assert!(text.contains("Signature Algorithm: sha256WithRSAEncryption"));
    assert!(
        text.contains("Key Usage: critical\n                Key Encipherment\n"),
        "{text}"
    );
}

#[test]
fn openssl_reads_the_public_key_in_every_form() {
    let (dir, keys) = (tempfile::tempdir().unwrap(), keys());
    let key = RsaPublicKey::from_spki(&keys.kek_spki).unwrap();
    std::fs::write(dir.path().join("key.pem"), key.spki_pem().unwrap()).unwrap();
    std::fs::write(dir.path().join("key.der"), key.pkcs1_der()).unwrap();
    let from_pem = openssl(dir.path(), "rsa -pubin -in key.pem -pubout");
    let from_pkcs1 = openssl(
        dir.path(),
        "rsa -RSAPublicKey_in -inform DER -in key.der -pubout",
    );
    assert_eq!(from_pem, key.spki_pem().unwrap());
    assert_eq!(from_pkcs1, from_pem);
    let n = key.jwk("k")["n"].as_str().unwrap().to_owned();
    assert_eq!(n.len(), 512);
}

#[test]
fn a_signature_that_does_not_verify_makes_no_certificate() {
    let (keys, others) = (keys(), keys());
    let unsigned = keys.kek_unsigned(3650).unwrap();
    let good = keys.sign(&unsigned);
    assert!(unsigned.assemble(&good).is_ok());
    for at in 0..good.len() {
        let mut flipped = good.clone();
        flipped[at] ^= 1;
        let refused = unsigned.assemble(&flipped).unwrap_err();
        assert!(matches!(refused, CertificateError::SignatureWrong), "{at}");
    }
    let foreign = unsigned.assemble(&others.sign(&unsigned)).unwrap_err();
    assert!(matches!(foreign, CertificateError::SignatureWrong));
    for len in [0, 63, 65, 128] {
        let refused = unsigned.assemble(&vec![1; len]).unwrap_err();
        let found =
            matches!(refused, CertificateError::SignatureLength { found, .. } if found == len);
        assert!(found, "{len}");
    }
}

#[test]
fn a_signature_with_short_numbers_is_encoded_right() {
    // About one in 128 has an r or s that begins with a zero byte.
    let keys = keys();
    let unsigned = keys.kek_unsigned(3650).unwrap();
    let has_short = (0..4000).any(|_| {
        let raw = keys.sign(&unsigned);
        let short = raw[0] == 0 || raw[32] == 0;
        if short {
            unsigned.assemble(&raw).unwrap();
        }
        short
    });
    assert!(has_short);
}

#[test]
fn a_kek_does_not_outlive_its_issuer() {
    let keys = keys();
    let day = 86_400;
    let end = |certificate: &[u8]| {
        let validity = *read(certificate).tbs_certificate().validity();
        validity.not_after.to_unix_duration().as_secs()
    };
    let begin = NOW.0 / 1000;
    assert_eq!(end(&keys.kek_certificate()), begin + 3650 * day);
    let unsigned = keys.kek_unsigned(100_000).unwrap();
    let long = unsigned.assemble(&keys.sign(&unsigned)).unwrap();
    assert_eq!(end(&long), begin + 7300 * day);
    assert_eq!(end(&long), end(&keys.issuing_certificate()));
}

#[test]
fn years_after_2049_are_written_as_generalized_time() {
    let (dir, keys) = (tempfile::tempdir().unwrap(), keys());
    let unsigned = Unsigned::issuing(&body("CN=x", &keys.issuing_spki, 36_500, SERIAL)).unwrap();
    let certificate = unsigned.assemble(&keys.sign(&unsigned)).unwrap();
    std::fs::write(dir.path().join("ca.der"), &certificate).unwrap();
    let text = openssl(dir.path(), "asn1parse -inform DER -in ca.der");
    assert!(text.contains("UTCTIME           :261121180000Z"), "{text}");
    assert!(
        text.contains("GENERALIZEDTIME   :21261028180000Z"),
        "{text}"
    );
}

#[test]
fn the_digest_is_of_the_bytes_to_be_signed() {
    let keys = keys();
    let unsigned = keys.kek_unsigned(1).unwrap();
    assert_eq!(unsigned.digest(), kekd::types::Sha256::of(unsigned.tbs()));
    let certificate = unsigned.assemble(&keys.sign(&unsigned)).unwrap();
    assert_eq!(&certificate[4..4 + unsigned.tbs().len()], unsigned.tbs());
    let certificate = read(&certificate);
    let spki = certificate.tbs_certificate().subject_public_key_info();
    assert_eq!(spki.to_der().unwrap(), keys.kek_spki);
}

#[test]
fn what_cannot_be_certified_is_refused() {
    use CertificateError as E;
    let keys = keys();
    let (ec, rsa) = (&keys.issuing_spki, &keys.kek_spki);
    let issuing = |subject: &str, spki: &[u8], days, serial| {
        Unsigned::issuing(&body(subject, spki, days, serial))
            .err()
            .unwrap()
    };
    for subject in [
        "",
        "kek",
        "C=Ö",
        "CN=a,C=@@",
        "CN=a, O=b",
        "CN=a,",
        "XYZ=a",
        "CN=a,,O=b",
    ] {
        let refused = issuing(subject, ec, 1, SERIAL);
        assert!(
            matches!(refused, E::Subject { .. }),
            "{subject:?}: {refused}"
        );
    }
    assert!(matches!(
        issuing("CN=a", rsa, 1, SERIAL),
        E::PublicKey { .. }
    ));
    assert!(matches!(issuing("CN=a", ec, 1, [0; 16]), E::SerialZero));
    for days in [0, u32::MAX] {
        let refused = issuing("CN=a", ec, days, SERIAL);
        assert!(matches!(refused, E::ValidityOutOfRange { .. }), "{refused}");
    }
    let kek = |spki: &[u8], issuer: &[u8]| {
        Unsigned::kek(&body("CN=a", spki, 1, SERIAL), issuer)
            .err()
            .unwrap()
    };
    assert!(matches!(
        kek(ec, &keys.issuing_certificate()),
        E::PublicKey { .. }
    ));
    assert!(matches!(kek(rsa, &keys.kek_certificate()), E::NotAnIssuer));
    assert!(matches!(kek(rsa, b"x"), E::NotACertificate(_)));
}
