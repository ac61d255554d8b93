//! What a flow knows of one attempt, and the bytes it becomes. There is no plaintext and no wrapped
//! DEK here, only a keyed digest of the latter; every text is bounded, so a record is too.

use std::ops::Range;
use std::time::Duration;

use prost::Message as _;

use crate::clock::UnixMs;
use crate::proto::v1;
use crate::types::{EndUser, KekName, Padding, ReleaseForm, RequestId, Sha256};

/// Longest `caller` kept: identities have at most 256 bytes.
const CALLER_LEN_MAX: usize = 256;
/// Longest `keypair_id` kept: a UUID has 36 characters, the rest shows what was asked instead.
const KEYPAIR_ID_LEN_MAX: usize = 64;

/// One attempt, before it has an index and a time.
#[derive(Debug, Clone)]
pub struct Draft {
    /// The caller's identity as authenticated, or its address where none was established. What
    /// exceeds 256 bytes is cut.
    pub caller: String,
    /// The end user the caller named.
    pub end_user: EndUser,
    /// The request's id.
    pub request_id: RequestId,
    /// The KEK, where the keypair id names one.
    pub kek: Option<KekName>,
    /// The key pair as asked for, whether or not it is one. What exceeds 64 bytes is cut.
    pub keypair_id: String,
    /// The padding as asked for.
    pub padding: Option<Padding>,
    /// In which form the DEK was asked for.
    pub release_form: Option<ReleaseForm>,
    /// [`super::Journal::digest`] of the wrapped DEK.
    pub ciphertext_digest: Option<Sha256>,
    /// SHA-256 of the recipient's `SubjectPublicKeyInfo` where the DEK was wrapped again.
    pub recipient_spki_sha256: Option<Sha256>,
    /// How it ended.
    pub outcome: Outcome,
    /// The stable reason of a refusal, as in google.rpc.ErrorInfo; empty for a release.
    pub reason: &'static str,
    /// Time spent waiting for an HSM session.
    pub queue: Duration,
    /// Time the HSM took.
    pub hsm: Duration,
    /// Where records were lost, how many the token had seen.
    pub lost_until: u64,
    /// Where records were dropped, which.
    pub archived: Option<Archived>,
}

/// What the record of a drop says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Archived {
    /// The records.
    pub range: Range<u64>,
    /// SHA-256 of the archive that holds them.
    pub archive: Sha256,
    /// SHA-256 over all stubs, with this drop's.
    pub stubs: Sha256,
}

/// How an attempt ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The DEK may leave once the record is durable.
    Released,
    /// Refused before the HSM was asked.
    Refused,
    /// The ciphertext could not be unwrapped.
    Undecryptable,
    /// The HSM could not be asked or did not answer.
    Unavailable,
    /// A connection was refused before it had an identity.
    ConnectionRefused,
    /// No attempt: the host's administrator accepted that records are lost.
    RecordsLost,
    /// No attempt: an auditor archived records and had them dropped.
    RecordsArchived,
}

impl Draft {
    /// What is known of an attempt at first: who asks, and under which id. A refusal until more is
    /// known.
    pub fn new(caller: String, request_id: RequestId) -> Self {
        Self {
            caller,
            end_user: EndUser::default(),
            request_id,
            kek: None,
            keypair_id: String::new(),
            padding: None,
            release_form: None,
            ciphertext_digest: None,
            recipient_spki_sha256: None,
            outcome: Outcome::Refused,
            reason: "",
            queue: Duration::ZERO,
            hsm: Duration::ZERO,
            lost_until: 0,
            archived: None,
        }
    }

    /// The exact bytes to be stored: `kekd.v1.Record`, protobuf with fields in order of number.
    pub(super) fn encode(&self, index: u64, time: UnixMs, node: &str) -> Vec<u8> {
        let archived = self.archived.as_ref();
        v1::Record {
            index,
            time_ms: time.0,
            node: node.to_owned(),
            caller: cut(&self.caller, CALLER_LEN_MAX),
            end_user: self.end_user.as_str().to_owned(),
            request_id: self.request_id.as_str().to_owned(),
            kek: self
                .kek
                .as_ref()
                .map_or_else(String::new, KekName::to_string),
            keypair_id: cut(&self.keypair_id, KEYPAIR_ID_LEN_MAX),
            padding: self
                .padding
                .map_or(v1::Padding::Unspecified, Into::into)
                .into(),
            release_form: self
                .release_form
                .map_or(v1::ReleaseForm::Unspecified, Into::into)
                .into(),
            ciphertext_digest: bytes(self.ciphertext_digest),
            recipient_spki_sha256: bytes(self.recipient_spki_sha256),
            outcome: outcome(self.outcome).into(),
            reason: self.reason.to_owned(),
            queue_us: micros(self.queue),
            hsm_us: micros(self.hsm),
            lost_until: self.lost_until,
            archived_from: archived.map_or(0, |it| it.range.start),
            archived_until: archived.map_or(0, |it| it.range.end),
            archive_sha256: bytes(archived.map(|it| it.archive)),
            stubs_sha256: bytes(archived.map(|it| it.stubs)),
        }
        .encode_to_vec()
    }
}

