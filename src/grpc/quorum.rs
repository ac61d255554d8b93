//! `kekd.v1.QuorumService`: what officers sign, carried to the flows. Whoever calls is only the
//! carrier; nothing is decided here.

use std::sync::Arc;

use tonic::{Request, Response, Status};

use super::quorum_view::View;
use super::status::Refused;
use crate::flows::Node;
use crate::flows::govern::GovernError;
use crate::flows::import::{WRAPPED_AES_KEY_LEN_MAX, WRAPPED_PRIVATE_KEY_LEN_MAX};
use crate::proto::v1;
use crate::proto::v1::quorum_service_server::QuorumService;
use crate::quorum::{ProposalId, SIGNATURE_LEN_MAX, STATEMENT_LEN_MAX, Standing};
use crate::types::{Sha256, TypeError};

/// Most proposals in one answer.
const LISTED_MAX: usize = 500;

/// The service.
pub struct Quorum {
    node: Arc<Node>,
}

impl Quorum {
    /// The service over an open node.
    pub const fn new(node: Arc<Node>) -> Self {
        Self { node }
    }

    fn proposal(&self, standing: &Standing) -> Option<v1::Proposal> {
        Some(View::of(&self.node).proposal(standing))
    }
}

fn refused(error: GovernError) -> Refused {
    Refused::from(&error)
}

fn proposal_id(bytes: &[u8]) -> Result<ProposalId, Refused> {
    let rule = TypeError {
        what: "a proposal id",
        rule: "32 bytes: SHA-256 over the statement",
    };
    let id = Sha256::try_from(bytes).map_err(|_| Refused::from(&rule))?;
    Ok(ProposalId(id))
}

fn statement(bytes: Vec<u8>) -> Result<Vec<u8>, Refused> {
    let rule = TypeError {
        what: "a statement",
        rule: "1 to 65536 bytes",
    };
    bounded(bytes, STATEMENT_LEN_MAX, &rule)
}

fn signature(bytes: Vec<u8>) -> Result<Vec<u8>, Refused> {
    let rule = TypeError {
        what: "a signature",
        rule: "1 to 16384 bytes of armored SSHSIG",
    };
    bounded(bytes, SIGNATURE_LEN_MAX, &rule)
}

fn bounded(bytes: Vec<u8>, len_max: usize, rule: &TypeError) -> Result<Vec<u8>, Refused> {
    if bytes.is_empty() || bytes.len() > len_max {
        return Err(Refused::from(rule));
    }
    Ok(bytes)
}

#[tonic::async_trait]
impl QuorumService for Quorum {
    async fn propose(
        &self,
        request: Request<v1::ProposeRequest>,
    ) -> Result<Response<v1::ProposeResponse>, Status> {
        let asked = request.into_inner();
        let (statement, signature) = (statement(asked.statement)?, signature(asked.signature)?);
        let standing = self.node.propose(statement, signature).await;
        let standing = standing.map_err(refused)?;
        let proposal = self.proposal(&standing);
        Ok(Response::new(v1::ProposeResponse { proposal }))
    }

    async fn approve(
        &self,
        request: Request<v1::ApproveRequest>,
    ) -> Result<Response<v1::ApproveResponse>, Status> {
        let asked = request.into_inner();
        let (id, signature) = (
            proposal_id(&asked.proposal_id)?,
            signature(asked.signature)?,
        );
        let standing = self.node.approve(id, signature).await.map_err(refused)?;
        let proposal = self.proposal(&standing);
        Ok(Response::new(v1::ApproveResponse { proposal }))
    }

    async fn prove_possession(
        &self,
        request: Request<v1::ProvePossessionRequest>,
    ) -> Result<Response<v1::ProvePossessionResponse>, Status> {
        let asked = request.into_inner();
        let (id, signature) = (
            proposal_id(&asked.proposal_id)?,
            signature(asked.signature)?,
        );
        let standing = self.node.prove_possession(id, signature).await;
        let standing = standing.map_err(refused)?;
        let proposal = self.proposal(&standing);
        Ok(Response::new(v1::ProvePossessionResponse { proposal }))
    }

