//! How long a call may take: the caller's `grpc-timeout` and the node's own limit, whichever is
//! shorter. tonic answers a timeout of its own with CANCELLED, so this layer is a little faster and
//! answers DEADLINE_EXCEEDED. Handlers are told a moment that is a little earlier still, so that a
//! flow can say itself what happened.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use http::{HeaderMap, Request, Response};
use tonic::Status;
use tonic::body::Body;
use tower::{Layer, Service};

use super::status::Refused;

/// Until when a call may take. Every request carries it as an extension.
#[derive(Debug, Clone, Copy)]
pub struct Deadline {
    /// The end of a call with one answer.
    pub call: Instant,
    /// The end that the caller itself named, if it did: the end of a stream.
    pub named: Option<Instant>,
}

/// How long a call may take that has the HSM make keys: many times what a slow one needs.
const CEREMONY_MAX: Duration = Duration::from_secs(120);
/// The calls that may take that long.
const CEREMONIES: [&str; 2] = [
    "/kekd.v1.QuorumService/Execute",
    "/kekd.v1.QuorumService/DeliverImport",
];

/// Puts a [`Timed`] in front of a service.
#[derive(Debug, Clone, Copy)]
pub struct DeadlineLayer {
    /// The longest a call may take.
    pub call_max: Duration,
}

impl<S> Layer<S> for DeadlineLayer {
    type Service = Timed<S>;

    fn layer(&self, inner: S) -> Timed<S> {
        Timed {
            inner,
            call_max: self.call_max,
        }
    }
}

/// See the head of this file. It ends the wait for the head of an answer: a stream of answers has
/// its head at once and goes on.
#[derive(Debug, Clone)]
pub struct Timed<S> {
    inner: S,
    call_max: Duration,
}

impl<S, B> Service<Request<B>> for Timed<S>
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

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        let now = Instant::now();
        let named = named(request.headers());
        let call_max = match CEREMONIES.contains(&request.uri().path()) {
            true => CEREMONY_MAX,
            false => self.call_max,
        };
        let call = named.map_or(call_max, |named| named.min(call_max));
        let (told, cut) = (call - call / 20, call - call / 40);
        request.extensions_mut().insert(Deadline {
            call: now + told,
            named: named.map(|named| now + (named - named / 20)),
        });
        let answer = self.inner.call(request);
        Box::pin(async move {
            tokio::time::timeout(cut, answer)
                .await
                .unwrap_or_else(|_| Ok(Status::from(Refused::deadline_exceeded()).into_http()))
        })
    }
}

/// `grpc-timeout`: at most eight digits and a unit (gRPC over HTTP/2, "Timeout"). What is not that
/// names no deadline, as in tonic.
fn named(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get("grpc-timeout")?.to_str().ok()?;
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if digits.is_empty() || digits.len() > 8 || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let count = digits.parse().ok()?;
    match unit {
        "H" => Some(Duration::from_secs(count * 3600)),
        "M" => Some(Duration::from_secs(count * 60)),
        "S" => Some(Duration::from_secs(count)),
        "m" => Some(Duration::from_millis(count)),
        "u" => Some(Duration::from_micros(count)),
        "n" => Some(Duration::from_nanos(count)),
        _ => None,
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test that cannot unwrap has failed")]
mod tests {
    use std::convert::Infallible;

    use tonic::Code;
    use tower::{ServiceExt as _, service_fn};

    use super::*;

    #[test]
    fn a_timeout_is_digits_and_a_unit() {
        let cases = [
            ("10S", Some(Duration::from_secs(10))),
            ("250m", Some(Duration::from_millis(250))),
            ("99999999H", Some(Duration::from_secs(99_999_999 * 3600))),
            ("1u", Some(Duration::from_micros(1))),
            ("999999999S", None),
            ("S", None),
            ("-1S", None),
            ("1s", None),
            ("1", None),
            ("", None),
        ];
        for (text, expected) in cases {
            let headers = HeaderMap::from_iter([(
                http::HeaderName::from_static("grpc-timeout"),
                text.parse().unwrap(),
            )]);
            assert_eq!(named(&headers), expected, "{text:?}");
        }
        assert_eq!(named(&HeaderMap::new()), None);
    }

    #[tokio::test]
    async fn a_call_that_takes_too_long_is_answered_with_deadline_exceeded() {
        let never = service_fn(|_: Request<()>| std::future::pending::<Result<_, Infallible>>());
        let named = Request::builder()
            .header("grpc-timeout", "40m")
            .body(())
            .unwrap();
        for (call_max_ms, request) in [(60_000, named), (40, Request::new(()))] {
            let timed = DeadlineLayer {
                call_max: Duration::from_millis(call_max_ms),
            }
            .layer(never);
            let answer = timed.oneshot(request).await.unwrap();
            let status = Status::from_header_map(answer.headers()).unwrap();
            assert_eq!(status.code(), Code::DeadlineExceeded);
        }
    }

    #[tokio::test]
    async fn a_handler_is_told_the_shorter_deadline() {
        let tell = service_fn(|request: Request<()>| async move {
            let deadline = *request.extensions().get::<Deadline>().unwrap();
            let now = Instant::now();
            let call = deadline.call.saturating_duration_since(now);
            assert!(call < Duration::from_secs(10) && call > Duration::from_secs(8));
            assert!(deadline.named.unwrap() > now + Duration::from_secs(50));
            Ok::<_, Infallible>(Response::new(Body::empty()))
        });
        let timed = DeadlineLayer {
            call_max: Duration::from_secs(10),
        }
        .layer(tell);
        let request = Request::builder()
            .header("grpc-timeout", "1M")
            .body(())
            .unwrap();
        timed.oneshot(request).await.unwrap();
    }
}
