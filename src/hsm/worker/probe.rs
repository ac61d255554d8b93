//! What the token can do, found out by doing it. A list of mechanisms says that there is OAEP and
//! never with which hash, so keys are made in the session, used against what was encrypted outside,
//! and destroyed. No token key is touched.

use aws_lc_rs::rsa::{
    OAEP_SHA1_MGF1SHA1, OAEP_SHA256_MGF1SHA256, OaepPublicEncryptingKey, Pkcs1PublicEncryptingKey,
    PublicEncryptingKey,
};
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED, UnparsedPublicKey};
use cryptoki::mechanism::Mechanism;
use cryptoki::mechanism::rsa::PkcsOaepSource;
use cryptoki::object::{Attribute, ObjectHandle};
use cryptoki::session::Session;
use cryptoki::types::Ulong;

use super::error::JobError;
use super::return_value::{self, Class};
use super::seat::Seat;
use super::temporary::Temporary;
use super::{mechanism, public_key};
use crate::proto::worker::Probed;
use crate::types::{Padding, Sha256};

/// What is encrypted and signed; as long as a DEK.
const MESSAGE: &[u8; 32] = b"kekd probes what the token can d";
/// Two labels of OAEP.
const LABEL: &[u8] = b"kekd probe";
/// The probe's RSA keys are small, because they are made at every start.
const MODULUS_BITS: Ulong = Ulong::new(2048);

/// Tries everything once and remembers it for this worker.
pub(super) fn probe(seat: &mut Seat) -> Result<Probed, JobError> {
    let mut probed = Probed {
        ecdsa_p256: found(ecdsa(&seat.token().session()?))?,
        hmac_sha256: found(hmac(&seat.token().session()?))?,
        ..Probed::default()
    };
    rsa(seat, &mut probed)?;
    seat.token().set_probed(&probed);
    Ok(probed)
}

/// An answer of the token is a finding; that it is gone is not.
fn found(outcome: Result<bool, JobError>) -> Result<bool, JobError> {
    match outcome {
        Err(error) => match error.class() {
            Some(Class::SessionLost | Class::LinkLost) | None => Err(error),
            Some(
                Class::BadCiphertext
                | Class::Unsupported
                | Class::Refused
                | Class::PinRefused
                | Class::Ambiguous,
            ) => Ok(false),
        },
        outcome => outcome,
    }
}

fn rsa(seat: &mut Seat, probed: &mut Probed) -> Result<(), JobError> {
    // The key lives in this session; each attempt has its own, as one that failed is not reused.
    let home = seat.token().session()?;
    let key = RsaKey::generate(&home)?;
    let attempt = |mechanism: &Mechanism<'_>, ciphertext: &[u8]| {
        let session = seat.token().session()?;
        let plaintext = session.decrypt(mechanism, key.private.handle(), ciphertext)?;
        Ok(plaintext == MESSAGE)
    };
    for padding in [Padding::OaepSha1, Padding::OaepSha256] {
        let plain = key.oaep(padding, None)?;
        if !found(attempt(&mechanism::of(padding), &plain))? {
            continue;
        }
        match padding {
            Padding::OaepSha1 => probed.oaep_sha1 = true,
            Padding::OaepSha256 | Padding::Pkcs1V15 => probed.oaep_sha256 = true,
        }
        let labelled = mechanism::oaep(padding, PkcsOaepSource::data_specified(LABEL));
        let under_label = key.oaep(padding, Some(LABEL))?;
        // The token must take the right label, and must not take another.
        probed.oaep_label_honoured =
            found(attempt(&labelled, &under_label))? && !found(attempt(&labelled, &plain))?;
    }
    probed.pkcs1_v1_5 = found(attempt(&Mechanism::RsaPkcs, &key.pkcs1()?))?;
    // Below the modulus, whose highest bit is set, and hardly a valid padding.
    let mut junk = vec![0x55; key.len];
    if let Some(first) = junk.first_mut() {
        *first = 0;
    }
    probed.junk_return_value = match attempt(&mechanism::of(Padding::OaepSha1), &junk) {
        Ok(_) => "CKR_OK".to_owned(),
        Err(error) => match error.return_value() {
            Some(code) => return_value::name(code),
            None => return Err(error),
        },
    };
    Ok(())
}

struct RsaKey<'session> {
    private: Temporary<'session>,
    _public: Temporary<'session>,
    spki: Vec<u8>,
    len: usize,
}

