//! A token that hangs, crashes, errs and lies: the module `fault` forwards to SoftHSM and does to us
//! what its script says. Cases are numbered as in the list of fault tests of the design.

use std::fs;
use std::time::Duration;

use kekd::client::ClientError;
use kekd::proto::v1::Outcome;
use kekd::types::Padding;

use crate::harness::faulty::Faulty;
use crate::harness::{Kek, Rig, dek, reason};

/// Cases 1 and 3: one error of the token, and the answer is right all the same.
#[tokio::test]
async fn one_error_of_the_token_is_not_the_callers() {
    let faulty = Faulty::serving();
    let client = faulty.rig.client("lkm-1").await;
    let kek = Kek::of(&client, "recordings").await;
    for code in [
        "CKR_DEVICE_ERROR",
        "CKR_GENERAL_ERROR",
        "CKR_FUNCTION_FAILED",
        "CKR_SESSION_HANDLE_INVALID",
        "CKR_KEY_HANDLE_INVALID",
        "CKR_USER_NOT_LOGGED_IN",
        // A token's verdict on a ciphertext is heard twice, and no code of it is another's fault.
        "CKR_ENCRYPTED_DATA_INVALID",
        "CKR_MECHANISM_PARAM_INVALID",
        "CKR_KEY_FUNCTION_NOT_PERMITTED",
    ] {
        let restarts = faulty.restarts().await;
        faulty.script(&format!("C_Decrypt 1 {code}"));
        let answer = client.unwrap(kek.call(Padding::OaepSha1, &[1; 32])).await;
        let answer = answer.unwrap_or_else(|error| panic!("{code}: {error}"));
        assert_eq!(dek(&answer.release), [1; 32], "{code}");
        assert_eq!(
            faulty.restarts().await,
            restarts,
            "{code} tore the link down"
        );
    }
}

/// Case 2: a client cannot make the daemon reconnect, and others do not notice.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_of_bad_ciphertexts_is_not_an_outage() {
    let faulty = Faulty::stopped();
    // The quota would end the flood early (`quota.rs`); here all of it is to reach the HSM.
    faulty.rig.set("limits", "failures_max = 2000");
    faulty.rig.start();
    let client = faulty.rig.client("lkm-1").await;
    let kek = Kek::of(&client, "recordings").await;
    let logins = faulty.count("C_Login");
    let good = {
        let (client, call) = (
            faulty.rig.local().await,
            kek.call(Padding::OaepSha1, &[8; 32]),
        );
        tokio::spawn(async move {
            for _ in 0..300 {
                assert_eq!(
                    dek(&client.unwrap(call.clone()).await.unwrap().release),
                    [8; 32]
                );
            }
        })
    };
    let mut answers = std::collections::HashSet::new();
    for number in 0..1_000_usize {
        let mut wrapped = vec![0x55; 384];
        wrapped[383 - number % 300] ^= u8::try_from(1 + number % 200).unwrap();
        wrapped[0] = 0;
        let call = kek.call_with(Padding::OaepSha1, wrapped);
        let error = client.unwrap(call).await.err().unwrap();
        answers.insert(format!("{error:?}"));
    }
    good.await.unwrap();
    assert_eq!(
        answers.len(),
        1,
        "bad ciphertexts can be told apart: {answers:?}"
    );
    assert_eq!(faulty.restarts().await, 0, "the worker was replaced");
    assert_eq!(faulty.count("C_Login"), logins, "somebody logged in again");
    assert_eq!(faulty.rig.records_with(Outcome::Undecryptable).len(), 1_000);
}

/// Case 5: the HSM hangs in one call; status and health answer, and the service comes back.
#[tokio::test]
async fn a_hung_call_ends_and_the_next_is_good() {
    let faulty = Faulty::serving();
    let client = faulty.rig.client("lkm-1").await;
    let kek = Kek::of(&client, "recordings").await;
    faulty.script("C_Decrypt 1 hang");
    let hurried = faulty
        .rig
        .client_with("lkm-1", Duration::from_millis(700))
        .await;
    let error = hurried
        .unwrap(kek.call(Padding::OaepSha1, &[1; 32]))
        .await
        .err()
        .unwrap();
    // Told so by kekd, or by the client's own clock where that was quicker.
    let is_told = matches!(
        error,
        ClientError::Refused(_) | ClientError::DeadlineExceeded { .. }
    );
    assert!(is_told, "{error}");
    let status = faulty.rig.client("operator").await.status().await.unwrap();
    assert!(!status.version.is_empty());
    let answer = client
        .unwrap(kek.call(Padding::OaepSha1, &[2; 32]))
        .await
        .unwrap();
    assert_eq!(dek(&answer.release), [2; 32]);
}

