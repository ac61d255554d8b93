//! What the token can do, found out by doing it. A list of mechanisms says that there is OAEP and
//! never with which hash, so keys are made in the session, used against what was encrypted outside,
//! and destroyed. No token key is touched.

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
use crate::public_key::{PublicKeyError, RsaPublicKey};
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
        let plain = key.outside.wrap(padding, MESSAGE).map_err(unsound)?;
        let plain = plain.as_bytes();
        if !found(attempt(&mechanism::of(padding), plain))? {
            continue;
        }
        match padding {
            Padding::OaepSha1 => probed.oaep_sha1 = true,
            Padding::OaepSha256 | Padding::Pkcs1V15 => probed.oaep_sha256 = true,
        }
        let labelled = mechanism::oaep(padding, PkcsOaepSource::data_specified(LABEL));
        let under_label = key.outside.wrap_labelled(padding, MESSAGE, LABEL);
        let under_label = under_label.map_err(unsound)?;
        // The token must take the right label, and must not take another.
        probed.oaep_label_honoured = found(attempt(&labelled, under_label.as_bytes()))?
            && !found(attempt(&labelled, plain))?;
    }
    let pkcs1 = key
        .outside
        .wrap(Padding::Pkcs1V15, MESSAGE)
        .map_err(unsound)?;
    probed.pkcs1_v1_5 = found(attempt(&Mechanism::RsaPkcs, pkcs1.as_bytes()))?;
    // Below the modulus, whose highest bit is set, and hardly a valid padding.
    let mut junk = vec![0x55; key.outside.modulus().len()];
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
    outside: RsaPublicKey,
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
        let (public, private) = pair(session, &Mechanism::RsaPkcsKeyPairGen, &public, &private)?;
        let spki = public_key::rsa(session, public.handle())?
            .ok_or_else(|| JobError::link_lost("the token does not show an RSA public key"))?;
        Ok(Self {
            private,
            _public: public,
            outside: RsaPublicKey::from_spki(&spki).map_err(unsound)?,
        })
    }
}

fn unsound(error: PublicKeyError) -> JobError {
    JobError::link_lost(format!(
        "the RSA key the token made cannot be used: {error}"
    ))
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
    let (public, private) = pair(session, &Mechanism::EccKeyPairGen, &public, &private)?;
    let digest = Sha256::of(MESSAGE);
    let signature = session.sign(&Mechanism::Ecdsa, private.handle(), digest.as_bytes())?;
    let key = public_key::ec_p256(session, public.handle())?;
    Ok(key.is_some_and(|key| key.verify_raw(MESSAGE, &signature).is_ok()))
}

fn pair<'session>(
    session: &'session Session,
    mechanism: &Mechanism<'_>,
    public: &[Attribute],
    private: &[Attribute],
) -> Result<(Temporary<'session>, Temporary<'session>), JobError> {
    let (public, private) = session.generate_key_pair(mechanism, public, private)?;
    Ok((
        Temporary::new(session, public),
        Temporary::new(session, private),
    ))
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
