//! BER (X.690 section 8) over one buffer: finding elements, indefinite lengths included, bringing
//! small ones to DER, and gathering the chunks of a long string in place. `der` holds back from BER
//! and would copy a content of gigabytes; here the content is only ever moved within its buffer.
//! No element reaches outside the one around it; depth is bounded; no input panics.

use std::ops::Range;

use super::Fault;

/// The bit that tells constructed from primitive (X.690 section 8.1.2.5).
pub(super) const CONSTRUCTED: u8 = 0x20;
pub(super) const OCTET_STRING: u8 = 0x04;
pub(super) const SET: u8 = 0x31;
/// CMS nests less than ten deep, names and attributes included.
const DEPTH_MAX: usize = 24;

fn malformed<T>(at: usize, rule: &'static str) -> Result<T, Fault> {
    Err(Fault::Malformed { at, rule })
}

/// One element of a buffer, by position.
#[derive(Debug, Clone)]
pub(super) struct Element {
    /// The identifier octet.
    pub(super) tag: u8,
    /// The contents octets.
    pub(super) content: Range<usize>,
    /// Where the next element starts.
    pub(super) end: usize,
}

impl Element {
    /// The element at the start of a range.
    pub(super) fn read(bytes: &[u8], within: Range<usize>) -> Result<Self, Fault> {
        Self::read_at_depth(bytes, within, 0)
    }

    fn read_at_depth(bytes: &[u8], within: Range<usize>, depth: usize) -> Result<Self, Fault> {
        let at = within.start;
        let area = bytes.get(..within.end).unwrap_or_default();
        let [tag, first] = octets(area, at)?;
        if depth > DEPTH_MAX {
            return malformed(at, "elements may not nest this deep");
        }
        if tag == 0 || tag & 0x1f == 0x1f {
            return malformed(at, "CMS has no such tag");
        }
        let mut start = at + 2;
        let len = match first {
            0x00..=0x7f => usize::from(first),
            0x80 if tag & CONSTRUCTED != 0 => {
                let content = start..indefinite_end(bytes, start..within.end, depth)?;
                let end = content.end + 2;
                return Ok(Self { tag, content, end });
            }
            0x81..=0x88 => {
                let mut len: u64 = 0;
                for _ in 0x80..first {
                    let [octet] = octets(area, start)?;
                    len = len << 8 | u64::from(octet);
                    start += 1;
                }
                usize::try_from(len).unwrap_or(usize::MAX)
            }
            _ => return malformed(at, "a length must be in a form X.690 section 8.1.3 knows"),
        };
        match start.checked_add(len) {
            Some(end) if end <= area.len() => {
                let content = start..end;
                Ok(Self { tag, content, end })
            }
            _ => malformed(at, "an element may not reach past the one around it"),
        }
    }

    /// Whether the contents are elements.
    pub(super) const fn is_constructed(&self) -> bool {
        self.tag & CONSTRUCTED != 0
    }

