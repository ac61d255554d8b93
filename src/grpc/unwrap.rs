//! `kekd.v1.UnwrapService`: one DEK at a time, in the interactive lane, or many over one stream, in
//! the bulk lane. A stream is bounded: so many
//! requests are under way or have an answer that waits to be taken, and no more are read. Every
//! request is authorised by itself, also on a stream.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use tokio::sync::mpsc::OwnedPermit;
use tokio::sync::{mpsc, watch};
use tokio::task::{Id, JoinError, JoinSet};
use tonic::{Request, Response, Status, Streaming};
use tracing::error;

use super::deadline::Deadline;
use super::escort::Escort;
use super::network::Network;
use super::peer::Peer;
use super::status::Refused;
use super::{convert, extension};
use crate::config::LimitsConfig;
use crate::flows::Node;
use crate::proto::v1;
use crate::proto::v1::unwrap_service_server::UnwrapService;
use crate::proto::v1::unwrap_stream_response::Outcome;
use crate::stops::Passage;
use crate::types::{Lane, RequestId};

/// What waits to be taken by the caller of a stream, with the passage of the DEK in it.
type Answer = (Result<v1::UnwrapStreamResponse, Status>, Option<Passage>);

/// The service.
#[derive(Clone)]
pub struct Unwrap {
    node: Arc<Node>,
    network: Arc<Network>,
    under_way_max: usize,
    request_max: Duration,
}

impl Unwrap {
    /// The service over an open node.
    pub const fn new(node: Arc<Node>, network: Arc<Network>, limits: &LimitsConfig) -> Self {
        Self {
            node,
            network,
            under_way_max: limits.requests_per_stream_max,
            request_max: Duration::from_millis(limits.request_timeout_ms_max),
        }
    }

    async fn one(
        &self,
        peer: &Peer,
        request: v1::UnwrapRequest,
        made: Option<RequestId>,
        lane: Lane,
        deadline: Instant,
    ) -> Result<(v1::UnwrapResponse, Passage), Refused> {
        let released = match convert::command(request, made) {
            Ok(command) => {
                let unwrap = self.node.unwrap(&peer.identity, command, lane, deadline);
                unwrap.await
            }
            Err(malformed) => {
                let refuse = self.node.refuse(&peer.identity, malformed, lane, deadline);
                Err(refuse.await)
            }
        };
        let released = released.map_err(|error| Refused::from(&error))?;
        // A caller that does not take its answer is cut, so that a stop does not wait for it.
        let hang_up = peer.hang_up.clone();
        released.passage.on_revoked(move || hang_up.now());
        Ok(convert::unwrapped(released))
    }

    /// One request of a stream. The gate saw the stream begin; the certificate is judged again.
    async fn one_of_many(
        self,
        peer: Arc<Peer>,
        request: v1::UnwrapStreamRequest,
        deadline: Instant,
    ) -> (Outcome, Option<Passage>) {
        let answer = async {
            self.network
                .check_standing(&peer)
                .map_err(|error| Refused::from(&error))?;
            let request = request.request.unwrap_or_default();
            self.one(&peer, request, None, Lane::Bulk, deadline).await
        };
        let answer = tokio::time::timeout_at(deadline.into(), answer)
            .await
            .unwrap_or_else(|_| Err(Refused::deadline_exceeded()));
        match answer {
            Ok((response, passage)) => (Outcome::Response(response), Some(passage)),
            Err(refused) => (Outcome::Refusal(refused.into()), None),
        }
    }
}

#[tonic::async_trait]
impl UnwrapService for Unwrap {
    async fn unwrap(
        &self,
        request: Request<v1::UnwrapRequest>,
    ) -> Result<Response<v1::UnwrapResponse>, Status> {
        let peer: Peer = extension(&request)?;
        let deadline: Deadline = extension(&request)?;
        let made = RequestId::random().map_err(|_| {
            error!("the operating system gives no randomness");
            Refused::internal()
        })?;
        let (answer, passage) = self
            .one(
                &peer,
                request.into_inner(),
                Some(made),
                Lane::Interactive,
                deadline.call,
            )
            .await?;
        let escort = Escort::default();
        escort.join(passage);
        let mut response = Response::new(answer);
        response.extensions_mut().insert(escort);
        Ok(response)
    }

    type UnwrapStreamStream = Answers;

    async fn unwrap_stream(
        &self,
        request: Request<Streaming<v1::UnwrapStreamRequest>>,
    ) -> Result<Response<Self::UnwrapStreamStream>, Status> {
        let (answers, taken) = mpsc::channel(self.under_way_max);
        let deadline: Deadline = extension(&request)?;
        let stream = Stream {
            peer: Arc::new(extension(&request)?),
            named: deadline.named,
            stopping: self.network.stopping(),
            service: self.clone(),
            under_way: JoinSet::new(),
            ids: HashMap::new(),
            answers,
            place: None,
            stalled_at: Instant::now() + self.request_max,
        };
        tokio::spawn(stream.run(request.into_inner()));
        let escort = Escort::default();
        let mut response = Response::new(Answers {
            taken,
            escort: escort.clone(),
        });
        response.extensions_mut().insert(escort);
        Ok(response)
    }
}

