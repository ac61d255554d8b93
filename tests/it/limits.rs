//! What a hostile peer can do to the network side: everything is cut, memory stays bounded, good
//! clients are served all the while.

use std::time::Duration;

use kekd::client::UnwrapCall;
use kekd::types::Padding;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UnixStream};

use crate::harness::{Kek, Rig, dek};

/// The HTTP/2 connection preface and an empty SETTINGS frame (RFC 9113 sections 3.4 and 6.5).
pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00";

/// How long a peer that does nothing good may stay.
const CUT_WITHIN: Duration = Duration::from_secs(15);

async fn served(rig: &Rig) {
    let client = rig.client("lkm-1").await;
    let kek = Kek::of(&client, "recordings").await;
    let answer = client
        .unwrap(kek.call(Padding::OaepSha1, &[1; 32]))
        .await
        .unwrap();
    assert_eq!(dek(&answer.release), [1; 32]);
}

/// Whether the other side closes within [`CUT_WITHIN`].
pub async fn is_cut(stream: &mut (impl tokio::io::AsyncRead + Unpin)) -> bool {
    let mut sink = vec![0; 4096];
    let until_end = async { while matches!(stream.read(&mut sink).await, Ok(read) if read > 0) {} };
    tokio::time::timeout(CUT_WITHIN, until_end).await.is_ok()
}

#[tokio::test]
async fn silent_connections_are_cut() {
    let rig = Rig::stopped();
    rig.set("limits", "handshake_timeout_ms = 1000");
    rig.start();
    let mut silent = Vec::new();
    for _ in 0..40 {
        silent.push(TcpStream::connect(rig.socket_address()).await.unwrap());
    }
    served(&rig).await;
    for stream in &mut silent {
        assert!(
            is_cut(stream).await,
            "a connection without ClientHello stays open"
        );
    }
    served(&rig).await;
}

pub async fn socket(rig: &Rig) -> UnixStream {
    UnixStream::connect(rig.dir.join("run/kekd.sock"))
        .await
        .unwrap()
}

#[tokio::test]
async fn half_a_preface_and_half_a_header_block_are_cut() {
    let rig = Rig::stopped();
    rig.set(
        "limits",
        "handshake_timeout_ms = 1000\nkeepalive_interval_ms = 2000\nkeepalive_timeout_ms = 2000",
    );
    rig.start();
    let mut half_preface = socket(&rig).await;
    half_preface.write_all(&PREFACE[..10]).await.unwrap();
    let mut half_header = socket(&rig).await;
    half_header.write_all(PREFACE).await.unwrap();
    // A HEADERS frame that says it has 100 bytes, without END_HEADERS, and sends three of them.
    half_header
        .write_all(b"\x00\x00\x64\x01\x00\x00\x00\x00\x01\x82\x86\x84")
        .await
        .unwrap();
    let mut nothing = socket(&rig).await;
    served(&rig).await;
    assert!(is_cut(&mut half_preface).await, "half a preface stays open");
    assert!(
        is_cut(&mut half_header).await,
        "half a header block stays open"
    );
    assert!(
        is_cut(&mut nothing).await,
        "a connection without a preface stays open"
    );
}

#[tokio::test]
async fn twenty_thousand_streams_are_cut_and_cost_no_memory() {
    let rig = Rig::serving();
    served(&rig).await;
    let before = resident_kib(rig.daemon_pid());
    let mut stream = socket(&rig).await;
    stream.write_all(PREFACE).await.unwrap();
    // HEADERS with END_HEADERS and without END_STREAM, on 20,000 streams: POST / over http.
    for number in 0..20_000_u32 {
        let id = (number * 2 + 1).to_be_bytes();
        let frame = [&b"\x00\x00\x03\x01\x04"[..], &id, b"\x83\x86\x84"].concat();
        if stream.write_all(&frame).await.is_err() {
            break;
        }
    }
    served(&rig).await;
    let grown = resident_kib(rig.daemon_pid()).saturating_sub(before);
    assert!(grown < 32 * 1024, "20,000 streams cost {grown} KiB");
    drop(stream);
    served(&rig).await;
}

