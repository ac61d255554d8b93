//! The messages of the Local Key Manager protocol: what a decrypt request must be to be one. Bounded
//! before it is parsed, unknown fields are left alone, and what is wrong with a body is for the log
//! only: outward every bad body is one answer.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::HeaderMap;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use serde::{Deserialize, Serialize};

use crate::types::{KeypairId, Padding, WrappedDek};

/// Where the kind of padding is named. The cloud's own sample takes the query; older versions of it
/// took the body.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum DecryptTypePlace {
    /// In the query or in the body; where it is in both, they must agree.
    Either,
    /// In the query only; in the body it is not looked at.
    Query,
    /// In the body only; in the query it is refused.
    Body,
}

/// Which place was met.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DecryptTypeMet {
    /// None: OAEP.
    Absent,
    /// The query.
    Query,
    /// The body.
    Body,
    /// Both.
    Both,
}

impl DecryptTypeMet {
    /// The word in logs and metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Absent => "absent",
            Self::Query => "query",
            Self::Body => "body",
            Self::Both => "both",
        }
    }
}

/// What is wrong with a body. For the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadBody {
    /// Not JSON with these fields.
    #[error("the body is not a JSON object with the texts keypairId and body")]
    NotJson,
    /// Not a UUID.
    #[error("keypairId is not a UUID")]
    KeypairId,
    /// Not base64, or empty, or longer than any wrapped DEK.
    #[error("body is not base64 of 1 to 512 bytes")]
    Wrapped,
    /// Not a kind of padding, or two different ones, or in the wrong place.
    #[error("decryptType is not pkcs1, or is where the settings do not allow it")]
    DecryptType,
    /// The query says something else.
    #[error("the query has other parameters than decryptType")]
    Query,
}

/// A decrypt request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DecryptRequest {
    /// The key pair that wrapped the DEK.
    pub keypair_id: KeypairId,
    /// The wrapped DEK.
    pub wrapped_dek: WrappedDek,
    /// How it was wrapped.
    pub padding: Padding,
    /// Where that was said.
    pub met: DecryptTypeMet,
}

#[derive(Deserialize)]
struct Fields<'a> {
    #[serde(rename = "keypairId", borrow)]
    keypair_id: std::borrow::Cow<'a, str>,
    #[serde(borrow)]
    body: std::borrow::Cow<'a, str>,
    #[serde(rename = "decryptType", default)]
    decrypt_type: Option<String>,
}

impl DecryptRequest {
    /// Reads the query and the body.
    ///
    /// # Errors
    /// Where it is none.
    pub fn parse(
        query: Option<&str>,
        body: &[u8],
        place: DecryptTypePlace,
    ) -> Result<Self, BadBody> {
        let in_query = in_query(query)?;
        let fields: Fields<'_> = serde_json::from_slice(body).map_err(|_| BadBody::NotJson)?;
        let in_body = match place {
            DecryptTypePlace::Query => None,
            DecryptTypePlace::Either | DecryptTypePlace::Body => fields.decrypt_type.as_deref(),
        };
        let (named, met) = match (in_query, in_body) {
            (Some(_), _) if place == DecryptTypePlace::Body => return Err(BadBody::DecryptType),
            (None, None) => (None, DecryptTypeMet::Absent),
            (Some(named), None) => (Some(named), DecryptTypeMet::Query),
            (None, Some(named)) => (Some(named), DecryptTypeMet::Body),
            (Some(one), Some(two)) if one == two => (Some(one), DecryptTypeMet::Both),
            (Some(_), Some(_)) => return Err(BadBody::DecryptType),
        };
        let padding = match named {
            None => Padding::OaepSha1,
            Some("pkcs1") => Padding::Pkcs1V15,
            Some(_) => return Err(BadBody::DecryptType),
        };
        let keypair_id = fields.keypair_id.parse().map_err(|_| BadBody::KeypairId)?;
        let wrapped = STANDARD
            .decode(&*fields.body)
            .map_err(|_| BadBody::Wrapped)?;
        Ok(Self {
            keypair_id,
            wrapped_dek: wrapped.try_into().map_err(|_| BadBody::Wrapped)?,
            padding,
            met,
        })
    }
}

/// The kind of padding in a query that says nothing else.
fn in_query(query: Option<&str>) -> Result<Option<&str>, BadBody> {
    match query {
        None | Some("") => Ok(None),
        Some(query) => match query.strip_prefix("decryptType=") {
            Some(named) if !named.contains('&') => Ok(Some(named)),
            Some(_) => Err(BadBody::DecryptType),
            None => Err(BadBody::Query),
        },
    }
}

