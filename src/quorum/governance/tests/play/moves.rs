//! What is tried: mostly what an honest or a careless person would try, and every now and then what
//! an attacker would.

use super::{Dice, Life};
use crate::quorum::governance::tests::model::{Move, Signed};
use crate::quorum::governance::tests::signing::Person;
use crate::quorum::governance::tests::stage::{
    CUSTODIANS, DAY, Deed, HOUR, POLICY_OFFICERS, RECOVERY, SECOND, id, kek, version,
};
use crate::quorum::{
    Begun, EXECUTION_NAMESPACE, Execution, Officer, Operation, OperationKind, Phase, Proposal,
    ProposalId, SUSPENSION_NAMESPACE, Suspension, Target,
};
use crate::types::{KeypairId, Sha256};

pub(super) const KEKS: [&str; 3] = ["a", "b", "c"];
const NEW: [&str; 2] = ["gina", "hugo"];
const NAMESPACES: [&str; 6] = [
    "proposal@kekd",
    "approval@kekd",
    "veto@kekd",
    "possession@kekd",
    "execution@kekd",
    "suspension@kekd",
];

impl Signed {
    pub(super) fn signature(&self) -> Vec<u8> {
        self.by.sign(self.namespace, &self.over)
    }
}

/// Everybody who has a key, and `mallory`, whom nobody knows.
pub(super) fn people() -> Vec<&'static Person> {
    let names = CUSTODIANS
        .iter()
        .chain(&POLICY_OFFICERS)
        .chain(&RECOVERY)
        .chain(&NEW);
    let keys = names.flat_map(|name| [1, 2].map(|number| Person::with_key(name, number)));
    keys.chain([Person::of("mallory")]).collect()
}

pub(super) fn person(officer: &Officer) -> Option<&'static Person> {
    [1, 2].into_iter().find_map(|number| {
        let names = CUSTODIANS
            .iter()
            .chain(&POLICY_OFFICERS)
            .chain(&RECOVERY)
            .chain(&NEW);
        let mut keys = names.map(|name| Person::with_key(name, number));
        keys.find(|person| person.public == officer.key && person.name == officer.name)
    })
}

/// Flips a bit of the text or of the signature.
pub(super) fn alter(deed: &mut Deed, dice: &mut Dice) -> bool {
    let bytes = match deed {
        Deed::Open(text, signature)
        | Deed::Execute(text, signature)
        | Deed::Begin(text, signature, _)
        | Deed::Suspend(text, signature) => match dice.once_in(2) {
            true => text,
            false => signature,
        },
        Deed::Approve(_, signature) | Deed::Prove(_, signature) | Deed::Veto(_, signature) => {
            signature
        }
        _ => return false,
    };
    // Line ends of the armor may be written in two ways; all else may not.
    let places: Vec<_> = (0..bytes.len()).filter(|at| bytes[*at] != b'\n').collect();
    bytes[*dice.pick(&places).unwrap()] ^= 1;
    true
}

impl Life {
    pub(super) fn pass_time(&mut self, dice: &mut Dice) {
        let by = match dice.below(24) {
            0 => 1,
            1 => SECOND,
            2 => HOUR,
            3 => DAY,
            4 => 3 * DAY,
            5 => 8 * DAY,
            _ => 0,
        };
        self.stage.now.0 += by;
    }

    pub(super) fn draw(&mut self, dice: &mut Dice) -> Option<Move> {
        if !dice.once_in(3) {
            let next = self.carry_on(dice);
            if next.is_some() {
                return next;
            }
        }
        self.anything(dice)
    }

    /// The next honest step of what was put forward last, its waiting included.
    fn carry_on(&mut self, dice: &mut Dice) -> Option<Move> {
        let begun: Vec<_> = self.stage.governance.pending_ids().collect();
        if let Some(id) = dice.pick(&begun).filter(|_| dice.once_in(2)) {
            return self.ended(*id, dice);
        }
        if self.stage.governance.mandates().count() > 0 && dice.once_in(4) {
            self.stage.now.0 += 8 * DAY;
            return self.mandated(dice);
        }
        let now = self.stage.now;
        let mut all = self.stage.governance.proposals();
        let standing = std::sync::Arc::clone(all.find(|s| s.phase(now).is_open())?);
        drop(all);
        let proposal = &standing.proposal;
        let over = proposal.text().to_vec();
        let electorate = self.stage.governance.electorate(proposal.approvers);
        if let Some(at) = standing.executable_at() {
            self.stage.now = now.max(at);
            let missing = self.stage.governance.possession_missing(&standing);
            return match missing.is_empty() {
                true => self.order(proposal.id, dice),
                false => self
                    .sign(proposal.id, "possession@kekd", dice)
                    .map(|(id, s)| Move::Prove(id, s)),
            };
        }
        let own = self
            .stage
            .governance
            .proposer_may_approve(proposal.operation.kind());
        let is_asked = |officer: &&Officer| {
            let done = standing.approvals.contains(&officer.name);
            !done && (own || officer.name != proposal.proposer)
        };
        let by = electorate.iter().find(is_asked).and_then(person)?;
        let namespace = "approval@kekd";
        Some(Move::Approve(
            proposal.id,
            Signed {
                by,
                namespace,
                over,
            },
        ))
    }

