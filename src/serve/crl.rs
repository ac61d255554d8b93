//! Whether revocation lists serve the authorities they are for. A list of another issuer, or one
//! that its issuer did not sign, would shut out every client at the handshake, without a word of
//! which file is at fault: it is found here, when the files are read.

use der::asn1::AnyRef;
use der::{Decode as _, Encode as _};
use rustls_pki_types::SignatureVerificationAlgorithm;
use x509_cert::certificate::{Certificate, Rfc5280};
use x509_cert::crl::CertificateList;
use x509_cert::ext::pkix::KeyUsage;

/// Why lists do not serve.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum CrlError {
    /// No list is of an authority that issues clients.
    #[error(
        "it has lists of {found} and none of an authority in tcp.client_ca_file ({wanted}), so every \
         client would be refused"
    )]
    OfOthers {
        /// The issuers of the lists.
        found: String,
        /// The authorities.
        wanted: String,
    },
    /// An authority's name stands on a list that it did not sign.
    #[error("its list of {issuer} is not signed with the key of that authority")]
    NotSigned {
        /// The name.
        issuer: String,
    },
    /// The authority's certificate forbids it to sign lists (RFC 5280 section 4.2.1.3, cRLSign).
    #[error("the authority {issuer} may not sign lists: its key usage lacks cRLSign")]
    NotASigner {
        /// The name.
        issuer: String,
    },
}

/// Holds `lists` against `authorities`, and gives the names of those that have none: their clients
/// are refused.
///
/// # Errors
/// Where the lists serve nobody, or one is not what it says.
pub(super) fn judge(
    authorities: &[Certificate],
    lists: &[CertificateList<Rfc5280>],
    algorithms: &[&dyn SignatureVerificationAlgorithm],
) -> Result<Vec<String>, CrlError> {
    let subject = |authority: &Certificate| authority.tbs_certificate().subject().to_string();
    let mut without = Vec::new();
    for authority in authorities {
        let name = authority.tbs_certificate().subject();
        let named = || lists.iter().filter(|l| l.tbs_cert_list.issuer == *name);
        if named().next().is_none() {
            without.push(subject(authority));
        } else if !signs_lists(authority) {
            return Err(CrlError::NotASigner {
                issuer: subject(authority),
            });
        }
        // Two authorities may have one name while one follows the other.
        let alike = || {
            authorities
                .iter()
                .filter(|a| a.tbs_certificate().subject() == name)
        };
        if named().any(|list| !alike().any(|a| is_signed(list, a, algorithms))) {
            return Err(CrlError::NotSigned {
                issuer: subject(authority),
            });
        }
    }
    if without.len() == authorities.len() {
        let found: Vec<String> = lists
            .iter()
            .map(|list| list.tbs_cert_list.issuer.to_string())
            .collect();
        return Err(CrlError::OfOthers {
            found: found.join("; "),
            wanted: without.join("; "),
        });
    }
    Ok(without)
}

/// A certificate without a key usage allows every use.
fn signs_lists(authority: &Certificate) -> bool {
    match authority.tbs_certificate().get_extension::<KeyUsage>() {
        Ok(usage) => usage.is_none_or(|(_, usage)| usage.crl_sign()),
        Err(_) => false,
    }
}

fn is_signed(
    list: &CertificateList<Rfc5280>,
    authority: &Certificate,
    algorithms: &[&dyn SignatureVerificationAlgorithm],
) -> bool {
    let spki = authority.tbs_certificate().subject_public_key_info();
    let (Some(of_key), Some(of_signature), Ok(signed)) = (
        inside(&spki.algorithm),
        inside(&list.signature_algorithm),
        list.tbs_cert_list.to_der(),
    ) else {
        return false;
    };
    let (key, signature) = (
        spki.subject_public_key.raw_bytes(),
        list.signature.raw_bytes(),
    );
    algorithms
        .iter()
        .filter(|a| a.public_key_alg_id().as_ref() == of_key.as_slice())
        .filter(|a| a.signature_alg_id().as_ref() == of_signature.as_slice())
        .any(|a| a.verify_signature(key, &signed, signature).is_ok())
}

