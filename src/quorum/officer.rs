//! Officers and their public keys. A key is compared by what it is (curve point or modulus), never
//! by its text, comment or the name it goes by, because threshold counting stands on it. No
//! signature is looked at here.

use ssh_key::public::KeyData;
use ssh_key::{EcdsaCurve, PublicKey};

/// Most officers an instance can have.
pub const OFFICERS_MAX: usize = 32;
/// Longest public key accepted, in characters of OpenSSH text; RSA-8192 takes about 1,420.
const KEY_TEXT_LEN_MAX: usize = 4096;
/// Sizes of RSA moduli accepted, in bits.
const RSA_BITS: std::ops::RangeInclusive<usize> = 3072..=8192;

/// What an officer is trusted with.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Deserialize, serde::Serialize,
)]
#[serde(rename_all = "kebab-case")]
pub enum OfficerRole {
    /// Creates, rotates, reinstates and destroys keys.
    KeyCustodian,
    /// Grants and binds.
    PolicyOfficer,
}

/// A person with a signing key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Officer {
    /// The name, unique among officers and clients.
    pub name: String,
    /// What the officer is trusted with.
    pub role: OfficerRole,
    /// The public key.
    pub key: OfficerKey,
}

/// Why a public key cannot be an officer's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// Not one line as in a `.pub` file.
    #[error("expected one line as in an OpenSSH .pub file; found text that is none")]
    Malformed,
    /// A kind of key that is not accepted.
    #[error(
        "expected ssh-ed25519, sk-ssh-ed25519@openssh.com, ecdsa-sha2-nistp256, \
         sk-ecdsa-sha2-nistp256@openssh.com or ssh-rsa; found {found}"
    )]
    KindNotAccepted {
        /// The kind found.
        found: String,
    },
    /// An RSA key that is too small or too large.
    #[error("expected an RSA key of 3072 to 8192 bits; found {found_bits} bits")]
    RsaSize {
        /// Length of the modulus found, in bits.
        found_bits: usize,
    },
    /// An elliptic curve point that is not in its one form, or under which anybody can sign.
    #[error("expected a point in its canonical form and of full order; found another")]
    WeakPoint,
}

/// The public key of an officer, of an accepted kind and strength.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OfficerKey {
    pub(super) material: Material,
    /// The FIDO application, for example "ssh:", where the key lives in a security key.
    pub(super) application: Option<String>,
}

/// What a key is, whatever it is wrapped in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Material {
    /// RFC 8032, 32 bytes.
    Ed25519([u8; 32]),
    /// Uncompressed point of SEC 1 section 2.3.3, 65 bytes.
    P256(Vec<u8>),
    /// Modulus and exponent, big-endian without zeros in front.
    Rsa { n: Vec<u8>, e: Vec<u8> },
}

impl OfficerKey {
    /// Reads a line of a `.pub` file: kind, base64, comment.
    pub fn from_openssh(text: &str) -> Result<Self, KeyError> {
        if text.len() > KEY_TEXT_LEN_MAX || text.chars().any(char::is_control) {
            return Err(KeyError::Malformed);
        }
        match PublicKey::from_openssh(text) {
            Ok(key) => Self::from_data(key.key_data()),
            Err(_) => Err(KeyError::Malformed),
        }
    }

    pub(super) fn from_data(data: &KeyData) -> Result<Self, KeyError> {
        let not_accepted = || KeyError::KindNotAccepted {
            found: data.algorithm().as_str().chars().take(64).collect(),
        };
        let (material, application) = if let Some(key) = data.ed25519() {
            (ed25519(key.0)?, None)
        } else if let Some(key) = data.sk_ed25519() {
            let application = key.application().to_owned();
            (ed25519(key.public_key().0)?, Some(application))
        } else if let Some(key) = data.ecdsa() {
            if key.curve() != EcdsaCurve::NistP256 {
                return Err(not_accepted());
            }
            (p256(key.as_sec1_bytes())?, None)
        } else if let Some(key) = data.sk_ecdsa_p256() {
            let application = key.application().to_owned();
            (p256(key.ec_point().as_bytes())?, Some(application))
        } else if let Some(key) = data.rsa() {
            let positive = |number: &ssh_key::Mpint| {
                let bytes = number.as_positive_bytes().filter(|b| !b.is_empty());
                bytes.map(<[u8]>::to_vec).ok_or(KeyError::Malformed)
            };
            (rsa(positive(&key.n)?, positive(&key.e)?)?, None)
        } else {
            return Err(not_accepted());
        };
        Ok(Self {
            material,
            application,
        })
    }

    /// Whether both are one key: the same point or modulus, in a security key or not.
    pub fn is_same_key(&self, other: &Self) -> bool {
        match (&self.material, &other.material) {
            (Material::Rsa { n, .. }, Material::Rsa { n: other, .. }) => n == other,
            (this, other) => this == other,
        }
    }
}

