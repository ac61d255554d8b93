//! Who is let in: every way of not being the right caller is refused and recorded.

use std::process::Command;
use std::time::Duration;

use kekd::client::ClientError;
use kekd::proto::v1::Outcome;
use kekd::types::Padding;

use crate::harness::{Kek, Rig, must, reason};

/// Waits until the audit log holds a refused connection with this reason.
async fn recorded(rig: &Rig, reason: &str) {
    for _ in 0..200 {
        let refused = rig.records_with(Outcome::ConnectionRefused);
        if refused.iter().any(|record| record.reason == reason) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!(
        "no record of {reason} among {:?}",
        rig.records_with(Outcome::ConnectionRefused)
    );
}

/// Calls that must not get through, however far they come.
async fn refused(rig: &Rig, name: &str) -> ClientError {
    match rig.try_client(name).await {
        Err(error) => error,
        Ok(client) => client.status().await.err().unwrap(),
    }
}

#[tokio::test]
async fn a_certificate_of_another_authority_is_refused() {
    let rig = Rig::serving();
    forge(&rig, "forged", "spiffe://kekd.test/lkm-1", 2099);
    refused(&rig, "forged").await;
    recorded(&rig, "CERTIFICATE_ISSUER_UNKNOWN").await;
}

/// A certificate for `uri` under a CA of the test's own, valid until the end of a year.
fn forge(rig: &Rig, name: &str, uri: &str, until: i32) {
    let key = rcgen::KeyPair::generate().unwrap();
    let ca_key = rcgen::KeyPair::generate().unwrap();
    let mut ca = rcgen::CertificateParams::default();
    ca.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let issuer = rcgen::Issuer::new(ca, ca_key);
    write_certificate(rig, name, uri, until, &key, &issuer);
}

fn write_certificate(
    rig: &Rig,
    name: &str,
    uri: &str,
    until: i32,
    key: &rcgen::KeyPair,
    issuer: &rcgen::Issuer<'_, rcgen::KeyPair>,
) {
    let mut parameters = rcgen::CertificateParams::default();
    if !uri.is_empty() {
        let uri = rcgen::SanType::URI(uri.try_into().unwrap());
        parameters.subject_alt_names = vec![uri];
    }
    parameters.not_before = rcgen::date_time_ymd(2020, 1, 1);
    parameters.not_after = rcgen::date_time_ymd(until, 12, 31);
    let certificate = parameters.signed_by(key, issuer).unwrap();
    let files = rig.files(name);
    std::fs::write(files.certificate, certificate.pem()).unwrap();
    std::fs::write(files.private_key, key.serialize_pem()).unwrap();
}

/// The rig's own authority, to issue what it would not.
fn rig_issuer(rig: &Rig) -> rcgen::Issuer<'static, rcgen::KeyPair> {
    let key = std::fs::read_to_string(rig.dir.join("pki/ca.key")).unwrap();
    let key = rcgen::KeyPair::from_pem(&key).unwrap();
    let mut ca = rcgen::CertificateParams::default();
    let subject = must(
        Command::new("openssl")
            .args(["x509", "-noout", "-subject", "-nameopt", "multiline", "-in"])
            .arg(rig.dir.join("pki/ca.crt")),
    );
    let subject = String::from_utf8(subject.stdout).unwrap();
    let name = subject.rsplit('=').next().unwrap().trim();
    ca.distinguished_name.push(rcgen::DnType::CommonName, name);
    ca.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    rcgen::Issuer::new(ca, key)
}

#[tokio::test]
async fn an_expired_certificate_is_refused() {
    let rig = Rig::serving();
    let key = rcgen::KeyPair::generate().unwrap();
    write_certificate(
        &rig,
        "expired",
        "spiffe://kekd.test/lkm-1",
        2021,
        &key,
        &rig_issuer(&rig),
    );
    refused(&rig, "expired").await;
    recorded(&rig, "CERTIFICATE_EXPIRED").await;
}

#[tokio::test]
async fn a_certificate_without_a_uri_is_refused() {
    let rig = Rig::serving();
    let key = rcgen::KeyPair::generate().unwrap();
    write_certificate(&rig, "nameless", "", 2099, &key, &rig_issuer(&rig));
    refused(&rig, "nameless").await;
    recorded(&rig, "IDENTITY_NOT_ONE_URI").await;
}

#[tokio::test]
async fn no_certificate_and_tls_1_2_are_refused() {
    let rig = Rig::serving();
    let address = rig.socket_address().to_string();
    let ca = rig.dir.join("pki/ca.crt");
    let handshake = |arguments: &[&str]| {
        Command::new("openssl")
            .args(["s_client", "-connect", &address, "-alpn", "h2", "-CAfile"])
            .arg(&ca)
            .args(arguments)
            .stdin(std::process::Stdio::null())
            .output()
            .unwrap()
    };
    let text = |output: &std::process::Output| {
        String::from_utf8_lossy(&output.stdout).into_owned()
            + &String::from_utf8_lossy(&output.stderr)
    };
    handshake(&["-tls1_3"]);
    recorded(&rig, "TLS_NO_CERTIFICATE").await;
    let files = rig.files("lkm-1");
    let old = handshake(&[
        "-tls1_2",
        "-cert",
        files.certificate.to_str().unwrap(),
        "-key",
        files.private_key.to_str().unwrap(),
    ]);
    assert!(
        text(&old).contains("alert protocol version"),
        "{}",
        text(&old)
    );
    recorded(&rig, "TLS_VERSION").await;
}

