//! Random lives of an instance. Every move is tried on the fold and on the reference model, which
//! must agree; every step keeps the invariants; every life can be read again and mended.
//!
//! `KEKD_MODEL_SEQUENCES=n` plays n lives in place of 10,000. A life that fails prints
//! `KEKD_MODEL_SEED=…`; with that variable set only this one is played. What failed once is kept in
//! `tests/golden/model-seeds.txt` and played first.

mod moves;
mod operations;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};

use super::invariants::History;
use super::model::{Model, Move};
use super::stage::{Deed, START, Stage, genesis, id, kek, version};
use crate::quorum::governance::Refusal;
use crate::quorum::{Operation, Phase, Target};

/// Lives that are played where nobody says how many.
const LIVES: u64 = 10_000;
/// Moves in a life.
const MOVES: u64 = 16;
/// Lives are numbered from here; the number is the seed.
const FIRST: u64 = 1;

/// The instance at its birth; reading its genesis takes longer than a move.
static BORN: LazyLock<Stage> = LazyLock::new(|| {
    let mut stage = Stage::born(&genesis());
    for (name, number, n) in [("a", 2, 2), ("b", 1, 3), ("b", 2, 4)] {
        let version = version(&kek(name), number, id(n), None, START);
        stage.keyring.add(version).unwrap();
    }
    stage
});

/// SplitMix64 (Steele, Lea, Flood 2014).
pub(super) struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// One of 0 to n - 1.
    pub(super) fn below(&mut self, n: usize) -> usize {
        usize::try_from(self.next() % u64::try_from(n).unwrap()).unwrap()
    }

    /// Whether something that happens once in n times happens.
    pub(super) fn once_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    pub(super) fn pick<'a, T>(&mut self, all: &'a [T]) -> Option<&'a T> {
        (!all.is_empty()).then(|| &all[self.below(all.len())])
    }
}

/// One life: the fold, the model beside it, and what was taken in.
pub(super) struct Life {
    pub(super) stage: Stage,
    model: Model,
    history: History,
    taken: Vec<(u64, Deed)>,
    pub(super) tried: Vec<Move>,
}

#[test]
fn the_fold_and_the_rules_agree_in_10_000_lives() {
    if let Some(seed) = setting("KEKD_MODEL_SEED") {
        return play(seed);
    }
    let kept = include_str!("../../../../tests/golden/model-seeds.txt");
    let kept = kept.lines().filter(|line| !line.starts_with('#'));
    kept.for_each(|seed| play(seed.parse().unwrap()));
    let end = FIRST + setting("KEKD_MODEL_SEQUENCES").unwrap_or(LIVES);
    let next = AtomicU64::new(FIRST);
    let turn = || {
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= end {
                return;
            }
            if catch_unwind(AssertUnwindSafe(|| play(seed))).is_err() {
                next.store(end, Ordering::Relaxed);
                panic!("KEKD_MODEL_SEED={seed}");
            }
        }
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..2).map(|_| scope.spawn(turn)).collect();
        let ends: Vec<_> = threads.into_iter().map(|thread| thread.join()).collect();
        assert!(
            ends.iter().all(Result::is_ok),
            "a life failed; its seed is above"
        );
    });
}

#[expect(
    clippy::disallowed_methods,
    reason = "a setting of this test, not of the daemon"
)]
fn setting(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|value| value.parse().unwrap())
}

fn play(seed: u64) {
    let mut dice = Dice(seed);
    let stage = BORN.clone();
    let mut life = Life {
        model: Model::new(&stage),
        stage,
        history: History::default(),
        taken: Vec::new(),
        tried: Vec::new(),
    };
    for _ in 0..MOVES {
        life.pass_time(&mut dice);
        if let Some(next) = life.draw(&mut dice) {
            life.step(next, &mut dice);
        }
    }
    life.replay_gives_the_same_state();
    life.a_fresh_quorum_reinstates();
}

impl Life {
    fn step(&mut self, tried: Move, dice: &mut Dice) {
        let mut deed = deed(&tried);
        let altered = dice.once_in(40) && moves::alter(&mut deed, dice);
        let before = self.stage.clone();
        let found = self.stage.take(&deed);
        let expected = !altered && self.model.takes(&tried, before.now.0);
        // First what the fold did by itself, then whether it should have.
        if found.is_ok() {
            self.history.took(&before, &tried);
            self.taken.push((before.now.0, deed.clone()));
        }
        if let Err(Refusal::SoAlready { .. }) = &found {
            self.an_older_ledger_may_have_it(&deed);
        }
        self.history.holds(&self.stage);
        assert_eq!(
            found.is_ok(),
            expected,
            "the fold says {found:?} (altered: {altered}) to {}",
            shown(&deed)
        );
        self.agrees();
        self.tried.push(tried);
        if dice.once_in(100) {
            self.replay_gives_the_same_state();
        }
    }

    /// A stop that only repeats another was an entry once. Read, it changes no key.
    fn an_older_ledger_may_have_it(&self, deed: &Deed) {
        if let Deed::Suspend(..) | Deed::HostStop(_) = deed {
            let mut older = self.stage.clone();
            if older.read(deed).is_ok() {
                assert!(older.keyring == self.stage.keyring);
                let stops = |stage: &Stage| stage.governance.stops().count();
                assert_eq!(stops(&older), stops(&self.stage));
            }
        }
    }