/// The inside of an `AlgorithmIdentifier`'s SEQUENCE, as rustls names algorithms.
fn inside(algorithm: &impl der::Encode) -> Option<Vec<u8>> {
    let der = algorithm.to_der().ok()?;
    AnyRef::from_der(&der).ok().map(|any| any.value().to_vec())
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test that cannot unwrap has failed")]
mod tests {
    use rcgen::{CertificateParams, DnType, Issuer, KeyPair, KeyUsagePurpose, SerialNumber};

    use super::*;

    fn authority(
        name: &str,
        usages: &[KeyUsagePurpose],
    ) -> (Certificate, Issuer<'static, KeyPair>) {
        let mut params = CertificateParams::default();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, name);
        params.key_usages = usages.to_vec();
        let key = KeyPair::generate().unwrap();
        let der = params.self_signed(&key).unwrap();
        let certificate = Certificate::from_der(der.der()).unwrap();
        params.key_usages = vec![KeyUsagePurpose::CrlSign];
        (certificate, Issuer::new(params, key))
    }

    fn list(issuer: &Issuer<'_, KeyPair>) -> CertificateList<Rfc5280> {
        let list = rcgen::CertificateRevocationListParams {
            this_update: rcgen::date_time_ymd(2026, 1, 1),
            next_update: rcgen::date_time_ymd(2036, 1, 1),
            crl_number: SerialNumber::from(1_u64),
            issuing_distribution_point: None,
            revoked_certs: vec![],
            key_identifier_method: rcgen::KeyIdMethod::Sha256,
        };
        CertificateList::from_der(list.signed_by(issuer).unwrap().der()).unwrap()
    }

    fn verdict(
        authorities: &[&Certificate],
        lists: &[&Issuer<'_, KeyPair>],
    ) -> Result<Vec<String>, CrlError> {
        let authorities: Vec<Certificate> = authorities.iter().copied().cloned().collect();
        let lists: Vec<_> = lists.iter().copied().map(list).collect();
        let provider = rustls::crypto::aws_lc_rs::default_provider();
        judge(
            &authorities,
            &lists,
            provider.signature_verification_algorithms.all,
        )
    }

    #[test]
    fn a_list_is_of_an_authority_and_signed_by_it() {
        const SIGNS: &[KeyUsagePurpose] = &[KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let (one, of_one) = authority("one", SIGNS);
        let (two, of_two) = authority("two", &[]);
        let (follower, of_follower) = authority("one", SIGNS);
        let (mute, of_mute) = authority("mute", &[KeyUsagePurpose::KeyCertSign]);

        assert_eq!(verdict(&[&one], &[&of_one]), Ok(vec![]));
        assert_eq!(verdict(&[&one, &two], &[&of_two, &of_one]), Ok(vec![]));
        assert_eq!(
            verdict(&[&one, &follower], &[&of_one, &of_follower]),
            Ok(vec![])
        );
        assert_eq!(
            verdict(&[&one, &two], &[&of_one]),
            Ok(vec!["CN=two".to_owned()]),
            "its clients are refused, and the others are not"
        );
        let text = |verdict: Result<Vec<String>, CrlError>| verdict.unwrap_err().to_string();
        assert_eq!(
            text(verdict(&[&one], &[&of_two])),
            "it has lists of CN=two and none of an authority in tcp.client_ca_file (CN=one), so \
             every client would be refused"
        );
        assert_eq!(
            text(verdict(&[&one], &[&of_follower])),
            "its list of CN=one is not signed with the key of that authority"
        );
        assert_eq!(
            text(verdict(&[&mute], &[&of_mute])),
            "the authority CN=mute may not sign lists: its key usage lacks cRLSign"
        );
    }
}
