//! Checkpoints: what a log says of itself, signed. The text is C2SP tlog-checkpoint, the envelope
//! C2SP signed-note with an ECDSA P-256 signature (type 0x02), so that witnesses and auditors need
//! no software of ours. The key lives elsewhere: the text gives a digest, somebody signs it, and a
//! note exists only after that signature was verified against the pinned public key.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

use super::{Head, MerkleError};
use crate::public_key::P256PublicKey;
use crate::types::Sha256;

/// Longest signed note accepted, in bytes.
pub const NOTE_LEN_MAX: usize = 16 * 1024;
/// Most signatures accepted in one note; C2SP signed-note asks for at least 16.
const SIGNATURES_MAX: usize = 32;
/// Longest origin accepted, in characters.
const ORIGIN_LEN_MAX: usize = 128;

/// The public half of a P-256 key that signs checkpoints, pinned by whoever holds this value.
#[derive(Debug, Clone)]
pub struct LogKey(P256PublicKey);

impl LogKey {
    /// Takes a DER `SubjectPublicKeyInfo`, 91 bytes.
    pub fn from_spki(spki: &[u8]) -> Result<Self, MerkleError> {
        P256PublicKey::from_spki(spki)
            .map(Self)
            .map_err(MerkleError::Key)
    }

    /// The key id of ECDSA keys in C2SP signed-note: the first 4 bytes of SHA-256 over the SPKI.
    pub fn key_id(&self) -> [u8; 4] {
        let mut id = [0; 4];
        for (to, from) in id.iter_mut().zip(Sha256::of(self.0.spki()).as_bytes()) {
            *to = *from;
        }
        id
    }

    fn key_id_text(&self) -> String {
        format!("{:08x}", u32::from_be_bytes(self.key_id()))
    }
}

/// What a log says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    origin: String,
    head: Head,
}

impl Checkpoint {
    /// A statement about the log `origin`: 1 to 128 printable ASCII characters without space and
    /// plus, because the origin is also the name of the key.
    pub fn new(origin: &str, head: Head) -> Result<Self, MerkleError> {
        let fits = !origin.is_empty()
            && origin.len() <= ORIGIN_LEN_MAX
            && origin.chars().all(|c| c.is_ascii_graphic() && c != '+');
        if !fits {
            return Err(MerkleError::OriginMalformed);
        }
        Ok(Self {
            origin: origin.to_owned(),
            head,
        })
    }

    /// The head it states.
    pub const fn head(&self) -> Head {
        self.head
    }

    /// The text that is signed: origin, size in decimal, root in base64, a line each.
    pub fn text(&self) -> String {
        let root = BASE64.encode(self.head.root.as_bytes());
        format!("{}\n{}\n{root}\n", self.origin, self.head.size)
    }

    /// What the key must sign: SHA-256 over the text, 32 bytes.
    pub fn digest(&self) -> Sha256 {
        Sha256::of(self.text().as_bytes())
    }

    /// The signed note, once `raw` (r and s, 64 bytes) verifies under `key`. A token that answers
    /// "done" with a wrong signature is caught here.
    pub fn into_note(self, key: &LogKey, raw: &[u8]) -> Result<String, MerkleError> {
        let verified = key.0.verify_raw(self.text().as_bytes(), raw);
        let signature = verified.map_err(|_| self.signature_wrong(key))?;
        let mut blob = key.key_id().to_vec();
        blob.extend_from_slice(&signature);
        let (text, origin) = (self.text(), &self.origin);
        Ok(format!(
            "{text}\n\u{2014} {origin} {}\n",
            BASE64.encode(blob)
        ))
    }