impl<'session> RsaKey<'session> {
    fn generate(session: &'session Session) -> Result<Self, JobError> {
        let public = [
            Attribute::Token(false),
            Attribute::ModulusBits(MODULUS_BITS),
            Attribute::PublicExponent(vec![1, 0, 1]),
        ];
        let private = [
            Attribute::Token(false),
            Attribute::Private(true),
            Attribute::Sensitive(true),
            Attribute::Extractable(false),
            Attribute::Decrypt(true),
            Attribute::Sign(false),
        ];
        let (public, private) =
            session.generate_key_pair(&Mechanism::RsaPkcsKeyPairGen, &public, &private)?;
        let (public, private) = (
            Temporary::new(session, public),
            Temporary::new(session, private),
        );
        let spki = public_key::rsa(session, public.handle())?
            .ok_or_else(|| JobError::link_lost("the token does not show an RSA public key"))?;
        let len = encrypting(&spki)?.key_size_bytes();
        Ok(Self {
            private,
            _public: public,
            spki,
            len,
        })
    }

    fn oaep(&self, padding: Padding, label: Option<&[u8]>) -> Result<Vec<u8>, JobError> {
        let algorithm = match padding {
            Padding::OaepSha1 => &OAEP_SHA1_MGF1SHA1,
            Padding::OaepSha256 | Padding::Pkcs1V15 => &OAEP_SHA256_MGF1SHA256,
        };
        let mut ciphertext = vec![0; self.len];
        OaepPublicEncryptingKey::new(encrypting(&self.spki)?)
            .and_then(|key| {
                key.encrypt(algorithm, MESSAGE, &mut ciphertext, label)
                    .map(|_| ())
            })
            .map_err(|_| unsound())?;
        Ok(ciphertext)
    }

    fn pkcs1(&self) -> Result<Vec<u8>, JobError> {
        let mut ciphertext = vec![0; self.len];
        Pkcs1PublicEncryptingKey::new(encrypting(&self.spki)?)
            .and_then(|key| key.encrypt(MESSAGE, &mut ciphertext).map(|_| ()))
            .map_err(|_| unsound())?;
        Ok(ciphertext)
    }
}

fn encrypting(spki: &[u8]) -> Result<PublicEncryptingKey, JobError> {
    PublicEncryptingKey::from_der(spki).map_err(|_| unsound())
}

fn unsound() -> JobError {
    JobError::link_lost("nothing can be encrypted under the RSA key the token made")
}

fn ecdsa(session: &Session) -> Result<bool, JobError> {
    let public = [
        Attribute::Token(false),
        Attribute::EcParams(public_key::p256_params()?),
    ];
    let private = [
        Attribute::Token(false),
        Attribute::Private(true),
        Attribute::Sensitive(true),
        Attribute::Extractable(false),
        Attribute::Sign(true),
    ];
    let (public, private) =
        session.generate_key_pair(&Mechanism::EccKeyPairGen, &public, &private)?;
    let (public, private) = (
        Temporary::new(session, public),
        Temporary::new(session, private),
    );
    let digest = Sha256::of(MESSAGE);
    let signature = session.sign(&Mechanism::Ecdsa, private.handle(), digest.as_bytes())?;
    let Some(spki) = public_key::ec_p256(session, public.handle())? else {
        return Ok(false);
    };
    let key = UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, spki);
    Ok(key.verify(MESSAGE, &signature).is_ok())
}

/// The key cannot be taken out to compare, so the tag must be of the right length, the same twice,
/// and another for another message.
fn hmac(session: &Session) -> Result<bool, JobError> {
    let template = [
        Attribute::Token(false),
        Attribute::Private(true),
        Attribute::Sensitive(true),
        Attribute::Extractable(false),
        Attribute::Sign(true),
        Attribute::ValueLen(Ulong::new(32)),
    ];
    let key = session.generate_key(&Mechanism::GenericSecretKeyGen, &template)?;
    let key = Temporary::new(session, key);
    let tag = |message: &[u8]| sign(session, key.handle(), message);
    let first = tag(MESSAGE)?;
    Ok(first.len() == 32 && first == tag(MESSAGE)? && first != tag(LABEL)?)
}

fn sign(session: &Session, key: ObjectHandle, message: &[u8]) -> Result<Vec<u8>, JobError> {
    Ok(session.sign(&Mechanism::Sha256Hmac, key, message)?)
}
