//! Drafts: what cannot be written is refused, and what was written is read back as it was meant.

use proptest::prelude::*;

use super::*;

fn refusal(draft: ProposalDraft) -> String {
    Proposal::draft(draft).unwrap_err().to_string()
}

#[test]
fn a_draft_takes_its_terms_from_the_rule_and_the_kind() {
    let mut draft = draft_of(operation(OperationKind::GrantUnwrap));
    draft.rule.threshold = 3;
    draft.rule.time_lock = Duration::from_secs(60);
    let proposal = Proposal::draft(draft).unwrap();
    assert_eq!(proposal.threshold, 3);
    assert_eq!(proposal.time_lock, Duration::from_secs(60));
    assert_eq!(proposal.approvers, OperationKind::GrantUnwrap.approvers());
    assert_eq!(proposal.opened_at, UnixMs(1_795_284_000_000));
    assert_eq!(proposal.expires_at, UnixMs(1_795_284_000_000 + 7 * DAY_MS));
    assert_eq!(proposal.id, ProposalId(Sha256::of(proposal.text())));
    assert_eq!(Proposal::parse(proposal.text()), Ok(proposal));
}

#[test]
fn values_do_not_get_out_of_their_lines() {
    let keypair_id = "6f9619ff-8b86-4011-b42d-00cf4fc964ff".parse().unwrap();
    let revoke = |reason: &str| Operation::RevokeVersion {
        keypair_id,
        reason: reason.to_owned(),
    };
    for (reason, expected) in [
        (
            "lost\neffect None at all.",
            "this revoke-version cannot be written",
        ),
        ("lost\r", "line 5: expected printable ASCII"),
        ("verloren, \u{fc}", "line 5: expected printable ASCII"),
        ("", "line 5: expected a line `reason"),
        (" lost", "line 5, reason: expected 1 to 200"),
        (&"x".repeat(201), "line 5, reason: expected 1 to 200"),
    ] {
        let found = refusal(draft_of(revoke(reason)));
        assert!(found.contains(expected), "{reason:?}: {found}");
    }
    let mut draft = draft_of(operation(OperationKind::CreateKek));
    draft.proposer = "alice\nnonce 00000000000000000000000000000000".to_owned();
    assert!(refusal(draft).contains("expected a line `opened"));
    let mut draft = draft_of(operation(OperationKind::ChangeOfficers));
    let Operation::ChangeOfficers { officers } = &mut draft.operation else {
        return;
    };
    let erin = officer("erin", OfficerRole::KeyCustodian, RSA);
    officers.retain(|officer| officer.name != "dave");
    officers.push(Officer {
        name: format!("dave\nofficer {erin}"),
        ..erin
    });
    assert!(Proposal::draft(draft).is_err());
}

#[test]
fn no_kek_called_none_is_a_fallback() {
    let draft = draft_of(Operation::BindRecordingPolicy {
        key: "queue".to_owned(),
        kek: "none".parse().unwrap(),
        fallback: Some("none".parse().unwrap()),
    });
    let what = "bind-recording-policy";
    assert_eq!(
        Proposal::draft(draft),
        Err(StatementError::Unwritable { what })
    );
}

#[test]
fn a_rotation_may_follow_no_active_version() {
    let draft = draft_of(Operation::RotateKek {
        version: version("recordings"),
        retires: None,
    });
    let read = Proposal::draft(draft.clone()).unwrap();
    assert_eq!(read.operation, draft.operation);
    let text = str::from_utf8(read.text()).unwrap();
    assert!(
        text.contains("\nretires none\neffect Makes a new version of the KEK recordings, which")
    );
}