/// The y coordinates of the points of order 1, 2, 4 and 8, little-endian. Under such a key a
/// signature for any message can be made without a private key (RFC 8032 section 8.9 leaves the
/// check to the protocol).
const ED25519_SMALL_ORDER_Y: [[u8; 32]; 5] = [
    [0; 32],
    {
        let mut one = [0; 32];
        one[0] = 1;
        one
    },
    [
        0x26, 0xe8, 0x95, 0x8f, 0xc2, 0xb2, 0x27, 0xb0, 0x45, 0xc3, 0xf4, 0x89, 0xf2, 0xef, 0x98,
        0xf0, 0xd5, 0xdf, 0xac, 0x05, 0xd3, 0xc6, 0x33, 0x39, 0xb1, 0x38, 0x02, 0x88, 0x6d, 0x53,
        0xfc, 0x05,
    ],
    [
        0xc7, 0x17, 0x6a, 0x70, 0x3d, 0x4d, 0xd8, 0x4f, 0xba, 0x3c, 0x0b, 0x76, 0x0d, 0x10, 0x67,
        0x0f, 0x2a, 0x20, 0x53, 0xfa, 0x2c, 0x39, 0xcc, 0xc6, 0x4e, 0xc7, 0xfd, 0x77, 0x92, 0xac,
        0x03, 0x7a,
    ],
    {
        let mut minus_one = ED25519_PRIME;
        minus_one[0] -= 1;
        minus_one
    },
];

/// 2^255 - 19, little-endian.
const ED25519_PRIME: [u8; 32] = {
    let mut prime = [0xff; 32];
    prime[0] = 0xed;
    prime[31] = 0x7f;
    prime
};

fn ed25519(key: [u8; 32]) -> Result<Material, KeyError> {
    let mut y = key;
    let [.., top] = &mut y;
    *top &= 0x7f; // The top bit is the sign of x.
    let canonical = y.iter().rev().lt(ED25519_PRIME.iter().rev());
    if !canonical || ED25519_SMALL_ORDER_Y.contains(&y) {
        return Err(KeyError::WeakPoint);
    }
    Ok(Material::Ed25519(key))
}

/// P-256 has no points of small order; whether the point is on the curve shows when a signature is
/// verified.
fn p256(point: &[u8]) -> Result<Material, KeyError> {
    match point {
        [0x04, coordinates @ ..] if coordinates.len() == 64 => Ok(Material::P256(point.to_vec())),
        _ => Err(KeyError::WeakPoint),
    }
}

fn rsa(n: Vec<u8>, e: Vec<u8>) -> Result<Material, KeyError> {
    let unused = n.first().map_or(0, |byte| byte.leading_zeros());
    let found_bits = n
        .len()
        .saturating_mul(8)
        .saturating_sub(usize::try_from(unused).unwrap_or(usize::MAX));
    if !RSA_BITS.contains(&found_bits) {
        return Err(KeyError::RsaSize { found_bits });
    }
    Ok(Material::Rsa { n, e })
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test that cannot unwrap has failed")]
mod tests {
    use aws_lc_rs::signature::{ED25519, UnparsedPublicKey};

    use super::*;

    #[test]
    fn weak_ed25519_points_are_refused_and_truly_weak() {
        for y in ED25519_SMALL_ORDER_Y {
            for sign in [0, 0x80] {
                let mut key = y;
                *key.last_mut().unwrap() |= sign;
                assert_eq!(ed25519(key), Err(KeyError::WeakPoint));
            }
            // R is the point itself or the neutral one, S is 0: no private key took part.
            let neutral = *ED25519_SMALL_ORDER_Y.get(1).unwrap();
            let forged = (0..64_u8).any(|n| {
                [y, neutral].iter().any(|r| {
                    let signature = [&r[..], &[0; 32]].concat();
                    UnparsedPublicKey::new(&ED25519, y)
                        .verify(&[n], &signature)
                        .is_ok()
                })
            });
            assert!(forged, "{y:02x?} is not weak");
        }
        assert_eq!(ed25519(ED25519_PRIME), Err(KeyError::WeakPoint));
        assert_eq!(ed25519([0xff; 32]), Err(KeyError::WeakPoint));
        assert!(ed25519([0x11; 32]).is_ok());
    }

    #[test]
    fn texts_that_are_no_keys_are_refused() {
        let key =
            "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAILM+rvN+ot98qgEN796jTiQfZfG1KaT0PtFDJ/XFSqti a b";
        assert!(OfficerKey::from_openssh(key).is_ok());
        for bad in [
            String::new(),
            "ssh-ed25519".to_owned(),
            format!("{key}\n{key}"),
            format!("no-pty {key}"),
            key.replace("AAAAC3", "AAAAC4"),
            key.replace("ssh-ed25519 ", "ssh-rsa "),
            format!("{key}{}", "x".repeat(5000)),
        ] {
            let found = OfficerKey::from_openssh(&bad);
            assert_eq!(found, Err(KeyError::Malformed), "{bad}");
        }
    }
}