    async fn veto(
        &self,
        request: Request<v1::VetoRequest>,
    ) -> Result<Response<v1::VetoResponse>, Status> {
        let asked = request.into_inner();
        let (id, signature) = (
            proposal_id(&asked.proposal_id)?,
            signature(asked.signature)?,
        );
        let standing = self.node.veto(id, signature).await.map_err(refused)?;
        let proposal = self.proposal(&standing);
        Ok(Response::new(v1::VetoResponse { proposal }))
    }

    async fn execute(
        &self,
        request: Request<v1::ExecuteRequest>,
    ) -> Result<Response<v1::ExecuteResponse>, Status> {
        let asked = request.into_inner();
        let (statement, signature) = (statement(asked.statement)?, signature(asked.signature)?);
        let executed = self.node.execute(statement, signature).await;
        let executed = executed.map_err(refused)?;
        let transport = executed.transport;
        let (transport_spki, transport_certificate) = transport
            .map(|key| (key.spki, key.certificate))
            .unwrap_or_default();
        Ok(Response::new(v1::ExecuteResponse {
            proposal: self.proposal(&executed.standing),
            transport_spki,
            transport_certificate,
        }))
    }

    async fn suspend(
        &self,
        request: Request<v1::SuspendRequest>,
    ) -> Result<Response<v1::SuspendResponse>, Status> {
        let asked = request.into_inner();
        let (statement, signature) = (statement(asked.statement)?, signature(asked.signature)?);
        let in_ledger = self.node.suspend(statement, signature).await;
        let in_ledger = in_ledger.map_err(refused)?;
        Ok(Response::new(v1::SuspendResponse { in_ledger }))
    }

    async fn get_proposal(
        &self,
        request: Request<v1::GetProposalRequest>,
    ) -> Result<Response<v1::GetProposalResponse>, Status> {
        let id = proposal_id(&request.get_ref().proposal_id)?;
        let standing = self.node.standing(id).map_err(refused)?;
        let proposal = self.proposal(&standing);
        Ok(Response::new(v1::GetProposalResponse { proposal }))
    }

    async fn list_proposals(
        &self,
        request: Request<v1::ListProposalsRequest>,
    ) -> Result<Response<v1::ListProposalsResponse>, Status> {
        let proposals = View::of(&self.node).proposals(request.get_ref().all, LISTED_MAX);
        Ok(Response::new(v1::ListProposalsResponse { proposals }))
    }

    async fn get_governance(
        &self,
        _request: Request<v1::GetGovernanceRequest>,
    ) -> Result<Response<v1::GetGovernanceResponse>, Status> {
        Ok(Response::new(View::of(&self.node).governance(&self.node)))
    }

    async fn get_transport_key(
        &self,
        request: Request<v1::GetTransportKeyRequest>,
    ) -> Result<Response<v1::GetTransportKeyResponse>, Status> {
        let id = proposal_id(&request.get_ref().proposal_id)?;
        let key = self.node.transport_key(id).await.map_err(refused)?;
        Ok(Response::new(v1::GetTransportKeyResponse {
            transport_spki: key.spki,
            transport_certificate: key.certificate,
            issuing_certificate: key.issuing_certificate,
        }))
    }

    async fn deliver_import(
        &self,
        request: Request<v1::DeliverImportRequest>,
    ) -> Result<Response<v1::DeliverImportResponse>, Status> {
        let asked = request.into_inner();
        let id = proposal_id(&asked.proposal_id)?;
        let aes = bounded(
            asked.wrapped_aes_key,
            WRAPPED_AES_KEY_LEN_MAX,
            &TypeError {
                what: "a wrapped AES key",
                rule: "1 to 512 bytes",
            },
        )?;
        let key = bounded(
            asked.wrapped_private_key,
            WRAPPED_PRIVATE_KEY_LEN_MAX,
            &TypeError {
                what: "a wrapped private key",
                rule: "1 to 4096 bytes",
            },
        )?;
        let standing = self.node.deliver_import(id, aes, key).await;
        let standing = standing.map_err(refused)?;
        let proposal = self.proposal(&standing);
        Ok(Response::new(v1::DeliverImportResponse { proposal }))
    }
}
