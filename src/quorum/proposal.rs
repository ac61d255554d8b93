//! A proposal as its proposer signed it: a text of one form, kept as the exact bytes that were
//! signed. Whether it fits the instance as it stands is `governance`'s concern.

use std::fmt;
use std::time::Duration;

use super::lines::{Reader, Value, hex, same, whole_seconds, written};
use super::operation::{Approvers, Operation, OperationKind};
use super::policy::{DESTROY_LOCK_MIN, LIFETIME_MAX, Rule, THRESHOLDS};
use super::rules;
use super::statement::StatementError;
use crate::clock::UnixMs;
use crate::merkle::Head;
use crate::types::Sha256;

/// The first line of a proposal.
const TITLE: &str = "kekd proposal v1";

/// SHA-256 over a proposal's statement.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProposalId(pub Sha256);

impl fmt::Display for ProposalId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// An operation put forward.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proposal {
    pub(super) text: Vec<u8>,
    /// SHA-256 over the text.
    pub id: ProposalId,
    /// The instance it is for: SHA-256 over entry 0 of its ledger.
    pub instance_id: Sha256,
    /// What is to be done.
    pub operation: Operation,
    /// The name of the officer who puts it forward.
    pub proposer: String,
    /// 16 random bytes, so that no two proposals are one.
    pub nonce: [u8; 16],
    /// The proposer's time, whole seconds.
    pub opened_at: UnixMs,
    /// From this moment on it is closed, whole seconds.
    pub expires_at: UnixMs,
    /// Between the threshold being met and the first moment of execution, whole seconds; shorter
    /// than the time from opening to expiry, and at least 7 days for a destruction.
    pub time_lock: Duration,
    /// Distinct officers who must approve, 2 to 31.
    pub threshold: usize,
    /// Who they are: always [`OperationKind::approvers`].
    pub approvers: Approvers,
    /// The quorum epoch it belongs to, from 1.
    pub epoch: u64,
    /// The ledger head the proposer saw.
    pub head: Head,
}

/// What a proposal is drafted from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProposalDraft {
    /// The instance it is for: SHA-256 over entry 0 of its ledger.
    pub instance_id: Sha256,
    /// What is to be done. Officers may come in any order; times are cut to whole seconds.
    pub operation: Operation,
    /// The name of the officer who puts it forward.
    pub proposer: String,
    /// 16 random bytes.
    pub nonce: [u8; 16],
    /// The proposer's time; cut to whole seconds.
    pub opened_at: UnixMs,
    /// The policy's rule for this kind: threshold, time-lock and lifetime come from it.
    pub rule: Rule,
    /// The quorum epoch, from 1.
    pub epoch: u64,
    /// The ledger head.
    pub head: Head,
}

impl Proposal {
    /// Puts a proposal together and reads it back.
    pub fn draft(draft: ProposalDraft) -> Result<Self, StatementError> {
        let opened_at = whole_seconds(draft.opened_at);
        let kind = draft.operation.kind();
        let lifetime = u64::try_from(draft.rule.lifetime.as_millis()).unwrap_or(u64::MAX);
        let proposal = Self {
            text: Vec::new(),
            id: ProposalId(Sha256::of(&[])),
            instance_id: draft.instance_id,
            operation: draft.operation.settled(),
            proposer: draft.proposer,
            nonce: draft.nonce,
            opened_at,
            expires_at: UnixMs(opened_at.0.saturating_add(lifetime)),
            time_lock: draft.rule.time_lock,
            threshold: draft.rule.threshold,
            approvers: kind.approvers(),
            epoch: draft.epoch,
            head: draft.head,
        };
        let text = written(TITLE, &proposal.lines());
        let proposal = Self {
            id: ProposalId(Sha256::of(&text)),
            text,
            ..proposal
        };
        let unwritable = StatementError::Unwritable { what: kind.name() };
        match Self::parse(&proposal.text) {
            Ok(read) if read == proposal => Ok(read),
            Ok(_) | Err(StatementError::LineDiffers { .. }) => Err(unwritable),
            Err(refused) => Err(refused),
        }
    }

