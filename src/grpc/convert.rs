//! From messages to checked types and back. To decode is to check: what comes out of here has the
//! shape its type promises. Whether it is allowed is not asked here.

use crate::audit::Usage;
use crate::clock::UnixMs;
use crate::flows::unwrap::{Malformed, Recipient, Release, UnwrapCommand, Unwrapped};
use crate::keyring::{Origin, Version, VersionState};
use crate::proto::{self, v1};
use crate::stops::Passage;
use crate::types::{EndUser, KekName, Padding, RequestId, SPKI_LEN_MAX, TypeError, WrappedDek};

/// How much of a keypair id that is none goes into the audit record, in bytes.
const KEYPAIR_ID_RECORDED_MAX: usize = 64;

/// One DEK to unwrap. `made` is the id of a request that brings none; without it, one is required.
///
/// # Errors
/// Where the request is not well formed: what of it can be recorded, and the rule it broke.
pub fn command(
    request: v1::UnwrapRequest,
    made: Option<RequestId>,
) -> Result<UnwrapCommand, Malformed> {
    let request_id = match made {
        Some(made) if request.request_id.is_empty() => Ok(made),
        Some(_) | None => request.request_id.parse(),
    };
    let malformed = |request_id, keypair_id: &str, error| Malformed {
        request_id,
        keypair_id: cut(keypair_id, KEYPAIR_ID_RECORDED_MAX).to_owned(),
        error,
    };
    match request_id {
        Err(error) => Err(malformed(None, &request.keypair_id, error)),
        Ok(id) => {
            let keypair_id = request.keypair_id.clone();
            checked(request, id.clone()).map_err(|error| malformed(Some(id), &keypair_id, error))
        }
    }
}

fn checked(request: v1::UnwrapRequest, request_id: RequestId) -> Result<UnwrapCommand, TypeError> {
    let recipient = recipient(request.recipient_spki, request.recipient_padding)?;
    Ok(UnwrapCommand {
        keypair_id: request.keypair_id.parse()?,
        wrapped_dek: WrappedDek::try_from(request.wrapped_dek)?,
        padding: padding(request.padding)?.ok_or(TypeError {
            what: "the padding",
            rule: "stated; it is never guessed",
        })?,
        recipient,
        request_id,
        end_user: request.end_user.parse::<EndUser>()?,
    })
}

fn recipient(spki: Vec<u8>, asked: i32) -> Result<Option<Recipient>, TypeError> {
    let asked = padding(asked)?;
    if spki.is_empty() {
        return match asked {
            None => Ok(None),
            Some(_) => Err(TypeError {
                what: "the recipient's padding",
                rule: "left out where no recipient is named",
            }),
        };
    }
    if spki.len() > SPKI_LEN_MAX {
        return Err(TypeError {
            what: "the recipient's key",
            rule: "at most 1024 bytes",
        });
    }
    match asked {
        Some(padding @ (Padding::OaepSha1 | Padding::OaepSha256)) => {
            Ok(Some(Recipient { spki, padding }))
        }
        Some(Padding::Pkcs1V15) | None => Err(TypeError {
            what: "the recipient's padding",
            rule: "one of oaep-sha1, oaep-sha256",
        }),
    }
}

/// `None` for "not stated".
fn padding(number: i32) -> Result<Option<Padding>, TypeError> {
    match proto::padding(number) {
        None if number != i32::from(v1::Padding::Unspecified) => Err(TypeError {
            what: "a padding",
            rule: "one that kekd knows",
        }),
        stated => Ok(stated),
    }
}

/// At most `len` bytes of a text, whole characters only.
fn cut(text: &str, len: usize) -> &str {
    let end = (0..=len.min(text.len()))
        .rev()
        .find(|end| text.is_char_boundary(*end));
    end.and_then(|end| text.get(..end)).unwrap_or_default()
}

/// The answer to an unwrap, and the passage it leaves by. The DEK is wiped here, and in the message when that is dropped; what
/// the transport copies cannot be wiped, which is why there is release to a recipient.
pub fn unwrapped(unwrapped: Unwrapped) -> (v1::UnwrapResponse, Passage) {
    let release = match unwrapped.release {
        Release::Clear(dek) => v1::unwrap_response::Release::Dek(dek.as_bytes().to_vec()),
        Release::Recipient(dek) => v1::unwrap_response::Release::RewrappedDek(dek.into_bytes()),
    };
    let response = v1::UnwrapResponse {
        request_id: unwrapped.request_id.as_str().to_owned(),
        release: Some(release),
        record_index: unwrapped.record_index,
    };
    (response, unwrapped.passage)
}

/// One KEK with its versions, each with its use where that may be told.
pub fn kek<'a>(
    name: &KekName,
    versions: impl IntoIterator<Item = (&'a Version, Option<Usage>, &'a [(String, Usage)])>,
) -> v1::Kek {
    let versions = versions.into_iter();
    v1::Kek {
        name: name.as_str().to_owned(),
        versions: versions
            .map(|(of, usage, by_caller)| version(of, usage, by_caller))
            .collect(),
    }
}

