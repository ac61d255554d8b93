//! What a hostile peer can do to the network side: everything is cut, memory stays bounded, good
//! clients are served all the while.

use std::time::Duration;

use kekd::types::Padding;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UnixStream};

use crate::harness::{Kek, Rig, dek};
use crate::unwrap::resident_kib;

/// The HTTP/2 connection preface and an empty SETTINGS frame (RFC 9113 sections 3.4 and 6.5).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00";

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
async fn is_cut(stream: &mut (impl tokio::io::AsyncRead + Unpin)) -> bool {
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

async fn socket(rig: &Rig) -> UnixStream {
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
