//! A legacy key that is brought in becomes active only once a required replica holds it.

use kekd::proto::v1::{CoverState, ProposalPhase};

use super::{Legacy, begun, deliver, done, old_deks_unwrap, wrapped};
use crate::harness::reason;
use crate::officers::Officers;
use crate::tokens::{clone_keys, cover_when, serving};

#[tokio::test(flavor = "multi_thread")]
async fn an_import_waits_for_a_required_replica_across_a_kill() {
    let rig = serving(&[("b", "")]).await;
    let officers = Officers::of(&rig).await;
    let legacy = Legacy::new(2048);
    let id = begun(&officers, &legacy).await;
    let file = wrapped(&rig, id, &legacy, "key.pem");
    done(&deliver(&rig, id, &file));
    let shown = officers.client.get_proposal(id.0).await.unwrap();
    assert_eq!(shown.phase(), ProposalPhase::Executing);
    assert!(shown.waits_for.contains("waits for tokens b"), "{shown:?}");
    // It is delivered once: there is nothing more to wrap for.
    assert!(!deliver(&rig, id, &file).status.success());
    let again = officers.client.transport_key(id.0).await.err().unwrap();
    assert_eq!(reason(&again), "NOT_ACCEPTED");

    rig.kill();
    rig.start();
    clone_keys(&rig);
    let officers = Officers::of(&rig).await;
    while officers.phase(id).await == ProposalPhase::Executing {
        tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    }
    assert_eq!(officers.phase(id).await, ProposalPhase::Executed);
    let operator = rig.client("operator").await;
    cover_when(&operator, "old", "b", CoverState::Proven).await;
    old_deks_unwrap(&rig, &officers, &legacy).await;
}
