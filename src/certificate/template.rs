//! What the certificate builder is told: names and extensions of our two kinds of certificate.
//! Nothing is signed here. The invariant: a KEK's certificate never lets its key sign.

use der::asn1::OctetString;
use x509_cert::Certificate;
use x509_cert::builder::Result as BuilderResult;
use x509_cert::builder::profile::BuilderProfile;
use x509_cert::certificate::TbsCertificate;
use x509_cert::ext::pkix::{
    AuthorityKeyIdentifier, BasicConstraints, KeyUsage, KeyUsages, SubjectKeyIdentifier,
};
use x509_cert::ext::{Extension, ToExtension as _};
use x509_cert::name::Name;
use x509_cert::spki::SubjectPublicKeyInfoRef;

use super::CertificateError;

/// What the certificate is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Signs the certificates of KEKs.
    Issuing,
    /// DEKs are wrapped under it.
    Kek,
}

/// Names and extensions.
pub(super) struct Template {
    subject: Name,
    issuer: Name,
    kind: Kind,
    /// The issuer's key id; none in a certificate that signs itself (RFC 5280 section 4.2.1.1).
    authority: Option<OctetString>,
}

impl Template {
    /// Issuer and subject are one.
    pub(super) fn self_signed(subject: Name, kind: Kind) -> Self {
        Self {
            issuer: subject.clone(),
            subject,
            kind,
            authority: None,
        }
    }

    /// A KEK's, issued under this certificate, which must allow it.
    pub(super) fn issued(subject: Name, issuer: &Certificate) -> Result<Self, CertificateError> {
        let issuer = issuer.tbs_certificate();
        let is_ca = issuer
            .get_extension::<BasicConstraints>()?
            .is_some_and(|(_, constraints)| constraints.ca);
        let signs = issuer
            .get_extension::<KeyUsage>()?
            .is_some_and(|(_, usage)| usage.key_cert_sign());
        if !is_ca || !signs {
            return Err(CertificateError::NotAnIssuer);
        }
        let key_id = issuer.get_extension::<SubjectKeyIdentifier>()?;
        Ok(Self {
            subject,
            issuer: issuer.subject().clone(),
            kind: Kind::Kek,
            authority: key_id.map(|(_, key_id)| key_id.0),
        })
    }
}

impl BuilderProfile for Template {
    fn get_issuer(&self, _subject: &Name) -> Name {
        self.issuer.clone()
    }

    fn get_subject(&self) -> Name {
        self.subject.clone()
    }

    fn build_extensions(
        &self,
        spki: SubjectPublicKeyInfoRef<'_>,
        _issuer_spki: SubjectPublicKeyInfoRef<'_>,
        tbs: &TbsCertificate,
    ) -> BuilderResult<Vec<Extension>> {
        let (constraints, usage) = match self.kind {
            Kind::Issuing => (
                BasicConstraints {
                    ca: true,
                    path_len_constraint: Some(0),
                },
                KeyUsage(KeyUsages::KeyCertSign | KeyUsages::CRLSign),
            ),
            Kind::Kek => (
                BasicConstraints {
                    ca: false,
                    path_len_constraint: None,
                },
                KeyUsage(KeyUsages::KeyEncipherment.into()),
            ),
        };
        let subject = tbs.subject();
        let mut extensions = vec![
            // Critical in both kinds, which RFC 5280 sections 4.2.1.3 and 4.2.1.9 allow.
            (true, &constraints).to_extension(subject, &[])?,
            (true, &usage).to_extension(subject, &[])?,
            (&SubjectKeyIdentifier::try_from(spki)?).to_extension(subject, &[])?,
        ];
        if let Some(authority) = &self.authority {
            let authority = AuthorityKeyIdentifier {
                key_identifier: Some(authority.clone()),
                ..AuthorityKeyIdentifier::default()
            };
            extensions.push((&authority).to_extension(subject, &extensions)?);
        }
        Ok(extensions)
    }
}
