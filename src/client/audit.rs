//! The calls of `kekd.v1.AuditService`: records in pages and live, checkpoints, proofs. What comes back
//! is not checked here.

use std::sync::Arc;

use tonic::transport::Channel;

use super::wire::Link;
use super::{ANSWER_BYTES_MAX, Client, ClientError};
use crate::proto::v1;
use crate::proto::v1::audit_service_client::AuditServiceClient;
use crate::proto::v1::get_audit_proof_request::What;
use crate::proto::v1::get_retention_request::Before;

/// Records as they are written.
pub struct LiveRecords {
    stream: tonic::Streaming<v1::FollowResponse>,
    link: Arc<Link>,
}

impl LiveRecords {
    /// The exact bytes of the next record; none after kekd ended the stream in order.
    pub async fn next(&mut self) -> Result<Option<Vec<u8>>, ClientError> {
        match self.stream.message().await {
            Ok(answer) => Ok(answer.map(|answer| answer.record)),
            Err(status) => Err(ClientError::from_status(&status, &self.link)),
        }
    }
}

impl Client {
    /// Records of the audit log from an index on that a filter keeps, as many as fit in one answer.
    pub async fn read_records(
        &self,
        from: u64,
        filter: v1::RecordFilter,
    ) -> Result<v1::ReadRecordsResponse, ClientError> {
        let message = v1::ReadRecordsRequest {
            from,
            filter: Some(filter),
            records_max: 0,
        };
        let answer = self.audit().read_records(self.request(message)).await;
        self.taken(answer)
    }

    /// Records as they are written, from an index on, or from the next one on. The stream has no
    /// deadline of its own.
    pub async fn follow_records(
        &self,
        from: Option<u64>,
        filter: v1::RecordFilter,
    ) -> Result<LiveRecords, ClientError> {
        let filter = Some(filter);
        let answer = self
            .audit()
            .follow(v1::FollowRequest { from, filter })
            .await;
        Ok(LiveRecords {
            stream: self.taken(answer)?,
            link: Arc::clone(&self.link),
        })
    }

    /// The newest checkpoint of the audit log: a signed note (C2SP tlog-checkpoint).
    pub async fn audit_checkpoint(&self) -> Result<String, ClientError> {
        let request = self.request(v1::GetAuditCheckpointRequest {});
        let answer = self.audit().get_checkpoint(request).await;
        Ok(self.taken(answer)?.note)
    }

    /// A proof about the log of the newest checkpoint.
    pub async fn audit_proof(&self, what: What) -> Result<v1::GetAuditProofResponse, ClientError> {
        let message = v1::GetAuditProofRequest { what: Some(what) };
        let answer = self.audit().get_proof(self.request(message)).await;
        self.taken(answer)
    }

    /// Which records were dropped, and what can be archived next.
    pub async fn audit_retention(
        &self,
        before: Option<Before>,
    ) -> Result<v1::GetRetentionResponse, ClientError> {
        let message = v1::GetRetentionRequest { before };
        let answer = self.audit().get_retention(self.request(message)).await;
        self.taken(answer)
    }

    /// Has records dropped that were archived; what stands in their place.
    pub async fn drop_archived(
        &self,
        wanted: v1::DropArchivedRequest,
    ) -> Result<v1::Archived, ClientError> {
        let answer = self.audit().drop_archived(self.request(wanted)).await;
        Ok(self.taken(answer)?.archived.unwrap_or_default())
    }

    fn audit(&self) -> AuditServiceClient<Channel> {
        AuditServiceClient::new(self.channel.clone()).max_decoding_message_size(ANSWER_BYTES_MAX)
    }
}