/// The longest beginning of `text` that has at most `len_max` bytes and ends with a whole character.
/// Control characters are replaced: a record is read on terminals.
fn cut(text: &str, len_max: usize) -> String {
    text.chars()
        .map(|c| match c.is_control() {
            true => char::REPLACEMENT_CHARACTER,
            false => c,
        })
        .scan(0, |len: &mut usize, c| {
            *len = len.saturating_add(c.len_utf8());
            (*len <= len_max).then_some(c)
        })
        .collect()
}

const fn outcome(outcome: Outcome) -> v1::Outcome {
    match outcome {
        Outcome::Released => v1::Outcome::Released,
        Outcome::Refused => v1::Outcome::Refused,
        Outcome::Undecryptable => v1::Outcome::Undecryptable,
        Outcome::Unavailable => v1::Outcome::Unavailable,
        Outcome::ConnectionRefused => v1::Outcome::ConnectionRefused,
        Outcome::RecordsLost => v1::Outcome::RecordsLost,
        Outcome::RecordsArchived => v1::Outcome::RecordsArchived,
    }
}

fn bytes(digest: Option<Sha256>) -> Vec<u8> {
    digest.map_or_else(Vec::new, |digest| digest.as_bytes().to_vec())
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test that cannot unwrap has failed")]
pub(super) mod tests {
    use super::*;

    pub(in crate::audit) fn draft(request_id: &str) -> Draft {
        Draft {
            caller: "spiffe://test/lkm".to_owned(),
            end_user: "agent 7".parse().unwrap(),
            request_id: request_id.parse().unwrap(),
            kek: Some("recordings".parse().unwrap()),
            keypair_id: "6f9619ff-8b86-4011-b42d-00cf4fc964ff".to_owned(),
            padding: Some(Padding::OaepSha1),
            release_form: Some(ReleaseForm::Clear),
            ciphertext_digest: Some(Sha256::of(b"wrapped")),
            recipient_spki_sha256: None,
            outcome: Outcome::Refused,
            reason: "NOT_GRANTED",
            queue: Duration::from_micros(3),
            hsm: Duration::from_micros(5),
            lost_until: 0,
            archived: None,
        }
    }

    #[test]
    fn a_record_says_what_the_draft_says() {
        let bytes = draft("req-1").encode(7, UnixMs(9), "node-a");
        let record = v1::Record::decode(bytes.as_slice()).unwrap();
        assert_eq!(
            record,
            v1::Record {
                index: 7,
                time_ms: 9,
                node: "node-a".to_owned(),
                caller: "spiffe://test/lkm".to_owned(),
                end_user: "agent 7".to_owned(),
                request_id: "req-1".to_owned(),
                kek: "recordings".to_owned(),
                keypair_id: "6f9619ff-8b86-4011-b42d-00cf4fc964ff".to_owned(),
                padding: v1::Padding::OaepSha1.into(),
                release_form: v1::ReleaseForm::Clear.into(),
                ciphertext_digest: Sha256::of(b"wrapped").as_bytes().to_vec(),
                recipient_spki_sha256: vec![],
                outcome: v1::Outcome::Refused.into(),
                reason: "NOT_GRANTED".to_owned(),
                queue_us: 3,
                hsm_us: 5,
                lost_until: 0,
                archived_from: 0,
                archived_until: 0,
                archive_sha256: vec![],
                stubs_sha256: vec![],
            }
        );
    }

    #[test]
    fn what_a_caller_sends_does_not_make_a_record_grow() {
        let mut long = draft("r");
        long.keypair_id = "é".repeat(10_000);
        long.caller = "a".repeat(10_000);
        let record =
            v1::Record::decode(long.encode(u64::MAX, UnixMs(u64::MAX), "n").as_slice()).unwrap();
        assert_eq!(record.keypair_id, "é".repeat(32));
        assert_eq!(record.caller.len(), 256);
    }

    #[test]
    fn what_a_caller_sends_moves_no_cursor() {
        let mut rude = draft("r");
        rude.keypair_id = "a\r\n\u{1b}[2Jb\u{9b}".to_owned();
        rude.caller = "\0".to_owned();
        let record = v1::Record::decode(rude.encode(0, UnixMs(0), "n").as_slice()).unwrap();
        assert_eq!(record.keypair_id, "a\u{fffd}\u{fffd}\u{fffd}[2Jb\u{fffd}");
        assert_eq!(record.caller, "\u{fffd}");
    }
}
