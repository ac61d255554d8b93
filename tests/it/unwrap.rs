//! Unwrapping through the public interface: what is released, what is refused, what is recorded.

use std::collections::HashSet;
use std::process::Command;

use kekd::client::{ClientError, Recipient, Release};
use kekd::proto::v1::Outcome;
use kekd::types::{Padding, RequestId, Sha256};

use crate::harness::{Kek, Rig, dek, must, pem_bytes, reason};

#[tokio::test]
async fn a_dek_wrapped_by_openssl_unwraps() {
    let rig = Rig::serving();
    let client = rig.client("lkm-1").await;
    let kek = Kek::of(&client, "recordings").await;
    let path = |name: &str| rig.dir.join(name);
    std::fs::write(path("dek"), [7; 32]).unwrap();
    must(
        rig.kekctl()
            .args([
                "kek",
                "export",
                &kek.keypair_id.to_string(),
                "--format",
                "pem",
                "--out",
            ])
            .arg(path("kek.pem")),
    );
    must(
        Command::new("openssl")
            .args([
                "pkeyutl",
                "-encrypt",
                "-pubin",
                "-pkeyopt",
                "rsa_padding_mode:oaep",
                "-inkey",
            ])
            .arg(path("kek.pem"))
            .arg("-in")
            .arg(path("dek"))
            .arg("-out")
            .arg(path("wrapped")),
    );
    must(
        rig.kekctl()
            .args(["unwrap", &kek.keypair_id.to_string(), "--in"])
            .arg(path("wrapped"))
            .arg("--out")
            .arg(path("unwrapped")),
    );
    assert_eq!(std::fs::read(path("unwrapped")).unwrap(), [7; 32]);
}

#[tokio::test]
async fn a_release_has_its_record() {
    let rig = Rig::serving();
    let client = rig.client("lkm-1").await;
    let kek = Kek::of(&client, "recordings").await;
    let mut call = kek.call(Padding::OaepSha1, &[1; 32]);
    call.request_id = Some("call-17".parse().unwrap());
    call.end_user = "agent 7".parse().unwrap();
    let released = client.unwrap(call).await.unwrap();
    assert_eq!(dek(&released.release), [1; 32]);
    assert_eq!(released.request_id, "call-17");

    let record = &rig.records()[usize::try_from(released.record_index).unwrap()];
    assert_eq!(record.outcome(), Outcome::Released);
    assert_eq!(record.caller, "spiffe://kekd.test/lkm-1");
    assert_eq!(record.end_user, "agent 7");
    assert_eq!(record.request_id, "call-17");
    assert_eq!(record.kek, "recordings");
    assert_eq!(record.keypair_id, kek.keypair_id.to_string());
    assert_eq!(record.ciphertext_digest.len(), 32);
    assert!(record.hsm_us > 0);
}

#[tokio::test]
async fn the_unix_socket_is_the_same_services_by_another_door() {
    let rig = Rig::serving();
    let client = rig.local().await;
    let kek = Kek::of(&client, "recordings").await;
    let released = client
        .unwrap(kek.call(Padding::OaepSha1, &[2; 32]))
        .await
        .unwrap();
    assert_eq!(dek(&released.release), [2; 32]);
    let uid = rustix::process::getuid().as_raw();
    assert_eq!(rig.records()[0].caller, format!("uid:{uid}"));
}

