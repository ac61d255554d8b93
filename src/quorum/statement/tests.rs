//! Statements of every kind: frozen texts, altered texts, values that have no text. The keys are
//! public keys only; nobody signs here.
#![expect(clippy::unwrap_used, reason = "a test that cannot unwrap has failed")]

mod alterations;
mod drafts;
mod golden;
mod parameters;
mod policies;
mod refusals;

use std::path::Path;
use std::time::Duration;

use super::*;
use crate::clock::UnixMs;
use crate::merkle::Head;
use crate::quorum::{
    Execution, Mandate, NewVersion, Officer, OfficerKey, OfficerRole, Operation, OperationKind,
    Policy, Proposal, ProposalDraft, ProposalId, Suspension, Target, Usage,
};
use crate::types::Sha256;

const OPENED_AT: UnixMs = UnixMs(1_795_284_000_123);
const DAY_MS: u64 = 86_400_000;
const ED25519: &str =
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAILM+rvN+ot98qgEN796jTiQfZfG1KaT0PtFDJ/XFSqti";
const P256: &str = "ecdsa-sha2-nistp256 AAAAE2VjZHNhLXNoYTItbmlzdHAyNTYAAAAIbmlzdHAyNTYAAABBBHwf2HMM5TRXvo2SQJjsNkiDD5KqiiNjrGVv3UUh+mMT5RHxiRtOnlqvjhQtBq0VpmpCV/PwUdhOig4vkbqAcEc=";
const SK_ED25519: &str = "sk-ssh-ed25519@openssh.com AAAAGnNrLXNzaC1lZDI1NTE5QG9wZW5zc2guY29tAAAAINuEkJ0IOPJnxbPG0nNgDMD8NZKSgEQMJ4kWhTPNTbE5AAAABHNzaDo=";
const SK_P256: &str = "sk-ecdsa-sha2-nistp256@openssh.com AAAAInNrLWVjZHNhLXNoYTItbmlzdHAyNTZAb3BlbnNzaC5jb20AAAAIbmlzdHAyNTYAAABBBIJ/Gp0e/Pno7JSxy4bzT5egBKwsBlNZZiJGCho225E74PuBGQnw+ph2wSvUdE9H6+T+LFTDCUnOIKiV8/c8mR0AAAAEc3NoOg==";
const RSA: &str = "ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAABgQCty+iHeH1djHx2bUVwNYrESsF+7/dWoL9JvxXp8OPoHEVKDsrI4iTq9zpO5m0wm5evo52+QG7nECYD2PbjvZPL5UOkSGoHC0+z7R8bpxUW/F1h4DGrB8Di17zLzDoTWUW5sNCDDRHbY4BsCIR3EXnleqJMy/PbEfcLw3h6QGgwW5NfRObPGRweEEKElgeWa8rDBNAqjtBazoFu373JBql9ehItW3j8qbaWMcqT3pXel96fo/iWwqkWY6oVw/t3Gc/+syK4yVFCmR9/SmDfMzeLjf/HFlKUAWaFjIK357g3a/5VKB/2ETU+cPKC4pPl4uXc+h6DBQCbl8AThNmRk8ll0E3De/W2CjpGmxMhGoMsa0NqvRJhzGH2geDkwYJiU9Qzpa0jiFQR3ofBvGe+JHOL1ONdjPuq3kb2lg6J0/iJlmBgRadw9wL9aqMjbUiYdyCtApMlW/fek32uXoimnmqnyEOpFXAONkSiyeuXhZuWIVxA9DSGNqCNZBTTl/+1S9U=";

fn officer(name: &str, role: OfficerRole, key: &str) -> Officer {
    Officer {
        name: name.to_owned(),
        role,
        key: OfficerKey::from_openssh(key).unwrap(),
    }
}

fn version(kek: &str) -> NewVersion {
    NewVersion {
        kek: kek.parse().unwrap(),
        profile: "kek-rsa-3072".to_owned(),
        profile_sha256: Sha256::of(b"a profile"),
        certificate_subject: format!("CN={kek},O=Example"),
        certificate_valid_days: 3650,
    }
}

