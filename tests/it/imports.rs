//! Legacy keys brought in: made by openssl, wrapped by kekctl, approved by a quorum, unwrapped by the
//! token. What is not the key that was approved leaves everything as it was.

mod crash;
mod late;
mod legacy;
mod replicas;

use std::fs;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use kekd::client::Client;
use kekd::proto::v1::{self, DeliverImportRequest, ProposalPhase};
use kekd::quorum::{Operation, ProposalId};
use kekd::types::{Padding, Sha256};

use crate::harness::{KEKCTL, Kek, Rig, dek, must, reason, skipped};
use crate::officers::{Officers, new_version};
use legacy::Legacy;

const DEK: [u8; 32] = [0x5a; 32];

fn import(legacy: &Legacy) -> Operation {
    Operation::ImportKek {
        version: new_version("old", &format!("kek-rsa-{}-imported", legacy.bits)),
        spki_sha256: Sha256::of(&legacy.spki),
    }
}

/// An import of this key, begun.
async fn begun(officers: &Officers<'_>, legacy: &Legacy) -> ProposalId {
    let executed = officers.enact(import(legacy)).await.unwrap();
    let proposal = executed.proposal.unwrap();
    assert_eq!(proposal.phase(), ProposalPhase::Executing);
    assert!(!executed.transport_certificate.is_empty());
    ProposalId(Sha256::try_from(proposal.id.as_slice()).unwrap())
}

/// `kekctl import …` as an officer of this rig.
fn kekctl(rig: &Rig, arguments: &[&str]) -> Output {
    let mut command = rig.kekctl_as("officer", &["import"]);
    command.args(arguments).output().unwrap()
}

/// Wraps this file's key for the transport key of the import: the path of what is to be delivered.
fn wrapped(rig: &Rig, id: ProposalId, legacy: &Legacy, key: &str) -> PathBuf {
    let folder = rig.dir.join(format!("import-{key}"));
    let path = |name: &str| folder.join(name).display().to_string();
    let id = id.to_string();
    let out = folder.display().to_string();
    done(&kekctl(rig, &["transport-key", &id, "--out", &out]));
    let (key, phrase) = (legacy.path(key), legacy.path("phrase"));
    let (transport, issuing) = (path("transport.crt"), path("issuing.crt"));
    let wrapped = path("wrapped.json");
    let inputs = ["wrap", "--legacy-key", &key, "--passphrase-file", &phrase];
    let certificates = ["--transport-certificate", &transport];
    let issuer = ["--issuing-certificate", &issuing, "--out", &wrapped];
    done(&kekctl(
        rig,
        &[&inputs[..], &certificates, &issuer].concat(),
    ));
    wrapped.into()
}

fn deliver(rig: &Rig, id: ProposalId, wrapped: &Path) -> Output {
    let wrapped = wrapped.display().to_string();
    kekctl(rig, &["deliver", &id.to_string(), &wrapped])
}

fn done(output: &Output) {
    assert!(output.status.success(), "{output:?}");
}

/// What openssl encrypted under the legacy key unwraps, with both paddings that it was used with.
async fn old_deks_unwrap(rig: &Rig, officers: &Officers<'_>, legacy: &Legacy) {
    let grant = Operation::GrantUnwrap {
        identity: "spiffe://kekd.test/lkm-1".parse().unwrap(),
        kek: "old".parse().unwrap(),
    };
    officers.enact(grant).await.unwrap();
    let client = rig.client("lkm-1").await;
    let kek = Kek::of(&client, "old").await;
    for padding in [Padding::OaepSha1, Padding::Pkcs1V15] {
        let call = kek.call_with(padding, legacy.encrypt(padding, &DEK));
        let released = client.unwrap(call).await.unwrap();
        assert_eq!(dek(&released.release), DEK);
    }
}

async fn shown(rig: &Rig) -> String {
    let output = must(&mut rig.auditor(&["kek", "show", "old"]));
    String::from_utf8(output.stdout).unwrap()
}

