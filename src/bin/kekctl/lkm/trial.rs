//! A trial DEK: a random value, wrapped here under a public key, that must come back as it was.

use anyhow::Context as _;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use der::Decode as _;
use der::asn1::UintRef;
use kekd::client::{Client, Release, UnwrapCall};
use kekd::proto::v1::PublicKeyFormat;
use kekd::public_key::{RsaPublicKey, rsa_spki};
use kekd::types::{DEK_LEN, EndUser, KeypairId, Padding, WrappedDek};
use zeroize::Zeroizing;

/// The trial and its wrapped form.
pub struct Trial {
    pub dek: Zeroizing<[u8; DEK_LEN]>,
    pub wrapped: WrappedDek,
}

impl Trial {
    pub fn new(key: &RsaPublicKey, padding: Padding) -> anyhow::Result<Self> {
        let mut dek = Zeroizing::new([0; DEK_LEN]);
        aws_lc_rs::rand::fill(&mut *dek)
            .ok()
            .context("the operating system gives no randomness")?;
        let wrapped = key.wrap(padding, &*dek)?;
        Ok(Self { dek, wrapped })
    }
}

/// Whether kekd unwraps what is wrapped under this version's public key.
pub async fn prove(client: &Client, id: KeypairId, padding: Padding) -> anyhow::Result<()> {
    let trial = Trial::new(&key_of(client, id).await?, padding)?;
    let call = UnwrapCall {
        keypair_id: id,
        wrapped_dek: trial.wrapped,
        padding,
        recipient: None,
        request_id: None,
        end_user: "kekctl lkm registration".parse::<EndUser>()?,
    };
    match client.unwrap(call).await?.release {
        Release::Dek(dek) if *dek.as_bytes() == *trial.dek => Ok(()),
        Release::Dek(_) | Release::Rewrapped(_) => anyhow::bail!("another value came back"),
    }
}

/// The public key of a version, from kekd.
pub async fn key_of(client: &Client, id: KeypairId) -> anyhow::Result<RsaPublicKey> {
    from_pkcs1(&client.get_public_key(id, PublicKeyFormat::Pkcs1Der).await?)
}

/// A public key from a file: base64 of `RSAPublicKey`, as it is registered, or PEM "PUBLIC KEY".
pub fn from_text(text: &str) -> anyhow::Result<RsaPublicKey> {
    let body: String = text.lines().filter(|line| !line.starts_with('-')).collect();
    let der = STANDARD
        .decode(body.trim())
        .context("the public key is neither base64 nor PEM")?;
    match text.contains("BEGIN PUBLIC KEY") {
        true => Ok(RsaPublicKey::from_spki(&der)?),
        false => from_pkcs1(&der),
    }
}

fn from_pkcs1(der: &[u8]) -> anyhow::Result<RsaPublicKey> {
    let key = Pkcs1::from_der(der).context("the public key is no DER RSAPublicKey (PKCS#1)")?;
    let spki = rsa_spki(key.modulus.as_bytes(), key.public_exponent.as_bytes())?;
    Ok(RsaPublicKey::from_spki(&spki)?)
}

/// `RSAPublicKey` (RFC 8017 appendix A.1.1).
#[derive(der::Sequence)]
struct Pkcs1<'a> {
    modulus: UintRef<'a>,
    public_exponent: UintRef<'a>,
}
