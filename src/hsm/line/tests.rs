//! The line with callers that wait, leave and come in.

use super::*;
use crate::access::Identity;
use crate::clock::Clock;
use crate::hsm::asker::Presence;
use crate::hsm::quota::Quota;
use crate::types::Lane;

const LONG: Duration = Duration::from_secs(60);

fn caller(name: &str) -> Identity {
    format!("spiffe://t/{name}").parse().unwrap()
}

/// A call that waits for its place, and gives it back when it has it.
fn waits(
    line: &Arc<Line>,
    lane: Lane,
    far: Instant,
) -> tokio::task::JoinHandle<Result<(), HsmError>> {
    let line = Arc::clone(line);
    tokio::spawn(async move {
        let caller = caller("one");
        line.place(&Asker::new(&caller, lane, far), None, || ())
            .await
            .map(drop)
    })
}

async fn until_len(line: &Line, len: usize) {
    while line.len() != len {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_full_lane_refuses_at_once_and_keeps_room_for_the_other_and_the_daemon() {
    let line = Line::new(1, 2);
    let far = Instant::now() + LONG;
    let one = caller("one");
    let inside = line.own_place(far).await.unwrap();
    let mut waiters = vec![waits(&line, Lane::Bulk, far)];
    until_len(&line, 1).await;
    let refused = line
        .place(&Asker::new(&one, Lane::Bulk, far), None, || ())
        .await;
    assert!(matches!(refused, Err(HsmError::Busy { .. })));
    waiters.push(waits(&line, Lane::Interactive, far));
    until_len(&line, 2).await;
    let own = {
        let line = Arc::clone(&line);
        tokio::spawn(async move { line.own_place(far).await.map(drop) })
    };
    until_len(&line, 3).await;
    drop(inside);
    for waiter in waiters {
        waiter.await.unwrap().unwrap();
    }
    own.await.unwrap().unwrap();
    assert_eq!(line.len(), 0);
}

#[tokio::test]
async fn a_deadline_or_a_caller_who_leaves_frees_the_place_in_the_line() {
    let line = Line::new(1, 2);
    let far = Instant::now() + LONG;
    let one = caller("one");
    let inside = line.own_place(far).await.unwrap();
    let past = Asker::new(&one, Lane::Bulk, Instant::now());
    let past = line.place(&past, None, || ()).await;
    assert!(matches!(past, Err(HsmError::DeadlineExceeded)));
    let gone = waits(&line, Lane::Bulk, far);
    until_len(&line, 1).await;
    gone.abort();
    assert!(gone.await.unwrap_err().is_cancelled());
    assert_eq!(line.len(), 0);

    let (attendance, presence) = Presence::begin();
    let hung_up = {
        let (line, one) = (Arc::clone(&line), one.clone());
        tokio::spawn(async move {
            let asker = Asker::new(&one, Lane::Bulk, far);
            line.place(&asker.while_present(&presence), None, || ())
                .await
                .map(drop)
        })
    };
    until_len(&line, 1).await;
    drop(attendance);
    let hung_up = hung_up.await.unwrap();
    assert!(matches!(hung_up, Err(HsmError::CallerLeft)));
    assert_eq!(line.len(), 0);
    drop(inside);
    let next = Asker::new(&one, Lane::Bulk, far);
    line.place(&next, None, || ()).await.map(drop).unwrap();
}

#[tokio::test]
async fn only_as_many_go_in_as_may_still_fail_and_settling_calls_the_next() {
    let line = Line::new(8, 64);
    let quota = Quota::new(2, Duration::from_secs(600), Clock::System);
    let (bad, far) = (caller("bad"), Instant::now() + LONG);
    let allowance = quota.allowance(&bad, &"a".parse().unwrap()).unwrap();
    let asker = || Asker::new(&bad, Lane::Interactive, far).within(Arc::clone(&allowance));
    let first = line.place(&asker(), None, || ()).await.unwrap();
    let second = line.place(&asker(), None, || ()).await.unwrap();
    let third = {
        let (line, asker_of) = (Arc::clone(&line), (bad.clone(), Arc::clone(&allowance)));
        tokio::spawn(async move {
            let (bad, allowance) = asker_of;
            let asker = Asker::new(&bad, Lane::Interactive, far).within(allowance);
            line.place(&asker, None, || ()).await
        })
    };
    until_len(&line, 1).await;
    first.settle(true);
    until_len(&line, 1).await;
    second.settle(false);
    let third = third.await.unwrap().unwrap();
    third.settle(true);
    let spent = line.place(&asker(), None, || ()).await.err();
    assert!(matches!(
        spent,
        Some(HsmError::FailuresTooMany { is_first: true, .. })
    ));
    assert_eq!(quota.alarms().len(), 1);
}

/// Two tokens share one allowance: who waits for it in the one's line is called by the other's.
#[tokio::test]
async fn a_failure_that_comes_back_is_heard_of_in_every_line() {
    let (here, there) = (Line::new(8, 64), Line::new(8, 64));
    let quota = Quota::new(1, Duration::from_secs(600), Clock::System);
    let (bad, far) = (caller("bad"), Instant::now() + LONG);
    let allowance = quota.allowance(&bad, &"a".parse().unwrap()).unwrap();
    let comes = |line: &Arc<Line>| {
        let (line, bad, allowance) = (Arc::clone(line), bad.clone(), Arc::clone(&allowance));
        tokio::spawn(async move {
            let asker = Asker::new(&bad, Lane::Interactive, far).within(allowance);
            line.place(&asker, None, || ()).await
        })
    };
    let mut place = comes(&here).await.unwrap().unwrap();
    // There and back: every time the only failure is given back in the other line.
    for (to, from) in [(&there, &here), (&here, &there)] {
        let next = comes(to);
        until_len(to, 1).await;
        assert_eq!((from.inside(), to.inside()), (1, 0), "there is room");
        place.settle(false);
        assert_eq!(to.len(), 0, "nobody was called");
        place = next.await.unwrap().unwrap();
    }
    // And when it is spent, they hear that.
    let last = comes(&there);
    until_len(&there, 1).await;
    place.settle(true);
    assert_eq!(there.len(), 0, "nobody was told");
    let last = last.await.unwrap().err();
    assert!(matches!(last, Some(HsmError::FailuresTooMany { .. })));
    assert_eq!((here.inside(), there.inside()), (0, 0));
}

#[test]
fn a_refused_caller_waits_half_the_queue() {
    let line = Line::new(4, 256);
    for _ in 0..200 {
        line.observe(Duration::from_millis(8));
    }
    let after = line.retry_after(256, 4);
    assert!(after > Duration::from_millis(200) && after < Duration::from_millis(300));
    assert_eq!(line.retry_after(0, 4), RETRY_AFTER_MIN);
}

#[tokio::test]
async fn an_estimate_that_refuses_everybody_is_believed_less_and_less() {
    let line = Line::new(1, 8);
    for _ in 0..100 {
        line.observe(LONG);
    }
    let one = caller("one");
    let mut refused = 0;
    let left = Duration::from_secs(5);
    while let Err(error) = {
        let asker = Asker::new(&one, Lane::Interactive, Instant::now() + left);
        line.place(&asker, None, || ()).await.map(drop)
    } {
        assert!(matches!(error, HsmError::DeadlineExceeded));
        refused += 1;
        assert!(refused < 100, "nobody is ever let in again");
    }
    assert!(refused > 0);
}
