//! One identity, one role: every rpc there is, asked for by every role there is, over TLS. The table
//! is written out here by what the proto files say of each service, not read out of the code.

use std::collections::BTreeSet;

use kekd::access::Role;
use kekd::client::{Client, ClientError};
use kekd::proto::v1;
use kekd::quorum::Operation;
use kekd::types::Padding;
use prost::Message as _;
use prost_types::FileDescriptorSet;
use tonic::client::Grpc;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};
use tonic::{Code, Request, Status};
use tonic_prost::ProstCodec;

use crate::harness::{Kek, Rig, reason};
use crate::officers::Officers;

/// Identities of the rig, one of each role, and one the ledger does not name.
const CALLERS: [&str; 5] = ["lkm-1", "officer", "operator", "auditor", "stranger"];
/// Those who read how the instance is governed.
const READERS: &[&str] = &["officer", "operator", "auditor"];
const NAMED: &[&str] = &["lkm-1", "officer", "operator", "auditor"];

/// Each call, and who may make it.
const TABLE: [(&str, &[&str]); 33] = [
    ("kekd.v1.UnwrapService/Unwrap", &["lkm-1"]),
    ("kekd.v1.UnwrapService/UnwrapStream", &["lkm-1"]),
    ("kekd.v1.KeysService/ListKeks", NAMED),
    ("kekd.v1.KeysService/GetKek", NAMED),
    ("kekd.v1.KeysService/GetPublicKey", NAMED),
    ("kekd.v1.KeysService/GetCertificate", NAMED),
    ("kekd.v1.KeysService/LookUpRecordingPolicy", NAMED),
    ("kekd.v1.AuditService/ReadRecords", &["auditor"]),
    ("kekd.v1.AuditService/Follow", &["auditor"]),
    ("kekd.v1.AuditService/GetCheckpoint", &["auditor"]),
    ("kekd.v1.AuditService/GetProof", &["auditor"]),
    ("kekd.v1.AuditService/GetRetention", &["auditor"]),
    ("kekd.v1.AuditService/DropArchived", &["auditor"]),
    ("kekd.v1.LedgerService/ReadEntries", READERS),
    ("kekd.v1.LedgerService/GetCheckpoint", READERS),
    ("kekd.v1.LedgerService/GetProof", READERS),
    ("kekd.v1.QuorumService/Propose", &["officer"]),
    ("kekd.v1.QuorumService/Approve", &["officer"]),
    ("kekd.v1.QuorumService/ProvePossession", &["officer"]),
    ("kekd.v1.QuorumService/Veto", &["officer"]),
    ("kekd.v1.QuorumService/Execute", &["officer"]),
    ("kekd.v1.QuorumService/DeliverImport", &["officer"]),
    ("kekd.v1.QuorumService/GetTransportKey", READERS),
    ("kekd.v1.QuorumService/Suspend", &["officer", "operator"]),
    ("kekd.v1.QuorumService/GetProposal", READERS),
    ("kekd.v1.QuorumService/ListProposals", READERS),
    ("kekd.v1.QuorumService/GetGovernance", READERS),
    ("kekd.v1.NodeService/GetStatus", NAMED),
    ("kekd.v1.NodeService/GetCoverage", NAMED),
    ("grpc.health.v1.Health/Check", NAMED),
    ("grpc.health.v1.Health/Watch", NAMED),
    (
        "grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
        NAMED,
    ),
    (
        "grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
        NAMED,
    ),
];

/// A bare channel over TLS with one of the rig's identities.
async fn channel(rig: &Rig, name: &str) -> Channel {
    let files = rig.files(name);
    let read = |path| std::fs::read(path).unwrap();
    let identity = Identity::from_pem(read(files.certificate), read(files.private_key));
    let tls = ClientTlsConfig::new()
        .ca_certificate(Certificate::from_pem(read(files.ca)))
        .identity(identity);
    let endpoint = Endpoint::from_shared(rig.address()).unwrap();
    endpoint.tls_config(tls).unwrap().connect().await.unwrap()
}

