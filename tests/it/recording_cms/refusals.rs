//! What is not opened and whom is not sealed for, each with its message.

use std::fs;
use std::path::Path;

use kekd::recording::{
    Fault, KeyTransportFault, RecipientCertificate, SIZE_MAX_DEFAULT, Source, seal,
};
use kekd::types::Padding;

use super::bench::Bench;

#[test]
fn what_is_not_opened_here_is_named() {
    let bench = Bench::new();
    let refusal = |name: &str| bench.read(name).err().unwrap().to_string();
    for (cipher, named) in [
        ("-des3", "des-ede3-cbc"),
        ("-aes-128-cbc", "aes-128-cbc"),
        ("-aes-128-gcm", "aes-128-gcm"),
        ("-camellia256", "1.2.392.200011.61.1.1.1.4"),
    ] {
        bench.openssl_seals("call.wav", "sealed", cipher, &["-outform", "DER"]);
        let text = refusal("sealed");
        let rule = format!("encrypted with {named}; kekctl opens aes-256-gcm and aes-256-cbc");
        assert!(text.contains(&rule) && text.contains("sealed: "), "{text}");
    }
    bench.certificate("ec", "ec");
    let encrypt = [
        "cms", "-encrypt", "-binary", "-in", "call.wav", "-outform", "DER",
    ];
    bench.openssl(&[&encrypt[..], &["-aes-256-cbc", "-out", "agreed", "ec.pem"]].concat());
    assert!(refusal("agreed").contains("found: key agreement"));
    let password = [
        "-pwri_password",
        "secret",
        "-aes-256-cbc",
        "-out",
        "password",
    ];
    bench.openssl(&[&encrypt[..], &password].concat());
    assert!(refusal("password").contains("found: a password"));
    let sign = [
        "cms", "-sign", "-in", "call.wav", "-signer", "kek.pem", "-inkey", "kek.key",
    ];
    bench.openssl(&[&sign[..], &["-outform", "DER", "-out", "signed"]].concat());
    assert!(refusal("signed").contains("holds CMS signed-data"));
    assert!(refusal("call.wav").contains("not a CMS file"));
    assert!(refusal("kek.pem").contains("label \"CERTIFICATE\""));

    let oaep_sha512 = [
        "-keyopt",
        "rsa_padding_mode:oaep",
        "-keyopt",
        "rsa_oaep_md:sha512",
    ];
    bench.openssl_seals("call.wav", "sha512", "-aes-256-gcm", &oaep_sha512);
    let found = "sha512".to_owned();
    let padding = bench.read("sha512").unwrap().recipients()[0]
        .padding
        .clone();
    assert_eq!(padding, Err(KeyTransportFault::Hash { found }));
}

#[test]
fn certificates_that_do_not_wrap_deks_are_refused() {
    let bench = Bench::new();
    bench.certificate("ec", "ec");
    bench.certificate("small", "rsa:1024");
    let request = [
        "req", "-x509", "-key", "kek.key", "-subj", "/CN=sign", "-out", "sign.pem",
    ];
    let usage = ["-addext", "keyUsage=critical,digitalSignature"];
    bench.openssl(&[&request[..], &usage].concat());
    for (name, rule) in [
        ("ec.pem", "the certificate's key is EC"),
        ("small.pem", "RSA"),
        ("sign.pem", "lacks keyEncipherment"),
        ("call.wav", "not an X.509 certificate"),
        ("kek.key", "not an X.509 certificate"),
    ] {
        let refused = RecipientCertificate::parse(Path::new(name), &bench.bytes(name));
        let text = refused.err().unwrap().to_string();
        assert!(text.starts_with(name) && text.contains(rule), "{text}");
    }
    // DER, a chain and text around the PEM are taken.
    bench.openssl(&[
        "x509", "-in", "kek.pem", "-outform", "DER", "-out", "kek.der",
    ]);
    bench.openssl(&["x509", "-in", "kek.pem", "-text", "-out", "kek.txt"]);
    let chain = [bench.bytes("kek.txt"), bench.bytes("ec.pem")].concat();
    fs::write(bench.path("chain.pem"), chain).unwrap();
    for name in ["kek.der", "kek.txt", "chain.pem"] {
        bench.read_certificate(name);
    }
    let certificate = [bench.read_certificate("kek.pem")];
    let sealed = |certificates: &[RecipientCertificate], padding| {
        let source = Source::open(&bench.path("call.wav")).unwrap();
        seal(
            source,
            certificates,
            padding,
            SIZE_MAX_DEFAULT,
            &mut |_, _| (),
        )
        .err()
        .unwrap()
        .fault
    };
    assert!(matches!(
        sealed(&certificate, Padding::Pkcs1V15),
        Fault::PaddingNotSealed
    ));
    assert!(matches!(
        sealed(&[], Padding::OaepSha1),
        Fault::NoCertificate
    ));
}

#[test]
fn many_recipients_are_counted() {
    let bench = Bench::new();
    for (count, taken) in [(64, true), (65, false)] {
        let mut arguments = vec![
            "cms",
            "-encrypt",
            "-binary",
            "-aes-256-cbc",
            "-in",
            "call.wav",
        ];
        arguments.extend(["-outform", "DER", "-out", "many"]);
        arguments.extend(vec!["kek.pem"; count]);
        bench.openssl(&arguments);
        let verdict = bench.read("many");
        assert_eq!(verdict.is_ok(), taken);
        if let Err(refused) = verdict {
            assert!(matches!(refused.fault, Fault::TooManyRecipients));
        }
    }
}
