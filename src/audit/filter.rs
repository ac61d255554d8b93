//! Which records somebody wants to see. Pure: it judges one decoded record, and tells which times it
//! can exclude beforehand. The invariant: a filter that names nothing keeps everything.

use prost::Message as _;

use crate::clock::UnixMs;
use crate::proto::v1;

/// What a record must be; what is not named may be anything.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    /// Written at this time or later.
    pub since: Option<UnixMs>,
    /// Written before this time.
    pub until: Option<UnixMs>,
    /// Under this KEK.
    pub kek: Option<String>,
    /// For this key pair, as it was asked for.
    pub keypair_id: Option<String>,
    /// Asked by this identity.
    pub caller: Option<String>,
    /// For this end user.
    pub end_user: Option<String>,
    /// With one of these outcomes; with any where there are none.
    pub outcomes: Vec<v1::Outcome>,
}

impl Filter {
    /// Whether a record, by its bytes, is wanted. One that cannot be read is, so that nobody hides a
    /// record by damaging it.
    pub(super) fn keeps(&self, bytes: &[u8]) -> bool {
        *self == Self::default()
            || v1::Record::decode(bytes).map_or(true, |record| self.matches(&record))
    }

    /// Whether a record is wanted.
    pub fn matches(&self, record: &v1::Record) -> bool {
        let is = |wanted: &Option<String>, found: &str| {
            wanted.as_ref().is_none_or(|wanted| wanted == found)
        };
        self.since.is_none_or(|since| record.time_ms >= since.0)
            && self.until.is_none_or(|until| record.time_ms < until.0)
            && is(&self.kek, &record.kek)
            && is(&self.keypair_id, &record.keypair_id)
            && is(&self.caller, &record.caller)
            && is(&self.end_user, &record.end_user)
            && (self.outcomes.is_empty() || self.outcomes.contains(&record.outcome()))
    }

    /// The times outside of which nothing is wanted: first and last, both included.
    pub(super) fn times(&self) -> Option<(UnixMs, UnixMs)> {
        if self.since.is_none() && self.until.is_none() {
            return None;
        }
        let last = self
            .until
            .map_or(u64::MAX, |until| until.0.saturating_sub(1));
        Some((self.since.unwrap_or_default(), UnixMs(last)))
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test that cannot unwrap has failed")]
mod tests {
    use super::*;

    fn record() -> v1::Record {
        v1::Record {
            time_ms: 100,
            kek: "recordings".to_owned(),
            caller: "spiffe://t/a".to_owned(),
            outcome: v1::Outcome::Released.into(),
            ..v1::Record::default()
        }
    }

    #[test]
    fn each_word_of_a_filter_counts() {
        let some = |text: &str| Some(text.to_owned());
        let cases: [(Filter, bool); 9] = [
            (Filter::default(), true),
            (
                Filter {
                    since: Some(UnixMs(100)),
                    ..Filter::default()
                },
                true,
            ),
            (
                Filter {
                    since: Some(UnixMs(101)),
                    ..Filter::default()
                },
                false,
            ),
            (
                Filter {
                    until: Some(UnixMs(100)),
                    ..Filter::default()
                },
                false,
            ),
            (
                Filter {
                    kek: some("recordings"),
                    ..Filter::default()
                },
                true,
            ),
            (
                Filter {
                    kek: some("other"),
                    ..Filter::default()
                },
                false,
            ),
            (
                Filter {
                    caller: some("spiffe://t/"),
                    ..Filter::default()
                },
                false,
            ),
            (
                Filter {
                    outcomes: vec![v1::Outcome::Released],
                    ..Filter::default()
                },
                true,
            ),
            (
                Filter {
                    outcomes: vec![v1::Outcome::Refused],
                    ..Filter::default()
                },
                false,
            ),
        ];
        for (filter, expected) in cases {
            let bytes = record().encode_to_vec();
            assert_eq!(filter.keeps(&bytes), expected, "{filter:?}");
            assert!(filter.keeps(&[0xff]), "damage hides nothing");
        }
        assert_eq!(record().outcome(), v1::Outcome::try_from(1).unwrap());
    }
}
