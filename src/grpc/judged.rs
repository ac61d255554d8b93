//! A body of answers whose caller's certificate is judged again before each of them. The gate judges
//! a call once, when it begins; a watch of the health or a talk with reflection may then go on for
//! as long as its connection. (Unwrap streams judge each request by themselves.)

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use http::HeaderMap;
use http_body::{Body as HttpBody, Frame};
use tonic::Status;
use tonic::body::Body;

use super::network::Network;
use super::peer::Peer;
use super::status::Refused;

/// See the head of this file.
pub struct Judged {
    inner: Body,
    peer: Peer,
    network: Arc<Network>,
    ended: bool,
}

impl Judged {
    /// The answers in `inner`, to `peer`.
    pub const fn new(inner: Body, peer: Peer, network: Arc<Network>) -> Self {
        Self {
            inner,
            peer,
            network,
            ended: false,
        }
    }

    /// The trailers that end the call, where the caller may have no more.
    fn refusal(&self) -> Option<HeaderMap> {
        let error = self.network.check_standing(&self.peer).err()?;
        let mut trailers = HeaderMap::new();
        match Status::from(Refused::from(&error)).add_header(&mut trailers) {
            // A status of ours always fits; without trailers the caller sees a broken stream.
            Ok(()) | Err(_) => Some(trailers),
        }
    }
}

impl HttpBody for Judged {
    type Data = <Body as HttpBody>::Data;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Status>>> {
        if self.ended {
            return Poll::Ready(None);
        }
        match Pin::new(&mut self.inner).poll_frame(cx) {
            Poll::Ready(Some(Ok(frame))) if frame.is_data() => match self.refusal() {
                None => Poll::Ready(Some(Ok(frame))),
                Some(trailers) => {
                    self.ended = true;
                    Poll::Ready(Some(Ok(Frame::trailers(trailers))))
                }
            },
            other @ (Poll::Ready(_) | Poll::Pending) => other,
        }
    }

    fn is_end_stream(&self) -> bool {
        self.ended || self.inner.is_end_stream()
    }
}
