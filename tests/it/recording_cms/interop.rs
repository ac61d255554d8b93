//! What openssl seals opens here, and what is sealed here opens there.

use std::fs;

use kekd::recording::{Overwrite, RecipientIdentifier, SIZE_MAX_DEFAULT, Source, seal, write_new};
use kekd::types::Padding;

use super::bench::Bench;

const OAEP_SHA1: [&str; 2] = ["-keyopt", "rsa_padding_mode:oaep"];
const OAEP_SHA256: [&str; 4] = [
    "-keyopt",
    "rsa_padding_mode:oaep",
    "-keyopt",
    "rsa_oaep_md:sha256",
];

#[test]
fn what_openssl_seals_opens_here() {
    let bench = Bench::new();
    let gcm = "-aes-256-gcm";
    let cases: [(&str, Padding, &[&str]); 4] = [
        (gcm, Padding::OaepSha1, &OAEP_SHA1),
        (gcm, Padding::OaepSha256, &OAEP_SHA256),
        (gcm, Padding::Pkcs1V15, &[]),
        ("-aes-256-cbc", Padding::Pkcs1V15, &[]),
    ];
    for (cipher, padding, keyopt) in cases {
        for form in ["DER", "PEM", "SMIME"] {
            for more in [&["-nodetach"][..], &["-stream"], &["-keyid"]] {
                let options = [&["-outform", form], more, keyopt].concat();
                bench.openssl_seals("call.wav", "sealed", cipher, &options);
                let recipient = bench.read("sealed").unwrap().recipients()[0].clone();
                assert_eq!(recipient.padding, Ok(padding), "{cipher} {options:?}");
                assert_eq!(recipient.encrypted_key.len(), 384);
                let content = bench.open("sealed").unwrap();
                assert!(
                    content.as_bytes() == bench.bytes("call.wav"),
                    "{cipher} {options:?}"
                );
            }
        }
    }
}

#[test]
fn what_is_sealed_here_opens_with_openssl_and_here() {
    let bench = Bench::new();
    let decrypt = [
        "cms", "-decrypt", "-binary", "-inform", "DER", "-recip", "kek.pem",
    ];
    for padding in [Padding::OaepSha1, Padding::OaepSha256] {
        let name = padding.name();
        bench.sealed_here(name, padding);
        let more = ["-inkey", "kek.key", "-in", name, "-out", "opened"];
        bench.openssl(&[&decrypt[..], &more].concat());
        assert!(bench.bytes("opened") == bench.bytes("call.wav"));
        let content = bench.open(name).unwrap();
        assert!(content.as_bytes() == bench.bytes("call.wav"));
        // openssl re-encodes to the same bytes: what was written is DER.
        let name = padding.name();
        let print = ["cms", "-cmsout", "-inform", "DER", "-in", name];
        bench.openssl(&[&print[..], &["-outform", "DER", "-out", "again"]].concat());
        assert!(bench.bytes("again") == bench.bytes(name));
    }
}

#[test]
fn a_content_of_any_length_comes_back() {
    let bench = Bench::new();
    let certificate = bench.read_certificate("kek.pem");
    let certificates = [certificate];
    for len in [0_usize, 1, 15, 16, 127, 128, 255, 256, 65_535, 65_536] {
        let plaintext = vec![0xa5; len];
        let stream = Source::stream("-", Box::new(std::io::Cursor::new(plaintext.clone())));
        let padding = Padding::OaepSha256;
        let sealed = seal(stream, &certificates, padding, 65_536, &mut |_, _| ()).unwrap();
        let path = bench.path("sealed");
        write_new(&path, &sealed.parts(), Overwrite::Yes, &mut |_, _| ()).unwrap();
        assert_eq!(sealed.file_len(), bench.bytes("sealed").len() as u64);
        assert!(bench.open("sealed").unwrap().as_bytes() == plaintext);

        fs::write(bench.path("plain"), &plaintext).unwrap();
        for cipher in ["-aes-256-gcm", "-aes-256-cbc"] {
            // openssl 3.0 fails to stream an empty content with GCM.
            let form = if len == 0 { "-nodetach" } else { "-stream" };
            bench.openssl_seals("plain", "sealed", cipher, &["-outform", "DER", form]);
            assert!(
                bench.open("sealed").unwrap().as_bytes() == plaintext,
                "{len}"
            );
        }
    }
}

#[test]
fn a_recipient_is_found_by_its_certificate() {
    let bench = Bench::new();
    for name in ["other", "stranger"] {
        bench.certificate(name, "rsa:2048");
    }
    let certificates = || ["other.pem", "kek.pem"].map(|name| bench.read_certificate(name));
    let source = Source::open(&bench.path("call.wav")).unwrap();
    let sealed = seal(
        source,
        &certificates(),
        Padding::OaepSha256,
        SIZE_MAX_DEFAULT,
        &mut |_, _| (),
    );
    let path = bench.path("here");
    let parts = sealed.as_ref().unwrap().parts();
    write_new(&path, &parts, Overwrite::No, &mut |_, _| ()).unwrap();
    let both = ["-outform", "DER", "other.pem"];
    bench.openssl_seals(
        "call.wav",
        "by-serial",
        "-aes-256-gcm",
        &["-outform", "DER"],
    );
    bench.openssl_seals(
        "call.wav",
        "by-key-id",
        "-aes-256-gcm",
        &["-outform", "DER", "-keyid"],
    );
    let mut arguments = vec![
        "cms",
        "-encrypt",
        "-binary",
        "-aes-256-cbc",
        "-in",
        "call.wav",
    ];
    arguments.extend(["-out", "both"]);
    arguments.extend(both);
    arguments.push("kek.pem");
    bench.openssl(&arguments);

    for (name, others_too) in [
        ("here", true),
        ("both", true),
        ("by-serial", false),
        ("by-key-id", false),
    ] {
        let envelope = bench.read(name).unwrap();
        let [other, kek] = certificates();
        let recipient = envelope.recipient_for(&kek).unwrap();
        assert_eq!(recipient.encrypted_key.len(), 384, "{name}");
        assert_eq!(
            envelope.recipient_for(&other).is_some(),
            others_too,
            "{name}"
        );
        let stranger = bench.read_certificate("stranger.pem");
        assert_eq!(envelope.recipient_for(&stranger), None, "{name}");
        let text = recipient.identifier.to_string();
        match &recipient.identifier {
            RecipientIdentifier::IssuerAndSerial { .. } => {
                assert!(text.ends_with(" of CN=kek,O=Example"), "{text}");
            }
            RecipientIdentifier::SubjectKeyId(id) => {
                assert_eq!((name, id.len()), ("by-key-id", 20), "{text}");
            }
        }
        let dek = bench.unwrap(recipient);
        let content = envelope.open(&dek, &mut |_, _| ()).unwrap();
        assert!(content.as_bytes() == bench.bytes("call.wav"));
    }
    let other = [
        "-recip",
        "other.pem",
        "-inkey",
        "other.key",
        "-in",
        "here",
        "-out",
        "opened",
    ];
    let decrypt = ["cms", "-decrypt", "-binary", "-inform", "DER"];
    bench.openssl(&[&decrypt[..], &other].concat());
    assert!(bench.bytes("opened") == bench.bytes("call.wav"));
}