/// The HSM hangs in every call: callers get their answer, status and health do not wait.
#[tokio::test]
async fn a_hung_hsm_blocks_neither_status_nor_health() {
    let faulty = Faulty::serving();
    let client = faulty.rig.client("lkm-1").await;
    let kek = Kek::of(&client, "recordings").await;
    faulty.script("C_Decrypt * hang");
    let stuck = tokio::spawn({
        let (client, call) = (client.clone(), kek.call(Padding::OaepSha1, &[1; 32]));
        async move { client.unwrap(call).await.err().unwrap() }
    });
    let operator = faulty.rig.client("operator").await;
    for _ in 0..20 {
        operator.status().await.unwrap();
        health(&faulty.rig).await;
    }
    let error = stuck.await.unwrap();
    assert!(
        ["HSM_UNAVAILABLE", "DEADLINE_EXCEEDED"].contains(&reason(&error)),
        "{error}"
    );
    faulty.script("");
    kek.comes_back(&client).await;
}

async fn health(rig: &Rig) -> i32 {
    use tonic_health::pb::HealthCheckRequest;
    use tonic_health::pb::health_client::HealthClient;
    let mut client = HealthClient::new(rig.channel().await);
    client
        .check(HealthCheckRequest::default())
        .await
        .unwrap()
        .into_inner()
        .status
}

/// Case 7: the module takes its process along.
#[tokio::test]
async fn a_module_that_crashes_takes_only_its_worker_along() {
    let faulty = Faulty::serving();
    let client = faulty.rig.client("lkm-1").await;
    let kek = Kek::of(&client, "recordings").await;
    for (number, end) in ["segv", "abort", "exit"].into_iter().enumerate() {
        faulty.script(&format!("C_Decrypt 1 {end}"));
        let answer = client
            .unwrap(kek.call(Padding::OaepSha1, &[4; 32]))
            .await
            .unwrap();
        assert_eq!(dek(&answer.release), [4; 32], "{end}");
        assert_eq!(faulty.restarts().await, number as u64 + 1);
    }
    assert_eq!(faulty.rig.records_with(Outcome::Released).len(), 3);
}

/// Case 8: a module that dies at each start is tried again with back-off, and the node says so.
#[tokio::test]
async fn a_module_that_dies_at_each_start_makes_no_busy_loop() {
    let faulty = Faulty::serving();
    let client = faulty.rig.client("lkm-1").await;
    let kek = Kek::of(&client, "recordings").await;
    faulty.script("C_Initialize * segv\nC_Decrypt 1 segv");
    let error = client
        .unwrap(kek.call(Padding::OaepSha1, &[1; 32]))
        .await
        .err()
        .unwrap();
    assert!(
        ["HSM_UNAVAILABLE", "DEADLINE_EXCEEDED"].contains(&reason(&error)),
        "{error}"
    );
    tokio::time::sleep(Duration::from_secs(2)).await;
    let status = faulty.rig.client("operator").await.status().await.unwrap();
    assert!(!status.ready);
    assert!(!status.problems.is_empty());
    let restarts = faulty.restarts().await;
    assert!(restarts < 20, "{restarts} restarts in about two seconds");
    faulty.script("");
    kek.comes_back(&client).await;
}

/// Case 9: a wrong PIN costs one try, however often the daemon is started.
#[test]
fn a_wrong_pin_costs_one_try() {
    let faulty = Faulty::stopped();
    fs::write(faulty.rig.dir.join("pin"), "0000000\n").unwrap();
    for _ in 0..4 {
        faulty.rig.start_refused();
    }
    assert_eq!(faulty.count("C_Login"), 1);
}

/// Case 15: a token whose attributes lie, or which lets a key out, is refused at start.
#[test]
fn a_token_that_does_not_keep_its_promises_is_refused() {
    let cases = [
        (
            "C_GetAttributeValue * lie-attribute CKA_EXTRACTABLE 01",
            "CKA_EXTRACTABLE",
        ),
        (
            "C_GetAttributeValue * lie-attribute CKA_SENSITIVE 00",
            "CKA_SENSITIVE",
        ),
        (
            "C_GetAttributeValue * lie-attribute CKA_NEVER_EXTRACTABLE 00",
            "CKA_NEVER_EXTRACTABLE",
        ),
        (
            "C_GetAttributeValue * lie-attribute CKA_LOCAL 00",
            "CKA_LOCAL",
        ),
        ("C_WrapKey * ok 24", "wrap"),
    ];
    for (rule, said) in cases {
        let faulty = Faulty::stopped();
        faulty.script(rule);
        let log = faulty.rig.start_refused();
        assert!(
            log.contains(said),
            "{rule}: the refusal does not say {said:?}:\n{log}"
        );
    }
}

/// Case 53, first half: what is refused before the HSM does not reach it.
#[tokio::test]
async fn a_refused_call_does_not_reach_the_hsm() {
    let faulty = Faulty::serving();
    let client = faulty.rig.client("lkm-1").await;
    let kek = Kek::of(&client, "recordings").await;
    let calls = |faulty: &Faulty| faulty.count("C_DecryptInit") + faulty.count("C_UnwrapKey");
    let before = calls(&faulty);
    let other = faulty.rig.client("lkm-2").await;
    for _ in 0..10 {
        let error = other
            .unwrap(kek.call(Padding::OaepSha1, &[1; 32]))
            .await
            .err()
            .unwrap();
        assert_eq!(reason(&error), "NOT_GRANTED");
        let short = kek.call_with(Padding::OaepSha1, vec![1; 100]);
        assert_eq!(
            reason(&client.unwrap(short).await.err().unwrap()),
            "INVALID_REQUEST"
        );
    }
    assert_eq!(calls(&faulty), before);
}

