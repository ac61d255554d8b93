//! Who may do what: from an authenticated identity to a [`Caller`], from a caller to its rights.
//! Pure: no async, files, clock, randomness or logging. Nobody is let in by default: an identity
//! the ledger does not name is no caller, and a role reaches only what its line below says.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use crate::types::{KekName, TypeError};

/// What a user namespace shows for every user it has no mapping for (`user_namespaces(7)`), and the
/// user id of "nobody". Many people could stand behind it, so it names no one.
const UID_UNMAPPED: u32 = 65534;

/// An identity as the transport proved it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Identity {
    /// The one URI in the subject alternative name of a verified client certificate (RFC 5280
    /// section 4.2.1.6), compared byte for byte.
    Uri(String),
    /// The user id of a Unix socket's peer, as the kernel attests it (`SO_PEERCRED`); made by
    /// [`Identity::of_uid`].
    Uid(u32),
}

impl Identity {
    /// The identity of a user: anyone but 65534.
    pub const fn of_uid(uid: u32) -> Result<Self, TypeError> {
        if uid == UID_UNMAPPED {
            return Err(TypeError {
                what: "a user id",
                rule: "another than 65534, which stands for every user without a mapping",
            });
        }
        Ok(Self::Uid(uid))
    }
}

impl FromStr for Identity {
    type Err = TypeError;

    /// `uid:N` with N other than 65534, or an absolute URI of at most 256 printable ASCII characters.
    fn from_str(text: &str) -> Result<Self, TypeError> {
        let refused = TypeError {
            what: "an identity",
            rule: "uid:N or an absolute URI of at most 256 printable ASCII characters",
        };
        if let Some(uid) = text.strip_prefix("uid:") {
            return uid.parse().map_err(|_| refused).and_then(Self::of_uid);
        }
        let has_scheme = text
            .split_once(':')
            .is_some_and(|(scheme, rest)| !scheme.is_empty() && !rest.is_empty());
        if text.len() > 256 || !has_scheme || !text.chars().all(|c| c.is_ascii_graphic()) {
            return Err(refused);
        }
        Ok(Self::Uri(text.to_owned()))
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Uri(uri) => f.write_str(uri),
            Self::Uid(uid) => write!(f, "uid:{uid}"),
        }
    }
}

/// What an identity is for. One identity, one role.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Deserialize, serde::Serialize,
)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// Unwraps under the KEKs it holds a grant for, and reads about those.
    UnwrapClient,
    /// Reads keys and status.
    Operator,
    /// Reads everything, changes nothing.
    Auditor,
}

/// What a call does, as far as rights go. Each rpc names one; an rpc that names none is closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Unwrap a DEK.
    Unwrap,
    /// Read names, states, public keys and certificates.
    ReadKeys,
    /// Read the state of the node, its health and the description of its services.
    ReadStatus,
}

impl Role {
    const fn may(self, action: Action) -> bool {
        match (self, action) {
            (Self::UnwrapClient, Action::Unwrap | Action::ReadKeys | Action::ReadStatus)
            | (Self::Operator | Self::Auditor, Action::ReadKeys | Action::ReadStatus) => true,
            (Self::Operator | Self::Auditor, Action::Unwrap) => false,
        }
    }
}

/// Why a call is not allowed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AccessError {
    /// The ledger does not name this identity.
    #[error("the ledger names no client with the identity {0}")]
    CallerUnknown(Identity),
    /// The caller's role does not reach this action.
    #[error("the role of {0} does not allow this call")]
    RoleNotAllowed(Identity),
    /// The caller has no grant for this KEK.
    #[error("{0} holds no grant for this KEK")]
    NotGranted(Identity),
    /// Two clients with one identity: the ledger contradicts itself.
    #[error("the identity {0} is named twice")]
    NamedTwice(Identity),
}

impl AccessError {
    /// The stable reason, as in `google.rpc.ErrorInfo` and in audit records.
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::CallerUnknown(_) => "CALLER_UNKNOWN",
            Self::RoleNotAllowed(_) => "ROLE_NOT_ALLOWED",
            Self::NotGranted(_) => "NOT_GRANTED",
            Self::NamedTwice(_) => "NAMED_TWICE",
        }
    }
}

/// One client as the ledger names it.
#[derive(Debug, Clone)]
struct Client {
    role: Role,
    keks: BTreeSet<KekName>,
}

/// All clients the ledger names, with their roles and grants.
#[derive(Debug, Clone, Default)]
pub struct Clients {
    by_identity: BTreeMap<Identity, Arc<Client>>,
}

impl Clients {
    /// Takes in a client. `keks` are the KEKs it may unwrap under.
    pub fn add(
        &mut self,
        identity: Identity,
        role: Role,
        keks: BTreeSet<KekName>,
    ) -> Result<(), AccessError> {
        if self.by_identity.contains_key(&identity) {
            return Err(AccessError::NamedTwice(identity));
        }
        self.by_identity
            .insert(identity, Arc::new(Client { role, keks }));
        Ok(())
    }