/// One KEK from one file, the whole way, in one rig.
async fn comes_in(bits: u32, key: &str) {
    let rig = Rig::serving();
    let officers = Officers::of(&rig).await;
    let legacy = Legacy::new(bits);
    let id = begun(&officers, &legacy).await;
    let file = wrapped(&rig, id, &legacy, key);
    done(&deliver(&rig, id, &file));
    assert_eq!(officers.phase(id).await, ProposalPhase::Executed);
    assert!(shown(&rig).await.contains("imported"));
    old_deks_unwrap(&rig, &officers, &legacy).await;
    nothing_else_is_in_the_token(&rig);
    // For ever: it is read from the ledger again.
    rig.stop().await;
    rig.start();
    assert!(shown(&rig).await.contains("imported"));
    let again = deliver(&rig, id, &file);
    assert!(!again.status.success());
    assert!(String::from_utf8_lossy(&again.stderr).contains("is executed"));
}

/// No transport key is left.
fn nothing_else_is_in_the_token(rig: &Rig) {
    assert!(!objects(rig).contains("transport"), "{}", objects(rig));
}

/// Sorted: the token lists in any order.
fn labels(rig: &Rig) -> Vec<String> {
    let objects = objects(rig);
    let lines = objects.lines().filter(|line| line.contains("label:"));
    let mut labels: Vec<String> = lines.map(|line| line.trim().to_owned()).collect();
    labels.sort();
    labels
}

