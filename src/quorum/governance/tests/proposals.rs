//! What may be put forward.

use super::refused;
use super::signing::Person;
use super::stage::{DAY, Deed, HOUR, SECOND, Stage, id, kek, new_version};
use crate::clock::UnixMs;
use crate::quorum::governance::{Phase, Refusal};
use crate::quorum::sshsig::SignatureError;
use crate::quorum::{
    APPROVAL_NAMESPACE, Mandate, Operation, PROPOSAL_NAMESPACE, Proposal, StatementError, Target,
};
use crate::types::Sha256;

fn grant(name: &str) -> Operation {
    Operation::GrantUnwrap {
        identity: name.parse().unwrap(),
        kek: kek("a"),
    }
}

fn create(name: &str) -> Operation {
    Operation::CreateKek(new_version(name))
}

#[test]
fn a_proposal_for_another_instance_epoch_or_history_is_refused() {
    let mut stage = Stage::new();
    let alice = Person::of("alice");
    let good = stage.draft("alice", create("b"));
    let mut draft = good.clone();
    draft.instance_id = Sha256::of(b"another");
    refused!(stage.put(alice, draft), Refusal::InstanceWrong { .. });
    for epoch in [2, u64::MAX] {
        let mut draft = good.clone();
        draft.epoch = epoch;
        refused!(stage.put(alice, draft), Refusal::EpochWrong { .. });
    }
    for size in [1, 3, u64::MAX] {
        let mut draft = good.clone();
        draft.head.size = size;
        refused!(stage.put(alice, draft), Refusal::HeadUnknown { .. });
    }
    let known = stage.put(alice, good.clone()).unwrap();
    refused!(stage.put(alice, good), Refusal::ProposalKnown(found) if found == known);
}

#[test]
fn altered_operation_text_by_one_byte_is_refused_everywhere() {
    let mut stage = Stage::new();
    let alice = Person::of("alice");
    let proposal = Proposal::draft(stage.draft("alice", create("b"))).unwrap();
    let signature = alice.sign(PROPOSAL_NAMESPACE, proposal.text());
    for at in 0..proposal.text().len() {
        let mut text = proposal.text().to_vec();
        text[at] ^= 1;
        let found = stage.take(&Deed::Open(text, signature.clone()));
        assert!(found.is_err(), "byte {at}");
    }
    for extra in ["\n", " ", "x", "\0"] {
        let text = [proposal.text(), extra.as_bytes()].concat();
        let found = stage.take(&Deed::Open(text, signature.clone()));
        refused!(found, Refusal::Statement(_));
    }
    let crlf = String::from_utf8(proposal.text().to_vec())
        .unwrap()
        .replace('\n', "\r\n");
    let signed = alice.sign(PROPOSAL_NAMESPACE, crlf.as_bytes());
    let found = stage.take(&Deed::Open(crlf.into_bytes(), signed));
    refused!(
        found,
        Refusal::Statement(StatementError::NotPrintable { .. })
    );
    stage
        .take(&Deed::Open(proposal.text().to_vec(), signature))
        .unwrap();
}

#[test]
fn only_an_officer_of_the_role_proposes_and_in_the_own_name() {
    let mut stage = Stage::new();
    let unknown = |found| {
        refused!(
            found,
            Refusal::Signature(SignatureError::SignerUnknown { .. })
        );
    };
    unknown(stage.open("dave", create("b")));
    unknown(stage.open("alice", grant("uid:7")));
    unknown(stage.open("rita", create("b")));
    unknown(stage.open("mallory", create("b")));
    let draft = stage.draft("alice", create("b"));
    refused!(
        stage.put(Person::of("bob"), draft),
        Refusal::SignedByAnother { .. }
    );
    // A signature that means an approval opens nothing.
    let proposal = Proposal::draft(stage.draft("alice", create("b"))).unwrap();
    let signature = Person::of("alice").sign(APPROVAL_NAMESPACE, proposal.text());
    let found = stage.take(&Deed::Open(proposal.text().to_vec(), signature));
    refused!(
        found,
        Refusal::Signature(SignatureError::NamespaceWrong { .. })
    );
}

#[test]
fn a_statement_that_says_another_rule_than_the_policy_is_refused() {
    let mut stage = Stage::new();
    let good = stage.draft("alice", create("b"));
    let seconds = std::time::Duration::from_secs;
    for change in [
        |rule: &mut crate::quorum::Rule, _| rule.threshold = 3,
        |rule: &mut crate::quorum::Rule, by| rule.time_lock += by,
        |rule: &mut crate::quorum::Rule, by| rule.lifetime += by,
        |rule: &mut crate::quorum::Rule, by| rule.lifetime -= by,
    ] {
        let mut draft = good.clone();
        change(&mut draft.rule, seconds(1));
        refused!(
            stage.put(Person::of("alice"), draft),
            Refusal::RuleDiffers { .. }
        );
    }
}

