//! Every answer there is, in one table. A refusal says its class and nothing else, in one shape, so
//! that nobody learns from it what the log knows; a DEK leaves in memory that wipes itself.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::header::{ALLOW, CACHE_CONTROL, CONNECTION, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderValue, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Bytes;
use zeroize::Zeroizing;

use super::hawk::NotAuthentic;
use crate::types::Dek;

/// What may be asked on the decrypt path.
const METHODS: &str = "POST, OPTIONS";
/// Seconds after which a retry may do, where kekd does not say.
const RETRY_AFTER_S: u64 = 1;

/// An answer. No `Debug`: one of them holds a DEK.
pub enum Answer {
    /// The DEK.
    Dek(Dek),
    /// The path is here, and who asks is known.
    Options,
    /// A body that is no request, a key pair that is not the caller's, a DEK that does not unwrap: one
    /// answer, byte for byte.
    Bad,
    /// Who asks is not known.
    Unknown(Box<NotAuthentic>),
    /// Another path.
    NotFound,
    /// Another method.
    Method,
    /// The body did not come in time.
    Timeout,
    /// The body is too long.
    TooLong,
    /// The body is not JSON by its own word.
    MediaType,
    /// Busy, or kekd or its HSM is away: try again.
    Unavailable {
        /// After so many seconds, where kekd says so.
        retry_after_s: Option<u64>,
    },
}

impl Answer {
    /// The word in logs and metrics.
    pub const fn outcome(&self) -> &'static str {
        match self {
            Self::Dek(_) => "released",
            Self::Options => "options",
            Self::Bad => "bad",
            Self::Unknown(_) => "unauthenticated",
            Self::NotFound => "not-found",
            Self::Method => "method",
            Self::Timeout => "timeout",
            Self::TooLong => "too-long",
            Self::MediaType => "media-type",
            Self::Unavailable { .. } => "unavailable",
        }
    }

    /// The answer as HTTP has it.
    pub fn into_response(self) -> Response<Full<Bytes>> {
        let (status, message) = match &self {
            Self::Dek(dek) => return released(dek),
            Self::Options => (StatusCode::OK, ""),
            Self::Bad => (StatusCode::BAD_REQUEST, "the request cannot be answered"),
            Self::Unknown(_) => (StatusCode::UNAUTHORIZED, "not authenticated"),
            Self::NotFound => (StatusCode::NOT_FOUND, "there is nothing here"),
            Self::Method => (StatusCode::METHOD_NOT_ALLOWED, "POST or OPTIONS only"),
            Self::Timeout => (StatusCode::REQUEST_TIMEOUT, "the request did not end"),
            Self::TooLong => (StatusCode::PAYLOAD_TOO_LARGE, "the request is too long"),
            Self::MediaType => (StatusCode::UNSUPPORTED_MEDIA_TYPE, "application/json only"),
            Self::Unavailable { .. } => (StatusCode::SERVICE_UNAVAILABLE, "try again"),
        };
        let code = status.as_u16();
        let body = match message {
            "" => Bytes::new(),
            message => Bytes::from(format!(r#"{{"message":"{message}","status":{code}}}"#)),
        };
        let mut response = with_status(status, body);
        let headers = response.headers_mut();
        match self {
            Self::Options | Self::Method => {
                headers.insert(ALLOW, HeaderValue::from_static(METHODS));
            }
            Self::Unknown(why) => {
                headers.insert(WWW_AUTHENTICATE, challenge(&why));
            }
            Self::Unavailable { retry_after_s } => {
                let after = retry_after_s.unwrap_or(RETRY_AFTER_S).max(1);
                headers.insert(RETRY_AFTER, HeaderValue::from(after));
            }
            // What is left of such a request is not waited for.
            Self::Timeout | Self::TooLong => {
                headers.insert(CONNECTION, HeaderValue::from_static("close"));
            }
            Self::Dek(_) | Self::Bad | Self::NotFound | Self::MediaType => {}
        }
        response
    }
}

fn released(dek: &Dek) -> Response<Full<Bytes>> {
    // As long as it will be: growing would leave copies behind.
    let mut text = Zeroizing::new(String::with_capacity(64));
    text.push_str("{\"body\":\"");
    STANDARD.encode_string(dek.as_bytes(), &mut text);
    text.push_str("\"}");
    with_status(StatusCode::OK, Bytes::from_owner(Wiped(text)))
}

/// Text that is wiped when the last who reads it is done.
struct Wiped(Zeroizing<String>);

impl AsRef<[u8]> for Wiped {
    fn as_ref(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

fn with_status(status: StatusCode, body: Bytes) -> Response<Full<Bytes>> {
    let has_body = !body.is_empty();
    let mut response = Response::new(Full::new(body));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if has_body {
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    }
    response
}

/// Only a request with a right MAC learns more than the scheme (HAWK API.md, time synchronisation).
fn challenge(why: &NotAuthentic) -> HeaderValue {
    let scheme = HeaderValue::from_static("Hawk");
    match why {
        NotAuthentic::Stale {
            now_s, time_mac, ..
        } => HeaderValue::try_from(format!(
            r#"Hawk ts="{now_s}", tsm="{time_mac}", error="Stale timestamp""#
        ))
        .unwrap_or(scheme),
        NotAuthentic::Missing
        | NotAuthentic::Malformed(_)
        | NotAuthentic::UnknownId
        | NotAuthentic::Mac
        | NotAuthentic::PayloadHash
        | NotAuthentic::Replay
        | NotAuthentic::BeforeStart => scheme,
    }
}
