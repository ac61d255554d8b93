//! Failures that are taken, kept, given back and forgotten.

use super::*;

const WINDOW: Duration = Duration::from_secs(600);

fn caller(name: &str) -> Identity {
    format!("spiffe://t/{name}").parse().unwrap()
}

fn quota(max: u32) -> Quota {
    Quota::new(max, WINDOW, Clock::Fixed(UnixMs(7)))
}

fn pair(quota: &Quota, name: &str, kek: &str) -> Arc<Allowance> {
    let allowance = quota.allowance(&caller(name), &kek.parse().unwrap());
    allowance.unwrap()
}

#[test]
fn no_more_are_under_way_than_may_fail_and_none_after_the_last() {
    let quota = quota(3);
    let (bad, now) = (pair(&quota, "bad", "a"), Instant::now());
    for _ in 0..3 {
        assert_eq!(bad.take(now, &Weak::new()), Taken::One);
    }
    assert_eq!(bad.take(now, &Weak::new()), Taken::Later);
    bad.keep_at(now);
    assert_eq!(
        bad.take(now, &Weak::new()),
        Taken::Later,
        "two may fail, and two are under way"
    );
    bad.give_back();
    assert_eq!(bad.take(now, &Weak::new()), Taken::One);
    bad.keep_at(now);
    assert!(quota.alarms().is_empty());
    bad.keep_at(now);
    let spent = |is_first| Taken::Spent {
        retry_after: WINDOW / 3,
        is_first,
    };
    assert_eq!(bad.take(now, &Weak::new()), spent(true));
    assert_eq!(bad.take(now, &Weak::new()), spent(false));
    let alarm = OracleAlarm {
        caller: caller("bad"),
        kek: "a".parse().unwrap(),
        since: UnixMs(7),
        refused: 2,
    };
    assert_eq!(quota.alarms(), [alarm]);
    assert_eq!(pair(&quota, "bad", "b").take(now, &Weak::new()), Taken::One);
    assert_eq!(
        pair(&quota, "good", "a").take(now, &Weak::new()),
        Taken::One
    );
}

#[test]
fn good_ones_cost_nothing() {
    let quota = quota(1);
    let good = pair(&quota, "good", "a");
    for _ in 0..1_000 {
        assert_eq!(good.take(Instant::now(), &Weak::new()), Taken::One);
        good.give_back();
    }
    assert!(quota.alarms().is_empty());
}

#[test]
fn one_comes_back_after_another_and_the_alarm_ends_with_the_last() {
    let quota = quota(4);
    let (bad, now) = (pair(&quota, "bad", "a"), Instant::now());
    for _ in 0..4 {
        assert_eq!(bad.take(now, &Weak::new()), Taken::One);
        bad.keep_at(now);
    }
    let step = WINDOW / 4;
    let nearly = now + step.checked_sub(Duration::from_millis(1)).unwrap();
    assert!(matches!(
        bad.take(nearly, &Weak::new()),
        Taken::Spent { .. }
    ));
    assert_eq!(bad.take(now + step, &Weak::new()), Taken::One);
    assert_eq!(bad.take(now + step, &Weak::new()), Taken::Later);
    bad.keep_at(now + step);
    assert!(
        matches!(
            bad.take(now + step, &Weak::new()),
            Taken::Spent {
                is_first: false,
                ..
            }
        ),
        "the same alarm"
    );
    assert!(bad.alarm(now + WINDOW).is_some(), "one was spent later");
    assert!(bad.alarm(now + WINDOW + step).is_none());
    assert!(bad.is_whole(now + WINDOW + step));
}

#[test]
fn pairs_are_forgotten_when_they_are_whole_and_never_while_held() {
    let quota = quota(1);
    let held = pair(&quota, "held", "a");
    let spent = pair(&quota, "spent", "a");
    assert_eq!(spent.take(Instant::now(), &Weak::new()), Taken::One);
    spent.keep();
    drop(spent);
    for number in 2..PAIRS_MAX {
        drop(pair(&quota, &number.to_string(), "a"));
    }
    assert_eq!(quota.pairs().len, PAIRS_MAX);
    let _new = pair(&quota, "new", "a");
    assert_eq!(quota.pairs().len, 3);
    assert_eq!(quota.alarms().len(), 1, "who has spent is not forgotten");
    assert!(Arc::ptr_eq(&held, &pair(&quota, "held", "a")));
}

#[test]
fn where_there_is_no_room_a_new_pair_has_to_wait() {
    let quota = quota(1);
    let held: Vec<_> = (0..PAIRS_MAX)
        .map(|number| pair(&quota, &number.to_string(), "a"))
        .collect();
    let new = || quota.allowance(&caller("new"), &"a".parse().unwrap());
    assert!(new().is_none());
    drop(held);
    assert!(new().is_none(), "it is looked for room once in a while");
    quota.pairs().purged_at = None;
    assert!(new().is_some());
}
