//! Unwrapping as a client sees it: the call, the release, and the stream of answers. A DEK leaves
//! its message at once for memory that wipes itself; nothing here has a `Debug` that shows one.

use std::sync::Arc;
use std::time::Duration;

use tonic::{Code, Streaming};
use zeroize::Zeroizing;

use super::error::{ClientError, Refusal};
use super::wire::Link;
use crate::proto::v1;
use crate::proto::v1::unwrap_response::Release as Sent;
use crate::proto::v1::unwrap_stream_response::Outcome;
use crate::types::{Dek, EndUser, KeypairId, Padding, RequestId, WrappedDek};

/// One DEK to unwrap.
#[derive(Debug, Clone)]
pub struct UnwrapCall {
    /// The key pair that wrapped it.
    pub keypair_id: KeypairId,
    /// The wrapped DEK, as long as the RSA modulus.
    pub wrapped_dek: WrappedDek,
    /// How it was wrapped.
    pub padding: Padding,
    /// Set: the DEK comes wrapped again under this key, and never in the clear.
    pub recipient: Option<Recipient>,
    /// The caller's id for this request; kekd makes one where there is none. A stream needs it.
    pub request_id: Option<RequestId>,
    /// The end user on whose behalf the caller asks.
    pub end_user: EndUser,
}

/// Under which key a DEK is wrapped again inside the HSM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recipient {
    /// DER `SubjectPublicKeyInfo` (RFC 5280 section 4.1), RSA of 2048 to 4096 bits.
    pub spki: Vec<u8>,
    /// RSAES-OAEP with SHA-1 or with SHA-256.
    pub padding: Padding,
}

/// What kekd released. No `Debug`: it holds a DEK.
pub struct Released {
    /// The id of the request.
    pub request_id: String,
    /// The index of the audit record, which was on disk before this was sent.
    pub record_index: u64,
    /// The DEK in the form asked for.
    pub release: Release,
}

/// The DEK in the form asked for.
pub enum Release {
    /// The DEK itself, 32 bytes.
    Dek(Dek),
    /// The DEK wrapped under the recipient's key, as long as that key's modulus.
    Rewrapped(Vec<u8>),
}

/// One answer of a stream.
pub struct Answer {
    /// The id of the request it answers.
    pub request_id: String,
    /// The release, or the refusal of this one request.
    pub outcome: Result<Released, Refusal>,
}

/// The answers of a stream, in the order kekd gives them.
pub struct Answers {
    messages: Streaming<v1::UnwrapStreamResponse>,
    link: Arc<Link>,
}

impl UnwrapCall {
    pub(super) fn into_message(self) -> v1::UnwrapRequest {
        let recipient = self.recipient.as_ref();
        let recipient_padding = recipient.map_or(v1::Padding::Unspecified, |r| r.padding.into());
        v1::UnwrapRequest {
            keypair_id: self.keypair_id.to_string(),
            wrapped_dek: self.wrapped_dek.as_bytes().to_vec(),
            padding: v1::Padding::from(self.padding).into(),
            recipient_padding: recipient_padding.into(),
            request_id: self
                .request_id
                .map(|id| id.as_str().to_owned())
                .unwrap_or_default(),
            end_user: self.end_user.as_str().to_owned(),
            recipient_spki: self.recipient.map(|r| r.spki).unwrap_or_default(),
        }
    }
}

/// Takes the DEK out of its message.
pub(super) fn released(mut message: v1::UnwrapResponse) -> Result<Released, ClientError> {
    let release = match message.release.as_mut() {
        Some(Sent::Dek(bytes)) => {
            let bytes = Zeroizing::new(std::mem::take(bytes));
            let dek = Dek::try_from(bytes.as_slice())
                .map_err(|_| ClientError::Protocol("a DEK came that is not 32 bytes long"))?;
            Release::Dek(dek)
        }
        Some(Sent::RewrappedDek(bytes)) => Release::Rewrapped(std::mem::take(bytes)),
        None => return Err(ClientError::Protocol("a release came without a DEK")),
    };
    Ok(Released {
        request_id: std::mem::take(&mut message.request_id),
        record_index: message.record_index,
        release,
    })
}

