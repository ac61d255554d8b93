//! The order of turns: by hand where it is told, and in random histories where it must never break.

use proptest::prelude::*;

use super::*;
use crate::clock::Clock;
use crate::hsm::quota::Quota;

type Heard = oneshot::Receiver<Result<Place, HsmError>>;

fn caller(name: &str) -> Identity {
    format!("spiffe://t/{name}").parse().unwrap()
}

fn far() -> Instant {
    Instant::now() + Duration::from_secs(3600)
}

fn entry(deadline: Instant) -> (Entry, Heard) {
    let (answer, heard) = oneshot::channel();
    let entry = Entry {
        deadline,
        allowance: None,
        answer,
    };
    (entry, heard)
}

/// A roster whose callers are told apart by when their deadlines are.
struct Scene {
    roster: Roster,
    base: Instant,
    heard: Vec<Heard>,
}

impl Scene {
    fn new(capacity: usize, len_max: usize) -> Self {
        Self {
            roster: Roster::new(capacity, len_max, Weak::new()),
            base: far(),
            heard: Vec::new(),
        }
    }

    /// `mark` comes back when the call is called.
    fn join(&mut self, rank: Rank<'_>, mark: u64) -> Option<u64> {
        let (entry, heard) = entry(self.base + Duration::from_secs(mark));
        self.heard.push(heard);
        self.roster.wait(rank, entry, None)
    }

    /// Who is called, and leaves again at once.
    fn turn(&mut self) -> Option<u64> {
        let called = self.roster.call_next(Instant::now(), Duration::ZERO)?;
        assert!(called.outcome.is_ok());
        self.roster.release();
        Some((called.entry.deadline - self.base).as_secs())
    }
}

#[test]
fn own_calls_first_then_interactive_and_one_in_eight_is_bulk() {
    let mut scene = Scene::new(1, 512);
    let one = caller("one");
    for _ in 0..40 {
        scene.join(Rank::Of(Lane::Interactive, &one), 1).unwrap();
        scene.join(Rank::Of(Lane::Bulk, &one), 2).unwrap();
    }
    scene.join(Rank::Own, 0).unwrap();
    assert_eq!(scene.turn(), Some(0));
    let turns: Vec<u64> = (0..24).map(|_| scene.turn().unwrap()).collect();
    let one_round = [1, 1, 1, 1, 1, 1, 1, 2];
    assert_eq!(turns, [one_round, one_round, one_round].concat());
}

/// Whenever a bulk call is called, an interactive one comes before a session has taken it.
#[test]
fn a_bulk_call_that_gives_way_again_and_again_goes_the_eighth_time() {
    for others in [0, 1] {
        let mut scene = Scene::new(1, 512);
        let one = caller("one");
        for mark in 0..=others {
            scene.join(Rank::Of(Lane::Bulk, &one), mark).unwrap();
        }
        let mut given = 0;
        loop {
            let called = scene.roster.call_next(Instant::now(), Duration::ZERO);
            let Called { entry, outcome } = called.unwrap();
            assert_eq!(entry.deadline, scene.base, "it has lost its place");
            let turn = outcome.unwrap();
            if !turn.gives_way() {
                break;
            }
            given += 1;
            scene.roster.release();
            scene.join(Rank::Of(Lane::Interactive, &one), 9).unwrap();
            assert_eq!(scene.turn(), Some(9));
            let bulk = Rank::Of(Lane::Bulk, &one);
            scene.roster.wait(bulk, entry, Some(turn)).unwrap();
        }
        assert_eq!(given, BULK_ONE_IN - 1, "{others} others wait");
    }
}

#[test]
fn callers_of_a_lane_take_turns_and_the_oldest_call_of_each_is_first() {
    let mut scene = Scene::new(1, 512);
    let (flood, good) = (caller("flood"), caller("good"));
    for mark in 0..6 {
        scene.join(Rank::Of(Lane::Bulk, &flood), mark).unwrap();
    }
    for mark in 10..12 {
        scene.join(Rank::Of(Lane::Bulk, &good), mark).unwrap();
    }
    let turns: Vec<u64> = std::iter::from_fn(|| scene.turn()).collect();
    assert_eq!(turns, [0, 10, 1, 11, 2, 3, 4, 5]);
    assert!(scene.roster.bulk.callers.is_empty() && scene.roster.bulk.turns.is_empty());
}