#[tokio::test]
async fn an_identity_the_ledger_does_not_name_is_refused_and_recorded() {
    let rig = Rig::serving();
    let named = rig.client("lkm-1").await;
    let kek = Kek::of(&named, "recordings").await;
    let stranger = rig.client("stranger").await;
    let error = stranger
        .unwrap(kek.call(Padding::OaepSha1, &[1; 32]))
        .await
        .err()
        .unwrap();
    assert_eq!(reason(&error), "CALLER_UNKNOWN");
    let record = rig.records().pop().unwrap();
    assert_eq!(record.outcome(), Outcome::Refused);
    assert_eq!(record.caller, "spiffe://kekd.test/stranger");
    for error in [
        stranger.status().await.err().unwrap(),
        stranger.list_keks().await.err().unwrap(),
    ] {
        assert_eq!(reason(&error), "CALLER_UNKNOWN");
    }
}

#[tokio::test]
async fn a_grant_for_another_kek_is_no_grant() {
    let rig = Rig::serving();
    let first = rig.client("lkm-1").await;
    let kek = Kek::of(&first, "recordings").await;
    let second = rig.client("lkm-2").await;
    let error = second
        .unwrap(kek.call(Padding::OaepSha1, &[1; 32]))
        .await
        .err()
        .unwrap();
    assert_eq!(reason(&error), "NOT_GRANTED");
    let record = rig.records().pop().unwrap();
    assert_eq!((record.outcome(), record.hsm_us), (Outcome::Refused, 0));
    let error = second
        .get_kek(&"recordings".parse().unwrap())
        .await
        .err()
        .unwrap();
    assert_eq!(reason(&error), "NOT_GRANTED");
    let names: Vec<String> = second
        .list_keks()
        .await
        .unwrap()
        .into_iter()
        .map(|kek| kek.name)
        .collect();
    assert_eq!(names, ["engage"]);
}

#[tokio::test]
async fn readers_unwrap_nothing() {
    let rig = Rig::serving();
    let client = rig.client("lkm-1").await;
    let kek = Kek::of(&client, "recordings").await;
    for name in ["operator", "auditor"] {
        let reader = rig.client(name).await;
        let error = reader
            .unwrap(kek.call(Padding::OaepSha1, &[1; 32]))
            .await
            .err()
            .unwrap();
        assert_eq!(reason(&error), "ROLE_NOT_ALLOWED");
        assert_eq!(reader.list_keks().await.unwrap().len(), 4);
        assert!(reader.status().await.unwrap().ready);
    }
    assert_eq!(rig.records_with(Outcome::Refused).len(), 2);
}