    /// The elements inside, for reading in order.
    pub(super) const fn fields<'a>(&self, bytes: &'a [u8]) -> Fields<'a> {
        Fields {
            bytes,
            at: self.content.start,
            end: self.content.end,
        }
    }

    /// The element in DER under another tag (the same one, for no change): definite lengths,
    /// strings in one piece, SETs sorted. At most `len_max` bytes of contents.
    pub(super) fn to_der(&self, bytes: &[u8], tag: u8, len_max: usize) -> Result<Vec<u8>, Fault> {
        if self.content.len() > len_max {
            return malformed(self.content.start, "this part may not be this long");
        }
        let mut out = Vec::new();
        self.write_der(bytes, tag, &mut out, 0)?;
        Ok(out)
    }

    fn write_der(
        &self,
        bytes: &[u8],
        tag: u8,
        out: &mut Vec<u8>,
        depth: usize,
    ) -> Result<(), Fault> {
        if depth > DEPTH_MAX {
            return malformed(self.content.start, "elements may not nest this deep");
        }
        let own = bytes.get(self.content.clone()).unwrap_or_default();
        if !self.is_constructed() {
            write_header(tag, own.len(), out);
            out.extend_from_slice(own);
            return Ok(());
        }
        if self.tag == OCTET_STRING | CONSTRUCTED {
            let mut octets = own.to_vec();
            let inner = Self {
                tag: self.tag,
                content: 0..octets.len(),
                end: octets.len(),
            };
            let len = inner.gather(&mut octets)?;
            write_header(OCTET_STRING, len, out);
            out.extend_from_slice(octets.get(..len).unwrap_or_default());
            return Ok(());
        }
        let mut parts = Vec::new();
        let mut fields = self.fields(bytes);
        while let Some(child) = fields.next()? {
            let mut part = Vec::new();
            child.write_der(bytes, child.tag, &mut part, depth + 1)?;
            parts.push(part);
        }
        if tag == SET {
            parts.sort();
        }
        write_header(tag, parts.iter().map(Vec::len).sum(), out);
        parts.iter().for_each(|part| out.extend_from_slice(part));
        Ok(())
    }

    /// Moves the octets of a string, in one piece or in chunks, to the front of the buffer and
    /// returns how many there are.
    pub(super) fn gather(&self, bytes: &mut [u8]) -> Result<usize, Fault> {
        self.gather_to(bytes, 0, 0)
    }

    fn gather_to(&self, bytes: &mut [u8], to: usize, depth: usize) -> Result<usize, Fault> {
        if depth > DEPTH_MAX {
            return malformed(self.content.start, "elements may not nest this deep");
        }
        if !self.is_constructed() {
            // A chunk only moves towards the front: at least its own header lies before it.
            bytes.copy_within(self.content.clone(), to);
            return Ok(to + self.content.len());
        }
        let (mut to, mut at) = (to, self.content.start);
        while at < self.content.end {
            let chunk = Self::read(bytes, at..self.content.end)?;
            if chunk.tag & !CONSTRUCTED != OCTET_STRING {
                return malformed(at, "a string in chunks consists of OCTET STRINGs");
            }
            to = chunk.gather_to(bytes, to, depth + 1)?;
            at = chunk.end;
        }
        Ok(to)
    }
}

/// Where the contents of an element of indefinite length end: at the end-of-contents octets.
fn indefinite_end(bytes: &[u8], within: Range<usize>, depth: usize) -> Result<usize, Fault> {
    let area = bytes.get(..within.end).unwrap_or_default();
    let mut at = within.start;
    while octets(area, at)? != [0, 0] {
        at = Element::read_at_depth(bytes, at..within.end, depth + 1)?.end;
    }
    Ok(at)
}

fn octets<const N: usize>(area: &[u8], at: usize) -> Result<[u8; N], Fault> {
    match area.get(at..).and_then(<[u8]>::first_chunk) {
        Some(found) => Ok(*found),
        None => malformed(at, "more must follow"),
    }
}

/// The elements inside another, read in order.
pub(super) struct Fields<'a> {
    bytes: &'a [u8],
    at: usize,
    end: usize,
}

impl Fields<'_> {
    /// The next element, if there is one.
    pub(super) fn next(&mut self) -> Result<Option<Element>, Fault> {
        if self.at >= self.end {
            return Ok(None);
        }
        let element = Element::read(self.bytes, self.at..self.end)?;
        self.at = element.end;
        Ok(Some(element))
    }

    /// The next element if it has one of these tags.
    pub(super) fn optional(&mut self, tags: &[u8]) -> Result<Option<Element>, Fault> {
        match self.bytes.get(self.at) {
            Some(tag) if self.at < self.end && tags.contains(tag) => self.next(),
            Some(_) | None => Ok(None),
        }
    }

    /// The next element, which must have one of these tags.
    pub(super) fn expect(&mut self, tags: &[u8], rule: &'static str) -> Result<Element, Fault> {
        match self.optional(tags)? {
            Some(element) => Ok(element),
            None => malformed(self.at, rule),
        }
    }

    /// Nothing may follow.
    pub(super) fn finish(self, rule: &'static str) -> Result<(), Fault> {
        if self.at == self.end {
            Ok(())
        } else {
            malformed(self.at, rule)
        }
    }
}

