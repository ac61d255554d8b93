//! Who is at the other end of a connection, as the transport proved it, and whether that proof
//! still stands. A long-lived connection outlives its certificate, so standing is asked anew for
//! every request.
//!
//! The invariant: an identity comes from exactly one URI in the subject alternative name, byte for
//! byte, and never from a common name.

use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;

use der::{Decode as _, Encode as _};
use x509_cert::certificate::Certificate;
use x509_cert::crl::CertificateList;
use x509_cert::ext::pkix::SubjectAltName;
use x509_cert::ext::pkix::name::GeneralName;
use x509_cert::time::Time;

use super::hang_up::HangUp;
use crate::access::Identity;
use crate::clock::UnixMs;
use crate::types::TypeError;

/// The other end of an accepted connection. Every request carries it as an extension.
#[derive(Debug, Clone)]
pub struct Peer {
    /// The identity as the transport proved it.
    pub identity: Identity,
    /// Where it calls from, for logs: an address and port, or "unix".
    pub address: Arc<str>,
    /// Its certificate; none on a Unix socket.
    pub certificate: Option<Arc<PeerCertificate>>,
    /// Ends its connection.
    pub hang_up: HangUp,
}

impl Peer {
    /// Whether the peer's certificate is still good: not expired and not in `revocations`.
    ///
    /// # Errors
    /// Where it is not. The caller may connect again with a new certificate.
    pub fn standing(&self, revocations: &Revocations, now: UnixMs) -> Result<(), StandingError> {
        let Some(certificate) = &self.certificate else {
            return Ok(());
        };
        if now > certificate.not_after {
            return Err(StandingError::Expired);
        }
        if revocations.0.contains(&certificate.number) {
            return Err(StandingError::Revoked);
        }
        Ok(())
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.identity, self.address)
    }
}

/// What names a certificate for its revocation (RFC 5280 section 5): DER of the issuer's name, and
/// the serial number.
type Number = (Vec<u8>, Vec<u8>);

/// What kekd needs to know of a verified client certificate.
#[derive(Debug)]
pub struct PeerCertificate {
    identity: Identity,
    number: Number,
    not_after: UnixMs,
}

/// Why a verified certificate is nobody's. The caller's to mend.
#[derive(Debug, thiserror::Error)]
pub enum PeerError {
    /// It is not X.509 as kekd reads it.
    #[error("the client certificate cannot be read: {0}")]
    Unreadable(der::Error),
    /// No URI, or more than one.
    #[error("the client certificate has {0} URIs in its subject alternative name, one is needed")]
    NotOneUri(usize),
    /// The one URI is no identity.
    #[error("the URI in the client certificate is no identity: {0}")]
    NotAnIdentity(TypeError),
}

impl PeerError {
    /// The stable reason for the audit log.
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::Unreadable(_) => "CERTIFICATE_UNREADABLE",
            Self::NotOneUri(_) => "IDENTITY_NOT_ONE_URI",
            Self::NotAnIdentity(_) => "IDENTITY_MALFORMED",
        }
    }
}

impl PeerCertificate {
    /// Reads a certificate that the TLS handshake has verified.
    ///
    /// # Errors
    /// Where it does not hold exactly one URI that is an identity.
    pub fn from_der(der: &[u8]) -> Result<Self, PeerError> {
        let certificate = Certificate::from_der(der).map_err(PeerError::Unreadable)?;
        let tbs = certificate.tbs_certificate();
        let names = tbs
            .get_extension::<SubjectAltName>()
            .map_err(PeerError::Unreadable)?;
        let names = names.map(|(_, names)| names.0).unwrap_or_default();
        let uris: Vec<&str> = names.iter().filter_map(uri).collect();
        let [uri] = uris.as_slice() else {
            return Err(PeerError::NotOneUri(uris.len()));
        };
        Ok(Self {
            identity: identity(uri)?,
            number: (
                tbs.issuer().to_der().map_err(PeerError::Unreadable)?,
                tbs.serial_number().as_bytes().to_vec(),
            ),
            not_after: unix_ms(tbs.validity().not_after),
        })
    }

    /// The identity it proves.
    pub const fn identity(&self) -> &Identity {
        &self.identity
    }
}

fn uri(name: &GeneralName) -> Option<&str> {
    if let GeneralName::UniformResourceIdentifier(uri) = name {
        Some(uri.as_str())
    } else {
        None
    }
}

/// A certificate that says `uid:0` must not become the peer of a Unix socket.
fn identity(uri: &str) -> Result<Identity, PeerError> {
    match uri.parse().map_err(PeerError::NotAnIdentity)? {
        identity @ Identity::Uri(_) => Ok(identity),
        Identity::Uid(_) => Err(PeerError::NotAnIdentity(TypeError {
            what: "the URI in a certificate",
            rule: "another than uid:N, which names the peer of a Unix socket",
        })),
    }
}

/// The time as milliseconds since 1970. X.509 has no times before 1950 and none is useful before
/// 1970.
pub fn unix_ms(time: Time) -> UnixMs {
    UnixMs(u64::try_from(time.to_unix_duration().as_millis()).unwrap_or(u64::MAX))
}

/// Why a certificate that was good at the handshake is good no more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum StandingError {
    /// Its validity ended.
    #[error("the client certificate has expired")]
    Expired,
    /// The revocation list names it.
    #[error("the client certificate is revoked")]
    Revoked,
}

impl StandingError {
    /// The stable reason.
    pub const fn reason(self) -> &'static str {
        match self {
            Self::Expired => "CERTIFICATE_EXPIRED",
            Self::Revoked => "CERTIFICATE_REVOKED",
        }
    }
}