#[test]
fn a_lane_that_is_full_leaves_the_other_its_room_and_newcomers_theirs() {
    let mut scene = Scene::new(0, 64);
    let (flood, good) = (caller("flood"), caller("good"));
    let mut fill =
        |lane, who: &Identity| std::iter::from_fn(|| scene.join(Rank::Of(lane, who), 0)).count();
    assert_eq!(fill(Lane::Bulk, &flood), 28, "alone: all but what is kept");
    assert_eq!(fill(Lane::Interactive, &flood), 28);
    assert_eq!(fill(Lane::Bulk, &good), 4);
    assert_eq!(fill(Lane::Interactive, &good), 4);
    assert_eq!(scene.roster.len(), 64);
    for mark in 0..16 {
        assert!(scene.join(Rank::Own, mark).is_some());
    }
    assert!(scene.join(Rank::Own, 16).is_none());
}

#[test]
fn what_has_too_little_left_is_told_so_and_costs_no_turn() {
    let mut roster = Roster::new(1, 64, Weak::new());
    let (one, other) = (caller("one"), caller("other"));
    let now = Instant::now();
    let least = Duration::from_millis(10);
    let mut heard = Vec::new();
    for (who, left_ms) in [(&one, 9), (&one, 11), (&other, 11)] {
        let (entry, ear) = entry(now + Duration::from_millis(left_ms));
        heard.push(ear);
        roster.wait(Rank::Of(Lane::Bulk, who), entry, None).unwrap();
    }
    let late = roster.call_next(now, least).unwrap();
    assert!(matches!(late.outcome, Err(HsmError::DeadlineExceeded)));
    assert_eq!(roster.inside(), 0);
    let called = roster.call_next(now, least).unwrap();
    assert!(called.outcome.is_ok());
    drop(called.entry.answer.send(Err(HsmError::CallerLeft)));
    assert!(heard[1].try_recv().is_ok(), "the other one had its turn");
    assert!(roster.call_next(now, least).is_none(), "there is one place");
}

#[test]
fn who_waits_for_its_failures_holds_up_nobody() {
    let quota = Quota::new(1, Duration::from_secs(600), Clock::System);
    let (bad, good) = (caller("bad"), caller("good"));
    let allowance = quota.allowance(&bad, &"a".parse().unwrap()).unwrap();
    let mut roster = Roster::new(4, 64, Weak::new());
    let mut heard = Vec::new();
    let mut wait = |roster: &mut Roster, who, allowance| {
        let (entry, ear) = entry(far());
        heard.push(ear);
        let rank = Rank::Of(Lane::Interactive, who);
        roster
            .wait(rank, Entry { allowance, ..entry }, None)
            .unwrap();
    };
    for _ in 0..3 {
        wait(&mut roster, &bad, Some(Arc::clone(&allowance)));
    }
    wait(&mut roster, &bad, None);
    wait(&mut roster, &good, None);
    let now = Instant::now();
    let mut next = || roster.call_next(now, Duration::ZERO);
    let first = next().unwrap();
    assert!(first.outcome.is_ok() && first.entry.allowance.is_some());
    for _ in 0..2 {
        assert!(next().unwrap().entry.allowance.is_none());
    }
    assert!(
        next().is_none(),
        "the rest waits for what the first comes to"
    );
    allowance.keep();
    for is_first in [true, false] {
        let refused = next().unwrap().outcome.err();
        assert!(
            matches!(refused, Some(HsmError::FailuresTooMany { is_first: is, .. }) if is == is_first)
        );
    }
    assert_eq!((roster.len(), roster.inside()), (0, 3));
}

#[derive(Debug, Clone)]
enum Step {
    Join(Lane, usize),
    JoinOwn,
    Leave(usize),
    Release,
    Call,
}

