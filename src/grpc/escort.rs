//! What holds the passages of DEKs until their bytes were handed to HTTP/2. A handler's answer is
//! not yet on its way: it waits until it is encoded, and then until the caller has room for it.
//! Whoever stops a KEK waits for the passages, so they must not end too early.
//!
//! The invariant: a passage ends when the frame that holds its answer was given to the transport and
//! the transport has asked for the next one, or has let go of the body.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use http::Response;
use http_body::{Body as HttpBody, Frame};
use tonic::Status;
use tonic::body::Body;

use super::status::Refused;
use crate::stops::Passage;

/// The passages of what was given to the encoder and is in no frame yet. An extension of the
/// response, by which the service tells the gate in front of it.
#[derive(Clone, Default)]
pub(super) struct Escort(Arc<Mutex<Vec<Passage>>>);

impl Escort {
    /// Has this passage go with the next frame.
    pub(super) fn join(&self, passage: Passage) {
        self.passages().push(passage);
    }

    /// The answer, with its body held to these passages where the service says so.
    pub(super) fn lead(mut answer: Response<Body>) -> Response<Body> {
        match answer.extensions_mut().remove::<Self>() {
            None => answer,
            Some(escort) => answer.map(|inner| {
                Body::new(Escorted {
                    inner,
                    escort,
                    in_frame: Vec::new(),
                })
            }),
        }
    }

    fn passages(&self) -> MutexGuard<'_, Vec<Passage>> {
        // A push or a take is whole: a panic elsewhere leaves nothing half done.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Escorted {
    inner: Body,
    escort: Escort,
    /// The passages of the frame that the transport has.
    in_frame: Vec<Passage>,
}

impl HttpBody for Escorted {
    type Data = <Body as HttpBody>::Data;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Status>>> {
        self.in_frame.clear();
        // The encoder puts several answers into one frame; all that it took is in this one.
        let frame = match Pin::new(&mut self.inner).poll_frame(cx) {
            Poll::Pending => return Poll::Pending,
            Poll::Ready(frame) => frame,
        };
        let leaving = std::mem::take(&mut *self.escort.passages());
        if leaving.iter().any(Passage::is_revoked) {
            // The record says released; nothing is, and the connection is being cut.
            return Poll::Ready(Some(Err(Refused::internal().into())));
        }
        self.in_frame = leaving;
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }
}