fn version(version: &Version, usage: Option<Usage>, by_caller: &[(String, Usage)]) -> v1::Version {
    let ms = |at: Option<UnixMs>| at.map_or(0, |at| at.0);
    v1::Version {
        number: version.number,
        keypair_id: version.keypair_id.to_string(),
        state: state(version.state()).into(),
        origin: origin(version.origin).into(),
        modulus_bits: version.modulus_bits,
        paddings: version
            .paddings()
            .map(|padding| v1::Padding::from(padding).into())
            .collect(),
        release_forms: version
            .release_forms
            .iter()
            .map(|form| v1::ReleaseForm::from(*form).into())
            .collect(),
        profile: version.profile_name.clone(),
        spki_sha256: version.spki_sha256.as_bytes().to_vec(),
        created_at_ms: version.created_at.0,
        certificate_expires_at_ms: version.certificate_expires_at.0,
        usage: usage.map(|usage| v1::VersionUsage {
            unwraps: usage.released,
            first_use_ms: ms(usage.first),
            last_use_ms: ms(usage.last),
            by_caller: by_caller
                .iter()
                .map(|(caller, usage)| v1::CallerUsage {
                    caller: caller.clone(),
                    unwraps: usage.released,
                    first_use_ms: ms(usage.first),
                    last_use_ms: ms(usage.last),
                })
                .collect(),
        }),
    }
}

pub(super) const fn state(state: VersionState) -> v1::VersionState {
    match state {
        VersionState::PreActive => v1::VersionState::PreActive,
        VersionState::Active => v1::VersionState::Active,
        VersionState::Deactivated => v1::VersionState::Deactivated,
        VersionState::Suspended => v1::VersionState::Suspended,
        VersionState::Compromised => v1::VersionState::Compromised,
        VersionState::Destroyed => v1::VersionState::Destroyed,
    }
}

const fn origin(origin: Origin) -> v1::KeyOrigin {
    match origin {
        Origin::Generated => v1::KeyOrigin::Generated,
        Origin::Imported => v1::KeyOrigin::Imported,
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test that cannot unwrap has failed")]
mod tests {
    use super::*;

    fn good() -> v1::UnwrapRequest {
        v1::UnwrapRequest {
            keypair_id: "6f9619ff-8b86-4011-b42d-00cf4fc964ff".to_owned(),
            wrapped_dek: vec![7; 384],
            padding: v1::Padding::OaepSha1.into(),
            recipient_spki: vec![],
            recipient_padding: 0,
            request_id: "r-1".to_owned(),
            end_user: "Zoë".to_owned(),
        }
    }

    fn refusal(change: impl FnOnce(&mut v1::UnwrapRequest)) -> String {
        let mut request = good();
        change(&mut request);
        command(request, None).unwrap_err().error.to_string()
    }

    #[test]
    fn a_good_request_becomes_a_command() {
        let command = command(good(), None).unwrap();
        assert_eq!(command.request_id.as_str(), "r-1");
        assert_eq!(command.padding, Padding::OaepSha1);
        assert_eq!(command.end_user.as_str(), "Zoë");
        assert!(command.recipient.is_none());
    }

    #[test]
    fn each_rule_has_its_text() {
        let id = "a request id must be 1 to 128 printable ASCII characters";
        let dek = "a wrapped DEK must be 1 to 512 bytes";
        let to = "the recipient's padding must be one of oaep-sha1, oaep-sha256";
        assert_eq!(refusal(|r| r.request_id = String::new()), id);
        assert_eq!(refusal(|r| r.request_id = "a b".to_owned()), id);
        assert_eq!(
            refusal(|r| r.keypair_id = "latest".to_owned()),
            "a keypair id must be a UUID in hyphenated form (RFC 9562)"
        );
        assert_eq!(refusal(|r| r.wrapped_dek = vec![]), dek);
        assert_eq!(refusal(|r| r.wrapped_dek = vec![0; 513]), dek);
        assert_eq!(
            refusal(|r| r.padding = 0),
            "the padding must be stated; it is never guessed"
        );
        assert_eq!(
            refusal(|r| r.padding = 99),
            "a padding must be one that kekd knows"
        );
        assert_eq!(
            refusal(|r| r.end_user = "a\nb".to_owned()),
            "an end user must be at most 256 bytes without control characters"
        );
        assert_eq!(refusal(|r| r.recipient_spki = vec![1]), to);
        assert_eq!(
            refusal(|r| {
                r.recipient_spki = vec![1];
                r.recipient_padding = v1::Padding::Pkcs1V15.into();
            }),
            to
        );
        assert_eq!(
            refusal(|r| r.recipient_padding = v1::Padding::OaepSha1.into()),
            "the recipient's padding must be left out where no recipient is named"
        );
        assert_eq!(
            refusal(|r| {
                r.recipient_spki = vec![1; 1025];
                r.recipient_padding = v1::Padding::OaepSha1.into();
            }),
            "the recipient's key must be at most 1024 bytes"
        );
    }

    #[test]
    fn what_can_be_recorded_of_a_bad_request_is_kept() {
        let request = v1::UnwrapRequest {
            keypair_id: "ö".repeat(40),
            ..good()
        };
        let malformed = command(request, None).unwrap_err();
        assert_eq!(malformed.request_id.unwrap().as_str(), "r-1");
        assert_eq!(malformed.keypair_id, "ö".repeat(32));
        assert_eq!(cut("aö", 2), "a");
        assert_eq!(cut("", 2), "");
    }

    #[test]
    fn an_id_is_made_only_where_none_came() {
        let made = || Some("made".parse().unwrap());
        let none = v1::UnwrapRequest {
            request_id: String::new(),
            ..good()
        };
        assert_eq!(command(none, made()).unwrap().request_id.as_str(), "made");
        assert_eq!(command(good(), made()).unwrap().request_id.as_str(), "r-1");
        let bad = v1::UnwrapRequest {
            request_id: "ä".to_owned(),
            ..good()
        };
        assert!(command(bad, made()).unwrap_err().request_id.is_none());
    }
}
