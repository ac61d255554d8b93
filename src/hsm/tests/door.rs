//! Calls at the door of a worker: let in while all its sessions are busy, and not begun.

use super::*;

fn id_of(sent: &Sent) -> u64 {
    let Sent::Waiting { id, .. } = sent else {
        unreachable!("the link has not ended");
    };
    *id
}

fn read(link: &Link, place: Option<Place>) -> Sent {
    link.send(read_data(), "ReadData", place, LIMIT)
}

#[tokio::test]
async fn a_session_that_comes_free_finds_the_next_call_and_only_then_its_time_runs() {
    let (link, _pump, worker) = link(1);
    let line = Line::new(2, 1);
    let (caller, far) = ("uid:7".parse().unwrap(), Instant::now() + LONG);
    let asker = Asker::new(&caller, Lane::Interactive, far);
    let first = read(&link, line.place(&asker, None, || ()).await.ok());
    let at_once = Limit {
        time: Duration::ZERO,
        setting: "hsm.call_timeout_ms",
    };
    let place = line.place(&asker, None, || ()).await.unwrap();
    let second = link.send(read_data(), "ReadData", Some(place), at_once);
    assert_eq!((link.in_flight(), link.clients_at_door()), (2, 1));
    let [id, next] = [(); 2].map(|()| worker.take().id);
    assert_eq!([id, next], [id_of(&first), id_of(&second)]);
    assert_eq!(link.overdue(PING_LIMIT), None);
    worker.answer(id, data_objects());
    assert!(matches!(
        waiting(first).await.unwrap(),
        Outcome::Answered { .. }
    ));
    assert_eq!((link.in_flight(), link.clients_at_door()), (1, 0));
    let overdue = link.overdue(PING_LIMIT);
    assert!(matches!(overdue, Some(Loss::Overdue { .. })), "{overdue:?}");
}

#[tokio::test]
async fn a_call_is_withdrawn_as_long_as_no_session_has_taken_it() {
    let (link, _pump, worker) = link(1);
    let line = Line::new(3, 1);
    let (caller, far) = ("uid:7".parse().unwrap(), Instant::now() + LONG);
    let asker = Asker::new(&caller, Lane::Interactive, far);
    let mut sent = Vec::new();
    for _ in 0..3 {
        let place = line.place(&asker, None, || ()).await.unwrap();
        sent.push(read(&link, Some(place)));
    }
    let [first, second, third] = sent.iter().map(id_of).collect::<Vec<_>>()[..] else {
        unreachable!("three were sent");
    };
    assert!(!link.withdraw(first), "a session was free for it");
    assert!(link.withdraw(second));
    assert!(!link.withdraw(second), "it was there");
    assert_eq!((line.inside(), link.clients_at_door()), (2, 1));
    assert_eq!([worker.take().id, worker.take().id], [first, third]);
    assert!(worker.is_empty());
    // That the session has ended with the first was not heard of yet.
    assert!(!link.withdraw(third), "a session has it");
    assert_eq!(line.inside(), 2);
}

#[tokio::test]
async fn a_bulk_call_at_the_door_gives_way_and_comes_back_before_its_callers_others() {
    let (link, _pump, worker) = link(1);
    let line = Line::new(2, 16);
    let (caller, far) = ("uid:7".parse().unwrap(), Instant::now() + LONG);
    let bulk = Asker::new(&caller, Lane::Bulk, far);
    let interactive = Asker::new(&caller, Lane::Interactive, far);
    let place = line.place(&bulk, None, || ()).await.unwrap();
    let in_session = id_of(&read(&link, Some(place)));
    let place = line.place(&bulk, None, || ()).await.unwrap();
    let turn = place.turn();
    let gave_way = waiting(read(&link, Some(place)));
    // The one that is in the session stays there.
    let place = line.place(&interactive, None, || link.make_way()).await;
    let goes_next = id_of(&read(&link, Some(place.unwrap())));
    assert!(matches!(gave_way.await.unwrap(), Outcome::NotBegun));
    // One of its lane has nothing to give.
    let later = line.place(&interactive, None, || link.make_way());
    assert_eq!(
        [worker.take().id, worker.take().id],
        [in_session, goes_next]
    );
    assert!(worker.is_empty());
    let younger = line.place(&bulk, None, || ());
    let back = line.place(&bulk, Some(turn), || ());
    // One place for all of them, one after another.
    let ends = async { worker.answer(in_session, data_objects()) };
    let (sender, mut order) = tokio::sync::mpsc::unbounded_channel();
    let told = |name: &'static str, place: Result<Place, HsmError>| {
        sender.send(name).unwrap();
        drop(place.unwrap());
    };
    tokio::join!(
        async { told("later", later.await) },
        async { told("younger", younger.await) },
        async { told("back", back.await) },
        ends,
    );
    let mut told = Vec::new();
    while let Ok(name) = order.try_recv() {
        told.push(name);
    }
    assert_eq!(told, ["later", "back", "younger"]);
}

#[tokio::test]
async fn what_is_the_daemons_own_gives_way_to_nobody() {
    let (link, _pump, worker) = link(1);
    let line = Line::new(2, 16);
    let far = Instant::now() + LONG;
    let mut sent = Vec::new();
    for _ in 0..2 {
        let place = line.own_place(far).await.unwrap();
        sent.push(id_of(&read(&link, Some(place))));
    }
    link.make_way();
    assert_eq!([worker.take().id, worker.take().id], sent[..]);
}

#[tokio::test]
async fn what_is_the_daemons_own_is_at_the_door_and_no_client_that_waits() {
    let (link, _pump, _worker) = link(1);
    let line = Line::new(4, 16);
    let (caller, far) = ("uid:7".parse().unwrap(), Instant::now() + LONG);
    let mut sent = Vec::new();
    for lane in [Lane::Interactive, Lane::Bulk] {
        let asker = Asker::new(&caller, lane, far);
        for place in [
            line.own_place(far).await,
            line.place(&asker, None, || ()).await,
        ] {
            sent.push(read(&link, Some(place.unwrap())));
        }
    }
    // The first, an own call, is in the session.
    assert_eq!((link.in_flight(), link.clients_at_door()), (4, 2));
}
