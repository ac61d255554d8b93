//! The supervision against real child processes that are no workers, and the link against a real
//! socketpair. What a real worker with a real token does is in `tests/it/hsm.rs`.

mod authorized;
mod door;

use std::io::Write as _;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream as StdUnixStream;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use prost::Message as _;
use rustix::io::Errno;
use rustix::net::{RecvFlags, recv};
use tokio::net::UnixStream;
use tokio::sync::oneshot;

use super::asker::Asker;
use super::error::HsmError;
use super::frame;
use super::handle::Hsm;
use super::job::{KeyRef, UnwrapJob, WorkerCommand};
use super::line::{Line, Place};
use super::link::{Limit, Link, Outcome, Sent};
use super::loss::Loss;
use super::status::HsmState;
use super::tray::Tray;
use super::watchdog::{PING_LIMIT, Pings, watch};
use crate::config::HsmConfig;
use crate::proto::worker as proto;
use crate::proto::worker::request::Op;
use crate::proto::worker::response::Result as Answered;
use crate::types::{Lane, Padding, Sha256, WrappedDek};

const LONG: Duration = Duration::from_secs(60);
const LIMIT: Limit = Limit {
    time: LONG,
    setting: "hsm.call_timeout_ms",
};

fn config() -> HsmConfig {
    HsmConfig {
        module: PathBuf::from("/none/module.so"),
        token_label: "x".to_owned(),
        token_serial: "y".to_owned(),
        pin_file: PathBuf::from("/none/pin"),
        sessions: 2,
        queue_len_max: 2,
        call_timeout_ms: 100,
        admin_timeout_ms: 1_000,
        proven_at_start: 32,
        coverage_timeout_ms: 60_000,
        profiles_dir: None,
    }
}

fn start(program: &str, args: &[&str]) -> Hsm {
    let command = WorkerCommand {
        program: PathBuf::from(program),
        args: args.iter().map(Into::into).collect(),
        environment: std::collections::BTreeMap::new(),
    };
    Hsm::start(config(), command, PathBuf::from("/none/mark"))
}

fn job() -> UnwrapJob {
    UnwrapJob {
        key: KeyRef {
            object_id: [1; 16],
            spki_sha256: Some(Sha256::of(b"")),
        },
        padding: Padding::OaepSha1,
        wrapped_dek: WrappedDek::try_from(vec![0; 384]).unwrap(),
        implicit_rejection_key: None,
    }
}

async fn unwrap_until(hsm: &Hsm, deadline: Instant) -> Result<(), HsmError> {
    let caller = "uid:7".parse().unwrap();
    let asker = Asker::new(&caller, Lane::Interactive, deadline);
    hsm.unwrap(&job(), &asker).await.map(drop)
}

/// Waits for the state to be unavailable and says why.
async fn unavailable(hsm: &Hsm) -> HsmError {
    let mut state = hsm.changed();
    let state = state
        .wait_for(|state| matches!(state, HsmState::Unavailable { .. }))
        .await
        .unwrap();
    let HsmState::Unavailable { why, .. } = state.clone() else {
        unreachable!("just waited for it");
    };
    why
}

#[tokio::test]
async fn a_program_that_is_not_there_stops_the_start() {
    let hsm = start("/none/kekd", &[]);
    let error = hsm.opened().await.unwrap_err();
    assert!(matches!(error, HsmError::Spawn { .. }));
    assert!(error.to_string().contains("/none/kekd"), "{error}");
    hsm.shutdown().await;
    assert!(matches!(hsm.status().state, HsmState::ShutDown));
}

#[tokio::test]
async fn a_worker_that_dies_at_each_start_is_tried_again_and_calls_are_refused() {
    let hsm = start("/bin/sh", &["-c", "exit 3"]);
    let why = unavailable(&hsm).await;
    assert!(why.to_string().contains("exit status: 3"), "{why}");
    // Meanwhile calls are refused, and do not wait.
    let refused = unwrap_until(&hsm, Instant::now() + LONG).await.err();
    assert!(
        matches!(refused, Some(HsmError::NoService(_))),
        "{refused:?}"
    );
    while hsm.status().worker_restarts < 3 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    hsm.shutdown().await;
    let after = unwrap_until(&hsm, Instant::now() + LONG).await.err();
    assert!(matches!(after, Some(HsmError::ShutDown)), "{after:?}");
}

