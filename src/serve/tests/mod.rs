//! Both doors over real sockets and real TLS. No HSM is needed to be let in or kept out.

mod files;
mod rig;

use std::time::Duration;

use rig::{Authority, CLIENT, Rig, write};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UnixStream};
use tonic::transport::Channel;
use tonic::{Code, Status};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;
use tonic_types::StatusExt as _;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const SETTINGS: [u8; 9] = [0, 0, 0, 4, 0, 0, 0, 0, 0];

async fn check(channel: &Channel) -> Result<i32, Status> {
    let request = HealthCheckRequest {
        service: String::new(),
    };
    let answer = HealthClient::new(channel.clone()).check(request).await?;
    Ok(answer.into_inner().status)
}

fn reason(status: &Status) -> String {
    format!(
        "{:?} {}",
        status.code(),
        status.get_details_error_info().unwrap().reason
    )
}

/// Reads until the server closes. The test hangs, and so fails, where it does not.
async fn closed(stream: &mut (impl AsyncRead + Unpin)) {
    let mut bytes = [0; 4096];
    let end = async { while !matches!(stream.read(&mut bytes).await, Ok(0) | Err(_)) {} };
    tokio::time::timeout(Duration::from_secs(20), end)
        .await
        .expect("was never closed");
}

#[tokio::test]
async fn who_is_named_is_served_by_both_doors() {
    let rig = Rig::start("").await;
    let good = rig.clients.issue(&[CLIENT], 2, 2090);
    assert_eq!(check(&rig.channel(&good).await).await.unwrap(), 1);
    assert_eq!(check(&rig.local_channel().await).await.unwrap(), 1);
    assert_eq!(rig.network.counts(), (2, 0));

    let stranger = rig.clients.issue(&["spiffe://t/stranger"], 3, 2090);
    let refused = check(&rig.channel(&stranger).await).await.unwrap_err();
    assert_eq!(reason(&refused), "PermissionDenied CALLER_UNKNOWN");
    let seen = rig.refusals.lock().unwrap().clone();
    assert_eq!(seen, [("spiffe://t/stranger".to_owned(), "CALLER_UNKNOWN")]);
}

#[tokio::test]
async fn who_proves_no_identity_gets_no_handshake() {
    let rig = Rig::start("").await;
    let h2: &[&[u8]] = &[b"h2"];
    let other = Authority::new("clients");
    let cases = [
        (None, h2, "TLS_NO_CERTIFICATE"),
        (
            Some(other.issue(&[CLIENT], 2, 2090)),
            h2,
            "CERTIFICATE_ISSUER_UNKNOWN",
        ),
        (
            Some(rig.clients.issue(&[CLIENT], 2, 2021)),
            h2,
            "CERTIFICATE_EXPIRED",
        ),
        (
            Some(rig.clients.issue(&[], 2, 2090)),
            h2,
            "IDENTITY_NOT_ONE_URI",
        ),
        (
            Some(rig.clients.issue(&[CLIENT, "spiffe://t/b"], 2, 2090)),
            h2,
            "IDENTITY_NOT_ONE_URI",
        ),
        (
            Some(rig.clients.issue(&["uid:0"], 2, 2090)),
            h2,
            "IDENTITY_MALFORMED",
        ),
        (
            Some(rig.clients.issue(&[CLIENT], 2, 2090)),
            &[b"http/1.1"],
            "TLS_NO_HTTP2",
        ),
        (
            Some(rig.clients.issue(&[CLIENT], 2, 2090)),
            &[],
            "TLS_NO_HTTP2",
        ),
    ];
    for (number, (issued, alpn, expected)) in cases.into_iter().enumerate() {
        rig.refusals.lock().unwrap().clear();
        // With TLS 1.3 the client may think that it is connected; the first read says otherwise.
        if let Ok(mut stream) = rig.tls(issued.as_ref(), alpn).await {
            closed(&mut stream).await;
        }
        rig.refused(expected).await;
        let refusals = u64::try_from(number).unwrap() + 1;
        assert_eq!(rig.network.counts(), (0, refusals), "{expected}");
    }
}