#[tokio::test]
async fn what_is_wrong_is_refused_before_the_hsm_and_recorded() {
    let rig = Rig::serving();
    let client = rig.client("lkm-1").await;
    let kek = Kek::of(&client, "recordings").await;
    let good = kek.wrap(Padding::OaepSha1, &[3; 32]);

    let mut unknown = kek.call_with(Padding::OaepSha1, good.clone());
    unknown.keypair_id = "6f9619ff-8b86-4011-b42d-00cf4fc964ff".parse().unwrap();
    let mut to_recipient = kek.call_with(Padding::OaepSha1, good.clone());
    to_recipient.recipient = Some(Recipient {
        spki: kek.public_key.spki().unwrap(),
        padding: Padding::OaepSha1,
    });
    let cases = [
        (
            kek.call_with(Padding::OaepSha1, good[1..].to_vec()),
            "INVALID_REQUEST",
        ),
        (
            kek.call_with(Padding::OaepSha1, [&good[..], &[0]].concat()),
            "INVALID_REQUEST",
        ),
        (
            kek.call_with(Padding::Pkcs1V15, good.clone()),
            "PADDING_NOT_ALLOWED",
        ),
        (
            kek.call_with(Padding::OaepSha256, good.clone()),
            "PADDING_NOT_ALLOWED",
        ),
        (unknown, "KEYPAIR_UNKNOWN"),
        (to_recipient, "RELEASE_FORM_NOT_ALLOWED"),
    ];
    for (number, (call, expected)) in cases.into_iter().enumerate() {
        let error = client.unwrap(call).await.err().unwrap();
        assert_eq!(reason(&error), expected, "case {number}");
        let record = &rig.records()[number];
        assert_eq!(
            (record.outcome(), record.reason.as_str()),
            (Outcome::Refused, expected)
        );
        assert_eq!(record.hsm_us, 0, "the HSM was asked");
    }
}

/// Ways in which a ciphertext can be wrong under OAEP.
pub fn bad_ciphertexts(kek: &Kek) -> Vec<(&'static str, Vec<u8>)> {
    let wrap = |value: &[u8]| kek.wrap(Padding::OaepSha1, value);
    let mut flipped_first = wrap(&[1; 32]);
    flipped_first[0] ^= 1;
    let mut flipped_last = wrap(&[1; 32]);
    flipped_last[383] ^= 1;
    vec![
        ("a flipped first byte", flipped_first),
        ("a flipped last byte", flipped_last),
        ("zeros", vec![0; 384]),
        ("ones", vec![0xff; 384]),
        ("nothing inside", wrap(&[])),
        ("1 byte inside", wrap(&[1])),
        ("16 bytes inside", wrap(&[1; 16])),
        ("17 bytes inside", wrap(&[1; 17])),
        ("31 bytes inside", wrap(&[1; 31])),
        ("33 bytes inside", wrap(&[1; 33])),
        ("as much inside as fits", wrap(&[1; 342])),
        ("another padding", kek.wrap(Padding::Pkcs1V15, &[1; 32])),
    ]
}

#[tokio::test]
async fn every_wrong_ciphertext_gets_the_same_answer() {
    let rig = Rig::serving();
    let client = rig.client("lkm-1").await;
    let kek = Kek::of(&client, "recordings").await;
    let mut answers = HashSet::new();
    let bad = bad_ciphertexts(&kek);
    let count = bad.len();
    for (what, wrapped) in bad {
        let bytes = raw_refusal(&rig, &kek, wrapped).await;
        assert!(!bytes.is_empty(), "{what}");
        answers.insert(bytes);
    }
    assert_eq!(answers.len(), 1, "wrong ciphertexts can be told apart");
    assert_eq!(rig.records_with(Outcome::Undecryptable).len(), count);
}

/// Code, message and all metadata of the refusal, as bytes.
async fn raw_refusal(rig: &Rig, kek: &Kek, wrapped: Vec<u8>) -> Vec<u8> {
    use kekd::proto::v1::unwrap_service_client::UnwrapServiceClient;
    use kekd::proto::v1::{Padding as Wire, UnwrapRequest};
    let mut client = UnwrapServiceClient::new(rig.channel().await);
    let request = UnwrapRequest {
        keypair_id: kek.keypair_id.to_string(),
        wrapped_dek: wrapped,
        padding: Wire::OaepSha1.into(),
        ..UnwrapRequest::default()
    };
    let status = client
        .unwrap(request)
        .await
        .expect_err("a wrong ciphertext was unwrapped");
    let mut metadata: Vec<String> = status
        .metadata()
        .clone()
        .into_headers()
        .iter()
        .filter(|(name, _)| *name != "date")
        .map(|(name, value)| format!("{name}: {value:?}"))
        .collect();
    metadata.sort();
    let text = format!("{:?} {} {metadata:?} ", status.code(), status.message());
    [text.as_bytes(), status.details()].concat()
}