#[test]
fn terms_that_no_policy_has_are_refused() {
    let cases: [(fn(&mut ProposalDraft), &str); 8] = [
        (
            |d| d.rule.threshold = 1,
            "approvals: expected a number from 2 to 31",
        ),
        (
            |d| d.rule.threshold = 32,
            "approvals: expected a number from 2 to 31",
        ),
        (
            |d| d.rule.lifetime = Duration::ZERO,
            "expires: expected a time after",
        ),
        (
            |d| d.rule.lifetime = Duration::MAX,
            "expires: expected a time",
        ),
        (
            |d| d.rule.time_lock = d.rule.lifetime,
            "time-lock: expected a number from 0 to 604799",
        ),
        (
            |d| d.rule.time_lock = Duration::from_millis(1),
            "would mean something else",
        ),
        (|d| d.epoch = 0, "epoch: expected a number from 1"),
        (|d| d.head.size = 0, "ledger-size: expected a number from 1"),
    ];
    for (change, expected) in cases {
        let mut draft = draft_of(operation(OperationKind::GrantUnwrap));
        change(&mut draft);
        let found = refusal(draft);
        assert!(found.contains(expected), "{expected}: {found}");
    }
    let mut draft = draft_of(operation(OperationKind::DestroyVersion));
    draft.rule.time_lock = Duration::from_secs(604_799);
    assert!(refusal(draft).contains("expected a number from 604800"));
}

#[test]
fn an_execution_is_of_one_proposal() {
    let rotation = proposal(OperationKind::RotateKek);
    let execution = execution();
    assert!(execution.is_of(&rotation));
    assert!(!execution.is_of(&proposal(OperationKind::CreateKek)));
    let text = str::from_utf8(execution.text()).unwrap();
    for altered in [
        text.replace("becomes Deactivated", "becomes Destroyed"),
        text.replace("operation rotate-kek", "operation create-kek"),
        text.replace("instance 7", "instance 8"),
    ] {
        assert_ne!(altered, text);
        let altered = Execution::parse(altered.as_bytes()).unwrap();
        assert!(!altered.is_of(&rotation));
    }
}

#[test]
fn parameters_are_read_from_names_and_values() {
    for kind in OperationKind::ALL {
        let operation = operation(kind).settled();
        let lines = operation.lines().into_iter();
        let mut lines: Vec<_> = lines.map(|(name, v)| (name.to_owned(), v)).collect();
        let read = Operation::parse_lines(kind.name(), &lines);
        assert_eq!(read, Ok(operation));
        lines.push(("more".to_owned(), "of it".to_owned()));
        assert!(Operation::parse_lines(kind.name(), &lines).is_err());
        assert!(Operation::parse_lines("create-keks", &lines).is_err());
    }
}

proptest! {
    /// Whatever text a value is: it is refused, or it is read back as it was.
    #[test]
    fn texts_are_read_back_or_refused(
        reason in "[ -~\n]{0,24}",
        key in "[ -~\n]{0,24}",
        proposer in "[ -~\n]{0,24}",
        subject in "(CN=)?[ -~\n]{0,24}",
    ) {
        let keypair_id = "6f9619ff-8b86-4011-b42d-00cf4fc964ff".parse().unwrap();
        let version = NewVersion { certificate_subject: subject, ..version("a") };
        for operation in [
            Operation::RevokeVersion { keypair_id, reason: reason.clone() },
            Operation::UnbindRecordingPolicy { key: key.clone() },
            Operation::CreateKek(version),
        ] {
            let draft = ProposalDraft { proposer: proposer.clone(), ..draft_of(operation.clone()) };
            if let Ok(read) = Proposal::draft(draft) {
                prop_assert_eq!(read.operation, operation);
                prop_assert_eq!(&read.proposer, &proposer);
            }
        }
    }

    #[test]
    fn numbers_and_times_are_read_back(
        unwraps in 1..u64::MAX,
        first in 0..253_402_207_200_u64,
        last in 0..253_402_207_200_u64,
        unused_days in 0..=3650_u32,
        nonce in any::<[u8; 16]>(),
        opened in 0..250_000_000_000_u64,
    ) {
        let keypair_id = "6f9619ff-8b86-4011-b42d-00cf4fc964ff".parse().unwrap();
        let usage = Usage {
            unwraps,
            first: Some(UnixMs(first.min(last) * 1000)),
            last: Some(UnixMs(first.max(last) * 1000)),
        };
        let operation = Operation::DestroyVersion { keypair_id, unused_days, usage };
        let draft = ProposalDraft {
            nonce,
            opened_at: UnixMs(opened * 1000),
            ..draft_of(operation.clone())
        };
        let read = Proposal::draft(draft).unwrap();
        prop_assert_eq!(read.operation, operation);
        prop_assert_eq!((read.nonce, read.opened_at), (nonce, UnixMs(opened * 1000)));
    }
}
