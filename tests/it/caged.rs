//! The KEK as the HSM's own tools see it: non-extractable, without any other use than its one.

use std::path::Path;
use std::process::{Command, Output};

use crate::harness::{Kek, Rig};

const SOFTHSM: &str = "/usr/lib/softhsm/libsofthsm2.so";

fn pkcs11_tool(rig: &Rig, arguments: &[&str]) -> Output {
    rig.token_command("pkcs11-tool")
        .args([
            "--module",
            SOFTHSM,
            "--token-label",
            "kekd-rig",
            "--login",
            "--pin",
            &rig.pin(),
        ])
        .args(arguments)
        .output()
        .unwrap()
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

#[tokio::test]
async fn pkcs11_tool_sees_a_caged_key() {
    let rig = Rig::serving();
    let client = rig.client("lkm-1").await;
    let id = Kek::of(&client, "recordings").await.keypair_id;
    let id_hex: String = id
        .as_bytes()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();

    let listing = text(&pkcs11_tool(&rig, &["--list-objects", "--type", "privkey"]));
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
    pkcs11_tool(&rig, &read);
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
    assert!(pkcs11_tool(&rig, &aes).status.success());
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
        &[
            "--sign",
            "--mechanism",
            "SHA256-RSA-PKCS",
            "--id",
            &id_hex,
            "-i",
            "/etc/hostname",
        ][..],
    ] {
        let output = pkcs11_tool(&rig, attempt);
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

    let id_hex: String = kek
        .keypair_id
        .as_bytes()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let sign = [
        "--sign",
        "--mechanism",
        "SHA256-RSA-PKCS",
        "--id",
        &id_hex,
        "-i",
        "/etc/hostname",
    ];
    let output = pkcs11_tool(&rig, &sign);
    assert!(
        !output.status.success(),
        "the KEK still signs: {}",
        text(&output)
    );
}