fn objects(rig: &Rig) -> String {
    let output = must(&mut rig.pkcs11_tool(&["--list-objects"]));
    String::from_utf8(output.stdout).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_of_2048_bits_in_pem_comes_in() {
    comes_in(2048, "key.pem").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_of_3072_bits_in_pkcs12_comes_in() {
    comes_in(3072, "key.p12").await;
}

/// Every file openssl writes of a key is read, and is the same key.
#[test]
fn every_kind_of_file_is_read() {
    let legacy = Legacy::new(2048);
    let phrase = legacy.path("phrase");
    for file in legacy.files() {
        let key = legacy.path(file);
        let output = must(
            Command::new(KEKCTL)
                .args([
                    "import",
                    "inspect",
                    "--output",
                    "json",
                    "--legacy-key",
                    &key,
                ])
                .args(["--passphrase-file", &phrase]),
        );
        let said: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(said["bits"], 2048, "{file}");
        let digest = Sha256::of(&legacy.spki).to_string();
        assert_eq!(said["spki_sha256"], digest.as_str(), "{file}");
        assert_eq!(said["profile"], "kek-rsa-2048-imported", "{file}");
    }
    fs::write(legacy.path("wrong"), "not it\n").unwrap();
    for file in ["key.p12", "key-3des.p12", "encrypted.pem"] {
        let key = legacy.path(file);
        let output = Command::new(KEKCTL)
            .args(["import", "inspect", "--legacy-key", &key])
            .args(["--passphrase-file", &legacy.path("wrong")])
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(65), "{file}: {output:?}");
    }
}

/// A key is wrapped for nobody but this instance.
#[tokio::test(flavor = "multi_thread")]
async fn a_transport_key_of_somebody_else_is_refused_where_the_key_is() {
    let rig = Rig::serving();
    let officers = Officers::of(&rig).await;
    let legacy = Legacy::new(2048);
    let id = begun(&officers, &legacy).await;
    wrapped(&rig, id, &legacy, "key.pem");
    let of_rig = |name: &str| {
        let folder = rig.dir.join("import-key.pem");
        folder.join(name).display().to_string()
    };
    let (transport, issuing) = (of_rig("transport.crt"), of_rig("issuing.crt"));
    // One who sits between makes an issuing key of the same name, and a transport key under it.
    let forged = legacy.forged_transport(&issuing);
    let altered = legacy.path("altered.crt");
    let mut der = crate::harness::pem_bytes(&fs::read_to_string(&transport).unwrap());
    let middle = der.len() / 2;
    der[middle] ^= 1;
    fs::write(&altered, der).unwrap();
    for (transport, issuing, said) in [
        (&forged, &issuing, "is not signed by the issuing key"),
        (&altered, &issuing, "is not signed by the issuing key"),
        (&issuing, &issuing, "is not that of a transport key"),
        (&transport, &transport, "is not that of an issuing key"),
    ] {
        let inputs = ["wrap", "--legacy-key", &legacy.path("key.pem")];
        let inputs = inputs.map(str::to_owned);
        let out = legacy.path("out.json");
        let rest = [
            "--transport-certificate",
            transport,
            "--issuing-certificate",
            issuing,
        ];
        let arguments = inputs.iter().map(String::as_str).chain(rest);
        let arguments: Vec<&str> = arguments.chain(["--out", &out]).collect();
        let refused = kekctl(&rig, &arguments);
        assert_eq!(refused.status.code(), Some(65), "{refused:?}");
        let stderr = String::from_utf8_lossy(&refused.stderr);
        assert!(stderr.contains(said), "{said}: {stderr}");
        assert!(!Path::new(&out).exists());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signature_short_of_the_quorum_brings_nothing_in() {
    let rig = Rig::serving();
    let officers = Officers::of(&rig).await;
    let legacy = Legacy::new(2048);
    let id = officers.propose("alice", import(&legacy)).await.unwrap();
    officers.approve("bob", id).await.unwrap();
    let refused = officers.execute("alice", id).await.unwrap_err();
    assert_eq!(reason(&refused), "NOT_ACCEPTED");
    // No transport key, no delivery.
    let client = &officers.client;
    let refused = client.transport_key(id.0).await.unwrap_err();
    assert_eq!(reason(&refused), "NOT_ACCEPTED");
    let refused = client.deliver_import(message(id, 384, 1000)).await;
    let refused = refused.unwrap_err();
    assert_eq!(reason(&refused), "NOT_ACCEPTED");
    assert!(refused.to_string().contains("is open"), "{refused}");
    nothing_else_is_in_the_token(&rig);
}

#[tokio::test(flavor = "multi_thread")]
async fn profiles_are_for_what_is_made_here_or_for_what_is_brought_in() {
    let rig = Rig::serving();
    let officers = Officers::of(&rig).await;
    let made_here = Operation::ImportKek {
        version: new_version("old", "kek-rsa-3072"),
        spki_sha256: Sha256::of(b"key"),
    };
    for operation in [
        Operation::CreateKek(new_version("new", "kek-rsa-2048-imported")),
        Operation::CreateKek(new_version("new", "import-transport")),
        made_here,
    ] {
        let refused = officers.propose("alice", operation).await.unwrap_err();
        assert_eq!(reason(&refused), "NOT_ACCEPTED");
        assert!(refused.to_string().contains("is not for"), "{refused}");
    }
}

fn message(id: ProposalId, aes_key_len: usize, private_key_len: usize) -> DeliverImportRequest {
    DeliverImportRequest {
        proposal_id: id.0.as_bytes().to_vec(),
        wrapped_aes_key: vec![7; aes_key_len],
        wrapped_private_key: vec![7; private_key_len],
    }
}

/// What is delivered and is not the key leaves the import as it was, across restarts too.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_the_key_is_refused_and_the_key_then_taken() {
    let rig = Rig::serving();
    let officers = Officers::of(&rig).await;
    let (legacy, other) = (Legacy::new(2048), Legacy::new(2048));
    let id = begun(&officers, &legacy).await;
    let before = officers.client.transport_key(id.0).await.unwrap();
    let listed = labels(&rig);
    rig.stop().await;
    rig.start();

    for (aes_key_len, private_key_len, reason_of) in [
        (0, 1000, "INVALID_REQUEST"),
        (513, 1000, "INVALID_REQUEST"),
        (384, 4097, "INVALID_REQUEST"),
        (384, 1224, "NOT_ACCEPTED"),
        (17, 17, "NOT_ACCEPTED"),
    ] {
        let garbage = message(id, aes_key_len, private_key_len);
        let refused = officers.client.deliver_import(garbage).await.unwrap_err();
        assert_eq!(reason(&refused), reason_of, "{aes_key_len} {refused}");
    }
    // Another key, wrapped as it must be. kekctl would not send it, so it is sent without it.
    let file = wrapped(&rig, id, &other, "key.pem");
    let refused = deliver(&rig, id, &file);
    assert_eq!(refused.status.code(), Some(65), "{refused:?}");
    let refused = officers.client.deliver_import(read(id, &file)).await;
    let refused = refused.unwrap_err();
    assert_eq!(reason(&refused), "NOT_ACCEPTED", "{refused}");
    // The private key of one under the AES key of another.
    let right = wrapped(&rig, id, &legacy, "key.p12");
    let mixed = DeliverImportRequest {
        wrapped_aes_key: read(id, &file).wrapped_aes_key,
        ..read(id, &right)
    };
    officers.client.deliver_import(mixed).await.unwrap_err();

    assert_eq!(officers.phase(id).await, ProposalPhase::Executing);
    assert_eq!(labels(&rig), listed);
    let after = officers.client.transport_key(id.0).await.unwrap();
    assert_eq!(after.transport_spki, before.transport_spki);
    assert_eq!(problems(&rig).await, Vec::<String>::new());
    done(&deliver(&rig, id, &right));
    old_deks_unwrap(&rig, &officers, &legacy).await;
}

fn read(id: ProposalId, file: &Path) -> DeliverImportRequest {
    use base64::Engine as _;
    let text = fs::read_to_string(file).unwrap();
    let wrapped: serde_json::Value = serde_json::from_str(&text).unwrap();
    let decoded = |name: &str| {
        let text = wrapped[name].as_str().unwrap();
        let engine = base64::engine::general_purpose::STANDARD;
        engine.decode(text).unwrap()
    };
    DeliverImportRequest {
        proposal_id: id.0.as_bytes().to_vec(),
        wrapped_aes_key: decoded("wrapped_aes_key"),
        wrapped_private_key: decoded("wrapped_private_key"),
    }
}

/// The vigil has looked at a token with a transport key in it.
async fn problems(rig: &Rig) -> Vec<String> {
    let operator: Client = rig.client("operator").await;
    tokio::time::sleep(std::time::Duration::from_secs(12)).await;
    let status: v1::GetStatusResponse = operator.status().await.unwrap();
    status.problems
}

/// The wrapped key passes through the daemon; the key itself is never there. (The worker has the
/// module in it, and with SoftHSM the module is the HSM: there it is while the module works.)
#[tokio::test(flavor = "multi_thread")]
async fn the_key_is_never_in_the_daemons_memory() {
    let rig = Rig::serving();
    let officers = Officers::of(&rig).await;
    let legacy = Legacy::new(2048);
    let id = begun(&officers, &legacy).await;
    let file = wrapped(&rig, id, &legacy, "key.pem");
    done(&deliver(&rig, id, &file));
    old_deks_unwrap(&rig, &officers, &legacy).await;
    let daemon = rig.daemon_pid();
    if fs::File::open(format!("/proc/{daemon}/mem")).is_err() {
        skipped(
            "the_key_is_never_in_the_daemons_memory",
            "only root sees the memory of a process that is not dumpable",
        );
        return;
    }
    for pid in [daemon, rig.worker_pid().await] {
        // That memory is really looked at: the public half is there.
        assert!(is_in_memory(pid, &legacy.spki[40..104]), "{pid}");
        for prime in legacy.primes() {
            let middle = &prime[16..48];
            let limbs: Vec<u8> = middle.iter().rev().copied().collect();
            let found = is_in_memory(pid, middle) || is_in_memory(pid, &limbs);
            assert!(!found, "a prime is in the memory of {pid}");
        }
    }
}

/// Whether these bytes are in a page that the process can write to.
fn is_in_memory(pid: u32, needle: &[u8]) -> bool {
    let maps = fs::read_to_string(format!("/proc/{pid}/maps")).unwrap();
    let memory = fs::File::open(format!("/proc/{pid}/mem")).unwrap();
    maps.lines().any(|line| {
        let (range, rest) = line.split_once(' ').unwrap();
        let (from, to) = range.split_once('-').unwrap();
        let address = |text| u64::from_str_radix(text, 16).unwrap();
        let (from, to) = (address(from), address(to));
        if !rest.starts_with("rw") {
            return false;
        }
        let mut bytes = vec![0; usize::try_from(to - from).unwrap()];
        // Pages that cannot be read, of devices, hold nothing of ours.
        let read = memory.read_at(&mut bytes, from).unwrap_or(0);
        holds(&bytes[..read], needle)
    })
}

fn holds(haystack: &[u8], needle: &[u8]) -> bool {
    let mut windows = haystack.windows(needle.len());
    windows.any(|window| window[0] == needle[0] && window == needle)
}
