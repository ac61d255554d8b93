//! The text of an anchor: which head a log of an instance had, small enough for a data object in a
//! token. Two logs have anchors, told apart by the name of their format. Where it is kept and what
//! follows from it is not said here.

use super::Head;
use crate::types::Sha256;

/// Longest text read, in bytes.
const LEN_MAX: usize = 256;

/// A head that a log of an instance had.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Anchor {
    /// The instance: SHA-256 over entry 0 of its ledger.
    pub instance_id: Sha256,
    /// The head.
    pub head: Head,
}

impl Anchor {
    /// The text: four lines, the first names the format.
    pub fn to_text(&self, format: &str) -> String {
        let Head { size, root } = self.head;
        let instance = self.instance_id;
        format!("{format}\ninstance {instance}\nsize {size}\nroot {root}\n")
    }

    /// Reads the text. Strict: what it reads is what it would write.
    pub fn parse(bytes: &[u8], format: &str) -> Option<Self> {
        let text = str::from_utf8(bytes).ok();
        let text = text.filter(|text| text.len() <= LEN_MAX)?;
        let mut lines = text.lines();
        let mut value = |name| lines.next()?.strip_prefix(name);
        value(format)?;
        let anchor = Self {
            instance_id: value("instance ")?.parse().ok()?,
            head: Head {
                size: value("size ")?.parse().ok()?,
                root: value("root ")?.parse().ok()?,
            },
        };
        (anchor.to_text(format) == text).then_some(anchor)
    }
}
