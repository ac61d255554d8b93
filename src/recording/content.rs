//! A recording opened: its plaintext, in memory that wipes itself. With GCM the tag is verified
//! before the first byte is decrypted; with CBC, which has no tag, only the padding can tell a wrong
//! DEK, and one in about 256 wrong ones passes. Whatever does not open gives one error.

use aes_gcm::aead::AeadInOut as _;
use aes_gcm::{Aes256Gcm, KeyInit as _};
use cbc::cipher::array::Array;
use cbc::cipher::{Block, BlockModeDecrypt as _, KeyIvInit as _};
use zeroize::Zeroizing;

use super::cipher::{Cipher, IV_LEN, NONCE_LEN, TAG_LEN};
use super::{CHUNK_LEN, Envelope, Fault, RecordingError};
use crate::types::DEK_LEN;

type Aes256CbcDecryptor = cbc::Decryptor<aes::Aes256>;

/// The plaintext of a recording. It has no `Debug` and wipes itself when dropped.
pub struct Content(Zeroizing<Vec<u8>>);

impl Content {
    /// The bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl Envelope {
    /// Decrypts the content in place. `progress` gets the bytes done and their number: with CBC
    /// often, with GCM at the start and at the end.
    ///
    /// Fails with [`Fault::DoesNotOpen`] if the DEK is another or the file was changed.
    pub fn open(
        self,
        dek: &[u8; DEK_LEN],
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<Content, RecordingError> {
        let Self {
            file,
            mut ciphertext,
            cipher,
            ..
        } = self;
        let opened = match cipher {
            Cipher::Gcm { nonce, aad, tag } => {
                open_gcm(dek, &nonce, &aad, &tag, &mut ciphertext, progress)
            }
            Cipher::Cbc { iv } => open_cbc(dek, &iv, &mut ciphertext, progress),
        };
        match opened {
            Some(()) => Ok(Content(ciphertext)),
            None => Err(Fault::DoesNotOpen.of(&file)),
        }
    }
}

fn open_gcm(
    dek: &[u8; DEK_LEN],
    nonce: &[u8; NONCE_LEN],
    aad: &[u8],
    tag: &[u8; TAG_LEN],
    bytes: &mut [u8],
    progress: &mut dyn FnMut(u64, u64),
) -> Option<()> {
    let total = bytes.len() as u64;
    progress(0, total);
    let cipher = Aes256Gcm::new(dek.into());
    cipher
        .decrypt_inout_detached(nonce.into(), aad, bytes.into(), tag.into())
        .ok()?;
    progress(total, total);
    Some(())
}

fn open_cbc(
    dek: &[u8; DEK_LEN],
    iv: &[u8; IV_LEN],
    bytes: &mut Vec<u8>,
    progress: &mut dyn FnMut(u64, u64),
) -> Option<()> {
    let total = bytes.len() as u64;
    let (blocks, rest) = Array::slice_as_chunks_mut(bytes);
    if blocks.is_empty() || !rest.is_empty() {
        return None;
    }
    let mut decryptor = Aes256CbcDecryptor::new(dek.into(), iv.into());
    let mut done = 0;
    for chunk in blocks.chunks_mut(CHUNK_LEN / IV_LEN) {
        let chunk: &mut [Block<Aes256CbcDecryptor>] = chunk;
        decryptor.decrypt_blocks(chunk);
        done += (chunk.len() * IV_LEN) as u64;
        progress(done, total);
    }
    let len = unpadded_len(bytes)?;
    bytes.truncate(len);
    Some(())
}

/// How many bytes precede the padding of RFC 5652 section 6.3: 1 to 16 bytes that each say how many
/// they are.
fn unpadded_len(bytes: &[u8]) -> Option<usize> {
    let count = usize::from(*bytes.last()?);
    if !(1..=IV_LEN).contains(&count) {
        return None;
    }
    let len = bytes.len().checked_sub(count)?;
    let padding = bytes.get(len..)?;
    padding
        .iter()
        .all(|byte| usize::from(*byte) == count)
        .then_some(len)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn padding_is_one_to_sixteen_equal_bytes() {
        let block = |tail: &[u8]| [&vec![9; 32 - tail.len()], tail].concat();
        let cases: [(Vec<u8>, Option<usize>); 7] = [
            (block(&[1]), Some(31)),
            (block(&[2, 2]), Some(30)),
            (block(&[16; 16]), Some(16)),
            (block(&[3, 2, 3]), None),
            (block(&[0]), None),
            (block(&[17; 17]), None),
            (vec![], None),
        ];
        for (bytes, len) in cases {
            assert_eq!(unpadded_len(&bytes), len, "{bytes:?}");
        }
    }
}