    /// The caller behind an authenticated identity.
    pub fn caller(&self, identity: &Identity) -> Result<Caller, AccessError> {
        let client = self
            .by_identity
            .get(identity)
            .ok_or_else(|| AccessError::CallerUnknown(identity.clone()))?;
        Ok(Caller {
            identity: identity.clone(),
            client: Arc::clone(client),
        })
    }
}

/// Somebody the ledger names. Only [`Clients::caller`] makes one.
#[derive(Debug, Clone)]
pub struct Caller {
    identity: Identity,
    client: Arc<Client>,
}

impl Caller {
    /// Whether the caller's role reaches this action at all.
    pub fn require(&self, action: Action) -> Result<(), AccessError> {
        if self.client.role.may(action) {
            Ok(())
        } else {
            Err(AccessError::RoleNotAllowed(self.identity.clone()))
        }
    }

    /// Whether the caller may know of this KEK.
    pub fn sees(&self, kek: &KekName) -> bool {
        match self.client.role {
            Role::Operator | Role::Auditor => true,
            Role::UnwrapClient => self.client.keks.contains(kek),
        }
    }

    /// Refuses where the caller may not know of this KEK.
    pub fn sight(&self, kek: &KekName) -> Result<(), AccessError> {
        if self.sees(kek) {
            Ok(())
        } else {
            Err(AccessError::NotGranted(self.identity.clone()))
        }
    }

    /// Refuses where the caller holds no grant to unwrap under this KEK.
    pub fn require_grant(&self, kek: &KekName) -> Result<(), AccessError> {
        self.require(Action::Unwrap)?;
        if self.client.keks.contains(kek) {
            Ok(())
        } else {
            Err(AccessError::NotGranted(self.identity.clone()))
        }
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test that cannot unwrap has failed")]
mod tests {
    use super::*;

    fn clients() -> Clients {
        let mut clients = Clients::default();
        let keks = BTreeSet::from(["a".parse().unwrap()]);
        for (identity, role, keks) in [
            ("spiffe://t/lkm", Role::UnwrapClient, keks),
            ("uid:0", Role::Operator, BTreeSet::new()),
            ("spiffe://t/auditor", Role::Auditor, BTreeSet::new()),
        ] {
            clients.add(identity.parse().unwrap(), role, keks).unwrap();
        }
        clients
    }

    #[test]
    fn nobody_is_let_in_by_default() {
        let clients = clients();
        let cases = [
            ("spiffe://t/lkm", "a", Ok(())),
            ("spiffe://t/lkm", "b", Err("holds no grant")),
            ("uid:0", "a", Err("role")),
            ("spiffe://t/auditor", "a", Err("role")),
        ];
        for (identity, kek, verdict) in cases {
            let caller = clients.caller(&identity.parse().unwrap()).unwrap();
            let found = caller
                .require_grant(&kek.parse().unwrap())
                .map_err(|e| e.to_string());
            match verdict {
                Ok(()) => assert_eq!(found, Ok(()), "{identity} {kek}"),
                Err(text) => assert!(found.unwrap_err().contains(text), "{identity} {kek}"),
            }
        }
        for unknown in ["spiffe://t/lkm2", "spiffe://t/LKM", "uid:1"] {
            assert!(
                clients.caller(&unknown.parse().unwrap()).is_err(),
                "{unknown}"
            );
        }
    }

    #[test]
    fn an_unwrap_client_sees_only_its_own_keks() {
        let clients = clients();
        let sees = |identity: &str, kek: &str| {
            clients
                .caller(&identity.parse().unwrap())
                .unwrap()
                .sees(&kek.parse().unwrap())
        };
        assert!(sees("spiffe://t/lkm", "a"));
        assert!(!sees("spiffe://t/lkm", "b"));
        assert!(sees("uid:0", "b"));
    }

    #[test]
    fn one_identity_has_one_role() {
        let mut clients = clients();
        let again = clients.add(Identity::Uid(0), Role::Auditor, BTreeSet::new());
        assert_eq!(again, Err(AccessError::NamedTwice(Identity::Uid(0))));
    }

    #[test]
    fn identities_parse_strictly() {
        for bad in ["", "uid:", "uid:-1", "nocolon", "a b:c", "x:", ":x"] {
            assert!(bad.parse::<Identity>().is_err(), "{bad:?} was accepted");
        }
    }

    #[test]
    fn the_user_of_everybody_without_a_mapping_is_nobody() {
        let refused = "uid:65534".parse::<Identity>().unwrap_err().to_string();
        assert!(refused.contains("another than 65534"), "{refused}");
        assert!(Identity::of_uid(65534).is_err());
        assert_eq!(Identity::of_uid(65533), Ok(Identity::Uid(65533)));
    }
}
