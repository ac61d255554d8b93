//! Cosignatures: what a witness adds to a checkpoint after it saw that the log only grew. C2SP
//! tlog-cosignature, Ed25519 (type 0x04), so that witnesses of others can be used as well. The private
//! key, the clock and the witness's memory live elsewhere.

use aws_lc_rs::signature::{ED25519, UnparsedPublicKey};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

use super::{Checkpoint, MerkleError};
use crate::types::Sha256;

/// The type of an Ed25519 cosignature key in C2SP signed-note.
const TYPE: u8 = 0x04;
/// Longest name accepted, in characters.
const NAME_LEN_MAX: usize = 128;

/// The public half of a witness's key, with the name it signs under.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WitnessKey {
    name: String,
    public: [u8; 32],
}

impl WitnessKey {
    /// A name of 1 to 128 printable ASCII characters without space and plus, and an Ed25519 public
    /// key.
    pub fn new(name: &str, public: [u8; 32]) -> Result<Self, MerkleError> {
        let fits = !name.is_empty()
            && name.len() <= NAME_LEN_MAX
            && name.chars().all(|c| c.is_ascii_graphic() && c != '+');
        if !fits {
            return Err(MerkleError::OriginMalformed);
        }
        let name = name.to_owned();
        Ok(Self { name, public })
    }

    /// Reads what [`WitnessKey::to_text`] writes.
    pub fn parse(text: &str) -> Result<Self, MerkleError> {
        let read = || {
            let (name, rest) = text.split_once('+')?;
            let (_, key) = rest.split_once('+')?;
            let key = BASE64.decode(key).ok()?;
            let (kind, public) = key.split_first()?;
            let key = Self::new(name, public.try_into().ok()?).ok()?;
            (*kind == TYPE && key.to_text() == text).then_some(key)
        };
        read().ok_or(MerkleError::NoteMalformed {
            rule: "a witness's key must be name+id+key, of an Ed25519 cosigner (type 0x04)",
        })
    }

    /// The verifier key: name, key id in hexadecimal, type and key in base64, joined by plus signs.
    pub fn to_text(&self) -> String {
        let key = [&[TYPE], self.public.as_slice()].concat();
        let id = u32::from_be_bytes(self.key_id());
        format!("{}+{id:08x}+{}", self.name, BASE64.encode(key))
    }

    /// The name it signs under.
    pub fn name(&self) -> &str {
        &self.name
    }

    fn key_id(&self) -> [u8; 4] {
        let named = [self.name.as_bytes(), &[b'\n', TYPE], &self.public].concat();
        let mut id = [0; 4];
        for (to, from) in id.iter_mut().zip(Sha256::of(&named).as_bytes()) {
            *to = *from;
        }
        id
    }

    /// What a witness signs: the checkpoint as seen at `time` (seconds since 1970).
    pub fn message(checkpoint: &Checkpoint, time: u64) -> String {
        format!("cosignature/v1\ntime {time}\n{}", checkpoint.text())
    }

    /// The line that goes below a note, with its line feed, once the signature verifies.
    pub fn line(
        &self,
        checkpoint: &Checkpoint,
        time: u64,
        signature: &[u8],
    ) -> Result<String, MerkleError> {
        self.verify(checkpoint, time, signature)?;
        let blob = [&self.key_id()[..], &time.to_be_bytes()[..], signature].concat();
        Ok(format!("\u{2014} {} {}\n", self.name, BASE64.encode(blob)))
    }

    /// When this witness saw the checkpoint in the note, in seconds since 1970: its cosignature is
    /// there and verifies. The log's own signature is not looked at.
    pub fn witnessed(&self, note: &str, checkpoint: &Checkpoint) -> Result<u64, MerkleError> {
        let not_signed = || MerkleError::NotSigned {
            origin: self.name.clone(),
            key_id: format!("{:08x}", u32::from_be_bytes(self.key_id())),
        };
        let (_, lines) = note.rsplit_once("\n\n").ok_or_else(not_signed)?;
        let blobs = lines.lines().filter_map(|line| {
            let (name, blob) = line.strip_prefix("\u{2014} ")?.split_once(' ')?;
            (name == self.name).then(|| BASE64.decode(blob).ok())?
        });
        for blob in blobs {
            if let Some((id, rest)) = blob.split_first_chunk::<4>()
                && *id == self.key_id()
                && let Some((time, signature)) = rest.split_first_chunk::<8>()
            {
                let time = u64::from_be_bytes(*time);
                self.verify(checkpoint, time, signature)?;
                return Ok(time);
            }
        }
        Err(not_signed())
    }