#[tokio::test]
async fn pkcs1_v1_5_answers_a_wrong_ciphertext_with_a_dek_of_its_own() {
    let rig = Rig::serving();
    let client = rig.client("lkm-1").await;
    let kek = Kek::of(&client, "legacy").await;
    let good = client
        .unwrap(kek.call(Padding::Pkcs1V15, &[4; 32]))
        .await
        .unwrap();
    assert_eq!(dek(&good.release), [4; 32]);

    let mut synthetic = HashSet::new();
    let wrap = |value: &[u8]| kek.wrap(Padding::Pkcs1V15, value);
    for wrapped in [vec![0; 384], vec![1; 384], wrap(&[1; 31]), wrap(&[1; 33])] {
        let mut twice = Vec::new();
        for _ in 0..2 {
            let call = kek.call_with(Padding::Pkcs1V15, wrapped.clone());
            twice.push(dek(&client.unwrap(call).await.unwrap().release));
        }
        assert_eq!(twice[0], twice[1], "not deterministic");
        synthetic.insert(twice[0]);
    }
    assert_eq!(synthetic.len(), 4, "two ciphertexts gave one synthetic DEK");
}

#[tokio::test]
async fn a_dek_leaves_wrapped_to_its_recipient() {
    let rig = Rig::serving();
    let client = rig.client("lkm-1").await;
    let kek = Kek::of(&client, "vault").await;
    let path = |name: &str| rig.dir.join(name);
    must(
        Command::new("openssl")
            .args(["genrsa", "-out"])
            .arg(path("recipient.key"))
            .arg("3072"),
    );
    must(
        Command::new("openssl")
            .args(["rsa", "-pubout", "-in"])
            .arg(path("recipient.key"))
            .arg("-out")
            .arg(path("recipient.pem")),
    );
    let spki = pem_bytes(&std::fs::read_to_string(path("recipient.pem")).unwrap());

    let mut call = kek.call(Padding::OaepSha1, &[9; 32]);
    call.recipient = Some(Recipient {
        spki: spki.clone(),
        padding: Padding::OaepSha1,
    });
    let released = client.unwrap(call.clone()).await.unwrap();
    let Release::Rewrapped(rewrapped) = released.release else {
        panic!("released in clear")
    };
    std::fs::write(path("rewrapped"), rewrapped).unwrap();
    must(
        Command::new("openssl")
            .args([
                "pkeyutl",
                "-decrypt",
                "-pkeyopt",
                "rsa_padding_mode:oaep",
                "-inkey",
            ])
            .arg(path("recipient.key"))
            .arg("-in")
            .arg(path("rewrapped"))
            .arg("-out")
            .arg(path("dek")),
    );
    assert_eq!(std::fs::read(path("dek")).unwrap(), [9; 32]);
    let record = rig.records().pop().unwrap();
    assert_eq!(record.recipient_spki_sha256, Sha256::of(&spki).as_bytes());

    // In clear it does not leave under this profile, and a DEK of another length does not either.
    let clear = kek.call(Padding::OaepSha1, &[9; 32]);
    assert_eq!(
        reason(&client.unwrap(clear).await.err().unwrap()),
        "RELEASE_FORM_NOT_ALLOWED"
    );
    call.wrapped_dek = kek.call(Padding::OaepSha1, &[9; 17]).wrapped_dek;
    assert_eq!(
        reason(&client.unwrap(call.clone()).await.err().unwrap()),
        "UNDECRYPTABLE"
    );
    call.recipient = Some(Recipient {
        spki: vec![0x30, 0],
        padding: Padding::OaepSha1,
    });
    assert_eq!(
        reason(&client.unwrap(call).await.err().unwrap()),
        "INVALID_REQUEST"
    );
}

