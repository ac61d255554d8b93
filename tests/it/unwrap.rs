//! Unwrapping through the public interface: what is released, what is refused, what is recorded. Each
//! case runs on each token, with every padding that the token does.

use std::collections::HashSet;
use std::process::Command;

use kekd::client::{Recipient, Release, UnwrapCall};
use kekd::proto::v1::unwrap_service_client::UnwrapServiceClient;
use kekd::proto::v1::{self, Outcome, UnwrapRequest};
use kekd::types::{Padding, RequestId, Sha256};

use crate::harness::{Kek, Rig, dek, must, openssl_options, pem_bytes, reason};
use crate::limits::resident_kib;
use crate::token::{Token, on_each_token};

on_each_token! {
    a_dek_wrapped_by_openssl_unwraps
    a_release_has_its_record
    the_unix_socket_is_the_same_services_by_another_door
    what_is_wrong_is_refused_before_the_hsm_and_recorded
    every_wrong_ciphertext_gets_the_same_answer
    pkcs1_v1_5_answers_a_wrong_ciphertext_with_a_dek_of_its_own
    a_dek_leaves_wrapped_to_its_recipient
    a_stream_answers_refusals_and_goes_on
    a_deadline_too_short_is_refused_at_once
}

async fn a_dek_wrapped_by_openssl_unwraps(token: Token) {
    let rig = Rig::serving_on(token);
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
    for padding in token.oaep() {
        let name = padding.name();
        let (wrapped, unwrapped) = (path(name), path(&format!("{name}.out")));
        must(
            Command::new("openssl")
                .args(["pkeyutl", "-encrypt", "-pubin"])
                .args(openssl_options("-pkeyopt", *padding))
                .arg("-inkey")
                .arg(path("kek.pem"))
                .arg("-in")
                .arg(path("dek"))
                .arg("-out")
                .arg(&wrapped),
        );
        must(
            rig.kekctl()
                .args(["unwrap", &kek.keypair_id.to_string()])
                .args(["--padding", name, "--in"])
                .arg(&wrapped)
                .arg("--out")
                .arg(&unwrapped),
        );
        assert_eq!(std::fs::read(unwrapped).unwrap(), [7; 32], "{name}");
    }
}