#[tokio::test]
async fn rapid_reset_is_cut() {
    let rig = Rig::serving();
    let mut stream = socket(&rig).await;
    stream.write_all(PREFACE).await.unwrap();
    for number in 0..20_000_u32 {
        let id = (number * 2 + 1).to_be_bytes();
        let headers = [&b"\x00\x00\x03\x01\x04"[..], &id, b"\x83\x86\x84"].concat();
        let reset = [&b"\x00\x00\x04\x03\x00"[..], &id, b"\x00\x00\x00\x08"].concat();
        if stream.write_all(&[headers, reset].concat()).await.is_err() {
            break;
        }
    }
    assert!(is_cut(&mut stream).await, "rapid reset goes on unpunished");
    served(&rig).await;
}

/// A frame of `kind` with `flags` on a stream (RFC 9113 section 4.1).
pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let len = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let head = [&len[1..], &[kind, flags], &stream.to_be_bytes()].concat();
    [&head, payload].concat()
}

pub const DATA: u8 = 0x0;
pub const HEADERS: u8 = 0x1;
pub const SETTINGS: u8 = 0x4;
const CONTINUATION: u8 = 0x9;
pub const END_HEADERS: u8 = 0x4;

/// A field that is not in the table of HPACK, both parts shorter than 127 bytes (RFC 7541 section
/// 6.2.2).
fn field(name: &str, value: &str) -> Vec<u8> {
    let len = |text: &str| u8::try_from(text.len()).unwrap();
    let name = [&[0, len(name)], name.as_bytes()].concat();
    [&name, &[len(value)][..], value.as_bytes()].concat()
}

/// The header block of a gRPC call: POST over http.
pub fn call(path: &str) -> Vec<u8> {
    let fields = [
        field(":path", path),
        field(":authority", "localhost"),
        field("content-type", "application/grpc"),
        field("te", "trailers"),
    ];
    [&b"\x83\x86"[..], &fields.concat()].concat()
}

#[tokio::test]
async fn a_flood_of_continuations_is_cut() {
    let rig = Rig::serving();
    served(&rig).await;
    let before = resident_kib(rig.daemon_pid());
    for payload in [field("x-a", &"y".repeat(100)), Vec::new()] {
        let mut stream = socket(&rig).await;
        stream.write_all(PREFACE).await.unwrap();
        stream
            .write_all(&frame(HEADERS, 0, 1, &call("/x")))
            .await
            .unwrap();
        let next = frame(CONTINUATION, 0, 1, &payload);
        // Ends only because the other side does.
        while stream.write_all(&next).await.is_ok() {}
        served(&rig).await;
    }
    let grown = resident_kib(rig.daemon_pid()).saturating_sub(before);
    assert!(grown < 32 * 1024, "continuations cost {grown} KiB");
}

#[tokio::test]
async fn headers_too_large_are_refused() {
    let rig = Rig::serving();
    let mut stream = socket(&rig).await;
    stream.write_all(PREFACE).await.unwrap();
    let more = field("x-a", &"y".repeat(100)).repeat(140);
    let block = [call("/kekd.v1.NodeService/GetStatus"), more].concat();
    assert!(block.len() > 8 * 1024 && block.len() < 16 * 1024);
    // With END_STREAM: the call would be complete.
    let whole = frame(HEADERS, END_HEADERS | 0x1, 1, &block);
    stream.write_all(&whole).await.unwrap();
    let (kind, payload) = answer(&mut stream, 1).await;
    // 0x88 is ":status: 200" (RFC 7541 appendix A), with which every gRPC answer begins.
    let accepted = kind == HEADERS && payload[0] == 0x88;
    assert!(!accepted, "a call with 14 KiB of headers was answered");
    served(&rig).await;
}

