//! The rig's throw-away PKI: one authority, the server's certificate and those of the clients, each
//! known by the one URI in its subject alternative name. The authority's key stays in the folder, so
//! that tests can issue what they need.

use jiff::{Timestamp, ToSpan as _, tz::TimeZone};
use kekd::clock::Clock;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose, SanType,
};

use super::layout::Layout;

/// The clients, by file name.
pub const CLIENTS: [&str; 6] = [
    "lkm-1", "lkm-2", "officer", "operator", "auditor", "stranger",
];

/// The identity of a client: the URI in its certificate.
pub fn identity(client: &str) -> String {
    format!("spiffe://kekd.test/{client}")
}

/// Makes the authority, the server's and all clients' certificates.
pub fn create(layout: &Layout) -> anyhow::Result<()> {
    // Each rig's authority has a name of its own, so that a mix-up of two rigs is named as one.
    let name = format!("kekd rig CA {}", super::token::random_hex()?);
    let mut params = params(&name, Vec::new())?;
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let key = KeyPair::generate()?;
    let key_pem = key.serialize_pem();
    let ca = CertifiedIssuer::self_signed(params, key)?;
    write(layout, "ca", &ca.pem(), &key_pem)?;

    let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
    issue(
        layout,
        &ca,
        "server",
        names,
        ExtendedKeyUsagePurpose::ServerAuth,
    )?;
    for client in CLIENTS {
        let names = vec![identity(client)];
        issue(
            layout,
            &ca,
            client,
            names,
            ExtendedKeyUsagePurpose::ClientAuth,
        )?;
    }
    Ok(())
}

fn issue(
    layout: &Layout,
    ca: &CertifiedIssuer<'_, KeyPair>,
    name: &str,
    subject_alternative_names: Vec<String>,
    purpose: ExtendedKeyUsagePurpose,
) -> anyhow::Result<()> {
    let mut params = params(name, subject_alternative_names)?;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![purpose];
    params.use_authority_key_identifier_extension = true;
    let key = KeyPair::generate()?;
    let certificate = params.signed_by(&key, ca)?;
    write(layout, name, &certificate.pem(), &key.serialize_pem())
}

/// Valid for ten years, and for ten days before: a daemon whose clock is behind can be tried.
fn params(name: &str, subject_alternative_names: Vec<String>) -> anyhow::Result<CertificateParams> {
    let mut params = CertificateParams::default();
    for text in subject_alternative_names {
        let san = match (text.parse(), text.contains("://")) {
            (Ok(address), _) => SanType::IpAddress(address),
            (Err(_), true) => SanType::URI(text.try_into()?),
            (Err(_), false) => SanType::DnsName(text.try_into()?),
        };
        params.subject_alt_names.push(san);
    }
    params.distinguished_name.push(DnType::CommonName, name);
    let now = Timestamp::from_millisecond(i64::try_from(Clock::System.now().0)?)?;
    let today = now.to_zoned(TimeZone::UTC).date();
    let day = |date: jiff::civil::Date| -> anyhow::Result<_> {
        let (month, day) = (u8::try_from(date.month())?, u8::try_from(date.day())?);
        Ok(rcgen::date_time_ymd(date.year().into(), month, day))
    };
    params.not_before = day(today.checked_sub(10.days())?)?;
    params.not_after = day(today.checked_add(10.years())?)?;
    Ok(params)
}

fn write(layout: &Layout, name: &str, certificate: &str, key: &str) -> anyhow::Result<()> {
    layout.write(&layout.certificate(name), certificate.as_bytes())?;
    layout.write(&layout.private_key(name), key.as_bytes())
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test that cannot unwrap has failed")]
mod tests {
    use super::*;
    use std::process::Command;

    #[test]
    fn openssl_accepts_every_certificate_for_its_purpose() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::create(&dir.path().join("rig")).unwrap();
        create(&layout).unwrap();
        let verify = |name: &str, purpose: &str| {
            let mut openssl = Command::new("openssl");
            openssl.args(["verify", "-x509_strict", "-purpose", purpose, "-CAfile"]);
            openssl.arg(layout.certificate("ca"));
            super::super::tool::run(openssl.arg(layout.certificate(name)), b"").unwrap();
        };
        verify("server", "sslserver");
        for client in CLIENTS {
            verify(client, "sslclient");
        }
    }
}
