//! The daemon is killed while a key comes in. Wherever that hits it, the same delivery made again
//! brings the key in, once.

use std::time::Duration;

use kekd::proto::v1::ProposalPhase;
use rustix::process::{Pid, Signal, kill_process};

use super::{Legacy, begun, deliver, done, nothing_else_is_in_the_token, objects, read, wrapped};
use super::{old_deks_unwrap, problems};
use crate::harness::Rig;
use crate::officers::Officers;

/// From before the first call into the HSM to after the last entry, on a fast machine and a slow
/// one; what each meets is not asserted.
const KILLED_AFTER_MS: [u64; 12] = [1, 5, 10, 20, 40, 60, 80, 100, 150, 200, 300, 450];

#[tokio::test(flavor = "multi_thread")]
async fn killed_at_any_moment_a_key_comes_in_once() {
    let rig = Rig::serving();
    let officers = Officers::of(&rig).await;
    let legacy = Legacy::new(2048);
    let id = begun(&officers, &legacy).await;
    let file = wrapped(&rig, id, &legacy, "key.pem");
    for after in KILLED_AFTER_MS {
        let client = officers.client.clone();
        let message = read(id, &file);
        let delivery = tokio::spawn(async move { client.deliver_import(message).await });
        tokio::time::sleep(Duration::from_millis(after)).await;
        let daemon = i32::try_from(rig.daemon_pid()).unwrap();
        kill_process(Pid::from_raw(daemon).unwrap(), Signal::KILL).unwrap();
        delivery.await.unwrap().ok();
        rig.start();
        let phase = officers.phase(id).await;
        if phase == ProposalPhase::Executed {
            break;
        }
        assert_eq!(phase, ProposalPhase::Executing, "{after} ms");
    }
    if officers.phase(id).await == ProposalPhase::Executing {
        done(&deliver(&rig, id, &file));
    }
    old_deks_unwrap(&rig, &officers, &legacy).await;
    assert_eq!(objects(&rig).matches("kekd kek old/1").count(), 2);
    nothing_else_is_in_the_token(&rig);
    assert_eq!(problems(&rig).await, Vec::<String>::new());
}
