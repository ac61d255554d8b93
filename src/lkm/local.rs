//! The door for this host: is the process alive, would it answer, and what did it count. Nothing secret
//! is said here, and nothing can be done.

use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};

use super::front_end::FrontEnd;

const JSON: &str = "application/json";

/// Answers one local request.
pub(super) fn answer(front_end: &FrontEnd, request: &Request<Incoming>) -> Response<Full<Bytes>> {
    if ![Method::GET, Method::HEAD].contains(request.method()) {
        return with(
            StatusCode::METHOD_NOT_ALLOWED,
            JSON,
            r#"{"message":"GET only"}"#.to_owned(),
        );
    }
    match request.uri().path() {
        "/health" => with(StatusCode::OK, JSON, r#"{"live":true}"#.to_owned()),
        "/ready" => {
            let readiness = front_end.readiness();
            let status = match readiness.ready {
                true => StatusCode::OK,
                false => StatusCode::SERVICE_UNAVAILABLE,
            };
            with(
                status,
                JSON,
                serde_json::to_string(&readiness).unwrap_or_default(),
            )
        }
        "/metrics" => {
            let under_way = front_end.kekd.under_way(&front_end.config.limits);
            let nonces: usize = front_end
                .credentials
                .load()
                .all()
                .map(|c| c.nonces.len())
                .sum();
            let number = |count: usize| u64::try_from(count).unwrap_or(u64::MAX);
            let gauges = [
                ("ready", u64::from(front_end.readiness().ready)),
                ("files_faulty", u64::from(front_end.has_files_fault())),
                ("unwraps_under_way", number(under_way)),
                ("nonces", number(nonces)),
            ];
            let text = front_end.metrics.text(&gauges);
            with(StatusCode::OK, "text/plain; version=0.0.4", text)
        }
        _ => with(
            StatusCode::NOT_FOUND,
            JSON,
            r#"{"message":"there are /health, /ready and /metrics"}"#.to_owned(),
        ),
    }
}

fn with(status: StatusCode, media: &'static str, text: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(text)));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(media));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