/// The first frame on a stream from the other side, or the end of the connection (GOAWAY).
async fn answer(stream: &mut UnixStream, of: u32) -> (u8, Vec<u8>) {
    const GOAWAY: u8 = 0x7;
    loop {
        let mut head = [0; 9];
        stream.read_exact(&mut head).await.unwrap();
        let len = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let mut payload = vec![0; usize::try_from(len).unwrap()];
        stream.read_exact(&mut payload).await.unwrap();
        let id = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
        if id == of || head[3] == GOAWAY {
            return (head[3], payload);
        }
    }
}

#[tokio::test]
async fn a_body_that_does_not_come_ends_its_call() {
    let rig = Rig::stopped();
    rig.set("limits", "request_timeout_ms_max = 4000");
    rig.start();
    let mut stream = socket(&rig).await;
    stream.write_all(PREFACE).await.unwrap();
    let begin = [
        frame(
            HEADERS,
            END_HEADERS,
            1,
            &call("/kekd.v1.UnwrapService/Unwrap"),
        ),
        // A message of 16,000 bytes is announced, and one of them sent.
        frame(DATA, 0, 1, b"\x00\x00\x00\x3e\x80x"),
    ];
    stream.write_all(&begin.concat()).await.unwrap();
    let (kind, payload) = answer(&mut stream, 1).await;
    assert_eq!(kind, HEADERS, "{payload:?}");
    served(&rig).await;
}

/// `count` requests of an `UnwrapStream` that are not even well formed, as one DATA frame.
fn malformed(stream: u32, count: usize) -> Vec<u8> {
    use prost::Message as _;
    let message = kekd::proto::v1::UnwrapStreamRequest::default().encode_to_vec();
    let len = u32::try_from(message.len()).unwrap().to_be_bytes();
    let message = [&[0][..], &len, &message].concat();
    frame(DATA, 0, stream, &message.repeat(count))
}

#[tokio::test]
async fn who_takes_no_answers_is_cut_and_costs_little() {
    let rig = Rig::stopped();
    rig.set("limits", "request_timeout_ms_max = 4000");
    rig.start();
    served(&rig).await;
    let before = resident_kib(rig.daemon_pid());
    let mut readers = Vec::new();
    for _ in 0..8 {
        let mut stream = socket(&rig).await;
        // SETTINGS_INITIAL_WINDOW_SIZE 0: no answer may be sent, ever.
        let no_window = frame(SETTINGS, 0, 0, b"\x00\x04\x00\x00\x00\x00");
        let path = "/kekd.v1.UnwrapService/UnwrapStream";
        let mut sent = [PREFACE, &no_window].concat();
        for id in (1..64).step_by(2) {
            sent.extend(frame(HEADERS, END_HEADERS, id, &call(path)));
            sent.extend(malformed(id, 200));
        }
        // On a slow machine the cut may come while this is still being sent.
        stream.write_all(&sent).await.ok();
        readers.push(stream);
    }
    served(&rig).await;
    for reader in &mut readers {
        assert!(is_cut(reader).await, "a client that takes no answers stays");
    }
    let grown = resident_kib(rig.daemon_pid()).saturating_sub(before);
    assert!(grown < 48 * 1024, "answers nobody takes cost {grown} KiB");
    assert!(rig.log().contains("ANSWERS_NOT_TAKEN"));
    served(&rig).await;
}

