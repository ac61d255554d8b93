//! What a decision of the officers changes in who may call. Whether they may decide it is judged
//! elsewhere. The invariants: one identity, one role, from its naming to its removal; a refused
//! change leaves everything as it was, and one without effect is refused.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::{AccessError, Client, Clients, Identity, Role};
use crate::types::KekName;

/// Why a change is not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ChangeRefused {
    /// The identity is named for a role without grants.
    #[error(
        "{identity} has the role {found} and only an unwrap-client holds grants: one identity, one \
         role"
    )]
    RoleConflict {
        /// The identity.
        identity: Identity,
        /// Its role.
        found: Role,
    },
    /// The identity holds this grant.
    #[error("{identity} holds a grant for {kek} already")]
    GrantedAlready {
        /// The identity.
        identity: Identity,
        /// The KEK.
        kek: KekName,
    },
    /// The identity holds no such grant.
    #[error("{identity} holds no grant for {kek}")]
    NoSuchGrant {
        /// The identity.
        identity: Identity,
        /// The KEK.
        kek: KekName,
    },
    /// The identity has a role.
    #[error("{identity} has the role {found} already: one identity, one role")]
    NamedAlready {
        /// The identity.
        identity: Identity,
        /// Its role.
        found: Role,
    },
    /// The identity is not named.
    #[error("the ledger names no client with the identity {0}")]
    ClientUnknown(Identity),
}

impl Clients {
    /// Lets a client unwrap under a KEK. An identity that is not named becomes an unwrap client.
    /// Whether there is such a KEK is not asked here.
    ///
    /// # Errors
    /// Where the identity has another role, or the grant already.
    pub fn grant(&mut self, identity: &Identity, kek: KekName) -> Result<(), AccessError> {
        let Some(client) = self.by_identity.get_mut(identity) else {
            let keks = BTreeSet::from([kek]);
            return self.add(identity.clone(), Role::UnwrapClient, keks);
        };
        let identity = identity.clone();
        if client.role != Role::UnwrapClient {
            let found = client.role;
            return Err(ChangeRefused::RoleConflict { identity, found }.into());
        }
        if client.keks.contains(&kek) {
            return Err(ChangeRefused::GrantedAlready { identity, kek }.into());
        }
        Arc::make_mut(client).keks.insert(kek);
        Ok(())
    }

    /// Takes a grant back. The client stays named, with its last grant gone too.
    ///
    /// # Errors
    /// Where the identity is not named or does not hold the grant.
    pub fn withdraw(&mut self, identity: &Identity, kek: &KekName) -> Result<(), AccessError> {
        let Some(client) = self.by_identity.get_mut(identity) else {
            return Err(ChangeRefused::ClientUnknown(identity.clone()).into());
        };
        if !client.keks.contains(kek) {
            return Err(ChangeRefused::NoSuchGrant {
                identity: identity.clone(),
                kek: kek.clone(),
            }
            .into());
        }
        Arc::make_mut(client).keks.remove(kek);
        Ok(())
    }

    /// Names a client, without grants.
    ///
    /// # Errors
    /// Where the identity is named already.
    pub fn assign(&mut self, identity: &Identity, role: Role) -> Result<(), AccessError> {
        if let Some(client) = self.by_identity.get(identity) {
            return Err(ChangeRefused::NamedAlready {
                identity: identity.clone(),
                found: client.role,
            }
            .into());
        }
        let client = Client {
            role,
            keks: BTreeSet::new(),
        };
        self.by_identity.insert(identity.clone(), Arc::new(client));
        Ok(())
    }

    /// Names a client no more, with all its grants. Its next call is a stranger's.
    ///
    /// # Errors
    /// Where the identity is not named.
    pub fn remove(&mut self, identity: &Identity) -> Result<(), AccessError> {
        match self.by_identity.remove(identity) {
            Some(_) => Ok(()),
            None => Err(ChangeRefused::ClientUnknown(identity.clone()).into()),
        }
    }
}