/// A body without a type is taken for JSON; one that is encoded is not.
pub(super) fn is_json(headers: &HeaderMap) -> bool {
    let mut sent = headers.get_all(CONTENT_TYPE).iter();
    let one = match (sent.next(), sent.next()) {
        (None, _) => true,
        (Some(value), None) => value.to_str().is_ok_and(|text| {
            let media = text.split(';').next().unwrap_or_default().trim();
            media.eq_ignore_ascii_case("application/json")
        }),
        (Some(_), Some(_)) => false,
    };
    one && !headers.contains_key(CONTENT_ENCODING)
}

/// The one value of a header as UTF-8; an error where it has two or is none.
pub(super) fn text<'a>(headers: &'a HeaderMap, name: &str) -> Result<Option<&'a str>, String> {
    let mut sent = headers.get_all(name).iter();
    match (sent.next(), sent.next()) {
        (None, _) => Ok(None),
        (Some(value), None) => std::str::from_utf8(value.as_bytes())
            .map(Some)
            .map_err(|_| format!("the header {name} is not UTF-8")),
        (Some(_), Some(_)) => Err(format!("the header {name} is there twice")),
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test that cannot unwrap has failed")]
mod tests {
    use super::*;

    const ID: &str = "6f9619ff-8b86-4011-b42d-00cf4fc964ff";

    fn parse(query: Option<&str>, more: &str) -> Result<DecryptRequest, BadBody> {
        let body = format!(
            r#"{{"keypairId":"{ID}","body":"{}"{more}}}"#,
            STANDARD.encode([7; 384])
        );
        DecryptRequest::parse(query, body.as_bytes(), DecryptTypePlace::Either)
    }

    #[test]
    fn the_protocols_message_is_read() {
        let request = parse(None, "").unwrap();
        assert_eq!(request.keypair_id.to_string(), ID);
        assert_eq!(request.wrapped_dek.as_bytes(), [7; 384]);
        assert_eq!(request.padding, Padding::OaepSha1);
        let pkcs1 = parse(Some("decryptType=pkcs1"), "").unwrap();
        assert_eq!(
            (pkcs1.padding, pkcs1.met),
            (Padding::Pkcs1V15, DecryptTypeMet::Query)
        );
        let pkcs1 = parse(None, r#","decryptType":"pkcs1","more":[1]"#).unwrap();
        assert_eq!(
            (pkcs1.padding, pkcs1.met),
            (Padding::Pkcs1V15, DecryptTypeMet::Body)
        );
        let null = parse(None, r#","decryptType":null"#).unwrap();
        assert_eq!(null.padding, Padding::OaepSha1);
    }

    #[test]
    fn a_setting_narrows_where_the_padding_is_named() {
        let body = format!(r#"{{"keypairId":"{ID}","body":"AA==","decryptType":"pkcs1"}}"#);
        let parse = |query, place| {
            DecryptRequest::parse(query, body.as_bytes(), place).map(|request| request.padding)
        };
        assert_eq!(parse(None, DecryptTypePlace::Query), Ok(Padding::OaepSha1));
        assert_eq!(parse(None, DecryptTypePlace::Body), Ok(Padding::Pkcs1V15));
        let query = Some("decryptType=pkcs1");
        assert_eq!(
            parse(query, DecryptTypePlace::Body),
            Err(BadBody::DecryptType)
        );
        assert_eq!(
            parse(query, DecryptTypePlace::Either),
            Ok(Padding::Pkcs1V15)
        );
    }

    #[test]
    fn what_is_no_request_is_named_for_the_log() {
        let raw =
            |body: &str| DecryptRequest::parse(None, body.as_bytes(), DecryptTypePlace::Either);
        for body in [
            "",
            "{}",
            "[]",
            "null",
            "{\"keypairId\":1,\"body\":\"\"}",
            "{",
            "\u{0}",
        ] {
            assert_eq!(raw(body), Err(BadBody::NotJson), "{body}");
        }
        let twice = format!(r#"{{"keypairId":"{ID}","keypairId":"{ID}","body":"AA=="}}"#);
        assert_eq!(raw(&twice), Err(BadBody::NotJson));
        assert_eq!(
            raw(r#"{"keypairId":"x","body":"AA=="}"#),
            Err(BadBody::KeypairId)
        );
        for wrapped in ["", "A", "AA", "A A=", "____", &"A".repeat(700)] {
            let body = format!(r#"{{"keypairId":"{ID}","body":"{wrapped}"}}"#);
            assert_eq!(raw(&body), Err(BadBody::Wrapped), "{wrapped}");
        }
        for query in ["decryptType=", "decryptType=oaep", "decryptType=pkcs1&a=b"] {
            assert_eq!(parse(Some(query), ""), Err(BadBody::DecryptType), "{query}");
        }
        assert_eq!(parse(Some("a=b"), ""), Err(BadBody::Query));
        let differ = r#","decryptType":"oaep""#;
        assert_eq!(
            parse(Some("decryptType=pkcs1"), differ),
            Err(BadBody::DecryptType)
        );
    }
}
