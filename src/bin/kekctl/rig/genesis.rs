//! The rig's genesis document: who may do what, and the KEKs to begin with. The format is kekd's
//! (`kekd-genesis-v1`); nothing here is special to a rig but the names.

use std::str::FromStr;

use kekd::types::{KekName, TypeError};
use serde::Serialize;

use super::{officers, pki};

/// The KEK that only `lkm-2` may unwrap under, so that "granted for another KEK" can be seen.
const ENGAGE: &str = "engage";

/// A time-lock that can be seen and waited for.
const TIME_LOCK_SECONDS: u64 = 2;

/// A KEK to begin with: `NAME=PROFILE`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewKek {
    pub name: KekName,
    profile: String,
}

impl FromStr for NewKek {
    type Err = TypeError;

    fn from_str(text: &str) -> Result<Self, TypeError> {
        match text.split_once('=') {
            Some((name, profile)) if !profile.is_empty() => Ok(Self {
                name: name.parse()?,
                profile: profile.to_owned(),
            }),
            Some(_) | None => Err(TypeError {
                what: "a KEK",
                rule: "NAME=PROFILE, for example recordings=kek-rsa-3072",
            }),
        }
    }
}

/// One KEK of each built-in profile.
pub const KEKS_DEFAULT: [&str; 4] = [
    "recordings=kek-rsa-3072",
    "legacy=kek-rsa-3072-pkcs1",
    "vault=kek-rsa-3072-recipient",
    "engage=kek-rsa-3072-self-signed",
];

#[derive(Serialize)]
struct Document {
    format: &'static str,
    instance: &'static str,
    policy: Policy,
    recovery: Recovery,
    issuer: Issuer,
    officer: Vec<Officer>,
    client: Vec<Client>,
    kek: Vec<Kek>,
}

#[derive(Serialize)]
struct Policy {
    threshold: usize,
    rule: Vec<Rule>,
}

#[derive(Serialize)]
struct Rule {
    operation: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    time_lock_seconds: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    allowed: Option<bool>,
}

#[derive(Serialize)]
struct Recovery {
    threshold: usize,
    time_lock_seconds: u64,
    officer: Vec<RecoveryOfficer>,
}

/// One of the recovery set.
#[derive(Debug, Clone, Serialize)]
pub struct RecoveryOfficer {
    pub name: &'static str,
    /// OpenSSH public key: kind and base64.
    pub key: String,
}

#[derive(Serialize)]
struct Issuer {
    subject: &'static str,
    valid_days: u32,
}

/// A person with a signing key.
#[derive(Debug, Clone, Serialize)]
pub struct Officer {
    pub name: &'static str,
    pub role: &'static str,
    /// OpenSSH public key: kind and base64.
    pub key: String,
}

#[derive(Serialize)]
struct Client {
    name: &'static str,
    identity: String,
    role: &'static str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    keks: Vec<String>,
}

#[derive(Serialize)]
struct Kek {
    name: String,
    profile: String,
    certificate_subject: String,
    certificate_valid_days: u32,
}

/// Writes the document. `uid` is the user whose calls over the Unix socket count as an unwrap
/// client's.
pub fn document(
    keks: &[NewKek],
    officers: Vec<Officer>,
    recovery: Vec<RecoveryOfficer>,
    uid: u32,
) -> Result<String, toml::ser::Error> {
    let kek = |kek: &NewKek| Kek {
        name: kek.name.to_string(),
        profile: kek.profile.clone(),
        certificate_subject: format!("CN={}", kek.name),
        certificate_valid_days: 3650,
    };
    toml::to_string(&Document {
        format: "kekd-genesis-v1",
        instance: "rig",
        policy: Policy {
            threshold: officers::SIGNERS.len(),
            rule: rules(),
        },
        recovery: Recovery {
            threshold: recovery.len(),
            time_lock_seconds: TIME_LOCK_SECONDS,
            officer: recovery,
        },
        issuer: Issuer {
            subject: "CN=kekd rig issuing key",
            valid_days: 7300,
        },
        officer: officers,
        client: clients(keks, uid),
        kek: keks.iter().map(kek).collect(),
    })
}

/// Everything can be tried in one sitting, but for the time-lock of a destruction: that is kekd's own
/// and at least seven days.
fn rules() -> Vec<Rule> {
    let quick = |operation| Rule {
        operation,
        time_lock_seconds: Some(TIME_LOCK_SECONDS),
        allowed: None,
    };
    vec![
        Rule {
            operation: "destroy-version",
            time_lock_seconds: None,
            allowed: Some(true),
        },
        quick("change-officers"),
        quick("change-policy"),
    ]
}

