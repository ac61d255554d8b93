//! Finding the token and logging in: once, and never with a PIN that was refused.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use kekd::proto::worker::{FailureKind, Inventory, Ping, request::Op, response::Result as Answer};

use super::harness::{Worker, kind, open_request};
use crate::softhsm::SoftHsm;

#[test]
fn a_token_is_found_by_label_and_serial() {
    let token = SoftHsm::new("opening");
    let mut worker = Worker::start(&token);
    assert!(matches!(
        worker.call(Op::Ping(Ping {})),
        Ok(Answer::Pong(_))
    ));
    // What is for a session waits until there is one.
    let early = worker.send(Op::Inventory(Inventory {}));
    let opened = worker.try_open(&open_request(&token)).unwrap();
    assert_eq!(opened.label, "opening");
    assert_eq!(opened.serial, token.serial);
    assert!(!opened.pin_count_low);
    assert!(matches!(worker.receive(early), Ok(Answer::Objects(_))));
    let again = worker.try_open(&open_request(&token)).unwrap_err();
    assert_eq!(kind(&again), FailureKind::BadRequest);
    assert!(worker.close().success());
}

#[test]
fn another_serial_or_label_is_no_token() {
    let token = SoftHsm::new("serial");
    for (label, serial) in [("serial", "0000000000000000"), ("other", &token.serial)] {
        let mut open = open_request(&token);
        open.token_label = label.to_owned();
        open.token_serial = serial.to_owned();
        let mut worker = Worker::start(&token);
        let failure = worker.try_open(&open).unwrap_err();
        assert_eq!(kind(&failure), FailureKind::TokenNotFound);
        // The operator is told what there is.
        let seen = format!("label \"serial\" serial {:?}", token.serial);
        assert!(failure.detail.contains(&seen), "{}", failure.detail);
        // It is no second chance for the same process.
        let again = worker.try_open(&open_request(&token)).unwrap_err();
        assert_eq!(kind(&again), FailureKind::BadRequest);
        assert!(worker.close().success());
    }
}

#[test]
fn a_module_that_is_none_is_named() {
    let token = SoftHsm::new("module");
    let mut open = open_request(&token);
    open.module = token.pin_file().display().to_string();
    let failure = Worker::start(&token).try_open(&open).unwrap_err();
    assert_eq!(kind(&failure), FailureKind::Module);
    assert!(failure.detail.contains(&open.module), "{}", failure.detail);
}

#[test]
fn a_refused_pin_is_offered_once_and_another_may_try() {
    let token = SoftHsm::new("pin");
    token.write_pin("00000000");
    let failure = Worker::start(&token)
        .try_open(&open_request(&token))
        .unwrap_err();
    assert_eq!(kind(&failure), FailureKind::PinRefused);
    assert_eq!(failure.return_value, "CKR_PIN_INCORRECT");
    let mark = fs::read_to_string(token.pin_mark_file()).unwrap();
    assert!(mark.starts_with("kekd-pin-refused-v1 salt="), "{mark}");
    assert!(!mark.contains("00000000"));
    for _ in 0..3 {
        let failure = Worker::start(&token)
            .try_open(&open_request(&token))
            .unwrap_err();
        assert_eq!(kind(&failure), FailureKind::PinWithheld);
        assert_eq!(failure.return_value, "");
    }
    // Another PIN gets its one attempt, is right, and takes the mark away.
    token.write_pin(crate::softhsm::PIN);
    let opened = Worker::start(&token)
        .try_open(&open_request(&token))
        .unwrap();
    assert!(opened.pin_count_low);
    assert!(!token.pin_mark_file().exists());
    let opened = Worker::start(&token)
        .try_open(&open_request(&token))
        .unwrap();
    assert!(!opened.pin_count_low);
}

#[test]
fn without_a_place_for_the_mark_nothing_is_tried() {
    let token = SoftHsm::new("no-mark");
    let mut open = open_request(&token);
    open.pin_mark_file = token
        .path()
        .join("nowhere/pin-refused")
        .display()
        .to_string();
    let failure = Worker::start(&token).try_open(&open).unwrap_err();
    assert_eq!(kind(&failure), FailureKind::PinWithheld);
    fs::write(token.pin_mark_file(), "scribbled\n").unwrap();
    let failure = Worker::start(&token)
        .try_open(&open_request(&token))
        .unwrap_err();
    assert_eq!(kind(&failure), FailureKind::PinWithheld);
}

#[test]
fn a_pin_file_others_can_read_is_refused() {
    let token = SoftHsm::new("pin-mode");
    fs::set_permissions(token.pin_file(), fs::Permissions::from_mode(0o644)).unwrap();
    let failure = Worker::start(&token)
        .try_open(&open_request(&token))
        .unwrap_err();
    assert_eq!(kind(&failure), FailureKind::PinUnreadable);
    assert!(failure.detail.contains("0644"), "{}", failure.detail);
}

#[test]
fn a_worker_is_not_started_by_hand_and_its_memory_is_its_own() {
    let by_hand = std::process::Command::new(env!("CARGO_BIN_EXE_kekd"))
        .arg("hsm-worker")
        .stdin(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .status()
        .unwrap();
    assert!(!by_hand.success());
    let token = SoftHsm::new("memory");
    let worker = Worker::open(&token);
    // PR_SET_DUMPABLE=0 gives the process's files to root.
    let owner = |path: &str| {
        use std::os::unix::fs::MetadataExt;
        fs::metadata(path).unwrap().uid()
    };
    assert_eq!(owner(&format!("/proc/{}/mem", worker.pid())), 0);
}
