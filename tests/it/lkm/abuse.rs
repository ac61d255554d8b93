//! What an attacker sends: too much, too slowly, too often, of the wrong kind. The front-end stays, and
//! says as little as it may.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::Method;
use kekd::clock::Clock;
use kekd::lkm::caller::{Call, signed, unsigned};
use kekd::lkm::hawk::{Artifacts, Secret};
use kekd::types::Padding;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::front::{Front, body, dek_of};
use crate::harness::{Kek, Rig};

/// A front-end with short limits, and a good body.
async fn strict(rig: &Rig, limits: &[(&str, i64)]) -> (Front, Vec<u8>) {
    let mut front = Front::stopped(rig);
    for (key, value) in limits {
        front.set("limits", key, *value);
    }
    front.start();
    front.is_ready().await;
    let kek = Kek::of(&rig.client("lkm-1").await, "recordings").await;
    let good = body(kek.keypair_id, &kek.wrap(Padding::OaepSha1, &[8; 32]));
    (front, good)
}

/// Everything the other side says until it ends the connection.
async fn rest(stream: &mut (impl tokio::io::AsyncRead + Unpin)) -> String {
    let mut said = Vec::new();
    let reading = stream.read_to_end(&mut said);
    let ended = tokio::time::timeout(Duration::from_secs(30), reading).await;
    assert!(
        ended.is_ok(),
        "the connection was not cut: {}",
        String::from_utf8_lossy(&said)
    );
    String::from_utf8_lossy(&said).into_owned()
}

/// The head of a signed request, but for its end.
fn head(front: &Front) -> String {
    let authorization = front.post(Vec::new()).authorization.unwrap();
    format!(
        "POST {} HTTP/1.1\r\nhost: x\r\nauthorization: {authorization}\r\n",
        front.target.path
    )
}

#[tokio::test]
async fn too_much_is_not_read() {
    let rig = Rig::serving();
    let (front, good) = strict(&rig, &[]).await;
    let mut stream = front.raw().await;
    let whole = format!("{}content-length: 1048576\r\n\r\n", head(&front));
    stream.write_all(whole.as_bytes()).await.unwrap();
    // Not one byte of the body was sent.
    assert!(rest(&mut stream).await.starts_with("HTTP/1.1 413 "));

    let mut stream = front.raw().await;
    let whole = format!("{}transfer-encoding: chunked\r\n\r\n", head(&front));
    stream.write_all(whole.as_bytes()).await.unwrap();
    let chunk = format!("400\r\n{}\r\n", "x".repeat(1024));
    for _ in 0..5 {
        stream.write_all(chunk.as_bytes()).await.unwrap();
    }
    assert!(rest(&mut stream).await.starts_with("HTTP/1.1 413 "));

    let mut stream = front.raw().await;
    let long = format!("{}x-long: {}\r\n\r\n", head(&front), "y".repeat(64 * 1024));
    stream.write_all(long.as_bytes()).await.ok();
    let said = rest(&mut stream).await;
    assert!(
        said.is_empty() || said.starts_with("HTTP/1.1 431 "),
        "{said}"
    );

    // A stranger's body is not even waited for.
    let mut stream = front.raw().await;
    let path = &front.target.path;
    let stranger = format!("POST {path} HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\n");
    stream.write_all(stranger.as_bytes()).await.unwrap();
    assert!(rest(&mut stream).await.starts_with("HTTP/1.1 401 "));
    assert_eq!(front.say(front.post(good)).await.unwrap().status, 200);
}

#[tokio::test]
async fn who_is_slow_is_cut() {
    let rig = Rig::serving();
    let limits = [
        ("handshake_timeout_ms", 500),
        ("head_timeout_ms", 500),
        ("request_timeout_ms", 500),
    ];
    let (front, good) = strict(&rig, &limits).await;
    let mut silent = TcpStream::connect(("127.0.0.1", front.port)).await.unwrap();
    assert_eq!(rest(&mut silent).await, "", "no TLS was begun");

    let mut stream = front.raw().await;
    stream.write_all(b"POST / HTTP/1.1\r\nx: ").await.unwrap();
    let (mut from, mut to) = tokio::io::split(stream);
    let drip = tokio::spawn(async move {
        while to.write_all(b"y").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    });
    let said = rest(&mut from).await;
    assert!(!said.contains("200"), "{said}");
    drip.abort();

    let mut stream = front.raw().await;
    let whole = format!("{}content-length: 100\r\n\r\n{{", head(&front));
    stream.write_all(whole.as_bytes()).await.unwrap();
    assert!(rest(&mut stream).await.starts_with("HTTP/1.1 408 "));
    assert_eq!(front.say(front.post(good)).await.unwrap().status, 200);
}

