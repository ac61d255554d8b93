//! What Hawk computes: the normalized string of a request or answer, its MAC, the hash of a payload,
//! and the MAC of a time. HMAC-SHA-256 only; comparisons take the same time wherever they fail.

use std::fmt::Write as _;

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::header::Header;
use crate::types::Sha256;

/// Bytes of a MAC.
pub const MAC_LEN: usize = 32;

/// What a MAC is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A request: `hawk.1.header`.
    Request,
    /// An answer: `hawk.1.response`.
    Answer,
}

/// What goes into a MAC beside the header's own attributes.
#[derive(Debug, Clone, Copy)]
pub struct Artifacts<'a> {
    /// The method, in any case.
    pub method: &'a str,
    /// The path, with or without its query.
    pub resource: &'a str,
    /// The host, in any case.
    pub host: &'a str,
    /// The port.
    pub port: u16,
}

/// A shared secret, ready to compute with. No `Debug`; AWS-LC wipes its own copy when it is dropped.
pub struct Secret(hmac::Key);

impl Secret {
    /// The UTF-8 bytes of `text` are the key; nothing in it is decoded.
    pub fn new(text: &str) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, text.as_bytes()))
    }

    /// The MAC of a request or an answer.
    pub fn mac(&self, kind: Kind, header: &Header, artifacts: &Artifacts<'_>) -> [u8; MAC_LEN] {
        self.sign(normalized(kind, header, artifacts).as_bytes())
    }

    /// Whether the header's MAC is the request's. Constant in time.
    pub fn is_mac_of(&self, header: &Header, artifacts: &Artifacts<'_>) -> bool {
        let text = normalized(Kind::Request, header, artifacts);
        hmac::verify(&self.0, text.as_bytes(), &header.mac).is_ok()
    }

    /// The MAC of a time, base64: what proves to a client with a wrong clock that the server's is
    /// right.
    pub fn time_mac(&self, ts: u64) -> String {
        STANDARD.encode(self.sign(format!("hawk.1.ts\n{ts}\n").as_bytes()))
    }

    fn sign(&self, text: &[u8]) -> [u8; MAC_LEN] {
        let mut mac = [0; MAC_LEN];
        mac.copy_from_slice(hmac::sign(&self.0, text).as_ref());
        mac
    }
}

/// Each line ends in a line feed, the last one too; `app` and `dlg` only where there is an `app`.
fn normalized(kind: Kind, header: &Header, artifacts: &Artifacts<'_>) -> String {
    let kind = match kind {
        Kind::Request => "header",
        Kind::Answer => "response",
    };
    let (ts, nonce) = (header.ts, &header.nonce);
    let method = artifacts.method.to_ascii_uppercase();
    let host = artifacts.host.to_ascii_lowercase();
    let (resource, port) = (artifacts.resource, artifacts.port);
    let hash = header.hash.as_deref().unwrap_or_default();
    let ext = header.ext.as_deref().unwrap_or_default();
    let ext = ext.replace('\\', r"\\").replace('\n', r"\n");
    let mut text = format!(
        "hawk.1.{kind}\n{ts}\n{nonce}\n{method}\n{resource}\n{host}\n{port}\n{hash}\n{ext}\n"
    );
    if let Some(app) = &header.app {
        let dlg = header.dlg.as_deref().unwrap_or_default();
        // Writing to a String cannot fail.
        write!(text, "{app}\n{dlg}\n").ok();
    }
    text
}