    /// Reads a signed note and verifies it: it must be a checkpoint of `origin` without extension
    /// lines, signed by `key`. Signatures by other keys are passed over, as the format asks.
    pub fn open(note: &str, origin: &str, key: &LogKey) -> Result<Self, MerkleError> {
        let malformed = |rule| Err(MerkleError::NoteMalformed { rule });
        let (checkpoint, signatures) = Self::split(note, origin)?;
        let Some(lines) = signatures.strip_suffix('\n') else {
            return malformed("the last line must end with a line feed");
        };
        if lines.split('\n').count() > SIGNATURES_MAX {
            return malformed("a note may carry at most 32 signatures");
        }
        let mut signed = false;
        for line in lines.split('\n') {
            let (name, blob) = signature_line(line)?;
            if let Some((id, signature)) = blob.split_first_chunk::<4>()
                && name == origin
                && *id == key.key_id()
            {
                checkpoint.verify(key, signature)?;
                signed = true;
            }
        }
        if !signed {
            return Err(MerkleError::NotSigned {
                origin: origin.to_owned(),
                key_id: key.key_id_text(),
            });
        }
        Ok(checkpoint)
    }

    /// What a note of `origin` claims, its signatures not looked at: nothing is proved by it.
    pub fn claimed(note: &str, origin: &str) -> Result<Self, MerkleError> {
        Ok(Self::split(note, origin)?.0)
    }

    fn split<'a>(note: &'a str, origin: &str) -> Result<(Self, &'a str), MerkleError> {
        let malformed = |rule| Err(MerkleError::NoteMalformed { rule });
        if note.len() > NOTE_LEN_MAX {
            return malformed("a signed note may have at most 16384 bytes");
        }
        let Some((text, signatures)) = note.rsplit_once("\n\n") else {
            return malformed("text and signatures must be separated by an empty line");
        };
        let checkpoint = Self::from_text(text)?;
        if checkpoint.origin != origin {
            return Err(MerkleError::OriginWrong {
                expected: origin.to_owned(),
                found: checkpoint.origin,
            });
        }
        Ok((checkpoint, signatures))
    }

    /// Reads the text without its last line feed. Strict: what it reads is what it would write.
    fn from_text(text: &str) -> Result<Self, MerkleError> {
        let malformed = |rule| Err(MerkleError::NoteMalformed { rule });
        let mut lines = text.split('\n');
        let (Some(origin), Some(size), Some(root), None) =
            (lines.next(), lines.next(), lines.next(), lines.next())
        else {
            return malformed("the text must be three lines: origin, size, root");
        };
        let size = match size.parse::<u64>() {
            Ok(number) if number.to_string() == size => number,
            Ok(_) | Err(_) => return malformed("the size must be a decimal number"),
        };
        let root = BASE64.decode(root).unwrap_or_default();
        let Ok(root) = Sha256::try_from(root.as_slice()) else {
            return malformed("the root must be 32 bytes in base64");
        };
        Self::new(origin, Head { size, root })
    }

    fn verify(&self, key: &LogKey, signature: &[u8]) -> Result<(), MerkleError> {
        key.0
            .verify(self.text().as_bytes(), signature)
            .map_err(|_| self.signature_wrong(key))
    }

    fn signature_wrong(&self, key: &LogKey) -> MerkleError {
        MerkleError::SignatureWrong {
            origin: self.origin.clone(),
            size: self.head.size,
            key_id: key.key_id_text(),
        }
    }
}