#[tokio::test]
async fn a_worker_that_hangs_when_opening_is_killed() {
    let hsm = start("/bin/sleep", &["1000"]);
    let soon = Instant::now() + Duration::from_millis(10);
    let early = unwrap_until(&hsm, soon).await.err();
    assert!(
        matches!(early, Some(HsmError::DeadlineExceeded)),
        "{early:?}"
    );
    let pid = loop {
        match hsm.status().worker_pid {
            Some(pid) => break pid,
            None => tokio::task::yield_now().await,
        }
    };
    let why = unavailable(&hsm).await;
    assert!(why.to_string().contains("hsm.admin_timeout_ms"), "{why}");
    assert!(!PathBuf::from(format!("/proc/{pid}")).exists());
    hsm.shutdown().await;
}

#[tokio::test]
async fn a_shutdown_does_not_wait_for_a_token() {
    let hsm = start("/bin/sleep", &["1000"]);
    hsm.shutdown().await;
    hsm.shutdown().await;
    assert!(hsm.status().worker_pid.is_none());
    assert!(matches!(hsm.opened().await, Err(HsmError::ShutDown)));
}

/// A worker's ends of the sockets.
struct Far {
    socket: StdUnixStream,
    requests: OwnedFd,
}

impl Far {
    /// Takes the oldest request, as a session does.
    fn take(&self) -> proto::Request {
        let mut buffer = vec![0; frame::REQUEST_LEN_MAX];
        let (len, _) = recv(&self.requests, &mut *buffer, RecvFlags::empty()).unwrap();
        proto::Request::decode(buffer.get(..len).unwrap()).unwrap()
    }

    /// Whether there is none to take.
    fn is_empty(&self) -> bool {
        let mut buffer = [0; 8];
        let flags = RecvFlags::DONTWAIT | RecvFlags::PEEK;
        recv(&self.requests, &mut buffer[..], flags) == Err(Errno::AGAIN)
    }

    fn answer(&self, id: u64, result: Answered) {
        let result = Some(result);
        let response = frame::encode(&proto::Response { id, result }).unwrap();
        (&self.socket).write_all(&response).unwrap();
    }
}

fn link(sessions: usize) -> (Arc<Link>, super::link::Pump, Far) {
    let (ours, socket) = StdUnixStream::pair().unwrap();
    ours.set_nonblocking(true).unwrap();
    let ours = UnixStream::from_std(ours).unwrap();
    let (tray, requests) = Tray::new().unwrap();
    let (link, pump) = Link::start(ours, tray, 1, sessions);
    (link, pump, Far { socket, requests })
}

/// What becomes of a call that was sent.
fn waiting(sent: Sent) -> oneshot::Receiver<Outcome> {
    let Sent::Waiting { outcome, .. } = sent else {
        unreachable!("the link has not ended");
    };
    outcome
}

/// The loss that ended a call, and its place.
async fn lost(outcome: oneshot::Receiver<Outcome>) -> (Loss, Option<Place>) {
    let Outcome::Lost { loss, place } = outcome.await.unwrap() else {
        unreachable!("the worker was lost");
    };
    (loss, place)
}

fn data_objects() -> Answered {
    Answered::DataObjects(proto::DataObjects::default())
}

fn read_data() -> Op {
    Op::ReadData(proto::ReadData {
        labels: vec!["kekd".to_owned()],
    })
}

#[tokio::test]
async fn a_caller_who_leaves_keeps_its_place_until_the_worker_answers() {
    let (link, _pump, worker) = link(1);
    let line = Line::new(1, 1);
    let far = Instant::now() + LONG;
    let place = line.own_place(far).await.unwrap();
    drop(waiting(link.send(
        read_data(),
        "ReadData",
        Some(place),
        LIMIT,
    )));
    assert_eq!(line.inside(), 1);
    worker.answer(worker.take().id, data_objects());
    drop(line.own_place(far).await.unwrap());
    assert_eq!(link.answered(), 1);
}

#[tokio::test]
async fn when_a_worker_ends_every_call_is_told_and_gets_its_place_back() {
    let (link, _pump, worker) = link(2);
    let line = Line::new(3, 1);
    let mut calls = Vec::new();
    for _ in 0..3 {
        let place = line.own_place(Instant::now() + LONG).await.unwrap();
        calls.push(waiting(link.send(
            read_data(),
            "ReadData",
            Some(place),
            LIMIT,
        )));
    }
    // One is at work in a session, another would be, and the third is at the door.
    worker.take();
    drop(worker);
    let [first, others @ ..] = &mut calls[..] else {
        unreachable!("three were made");
    };
    let Outcome::Lost { loss, place } = first.await.unwrap() else {
        unreachable!("a session had it");
    };
    assert_eq!(loss, Loss::Died(None));
    assert!(place.is_some());
    for call in others {
        assert!(matches!(call.await.unwrap(), Outcome::NotBegun));
    }
    assert_eq!(line.inside(), 1);
    assert!(matches!(
        link.send(read_data(), "ReadData", None, LIMIT),
        Sent::Ended(None)
    ));
}

