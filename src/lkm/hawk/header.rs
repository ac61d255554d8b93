//! The `Authorization: Hawk …` header, read strictly: what is doubled, unknown, empty or out of its
//! alphabet is refused, because two readers of one header must not see two requests.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::mac::MAC_LEN;

/// Longest header read (the reference's own limit).
const HEADER_LEN_MAX: usize = 4096;
/// Longest id and longest nonce.
const NAME_LEN_MAX: usize = 128;
/// Longest of the other values.
const VALUE_LEN_MAX: usize = 1024;

/// Why a header is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// Longer than anything Hawk has to say.
    #[error("the header is longer than {HEADER_LEN_MAX} bytes")]
    TooLong,
    /// Another scheme, or none.
    #[error("the scheme is not Hawk")]
    Scheme,
    /// Not a list of `name="value"`.
    #[error("the attributes are not name=\"value\" with commas between")]
    Syntax,
    /// An attribute that Hawk does not have.
    #[error("an attribute is unknown")]
    Unknown,
    /// One that is there twice.
    #[error("the attribute {0} is there twice")]
    Twice(&'static str),
    /// One that must be there.
    #[error("the attribute {0} is missing")]
    Missing(&'static str),
    /// One whose value is empty, too long, or of other characters than it may have.
    #[error("the attribute {0} has no value that it may have")]
    Value(&'static str),
}

/// A header as it was sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// The credential's id.
    pub id: String,
    /// Seconds since 1970-01-01 UTC.
    pub ts: u64,
    /// Unique for this id and second.
    pub nonce: String,
    /// HMAC-SHA-256.
    pub mac: [u8; MAC_LEN],
    /// The payload hash, base64 of 32 bytes.
    pub hash: Option<String>,
    /// Application data.
    pub ext: Option<String>,
    /// Application id.
    pub app: Option<String>,
    /// Id of the application it was delegated by.
    pub dlg: Option<String>,
}

/// The eight attributes there are.
const NAMES: [&str; 8] = ["id", "ts", "nonce", "mac", "hash", "ext", "app", "dlg"];

impl Header {
    /// Reads the value of an `Authorization` header.
    ///
    /// # Errors
    /// Where it is not, byte for byte, one that Hawk allows.
    pub fn parse(text: &str) -> Result<Self, Malformed> {
        if text.len() > HEADER_LEN_MAX {
            return Err(Malformed::TooLong);
        }
        let (scheme, rest) = text.split_once(' ').ok_or(Malformed::Scheme)?;
        if !scheme.eq_ignore_ascii_case("hawk") {
            return Err(Malformed::Scheme);
        }
        let mut found: [Option<&str>; 8] = [None; 8];
        for (name, value) in Attributes(Some(rest)).collect::<Result<Vec<_>, _>>()? {
            let of_name = NAMES.iter().zip(&mut found).find(|(n, _)| **n == name);
            let (name, place) = of_name.ok_or(Malformed::Unknown)?;
            if value.is_empty() || value.len() > VALUE_LEN_MAX || !value.bytes().all(may_be) {
                return Err(Malformed::Value(name));
            }
            if place.replace(value).is_some() {
                return Err(Malformed::Twice(name));
            }
        }
        let [id, ts, nonce, mac, hash, ext, app, dlg] = found;
        let optional = |value: Option<&str>| value.map(str::to_owned);
        if dlg.is_some() && app.is_none() {
            return Err(Malformed::Missing("app"));
        }
        Ok(Self {
            id: short("id", id)?,
            ts: seconds(ts)?,
            nonce: short("nonce", nonce)?,
            mac: digest("mac", mac.ok_or(Malformed::Missing("mac"))?)?,
            hash: match hash {
                Some(hash) => digest("hash", hash).map(|_| Some(hash.to_owned()))?,
                None => None,
            },
            ext: optional(ext),
            app: optional(app),
            dlg: optional(dlg),
        })
    }
}

/// The value of the `Authorization` header, as a client sends it.
impl fmt::Display for Header {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (id, ts, nonce) = (&self.id, self.ts, &self.nonce);
        write!(f, r#"Hawk id="{id}", ts="{ts}", nonce="{nonce}""#)?;
        let rest = [
            ("hash", &self.hash),
            ("ext", &self.ext),
            ("app", &self.app),
            ("dlg", &self.dlg),
        ];
        for (name, value) in rest {
            if let Some(value) = value {
                write!(f, r#", {name}="{value}""#)?;
            }
        }
        write!(f, r#", mac="{}""#, STANDARD.encode(self.mac))
    }
}

/// Printable ASCII but for the quote and the backslash.
const fn may_be(byte: u8) -> bool {
    matches!(byte, b' '..=b'~') && byte != b'"' && byte != b'\\'
}

fn short(name: &'static str, value: Option<&str>) -> Result<String, Malformed> {
    let value = value.ok_or(Malformed::Missing(name))?;
    match value.len() <= NAME_LEN_MAX {
        true => Ok(value.to_owned()),
        false => Err(Malformed::Value(name)),
    }
}

/// Decimal digits in their one form: the MAC is over the text.
fn seconds(value: Option<&str>) -> Result<u64, Malformed> {
    let value = value.ok_or(Malformed::Missing("ts"))?;
    match value.parse::<u64>() {
        Ok(ts) if ts.to_string() == value => Ok(ts),
        Ok(_) | Err(_) => Err(Malformed::Value("ts")),
    }
}

fn digest(name: &'static str, value: &str) -> Result<[u8; MAC_LEN], Malformed> {
    let bytes = STANDARD.decode(value).map_err(|_| Malformed::Value(name))?;
    bytes.try_into().map_err(|_| Malformed::Value(name))
}

/// `name="value"`, then a comma or the end; white space may stand around both.
struct Attributes<'a>(Option<&'a str>);

impl<'a> Attributes<'a> {
    fn one(text: &'a str) -> Option<((&'a str, &'a str), Option<&'a str>)> {
        let (name, rest) = text.trim_start_matches([' ', '\t']).split_once("=\"")?;
        let (value, rest) = rest.split_once('"')?;
        let rest = rest.trim_start_matches([' ', '\t']);
        let rest = match rest.is_empty() {
            true => None,
            false => Some(rest.strip_prefix(',')?),
        };
        Some(((name, value), rest))
    }
}

impl<'a> Iterator for Attributes<'a> {
    type Item = Result<(&'a str, &'a str), Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        let text = self.0.take()?;
        Some(match Self::one(text) {
            Some((attribute, rest)) => {
                self.0 = rest;
                Ok(attribute)
            }
            None => Err(Malformed::Syntax),
        })
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test that cannot unwrap has failed")]
mod tests {
    use super::*;

    const MAC: &str = "6R4rV5iE+NPoym+WwjeHzjAGXUtLNIxmo1vpMofpLAE=";

    #[test]
    fn what_is_written_is_read() {
        let header = Header {
            id: "dh37fgj492je".to_owned(),
            ts: 1_353_832_234,
            nonce: "j4h3g2".to_owned(),
            mac: digest("mac", MAC).unwrap(),
            hash: Some(MAC.to_owned()),
            ext: Some("a, b=c".to_owned()),
            app: Some("app".to_owned()),
            dlg: None,
        };
        assert_eq!(Header::parse(&header.to_string()), Ok(header));
    }

    #[test]
    fn attributes_come_in_any_order_with_or_without_spaces() {
        for text in [
            format!(r#"Hawk id="a",mac="{MAC}",ts="1",nonce="n""#),
            format!(r#"hAWK  mac="{MAC}" , nonce="n",	ts="1", id="a""#),
        ] {
            let header = Header::parse(&text).unwrap();
            assert_eq!((&*header.id, header.ts, &*header.nonce), ("a", 1, "n"));
        }
    }

    #[test]
    fn what_is_not_strictly_a_header_is_none() {
        let with = |more: &str| format!(r#"Hawk id="a", ts="1", nonce="n", mac="{MAC}"{more}"#);
        let instead = |old: &str, new: &str| with("").replace(old, new);
        let long = "x".repeat(129);
        let cases = [
            (String::new(), Malformed::Scheme),
            ("Hawk".to_owned(), Malformed::Scheme),
            (instead("Hawk", "Bearer"), Malformed::Scheme),
            ("Hawk ".to_owned(), Malformed::Syntax),
            (with(","), Malformed::Syntax),
            (with(" ext=\"e\""), Malformed::Syntax),
            (with(", ext=e"), Malformed::Syntax),
            (with(", ext=\"e"), Malformed::Syntax),
            (with(", other=\"e\""), Malformed::Unknown),
            (with(", EXT=\"e\""), Malformed::Unknown),
            (with(", id=\"b\""), Malformed::Twice("id")),
            (with(", ext=\"\""), Malformed::Value("ext")),
            (with(", ext=\"a\\b\""), Malformed::Value("ext")),
            (with(", ext=\"ä\""), Malformed::Value("ext")),
            (with(", hash=\"short\""), Malformed::Value("hash")),
            (with(", dlg=\"d\""), Malformed::Missing("app")),
            (instead("id=\"a\", ", ""), Malformed::Missing("id")),
            (instead("ts=\"1\", ", ""), Malformed::Missing("ts")),
            (instead("nonce=\"n\", ", ""), Malformed::Missing("nonce")),
            (instead("\"1\"", "\"01\""), Malformed::Value("ts")),
            (instead("\"1\"", "\"+1\""), Malformed::Value("ts")),
            (instead("\"1\"", "\"1.5\""), Malformed::Value("ts")),
            (
                instead("\"1\"", "\"99999999999999999999\""),
                Malformed::Value("ts"),
            ),
            (
                instead("\"n\"", &format!("\"{long}\"")),
                Malformed::Value("nonce"),
            ),
            (instead(MAC, "AAAA"), Malformed::Value("mac")),
            (with(&" ".repeat(4096)), Malformed::TooLong),
        ];
        for (text, expected) in cases {
            assert_eq!(Header::parse(&text), Err(expected), "{text}");
        }
        let no_mac = r#"Hawk id="a", ts="1", nonce="n""#;
        assert_eq!(Header::parse(no_mac), Err(Malformed::Missing("mac")));
    }
}
