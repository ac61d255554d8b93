//! The form of statements: a title, then lines of a name, one space and a value, each in its place.
//! The reader takes nothing for granted and the writer has one way to write a value, so that one
//! meaning has one text. What the lines mean is not known here.

use std::fmt::Display;
use std::ops::RangeInclusive;
use std::str::FromStr;

use super::statement::{STATEMENT_LEN_MAX, StatementError};
use crate::clock::UnixMs;
use crate::types::TypeError;

/// Characters of what was found that an error quotes.
const QUOTED_LEN_MAX: usize = 100;

/// Takes a text apart, line by line.
pub(super) struct Reader<'a> {
    lines: std::iter::Peekable<std::str::Split<'a, char>>,
    /// The number of the next line, from 1.
    line: usize,
}

/// The value of one line.
#[derive(Debug, Clone, Copy)]
pub(super) struct Value<'a> {
    /// The line's number, from 1.
    pub(super) line: usize,
    /// The line's name.
    pub(super) name: &'static str,
    /// What stands behind the name.
    pub(super) text: &'a str,
}

impl<'a> Reader<'a> {
    /// Reads a statement that opens with `title`.
    pub(super) fn statement(bytes: &'a [u8], title: &'static str) -> Result<Self, StatementError> {
        let mut reader = Self::untitled(bytes)?;
        match reader.next() {
            Some((_, found)) if found == title => Ok(reader),
            found => Err(StatementError::TitleUnknown {
                expected: title,
                found: quoted(found.map_or("", |(_, text)| text)),
            }),
        }
    }

    /// Reads lines without a title.
    pub(super) fn untitled(bytes: &'a [u8]) -> Result<Self, StatementError> {
        if bytes.len() > STATEMENT_LEN_MAX {
            return Err(StatementError::TooLong {
                found_len: bytes.len(),
            });
        }
        let mut line = 1_usize;
        for byte in bytes {
            match byte {
                b'\n' => line = line.saturating_add(1),
                b' '..=b'~' => {}
                found => {
                    return Err(StatementError::NotPrintable {
                        line,
                        found: *found,
                    });
                }
            }
        }
        // Without an end, or without anything.
        let open = StatementError::LineOpen { line };
        let text = bytes.strip_suffix(b"\n").ok_or_else(|| open.clone())?;
        let text = str::from_utf8(text).map_err(|_| open)?;
        Ok(Self {
            lines: text.split('\n').peekable(),
            line: 1,
        })
    }

    /// The value of the next line, which must be of this name.
    pub(super) fn value(&mut self, name: &'static str) -> Result<Value<'a>, StatementError> {
        let Some((line, found)) = self.next() else {
            return Err(StatementError::LineMissing {
                line: self.line,
                expected: name,
            });
        };
        match found.strip_prefix(name).and_then(|v| v.strip_prefix(' ')) {
            Some(text) if !text.is_empty() => Ok(Value { line, name, text }),
            Some(_) | None => Err(StatementError::LineUnexpected {
                line,
                expected: name,
                found: quoted(found),
            }),
        }
    }

    /// Whether the next line is of this name.
    pub(super) fn next_is(&mut self, name: &str) -> bool {
        let rest = self.lines.peek().and_then(|line| line.strip_prefix(name));
        rest.is_some_and(|rest| rest.starts_with(' '))
    }

    /// There must be no further line.
    pub(super) fn end(mut self) -> Result<(), StatementError> {
        match self.next() {
            None => Ok(()),
            Some((line, found)) => Err(StatementError::LineTooMany {
                line,
                found: quoted(found),
            }),
        }
    }

    fn next(&mut self) -> Option<(usize, &'a str)> {
        let found = self.lines.next()?;
        let line = self.line;
        self.line = line.saturating_add(1);
        Some((line, found))
    }
}

impl Value<'_> {
    /// The refusal of this value.
    pub(super) fn refused(self, expected: impl Display) -> StatementError {
        StatementError::ValueRefused {
            line: self.line,
            name: self.name,
            expected: expected.to_string(),
            found: quoted(self.text),
        }
    }

    /// The value as one of a type, in the form in which it is written.
    pub(super) fn parse<T>(self) -> Result<T, StatementError>
    where
        T: FromStr<Err = TypeError> + Display,
    {
        let parsed = self.text.parse::<T>();
        let value = parsed.map_err(|error| self.refused(error.rule))?;
        let written = value.to_string();
        if written != self.text {
            return Err(self.refused(format_args!("the form {written:?}")));
        }
        Ok(value)
    }