/// The answers of a stream, for the encoder.
pub struct Answers {
    taken: mpsc::Receiver<Answer>,
    escort: Escort,
}

impl tokio_stream::Stream for Answers {
    type Item = Result<v1::UnwrapStreamResponse, Status>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.taken.poll_recv(cx).map(|answer| {
            let (message, passage) = answer?;
            if let Some(passage) = passage {
                self.escort.join(passage);
            }
            Some(message)
        })
    }
}

/// One `UnwrapStream`. Dropping it drops what is under way; the flow records that by itself.
struct Stream {
    service: Unwrap,
    peer: Arc<Peer>,
    /// The deadline the caller named for the whole stream.
    named: Option<Instant>,
    stopping: watch::Receiver<bool>,
    /// Each sends its own answer.
    under_way: JoinSet<()>,
    /// The request ids of what is under way.
    ids: HashMap<Id, String>,
    answers: mpsc::Sender<Answer>,
    /// Where the answer to the next request will wait. A request is read when there is one, so a
    /// caller that takes no answers is read no further.
    place: Option<OwnedPermit<Answer>>,
    /// When a place must have come free: by then all answers are there, and had time to be taken.
    stalled_at: Instant,
}

impl Stream {
    async fn run(mut self, mut requests: Streaming<v1::UnwrapStreamRequest>) {
        let mut reading = true;
        let mut end = None;
        while reading || !self.under_way.is_empty() {
            let has_place = self.place.is_some();
            tokio::select! {
                () = self.answers.closed() => return,
                () = sleep_until(self.named) => {
                    end = Some(Refused::deadline_exceeded().into());
                    break;
                }
                Some(done) = self.under_way.join_next_with_id() => self.ended(done).await,
                place = self.answers.clone().reserve_owned(), if reading && !has_place => {
                    match place {
                        Ok(place) => self.place = Some(place),
                        Err(_) => return,
                    }
                }
                () = sleep_until(Some(self.stalled_at)), if reading && !has_place => {
                    return self.hang_up();
                }
                request = requests.message(), if reading && has_place => match request {
                    Ok(Some(request)) => self.begin(request),
                    Ok(None) => reading = false,
                    Err(status) => {
                        reading = false;
                        end = Some(status);
                    }
                },
                () = stopped(&mut self.stopping), if reading => {
                    reading = false;
                    end = Some(Refused::stopping().into());
                }
            }
        }
        if let Some(status) = end {
            self.send((Err(status), None)).await;
        }
    }

    fn begin(&mut self, request: v1::UnwrapStreamRequest) {
        // A request is read only where there is a place.
        let Some(place) = self.place.take() else {
            return;
        };
        let now = Instant::now();
        let latest = now + self.service.request_max;
        self.stalled_at = latest + self.service.request_max;
        let deadline = self.named.map_or(latest, |named| named.min(latest));
        let request_id = request
            .request
            .as_ref()
            .map_or_else(String::new, |r| r.request_id.clone());
        let id = request_id.clone();
        let (service, peer) = (self.service.clone(), Arc::clone(&self.peer));
        let work = async move {
            let (outcome, passage) = service.one_of_many(peer, request, deadline).await;
            let message = v1::UnwrapStreamResponse {
                request_id,
                outcome: Some(outcome),
            };
            place.send((Ok(message), passage));
        };
        self.ids.insert(self.under_way.spawn(work).id(), id);
    }

    /// What is under way has answered, unless it panicked.
    async fn ended(&mut self, done: Result<(Id, ()), JoinError>) {
        let panic = match done {
            Ok((id, ())) => {
                self.ids.remove(&id);
                return;
            }
            Err(panic) => panic,
        };
        error!(%panic, "a request of a stream panicked");
        let answer = v1::UnwrapStreamResponse {
            request_id: self.ids.remove(&panic.id()).unwrap_or_default(),
            outcome: Some(Outcome::Refusal(Refused::internal().into())),
        };
        self.send((Ok(answer), None)).await;
    }

    async fn send(&mut self, answer: Answer) {
        match self.place.take() {
            Some(place) => drop(place.send(answer)),
            // The caller may have gone; then nobody wants it.
            None => self.answers.send(answer).await.unwrap_or_default(),
        }
    }

    /// Nothing can be said to a caller that takes no answers.
    fn hang_up(self) {
        let who = self.peer.identity.to_string();
        self.service.network.refuse(&who, "ANSWERS_NOT_TAKEN");
        self.peer.hang_up.now();
    }
}

async fn sleep_until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline.into()).await,
        None => std::future::pending().await,
    }
}

/// Returns when the node stops. A node that is gone has stopped.
async fn stopped(stopping: &mut watch::Receiver<bool>) {
    match stopping.wait_for(|stopping| *stopping).await {
        Ok(_) | Err(_) => (),
    }
}
