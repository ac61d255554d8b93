//! A token that loses its login or its sessions: nobody is told, and there is one login for all.

use kekd::types::Padding;
use tokio::task::JoinSet;

use crate::harness::faulty::Faulty;
use crate::harness::{Kek, dek};

/// Case 4: the token loses its login, or all its sessions. Whoever asks gets the right answer, and one login
/// serves all of them.
#[tokio::test(flavor = "multi_thread")]
async fn a_lost_login_and_closed_sessions_cost_one_login() {
    let faulty = Faulty::serving();
    let client = faulty.rig.client("lkm-1").await;
    let kek = Kek::of(&client, "recordings").await;
    for how in ["log-out", "close-all-sessions"] {
        let (logins, restarts) = (faulty.count("C_Login"), faulty.restarts().await);
        faulty.script(&format!("C_DecryptInit 1 {how}"));
        for value in 0..8 {
            let answer = client
                .unwrap(kek.call(Padding::OaepSha1, &[value; 32]))
                .await;
            let answer = answer.unwrap_or_else(|error| panic!("{how}: {error}"));
            assert_eq!(dek(&answer.release), [value; 32], "{how}");
        }
        assert_eq!(faulty.count("C_Login"), logins + 1, "{how}");
        assert_eq!(faulty.restarts().await, restarts, "{how}");
    }
    let (logins, restarts) = (faulty.count("C_Login"), faulty.restarts().await);
    faulty.script("C_DecryptInit 20 log-out");
    let mut callers = JoinSet::new();
    for value in 0..8 {
        let (client, call) = (client.clone(), kek.call(Padding::OaepSha1, &[value; 32]));
        callers.spawn(async move {
            for _ in 0..10 {
                let answer = client.unwrap(call.clone()).await.unwrap();
                assert_eq!(dek(&answer.release), [value; 32]);
            }
        });
    }
    callers.join_all().await;
    assert_eq!(faulty.count("C_Login"), logins + 1, "under load");
    assert_eq!(faulty.restarts().await, restarts, "under load");
}
