//! What keys in files are encrypted with under a passphrase: PBES2 (RFC 8018), and the scheme with
//! three-key triple DES of PKCS#12 (RFC 7292 appendix C), which files before 2021 have. Weaker ones
//! are not read: `openssl` converts such a file.

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, SHA1_OUTPUT_LEN, digest};
use cbc::cipher::block_padding::Pkcs7;
use cbc::cipher::{BlockModeDecrypt as _, KeyIvInit as _};
use der::asn1::{ObjectIdentifier, OctetStringRef};
use der::{Decode as _, Encode as _, Sequence};
use pkcs5::EncryptionScheme;
use x509_cert::spki::AlgorithmIdentifierRef;
use zeroize::Zeroizing;

use super::malformed;

/// pbeWithSHAAnd3-KeyTripleDES-CBC.
const SHA1_TRIPLE_DES: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.12.1.3");
/// Most rounds of a derivation: seconds.
const ROUNDS_MAX: u32 = 10_000_000;
/// SHA-1's block, `v / 8` in RFC 7292 appendix B.
const BLOCK_LEN: usize = 64;
/// Bytes of a triple-DES key.
const KEY_LEN: usize = 24;
/// Bytes of its initialisation vector.
const IV_LEN: usize = 8;

/// `pkcs-12PbeParams`.
#[derive(Sequence)]
struct Parameters<'a> {
    salt: &'a OctetStringRef,
    rounds: u32,
}

/// Decrypts. A wrong passphrase and a damaged file look the same.
pub fn decrypt(
    algorithm: &AlgorithmIdentifierRef<'_>,
    passphrase: &str,
    encrypted: &[u8],
) -> anyhow::Result<Zeroizing<Vec<u8>>> {
    if algorithm.oid == SHA1_TRIPLE_DES {
        return triple_des(algorithm, passphrase, encrypted);
    }
    let encoded = algorithm.to_der()?;
    let scheme = EncryptionScheme::from_der(&encoded);
    let decrypted = match scheme {
        Ok(scheme @ EncryptionScheme::Pbes2(_)) => scheme.decrypt(passphrase, encrypted),
        Ok(EncryptionScheme::Pbes1(_)) | Err(_) => return Err(unsupported(algorithm.oid)),
        // The enum may grow.
        Ok(_) => return Err(unsupported(algorithm.oid)),
    };
    match decrypted {
        Ok(bytes) => Ok(Zeroizing::new(bytes)),
        Err(pkcs5::Error::DecryptFailed) => Err(wrong()),
        Err(error) => Err(malformed(format!(
            "the key's encryption is not read: {error}"
        ))),
    }
}

fn wrong() -> anyhow::Error {
    malformed("the key does not decrypt: the passphrase is wrong, or the file is damaged")
}

fn unsupported(oid: ObjectIdentifier) -> anyhow::Error {
    malformed(format!(
        "the key is encrypted with the algorithm {oid}, which kekctl does not read; convert it with \
         `openssl pkcs8 -topk8 -v2 aes-256-cbc`, or `openssl pkcs12 -legacy -nodes` on a machine \
         that may have it in clear"
    ))
}

fn triple_des(
    algorithm: &AlgorithmIdentifierRef<'_>,
    passphrase: &str,
    encrypted: &[u8],
) -> anyhow::Result<Zeroizing<Vec<u8>>> {
    let parameters = algorithm
        .parameters
        .ok_or_else(|| unsupported(algorithm.oid))?;
    let Parameters { salt, rounds } = parameters.decode_as()?;
    if !(1..=ROUNDS_MAX).contains(&rounds) {
        return Err(malformed(format!(
            "the key's encryption has {rounds} rounds; expected 1 to {ROUNDS_MAX}"
        )));
    }
    let salt = salt.as_bytes();
    let (mut key, mut iv) = (Zeroizing::new([0; KEY_LEN]), [0; IV_LEN]);
    derive(passphrase, salt, rounds, 1, key.as_mut());
    derive(passphrase, salt, rounds, 2, &mut iv);
    let mut bytes = Zeroizing::new(encrypted.to_vec());
    let decryptor = cbc::Decryptor::<des::TdesEde3>::new((&*key).into(), (&iv).into());
    let len = match decryptor.decrypt_padded::<Pkcs7>(&mut bytes) {
        Ok(plain) => plain.len(),
        Err(_) => return Err(wrong()),
    };
    bytes.truncate(len);
    Ok(bytes)
}

/// RFC 7292 appendix B.2 with SHA-1. `purpose` is 1 for a key and 2 for an initialisation vector.
fn derive(passphrase: &str, salt: &[u8], rounds: u32, purpose: u8, output: &mut [u8]) {
    let mut phrase = Zeroizing::new(Vec::with_capacity(passphrase.len().saturating_mul(2) + 2));
    // BMPString, with the zero at its end.
    for unit in passphrase.encode_utf16().chain([0]) {
        phrase.extend(unit.to_be_bytes());
    }
    let filled = |bytes: &[u8]| -> Zeroizing<Vec<u8>> {
        let len = bytes.len().div_ceil(BLOCK_LEN) * BLOCK_LEN;
        Zeroizing::new(bytes.iter().copied().cycle().take(len).collect())
    };
    let mut input = Zeroizing::new([filled(salt).as_slice(), filled(&phrase).as_slice()].concat());
    for chunk in output.chunks_mut(SHA1_OUTPUT_LEN) {
        let mut hashed = Zeroizing::new([&[purpose; BLOCK_LEN], input.as_slice()].concat());
        for _ in 0..rounds {
            let next = digest(&SHA1_FOR_LEGACY_USE_ONLY, &hashed);
            hashed = Zeroizing::new(next.as_ref().to_vec());
        }
        for (byte, of_hash) in chunk.iter_mut().zip(hashed.iter()) {
            *byte = *of_hash;
        }
        add_to_blocks(&mut input, &hashed);
    }
}

/// I_j = (I_j + B + 1) mod 2^v, for each block of the input.
fn add_to_blocks(input: &mut [u8], hashed: &[u8]) {
    let addend: Vec<u8> = hashed.iter().copied().cycle().take(BLOCK_LEN).collect();
    let addend = Zeroizing::new(addend);
    for block in input.chunks_mut(BLOCK_LEN) {
        let mut carry = 1_u16;
        for (byte, of_addend) in block.iter_mut().zip(addend.iter()).rev() {
            let sum = u16::from(*byte) + u16::from(*of_addend) + carry;
            let [high, low] = sum.to_be_bytes();
            *byte = low;
            carry = u16::from(high);
        }
    }
}