    /// Reads a statement. Nothing but the one text of a proposal is accepted.
    pub fn parse(bytes: &[u8]) -> Result<Self, StatementError> {
        let mut reader = Reader::statement(bytes, TITLE)?;
        let instance_id = reader.value("instance")?.parse()?;
        let kind: OperationKind = reader.value("operation")?.parse()?;
        let operation = Operation::read(kind, &mut reader)?;
        reader.value("effect")?.equals(&operation.effect())?;
        let proposer = officer_name(reader.value("proposer")?)?;
        let nonce = reader.value("nonce")?.nonce()?;
        let opened_at = reader.value("opened")?.time()?;
        let (expires_at, lifetime) = expiry(reader.value("expires")?, opened_at)?;
        let time_lock = time_lock(reader.value("time-lock")?, kind, lifetime)?;
        let threshold = threshold(reader.value("approvals")?, kind.approvers())?;
        let epoch = reader.value("epoch")?.number(1..=u64::MAX)?;
        let head = Head {
            size: reader.value("ledger-size")?.number(1..=u64::MAX)?,
            root: reader.value("ledger-root")?.parse()?,
        };
        reader.end()?;
        let proposal = Self {
            text: bytes.to_vec(),
            id: ProposalId(Sha256::of(bytes)),
            instance_id,
            operation,
            proposer,
            nonce,
            opened_at,
            expires_at,
            time_lock,
            threshold,
            approvers: kind.approvers(),
            epoch,
            head,
        };
        same(bytes, &written(TITLE, &proposal.lines()))?;
        Ok(proposal)
    }

    /// The statement, byte for byte as it is signed.
    pub fn text(&self) -> &[u8] {
        &self.text
    }

    fn lines(&self) -> Vec<(&'static str, String)> {
        let mut lines = vec![
            ("instance", self.instance_id.to_string()),
            ("operation", self.operation.kind().to_string()),
        ];
        lines.extend(self.operation.lines());
        lines.extend([
            ("effect", self.operation.effect()),
            ("proposer", self.proposer.clone()),
            ("nonce", hex(&self.nonce)),
            ("opened", self.opened_at.rfc3339()),
            ("expires", self.expires_at.rfc3339()),
            ("time-lock", format!("{}s", self.time_lock.as_secs())),
            (
                "approvals",
                format!("{} of {}", self.threshold, self.approvers),
            ),
            ("epoch", self.epoch.to_string()),
            ("ledger-size", self.head.size.to_string()),
            ("ledger-root", self.head.root.to_string()),
        ]);
        lines
    }
}

/// The name of an officer, in office or not.
pub(super) fn officer_name(value: Value<'_>) -> Result<String, StatementError> {
    value.checked(rules::is_printable_name(value.text), rules::PRINTABLE_NAME)
}

fn expiry(value: Value<'_>, opened_at: UnixMs) -> Result<(UnixMs, Duration), StatementError> {
    let expires_at = value.time()?;
    let lifetime = expires_at
        .0
        .checked_sub(opened_at.0)
        .map(Duration::from_millis);
    match lifetime {
        Some(lifetime) if !lifetime.is_zero() && lifetime <= LIFETIME_MAX => {
            Ok((expires_at, lifetime))
        }
        Some(_) | None => Err(value.refused("a time after `opened`, at most 366 days later")),
    }
}

fn time_lock(
    value: Value<'_>,
    kind: OperationKind,
    lifetime: Duration,
) -> Result<Duration, StatementError> {
    let shortest = match kind == OperationKind::DestroyVersion {
        true => DESTROY_LOCK_MIN,
        false => Duration::ZERO,
    };
    let longest = lifetime.as_secs().saturating_sub(1);
    let time_lock = value.seconds(shortest.as_secs()..=longest)?;
    Ok(Duration::from_secs(time_lock))
}

fn threshold(value: Value<'_>, approvers: Approvers) -> Result<usize, StatementError> {
    let Some((threshold, found)) = value.text.split_once(" of ") else {
        return Err(value.refused(format_args!("the form \"<n> of {approvers}\"")));
    };
    let threshold = Value {
        text: threshold,
        ..value
    };
    let threshold = threshold.number(THRESHOLDS)?;
    if found != approvers.to_string() {
        return Err(value.refused(format_args!("{threshold} of {approvers}")));
    }
    Ok(threshold)
}