/// Retry count and number of private operations are the same for every bad ciphertext, in both forms
/// of release; a caller could measure them.
#[tokio::test]
async fn every_bad_ciphertext_costs_the_token_the_same() {
    let faulty = Faulty::serving();
    let client = faulty.rig.client("lkm-1").await;
    let to = RsaKey::generate();
    for (name, function) in [("recordings", "C_DecryptInit"), ("vault", "C_UnwrapKey")] {
        let kek = Kek::of(&client, name).await;
        let mut costs = Vec::new();
        for (what, wrapped) in crate::unwrap::bad_ciphertexts(&kek, Padding::OaepSha1) {
            let mut call = kek.call_with(Padding::OaepSha1, wrapped);
            if name == "vault" {
                call.recipient = Some(to.recipient());
            }
            let before = faulty.count(function);
            let error = client.unwrap(call).await.err().unwrap();
            assert_eq!(reason(&error), "UNDECRYPTABLE", "{name}: {what}");
            costs.push((faulty.count(function) - before, what));
        }
        let first = costs[0].0;
        assert!(costs.iter().all(|(cost, _)| *cost == first), "{costs:?}");
    }
}

struct RsaKey(aws_lc_rs::rsa::PrivateDecryptingKey);

impl RsaKey {
    fn generate() -> Self {
        let size = aws_lc_rs::rsa::KeySize::Rsa2048;
        Self(aws_lc_rs::rsa::PrivateDecryptingKey::generate(size).unwrap())
    }

    fn recipient(&self) -> kekd::client::Recipient {
        use aws_lc_rs::encoding::{AsDer as _, PublicKeyX509Der};
        let der: PublicKeyX509Der<'_> = self.0.public_key().as_der().unwrap();
        kekd::client::Recipient {
            spki: der.as_ref().to_vec(),
            padding: Padding::OaepSha1,
        }
    }
}

/// With PKCS#1 v1.5 bad padding is answered with a DEK; a token in trouble must not be.
#[tokio::test]
async fn a_token_in_trouble_never_turns_a_dek_into_another() {
    let faulty = Faulty::serving();
    let client = faulty.rig.client("lkm-1").await;
    let kek = Kek::of(&client, "legacy").await;
    let call = kek.call(Padding::Pkcs1V15, &[4; 32]);
    for fault in [
        "C_Decrypt 1 CKR_DEVICE_ERROR",
        "C_Decrypt 1 CKR_GENERAL_ERROR",
        "C_Decrypt 1 CKR_ENCRYPTED_DATA_INVALID",
        "C_Decrypt 1 lie CKR_FUNCTION_FAILED",
        "C_Decrypt 2 CKR_DEVICE_ERROR",
        "C_Decrypt 3 CKR_DEVICE_ERROR",
        "C_Decrypt 1 corrupt",
        "C_Decrypt 3 corrupt",
        "C_Sign 1 CKR_DEVICE_ERROR",
        "C_Decrypt 1 exit",
    ] {
        faulty.script(fault);
        let answer = client.unwrap(call.clone()).await;
        let answer = answer.unwrap_or_else(|error| panic!("{fault}: {error}"));
        assert_eq!(dek(&answer.release), [4; 32], "{fault}");
    }
    for fault in [
        "C_Decrypt * CKR_DEVICE_ERROR",
        "C_Decrypt * CKR_ENCRYPTED_DATA_INVALID",
        "C_DecryptInit * CKR_GENERAL_ERROR",
    ] {
        faulty.script(fault);
        let error = client.unwrap(call.clone()).await.err().unwrap();
        assert!(
            ["HSM_UNAVAILABLE", "DEADLINE_EXCEEDED"].contains(&reason(&error)),
            "{fault}: {error}"
        );
    }
}

/// Case 6: a module that hangs at each start ends the start, which names it, with exit code 69.
#[test]
fn a_module_that_hangs_in_initialize_ends_the_start() {
    for fault in ["C_Initialize * hang", "C_Initialize * abort"] {
        let faulty = Faulty::stopped();
        faulty.rig.set("hsm", "admin_timeout_ms = 1000");
        faulty.script(fault);
        let output = faulty.rig.kekd("serve").output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(69), "{fault}: {said}");
        assert!(said.contains("libkekd_test_fault.so"), "{said}");
        assert!(said.contains("hsm.admin_timeout_ms"), "{said}");
    }
}

/// A token that goes away while the start looks at it was not there: 69, and systemd tries again.
/// What a person must look at is 65.
#[test]
fn a_token_that_goes_away_during_the_start_is_not_a_refusal() {
    for (fault, code) in [
        ("C_GetAttributeValue * CKR_DEVICE_REMOVED", 69),
        ("C_CopyObject * CKR_DEVICE_REMOVED", 69),
        ("C_WrapKey * ok 24", 65),
    ] {
        let faulty = Faulty::stopped();
        faulty.script(fault);
        let output = faulty.rig.kekd("serve").output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(code), "{fault}: {said}");
    }
}