    /// Fold and model show the same.
    fn agrees(&self) {
        let (stage, model) = (&self.stage, &self.model);
        let governance = &stage.governance;
        assert_eq!(governance.epoch(), model.epoch);
        assert_eq!(governance.officers(), model.officers);
        assert_eq!(governance.policy(), &model.policy);
        assert_eq!(governance.proposals().count(), model.cases.len());
        for (id, case) in &model.cases {
            assert_eq!(stage.phase(*id), case.phase(stage.now.0), "{id}");
        }
        for (kek, keys) in &model.keks {
            let stopped =
                model.stops.contains_key(&None) || model.stops.contains_key(&Some(kek.clone()));
            let versions = stage.keyring.kek(kek).unwrap();
            assert_eq!(versions.len(), keys.len());
            for (version, key) in versions.iter().zip(keys) {
                assert_eq!((version.keypair_id, version.lifecycle), (key.id, key.life));
                let free = key.life.state().unwraps() && !stopped;
                let held = key.held && !matches!(key.life, crate::keyring::Lifecycle::Destroyed);
                assert_eq!(version.state().unwraps(), free && !held, "{}", key.id);
            }
        }
        assert!(
            governance
                .stops()
                .map(|(kek, _)| kek)
                .eq(model.stops.keys().map(Option::as_ref))
        );
        assert!(
            governance
                .mandates()
                .map(|(kek, _)| kek)
                .eq(model.mandates.keys())
        );
        let clients = stage
            .clients
            .iter()
            .map(|(who, role, keks)| (who, (role, keks)));
        let expected = model
            .clients
            .iter()
            .map(|(who, (role, keks))| (who, (*role, keks)));
        assert!(clients.eq(expected));
    }

    /// A crash: the entries are read again.
    fn replay_gives_the_same_state(&self) {
        let mut again = BORN.clone();
        for (at, deed) in &self.taken {
            again.now.0 = *at;
            again.take(deed).unwrap();
        }
        again.now = self.stage.now;
        assert!(again == self.stage, "replay_gives_the_same_state");
    }

    /// Whatever happened: whoever is in office can lift a stop.
    fn a_fresh_quorum_reinstates(mut self) {
        let stage = &mut self.stage;
        // Refused where it is stopped already.
        stage.take(&Deed::HostStop(None)).ok();
        assert!(stage.governance.stops().any(|(kek, _)| kek.is_none()));
        let reinstate = Operation::Reinstate(Target::All);
        let who = stage.governance.electorate(reinstate.kind().approvers());
        // An honest officer closes an own proposal where there are too many.
        let people: Vec<_> = who
            .iter()
            .map(|officer| moves::person(officer).unwrap())
            .collect();
        let proposer = people[0];
        let open = stage.governance.proposals().filter(|standing| {
            standing.proposal.proposer == proposer.name && standing.phase(stage.now).is_open()
        });
        let open: Vec<_> = open.map(|standing| standing.proposal.id).collect();
        for id in open {
            let electorate = stage.standing(id).proposal.approvers;
            assert!(stage.governance.electorate(electorate).contains(&who[0]));
            let signature = proposer.sign(crate::quorum::VETO_NAMESPACE, &stage.text(id));
            stage.take(&Deed::Veto(id, signature)).unwrap();
        }
        let draft = stage.draft(proposer.name, reinstate);
        let id = stage.put(proposer, draft).unwrap();
        for person in &people[1..] {
            let signature = person.sign(crate::quorum::APPROVAL_NAMESPACE, &stage.text(id));
            stage.take(&Deed::Approve(id, signature)).unwrap();
        }
        if stage.standing(id).met_at.is_none() {
            let signature = proposer.sign(crate::quorum::APPROVAL_NAMESPACE, &stage.text(id));
            stage.take(&Deed::Approve(id, signature)).unwrap();
        }
        stage.now = stage.standing(id).executable_at().unwrap();
        let (statement, signature) = stage.order(proposer, id, stage.now);
        stage.take(&Deed::Execute(statement, signature)).unwrap();
        assert_eq!(stage.phase(id), Phase::Executed);
        assert!(stage.governance.stops().all(|(kek, _)| kek.is_some()));
    }
}

fn shown(deed: &Deed) -> String {
    match deed {
        Deed::Open(text, _) | Deed::Execute(text, _) | Deed::Begin(text, ..) => {
            String::from_utf8_lossy(text).into_owned()
        }
        other => format!("{other:?}").chars().take(400).collect(),
    }
}

/// The move as the ledger would have it.
fn deed(tried: &Move) -> Deed {
    match tried.clone() {
        Move::Open(proposal, signed) => Deed::Open(proposal.text().to_vec(), signed.signature()),
        Move::Approve(id, signed) => Deed::Approve(id, signed.signature()),
        Move::Prove(id, signed) => Deed::Prove(id, signed.signature()),
        Move::Veto(id, signed) => Deed::Veto(id, signed.signature()),
        Move::Expire(id) => Deed::Expire(id),
        Move::Execute(order, signed) => Deed::Execute(order.text().to_vec(), signed.signature()),
        Move::Begin(order, signed, id) => {
            Deed::Begin(order.text().to_vec(), signed.signature(), id)
        }
        Move::Mandated(mandate, id) => Deed::Mandated(mandate, id),
        Move::Fail(id) => Deed::Fail(id),
        Move::Activate(version, proposal) => Deed::Activate(Box::new(version), proposal),
        Move::Destroyed(id) => Deed::Destroyed(id),
        Move::Suspend(text, signed) => Deed::Suspend(text.text().to_vec(), signed.signature()),
        Move::HostStop(kek) => Deed::HostStop(kek),
    }
}
