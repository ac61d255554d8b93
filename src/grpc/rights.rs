//! Which right each call needs: one table. A call that has no line here is closed to everybody, so
//! a new rpc is denied until somebody is named for it.

use crate::access::Action;

const RIGHTS: [(&str, Action); 33] = [
    ("/kekd.v1.UnwrapService/Unwrap", Action::Unwrap),
    ("/kekd.v1.UnwrapService/UnwrapStream", Action::Unwrap),
    ("/kekd.v1.KeysService/ListKeks", Action::ReadKeys),
    ("/kekd.v1.KeysService/GetKek", Action::ReadKeys),
    ("/kekd.v1.KeysService/GetPublicKey", Action::ReadKeys),
    ("/kekd.v1.KeysService/GetCertificate", Action::ReadKeys),
    (
        "/kekd.v1.KeysService/LookUpRecordingPolicy",
        Action::ReadKeys,
    ),
    ("/kekd.v1.LedgerService/ReadEntries", Action::ReadLedger),
    ("/kekd.v1.LedgerService/GetCheckpoint", Action::ReadLedger),
    ("/kekd.v1.LedgerService/GetProof", Action::ReadLedger),
    ("/kekd.v1.AuditService/ReadRecords", Action::ReadAudit),
    ("/kekd.v1.AuditService/Follow", Action::ReadAudit),
    ("/kekd.v1.AuditService/GetCheckpoint", Action::ReadAudit),
    ("/kekd.v1.AuditService/GetProof", Action::ReadAudit),
    ("/kekd.v1.AuditService/GetRetention", Action::ReadAudit),
    ("/kekd.v1.AuditService/DropArchived", Action::DropAudit),
    ("/kekd.v1.QuorumService/Propose", Action::Govern),
    ("/kekd.v1.QuorumService/Approve", Action::Govern),
    ("/kekd.v1.QuorumService/ProvePossession", Action::Govern),
    ("/kekd.v1.QuorumService/Veto", Action::Govern),
    ("/kekd.v1.QuorumService/Execute", Action::Govern),
    ("/kekd.v1.QuorumService/DeliverImport", Action::Govern),
    ("/kekd.v1.QuorumService/Suspend", Action::Stop),
    ("/kekd.v1.QuorumService/GetProposal", Action::ReadGovernance),
    (
        "/kekd.v1.QuorumService/ListProposals",
        Action::ReadGovernance,
    ),
    (
        "/kekd.v1.QuorumService/GetGovernance",
        Action::ReadGovernance,
    ),
    (
        "/kekd.v1.QuorumService/GetTransportKey",
        Action::ReadGovernance,
    ),
    ("/kekd.v1.NodeService/GetStatus", Action::ReadStatus),
    ("/kekd.v1.NodeService/GetCoverage", Action::ReadKeys),
    ("/grpc.health.v1.Health/Check", Action::ReadStatus),
    ("/grpc.health.v1.Health/Watch", Action::ReadStatus),
    (
        "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
        Action::ReadStatus,
    ),
    (
        "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
        Action::ReadStatus,
    ),
];

/// The right that the call with this path (`/package.Service/Method`) needs; `None` for a call that
/// nobody may make.
pub fn needed(path: &str) -> Option<Action> {
    RIGHTS
        .into_iter()
        .find(|(known, _)| *known == path)
        .map(|(_, action)| action)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test that cannot unwrap has failed")]
mod tests {
    use std::collections::BTreeSet;

    use prost::Message as _;
    use prost_types::FileDescriptorSet;

    use super::*;

    fn calls(descriptors: &[u8]) -> Vec<String> {
        let set = FileDescriptorSet::decode(descriptors).unwrap();
        let mut calls = Vec::new();
        for file in &set.file {
            for service in &file.service {
                for method in &service.method {
                    calls.push(format!(
                        "/{}.{}/{}",
                        file.package(),
                        service.name(),
                        method.name()
                    ));
                }
            }
        }
        calls
    }

    #[test]
    fn every_call_there_is_has_a_line_and_every_line_a_call() {
        let served: BTreeSet<String> = [
            crate::proto::v1::FILE_DESCRIPTOR_SET,
            tonic_health::pb::FILE_DESCRIPTOR_SET,
            tonic_reflection::pb::v1::FILE_DESCRIPTOR_SET,
            tonic_reflection::pb::v1alpha::FILE_DESCRIPTOR_SET,
        ]
        .into_iter()
        .flat_map(calls)
        .collect();
        let listed: BTreeSet<String> = RIGHTS.iter().map(|(path, _)| (*path).to_owned()).collect();
        assert_eq!(listed, served);
        assert_eq!(listed.len(), RIGHTS.len(), "a call has two lines");
    }

    #[test]
    fn a_call_without_a_line_is_closed() {
        for path in [
            "",
            "/",
            "/kekd.v1.UnwrapService/unwrap",
            "/kekd.v1.UnwrapService/Unwrap/",
            "//kekd.v1.UnwrapService/Unwrap",
            "/kekd.v1.UnwrapService/%55nwrap",
            "/grpc.reflection.v2.ServerReflection/ServerReflectionInfo",
        ] {
            assert_eq!(needed(path), None, "{path}");
        }
    }
}
