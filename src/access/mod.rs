//! Who may do what: from an authenticated identity to a [`Caller`], from a caller to its rights.
//! Pure: no async, files, clock, randomness or logging. Nobody is let in by default: an identity
//! the ledger does not name is no caller, and a role reaches only what its line below says.

mod changes;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

pub use changes::ChangeRefused;

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
    /// Brings in what officers signed, stops KEKs, and reads. The authority is in the signatures,
    /// never in this role.
    Officer,
    /// Reads keys, status, the ledger and proposals; stops KEKs with an officer's signature.
    Operator,
    /// Reads everything, changes nothing, but that it may have old audit records dropped which it has
    /// archived.
    Auditor,
}

/// What a call does, as far as rights go. Each rpc names one; an rpc that names none is closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Unwrap a DEK.
    Unwrap,
    /// Read names, states, public keys and certificates, and which token holds which version.
    ReadKeys,
    /// Read the state of the node, its health and the description of its services.
    ReadStatus,
    /// Read the ledger, its checkpoints and proofs.
    ReadLedger,
    /// Read the audit log, which names callers and end users.
    ReadAudit,
    /// Have audit records dropped that were archived.
    DropAudit,
    /// Read proposals, officers and policy.
    ReadGovernance,
    /// Bring in a proposal, an approval, a veto or an execution.
    Govern,
    /// Bring in a stop.
    Stop,
}

impl Role {
    const fn may(self, action: Action) -> bool {
        match action {
            Action::Unwrap => matches!(self, Self::UnwrapClient),
            Action::ReadKeys | Action::ReadStatus => true,
            Action::ReadLedger | Action::ReadGovernance => {
                matches!(self, Self::Officer | Self::Operator | Self::Auditor)
            }
            Action::ReadAudit | Action::DropAudit => matches!(self, Self::Auditor),
            Action::Govern => matches!(self, Self::Officer),
            Action::Stop => matches!(self, Self::Officer | Self::Operator),
        }
    }

    /// The name used in genesis documents, statements and output.
    pub const fn name(self) -> &'static str {
        match self {
            Self::UnwrapClient => "unwrap-client",
            Self::Officer => "officer",
            Self::Operator => "operator",
            Self::Auditor => "auditor",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Role {
    type Err = TypeError;

    fn from_str(text: &str) -> Result<Self, TypeError> {
        [
            Self::UnwrapClient,
            Self::Officer,
            Self::Operator,
            Self::Auditor,
        ]
        .into_iter()
        .find(|role| role.name() == text)
        .ok_or(TypeError {
            what: "a role",
            rule: "one of unwrap-client, officer, operator, auditor",
        })
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
    /// A change that does not fit what the ledger names.
    #[error(transparent)]
    ChangeRefused(#[from] ChangeRefused),
}

impl AccessError {
    /// The stable reason, as in `google.rpc.ErrorInfo` and in audit records.
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::CallerUnknown(_) => "CALLER_UNKNOWN",
            Self::RoleNotAllowed(_) => "ROLE_NOT_ALLOWED",
            Self::NotGranted(_) => "NOT_GRANTED",
            Self::NamedTwice(_) => "NAMED_TWICE",
            Self::ChangeRefused(_) => "NOT_ACCEPTED",
        }
    }
}

/// One client as the ledger names it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Client {
    role: Role,
    keks: BTreeSet<KekName>,
}

/// All clients the ledger names, with their roles and grants.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
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

    /// Whether the ledger names this identity.
    pub fn names(&self, identity: &Identity) -> bool {
        self.by_identity.contains_key(identity)
    }

    /// All clients in the order of their identities, each with its role and the KEKs it may unwrap
    /// under.
    pub fn iter(&self) -> impl Iterator<Item = (&Identity, Role, &BTreeSet<KekName>)> {
        self.by_identity
            .iter()
            .map(|(identity, client)| (identity, client.role, &client.keks))
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
            Role::Officer | Role::Operator | Role::Auditor => true,
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