/// The hash of a payload, base64: over its content type in lower case, without parameters, and its
/// bytes.
pub fn payload_hash(content_type: &str, payload: &[u8]) -> String {
    let media = content_type.split(';').next().unwrap_or_default().trim();
    let head = format!("hawk.1.payload\n{}\n", media.to_ascii_lowercase());
    STANDARD.encode(Sha256::of(&[head.as_bytes(), payload, b"\n"].concat()).as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The specification's own values (API.md; design text, 5.7).
    fn header(hash: Option<&str>) -> Header {
        Header {
            id: "dh37fgj492je".to_owned(),
            ts: 1_353_832_234,
            nonce: "j4h3g2".to_owned(),
            mac: [0; MAC_LEN],
            hash: hash.map(str::to_owned),
            ext: Some("some-app-ext-data".to_owned()),
            app: None,
            dlg: None,
        }
    }

    const ARTIFACTS: Artifacts<'_> = Artifacts {
        method: "GET",
        resource: "/resource/1?b=1&a=2",
        host: "example.com",
        port: 8000,
    };

    fn secret() -> Secret {
        Secret::new("werxhqb98rpaxn39848xrunpaw3489ruxnpa98w4rxn")
    }

    #[test]
    fn the_specifications_vectors_are_met() {
        let mac = |kind, header: &Header, artifacts: &Artifacts<'_>| {
            STANDARD.encode(secret().mac(kind, header, artifacts))
        };
        assert_eq!(
            mac(Kind::Request, &header(None), &ARTIFACTS),
            "6R4rV5iE+NPoym+WwjeHzjAGXUtLNIxmo1vpMofpLAE="
        );
        let hash = payload_hash("text/plain", b"Thank you for flying Hawk");
        assert_eq!(hash, "Yi9LfIIFRtBEPt74PVmbTF/xVAwPn7ub15ePICfgnuY=");
        let post = Artifacts {
            method: "post",
            host: "EXAMPLE.com",
            ..ARTIFACTS
        };
        assert_eq!(
            mac(Kind::Request, &header(Some(&hash)), &post),
            "aSe1DERmZuRl3pI36/9BdZmnErTw3sNzOOAUlfeKjVw="
        );
        let answer = Header {
            ts: 1_362_336_900,
            nonce: "eb5S_L".to_owned(),
            hash: Some("f9cDF/TDm7TkYRLnGwRMfeDzT6LixQVLvrIKhh0vgmM=".to_owned()),
            ext: Some("response-specific".to_owned()),
            ..header(None)
        };
        let artifacts = Artifacts {
            method: "POST",
            resource: "/resource/4?filter=a",
            host: "example.com",
            port: 8080,
        };
        assert_eq!(
            mac(Kind::Answer, &answer, &artifacts),
            "XIJRsMl/4oL+nn+vKoeVZPdCHXB4yJkNnBbTbHFZUYE="
        );
    }

    #[test]
    fn a_payload_hash_is_of_the_media_type_alone() {
        assert_eq!(
            payload_hash("Text/Plain; charset=utf-8", b"x"),
            payload_hash("text/plain", b"x")
        );
    }

    #[test]
    fn everything_signed_changes_the_mac() {
        let good = Header {
            mac: secret().mac(Kind::Request, &header(None), &ARTIFACTS),
            ..header(None)
        };
        assert!(secret().is_mac_of(&good, &ARTIFACTS));
        let headers = [
            Header {
                ts: 1,
                ..good.clone()
            },
            Header {
                nonce: "other".to_owned(),
                ..good.clone()
            },
            Header {
                ext: None,
                ..good.clone()
            },
            Header {
                app: Some("a".to_owned()),
                ..good.clone()
            },
            Header {
                hash: Some(String::from("h")),
                ..good.clone()
            },
        ];
        for changed in headers {
            assert!(!secret().is_mac_of(&changed, &ARTIFACTS), "{changed:?}");
        }
        let artifacts = [
            Artifacts {
                method: "POST",
                ..ARTIFACTS
            },
            Artifacts {
                resource: "/resource/1",
                ..ARTIFACTS
            },
            Artifacts {
                host: "example.org",
                ..ARTIFACTS
            },
            Artifacts {
                port: 443,
                ..ARTIFACTS
            },
        ];
        for changed in artifacts {
            assert!(!secret().is_mac_of(&good, &changed), "{changed:?}");
        }
        assert!(!Secret::new("other").is_mac_of(&good, &ARTIFACTS));
    }
}