/// Appends identifier and length octets in DER.
pub(super) fn write_header(tag: u8, len: usize, out: &mut Vec<u8>) {
    out.push(tag);
    let octets = len.to_be_bytes();
    let significant: Vec<u8> = octets.into_iter().skip_while(|octet| *octet == 0).collect();
    match significant.as_slice() {
        [] => out.push(0),
        [short @ ..=0x7f] => out.push(*short),
        long => {
            out.push(0x80 | u8::try_from(long.len()).unwrap_or(u8::MAX));
            out.extend_from_slice(long);
        }
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test that cannot unwrap has failed")]
mod tests {
    use der::asn1::{Any, OctetString};
    use der::{Decode as _, Encode as _};
    use proptest::prelude::*;

    use super::*;

    fn to_der(ber: &[u8]) -> Result<Vec<u8>, Fault> {
        let element = Element::read(ber, 0..ber.len())?;
        element.to_der(ber, element.tag, usize::MAX)
    }

    #[test]
    fn indefinite_lengths_and_chunks_become_der() {
        let ber = [
            0x30, 0x80, // SEQUENCE of indefinite length
            0x24, 0x80, 0x04, 1, b'a', 0x24, 3, 0x04, 1, b'b', 0x04, 0x81, 1, b'c', 0, 0, 0x31,
            0x80, 0x02, 1, 2, 0x02, 1, 1, 0, 0, // SET, out of order
            0, 0,
        ];
        let der = [
            0x30, 13, 0x04, 3, b'a', b'b', b'c', 0x31, 6, 0x02, 1, 1, 0x02, 1, 2,
        ];
        assert_eq!(to_der(&ber).unwrap(), der);
        for len in 0..ber.len() {
            assert!(
                to_der(ber.get(..len).unwrap()).is_err(),
                "{len} bytes of it were accepted"
            );
        }
    }

    #[test]
    fn depth_is_bounded_in_either_form() {
        let indefinite: Vec<u8> = [0x24, 0x80].repeat(100_000);
        assert!(Element::read(&indefinite, 0..indefinite.len()).is_err());
        let mut definite = vec![0x04, 0];
        for _ in 0..100 {
            let mut outer = Vec::new();
            write_header(0x24, definite.len(), &mut outer);
            outer.extend(definite);
            definite = outer;
        }
        let element = Element::read(&definite, 0..definite.len()).unwrap();
        assert!(element.to_der(&definite, 0x30, usize::MAX).is_err());
        assert!(element.gather(&mut definite).is_err());
    }

    proptest! {
        #[test]
        fn what_is_der_stays_as_it_is(octets: Vec<u8>, len in 0_usize..100_000) {
            let nested = vec![
                OctetString::new(octets).unwrap(),
                OctetString::new(vec![1; len]).unwrap(),
            ];
            let der = nested.to_der().unwrap();
            prop_assert_eq!(to_der(&der).unwrap(), der);
        }

        #[test]
        fn no_bytes_panic_and_what_comes_out_is_der(
            seed in prop::collection::vec(
                prop::sample::select(vec![0, 1, 2, 3, 4, 0x24, 0x30, 0x31, 0x80, 0x81, 0x84, 0xa0]),
                0..60,
            ),
        ) {
            if let Ok(der) = to_der(&seed) {
                prop_assert!(Any::from_der(&der).is_ok());
            }
            let mut bytes = seed.clone();
            if let Ok(element) = Element::read(&seed, 0..seed.len()) {
                prop_assert!(element.end <= seed.len());
                if let Ok(len) = element.gather(&mut bytes) {
                    prop_assert!(len <= seed.len());
                }
            }
        }
    }
}