fn step() -> impl Strategy<Value = Step> {
    let lane = prop_oneof![Just(Lane::Interactive), Just(Lane::Bulk)];
    prop_oneof![
        6 => (lane, 0..5_usize).prop_map(|(lane, who)| Step::Join(lane, who)),
        1 => Just(Step::JoinOwn),
        1 => any::<prop::sample::Index>().prop_map(|index| Step::Leave(index.index(64))),
        4 => Just(Step::Release),
        6 => Just(Step::Call),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    /// Whatever comes and goes: never more inside than the capacity, never more waiting
    /// than there is room for, nobody lost or called twice; a caller that waits in a lane is
    /// called before any other of it is called twice; bulk that waits is called with every eighth.
    #[test]
    fn bounds_no_loss_and_fairness(
        capacity in 1..6_usize,
        steps in prop::collection::vec(step(), 1..300),
    ) {
        let callers: Vec<Identity> = (0..5).map(|n| caller(&n.to_string())).collect();
        let mut roster = Roster::new(capacity, 24, Weak::new());
        // Ticket to its lane and caller; who is not in it is inside or gone.
        let mut waiting: BTreeMap<u64, Option<(Lane, usize)>> = BTreeMap::new();
        let mut called_since: HashMap<(Lane, usize), Vec<usize>> = HashMap::new();
        let mut before_bulk = 0;
        let mut inside: usize = 0;
        let base = far();
        for step in steps {
            let mark = |ticket: u64| base + Duration::from_secs(ticket);
            match step {
                Step::Join(lane, who) => {
                    // Its ticket will be this one, if it gets one.
                    let (entry, _heard) = entry(mark(roster.next_ticket));
                    let rank = Rank::Of(lane, &callers[who]);
                    let lane_len = waiting.values().flatten().filter(|(of, _)| *of == lane).count();
                    let own = waiting.values().flatten().filter(|of| **of == (lane, who)).count();
                    match roster.wait(rank, entry, None) {
                        Some(ticket) => {
                            prop_assert!(lane_len < 12);
                            if own == 0 {
                                called_since.insert((lane, who), Vec::new());
                            }
                            waiting.insert(ticket, Some((lane, who)));
                        }
                        None => prop_assert!(lane_len == 12 || own > 0, "a newcomer found no room"),
                    }
                }
                Step::JoinOwn => {
                    let (entry, _heard) = entry(mark(roster.next_ticket));
                    if let Some(ticket) = roster.wait(Rank::Own, entry, None) {
                        waiting.insert(ticket, None);
                    }
                }
                Step::Leave(index) => {
                    if let Some((&ticket, &whose)) = waiting.iter().nth(index) {
                        let rank = whose.map_or(Rank::Own, |(lane, who)| Rank::Of(lane, &callers[who]));
                        roster.leave(rank, ticket);
                        roster.leave(rank, ticket);
                        waiting.remove(&ticket);
                    }
                }
                Step::Release => {
                    roster.release();
                    inside = inside.saturating_sub(1);
                }
                Step::Call => {
                    let Some(called) = roster.call_next(Instant::now(), Duration::ZERO) else {
                        prop_assert!(inside >= capacity || waiting.is_empty(), "an idle place");
                        continue;
                    };
                    inside += 1;
                    prop_assert!(inside <= capacity);
                    let ticket = (called.entry.deadline - base).as_secs();
                    let whose = waiting.remove(&ticket);
                    prop_assert!(whose.is_some(), "called twice, or never there");
                    let own_waits = waiting.values().any(Option::is_none);
                    let Some((lane, who)) = whose.flatten() else {
                        continue;
                    };
                    prop_assert!(!own_waits, "the daemon's own calls are first");
                    let older = waiting.range(..ticket).any(|(_, of)| *of == Some((lane, who)));
                    prop_assert!(!older, "overtook itself");
                    let bulk_waits = waiting.values().flatten().any(|(of, _)| *of == Lane::Bulk);
                    before_bulk = match lane {
                        Lane::Interactive if bulk_waits => before_bulk + 1,
                        Lane::Interactive | Lane::Bulk => 0,
                    };
                    prop_assert!(before_bulk < BULK_ONE_IN);
                    called_since.insert((lane, who), Vec::new());
                    for other in 0..callers.len() {
                        let waits = waiting.values().any(|of| *of == Some((lane, other)));
                        let since = called_since.entry((lane, other)).or_default();
                        if other == who || !waits {
                            continue;
                        }
                        prop_assert!(!since.contains(&who), "{who} twice while {other} waited");
                        since.push(who);
                    }
                }
            }
            prop_assert_eq!(roster.inside(), inside);
            prop_assert_eq!(roster.len(), waiting.len());
        }
    }
}
