//! Modules that hang, crash and lie, by script: which faults cost a worker, and that all pass.

use kekd::config::HsmConfig;
use kekd::hsm::{HsmError, HsmState};
use kekd::types::Next;

use super::harness::Rig;

#[tokio::test]
async fn one_fault_costs_no_caller_an_answer() {
    let rig = Rig::new("kekd one fault", "kek-rsa-3072");
    // The fault, and whether it takes a new worker to get over it.
    let cases = [
        ("C_Decrypt 1 hang", true),
        ("C_Decrypt 1 segv", true),
        ("C_Decrypt 1 exit", true),
        ("C_Decrypt 1 CKR_DEVICE_REMOVED", true),
        ("C_Decrypt 1 CKR_DEVICE_ERROR", false),
        ("C_Decrypt 1 CKR_SESSION_HANDLE_INVALID", false),
        ("C_Decrypt 1 delay 100", false),
    ];
    let hsm = rig.open(rig.faulty_config()).await;
    let mut restarts = 0;
    for (fault, is_lost) in cases {
        rig.script(fault);
        let dek = rig.unwrap(&hsm, &rig.job(&[6; 32])).await;
        assert_eq!(dek.unwrap(), [6; 32], "{fault}");
        restarts += u64::from(is_lost);
        assert_eq!(hsm.status().worker_restarts, restarts, "{fault}");
    }
    hsm.shutdown().await;
}

#[tokio::test]
async fn a_token_that_is_gone_is_refused_at_once_and_used_again_when_it_is_back() {
    let rig = Rig::new("kekd gone", "kek-rsa-3072");
    let hsm = rig.open(rig.faulty_config()).await;
    for fault in [
        "* * CKR_DEVICE_REMOVED",
        "C_Initialize * segv\nC_Decrypt * segv",
        "C_Decrypt * hang",
    ] {
        rig.script(fault);
        let error = rig.unwrap(&hsm, &rig.job(&[7; 32])).await.unwrap_err();
        assert_eq!(error.next(), Next::TryAgain, "{fault}: {error}");
        let mut state = hsm.changed();
        let unavailable = |state: &HsmState| matches!(state, HsmState::Unavailable { .. });
        state.wait_for(unavailable).await.unwrap();
        rig.script("");
        let ready = |state: &HsmState| matches!(state, HsmState::Ready);
        state.wait_for(ready).await.unwrap();
        let dek = rig.unwrap(&hsm, &rig.job(&[7; 32])).await;
        assert_eq!(dek.unwrap(), [7; 32], "{fault}");
    }
    hsm.shutdown().await;
}

#[tokio::test]
async fn a_module_that_hangs_at_the_start_is_started_again() {
    let rig = Rig::new("kekd hang at start", "kek-rsa-3072");
    rig.script("C_Initialize 1 hang");
    let hsm = rig.start(HsmConfig {
        admin_timeout_ms: 5_000,
        coverage_timeout_ms: 60_000,
        ..rig.faulty_config()
    });
    hsm.opened().await.unwrap();
    assert_eq!(hsm.status().worker_restarts, 1);
    hsm.shutdown().await;
}

#[tokio::test]
async fn a_module_that_always_hangs_at_the_start_is_given_up_and_named() {
    let rig = Rig::new("kekd hang at every start", "kek-rsa-3072");
    for fault in ["C_Initialize * hang", "C_Initialize * segv"] {
        rig.script(fault);
        let hsm = rig.start(HsmConfig {
            admin_timeout_ms: 1_000,
            coverage_timeout_ms: 60_000,
            ..rig.faulty_config()
        });
        let error = hsm.opened().await.unwrap_err();
        assert_eq!(error.next(), Next::TryAgain, "{fault}");
        let said = error.to_string();
        for words in [
            "libkekd_test_fault.so",
            "hsm.module",
            "hsm.admin_timeout_ms",
        ] {
            assert!(said.contains(words), "{fault}: {said}");
        }
        hsm.shutdown().await;
    }
}

#[tokio::test]
async fn a_change_that_was_cut_short_is_not_made_twice() {
    let rig = Rig::new("kekd cut short", "kek-rsa-3072");
    let hsm = rig.open(rig.faulty_config()).await;
    rig.script("C_CreateObject 1 segv");
    let kind = kekd::hsm::DataKind::Fixed;
    let error = hsm.write_data("kekd pin", b"once", kind).await.unwrap_err();
    assert!(matches!(error, HsmError::OutcomeUnknown { .. }), "{error}");
    assert_eq!(error.next(), Next::Fatal);
    assert!(hsm.read_data(["kekd pin"]).await.unwrap()[0].is_empty());
    rig.script("C_CreateObject 1 exit");
    let kind = kekd::hsm::DataKind::Replace;
    hsm.write_data("kekd head", b"1", kind).await.unwrap();
    assert_eq!(hsm.read_data(["kekd head"]).await.unwrap(), [[b"1"]]);
    hsm.shutdown().await;
}

#[tokio::test]
async fn a_wrong_pin_costs_one_login_across_restarts() {
    let rig = Rig::new("kekd logins", "kek-rsa-3072");
    rig.token.write_pin("11111111");
    for _ in 0..3 {
        let hsm = rig.start(rig.faulty_config());
        assert_eq!(hsm.opened().await.unwrap_err().next(), Next::Fatal);
        hsm.shutdown().await;
    }
    assert_eq!(rig.logins(), 1);
}

#[tokio::test]
async fn a_login_refused_to_a_later_worker_is_the_last() {
    let rig = Rig::new("kekd relogin", "kek-rsa-3072");
    let hsm = rig.open(rig.faulty_config()).await;
    rig.script("C_Decrypt 1 segv\nC_Login * CKR_PIN_INCORRECT");
    let error = rig.unwrap(&hsm, &rig.job(&[8; 32])).await.unwrap_err();
    assert!(matches!(error, HsmError::PinRefused { .. }), "{error}");
    assert!(matches!(hsm.status().state, HsmState::Refused { .. }));
    assert_eq!((hsm.status().worker_restarts, rig.logins()), (1, 2));
    hsm.shutdown().await;
}