/// What a call with an empty message comes to: its status, or that of the first answer. All kinds of
/// calls look alike on the wire when one message is sent.
async fn called(channel: &Channel, path: &str) -> Result<(), Status> {
    let mut grpc = Grpc::new(channel.clone());
    grpc.ready().await.unwrap();
    let mut request = Request::new(());
    request.set_timeout(crate::harness::PATIENCE);
    let path = format!("/{path}").parse().unwrap();
    let codec = ProstCodec::<(), ()>::default();
    let mut answers = grpc
        .server_streaming(request, path, codec)
        .await?
        .into_inner();
    answers.message().await.map(|_| ())
}

fn status(error: &ClientError) -> Status {
    let ClientError::Refused(refusal) = error else {
        panic!("not a refusal: {error}");
    };
    Status::new(refusal.code, refusal.message.clone())
}

/// A call that unwraps is judged, and recorded, whole; so it is made in earnest.
async fn unwrapped(client: &Client, kek: &Kek) -> Result<(), Status> {
    let call = kek.call(Padding::OaepSha1, &[1; 32]);
    let answer = client.unwrap(call).await;
    answer.map(|_| ()).map_err(|error| status(&error))
}

async fn streamed(client: &Client, kek: &Kek) -> Result<(), Status> {
    let mut call = kek.call(Padding::OaepSha1, &[1; 32]);
    call.request_id = Some("one".parse().unwrap());
    let answers = client.unwrap_stream(tokio_stream::once(call)).await;
    let mut answers = answers.map_err(|error| status(&error))?;
    let answer = answers
        .next()
        .await
        .unwrap()
        .map_err(|error| status(&error))?;
    let refused = |refusal| status(&ClientError::Refused(Box::new(refusal)));
    answer.outcome.map(|_| ()).map_err(refused)
}

fn every_call() -> BTreeSet<String> {
    let sets = [
        v1::FILE_DESCRIPTOR_SET,
        tonic_health::pb::FILE_DESCRIPTOR_SET,
        tonic_reflection::pb::v1::FILE_DESCRIPTOR_SET,
        tonic_reflection::pb::v1alpha::FILE_DESCRIPTOR_SET,
    ];
    let mut calls = BTreeSet::new();
    for set in sets {
        for file in FileDescriptorSet::decode(set).unwrap().file {
            for service in &file.service {
                let name = format!("{}.{}", file.package(), service.name());
                calls.extend(
                    service
                        .method
                        .iter()
                        .map(|method| format!("{name}/{}", method.name())),
                );
            }
        }
    }
    calls
}

#[tokio::test]
async fn every_call_by_every_role() {
    let listed: BTreeSet<String> = TABLE.iter().map(|(call, _)| (*call).to_owned()).collect();
    assert_eq!(listed, every_call(), "a call without a line in the table");
    let rig = Rig::serving();
    let officers = Officers::of(&rig).await;
    let kek = Kek::of(&officers.client, "recordings").await;
    let size = officers.governance().await.ledger_size;
    for caller in CALLERS {
        let (channel, client) = (channel(&rig, caller).await, rig.client(caller).await);
        for (call, allowed) in TABLE {
            let answer = match call {
                "kekd.v1.UnwrapService/Unwrap" => unwrapped(&client, &kek).await,
                "kekd.v1.UnwrapService/UnwrapStream" => streamed(&client, &kek).await,
                _ => called(&channel, call).await,
            };
            let found = answer.as_ref().err().map_or(Code::Ok, Status::code);
            let denied = found == Code::PermissionDenied;
            let expected = !allowed.contains(&caller);
            assert_eq!(denied, expected, "{caller}, {call}: {answer:?}");
            assert_ne!(found, Code::Unauthenticated, "{caller}, {call}: {answer:?}");
            assert_ne!(found, Code::Unimplemented, "{caller}, {call}: {answer:?}");
        }
    }
    // Empty messages change nothing, whoever sends them.
    assert_eq!(officers.governance().await.ledger_size, size);
}