/// One client fills the queue and keeps it full; another is not told that the node is busy.
#[tokio::test]
async fn a_client_that_floods_takes_no_place_of_another() {
    let rig = Rig::stopped();
    rig.set("hsm", "sessions = 1\nqueue_len_max = 8");
    rig.start();
    let (flood, good) = (rig.client("lkm-2").await, rig.client("lkm-1").await);
    let kek = Kek::of(&flood, "engage").await;
    let mut floods = Vec::new();
    for _ in 0..4 {
        let (flood, call) = (flood.clone(), kek.call(Padding::OaepSha1, &[2; 32]));
        floods.push(tokio::spawn(async move {
            let mut busy = 0_u32;
            let calls = (0..500).map(move |number| UnwrapCall {
                request_id: Some(format!("flood-{number}").parse().unwrap()),
                ..call.clone()
            });
            let answers = flood.unwrap_stream(tokio_stream::iter(calls)).await;
            let mut answers = answers.unwrap();
            while let Some(answer) = answers.next().await {
                let refused = answer.unwrap().outcome.err();
                busy += u32::from(refused.is_some_and(|refusal| refusal.reason == "BUSY"));
            }
            busy
        }));
    }
    let kek = Kek::of(&good, "recordings").await;
    for _ in 0..40 {
        let answer = good.unwrap(kek.call(Padding::OaepSha1, &[1; 32])).await;
        assert_eq!(dek(&answer.unwrap().release), [1; 32]);
    }
    let mut busy = 0;
    for flood in floods {
        busy += flood.await.unwrap();
    }
    assert!(busy > 0, "the flood was none");
}

#[tokio::test]
async fn a_message_too_large_is_refused() {
    use kekd::proto::v1::UnwrapRequest;
    use kekd::proto::v1::unwrap_service_client::UnwrapServiceClient;
    let rig = Rig::serving();
    let mut client = UnwrapServiceClient::new(rig.channel().await);
    let request = UnwrapRequest {
        wrapped_dek: vec![0; 4 * 1024 * 1024],
        ..UnwrapRequest::default()
    };
    let status = client
        .unwrap(request)
        .await
        .expect_err("4 MiB were taken in");
    assert_eq!(status.code(), tonic::Code::OutOfRange, "{status}");
    served(&rig).await;
}

/// Case 57: five thousand connections, with the settings as they are delivered. The Unix socket still serves,
/// and a file stops everything.
#[tokio::test(flavor = "multi_thread")]
async fn five_thousand_connections_leave_room_to_stop() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    setrlimit(Resource::Nofile, limit).unwrap();
    let rig = Rig::serving();
    let before = resident_kib(rig.daemon_pid());
    let mut open = Vec::new();
    for _ in 0..5_000 {
        match TcpStream::connect(rig.socket_address()).await {
            Ok(stream) => open.push(stream),
            Err(error) if error.raw_os_error() == Some(24) => break,
            Err(error) => panic!("{error}"),
        }
    }
    let local = rig.local().await;
    assert!(local.status().await.unwrap().ready);
    std::fs::write(rig.dir.join("state/stop.d/all"), "").unwrap();
    let mut is_stopped = false;
    for _ in 0..400 {
        let problems = local.status().await.unwrap().problems;
        is_stopped = problems
            .iter()
            .any(|problem| problem.contains("every KEK is stopped"));
        if is_stopped {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(is_stopped, "{} connections keep a stop out", open.len());
    let grown = resident_kib(rig.daemon_pid()).saturating_sub(before);
    assert!(
        grown < 64 * 1024,
        "{} connections cost {grown} KiB",
        open.len()
    );
}

#[tokio::test]
async fn the_connection_cap_holds() {
    let rig = Rig::stopped();
    rig.set(
        "limits",
        "connections_max = 32\nconnections_per_peer_max = 16",
    );
    rig.start();
    let mut open = Vec::new();
    for _ in 0..100 {
        open.push(TcpStream::connect(rig.socket_address()).await.unwrap());
    }
    // The peer's own limit is used up by its silent connections; the Unix socket has its own.
    let local = rig.local().await;
    assert!(
        local.status().await.is_ok(),
        "one peer took every connection"
    );
    drop(open);
    let mut back = false;
    for _ in 0..200 {
        back = match rig.try_client("lkm-1").await {
            Ok(client) => client.status().await.is_ok(),
            Err(_) => false,
        };
        if back {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(back, "connections that ended still count");
}

/// VmRSS of a process (proc_pid_status(5)).
pub fn resident_kib(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status
        .lines()
        .find(|line| line.starts_with("VmRSS:"))
        .unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}
