//! `kekd.v1.AuditService`: the audit log as it is stored, in pages, live, and proved; nothing is encoded
//! again. What was archived is dropped by the flow. A follower is bounded: so many records wait to be taken, and one
//! that takes none is cut.

use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, watch};
use tonic::{Request, Response, Status};

use super::deadline::Deadline;
use super::extension;
use super::network::Network;
use super::peer::Peer;
use super::status::Refused;
use crate::access::Action;
use crate::audit::{Before, Filter, Retention, Stub};
use crate::clock::UnixMs;
use crate::flows::Node;
use crate::flows::audit::{Following, ReadAuditError};
use crate::proto::v1;
use crate::proto::v1::audit_service_server::AuditService;
use crate::proto::v1::get_audit_proof_request::What;
use crate::proto::v1::get_retention_request;
use crate::types::{Sha256, TypeError};

/// Records that wait for a follower to take them.
const WAITING_MAX: usize = 64;
/// How long they may wait.
const STALLED_MAX: Duration = Duration::from_secs(30);

/// The service.
pub struct AuditReads {
    node: Arc<Node>,
    network: Arc<Network>,
}

impl AuditReads {
    /// The service over an open node.
    pub const fn new(node: Arc<Node>, network: Arc<Network>) -> Self {
        Self { node, network }
    }
}

fn refused(error: ReadAuditError) -> Refused {
    Refused::from(&error)
}

/// What a caller wants to see. An empty text names nothing.
fn filter(wanted: Option<v1::RecordFilter>) -> Result<Filter, Refused> {
    let wanted = wanted.unwrap_or_default();
    let named = |text: String| Some(text).filter(|text| !text.is_empty());
    let mut outcomes = Vec::new();
    for outcome in wanted.outcomes {
        match v1::Outcome::try_from(outcome) {
            Ok(outcome) if outcome != v1::Outcome::Unspecified => outcomes.push(outcome),
            Ok(_) | Err(_) => {
                return Err(Refused::from(&TypeError {
                    what: "an outcome",
                    rule: "one that records have",
                }));
            }
        }
    }
    Ok(Filter {
        since: wanted.since_ms.map(UnixMs),
        until: wanted.until_ms.map(UnixMs),
        kek: named(wanted.kek),
        keypair_id: named(wanted.keypair_id),
        caller: named(wanted.caller),
        end_user: named(wanted.end_user),
        outcomes,
    })
}

#[tonic::async_trait]
impl AuditService for AuditReads {
    async fn read_records(
        &self,
        request: Request<v1::ReadRecordsRequest>,
    ) -> Result<Response<v1::ReadRecordsResponse>, Status> {
        let request = request.into_inner();
        let records_max = usize::try_from(request.records_max).unwrap_or(usize::MAX);
        let read = self
            .node
            .read_records(filter(request.filter)?, request.from, records_max);
        let page = read.await.map_err(refused)?;
        Ok(Response::new(v1::ReadRecordsResponse {
            records: page.records.into_iter().map(|(_, bytes)| bytes).collect(),
            next: page.next,
            size: page.size,
        }))
    }

    type FollowStream = Records;

    async fn follow(
        &self,
        request: Request<v1::FollowRequest>,
    ) -> Result<Response<Self::FollowStream>, Status> {
        let peer: Peer = extension(&request)?;
        let deadline: Deadline = extension(&request)?;
        let request = request.into_inner();
        let filter = filter(request.filter)?;
        let following = self.node.follow_records().map_err(refused)?;
        let next = request.from.unwrap_or(following.heads.borrow().size);
        let (sender, taken) = mpsc::channel(WAITING_MAX);
        let last = Arc::new(OnceLock::new());
        let follower = Follower {
            node: Arc::clone(&self.node),
            peer,
            filter,
            next,
            following,
            named: deadline.named,
            stopping: self.network.stopping(),
            sender,
        };
        let end = Arc::clone(&last);
        tokio::spawn(async move {
            if let Err(why) = follower.run().await {
                // Set once: there is one follower.
                end.set(why).unwrap_or_default();
            }
        });
        Ok(Response::new(Records { taken, last }))
    }

    async fn get_checkpoint(
        &self,
        _request: Request<v1::GetAuditCheckpointRequest>,
    ) -> Result<Response<v1::GetAuditCheckpointResponse>, Status> {
        let note = self.node.audit_checkpoint().await.map_err(refused)?;
        Ok(Response::new(v1::GetAuditCheckpointResponse { note }))
    }

    async fn get_proof(
        &self,
        request: Request<v1::GetAuditProofRequest>,
    ) -> Result<Response<v1::GetAuditProofResponse>, Status> {
        let (record, hashes, note) = match request.into_inner().what {
            Some(What::Index(index)) => {
                let proof = self.node.prove_record(index).await.map_err(refused)?;
                (proof.record, proof.hashes, proof.note)
            }
            Some(What::OldSize(old_size)) => {
                let proof = self.node.prove_audit_growth(old_size).await;
                let proof = proof.map_err(refused)?;
                (Vec::new(), proof.hashes, proof.note)
            }
            None => {
                let what = TypeError {
                    what: "a request for a proof",
                    rule: "about an index or an older size",
                };
                return Err(Refused::from(&what).into());
            }
        };
        let hashes = hashes.iter().map(|hash| hash.as_bytes().to_vec());
        Ok(Response::new(v1::GetAuditProofResponse {
            hashes: hashes.collect(),
            record,
            note,
        }))
    }