    fn anything(&self, dice: &mut Dice) -> Option<Move> {
        let all: Vec<_> = self.stage.governance.proposals().collect();
        let old = dice.pick(&all).map(|standing| standing.proposal.id);
        let phase = |wanted: &[Phase]| {
            let fits = |id: &ProposalId| wanted.contains(&self.stage.phase(*id));
            all.iter()
                .map(|standing| standing.proposal.id)
                .filter(fits)
                .collect::<Vec<_>>()
        };
        let open = dice.pick(&phase(&[Phase::Open])).copied();
        let ready = dice
            .pick(&phase(&[Phase::Executable, Phase::TimeLocked]))
            .copied();
        let begun: Vec<_> = self.stage.governance.pending_ids().collect();
        match dice.below(32) {
            0..=12 => self.open(dice),
            13..=15 => self
                .sign(open.or(old)?, "approval@kekd", dice)
                .map(|(id, s)| Move::Approve(id, s)),
            16 => self
                .sign(old?, "approval@kekd", dice)
                .map(|(id, s)| Move::Approve(id, s)),
            17 | 18 => self
                .sign(old?, "possession@kekd", dice)
                .map(|(id, s)| Move::Prove(id, s)),
            19 => self
                .sign(old?, "veto@kekd", dice)
                .map(|(id, s)| Move::Veto(id, s)),
            20 => Some(Move::Expire(old?)),
            21..=24 => self.order(ready.filter(|_| !dice.once_in(4)).or(old)?, dice),
            26 => self.ended(*dice.pick(&begun)?, dice),
            27 => self.ended(id(u8::try_from(dice.below(6)).unwrap()), dice),
            25 | 28 => self.mandated(dice),
            29 => self.suspend(dice),
            30 => match dice.once_in(2) {
                true => Some(Move::HostStop(self.stopped(dice))),
                false => self.ended(*dice.pick(&begun)?, dice),
            },
            _ => dice.pick(&self.tried).cloned(),
        }
    }

