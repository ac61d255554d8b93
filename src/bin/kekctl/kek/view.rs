//! A KEK as kekctl shows it: the fields of the message with enums as words, digests in hex and
//! times in RFC 3339. The JSON form is an interface: fields are added, never renamed.

use kekd::client::{key_origin_name, padding_name, release_form_name, version_state_name};
use kekd::clock::UnixMs;
use kekd::proto::v1;
use serde::Serialize;

use crate::status::hex;

/// One KEK.
#[derive(Debug, Serialize)]
pub struct KekView {
    pub name: String,
    pub versions: Vec<VersionView>,
}

/// One version of it.
#[derive(Debug, Serialize)]
pub struct VersionView {
    pub number: u32,
    pub keypair_id: String,
    pub state: &'static str,
    pub origin: &'static str,
    pub modulus_bits: u32,
    pub paddings: Vec<&'static str>,
    pub release_forms: Vec<&'static str>,
    pub profile: String,
    pub spki_sha256: String,
    pub created_at: String,
    pub certificate_expires_at: String,
    /// Absent where kekd does not say it to this caller.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub usage: Option<UsageView>,
}

/// What a version was used for, by the audit log.
#[derive(Debug, Serialize)]
pub struct UsageView {
    pub unwraps: u64,
    pub first_use: Option<String>,
    pub last_use: Option<String>,
    /// By each caller; where one KEK is asked for.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub by_caller: Vec<CallerUsageView>,
}

/// What one caller used a version for.
#[derive(Debug, Serialize)]
pub struct CallerUsageView {
    pub caller: String,
    pub unwraps: u64,
    pub first_use: Option<String>,
    pub last_use: Option<String>,
}

impl VersionView {
    /// The state for people; a key that was brought in from outside is shown as such beside it.
    pub fn standing(&self) -> String {
        match self.origin {
            "imported" => format!("{}, imported", self.state),
            _ => self.state.to_owned(),
        }
    }
}

impl From<v1::Kek> for KekView {
    fn from(kek: v1::Kek) -> Self {
        Self {
            name: kek.name,
            versions: kek.versions.into_iter().map(VersionView::from).collect(),
        }
    }
}

impl From<v1::Version> for VersionView {
    fn from(version: v1::Version) -> Self {
        let forms = version.release_forms.iter();
        Self {
            number: version.number,
            keypair_id: version.keypair_id,
            state: version_state_name(version.state),
            origin: key_origin_name(version.origin),
            modulus_bits: version.modulus_bits,
            paddings: version.paddings.iter().copied().map(padding_name).collect(),
            release_forms: forms.copied().map(release_form_name).collect(),
            profile: version.profile,
            spki_sha256: hex(&version.spki_sha256),
            created_at: UnixMs(version.created_at_ms).rfc3339(),
            certificate_expires_at: UnixMs(version.certificate_expires_at_ms).rfc3339(),
            usage: version.usage.map(UsageView::from),
        }
    }
}

impl From<v1::VersionUsage> for UsageView {
    fn from(usage: v1::VersionUsage) -> Self {
        let time = |ms: u64| (ms > 0).then(|| UnixMs(ms).rfc3339());
        Self {
            unwraps: usage.unwraps,
            first_use: time(usage.first_use_ms),
            last_use: time(usage.last_use_ms),
            by_caller: usage
                .by_caller
                .into_iter()
                .map(|by| CallerUsageView {
                    caller: by.caller,
                    unwraps: by.unwraps,
                    first_use: time(by.first_use_ms),
                    last_use: time(by.last_use_ms),
                })
                .collect(),
        }
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test that cannot unwrap has failed")]
pub mod tests {
    use super::*;

    /// A KEK with one version, as kekd sends it.
    pub fn kek() -> v1::Kek {
        v1::Kek {
            name: "recordings".to_owned(),
            versions: vec![v1::Version {
                origin: v1::KeyOrigin::Generated.into(),
                number: 1,
                keypair_id: "6f9619ff-8b86-4011-b42d-00cf4fc964ff".to_owned(),
                state: v1::VersionState::Active.into(),
                modulus_bits: 3072,
                paddings: vec![v1::Padding::OaepSha1.into(), v1::Padding::OaepSha256.into()],
                release_forms: vec![v1::ReleaseForm::Clear.into()],
                profile: "kek-rsa-3072".to_owned(),
                spki_sha256: vec![0xcd; 32],
                created_at_ms: 1_795_284_000_123,
                certificate_expires_at_ms: 1_795_284_000_123,
                usage: Some(v1::VersionUsage {
                    unwraps: 2,
                    first_use_ms: 1_795_284_000_123,
                    last_use_ms: 1_795_284_001_123,
                    by_caller: vec![v1::CallerUsage {
                        caller: "spiffe://t/a".to_owned(),
                        unwraps: 2,
                        first_use_ms: 1_795_284_000_123,
                        last_use_ms: 1_795_284_001_123,
                    }],
                }),
            }],
        }
    }

    #[test]
    fn the_json_shape_is_stable() {
        let expected = concat!(
            r#"{"name":"recordings","versions":[{"number":1,"#,
            r#""keypair_id":"6f9619ff-8b86-4011-b42d-00cf4fc964ff","state":"active","#,
            r#""origin":"generated","#,
            r#""modulus_bits":3072,"paddings":["oaep-sha1","oaep-sha256"],"#,
            r#""release_forms":["clear"],"profile":"kek-rsa-3072","spki_sha256":"#,
            r#""cdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcd","#,
            r#""created_at":"2026-11-21T18:00:00Z","#,
            r#""certificate_expires_at":"2026-11-21T18:00:00Z","usage":{"unwraps":2,"#,
            r#""first_use":"2026-11-21T18:00:00Z","last_use":"2026-11-21T18:00:01Z","#,
            r#""by_caller":[{"caller":"spiffe://t/a","unwraps":2,"#,
            r#""first_use":"2026-11-21T18:00:00Z","last_use":"2026-11-21T18:00:01Z"}]}}]}"#
        );
        let found = serde_json::to_string(&KekView::from(kek())).unwrap();
        assert_eq!(found, expected);
    }
}