/// What `lkm-1` may unwrap under.
pub fn keks_of_first_client(keks: &[NewKek]) -> Vec<KekName> {
    let names = || keks.iter().map(|kek| kek.name.clone());
    let first: Vec<KekName> = names().filter(|name| name.as_str() != ENGAGE).collect();
    match first.is_empty() {
        true => names().collect(),
        false => first,
    }
}

/// `lkm-1` and the local user unwrap under every KEK but `engage`, which is `lkm-2`'s; where it is
/// the only one, it is everybody's. The client `stranger` is named nowhere, on purpose.
fn clients(keks: &[NewKek], uid: u32) -> Vec<Client> {
    let names = || keks.iter().map(|kek| kek.name.to_string());
    let unwrapper = |name, identity, keks| Client {
        name,
        identity,
        role: "unwrap-client",
        keks,
    };
    let reader = |name, role| Client {
        name,
        identity: pki::identity(name),
        role,
        keks: Vec::new(),
    };
    let first = keks_of_first_client(keks);
    let first: Vec<String> = first.iter().map(ToString::to_string).collect();
    let second = names().filter(|name| name == ENGAGE).collect();
    vec![
        unwrapper("lkm-1", pki::identity("lkm-1"), first.clone()),
        unwrapper("lkm-2", pki::identity("lkm-2"), second),
        unwrapper("local-user", format!("uid:{uid}"), first),
        reader("officer", "officer"),
        reader("operator", "operator"),
        reader("auditor", "auditor"),
    ]
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test that cannot unwrap has failed")]
mod tests {
    use std::time::Duration;

    use kekd::quorum::OperationKind;

    use super::*;

    #[test]
    fn grants_are_split_so_that_a_foreign_kek_exists() {
        let keks: Vec<NewKek> = KEKS_DEFAULT
            .iter()
            .map(|kek| kek.parse().unwrap())
            .collect();
        let alice = Officer {
            name: "alice",
            role: "key-custodian",
            key: "ssh-ed25519 AAAA".to_owned(),
        };
        let text = document(&keks, vec![alice], Vec::new(), 1000).unwrap();
        let of = |name: &str| {
            let from = text.find(&format!("name = \"{name}\"")).unwrap();
            let client = text.get(from..).unwrap();
            client.split("\n\n").next().unwrap().to_owned()
        };
        let first = r#"keks = ["recordings", "legacy", "vault"]"#;
        assert!(of("lkm-1").contains(first), "{text}");
        assert!(of("local-user").contains(first), "{text}");
        assert!(
            of("local-user").contains(r#"identity = "uid:1000""#),
            "{text}"
        );
        assert!(of("lkm-2").contains(r#"keks = ["engage"]"#), "{text}");
        assert!(!of("operator").contains("keks"), "{text}");
        assert!(!text.contains("stranger"), "{text}");
    }

    #[test]
    fn kekd_accepts_the_document_and_its_signatures() {
        use super::super::layout::Layout;
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::create(&dir.path().join("rig")).unwrap();
        let officers = officers::create_all(&layout).unwrap();
        let recovery = officers::create_recovery(&layout).unwrap();
        for keks in [&KEKS_DEFAULT[..], &["engage=kek-rsa-3072"]] {
            let keks: Vec<NewKek> = keks.iter().map(|kek| kek.parse().unwrap()).collect();
            let text = document(&keks, officers.clone(), recovery.clone(), 0).unwrap();
            let genesis = kekd::quorum::Genesis::parse(text.as_bytes()).unwrap();
            let sign = |name| officers::sign(&layout, name, text.as_bytes()).unwrap();
            let signatures = officers::SIGNERS.map(|name| sign(name).into_bytes());
            assert!(genesis.authorize(&signatures).is_ok());
            let rule = |kind| genesis.policy().rule(kind);
            let lock = Duration::from_secs(2);
            assert_eq!(rule(OperationKind::ChangePolicy).time_lock, lock);
            assert_eq!(rule(OperationKind::Recover).time_lock, lock);
            let destroy = rule(OperationKind::DestroyVersion);
            assert!(destroy.allowed && destroy.time_lock.as_secs() == 7 * 86_400);
        }
    }

    #[test]
    fn a_kek_is_a_name_and_a_profile() {
        assert_eq!("a=b".parse::<NewKek>().unwrap().profile, "b");
        for bad in ["a", "a=", "=b", "A=b"] {
            assert!(bad.parse::<NewKek>().is_err(), "{bad:?} was accepted");
        }
    }
}
