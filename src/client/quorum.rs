//! Governance as a client sees it: reading proposals and the state they are judged in, and bringing
//! statements with their signatures to kekd. No statement is made or read here, and nothing is
//! signed: authority is in the signature, never in the connection.

use std::time::Duration;

use tonic::transport::Channel;

use super::{Client, ClientError};
use crate::proto::v1::quorum_service_client::QuorumServiceClient;
use crate::proto::v1::{self, Proposal};
use crate::types::Sha256;

/// Bytes of one answer: 500 proposals of 64 KiB each, and room for what is said of them.
const PROPOSALS_BYTES_MAX: usize = 40 * 1024 * 1024;

/// The least time that a call gets which has the HSM make keys; kekd gives it no more.
const CEREMONY_TIMEOUT_MIN: Duration = Duration::from_secs(120);

impl Client {
    /// What a statement is made of: instance, epoch, head, officers, policy and profiles.
    pub async fn governance(&self) -> Result<v1::GetGovernanceResponse, ClientError> {
        let request = self.request(v1::GetGovernanceRequest {});
        self.taken(self.quorum().get_governance(request).await)
    }

    /// One proposal.
    pub async fn get_proposal(&self, id: Sha256) -> Result<Proposal, ClientError> {
        let message = v1::GetProposalRequest {
            proposal_id: id.as_bytes().to_vec(),
        };
        let answer = self.quorum().get_proposal(self.request(message)).await;
        one(self.taken(answer)?.proposal)
    }

    /// Proposals, newest first: those that are not closed, or with `all` the closed ones too.
    pub async fn list_proposals(&self, all: bool) -> Result<Vec<Proposal>, ClientError> {
        let request = self.request(v1::ListProposalsRequest { all });
        let answer = self.quorum().list_proposals(request).await;
        Ok(self.taken(answer)?.proposals)
    }

    /// Puts an operation forward. `statement` is a "kekd proposal v1", `signature` the proposer's
    /// armored SSHSIG over it. It is in the ledger when this returns, as with every act below.
    pub async fn propose(
        &self,
        statement: Vec<u8>,
        signature: Vec<u8>,
    ) -> Result<Proposal, ClientError> {
        let request = self.request(v1::ProposeRequest {
            statement,
            signature,
        });
        let answer = self.quorum().propose(request).await;
        one(self.taken(answer)?.proposal)
    }

    /// Approves a proposal: `signature` is over the proposal's statement.
    pub async fn approve(&self, id: Sha256, signature: Vec<u8>) -> Result<Proposal, ClientError> {
        let request = self.request(v1::ApproveRequest {
            proposal_id: id.as_bytes().to_vec(),
            signature,
        });
        let answer = self.quorum().approve(request).await;
        one(self.taken(answer)?.proposal)
    }

    /// Proves possession of a key that a proposal names: `signature` is by it, over the proposal's
    /// statement.
    pub async fn prove_possession(
        &self,
        id: Sha256,
        signature: Vec<u8>,
    ) -> Result<Proposal, ClientError> {
        let request = self.request(v1::ProvePossessionRequest {
            proposal_id: id.as_bytes().to_vec(),
            signature,
        });
        let answer = self.quorum().prove_possession(request).await;
        one(self.taken(answer)?.proposal)
    }

    /// Closes a proposal: `signature` is over its statement.
    pub async fn veto(&self, id: Sha256, signature: Vec<u8>) -> Result<Proposal, ClientError> {
        let request = self.request(v1::VetoRequest {
            proposal_id: id.as_bytes().to_vec(),
            signature,
        });
        let answer = self.quorum().veto(request).await;
        one(self.taken(answer)?.proposal)
    }

    /// Executes a proposal. `statement` is a "kekd execution v1". Making a key takes seconds; when
    /// this call is given up, what was begun goes on.
    pub async fn execute(
        &self,
        statement: Vec<u8>,
        signature: Vec<u8>,
    ) -> Result<v1::ExecuteResponse, ClientError> {
        let request = self.ceremony(v1::ExecuteRequest {
            statement,
            signature,
        });
        self.taken(self.quorum().execute(request).await)
    }

    /// Stops a KEK, or all. `statement` is a "kekd suspension v1". The stop holds when this returns;
    /// the answer says whether the ledger has it already.
    pub async fn suspend(
        &self,
        statement: Vec<u8>,
        signature: Vec<u8>,
    ) -> Result<bool, ClientError> {
        let request = self.request(v1::SuspendRequest {
            statement,
            signature,
        });
        Ok(self.taken(self.quorum().suspend(request).await)?.in_ledger)
    }

    /// The transport key of an executed import that waits for its key, not verified.
    pub async fn transport_key(
        &self,
        id: Sha256,
    ) -> Result<v1::GetTransportKeyResponse, ClientError> {
        let request = self.request(v1::GetTransportKeyRequest {
            proposal_id: id.as_bytes().to_vec(),
        });
        self.taken(self.quorum().get_transport_key(request).await)
    }

    /// Brings the wrapped key that an executed import waits for.
    pub async fn deliver_import(
        &self,
        message: v1::DeliverImportRequest,
    ) -> Result<Proposal, ClientError> {
        let answer = self.quorum().deliver_import(self.ceremony(message)).await;
        one(self.taken(answer)?.proposal)
    }

    /// A request that has the HSM make keys, which may take it long: two minutes at least, for what
    /// was begun goes on whether or not anybody waits.
    fn ceremony<T>(&self, message: T) -> tonic::Request<T> {
        let mut request = self.request(message);
        request.set_timeout(self.timeout.max(CEREMONY_TIMEOUT_MIN));
        request
    }

    fn quorum(&self) -> QuorumServiceClient<Channel> {
        QuorumServiceClient::new(self.channel.clone())
            .max_decoding_message_size(PROPOSALS_BYTES_MAX)
    }
}

fn one(proposal: Option<Proposal>) -> Result<Proposal, ClientError> {
    proposal.ok_or(ClientError::Protocol(
        "the call was answered without its proposal",
    ))
}
