//! PEM (RFC 7468) and S/MIME (RFC 8551) to binary, in place. The form is told by the content, never
//! by the file's name. No ASN.1 here.

use std::ops::Range;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::Fault;

/// Everything before the base64 text must fit into this many bytes.
const HEAD_LEN_MAX: usize = 64 * 1024;
/// Characters decoded at once; a multiple of 4.
const BLOCK_LEN: usize = 4096;

/// Turns a file in any form into binary BER. A file that starts with a SEQUENCE is left as it is.
pub(super) fn decode(bytes: &mut Vec<u8>) -> Result<(), Fault> {
    match bytes.first() {
        Some(0x30) => Ok(()),
        Some(_) => {
            let head = bytes.get(..bytes.len().min(HEAD_LEN_MAX));
            let start = base64_start(head.unwrap_or_default())?;
            // No base64 character, so it starts the label that ends a PEM file.
            let hyphen = bytes.iter().skip(start).position(|byte| *byte == b'-');
            let end = hyphen.map_or(bytes.len(), |count| start.saturating_add(count));
            decode_base64(bytes, start..end)
        }
        None => Err(not_cms("the file is empty")),
    }
}

fn not_cms(found: impl Into<String>) -> Fault {
    Fault::NotCms {
        found: found.into(),
    }
}

/// Where the base64 text starts, by the PEM label or the MIME headers before it.
fn base64_start(head: &[u8]) -> Result<usize, Fault> {
    let mut at = 0;
    let mut header = String::new();
    for line in head.split_inclusive(|byte| *byte == b'\n') {
        at += line.len();
        let line = String::from_utf8_lossy(line);
        let text = line.trim_end();
        if let Some(label) = text.strip_prefix("-----BEGIN ") {
            return match label.trim_end_matches('-') {
                "CMS" | "PKCS7" => Ok(at),
                other => Err(not_cms(format!("a PEM file with the label {other:?}"))),
            };
        }
        // A blank line ends MIME headers; text before a PEM label may have blank lines too.
        if text.is_empty() && is_smime(&header)? {
            return Ok(at);
        }
        if !text.starts_with([' ', '\t']) {
            header.push('\n');
        }
        header.push_str(&text.to_ascii_lowercase());
    }
    Err(not_cms("neither binary nor a PEM label nor MIME headers"))
}

/// Whether these unfolded, lower-case header lines announce a CMS message in base64.
fn is_smime(header: &str) -> Result<bool, Fault> {
    let field = |name: &str| {
        header
            .lines()
            .find_map(|line| line.strip_prefix(name)?.trim_start().strip_prefix(':'))
            .map(str::trim)
    };
    let Some(media) = field("content-type") else {
        return Ok(false);
    };
    let media = media.split(';').next().unwrap_or_default().trim();
    match media {
        "application/pkcs7-mime" | "application/x-pkcs7-mime" | "application/cms" => (),
        other => return Err(not_cms(format!("a MIME message of type {other:?}"))),
    }
    match field("content-transfer-encoding") {
        Some("base64") => Ok(true),
        Some(other) => Err(not_cms(format!("S/MIME in {other:?} instead of base64"))),
        None => Err(not_cms("S/MIME that does not say it is in base64")),
    }
}

/// Decodes the text in `body` to the front of `bytes` and drops the rest. What is decoded is never
/// longer than what was read, so the one buffer serves both.
fn decode_base64(bytes: &mut Vec<u8>, body: Range<usize>) -> Result<(), Fault> {
    bytes.truncate(body.end);
    bytes.drain(..body.start);
    bytes.retain(|byte| !byte.is_ascii_whitespace());
    let mut block = [0; BLOCK_LEN / 4 * 3];
    let (mut from, mut to) = (0, 0);
    while from < bytes.len() {
        let until = bytes.len().min(from + BLOCK_LEN);
        let damaged = Fault::Base64 { at: from };
        let text = bytes.get(from..until).unwrap_or_default();
        let Ok(count) = STANDARD.decode_slice(text, &mut block) else {
            return Err(damaged);
        };
        // Padding may end the text, not a block in the middle of it.
        if until < bytes.len() && count != block.len() {
            return Err(damaged);
        }
        if let (Some(place), Some(decoded)) = (bytes.get_mut(to..to + count), block.get(..count)) {
            place.copy_from_slice(decoded);
        }
        from = until;
        to += count;
    }
    bytes.truncate(to);
    Ok(())
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test that cannot unwrap has failed")]
mod tests {
    use super::*;

    fn decoded(text: &str) -> Result<Vec<u8>, String> {
        let mut bytes = text.as_bytes().to_vec();
        match decode(&mut bytes) {
            Ok(()) => Ok(bytes),
            Err(fault) => Err(fault.to_string()),
        }
    }

    #[test]
    fn the_form_is_told_by_the_content() {
        for text in [
            "-----BEGIN CMS-----\nMAECAw==\n-----END CMS-----\n",
            "-----BEGIN PKCS7-----\r\nMAEC\r\nAw==\r\n-----END PKCS7-----\r\n",
            "a note\n\nand another\n-----BEGIN CMS-----\nMAECAw==\n-----END CMS-----\n",
            "MIME-Version: 1.0\nContent-Type: application/pkcs7-mime;\n\tname=\"a\"\n\
             content-transfer-encoding : BASE64\n\nMAEC\nAw==\n\n",
            "0\u{1}\u{2}\u{3}",
        ] {
            assert_eq!(decoded(text), Ok(vec![0x30, 1, 2, 3]), "{text:?}");
        }
    }

    #[test]
    fn what_is_not_cms_is_named() {
        let cases = [
            ("", "the file is empty"),
            ("RIFF\0\0\0\0WAVEfmt ", "neither binary"),
            (
                "-----BEGIN CERTIFICATE-----\nMAAA\n",
                "the label \"CERTIFICATE\"",
            ),
            ("Content-Type: text/plain\n\nMAAA", "type \"text/plain\""),
            (
                "Content-Type: application/pkcs7-mime\n\nMAAA",
                "does not say",
            ),
            (
                "-----BEGIN CMS-----\nMA?A\n-----END CMS-----",
                "character 0",
            ),
        ];
        for (text, reason) in cases {
            let found = decoded(text).err().unwrap();
            assert!(found.contains(reason), "{text:?} gave {found:?}");
        }
    }

    #[test]
    fn long_texts_decode_in_place_and_padding_only_ends_them() {
        let mut content = vec![0x30];
        content.extend((0..100_000_u32).flat_map(u32::to_le_bytes));
        let text = STANDARD.encode(&content);
        let pem = format!("-----BEGIN CMS-----\n{text}\n-----END CMS-----\n");
        assert_eq!(decoded(&pem).unwrap(), content);
        let damaged = pem.replacen(text.get(4092..4096).unwrap(), "AA==", 1);
        assert!(decoded(&damaged).is_err());
    }
}