#[tokio::test]
async fn connections_of_one_address_are_capped() {
    let rig = Rig::serving();
    let (front, good) = strict(&rig, &[("connections_per_address_max", 8)]).await;
    let mut held = Vec::new();
    for _ in 0..8 {
        held.push(front.raw().await);
    }
    let mut one_more = TcpStream::connect(("127.0.0.1", front.port)).await.unwrap();
    assert_eq!(rest(&mut one_more).await, "");
    assert!(front.local("/metrics").contains("CONNECTIONS_PER_PEER_MAX"));
    assert!(
        front.local("/health").contains("200 OK"),
        "the local door is its own"
    );
    drop(held);
    for _ in 0..200 {
        if front
            .say(front.post(good.clone()))
            .await
            .is_ok_and(|reply| reply.status == 200)
        {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("connections that ended still count");
}

#[tokio::test]
async fn who_asks_too_often_is_told_to_wait_and_others_are_not() {
    use kekd::lkm::credentials::Lane;
    let rig = Rig::serving();
    let mut front = Front::stopped(&rig);
    front.set("limits", "requests_per_s_of_credential", 5);
    let other = front.add("cloud-2", "recordings", Lane::Interactive);
    front.start();
    front.is_ready().await;
    let mut connection = front.connect().await;
    let mut told = 0;
    for _ in 0..30 {
        let mut call = front.post(Vec::new());
        call.content_type = Some("text/plain");
        let reply = connection.send(call).await.unwrap();
        if reply.status == 503 {
            assert!(reply.headers.contains_key("retry-after"));
            told += 1;
        }
    }
    assert!(told > 0, "thirty at once were within five a second");
    let kek = Kek::of(&rig.client("lkm-1").await, "recordings").await;
    let good = body(kek.keypair_id, &kek.wrap(Padding::OaepSha1, &[8; 32]));
    let call = front.post_as("cloud-2", &other, "", good);
    assert_eq!(dek_of(&connection.send(call).await.unwrap()), [8; 32]);
}

#[tokio::test]
async fn an_address_that_asks_too_often_is_told_to_wait_whoever_it_says_it_is() {
    let rig = Rig::serving();
    let (front, _) = strict(&rig, &[("requests_per_s_of_address", 5)]).await;
    let mut connection = front.connect().await;
    let mut statuses = std::collections::BTreeSet::new();
    for _ in 0..30 {
        let mut call = front.post(Vec::new());
        call.authorization = None;
        let reply = connection.send(call).await.unwrap();
        statuses.insert(reply.status.as_u16());
        assert_eq!(
            reply.headers.contains_key("retry-after"),
            reply.status == 503
        );
    }
    assert_eq!(statuses, [401, 503].into());
}

#[tokio::test]
async fn only_listed_sources_connect() {
    let rig = Rig::serving();
    let mut front = Front::stopped(&rig);
    front.set("https", "allow_sources", "192.0.2.0/24");
    front.start();
    front.is_ready().await;
    assert!(front.caller().connect().await.is_err());
    assert!(front.local("/metrics").contains("SOURCE_NOT_ALLOWED"));
}

#[tokio::test]
async fn what_is_of_the_wrong_kind_is_refused_in_one_shape() {
    let rig = Rig::serving();
    let (front, good) = strict(&rig, &[]).await;
    let mut connection = front.connect().await;
    let typed = |content_type| Call {
        content_type,
        ..front.post(good.clone())
    };
    for good in [
        None,
        Some("application/json; charset=utf-8"),
        Some("Application/JSON"),
    ] {
        assert_eq!(
            dek_of(&connection.send(typed(good)).await.unwrap()),
            [8; 32],
            "{good:?}"
        );
    }
    let more = |name, value: &str| Call {
        more: vec![(name, value.to_owned())],
        ..front.post(good.clone())
    };
    let artifacts = |method| Artifacts {
        method,
        resource: &front.target.path,
        host: &front.target.host,
        port: front.target.port,
    };
    let get = signed(
        &Secret::new(&front.key),
        unsigned(&front.id, now_s()).unwrap(),
        &artifacts("GET"),
    );
    let get = Call {
        method: Method::GET,
        authorization: Some(get.to_string()),
        body: Vec::new(),
        ..front.post(Vec::new())
    };
    let elsewhere = Call {
        resource: "/key-management/v1/keypair".to_owned(),
        ..front.post(good.clone())
    };
    let authorization = front.post(good.clone()).authorization.unwrap();
    let cases = [
        ("text", typed(Some("text/plain")), 415),
        (
            "form",
            typed(Some("application/x-www-form-urlencoded")),
            415,
        ),
        ("two types", more("content-type", "text/plain"), 415),
        ("encoded", more("content-encoding", "gzip"), 415),
        (
            "two users",
            Call {
                more: vec![
                    ("purecloud-user-id", "a".to_owned()),
                    ("purecloud-user-id", "b".to_owned()),
                ],
                ..front.post(good.clone())
            },
            400,
        ),
        (
            "a user too long",
            more("purecloud-user-id", &"u".repeat(300)),
            400,
        ),
        (
            "two authorizations",
            more("authorization", &authorization),
            401,
        ),
        ("another method", get, 405),
        ("another path", elsewhere, 404),
        (
            "a query",
            front.post_as(&front.id, &front.key, "?a=b", good.clone()),
            400,
        ),
    ];
    for (case, call, status) in cases {
        let reply = connection.send(call).await.unwrap();
        assert_eq!(reply.status, status, "{case}");
        let said: serde_json::Value = serde_json::from_slice(&reply.body).unwrap();
        let fields: Vec<&String> = said.as_object().unwrap().keys().collect();
        assert_eq!(fields, ["message", "status"], "{case}");
        assert_eq!(said["status"], status, "{case}");
        assert_eq!(reply.headers["cache-control"], "no-store");
    }
}

#[tokio::test]
async fn a_stale_request_is_told_the_time_and_a_forged_one_is_not() {
    let rig = Rig::serving();
    let (front, good) = strict(&rig, &[]).await;
    let artifacts = Artifacts {
        method: "POST",
        resource: &front.target.path,
        host: &front.target.host,
        port: front.target.port,
    };
    let stale = |secret: &Secret, ts| {
        let header = signed(secret, unsigned(&front.id, ts).unwrap(), &artifacts);
        Call {
            authorization: Some(header.to_string()),
            ..front.post(good.clone())
        }
    };
    let secret = Secret::new(&front.key);
    for ts in [now_s() - 90, now_s() + 90] {
        let reply = front.say(stale(&secret, ts)).await.unwrap();
        assert_eq!(reply.status, 401);
        let challenge = reply.headers["www-authenticate"].to_str().unwrap();
        let (ts, rest) = challenge
            .strip_prefix("Hawk ts=\"")
            .unwrap()
            .split_once('"')
            .unwrap();
        let tsm = secret.time_mac(ts.parse().unwrap());
        assert_eq!(rest, format!(", tsm=\"{tsm}\", error=\"Stale timestamp\""));
        assert_eq!(STANDARD.decode(tsm).unwrap().len(), 32);
    }
    let forged = stale(&Secret::new("another secret"), now_s() - 90);
    let reply = front.say(forged).await.unwrap();
    assert_eq!(
        (reply.status.as_u16(), &reply.headers["www-authenticate"]),
        (401, &"Hawk".parse().unwrap())
    );
    let mut of_nobody = front.post(good.clone());
    of_nobody.authorization = of_nobody
        .authorization
        .map(|a| a.replace(&front.id, "nobody"));
    let other = front.say(of_nobody).await.unwrap();
    assert_eq!(
        reply.body, other.body,
        "an unknown id looks like a wrong MAC"
    );
}

#[tokio::test]
async fn tls_1_2_is_spoken_until_a_setting_ends_it() {
    let rig = Rig::serving();
    let mut front = Front::stopped(&rig);
    front.start();
    front.is_ready().await;
    let speaks = |version: &str| {
        let to = format!("127.0.0.1:{}", front.port);
        let mut openssl = std::process::Command::new("openssl");
        openssl
            .args(["s_client", version, "-connect", &to, "-CAfile"])
            .arg(&front.roots);
        openssl.stdin(std::process::Stdio::null());
        let output = openssl.output().unwrap();
        String::from_utf8_lossy(&output.stdout).contains("New, TLSv1.")
    };
    assert!(speaks("-tls1_2") && speaks("-tls1_3") && !speaks("-tls1_1"));
    front.kill();
    front.set("https", "tls_min", "1.3");
    front.start();
    front.is_ready().await;
    let to = format!("127.0.0.1:{}", front.port);
    let mut openssl = std::process::Command::new("openssl");
    openssl
        .args(["s_client", "-tls1_2", "-connect", &to])
        .stdin(std::process::Stdio::null());
    let said = String::from_utf8_lossy(&openssl.output().unwrap().stderr).into_owned();
    assert!(said.contains("alert protocol version"), "{said}");
}

#[tokio::test]
async fn nothing_secret_is_in_the_log() {
    let rig = Rig::serving();
    let mut front = Front::stopped(&rig);
    front.set("log", "filter", "trace");
    front.start();
    front.is_ready().await;
    let kek = Kek::of(&rig.client("lkm-1").await, "recordings").await;
    let dek: [u8; 32] = std::array::from_fn(|at| u8::try_from(at).unwrap() ^ 0xa5);
    let good = body(kek.keypair_id, &kek.wrap(Padding::OaepSha1, &dek));
    assert_eq!(dek_of(&front.say(front.post(good)).await.unwrap()), dek);
    let log = front.log();
    assert!(log.contains("TRACE"), "the log is not at trace");
    let hex: String = dek.iter().map(|byte| format!("{byte:02x}")).collect();
    for secret in [&front.key, &STANDARD.encode(dek), &hex, &format!("{dek:?}")] {
        assert!(!log.contains(secret.as_str()), "a secret is in the log");
    }
    assert!(!log.contains("mac=\\\""), "a signed header is in the log");
}

fn now_s() -> u64 {
    Clock::System.now().0 / 1000
}