#[tokio::test]
async fn a_revoked_certificate_is_refused_on_a_connection_that_is_open() {
    let rig = Rig::stopped();
    let crl = rig.dir.join("pki/clients.crl");
    std::fs::write(&crl, crl_of(&rig, &[])).unwrap();
    rig.set(
        "tcp",
        &format!(
            "client_crl_file = \"{}\"\nreload_interval_ms = 100",
            crl.display()
        ),
    );
    rig.start();
    let client = rig.client("lkm-1").await;
    let kek = Kek::of(&client, "recordings").await;
    client
        .unwrap(kek.call(Padding::OaepSha1, &[1; 32]))
        .await
        .unwrap();

    let serial = serial_of(&rig, "lkm-1");
    std::fs::write(rig.dir.join("pki/new.crl"), crl_of(&rig, &[serial])).unwrap();
    std::fs::rename(rig.dir.join("pki/new.crl"), &crl).unwrap();
    let mut last = None;
    for _ in 0..100 {
        match client.unwrap(kek.call(Padding::OaepSha1, &[1; 32])).await {
            Ok(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            Err(error) => {
                last = Some(reason(&error).to_owned());
                break;
            }
        }
    }
    assert_eq!(last.as_deref(), Some("CERTIFICATE_REVOKED"));
    recorded(&rig, "CERTIFICATE_REVOKED").await;
    refused(&rig, "lkm-1").await;
}

fn serial_of(rig: &Rig, name: &str) -> rcgen::SerialNumber {
    let output = must(
        Command::new("openssl")
            .args(["x509", "-noout", "-serial", "-in"])
            .arg(rig.files(name).certificate),
    );
    let text = String::from_utf8(output.stdout).unwrap();
    let hex = text.trim().trim_start_matches("serial=").to_owned();
    let bytes: Vec<u8> = (0..hex.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap())
        .collect();
    rcgen::SerialNumber::from_slice(&bytes)
}

fn crl_of(rig: &Rig, serials: &[rcgen::SerialNumber]) -> String {
    let revoked = serials
        .iter()
        .map(|serial| rcgen::RevokedCertParams {
            serial_number: serial.clone(),
            revocation_time: rcgen::date_time_ymd(2026, 1, 1),
            reason_code: None,
            invalidity_date: None,
        })
        .collect();
    rcgen::CertificateRevocationListParams {
        this_update: rcgen::date_time_ymd(2026, 1, 1),
        next_update: rcgen::date_time_ymd(2099, 1, 1),
        crl_number: rcgen::SerialNumber::from(1_u64 + serials.len() as u64),
        issuing_distribution_point: None,
        revoked_certs: revoked,
        key_identifier_method: rcgen::KeyIdMethod::Sha256,
    }
    .signed_by(&rig_issuer(rig))
    .unwrap()
    .pem()
    .unwrap()
}

#[tokio::test]
async fn a_new_certificate_is_taken_up_under_load_and_a_bad_one_is_not() {
    let rig = Rig::stopped();
    rig.set("tcp", "reload_interval_ms = 100");
    rig.start();
    let client = rig.client("lkm-1").await;
    let kek = Kek::of(&client, "recordings").await;
    let load = {
        let (client, call) = (client.clone(), kek.call(Padding::OaepSha1, &[1; 32]));
        tokio::spawn(async move {
            for _ in 0..200 {
                client.unwrap(call.clone()).await.unwrap();
            }
        })
    };
    let files = rig.files("server");
    let before = server_serial(&rig).await;
    let good = (
        std::fs::read(&files.certificate).unwrap(),
        std::fs::read(&files.private_key).unwrap(),
    );
    std::fs::write(&files.certificate, "not a certificate").unwrap();
    tokio::time::sleep(Duration::from_millis(400)).await;
    assert_eq!(
        server_serial(&rig).await,
        before,
        "a bad file took the service down"
    );
    assert!(
        rig.log().contains("server.crt"),
        "the bad file is not named in the log"
    );

    let key = rcgen::KeyPair::generate().unwrap();
    let mut parameters =
        rcgen::CertificateParams::new(vec!["localhost".into(), "127.0.0.1".into()]).unwrap();
    parameters.serial_number = Some(rcgen::SerialNumber::from(4711_u64));
    let certificate = parameters.signed_by(&key, &rig_issuer(&rig)).unwrap();
    std::fs::write(&files.private_key, key.serialize_pem()).unwrap();
    std::fs::write(&files.certificate, certificate.pem()).unwrap();
    let mut taken_up = false;
    for _ in 0..100 {
        taken_up = server_serial(&rig).await != before;
        if taken_up {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(taken_up, "the new certificate was not taken up");
    load.await.unwrap();
    drop(good);
}

async fn server_serial(rig: &Rig) -> String {
    let files = rig.files("lkm-1");
    let address = rig.socket_address().to_string();
    let script = format!(
        "openssl s_client -connect {address} -alpn h2 -cert {} -key {} </dev/null 2>/dev/null \
         | openssl x509 -noout -serial",
        files.certificate.display(),
        files.private_key.display(),
    );
    let output = tokio::task::spawn_blocking(move || {
        Command::new("sh").args(["-c", &script]).output().unwrap()
    })
    .await
    .unwrap();
    String::from_utf8(output.stdout).unwrap()
}

#[tokio::test]
async fn the_unix_socket_is_not_for_everybody() {
    use std::os::unix::fs::PermissionsExt as _;
    let rig = Rig::serving();
    rig.local().await.status().await.unwrap();
    let socket = std::fs::metadata(rig.dir.join("run/kekd.sock")).unwrap();
    assert_eq!(socket.permissions().mode() & 0o007, 0);
}

/// Connects to the Unix socket as another user, which only root may become.
#[tokio::test]
async fn the_user_of_everybody_without_a_mapping_gets_no_connection() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("not root: nobody is not tried at the Unix socket");
        return;
    }
    let rig = Rig::serving();
    let run = rig.dir.join("run");
    for folder in [rig.dir.parent().unwrap(), &rig.dir, &run] {
        set_mode(folder, 0o711);
    }
    set_mode(&run.join("kekd.sock"), 0o666);
    let connect = move || {
        // Of this thread alone, which ends here: setresuid(2) as the kernel has it.
        let nobody = rustix::process::Uid::from_raw(65534);
        rustix::thread::set_thread_res_uid(None, nobody, None).unwrap();
        std::os::unix::net::UnixStream::connect(run.join("kekd.sock"))
    };
    let stream = std::thread::spawn(connect).join().unwrap().unwrap();
    recorded(&rig, "IDENTITY_UNMAPPED").await;
    let refused = rig.records_with(Outcome::ConnectionRefused);
    assert_eq!(refused[0].caller, "uid:65534");
    drop(stream);
}

fn set_mode(path: &std::path::Path, mode: u32) {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}