#[tokio::test]
async fn tls_1_2_is_refused() {
    let rig = Rig::start("").await;
    let good = rig.clients.issue(&[CLIENT], 2, 2090);
    let certificate = write(rig.folder.path(), "client.crt", &good.certificate);
    let key = write(rig.folder.path(), "client.key", &good.key);
    let status = tokio::process::Command::new("openssl")
        .args([
            "s_client",
            "-tls1_2",
            "-alpn",
            "h2",
            "-connect",
            &rig.address.to_string(),
        ])
        .arg("-cert")
        .arg(certificate)
        .arg("-key")
        .arg(key)
        .stdin(std::process::Stdio::null())
        .output()
        .await
        .expect("openssl is needed for this test")
        .status;
    assert!(!status.success());
    rig.refused("TLS_VERSION").await;
}

#[tokio::test]
async fn over_the_limit_a_connection_is_closed_at_once() {
    let limits = "[limits]\nconnections_max = 3\nconnections_per_peer_max = 2\n";
    let rig = Rig::start(limits).await;
    let good = rig.clients.issue(&[CLIENT], 2, 2090);
    let (first, second) = (rig.channel(&good).await, rig.channel(&good).await);
    closed(&mut TcpStream::connect(rig.address).await.unwrap()).await;
    rig.refused("CONNECTIONS_PER_PEER_MAX").await;
    let local = rig.local_channel().await;
    closed(&mut UnixStream::connect(&rig.socket).await.unwrap()).await;
    rig.refused("CONNECTIONS_MAX").await;
    for open in [&first, &second, &local] {
        assert_eq!(check(open).await.unwrap(), 1, "those inside are served on");
    }
    drop((first, second));
    // Their slots come back.
    for _ in 0..1000 {
        if let Ok(stream) = rig.tls(Some(&good), &[b"h2"]).await {
            drop(stream);
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("a slot was never given back");
}

#[tokio::test]
async fn who_begins_and_does_not_end_is_cut() {
    let rig = Rig::start("[limits]\nhandshake_timeout_ms = 200\n").await;
    // Keepalive stands at its default, far longer than this test may take.
    closed(&mut TcpStream::connect(rig.address).await.unwrap()).await;
    rig.refused("TLS_HANDSHAKE_TIMEOUT").await;

    let half_headers = [PREFACE, &SETTINGS, &[0, 0, 9, 1, 4, 0, 0, 0, 1, 0x83]].concat();
    let open_block = [PREFACE, &SETTINGS, &[0, 0, 1, 1, 0, 0, 0, 0, 1, 0x83]].concat();
    for begun in [&[][..], &PREFACE[..10], PREFACE, &half_headers, &open_block] {
        let mut stream = UnixStream::connect(&rig.socket).await.unwrap();
        stream.write_all(begun).await.unwrap();
        closed(&mut stream).await;
    }
    let good = rig.clients.issue(&[CLIENT], 2, 2090);
    let mut silent = rig.tls(Some(&good), &[b"h2"]).await.unwrap();
    closed(&mut silent).await;

    // Who owes nothing may be silent for longer than that.
    let idle = rig.channel(&good).await;
    assert_eq!(check(&idle).await.unwrap(), 1);
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(check(&idle).await.unwrap(), 1);
}

#[tokio::test]
async fn a_flood_of_streams_is_cut() {
    let rig = Rig::start("").await;
    let path = b"/grpc.health.v1.Health/Check";
    // :method POST, :scheme http, :path as a literal without indexing (RFC 7541 section 6.2.2).
    let mut block = vec![0x83, 0x86, 0x04, u8::try_from(path.len()).unwrap()];
    block.extend(path);
    let mut stream = UnixStream::connect(&rig.socket).await.unwrap();
    stream
        .write_all(&[PREFACE, &SETTINGS].concat())
        .await
        .unwrap();
    let (mut reader, mut writer) = stream.into_split();
    let flood = async move {
        for number in 0..20_000_u32 {
            let id = (number * 2 + 1).to_be_bytes();
            let mut frame = vec![0, 0, u8::try_from(block.len()).unwrap(), 1, 4];
            frame.extend(id);
            frame.extend(&block);
            if writer.write_all(&frame).await.is_err() {
                return number;
            }
        }
        20_000
    };
    let (sent, ()) = tokio::join!(flood, closed(&mut reader));
    assert!(sent < 20_000, "all streams were taken");
    assert_eq!(
        check(&rig.local_channel().await).await.unwrap(),
        1,
        "others are served on"
    );
}

#[tokio::test]
async fn certificates_and_revocations_change_without_a_restart() {
    let rig = Rig::start("").await;
    let (good, bad) = (
        rig.clients.issue(&[CLIENT], 2, 2090),
        rig.clients.issue(&[CLIENT], 3, 2090),
    );
    let (kept, revoked) = (rig.channel(&good).await, rig.channel(&bad).await);
    assert_eq!(check(&revoked).await.unwrap(), 1);

    // A revocation reaches the connection that stands, and new handshakes.
    write(rig.folder.path(), "crl.pem", &rig.clients.crl(&[3]));
    let mut refused = check(&revoked).await;
    for _ in 0..1000 {
        if refused.is_err() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
        refused = check(&revoked).await;
    }
    assert_eq!(
        reason(&refused.unwrap_err()),
        "PermissionDenied CERTIFICATE_REVOKED"
    );
    let seen = rig.refusals.lock().unwrap().clone();
    assert_eq!(seen, [(CLIENT.to_owned(), "CERTIFICATE_REVOKED")]);
    rig.refusals.lock().unwrap().clear();
    if let Ok(mut stream) = rig.tls(Some(&bad), &[b"h2"]).await {
        closed(&mut stream).await;
    }
    rig.refused("CERTIFICATE_REVOKED").await;
    assert_eq!(
        check(&kept).await.unwrap(),
        1,
        "the other certificate stands"
    );

    // A list of another authority would shut out everybody: it is a bad file like others.
    write(rig.folder.path(), "crl.pem", &rig.servers.crl(&[]));
    rig.until("a problem", |rig| !rig.network.problems().is_empty())
        .await;
    let problem = rig.network.problems().join("\n");
    assert!(problem.contains("crl.pem cannot be used: "), "{problem}");
    assert_eq!(check(&rig.channel(&good).await).await.unwrap(), 1);
    write(rig.folder.path(), "crl.pem", &rig.clients.crl(&[3]));
    rig.until("no problem", |rig| rig.network.problems().is_empty())
        .await;

    // A bad file changes nothing and is a problem; a good one takes effect and ends it.
    let renewed = rig.servers.issue(&[], 77, 2090);
    write(rig.folder.path(), "tls.crt", &renewed.certificate);
    rig.until("a problem", |rig| !rig.network.problems().is_empty())
        .await;
    let problem = rig.network.problems().join("\n");
    assert!(problem.contains("do not serve together"), "{problem}");
    assert!(
        problem.contains("what was loaded before stays in force"),
        "{problem}"
    );
    assert_eq!(check(&rig.channel(&good).await).await.unwrap(), 1);
    write(rig.folder.path(), "tls.key", &renewed.key);
    rig.until("no problem", |rig| rig.network.problems().is_empty())
        .await;
    let stream = rig.tls(Some(&good), &[b"h2"]).await.unwrap();
    let leaf = stream.get_ref().1.peer_certificates().unwrap()[0].to_vec();
    let expected = pem_to_der(&renewed.certificate);
    assert_eq!(leaf, expected, "new handshakes show the new certificate");
    assert_eq!(check(&kept).await.unwrap(), 1, "old connections stand");
}

fn pem_to_der(pem: &str) -> Vec<u8> {
    use rustls_pki_types::pem::PemObject as _;
    rustls_pki_types::CertificateDer::from_pem_slice(pem.as_bytes())
        .unwrap()
        .to_vec()
}

#[tokio::test]
async fn a_watch_ends_with_the_certificate_that_began_it() {
    let mut rig = Rig::start("").await;
    let bad = rig.clients.issue(&[CLIENT], 3, 2090);
    let channel = rig.channel(&bad).await;
    let mut client = HealthClient::new(channel.clone());
    let watched = client.watch(HealthCheckRequest::default()).await;
    let mut watched = watched.unwrap().into_inner();
    assert_eq!(watched.message().await.unwrap().unwrap().status, 1);

    write(rig.folder.path(), "crl.pem", &rig.clients.crl(&[3]));
    while check(&channel).await.is_ok() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    // What a stop has to say, NOT_SERVING, is no longer for this client.
    rig.stop.take().unwrap().send(()).unwrap();
    let refused = watched.message().await.unwrap_err();
    assert_eq!(reason(&refused), "PermissionDenied CERTIFICATE_REVOKED");
    assert!(watched.message().await.unwrap().is_none());
}

#[tokio::test]
async fn reflection_answers_to_both_of_its_names() {
    use tonic_reflection::pb::{v1, v1alpha};
    let rig = Rig::start("").await;
    let mut client =
        v1::server_reflection_client::ServerReflectionClient::new(rig.local_channel().await);
    let ask = v1::ServerReflectionRequest {
        host: String::new(),
        message_request: Some(v1::server_reflection_request::MessageRequest::ListServices(
            String::new(),
        )),
    };
    let answers = client.server_reflection_info(tokio_stream::once(ask)).await;
    let answer = answers.unwrap().into_inner().message().await.unwrap();
    let new = format!("{:?}", answer.unwrap().message_response);

    let mut client =
        v1alpha::server_reflection_client::ServerReflectionClient::new(rig.local_channel().await);
    let ask = v1alpha::ServerReflectionRequest {
        host: String::new(),
        message_request: Some(
            v1alpha::server_reflection_request::MessageRequest::ListServices(String::new()),
        ),
    };
    let answers = client.server_reflection_info(tokio_stream::once(ask)).await;
    let answer = answers.unwrap().into_inner().message().await.unwrap();
    let old = format!("{:?}", answer.unwrap().message_response);
    for text in [new, old] {
        assert!(text.contains("kekd.v1.UnwrapService"), "{text}");
    }
}

#[tokio::test]
async fn a_stop_ends_streams_and_closes_the_doors() {
    let mut rig = Rig::start("").await;
    let mut client = HealthClient::new(rig.local_channel().await);
    let request = HealthCheckRequest {
        service: String::new(),
    };
    let mut watched = client.watch(request).await.unwrap().into_inner();
    assert_eq!(watched.message().await.unwrap().unwrap().status, 1);
    rig.stop.take().unwrap().send(()).unwrap();
    while let Ok(Some(status)) = watched.message().await {
        assert_eq!(status.status, 2);
    }
    rig.served.await.unwrap();
    assert!(!rig.socket.exists(), "the socket file is gone");
    assert!(
        TcpStream::connect(rig.address).await.is_err(),
        "the port is closed"
    );
}

#[tokio::test]
async fn a_call_that_does_not_exist_is_closed() {
    let rig = Rig::start("").await;
    let mut grpc = tonic::client::Grpc::new(rig.local_channel().await);
    grpc.ready().await.unwrap();
    let path = http::uri::PathAndQuery::from_static("/kekd.v1.NoService/NoCall");
    let codec = tonic_prost::ProstCodec::<HealthCheckRequest, HealthCheckRequest>::default();
    let request = tonic::Request::new(HealthCheckRequest::default());
    let status = grpc.unary(request, path, codec).await.unwrap_err();
    assert_eq!(status.code(), Code::Unimplemented);
    assert_eq!(reason(&status), "Unimplemented CALL_UNKNOWN");
}