/// The certificates that the lists now loaded revoke.
#[derive(Debug, Default)]
pub struct Revocations(HashSet<Number>);

impl Revocations {
    /// Takes in one revocation list. Signatures are not checked here: the file is the operator's,
    /// and an entry can only shut out.
    ///
    /// # Errors
    /// Where it is not a DER certificate revocation list (RFC 5280 section 5.1).
    pub fn add(&mut self, der: &[u8]) -> Result<(), der::Error> {
        let tbs = CertificateList::<x509_cert::certificate::Rfc5280>::from_der(der)?.tbs_cert_list;
        let issuer = tbs.issuer.to_der()?;
        for revoked in tbs.revoked_certificates.unwrap_or_default() {
            self.0
                .insert((issuer.clone(), revoked.serial_number.as_bytes().to_vec()));
        }
        Ok(())
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test that cannot unwrap has failed")]
mod tests {
    use rcgen::{CertificateParams, Issuer, KeyPair, SanType, SerialNumber};

    use super::*;

    fn issuer() -> Issuer<'static, KeyPair> {
        let mut params = CertificateParams::default();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        params
            .distinguished_name
            .push(rcgen::DnType::CommonName, "clients");
        params.key_usages = vec![rcgen::KeyUsagePurpose::CrlSign];
        Issuer::new(params, KeyPair::generate().unwrap())
    }

    fn certificate(uris: &[&str], issuer: &Issuer<'_, KeyPair>) -> Vec<u8> {
        let mut params = CertificateParams::default();
        params.serial_number = Some(SerialNumber::from(0x8001_u64));
        params
            .distinguished_name
            .push(rcgen::DnType::CommonName, "spiffe://t/cn");
        params.subject_alt_names = uris
            .iter()
            .map(|uri| SanType::URI((*uri).try_into().unwrap()))
            .chain([SanType::DnsName("host.example".try_into().unwrap())])
            .collect();
        let key = KeyPair::generate().unwrap();
        params.signed_by(&key, issuer).unwrap().der().to_vec()
    }

    fn crl(serial: u64, issuer: &Issuer<'_, KeyPair>) -> Vec<u8> {
        let date = |year| rcgen::date_time_ymd(year, 1, 1);
        let params = rcgen::CertificateRevocationListParams {
            this_update: date(2026),
            next_update: date(2036),
            crl_number: SerialNumber::from(1_u64),
            issuing_distribution_point: None,
            revoked_certs: vec![rcgen::RevokedCertParams {
                serial_number: SerialNumber::from(serial),
                revocation_time: date(2026),
                reason_code: None,
                invalidity_date: None,
            }],
            key_identifier_method: rcgen::KeyIdMethod::Sha256,
        };
        params.signed_by(issuer).unwrap().der().to_vec()
    }

    #[test]
    fn an_identity_is_exactly_one_uri() {
        let issuer = issuer();
        let verdict = |uris: &[&str]| {
            PeerCertificate::from_der(&certificate(uris, &issuer))
                .map(|certificate| certificate.identity().to_string())
                .map_err(|error| error.reason())
        };
        assert_eq!(
            verdict(&["spiffe://t/lkm"]),
            Ok("spiffe://t/lkm".to_owned())
        );
        assert_eq!(
            verdict(&["SPIFFE://T/lkm"]),
            Ok("SPIFFE://T/lkm".to_owned())
        );
        assert_eq!(verdict(&[]), Err("IDENTITY_NOT_ONE_URI"));
        assert_eq!(
            verdict(&["spiffe://t/a", "spiffe://t/b"]),
            Err("IDENTITY_NOT_ONE_URI")
        );
        assert_eq!(verdict(&["uid:0"]), Err("IDENTITY_MALFORMED"));
        assert_eq!(verdict(&["no-scheme"]), Err("IDENTITY_MALFORMED"));
        assert_eq!(
            PeerCertificate::from_der(b"junk").unwrap_err().reason(),
            "CERTIFICATE_UNREADABLE"
        );
    }

    #[test]
    fn standing_is_judged_by_the_time_and_the_list_of_now() {
        let issuer = issuer();
        let certificate =
            PeerCertificate::from_der(&certificate(&["spiffe://t/lkm"], &issuer)).unwrap();
        let not_after = certificate.not_after;
        let peer = Peer {
            identity: certificate.identity().clone(),
            address: "192.0.2.1:4711".into(),
            certificate: Some(Arc::new(certificate)),
            hang_up: HangUp::default(),
        };
        let mut revocations = Revocations::default();
        let later = UnixMs(not_after.0 + 1);
        assert_eq!(peer.standing(&revocations, not_after), Ok(()));
        assert_eq!(
            peer.standing(&revocations, later),
            Err(StandingError::Expired)
        );

        revocations.add(&crl(0x8002, &issuer)).unwrap();
        assert_eq!(
            peer.standing(&revocations, UnixMs(0)),
            Ok(()),
            "another serial number"
        );
        let mut params = CertificateParams::default();
        params.key_usages = vec![rcgen::KeyUsagePurpose::CrlSign];
        let stranger = Issuer::new(params, KeyPair::generate().unwrap());
        revocations.add(&crl(0x8001, &stranger)).unwrap();
        assert_eq!(
            peer.standing(&revocations, UnixMs(0)),
            Ok(()),
            "another issuer"
        );
        revocations.add(&crl(0x8001, &issuer)).unwrap();
        assert_eq!(
            peer.standing(&revocations, UnixMs(0)),
            Err(StandingError::Revoked)
        );
        assert!(revocations.add(b"junk").is_err());

        let local = Peer {
            identity: Identity::Uid(0),
            certificate: None,
            ..peer
        };
        assert_eq!(local.standing(&revocations, later), Ok(()));
    }
}