#[tokio::test]
async fn ten_thousand_unwraps_of_one_stream_leave_ten_thousand_records_and_no_memory() {
    let rig = Rig::serving();
    let client = rig.client("lkm-1").await;
    let kek = Kek::of(&client, "recordings").await;
    let call = kek.call(Padding::OaepSha1, &[5; 32]);

    let stream = |count: usize, prefix: &'static str| {
        let (client, call) = (client.clone(), call.clone());
        async move {
            let calls = (0..count).map(move |number| {
                let mut call = call.clone();
                call.request_id = Some(id(prefix, number));
                call
            });
            let mut answers = client
                .unwrap_stream(tokio_stream::iter(calls))
                .await
                .unwrap();
            let mut open: HashSet<String> = (0..count)
                .map(|number| id(prefix, number).as_str().to_owned())
                .collect();
            while let Some(answer) = answers.next().await {
                let answer = answer.unwrap();
                assert_eq!(dek(&answer.outcome.unwrap().release), [5; 32]);
                assert!(
                    open.remove(&answer.request_id),
                    "{} twice",
                    answer.request_id
                );
            }
            assert!(open.is_empty(), "{} requests were not answered", open.len());
        }
    };
    stream(1_000, "warm").await;
    let before = memory_kib(&rig).await;
    stream(10_000, "flat").await;
    let after = memory_kib(&rig).await;

    let records = rig.records_with(Outcome::Released);
    assert_eq!(records.len(), 11_000);
    let ids: HashSet<&str> = records
        .iter()
        .map(|record| record.request_id.as_str())
        .collect();
    assert_eq!(ids.len(), 11_000, "a request id was recorded twice");
    assert!(
        after < before + 8 * 1024,
        "memory grew from {before} KiB to {after} KiB"
    );
}

fn id(prefix: &str, number: usize) -> RequestId {
    format!("{prefix}-{number}").parse().unwrap()
}

/// Resident memory of daemon and worker.
async fn memory_kib(rig: &Rig) -> u64 {
    let worker = rig
        .client("operator")
        .await
        .status()
        .await
        .unwrap()
        .token
        .unwrap()
        .worker_pid;
    [rig.daemon_pid(), worker]
        .into_iter()
        .map(resident_kib)
        .sum()
}

/// VmRSS of a process (proc_pid_status(5)).
pub fn resident_kib(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status
        .lines()
        .find(|line| line.starts_with("VmRSS:"))
        .unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[tokio::test]
async fn a_stream_answers_refusals_and_goes_on() {
    let rig = Rig::serving();
    let client = rig.client("lkm-1").await;
    let kek = Kek::of(&client, "recordings").await;
    let calls: Vec<_> = (0..30)
        .map(|number| {
            let mut call = match number % 3 {
                0 => kek.call(Padding::OaepSha1, &[6; 32]),
                1 => kek.call_with(Padding::OaepSha1, vec![0; 384]),
                _ => kek.call_with(Padding::OaepSha1, vec![0; 10]),
            };
            call.request_id = Some(id("mixed", number));
            call
        })
        .collect();
    let mut answers = client
        .unwrap_stream(tokio_stream::iter(calls))
        .await
        .unwrap();
    let mut seen = [0; 3];
    while let Some(answer) = answers.next().await {
        let answer = answer.unwrap();
        let number: usize = answer.request_id["mixed-".len()..].parse().unwrap();
        seen[number % 3] += 1;
        match (number % 3, answer.outcome) {
            (0, Ok(released)) => assert_eq!(dek(&released.release), [6; 32]),
            (1, Err(refusal)) => assert_eq!(refusal.reason, "UNDECRYPTABLE"),
            (2, Err(refusal)) => assert_eq!(refusal.reason, "INVALID_REQUEST"),
            (_, outcome) => panic!("{number} ended with ok={}", outcome.is_ok()),
        }
    }
    assert_eq!(seen, [10; 3]);
    assert_eq!(rig.records().len(), 30);
}

#[tokio::test]
async fn a_deadline_too_short_is_refused_at_once() {
    let rig = Rig::serving();
    let client = rig.client("lkm-1").await;
    let kek = Kek::of(&client, "recordings").await;
    let hurried = rig
        .client_with("lkm-1", std::time::Duration::from_millis(1))
        .await;
    let error = hurried
        .unwrap(kek.call(Padding::OaepSha1, &[1; 32]))
        .await
        .err()
        .unwrap();
    assert!(
        matches!(
            error,
            ClientError::Refused(_) | ClientError::DeadlineExceeded { .. }
        ),
        "{error}"
    );
    assert!(rig.records_with(Outcome::Released).is_empty());
}