    fn verify(
        &self,
        checkpoint: &Checkpoint,
        time: u64,
        signature: &[u8],
    ) -> Result<(), MerkleError> {
        UnparsedPublicKey::new(&ED25519, self.public)
            .verify(Self::message(checkpoint, time).as_bytes(), signature)
            .map_err(|_| MerkleError::SignatureWrong {
                origin: self.name.clone(),
                size: checkpoint.head().size,
                key_id: format!("{:08x}", u32::from_be_bytes(self.key_id())),
            })
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test that cannot unwrap has failed")]
mod tests {
    use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};

    use super::*;
    use crate::merkle::{Head, LogKey};

    /// The example of C2SP tlog-cosignature names no key; its layout is what is looked at.
    #[test]
    fn the_layout_is_that_of_the_specification() {
        let line = "jWbPPwAAAABkGFDLEZMHwSRaJNiIDoe9DYn/zXcrtPHeolMI5OWXEhZCB9dlrDJsX3b2oyin1nPZ\
                    qhf5nNo0xUe+mbIUBkBIfZ+qnA==";
        let blob = BASE64.decode(line).unwrap();
        assert_eq!(blob.len(), 4 + 8 + 64);
        let time = blob.get(4..12).unwrap().try_into().unwrap();
        assert_eq!(u64::from_be_bytes(time), 1_679_315_147);
    }

    #[test]
    fn a_cosignature_verifies_under_its_key_name_time_and_checkpoint_alone() {
        let pair = Ed25519KeyPair::generate().unwrap();
        let public = pair.public_key().as_ref().try_into().unwrap();
        let key = WitnessKey::new("witness.example/w1", public).unwrap();
        assert_eq!(WitnessKey::parse(&key.to_text()).unwrap(), key);
        let head = Head {
            size: 8,
            root: Sha256::of(b"root"),
        };
        let checkpoint = Checkpoint::new("kekd/audit/test", head).unwrap();
        let signature = pair.sign(WitnessKey::message(&checkpoint, 77).as_bytes());
        let line = key.line(&checkpoint, 77, signature.as_ref()).unwrap();
        assert!(key.line(&checkpoint, 78, signature.as_ref()).is_err());

        let note = format!("{}\n{line}", checkpoint.text());
        assert_eq!(key.witnessed(&note, &checkpoint).unwrap(), 77);
        let size = 9;
        let other = Checkpoint::new("kekd/audit/test", Head { size, ..head }).unwrap();
        assert!(key.witnessed(&note, &other).is_err());
        let renamed = WitnessKey::new("witness.example/w2", public).unwrap();
        assert!(renamed.witnessed(&note, &checkpoint).is_err());
        for bad in ["", "a", "a+b+c", &key.to_text().replace("w1", "w2")] {
            assert!(WitnessKey::parse(bad).is_err(), "{bad}");
        }
        // A log's own reader passes over it.
        let pair = aws_lc_rs::signature::EcdsaKeyPair::generate(
            &aws_lc_rs::signature::ECDSA_P256_SHA256_FIXED_SIGNING,
        )
        .unwrap();
        let spki = aws_lc_rs::encoding::AsDer::as_der(pair.public_key()).unwrap();
        let log_key = LogKey::from_spki(spki.as_ref()).unwrap();
        let random = aws_lc_rs::rand::SystemRandom::new();
        let raw = pair.sign(&random, checkpoint.text().as_bytes()).unwrap();
        let signed = checkpoint
            .clone()
            .into_note(&log_key, raw.as_ref())
            .unwrap();
        let both = format!("{signed}{line}");
        let opened = Checkpoint::open(&both, "kekd/audit/test", &log_key).unwrap();
        assert_eq!(key.witnessed(&both, &opened).unwrap(), 77);
    }
}
