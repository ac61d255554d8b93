//! The gate in front of every service: the peer's certificate still stands, the identity is a
//! caller, the call has a line in `rights`, and the caller's role reaches it. What is refused here
//! never reaches a handler.
//!
//! Unwrap calls are not judged here but for the certificate: the flow judges them, because each of
//! their refusals must be in the audit log before its answer leaves.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use http::{Request, Response};
use tonic::Status;
use tonic::body::Body;
use tower::{Layer, Service};
use tracing::{error, warn};

use super::escort::Escort;
use super::judged::Judged;
use super::network::Network;
use super::peer::Peer;
use super::rights;
use super::status::Refused;
use crate::access::{AccessError, Action, Identity};

/// Whether an identity may do this, as the ledger has it now.
pub type Authorise = Arc<dyn Fn(&Identity, Action) -> Result<(), AccessError> + Send + Sync>;

/// Puts a [`Gate`] in front of a service.
#[derive(Clone)]
pub struct GateLayer {
    network: Arc<Network>,
    authorise: Authorise,
}

impl GateLayer {
    /// A gate that asks `authorise` at every request.
    pub const fn new(network: Arc<Network>, authorise: Authorise) -> Self {
        Self { network, authorise }
    }

    fn admit(&self, peer: Option<&Peer>, path: &str) -> Result<(), Refused> {
        let Some(peer) = peer else {
            error!(path, "a request came without a peer; nobody is let in");
            return Err(Refused::internal());
        };
        self.network
            .check_standing(peer)
            .map_err(|error| Refused::from(&error))?;
        // Without a right that the call needs, the least one stands in: a stranger learns that it
        // is a stranger, not which calls there are.
        let action = rights::needed(path);
        if action != Some(Action::Unwrap) {
            (self.authorise)(&peer.identity, action.unwrap_or(Action::ReadStatus))
                .map_err(|error| self.refuse(peer, path, &error))?;
        }
        if action.is_some() {
            Ok(())
        } else {
            Err(Refused::call_unknown())
        }
    }

    fn refuse(&self, peer: &Peer, path: &str, error: &AccessError) -> Refused {
        let refused = Refused::from(error);
        match error {
            AccessError::CallerUnknown(identity) => {
                self.network.refuse(&identity.to_string(), refused.reason());
            }
            AccessError::RoleNotAllowed(_)
            | AccessError::NotGranted(_)
            | AccessError::NamedTwice(_)
            | AccessError::ChangeRefused(_) => warn!(%peer, path, %error, "refused"),
        }
        refused
    }
}

impl<S> Layer<S> for GateLayer {
    type Service = Gate<S>;

    fn layer(&self, inner: S) -> Gate<S> {
        Gate {
            inner,
            layer: self.clone(),
        }
    }
}

/// See the head of this file.
#[derive(Clone)]
pub struct Gate<S> {
    inner: S,
    layer: GateLayer,
}

impl<S, B> Service<Request<B>> for Gate<S>
where
    S: Service<Request<B>, Response = Response<Body>>,
    S::Future: Send + 'static,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, S::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let peer = request.extensions().get::<Peer>().cloned();
        let path = request.uri().path();
        let peer = match self.layer.admit(peer.as_ref(), path) {
            Ok(()) => peer.filter(|_| rights::needed(path) != Some(Action::Unwrap)),
            Err(refused) => return Box::pin(async { Ok(Status::from(refused).into_http()) }),
        };
        let (answer, network) = (self.inner.call(request), Arc::clone(&self.layer.network));
        Box::pin(async move {
            let answer = Escort::lead(answer.await?);
            Ok(match peer {
                Some(peer) => answer.map(|body| Body::new(Judged::new(body, peer, network))),
                None => answer,
            })
        })
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test that cannot unwrap has failed")]
mod tests {
    use std::collections::BTreeSet;

    use super::super::hang_up::HangUp;
    use super::*;
    use crate::access::{Clients, Role};
    use crate::clock::Clock;

    const CLIENT: &str = "spiffe://t/client";
    const OPERATOR: &str = "spiffe://t/operator";
    const OFFICER: &str = "spiffe://t/officer";

    fn gate() -> GateLayer {
        let mut clients = Clients::default();
        for (identity, role) in [
            (CLIENT, Role::UnwrapClient),
            (OPERATOR, Role::Operator),
            (OFFICER, Role::Officer),
        ] {
            clients
                .add(identity.parse().unwrap(), role, BTreeSet::new())
                .unwrap();
        }
        let authorise =
            move |identity: &Identity, action| clients.caller(identity)?.require(action);
        let network = Network::new(Clock::System, Box::new(|_, _| ()));
        GateLayer::new(Arc::new(network), Arc::new(authorise))
    }

    fn verdict(gate: &GateLayer, identity: &str, path: &str) -> &'static str {
        let peer = Peer {
            identity: identity.parse().unwrap(),
            address: "192.0.2.1:1".into(),
            certificate: None,
            hang_up: HangUp::default(),
        };
        gate.admit(Some(&peer), path)
            .map_or_else(|refused| refused.reason(), |()| "OK")
    }

    #[test]
    fn nobody_passes_who_is_not_named_for_the_call() {
        let gate = gate();
        let list = "/kekd.v1.KeysService/ListKeks";
        let unwrap = "/kekd.v1.UnwrapService/Unwrap";
        let health = "/grpc.health.v1.Health/Check";
        let none = "/kekd.v1.NoService/NoCall";
        let cases = [
            (CLIENT, list, "OK"),
            (CLIENT, health, "OK"),
            (OPERATOR, list, "OK"),
            (OFFICER, list, "OK"),
            (OFFICER, health, "OK"),
            ("spiffe://t/stranger", list, "CALLER_UNKNOWN"),
            ("spiffe://t/stranger", health, "CALLER_UNKNOWN"),
            ("spiffe://t/stranger", none, "CALLER_UNKNOWN"),
            ("uid:0", list, "CALLER_UNKNOWN"),
            (CLIENT, none, "CALL_UNKNOWN"),
            (OPERATOR, none, "CALL_UNKNOWN"),
            // The flow refuses these, and records it.
            (OPERATOR, unwrap, "OK"),
            ("spiffe://t/stranger", unwrap, "OK"),
        ];
        for (identity, path, expected) in cases {
            assert_eq!(
                verdict(&gate, identity, path),
                expected,
                "{identity} {path}"
            );
        }
        assert_eq!(
            gate.network.counts().1,
            4,
            "each stranger is counted as refused"
        );
        assert!(
            gate.admit(None, list).is_err(),
            "a request without a peer was let in"
        );
    }
}