/// One operation of a kind.
fn operation(kind: OperationKind) -> Operation {
    let kek = || "recordings".parse().unwrap();
    let keypair_id = "6f9619ff-8b86-4011-b42d-00cf4fc964ff".parse().unwrap();
    let identity = || "spiffe://kekd.test/lkm-1".parse().unwrap();
    match kind {
        OperationKind::CreateKek => Operation::CreateKek(version("recordings")),
        OperationKind::RotateKek => Operation::RotateKek {
            version: version("recordings"),
            retires: Some(keypair_id),
        },
        OperationKind::SetRotationMandate => Operation::SetRotationMandate(Mandate {
            version: version("recordings"),
            period_days: 365,
            interval_days_min: 30,
            until: UnixMs(OPENED_AT.0 + 3 * 365 * DAY_MS),
            warn_days: vec![30, 7, 1],
        }),
        OperationKind::WithdrawRotationMandate => Operation::WithdrawRotationMandate { kek: kek() },
        OperationKind::Reinstate => Operation::Reinstate(Target::Kek(kek())),
        OperationKind::RevokeVersion => Operation::RevokeVersion {
            keypair_id,
            reason: "its card was found in a drawer (case 17)".to_owned(),
        },
        OperationKind::DestroyVersion => Operation::DestroyVersion {
            keypair_id,
            unused_days: 90,
            usage: Usage {
                unwraps: 184_467,
                first: Some(UnixMs(OPENED_AT.0 - 700 * DAY_MS)),
                last: Some(UnixMs(OPENED_AT.0 - 100 * DAY_MS)),
            },
        },
        OperationKind::CancelDestruction => Operation::CancelDestruction {
            proposal: ProposalId(Sha256::of(b"a proposal")),
        },
        OperationKind::ImportKek => Operation::ImportKek {
            version: version("legacy"),
            spki_sha256: Sha256::of(b"a public key"),
        },
        OperationKind::AllowPkcs1V15 => Operation::AllowPkcs1V15 { kek: kek() },
        OperationKind::ForbidPkcs1V15 => Operation::ForbidPkcs1V15 { kek: kek() },
        OperationKind::GrantUnwrap => Operation::GrantUnwrap {
            identity: identity(),
            kek: kek(),
        },
        OperationKind::WithdrawUnwrap => Operation::WithdrawUnwrap {
            identity: identity(),
            kek: kek(),
        },
        OperationKind::AssignRole => Operation::AssignRole {
            identity: "uid:1017".parse().unwrap(),
            role: crate::access::Role::Auditor,
        },
        OperationKind::RemoveClient => Operation::RemoveClient {
            identity: identity(),
        },
        OperationKind::BindRecordingPolicy => Operation::BindRecordingPolicy {
            key: "queue:support/eu".to_owned(),
            kek: kek(),
            fallback: Some("archive".parse().unwrap()),
        },
        OperationKind::UnbindRecordingPolicy => Operation::UnbindRecordingPolicy {
            key: "queue:support/eu".to_owned(),
        },
        OperationKind::ChangeOfficers => Operation::ChangeOfficers {
            officers: vec![
                officer("dave", OfficerRole::PolicyOfficer, SK_P256),
                officer("alice", OfficerRole::KeyCustodian, ED25519),
                officer("carol of the night", OfficerRole::PolicyOfficer, SK_ED25519),
                officer("bob", OfficerRole::KeyCustodian, P256),
            ],
        },
        OperationKind::ChangePolicy => {
            let mut policy = Policy::with_threshold(2);
            let mut rule = policy.rule(OperationKind::DestroyVersion);
            rule.threshold = 3;
            rule.time_lock = Duration::from_secs(14 * 86_400);
            rule.allowed = true;
            policy.set(OperationKind::DestroyVersion, rule);
            let mut rule = policy.rule(OperationKind::ImportKek);
            rule.allowed = false;
            policy.set(OperationKind::ImportKek, rule);
            policy.proposer_may_approve = true;
            Operation::ChangePolicy(policy)
        }
        OperationKind::Recover => Operation::Recover {
            officers: vec![
                officer("alice", OfficerRole::KeyCustodian, P256),
                officer("erin", OfficerRole::KeyCustodian, RSA),
            ],
        },
    }
}

fn draft_of(operation: Operation) -> ProposalDraft {
    ProposalDraft {
        instance_id: Sha256::of(b"an instance"),
        rule: Policy::with_threshold(2).rule(operation.kind()),
        operation,
        proposer: "alice".to_owned(),
        nonce: [0x1f; 16],
        opened_at: OPENED_AT,
        epoch: 3,
        head: Head {
            size: 1024,
            root: Sha256::of(b"a head"),
        },
    }
}

fn proposal(kind: OperationKind) -> Proposal {
    Proposal::draft(draft_of(operation(kind))).unwrap()
}

fn execution() -> Execution {
    let proposal = proposal(OperationKind::RotateKek);
    Execution::draft(&proposal, "bob", UnixMs(OPENED_AT.0 + DAY_MS)).unwrap()
}

fn suspension(target: Target) -> Suspension {
    let instance_id = Sha256::of(b"an instance");
    Suspension::draft(instance_id, target, "bob", [0x2e; 16], OPENED_AT).unwrap()
}

/// What a text of any kind says, without the text itself.
#[derive(Debug, PartialEq)]
enum Said {
    Proposal(Box<Proposal>),
    Execution(Execution),
    Suspension(Suspension),
}

/// Reads a text as what its name says it is. What comes back must be the text.
fn read(name: &str, text: &[u8]) -> Result<Said, StatementError> {
    if name.starts_with("suspension") {
        let mut read = Suspension::parse(text)?;
        assert_eq!(read.text(), text);
        read.text.clear();
        Ok(Said::Suspension(read))
    } else if name == "execution" {
        let mut read = Execution::parse(text)?;
        assert_eq!(read.text(), text);
        read.text.clear();
        Ok(Said::Execution(read))
    } else {
        let mut read = Proposal::parse(text)?;
        assert_eq!(read.text(), text);
        assert_eq!(read.id, ProposalId(Sha256::of(text)));
        read.text.clear();
        read.id = ProposalId(Sha256::of(b""));
        Ok(Said::Proposal(Box::new(read)))
    }
}

/// Every kind of statement, drafted: its name and its text.
fn drafted() -> Vec<(String, Vec<u8>)> {
    let proposals = OperationKind::ALL.map(|kind| (kind.to_string(), proposal(kind).text));
    let kek = Target::Kek("recordings".parse().unwrap());
    let mut all = Vec::from(proposals);
    all.push(("execution".to_owned(), execution().text));
    all.push(("suspension-kek".to_owned(), suspension(kek).text));
    all.push(("suspension-all".to_owned(), suspension(Target::All).text));
    all
}

/// Adds the golden file of a new kind of statement. What is there is never written again.
#[test]
#[ignore = "writes to the source tree: for whoever adds a kind of statement"]
fn golden_files_of_new_statements_are_written() {
    for (name, text) in drafted() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/statements-v1");
        let file = folder.join(format!("{name}.txt"));
        if std::fs::metadata(&file).is_ok_and(|found| found.len() > 0) {
            continue;
        }
        std::fs::write(file, text).unwrap();
    }
}