    async fn get_retention(
        &self,
        request: Request<v1::GetRetentionRequest>,
    ) -> Result<Response<v1::GetRetentionResponse>, Status> {
        let before = match request.into_inner().before {
            None => Before::Now,
            Some(get_retention_request::Before::BeforeIndex(index)) => Before::Index(index),
            Some(get_retention_request::Before::BeforeMs(ms)) => Before::Time(UnixMs(ms)),
        };
        let found = self.node.audit_retention(before).await.map_err(refused)?;
        Ok(Response::new(retained(found)))
    }

    async fn drop_archived(
        &self,
        request: Request<v1::DropArchivedRequest>,
    ) -> Result<Response<v1::DropArchivedResponse>, Status> {
        let peer: Peer = extension(&request)?;
        let wanted = request.into_inner();
        let (archive, tiles) = (
            digest(&wanted.archive_sha256)?,
            digest(&wanted.tiles_sha256)?,
        );
        let range = wanted.first..wanted.until;
        let dropped = self
            .node
            .drop_archived(&peer.identity, range, archive, tiles)
            .await;
        let archived = Some(archived(&dropped.map_err(refused)?));
        Ok(Response::new(v1::DropArchivedResponse { archived }))
    }
}

fn digest(bytes: &[u8]) -> Result<Sha256, Refused> {
    Sha256::try_from(bytes).map_err(|_| {
        Refused::from(&TypeError {
            what: "a digest",
            rule: "of 32 bytes",
        })
    })
}

fn archived(stub: &Stub) -> v1::Archived {
    v1::Archived {
        first: stub.first,
        until: stub.until,
        archive_sha256: stub.archive.as_bytes().to_vec(),
        tiles_sha256: stub.tiles.as_bytes().to_vec(),
        signed_size: stub.signed,
        record_index: stub.record_index,
    }
}

fn retained(found: Retention) -> v1::GetRetentionResponse {
    v1::GetRetentionResponse {
        archived: found.stubs.iter().map(archived).collect(),
        first_kept: found.first_kept,
        instance_id: found.instance_id.as_bytes().to_vec(),
        archivable: found.archivable.map(|span| v1::Archivable {
            first: span.range.start,
            until: span.range.end,
            outside: span
                .outside
                .iter()
                .map(|root| root.as_bytes().to_vec())
                .collect(),
            note: span.note,
        }),
    }
}

/// The records of one follower, for the encoder; behind the last, why there are no more.
pub struct Records {
    taken: mpsc::Receiver<v1::FollowResponse>,
    last: Arc<OnceLock<Refused>>,
}

impl tokio_stream::Stream for Records {
    type Item = Result<v1::FollowResponse, Status>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.taken.poll_recv(cx).map(|record| match record {
            Some(record) => Some(Ok(record)),
            None => self.last.get().map(|why| Err(why.clone().into())),
        })
    }
}

/// One `Follow`. It reads pages at its own pace: what a slow caller does not take is on disk.
struct Follower {
    node: Arc<Node>,
    peer: Peer,
    filter: Filter,
    next: u64,
    following: Following,
    /// The deadline the caller named for the whole stream.
    named: Option<Instant>,
    stopping: watch::Receiver<bool>,
    sender: mpsc::Sender<v1::FollowResponse>,
}

impl Follower {
    /// Ends well when the caller is gone, else with what it is told.
    async fn run(mut self) -> Result<(), Refused> {
        loop {
            // The gate judged the beginning; certificates are judged with each answer.
            let caller = self.node.caller(&self.peer.identity);
            let allowed = caller.and_then(|caller| caller.require(Action::ReadAudit));
            allowed.map_err(|error| Refused::from(&error))?;
            self.following.heads.borrow_and_update();
            let read = self.node.read_records(self.filter.clone(), self.next, 0);
            let page = read.await.map_err(refused)?;
            for (_, record) in page.records {
                let sent = self.sender.send(v1::FollowResponse { record });
                match tokio::time::timeout(STALLED_MAX, sent).await {
                    Ok(Ok(())) => {}
                    Ok(Err(_)) => return Ok(()),
                    Err(_) => return Err(Refused::too_slow()),
                }
            }
            self.next = page.next;
            let is_stopping = *self.stopping.borrow();
            if self.next < page.size && !is_stopping {
                continue;
            }
            tokio::select! {
                () = self.sender.closed() => return Ok(()),
                () = sleep_until(self.named) => return Err(Refused::deadline_exceeded()),
                // A node that is gone has stopped.
                _ = self.stopping.wait_for(|stopping| *stopping) => {
                    return Err(Refused::stopping());
                }
                grown = self.following.heads.changed() => grown.map_err(|_| Refused::stopping())?,
            }
        }
    }
}

async fn sleep_until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline.into()).await,
        None => std::future::pending().await,
    }
}
