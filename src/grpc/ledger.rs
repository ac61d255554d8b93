//! `kekd.v1.LedgerService`: the ledger as it is stored. Nothing here is secret, nothing changes and
//! nothing is encoded again.

use std::sync::Arc;

use tonic::{Request, Response, Status};

use super::status::Refused;
use crate::flows::Node;
use crate::flows::ledger::ReadLedgerError;
use crate::proto::v1;
use crate::proto::v1::ledger_service_server::LedgerService;

/// The service.
pub struct LedgerReads {
    node: Arc<Node>,
}

impl LedgerReads {
    /// The service over an open node.
    pub const fn new(node: Arc<Node>) -> Self {
        Self { node }
    }
}

fn refused(error: ReadLedgerError) -> Refused {
    Refused::from(&error)
}

#[tonic::async_trait]
impl LedgerService for LedgerReads {
    async fn read_entries(
        &self,
        request: Request<v1::ReadEntriesRequest>,
    ) -> Result<Response<v1::ReadEntriesResponse>, Status> {
        let from = request.get_ref().from;
        let read = self.node.read_entries(from).await.map_err(refused)?;
        Ok(Response::new(v1::ReadEntriesResponse {
            entries: read.entries,
            size: read.size,
        }))
    }

    async fn get_checkpoint(
        &self,
        _request: Request<v1::GetCheckpointRequest>,
    ) -> Result<Response<v1::GetCheckpointResponse>, Status> {
        let note = self.node.ledger_checkpoint().await.map_err(refused)?;
        Ok(Response::new(v1::GetCheckpointResponse { note }))
    }

    async fn get_proof(
        &self,
        request: Request<v1::GetProofRequest>,
    ) -> Result<Response<v1::GetProofResponse>, Status> {
        let index = request.get_ref().index;
        let proof = self.node.prove_entry(index).await.map_err(refused)?;
        let hashes = proof.hashes.iter().map(|hash| hash.as_bytes().to_vec());
        Ok(Response::new(v1::GetProofResponse {
            hashes: hashes.collect(),
            entry: proof.entry,
            note: proof.note,
        }))
    }
}