/// The authority is in the signature, but not everybody may bring one in.
#[tokio::test]
async fn an_auditor_reads_everything_and_changes_nothing() {
    let rig = Rig::serving();
    let officers = Officers::of(&rig).await;
    let kek = || "legacy".parse().unwrap();
    let forbid = || Operation::ForbidPkcs1V15 { kek: kek() };
    let id = officers.propose("alice", forbid()).await.unwrap();
    let auditor = rig.client("auditor").await;
    let size = auditor.governance().await.unwrap().ledger_size;

    assert_eq!(auditor.list_keks().await.unwrap().len(), 4);
    Kek::of(&auditor, "engage").await;
    assert_eq!(auditor.list_proposals(true).await.unwrap().len(), 1);
    auditor.get_proposal(id.0).await.unwrap();
    assert!(!auditor.read_entries(0).await.unwrap().entries.is_empty());
    auditor.ledger_checkpoint().await.unwrap();
    auditor.ledger_proof(0).await.unwrap();
    auditor.status().await.unwrap();

    // With true signatures of true officers.
    let proposal = officers.proposal(id).await;
    let text = proposal.text();
    let sign = |officer, namespace| officers.sign(officer, namespace, text);
    let next = officers.draft("alice", forbid()).await;
    let opened = officers.sign("alice", "proposal@kekd", next.text());
    let refusals = [
        auditor.propose(next.text().to_vec(), opened).await.err(),
        auditor
            .approve(id.0, sign("bob", "approval@kekd"))
            .await
            .err(),
        auditor.veto(id.0, sign("bob", "veto@kekd")).await.err(),
    ];
    for refusal in refusals {
        assert_eq!(reason(&refusal.unwrap()), "ROLE_NOT_ALLOWED");
    }
    assert_eq!(auditor.governance().await.unwrap().ledger_size, size);
}

#[tokio::test]
async fn one_identity_has_one_role() {
    let rig = Rig::serving();
    let officers = Officers::of(&rig).await;
    let identity = |name: &str| format!("spiffe://kekd.test/{name}").parse().unwrap();
    let recordings = || "recordings".parse().unwrap();
    let refused = |operation: Operation| async {
        let answer = officers.propose("dave", operation).await;
        assert_eq!(reason(&answer.err().unwrap()), "NOT_ACCEPTED");
    };
    for name in ["lkm-1", "officer", "operator", "auditor"] {
        for role in [
            Role::UnwrapClient,
            Role::Officer,
            Role::Operator,
            Role::Auditor,
        ] {
            refused(Operation::AssignRole {
                identity: identity(name),
                role,
            })
            .await;
        }
    }
    for name in ["officer", "operator", "auditor"] {
        let (identity, kek) = (identity(name), recordings());
        refused(Operation::GrantUnwrap { identity, kek }).await;
    }
    // A stranger gets one role, and then no other.
    let assign = |role| Operation::AssignRole {
        identity: identity("stranger"),
        role,
    };
    officers.enact(assign(Role::Auditor)).await.unwrap();
    let stranger = rig.client("stranger").await;
    stranger.governance().await.unwrap();
    refused(assign(Role::Operator)).await;
    let (of_stranger, kek) = (identity("stranger"), recordings());
    let grant = Operation::GrantUnwrap {
        identity: of_stranger,
        kek,
    };
    refused(grant.clone()).await;
    let remove = Operation::RemoveClient {
        identity: identity("stranger"),
    };
    officers.enact(remove).await.unwrap();
    let unknown = stranger.governance().await.err().unwrap();
    assert_eq!(reason(&unknown), "CALLER_UNKNOWN");
    officers.enact(grant).await.unwrap();
    let unwraps_only = stranger.governance().await.err().unwrap();
    assert_eq!(reason(&unwraps_only), "ROLE_NOT_ALLOWED");
}
