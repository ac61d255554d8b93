//! The file form of an inclusion proof: C2SP tlog-proof, with the leaf's own bytes as its extra data.
//! Only texts are read and written here; what the bytes mean, and whose key signs, the log says.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

use crate::types::Sha256;

/// The first line of the file.
const FORMAT: &str = "c2sp.org/tlog-proof@v1";

/// A proof that a leaf is in a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlogProof {
    /// The bytes of the leaf.
    pub extra: Vec<u8>,
    /// Its index.
    pub index: u64,
    /// The audit path from the leaf up (RFC 6962 section 2.1.1).
    pub hashes: Vec<Sha256>,
    /// The signed note the path leads to.
    pub note: String,
}

impl TlogProof {
    /// The file.
    pub fn to_text(&self) -> String {
        let extra = BASE64.encode(&self.extra);
        let mut text = format!("{FORMAT}\nextra {extra}\nindex {}\n", self.index);
        for hash in &self.hashes {
            text.push_str(&BASE64.encode(hash.as_bytes()));
            text.push('\n');
        }
        text.push('\n');
        text.push_str(&self.note);
        text
    }

    /// Reads the file. Strict: what it reads is what it would write. The caller bounds the length.
    pub fn parse(text: &str) -> Option<Self> {
        let (head, note) = text.split_once("\n\n")?;
        let mut lines = head.lines();
        if lines.next()? != FORMAT {
            return None;
        }
        let extra = BASE64.decode(lines.next()?.strip_prefix("extra ")?).ok()?;
        let index = lines.next()?.strip_prefix("index ")?.parse().ok()?;
        let hash = |line| Sha256::try_from(BASE64.decode(line).ok()?.as_slice()).ok();
        let proof = Self {
            extra,
            index,
            hashes: lines.map(hash).collect::<Option<_>>()?,
            note: note.to_owned(),
        };
        (proof.to_text() == text).then_some(proof)
    }
}
