//! What a genesis document may say of how the instance is governed.

use super::*;
use crate::quorum::OperationKind;

#[test]
fn a_document_may_set_rules_and_name_who_recovers() {
    let text = document(&[("alice", ALICE), ("bob", BOB)], 2);
    let genesis = parse(&text).unwrap();
    let recover = genesis.policy().rule(OperationKind::Recover);
    assert!(genesis.recovery().is_none() && !recover.allowed);
    assert_eq!(genesis.policy().rule(OperationKind::RotateKek).threshold, 2);

    let keys = Keys::new();
    let (dora, emil) = (
        keys.make("dora", "ed25519", "256"),
        keys.make("emil", "ecdsa", "256"),
    );
    let rules = "threshold = 2\nproposer_may_approve = true\nopen_max_per_officer = 3\n\n\
         [[policy.rule]]\noperation = \"rotate-kek\"\ntime_lock_seconds = 60\n\n\
         [[policy.rule]]\noperation = \"import-kek\"\nallowed = false\nlifetime_seconds = 9";
    let recovery = format!(
        "\n[recovery]\nthreshold = 2\n\n[[recovery.officer]]\nname = \"dora\"\nkey = \"{dora}\"\n\n\
         [[recovery.officer]]\nname = \"emil\"\nkey = \"{emil}\"\n"
    );
    let full = text.replace("threshold = 2", rules) + &recovery;
    let genesis = parse(&full).unwrap();
    let policy = genesis.policy();
    assert!(policy.proposer_may_approve);
    assert_eq!(policy.open_max_per_officer, 3);
    assert_eq!(
        policy.rule(OperationKind::RotateKek).time_lock.as_secs(),
        60
    );
    let import = policy.rule(OperationKind::ImportKek);
    assert_eq!((import.allowed, import.lifetime.as_secs()), (false, 9));
    let recover = policy.rule(OperationKind::Recover);
    assert_eq!((recover.allowed, recover.threshold), (true, 2));
    assert_eq!(recover.time_lock.as_secs(), 72 * 3600);
    assert_eq!(genesis.recovery().unwrap().officers.len(), 2);
    // Nobody who recovers signs a genesis.
    assert_eq!(genesis.officers().len(), 2);

    let cases = [
        (
            full.replace("\"import-kek\"", "\"rotate-kek\""),
            "for \"rotate-kek\" is there twice",
        ),
        (
            full.replace("\"import-kek\"", "\"recover\""),
            "has its rule in [recovery]",
        ),
        (
            full.replace("\"import-kek\"", "\"import\""),
            "found \"import\"",
        ),
        (
            full.replace("\"import-kek\"", "\"reinstate\""),
            "reinstate: expected it to be allowed",
        ),
        (
            full.replace("_seconds = 60", "_seconds = 604800"),
            "policy: rotate-kek: expected a time-lock",
        ),
        (
            full.replace("officer = 3", "officer = 0"),
            "1 to 64 open proposals",
        ),
        (
            full.replace("[recovery]\nthreshold = 2", "[recovery]\nthreshold = 3"),
            "found 3 with 2",
        ),
        (
            full.replace("[recovery]\nthreshold = 2", "[recovery]\nthreshold = 1"),
            "found 1 with 2",
        ),
        (
            full.replace("\"emil\"", "\"alice\""),
            "\"alice\" is there twice",
        ),
        (
            full.replace(&emil, ALICE),
            "\"alice\" and \"emil\" have one key",
        ),
        (
            full.replace(&emil, &dora),
            "\"dora\" and \"emil\" have one key",
        ),
        (
            full.replace("[recovery]", "[recovery]\nrole = 1"),
            "unknown field `role`",
        ),
    ];
    for (text, reason) in cases {
        assert_ne!(text, full, "{reason}");
        let found = parse(&text).unwrap_err().to_string();
        assert!(found.contains(reason), "{reason}: {found}");
    }
}
