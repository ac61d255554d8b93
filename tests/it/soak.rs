//! Case 22: many unwraps, in the clear and for a recipient, leave no object in the token, no session and no
//! memory behind. A short one here; a million with `make soak`.

use kekd::client::{Recipient, UnwrapCall};
use kekd::types::Padding;

use crate::harness::faulty::Faulty;
use crate::harness::{Kek, Rig, dek, test_module};
use crate::limits::resident_kib;

/// Unwraps so many times over one stream, every `wrapped_each`-th for a recipient.
async fn unwraps(rig: &Rig, count: usize, wrapped_each: usize) {
    let client = rig.client("lkm-1").await;
    let clear = Kek::of(&client, "recordings").await;
    let clear = clear.call(Padding::OaepSha1, &[5; 32]);
    // Whose key it is matters to nobody here.
    let vault = Kek::of(&client, "vault").await;
    let wrapped = UnwrapCall {
        recipient: Some(Recipient {
            spki: vault.public_key.spki().to_vec(),
            padding: Padding::OaepSha1,
        }),
        ..vault.call(Padding::OaepSha1, &[6; 32])
    };
    for begin in (0..count).step_by(10_000) {
        let (clear, wrapped) = (clear.clone(), wrapped.clone());
        let calls = (begin..count.min(begin + 10_000)).map(move |number| UnwrapCall {
            request_id: Some(format!("soak-{number}").parse().unwrap()),
            ..match number % wrapped_each {
                0 => wrapped.clone(),
                _ => clear.clone(),
            }
        });
        let mut answers = client
            .unwrap_stream(tokio_stream::iter(calls))
            .await
            .unwrap();
        while let Some(answer) = answers.next().await {
            let answer = answer.unwrap();
            let released = answer.outcome.unwrap();
            let number: usize = answer.request_id["soak-".len()..].parse().unwrap();
            if !number.is_multiple_of(wrapped_each) {
                assert_eq!(dek(&released.release), [5; 32]);
            }
        }
    }
}

async fn memory(rig: &Rig) -> u64 {
    resident_kib(rig.daemon_pid()) + resident_kib(rig.worker_pid().await)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_unwraps_leave_nothing_in_the_token() {
    let faulty = Faulty::of(Rig::stopped());
    faulty.rig.start();
    unwraps(&faulty.rig, 64, 8).await;
    let count = |made: &[&str]| made.iter().map(|name| faulty.count(name)).sum::<usize>();
    let objects = || {
        let made = count(&["C_CreateObject", "C_UnwrapKey", "C_GenerateKey"]);
        (made, count(&["C_DestroyObject"]))
    };
    let before = objects();
    let sessions = count(&["C_OpenSession"]) - count(&["C_CloseSession"]);
    unwraps(&faulty.rig, 1_000, 4).await;
    let after = objects();
    assert!(
        after.0 - before.0 >= 500,
        "an object for each recipient and each DEK"
    );
    assert_eq!(
        after.0 - before.0,
        after.1 - before.1,
        "objects stay in the token"
    );
    let open = count(&["C_OpenSession"]) - count(&["C_CloseSession"]);
    assert_eq!(open, sessions, "sessions stay open");
}

/// On the `null` module, whose second decryption costs nothing: `make soak`.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes minutes; make soak"]
#[expect(clippy::print_stdout, reason = "the figures are what this is for")]
#[expect(
    clippy::disallowed_methods,
    reason = "how long it takes is for whoever runs it"
)]
async fn a_million_unwraps() {
    let rig = Rig::stopped();
    let module = test_module("kekd_test_null");
    rig.edit("kekd.toml", |text| {
        let old = text.lines().find(|line| line.starts_with("module"));
        let new = format!("module = \"{}\"", module.display());
        text.replace(old.unwrap(), &new)
    });
    rig.start();
    let count = std::env::var_os("SOAK_UNWRAPS");
    let count = count.map_or(1_000_000, |count| count.to_str().unwrap().parse().unwrap());
    let restarts = async || {
        let status = rig.client("operator").await.status().await.unwrap();
        status.token.unwrap().worker_restarts
    };
    unwraps(&rig, count / 20, 1_000).await;
    let (before, restarted) = (memory(&rig).await, restarts().await);
    unwraps(&rig, count, 1_000).await;
    let after = memory(&rig).await;
    println!("{count} unwraps: {before} KiB became {after} KiB");
    assert!(after * 20 <= before * 21, "{before} KiB became {after} KiB");
    assert_eq!(restarts().await, restarted);
}
