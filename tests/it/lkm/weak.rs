//! `kekctl lkm check` against a server with the weaknesses of the sample: it must tell.

use std::convert::Infallible;
use std::sync::Arc;

use http::{Request, Response};
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio::net::TcpListener;

use crate::harness::{Kek, Rig};

/// Answers everything with 200 and null, credentials for strangers included.
async fn weak(_: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    Ok(Response::new(Full::new(Bytes::from_static(
        b"{\"body\":null}",
    ))))
}

#[tokio::test]
async fn a_weak_server_is_told_on() {
    let rig = Rig::serving();
    let pki = rig.dir.join("pki");
    let chain = CertificateDer::pem_file_iter(pki.join("server.crt")).unwrap();
    let chain = chain.collect::<Result<Vec<_>, _>>().unwrap();
    let key = PrivateKeyDer::from_pem_file(pki.join("server.key")).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let tls = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(tls));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://{}/decrypt", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let stream = acceptor.accept(stream).await.unwrap();
            let serving = http1::Builder::new();
            tokio::spawn(serving.serve_connection(TokioIo::new(stream), service_fn(weak)));
        }
    });
    let kek = Kek::of(&rig.client("lkm-1").await, "recordings").await;
    let mut check = rig.kekctl();
    check.args(["lkm", "check", &url, "--id", "anybody", "--output", "json"]);
    check
        .args(["--keypair-id", &kek.keypair_id.to_string(), "--lkm-ca"])
        .arg(pki.join("ca.crt"));
    check.env("KEKD_LKM_KEY", "0123456789abcdef");
    let output = tokio::process::Command::from(check).output().await.unwrap();
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let told: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let wrong: Vec<&str> = told["findings"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|finding| finding["ok"] == false)
        .map(|finding| finding["case"].as_str().unwrap())
        .collect();
    for case in [
        "trial decrypt",
        "no Authorization",
        "wrong secret",
        "the same request again",
        "an hour old",
        "wrong payload hash",
        "unknown key pair",
        "a bit of the DEK flipped",
        // Not the body of 256 KiB: a server that hangs up on it has refused it.
        "credentials for strangers",
    ] {
        assert!(wrong.contains(&case), "{case} was not told on: {told}");
    }
}
