//! The words kekd speaks: names, ids, key material of bounded shape. To parse is to construct: a
//! value of these types has been checked, so nothing downstream checks it again. No logic about keys,
//! rights or time lives here.

mod dek;
mod digest;
mod lane;
mod name;
mod padding;

pub use dek::{DEK_LEN, Dek, RewrappedDek, SPKI_LEN_MAX, WRAPPED_DEK_LEN_MAX, WrappedDek};
pub use digest::Sha256;
pub use lane::Lane;
pub use name::{EndUser, KekName, KeypairId, RequestId};
pub use padding::{Padding, ReleaseForm};

/// A value that is not what it must be. The text names the rule, never the value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what} must be {rule}")]
pub struct TypeError {
    /// What was parsed, for example "a KEK name".
    pub what: &'static str,
    /// The rule it broke, to be read after "must be".
    pub rule: &'static str,
}
const fn refused<T>(what: &'static str, rule: &'static str) -> Result<T, TypeError> {
    Err(TypeError { what, rule })
}
/// What may happen after an error. Every error enum answers it with `next()`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Next {
    /// Whoever asked must ask for something else. We never retry it.
    CallerFault,
    /// The same request may be well in a moment: busy, token away, deadline passed.
    TryAgain,
    /// No retry helps: the outcome is unknown, or what we hold contradicts itself. An operator must
    /// look, and this process must not go on as if nothing were.
    Fatal,
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test that cannot unwrap has failed")]
mod tests {
    use super::*;

    #[test]
    fn a_kek_name_is_a_dns_label() {
        for good in ["a", "recordings", "eu-1", "0"] {
            assert_eq!(good.parse::<KekName>().unwrap().as_str(), good);
        }
        let long = "a".repeat(64);
        for bad in ["", "-a", "a-", "A", "a.b", "a b", "ä", &long] {
            assert!(bad.parse::<KekName>().is_err(), "{bad:?} was accepted");
        }
    }

    #[test]
    fn a_keypair_id_is_a_hyphenated_uuid() {
        let id: KeypairId = "6F9619FF-8B86-4011-B42D-00CF4FC964FF".parse().unwrap();
        assert_eq!(id.to_string(), "6f9619ff-8b86-4011-b42d-00cf4fc964ff");
        assert_eq!(KeypairId::try_from(&id.as_bytes()[..]).unwrap(), id);
        for bad in [
            "",
            "6f9619ff8b864011b42d00cf4fc964ff",
            "{6f9619ff-8b86-4011-b42d-00cf4fc964ff}",
        ] {
            assert!(bad.parse::<KeypairId>().is_err(), "{bad:?} was accepted");
        }
    }

    #[test]
    fn wrapped_deks_and_ids_are_bounded() {
        assert!(WrappedDek::try_from(vec![0; 512]).is_ok());
        assert!(WrappedDek::try_from(vec![0; 513]).is_err());
        assert!(WrappedDek::try_from(vec![]).is_err());
        assert!("req 1".parse::<RequestId>().is_err());
        assert!("a".repeat(129).parse::<RequestId>().is_err());
        assert!("a\nb".parse::<EndUser>().is_err());
        assert!("".parse::<EndUser>().is_ok());
    }

    #[test]
    fn released_deks_have_their_length() {
        assert_eq!(Dek::try_from(&[7; 32][..]).unwrap().as_bytes(), &[7; 32]);
        for bad in [0, 31, 33] {
            assert!(Dek::try_from(&vec![7; bad][..]).is_err(), "{bad} bytes");
        }
        assert!(RewrappedDek::try_from(vec![0; 384]).is_ok());
        assert!(RewrappedDek::try_from(vec![]).is_err());
        assert!(RewrappedDek::try_from(vec![0; 513]).is_err());
    }

    #[test]
    fn digests_are_written_in_hexadecimal_and_read_back() {
        let digest = Sha256::of(b"abc");
        let text = digest.to_string();
        assert!(text.starts_with("ba7816bf8f01cfea"));
        assert_eq!(text.parse(), Ok(digest));
        let cut = text.get(1..).unwrap();
        for bad in [
            "",
            cut,
            &format!("{text}0"),
            &text.to_uppercase(),
            &format!("g{cut}"),
        ] {
            assert!(bad.parse::<Sha256>().is_err(), "{bad:?} was accepted");
        }
    }

    #[test]
    fn padding_names_round_trip() {
        for padding in [Padding::OaepSha1, Padding::OaepSha256, Padding::Pkcs1V15] {
            assert_eq!(padding.name().parse::<Padding>().unwrap(), padding);
            assert_eq!(serde_json::to_value(padding).unwrap(), padding.name());
        }
    }
}