impl Answers {
    pub(super) const fn new(
        messages: Streaming<v1::UnwrapStreamResponse>,
        link: Arc<Link>,
    ) -> Self {
        Self { messages, link }
    }

    /// The next answer; none when kekd has answered everything and closed the stream. An error ends
    /// the stream: what was not answered by then has an unknown outcome.
    pub async fn next(&mut self) -> Option<Result<Answer, ClientError>> {
        match self.messages.message().await {
            Ok(message) => message.map(answer),
            Err(status) => Some(Err(ClientError::from_status(&status, &self.link))),
        }
    }
}

fn answer(message: v1::UnwrapStreamResponse) -> Result<Answer, ClientError> {
    let outcome = match message.outcome {
        Some(Outcome::Response(response)) => Ok(released(response)?),
        Some(Outcome::Refusal(refusal)) => Err(Refusal {
            code: Code::from_i32(refusal.code),
            reason: refusal.reason,
            message: refusal.message,
            retry_delay: match refusal.retry_delay_ms {
                0 => None,
                ms => Some(Duration::from_millis(ms)),
            },
        }),
        None => return Err(ClientError::Protocol("an answer came without an outcome")),
    };
    Ok(Answer {
        request_id: message.request_id,
        outcome,
    })
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test that cannot unwrap has failed")]
mod tests {
    use super::*;

    fn message(release: Option<Sent>) -> v1::UnwrapResponse {
        v1::UnwrapResponse {
            request_id: "r".to_owned(),
            record_index: 7,
            release,
        }
    }

    #[test]
    fn a_dek_is_32_bytes_or_no_dek() {
        let good = released(message(Some(Sent::Dek(vec![5; 32]))))
            .ok()
            .unwrap();
        assert!(matches!(good.release, Release::Dek(dek) if dek.as_bytes() == &[5; 32]));
        assert_eq!(good.record_index, 7);
        for bad in [None, Some(Sent::Dek(vec![5; 31])), Some(Sent::Dek(vec![]))] {
            assert!(matches!(
                released(message(bad)),
                Err(ClientError::Protocol(_))
            ));
        }
    }

    #[test]
    fn a_call_without_recipient_names_no_recipient_padding() {
        let call = UnwrapCall {
            keypair_id: "6f9619ff-8b86-4011-b42d-00cf4fc964ff".parse().unwrap(),
            wrapped_dek: vec![1; 384].try_into().unwrap(),
            padding: Padding::OaepSha256,
            recipient: None,
            request_id: None,
            end_user: EndUser::default(),
        };
        let message = call.clone().into_message();
        assert_eq!(message.recipient_padding(), v1::Padding::Unspecified);
        assert_eq!(message.padding(), v1::Padding::OaepSha256);
        let recipient = Some(Recipient {
            spki: vec![1],
            padding: Padding::OaepSha1,
        });
        let message = UnwrapCall { recipient, ..call }.into_message();
        assert_eq!(message.recipient_padding(), v1::Padding::OaepSha1);
        assert_eq!(message.recipient_spki, [1]);
    }

    #[test]
    fn a_refusal_in_a_stream_reads_like_a_status() {
        let refusal = v1::Refusal {
            code: Code::Unavailable.into(),
            reason: "BUSY".to_owned(),
            message: "full".to_owned(),
            retry_delay_ms: 50,
        };
        let message = v1::UnwrapStreamResponse {
            request_id: "a".to_owned(),
            outcome: Some(Outcome::Refusal(refusal)),
        };
        let refusal = answer(message).ok().unwrap().outcome.err().unwrap();
        assert_eq!(refusal.to_string(), "kekd refused: full (BUSY)");
        assert_eq!(refusal.retry_delay, Some(Duration::from_millis(50)));
        assert_eq!(refusal.next(), crate::types::Next::TryAgain);
    }
}