    /// A decimal number without sign, zeros in front or anything else.
    pub(super) fn number<T>(self, range: RangeInclusive<T>) -> Result<T, StatementError>
    where
        T: FromStr + Display + PartialOrd,
    {
        match self.text.parse::<T>() {
            Ok(value) if range.contains(&value) && value.to_string() == self.text => Ok(value),
            Ok(_) | Err(_) => Err(self.refused(format_args!(
                "a number from {} to {} in plain decimal digits",
                range.start(),
                range.end()
            ))),
        }
    }

    /// A number of seconds, with `s` behind it.
    pub(super) fn seconds(self, range: RangeInclusive<u64>) -> Result<u64, StatementError> {
        let Some(text) = self.text.strip_suffix('s') else {
            return Err(self.refused("a number of seconds with an s behind it, for example 0s"));
        };
        Value { text, ..self }.number(range)
    }

    /// A time as [`UnixMs::rfc3339`] writes it.
    pub(super) fn time(self) -> Result<UnixMs, StatementError> {
        let time = self.text.parse::<jiff::Timestamp>().ok();
        let time = time.and_then(|time| u64::try_from(time.as_millisecond()).ok());
        match time.map(UnixMs) {
            Some(time) if time.rfc3339() == self.text => Ok(time),
            Some(_) | None => Err(self.refused("a time as 2026-11-21T18:00:00Z")),
        }
    }

    /// 16 bytes in 32 lower-case hexadecimal digits.
    pub(super) fn nonce(self) -> Result<[u8; 16], StatementError> {
        let mut nonce = [0; 16];
        let mut digits = self.text.as_bytes().chunks(2);
        for byte in &mut nonce {
            let pair = digits.next().and_then(|pair| str::from_utf8(pair).ok());
            let value = pair.and_then(|pair| u8::from_str_radix(pair, 16).ok());
            *byte = value.unwrap_or_default();
        }
        // What is no digit, too short or too long does not come back.
        if hex(&nonce) == self.text {
            Ok(nonce)
        } else {
            Err(self.refused("32 lower-case hexadecimal digits"))
        }
    }

    /// What a test of the whole value lets pass.
    pub(super) fn checked(
        self,
        holds: bool,
        expected: impl Display,
    ) -> Result<String, StatementError> {
        if holds {
            Ok(self.text.to_owned())
        } else {
            Err(self.refused(expected))
        }
    }

    /// The value must be this one, which follows from others.
    pub(super) fn equals(self, expected: &str) -> Result<(), StatementError> {
        if self.text == expected {
            return Ok(());
        }
        Err(StatementError::LineDiffers {
            line: self.line,
            expected: format!("{} {expected}", self.name),
            found: quoted(&format!("{} {}", self.name, self.text)),
        })
    }
}

/// Puts a text together.
pub(super) fn written(title: &str, lines: &[(&'static str, String)]) -> Vec<u8> {
    let mut text = format!("{title}\n");
    for (name, value) in lines {
        text.extend([name, " ", value, "\n"]);
    }
    text.into_bytes()
}

/// The text must be the one that its meaning is written as. The readers see to it line by line;
/// this is the same rule once more, for all of it.
pub(super) fn same(found: &[u8], written: &[u8]) -> Result<(), StatementError> {
    if found == written {
        return Ok(());
    }
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (found, written) = (text(found), text(written));
    let lines = found.split('\n').zip(written.split('\n'));
    let mut differing = (1_usize..).zip(lines).filter(|(_, (a, b))| a != b);
    let (line, (found, expected)) = differing.next().unwrap_or_default();
    Err(StatementError::LineDiffers {
        line,
        expected: expected.to_owned(),
        found: quoted(found),
    })
}

/// Lower-case hexadecimal digits.
pub(super) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a string cannot fail.
        write!(text, "{byte:02x}").unwrap_or_default();
        text
    })
}

/// A time cut to whole seconds, as statements write it.
pub(super) const fn whole_seconds(time: UnixMs) -> UnixMs {
    UnixMs(time.0 / 1000 * 1000)
}

fn quoted(text: &str) -> String {
    text.chars().take(QUOTED_LEN_MAX).collect()
}