    /// Whoever may, mostly; anybody at times.
    fn somebody(&self, kind: OperationKind, dice: &mut Dice) -> &'static Person {
        let who = self.stage.governance.electorate(kind.approvers());
        let entitled = dice.pick(&who).and_then(person);
        match entitled.filter(|_| !dice.once_in(20)) {
            Some(person) => person,
            None => dice.pick(&people()).unwrap(),
        }
    }

    fn namespace(wanted: &'static str, dice: &mut Dice) -> &'static str {
        match dice.once_in(40) {
            true => dice.pick(&NAMESPACES).unwrap(),
            false => wanted,
        }
    }

    fn open(&self, dice: &mut Dice) -> Option<Move> {
        let operation = self.operation(dice)?;
        let by = self.somebody(operation.kind(), dice);
        let mut draft = self.stage.draft(by.name, operation);
        draft.nonce[15] = u8::try_from(dice.below(256)).unwrap();
        match dice.below(60) {
            0 => draft.instance_id = Sha256::of(b"another"),
            1 => draft.epoch += 1,
            2 => draft.epoch = draft.epoch.saturating_sub(1).max(1),
            3 => draft.head.size += 1,
            4 => draft.head.root = Sha256::of(b"another"),
            5 => draft.opened_at.0 += [SECOND, 301 * SECOND, DAY][dice.below(3)],
            6 => draft.opened_at.0 -= [SECOND, 6 * DAY, 8 * DAY][dice.below(3)],
            7 => draft.rule.threshold += 1,
            8 => draft.rule.time_lock += std::time::Duration::from_secs(1),
            9 => draft.rule.lifetime += std::time::Duration::from_secs(1),
            10 => "bob".clone_into(&mut draft.proposer),
            11 | 12 => {
                let size = 1 + dice.below(self.stage.roots.len());
                draft.head.root = self.stage.roots[size - 1];
                draft.head.size = u64::try_from(size).unwrap();
            }
            _ => {}
        }
        let proposal = Proposal::draft(draft).ok()?;
        let namespace = Self::namespace("proposal@kekd", dice);
        let over = proposal.text().to_vec();
        Some(Move::Open(
            proposal,
            Signed {
                by,
                namespace,
                over,
            },
        ))
    }

    fn sign(
        &self,
        id: ProposalId,
        namespace: &'static str,
        dice: &mut Dice,
    ) -> Option<(ProposalId, Signed)> {
        let proposal = &self.stage.standing(id).proposal;
        let mut by = self.somebody(proposal.operation.kind(), dice);
        if namespace == "possession@kekd"
            && let Operation::ChangeOfficers { officers } | Operation::Recover { officers } =
                &proposal.operation
        {
            let standing = self.stage.standing(id);
            let missing = self.stage.governance.possession_missing(&standing);
            let new = officers
                .iter()
                .find(|officer| missing.contains(&officer.name));
            by = new.and_then(person).unwrap_or(by);
        }
        let over = match dice.once_in(40) {
            true => {
                let all: Vec<_> = self.stage.governance.proposals().collect();
                dice.pick(&all)?.proposal.text().to_vec()
            }
            false => proposal.text().to_vec(),
        };
        let namespace = Self::namespace(namespace, dice);
        Some((
            id,
            Signed {
                by,
                namespace,
                over,
            },
        ))
    }

    fn order(&self, proposal: ProposalId, dice: &mut Dice) -> Option<Move> {
        let standing = self.stage.standing(proposal);
        let kind = standing.proposal.operation.kind();
        let by = self.somebody(kind, dice);
        let mut at = self.stage.now;
        match dice.below(20) {
            0 => at.0 -= DAY,
            1 => at.0 += DAY,
            2 => at.0 -= HOUR,
            3 => at.0 -= SECOND,
            _ => {}
        }
        let order = Execution::draft(&standing.proposal, by.name, at).ok()?;
        let mut text = order.text().to_vec();
        if dice.once_in(40) {
            let from = standing.proposal.id.to_string();
            let all: Vec<_> = self.stage.governance.proposals().collect();
            let to = dice.pick(&all)?.proposal.id.to_string();
            text = String::from_utf8(text)
                .unwrap()
                .replace(&from, &to)
                .into_bytes();
        }
        let order = Execution::parse(&text).unwrap();
        let namespace = Self::namespace(EXECUTION_NAMESPACE, dice);
        let signed = Signed {
            by,
            namespace,
            over: text,
        };
        let fresh = (kind != OperationKind::DestroyVersion).then(|| self.fresh(dice));
        let fresh = if dice.once_in(30) { None } else { fresh };
        match kind.needs_hsm() != dice.once_in(40) {
            true => Some(Move::Begin(order, signed, fresh)),
            false => Some(Move::Execute(order, signed)),
        }
    }

    /// An id nobody had, mostly.
    fn fresh(&self, dice: &mut Dice) -> KeypairId {
        match dice.once_in(15) {
            true => id(u8::try_from(dice.below(6)).unwrap()),
            false => id(u8::try_from(10 + self.tried.len()).unwrap()),
        }
    }

    /// What was begun, or was not, ends.
    fn ended(&self, id: KeypairId, dice: &mut Dice) -> Option<Move> {
        if dice.once_in(4) {
            return Some(Move::Fail(id));
        }
        if matches!(self.stage.governance.begun(id), Some(Begun::Destroy(_))) != dice.once_in(10) {
            return Some(Move::Destroyed(id));
        }
        let Some(Deed::Activate(made, mut proposal)) = self.stage.activated(id) else {
            let made = version(&kek("a"), 2, id, None, self.stage.now);
            let all: Vec<_> = self.stage.governance.proposals().collect();
            return Some(Move::Activate(made, dice.pick(&all)?.proposal.id));
        };
        let mut made = *made;
        match dice.below(30) {
            0 => made.number += 1,
            1 => made.kek = kek(dice.pick(&KEKS)?),
            2 => made.spki_sha256 = Sha256::of(b"another"),
            3 => proposal = ProposalId(Sha256::of(b"another")),
            _ => {}
        }
        Some(Move::Activate(made, proposal))
    }

    fn mandated(&self, dice: &mut Dice) -> Option<Move> {
        let all: Vec<_> = self
            .stage
            .governance
            .mandates()
            .map(|(_, m)| m.id)
            .collect();
        let old: Vec<_> = self
            .stage
            .governance
            .proposals()
            .map(|s| s.proposal.id)
            .collect();
        let mandate = dice.pick(&all).or_else(|| dice.pick(&old))?;
        Some(Move::Mandated(*mandate, self.fresh(dice)))
    }

    pub(super) fn stopped(&self, dice: &mut Dice) -> Option<crate::types::KekName> {
        (!dice.once_in(2)).then(|| kek(KEKS[dice.below(3)]))
    }

    fn suspend(&self, dice: &mut Dice) -> Option<Move> {
        let mut by = self.somebody(OperationKind::ChangeOfficers, dice);
        let mut kek = self.stopped(dice);
        // At times what is stopped, by who stopped it.
        let stops: Vec<_> = self.stage.governance.stops().collect();
        if let Some((stopped, stop)) = dice.pick(&stops).filter(|_| dice.once_in(2)) {
            kek = stopped.cloned();
            let mut officers = self.stage.governance.officers().iter();
            let again = officers.find(|officer| stop.all.contains(&officer.name));
            by = again.and_then(person).unwrap_or(by);
        }
        let target = kek.map_or(Target::All, Target::Kek);
        let instance = match dice.once_in(20) {
            true => Sha256::of(b"another"),
            false => self.stage.governance.instance_id(),
        };
        let nonce = [u8::try_from(dice.below(256)).unwrap(); 16];
        let text = Suspension::draft(instance, target, by.name, nonce, self.stage.now).ok()?;
        let namespace = Self::namespace(SUSPENSION_NAMESPACE, dice);
        let over = text.text().to_vec();
        Some(Move::Suspend(
            text,
            Signed {
                by,
                namespace,
                over,
            },
        ))
    }
}