/// Key name and decoded blob of one signature line: em dash, space, name, space, base64.
fn signature_line(line: &str) -> Result<(&str, Vec<u8>), MerkleError> {
    line.strip_prefix("\u{2014} ")
        .and_then(|rest| rest.split_once(' '))
        .and_then(|(name, blob)| Some((name, BASE64.decode(blob).ok()?)))
        .filter(|(name, blob)| !name.is_empty() && blob.len() > 4)
        .ok_or(MerkleError::NoteMalformed {
            rule: "a signature line must be an em dash, a name and base64",
        })
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test that cannot unwrap has failed")]
mod tests {
    use aws_lc_rs::encoding::AsDer as _;
    use aws_lc_rs::rand::SystemRandom;
    use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};

    use super::*;
    use crate::merkle::vectors;

    const ORIGIN: &str = "kekd/ledger/test";

    fn new_key() -> (EcdsaKeyPair, LogKey) {
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
        let key = LogKey::from_spki(pair.public_key().as_der().unwrap().as_ref()).unwrap();
        (pair, key)
    }

    fn checkpoint() -> Checkpoint {
        let root = *vectors::roots().get(8).unwrap();
        Checkpoint::new(ORIGIN, Head { size: 8, root }).unwrap()
    }

    fn sign(pair: &EcdsaKeyPair, text: &str) -> Vec<u8> {
        let signature = pair.sign(&SystemRandom::new(), text.as_bytes()).unwrap();
        signature.as_ref().to_vec()
    }

    fn note(pair: &EcdsaKeyPair, key: &LogKey) -> String {
        let checkpoint = checkpoint();
        let raw = sign(pair, &checkpoint.text());
        checkpoint.into_note(key, &raw).unwrap()
    }

    #[test]
    fn the_text_is_a_tlog_checkpoint() {
        assert_eq!(
            checkpoint().text(),
            "kekd/ledger/test\n8\nXcnaeacGWamtVZy3Ad7ZoqudgjqtL0lgz+Nw7/RgQyg=\n"
        );
    }

    #[test]
    fn a_note_is_read_back_under_its_key_and_no_other() {
        // Many signatures, so that integers of every length pass through the DER form.
        let (pair, key) = new_key();
        for _ in 0..600 {
            let note = note(&pair, &key);
            assert_eq!(Checkpoint::open(&note, ORIGIN, &key).unwrap(), checkpoint());
        }
        let note = note(&pair, &key);
        let (_, stranger) = new_key();
        assert!(matches!(
            Checkpoint::open(&note, ORIGIN, &stranger),
            Err(MerkleError::NotSigned { .. })
        ));
        assert!(matches!(
            Checkpoint::open(&note, "kekd/audit/test", &key),
            Err(MerkleError::OriginWrong { .. })
        ));
    }

    #[test]
    fn a_wrong_signature_makes_no_note() {
        let (pair, key) = new_key();
        let good = sign(&pair, &checkpoint().text());
        for at in 0..good.len() {
            let mut bad = good.clone();
            *bad.get_mut(at).unwrap() ^= 1;
            assert!(matches!(
                checkpoint().into_note(&key, &bad),
                Err(MerkleError::SignatureWrong { .. })
            ));
        }
        for bad in [vec![], vec![0; 64], good.get(..63).unwrap().to_vec()] {
            assert!(checkpoint().into_note(&key, &bad).is_err());
        }
    }

    #[test]
    fn no_byte_of_a_note_can_change() {
        let (pair, key) = new_key();
        let note = note(&pair, &key).into_bytes();
        for at in 0..note.len() {
            for flip in [0x01, 0x02, 0x20, 0x80] {
                let mut bad = note.clone();
                *bad.get_mut(at).unwrap() ^= flip;
                let refused = String::from_utf8(bad)
                    .map_or(true, |text| Checkpoint::open(&text, ORIGIN, &key).is_err());
                assert!(refused, "byte {at} flipped by {flip:#x}");
            }
        }
    }

    #[test]
    fn other_signatures_are_passed_over_and_malformed_notes_refused() {
        let (pair, key) = new_key();
        let note = note(&pair, &key);
        let witness = format!("\u{2014} witness.example {}\n", BASE64.encode([7; 80]));
        let cosigned = format!("{note}{witness}");
        assert!(Checkpoint::open(&cosigned, ORIGIN, &key).is_ok());
        let (text, signature) = note.rsplit_once("\n\n").unwrap();
        for bad in [
            String::new(),
            text.to_owned(),
            format!("{text}\n\n"),
            format!("{text}\n\n{witness}"),
            format!("{text}\nextension\n\n{signature}"),
            note.replace("\n8\n", "\n08\n"),
            note.replace("\n8\n", "\n+8\n"),
            note.replace('\n', "\r\n"),
            format!("{note}\n"),
            format!("{note}{}", witness.repeat(32)),
            format!("{}{note}", "x\n".repeat(9000)),
        ] {
            assert!(Checkpoint::open(&bad, ORIGIN, &key).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn origins_are_names_a_note_can_carry() {
        let head = checkpoint().head();
        for bad in ["", "a b", "a+b", "a\nb", "ä", &"a".repeat(129)] {
            assert!(Checkpoint::new(bad, head).is_err(), "{bad:?}");
        }
    }
}