#[tokio::test]
async fn the_first_lost_link_is_the_reason_for_all() {
    let (link, _pump, worker) = link(2);
    let calls = [(); 2].map(|()| waiting(link.send(read_data(), "ReadData", None, LIMIT)));
    let failure = |detail: &str| proto::Failure {
        kind: proto::FailureKind::LinkLost.into(),
        detail: detail.to_owned(),
        return_value: "CKR_DEVICE_REMOVED".to_owned(),
    };
    let [id, _] = [(); 2].map(|()| worker.take().id);
    worker.answer(id, Answered::Failure(failure("gone")));
    let expected = Loss::LinkLost {
        detail: "gone".to_owned(),
        return_value: "CKR_DEVICE_REMOVED".to_owned(),
    };
    for call in calls {
        assert_eq!(lost(call).await.0, expected);
    }
    link.lose(Loss::Died(None));
    assert_eq!(link.ended().await, expected);
}

#[tokio::test]
async fn a_login_refused_in_the_middle_of_a_call_ends_the_link_and_says_so() {
    let (link, _pump, worker) = link(1);
    let _call = waiting(link.send(read_data(), "ReadData", None, LIMIT));
    let refused = proto::Failure {
        kind: proto::FailureKind::PinRefused.into(),
        ..proto::Failure::default()
    };
    worker.answer(worker.take().id, Answered::Failure(refused.clone()));
    let loss = link.ended().await;
    assert_eq!(loss, Loss::LoginRefused(refused));
    let error = HsmError::of_early_loss(loss, &config());
    assert!(error.ends_logins(), "{error}");
}

#[tokio::test]
async fn what_is_no_answer_ends_the_link() {
    let foreign = frame::encode(&proto::Response {
        id: 99,
        result: Some(Answered::Caged(proto::Caged {})),
    })
    .unwrap();
    let cases: [&[u8]; 4] = [
        &[0xff; 4],                // a length beyond the limit
        &[0, 0, 0, 2, 0xff, 0xff], // no protobuf
        &[0, 0, 0, 0],             // an empty answer
        &foreign,                  // an answer to no request
    ];
    for bytes in cases {
        let (link, _pump, mut worker) = link(1);
        worker.socket.write_all(bytes).unwrap();
        let loss = link.ended().await;
        assert!(matches!(loss, Loss::Garbled(_)), "{loss}");
    }
}

/// A peer that answers pings and nothing else, until its input ends.
fn answer_pings(mut theirs: StdUnixStream) -> tokio::task::JoinHandle<()> {
    tokio::task::spawn_blocking(move || {
        while let Ok(Some(request)) = frame::read(&theirs) {
            let request = proto::Request::decode(&request[..]).unwrap();
            if let Some(Op::Ping(_)) = request.op {
                let id = request.id;
                let result = Some(Answered::Pong(proto::Pong {}));
                let pong = frame::encode(&proto::Response { id, result }).unwrap();
                theirs.write_all(&pong).unwrap();
            }
        }
    })
}

#[tokio::test]
async fn a_call_that_hangs_in_a_live_process_is_found_by_its_own_limit() {
    let (link, _pump, worker) = link(1);
    let peer = answer_pings(worker.socket.try_clone().unwrap());
    let limit = Limit {
        time: PING_LIMIT * 3,
        setting: "hsm.call_timeout_ms",
    };
    let call = waiting(link.send(read_data(), "ReadData", None, limit));
    worker.take();
    let loss = watch(&link, limit.time, Pings::Sent).await;
    assert!(matches!(loss, Loss::Overdue { .. }), "{loss}");
    assert_eq!(lost(call).await.0, loss);
    peer.await.unwrap();
}

#[tokio::test]
async fn a_process_that_stands_still_is_found_though_its_calls_have_time() {
    let (link, _pump, worker) = link(1);
    let call = waiting(link.send(read_data(), "ReadData", None, LIMIT));
    worker.take();
    let loss = watch(&link, LIMIT.time, Pings::Sent).await;
    assert_eq!(loss, Loss::Frozen(PING_LIMIT));
    assert_eq!(lost(call).await.0, loss);
}

#[tokio::test]
async fn the_last_handle_takes_the_worker_with_it() {
    let hsm = start("/bin/sleep", &["1000"]);
    let pid = loop {
        match hsm.status().worker_pid {
            Some(pid) => break pid,
            None => tokio::task::yield_now().await,
        }
    };
    drop(hsm);
    while PathBuf::from(format!("/proc/{pid}")).exists() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
