//! The KEK as the HSM's own tools see it: non-extractable, without any other use than its one.

use std::path::Path;
use std::process::{Command, Output};

use crate::harness::{Kek, Rig};

/// What asks a key to sign something.
const fn signing(id: &str) -> [&str; 7] {
    let mechanism = "SHA256-RSA-PKCS";
    [
        "--sign",
        "--mechanism",
        mechanism,
        "--id",
        id,
        "-i",
        "/etc/hostname",
    ]
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

#[tokio::test]
async fn pkcs11_tool_sees_a_caged_key() {
    let rig = Rig::serving();
    let client = rig.client("lkm-1").await;
    let id_hex = Kek::of(&client, "recordings").await.cka_id();

    let listing = text(
        &rig.pkcs11_tool(&["--list-objects", "--type", "privkey"])
            .output()
            .unwrap(),
    );
    let ours = listing
        .split("Private Key Object")
        .find(|object| object.contains(&id_hex))
        .unwrap_or_else(|| panic!("no {id_hex} in {listing}"));
    let line = |name: &str| {
        ours.lines()
            .find(|line| line.contains(name))
            .unwrap_or_default()
            .to_owned()
    };
    let usage = line("Usage:");
    assert!(usage.contains("decrypt"), "{usage}");
    for forbidden in ["sign", "derive", "wrap"] {
        assert!(
            !usage.contains(forbidden),
            "the KEK may {forbidden}: {usage}"
        );
    }
    let access = line("Access:");
    for promise in [
        "sensitive",
        "always sensitive",
        "never extractable",
        "local",
    ] {
        assert!(
            access.contains(promise),
            "the KEK is not {promise}: {access}"
        );
    }

    // Reading the private value, wrapping it out and signing with it are refused.
    let out = rig.dir.join("private-key");
    let out = out.to_str().unwrap();
    let read = [
        "--read-object",
        "--type",
        "privkey",
        "--id",
        &id_hex,
        "-o",
        out,
    ];
    rig.pkcs11_tool(&read).output().unwrap();
    assert!(
        std::fs::read(out).is_ok_and(|bytes| bytes.is_empty()) || !Path::new(out).exists(),
        "a private key was read"
    );
    let aes = [
        "--keygen",
        "--key-type",
        "aes:32",
        "--id",
        "77",
        "--usage-wrap",
    ];
    assert!(rig.pkcs11_tool(&aes).output().unwrap().status.success());
    for attempt in [
        &[
            "--wrap",
            "--mechanism",
            "AES-KEY-WRAP-PAD",
            "--id",
            "77",
            "--application-id",
            &id_hex,
            "-o",
            out,
        ][..],
        &signing(&id_hex)[..],
    ] {
        let output = rig.pkcs11_tool(attempt).output().unwrap();
        assert!(
            !output.status.success(),
            "{attempt:?} succeeded: {}",
            text(&output)
        );
    }
}

#[tokio::test]
async fn a_self_signed_kek_signed_once_and_never_again() {
    let rig = Rig::serving();
    let client = rig.client("lkm-2").await;
    let kek = Kek::of(&client, "engage").await;
    let chain = client.get_certificate(kek.keypair_id).await.unwrap();
    assert!(chain.issuers.is_empty());
    let der = rig.dir.join("engage.der");
    std::fs::write(&der, &chain.certificate).unwrap();
    let pem = rig.dir.join("engage.pem");
    let convert = Command::new("openssl")
        .args(["x509", "-inform", "DER", "-in"])
        .arg(&der)
        .arg("-out")
        .arg(&pem)
        .status()
        .unwrap();
    assert!(convert.success());
    let verify = Command::new("openssl")
        .args(["verify", "-check_ss_sig", "-CAfile"])
        .args([&pem, &pem])
        .output()
        .unwrap();
    assert!(verify.status.success(), "{}", text(&verify));

    let output = rig.pkcs11_tool(&signing(&kek.cka_id())).output().unwrap();
    assert!(
        !output.status.success(),
        "the KEK still signs: {}",
        text(&output)
    );
}