async fn a_release_has_its_record(token: Token) {
    let rig = Rig::serving_on(token);
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

async fn the_unix_socket_is_the_same_services_by_another_door(token: Token) {
    let rig = Rig::serving_on(token);
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

async fn what_is_wrong_is_refused_before_the_hsm_and_recorded(token: Token) {
    let rig = Rig::serving_on(token);
    let client = rig.client("lkm-1").await;
    let kek = Kek::of(&client, "recordings").await;
    let good = kek.wrap(Padding::OaepSha1, &[3; 32]);

    let mut unknown = kek.call_with(Padding::OaepSha1, good.clone());
    unknown.keypair_id = "6f9619ff-8b86-4011-b42d-00cf4fc964ff".parse().unwrap();
    let mut to_recipient = kek.call_with(Padding::OaepSha1, good.clone());
    to_recipient.recipient = Some(Recipient {
        spki: kek.public_key.spki().to_vec(),
        padding: Padding::OaepSha1,
    });
    let mut cases = vec![
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
        (unknown, "KEYPAIR_UNKNOWN"),
        (to_recipient, "RELEASE_FORM_NOT_ALLOWED"),
    ];
    // A padding of the profile that the token does not do is none of the version's.
    if !token.oaep().contains(&Padding::OaepSha256) {
        let call = kek.call_with(Padding::OaepSha256, good);
        cases.push((call, "PADDING_NOT_ALLOWED"));
    }
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
pub fn bad_ciphertexts(kek: &Kek, padding: Padding) -> Vec<(&'static str, Vec<u8>)> {
    let wrap = |value: &[u8]| kek.wrap(padding, value);
    // RFC 8017 section 7.1.1: the modulus less two digests and two bytes.
    let (other_hash, fits) = match padding {
        Padding::OaepSha1 => (Padding::OaepSha256, 342),
        Padding::OaepSha256 | Padding::Pkcs1V15 => (Padding::OaepSha1, 318),
    };
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
        ("as much inside as fits", wrap(&vec![1; fits])),
        ("another padding", kek.wrap(Padding::Pkcs1V15, &[1; 32])),
        ("another hash", kek.wrap(other_hash, &[1; 32])),
    ]
}

async fn every_wrong_ciphertext_gets_the_same_answer(token: Token) {
    let rig = Rig::serving_on(token);
    let client = rig.client("lkm-1").await;
    let kek = Kek::of(&client, "recordings").await;
    let mut answers = HashSet::new();
    let mut count = 0;
    for padding in token.oaep() {
        for (what, wrapped) in bad_ciphertexts(&kek, *padding) {
            let bytes = raw_refusal(&rig, kek.call_with(*padding, wrapped)).await;
            assert!(!bytes.is_empty(), "{padding}: {what}");
            answers.insert(bytes);
            count += 1;
        }
    }
    assert_eq!(answers.len(), 1, "wrong ciphertexts can be told apart");
    assert_eq!(rig.records_with(Outcome::Undecryptable).len(), count);
}

/// A call as the wire has it.
fn raw(call: &UnwrapCall) -> tonic::Request<UnwrapRequest> {
    tonic::Request::new(UnwrapRequest {
        keypair_id: call.keypair_id.to_string(),
        wrapped_dek: call.wrapped_dek.as_bytes().to_vec(),
        padding: v1::Padding::from(call.padding).into(),
        ..UnwrapRequest::default()
    })
}

/// Code, message and all metadata of the refusal, as bytes.
async fn raw_refusal(rig: &Rig, call: UnwrapCall) -> Vec<u8> {
    let mut client = UnwrapServiceClient::new(rig.channel().await);
    let status = client
        .unwrap(raw(&call))
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

async fn pkcs1_v1_5_answers_a_wrong_ciphertext_with_a_dek_of_its_own(token: Token) {
    let rig = Rig::serving_on(token);
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

async fn a_dek_leaves_wrapped_to_its_recipient(token: Token) {
    let rig = Rig::serving_on(token);
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

    let to_recipient = |padding, recipient_padding, value: &[u8]| UnwrapCall {
        recipient: Some(Recipient {
            spki: spki.clone(),
            padding: recipient_padding,
        }),
        ..kek.call(padding, value)
    };
    // From every padding to every padding: the two have nothing to do with each other.
    let paddings = token.oaep().iter();
    for (from, to) in paddings.flat_map(|from| token.oaep().iter().map(|to| (*from, *to))) {
        let released = client.unwrap(to_recipient(from, to, &[9; 32])).await;
        let Release::Rewrapped(rewrapped) = released.unwrap().release else {
            panic!("released in clear")
        };
        std::fs::write(path("rewrapped"), rewrapped).unwrap();
        must(
            Command::new("openssl")
                .args(["pkeyutl", "-decrypt"])
                .args(openssl_options("-pkeyopt", to))
                .arg("-inkey")
                .arg(path("recipient.key"))
                .arg("-in")
                .arg(path("rewrapped"))
                .arg("-out")
                .arg(path("dek")),
        );
        let unwrapped = std::fs::read(path("dek")).unwrap();
        assert_eq!(unwrapped, [9; 32], "{from} to {to}");
        let record = rig.records().pop().unwrap();
        assert_eq!(record.recipient_spki_sha256, Sha256::of(&spki).as_bytes());
    }

    // In clear it does not leave under this profile, and a DEK of another length does not either.
    let clear = kek.call(Padding::OaepSha1, &[9; 32]);
    assert_eq!(
        reason(&client.unwrap(clear).await.err().unwrap()),
        "RELEASE_FORM_NOT_ALLOWED"
    );
    for len in [16, 17, 24, 31, 33] {
        for padding in token.oaep() {
            let call = to_recipient(*padding, Padding::OaepSha1, &vec![9; len]);
            let error = client.unwrap(call).await.err().unwrap();
            assert_eq!(reason(&error), "UNDECRYPTABLE", "{len} bytes, {padding}");
        }
    }
    let mut call = kek.call(Padding::OaepSha1, &[9; 32]);
    call.recipient = Some(Recipient {
        spki: vec![0x30, 0],
        padding: Padding::OaepSha1,
    });
    assert_eq!(
        reason(&client.unwrap(call).await.err().unwrap()),
        "INVALID_REQUEST"
    );
}

// On one token only: it is about the stream and the records, and takes its time.
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
    let worker = rig.worker_pid().await;
    [rig.daemon_pid(), worker]
        .into_iter()
        .map(resident_kib)
        .sum()
}

async fn a_stream_answers_refusals_and_goes_on(token: Token) {
    let rig = Rig::serving_on(token);
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

async fn a_deadline_too_short_is_refused_at_once(token: Token) {
    let rig = Rig::serving_on(token);
    let client = rig.client("lkm-1").await;
    let kek = Kek::of(&client, "recordings").await;
    // The deadline is the call's alone: connecting may take as long as it does.
    let mut hurried = UnwrapServiceClient::new(rig.channel().await);
    let mut call = raw(&kek.call(Padding::OaepSha1, &[1; 32]));
    call.set_timeout(std::time::Duration::from_millis(1));
    let status = hurried.unwrap(call).await.unwrap_err();
    // `Cancelled` is what tonic says where its own clock was quicker than kekd's answer.
    assert!(
        matches!(
            status.code(),
            tonic::Code::DeadlineExceeded | tonic::Code::Cancelled
        ),
        "{status}"
    );
    assert!(rig.records_with(Outcome::Released).is_empty());
}