#[test]
fn what_the_policy_forbids_is_not_put_forward() {
    let genesis = super::stage::genesis_with(
        "threshold = 2\n[[policy.rule]]\noperation = \"create-kek\"\nallowed = false",
    );
    let mut stage = Stage::born(&genesis);
    refused!(stage.open("alice", create("b")), Refusal::NotAllowed { .. });
}

#[test]
fn a_proposal_opens_neither_in_the_future_nor_after_its_end() {
    let mut stage = Stage::new();
    let alice = Person::of("alice");
    let mut draft = stage.draft("alice", create("b"));
    let now = stage.now.0;
    draft.opened_at = UnixMs(now + 301 * SECOND);
    refused!(stage.put(alice, draft.clone()), Refusal::Time { .. });
    draft.opened_at = UnixMs(now - 7 * DAY);
    refused!(stage.put(alice, draft.clone()), Refusal::Time { .. });
    draft.opened_at = UnixMs(now - 7 * DAY + SECOND);
    let late = stage.put(alice, draft).unwrap();
    assert_eq!(stage.phase(late), Phase::Open);
    stage.now.0 += SECOND;
    assert_eq!(
        stage.phase(late),
        Phase::Expired,
        "an old date buys no time"
    );
}

#[test]
fn operations_that_do_not_fit_are_not_put_forward() {
    let mut stage = Stage::rotated();
    let rotate = |name: &str, retires| Operation::RotateKek {
        version: new_version(name),
        retires: Some(retires),
    };
    refused!(stage.open("alice", create("a")), Refusal::KekExists(_));
    refused!(stage.open("alice", rotate("b", id(1))), Refusal::Keyring(_));
    refused!(
        stage.open("alice", rotate("a", id(1))),
        Refusal::ActiveDiffers { .. }
    );
    let import = Operation::ImportKek {
        version: new_version("b"),
        spki_sha256: Sha256::of(id(1).as_bytes()),
    };
    refused!(stage.open("alice", import), Refusal::IdInUse(_));
    let reinstate = Operation::Reinstate(Target::All);
    refused!(stage.open("alice", reinstate), Refusal::Nothing { .. });
    let reinstate = Operation::Reinstate(Target::Kek(kek("a")));
    refused!(stage.open("alice", reinstate), Refusal::Nothing { .. });
    let withdraw = Operation::WithdrawRotationMandate { kek: kek("a") };
    refused!(stage.open("alice", withdraw), Refusal::Nothing { .. });
    let unbind = Operation::UnbindRecordingPolicy {
        key: "queue".to_owned(),
    };
    refused!(stage.open("dave", unbind), Refusal::Nothing { .. });
    refused!(stage.open("dave", grant("uid:1000")), Refusal::Access(_));
    let mandate = Operation::SetRotationMandate(Mandate {
        version: new_version("a"),
        period_days: 30,
        interval_days_min: 10,
        until: stage.now,
        warn_days: vec![],
    });
    refused!(stage.open("alice", mandate), Refusal::Time { .. });
    let cancel = stage.open("bob", create("b")).unwrap();
    let cancel = Operation::CancelDestruction { proposal: cancel };
    refused!(stage.open("alice", cancel), Refusal::NotAsApproved { .. });
    let destroy_active = super::destruction::destroy(id(2));
    refused!(
        stage.open("alice", destroy_active),
        Refusal::NotAsApproved { .. }
    );
}

#[test]
fn proposal_flood_of_10_000_is_bounded_by_quota_and_a_real_one_stays_approvable() {
    let mut stage = Stage::new();
    let real = stage.open("alice", create("real")).unwrap();
    let mallory = Person::of("bob");
    let mut draft = stage.draft("bob", create("x"));
    let mut taken = Vec::new();
    for n in 0..10_000_u32 {
        stage.now.0 += SECOND;
        draft.nonce[..4].copy_from_slice(&n.to_be_bytes());
        match stage.put(mallory, draft.clone()) {
            Ok(id) => taken.push(id),
            // Closing the own ones and coming back is no way around the quota of a day.
            Err(Refusal::TooManyOpen { .. }) => {
                let open = taken.iter().find(|id| stage.phase(**id).is_open());
                stage.veto("bob", *open.unwrap()).unwrap();
            }
            Err(found) => refused!(Err::<(), _>(found), Refusal::TooManyInADay { .. }),
        }
    }
    assert_eq!(taken.len(), 64, "a day's quota");
    assert_eq!(
        stage.governance.proposals().count(),
        65,
        "the state is bounded"
    );
    stage.approve("bob", real).unwrap();
    stage.approve("carol", real).unwrap();
    stage
        .execute_at("carol", real, stage.now, Some(id(9)))
        .unwrap();
    stage.now.0 += 24 * HOUR;
    draft.opened_at = stage.now;
    stage.put(mallory, draft).unwrap();
}
