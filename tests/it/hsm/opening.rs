//! Start-up: what is found, what is refused, and that no PIN is tried twice.

use kekd::hsm::{HsmError, HsmState};
use kekd::types::Next;

use super::harness::Rig;

#[tokio::test]
async fn an_open_token_says_who_it_is_and_what_it_does() {
    let rig = Rig::new("kekd opening", "kek-rsa-3072");
    let hsm = rig.open(rig.config()).await;
    let token = hsm.opened().await.unwrap();
    assert_eq!(
        (&token.label, &token.serial),
        (&rig.token.label, &rig.token.serial)
    );
    let capabilities = hsm.probe().await.unwrap();
    assert!(
        capabilities.names().contains(&"oaep-sha1"),
        "{capabilities:?}"
    );
    assert!(
        capabilities.names().contains(&"ecdsa-p256"),
        "{capabilities:?}"
    );
    let status = hsm.status();
    assert!(matches!(status.state, HsmState::Ready));
    assert_eq!(status.token, Some(token));
    assert_eq!(status.capabilities, Some(capabilities));
    assert_eq!((status.queue_len, status.worker_restarts), (0, 0));
    hsm.shutdown().await;
    assert!(hsm.status().worker_pid.is_none());
}

#[tokio::test]
async fn a_wrong_pin_is_tried_once_and_never_again() {
    let rig = Rig::new("kekd wrong pin", "kek-rsa-3072");
    rig.token.write_pin("11111111");
    let hsm = rig.start(rig.config());
    let error = hsm.opened().await.unwrap_err();
    assert!(matches!(error, HsmError::PinRefused { .. }), "{error}");
    assert!(error.to_string().contains("hsm.pin_file"), "{error}");
    assert_eq!(error.next(), Next::Fatal);
    // Whoever calls is told the same, and no second worker has been started.
    let refused = rig.unwrap(&hsm, &rig.job(&[1; 32])).await.unwrap_err();
    assert!(matches!(refused, HsmError::PinRefused { .. }), "{refused}");
    let status = hsm.status();
    assert!(matches!(status.state, HsmState::Refused { .. }));
    assert_eq!((status.worker_restarts, status.worker_pid), (0, None));
    hsm.shutdown().await;
    // A restart of the daemon does not log in either.
    let again = rig.start(rig.config());
    let error = again.opened().await.unwrap_err();
    assert!(matches!(error, HsmError::PinWithheld { .. }), "{error}");
    again.shutdown().await;
    // The right PIN is another one than was refused.
    rig.token.write_pin(crate::softhsm::PIN);
    let hsm = rig.open(rig.config()).await;
    assert_eq!(rig.unwrap(&hsm, &rig.job(&[1; 32])).await.unwrap(), [1; 32]);
    hsm.shutdown().await;
}

#[tokio::test]
async fn what_the_settings_get_wrong_stops_the_start_and_names_the_setting() {
    let rig = Rig::new("kekd settings", "kek-rsa-3072");
    let good = rig.config();
    let cases = [
        (
            "hsm.token_serial",
            kekd::config::HsmConfig {
                token_serial: "0000".to_owned(),
                ..good.clone()
            },
        ),
        (
            "hsm.module",
            kekd::config::HsmConfig {
                module: "/none/module.so".into(),
                ..good.clone()
            },
        ),
        (
            "hsm.pin_file",
            kekd::config::HsmConfig {
                pin_file: "/none/pin".into(),
                ..good
            },
        ),
    ];
    for (setting, config) in cases {
        let hsm = rig.start(config);
        let error = hsm.opened().await.unwrap_err().to_string();
        assert!(error.contains(setting), "{error}");
        hsm.shutdown().await;
    }
}
