//! Which version is proven on which token. Reading it asks no token anything: it is what the start,
//! the vigil and the watch over replicas have found.

use super::Node;
use super::keys::KeysError;
use super::label;
use crate::access::Identity;
use crate::clock::UnixMs;
use crate::config::PRIMARY;
use crate::hsm::{Hsm, HsmState, Replica, Standing};
use crate::keyring::{Version, VersionState};
use crate::types::{KekName, KeypairId};

/// What a token is known to hold of one version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cover {
    /// It unwrapped a canary, and the key is as the ledger says.
    Proven {
        /// When.
        at: UnixMs,
    },
    /// It is not there.
    Missing(String),
    /// It is there and not as the ledger says.
    Wrong(String),
    /// The token does not serve now.
    Lost(String),
    /// Nobody has looked yet.
    Unknown,
}

/// One token.
#[derive(Debug, Clone)]
pub struct CoveringToken {
    /// Its name; the first is `primary`.
    pub name: String,
    /// Whether a new version waits for it.
    pub is_required: bool,
    /// Whether it serves, in the words of a node's status.
    pub state: HsmState,
}

/// One version.
#[derive(Debug, Clone)]
pub struct CoveredVersion {
    /// Its KEK.
    pub kek: KekName,
    /// Its number.
    pub number: u32,
    /// Its key pair.
    pub keypair_id: KeypairId,
    /// Its state; `None` while it waits to become active.
    pub state: Option<VersionState>,
    /// One for each token, in their order.
    pub covers: Vec<Cover>,
}

/// All of it.
#[derive(Debug, Clone)]
pub struct Coverage {
    /// The primary, then the replicas in the order of the configuration.
    pub tokens: Vec<CoveringToken>,
    /// The versions whose private keys exist, sorted by KEK and number.
    pub versions: Vec<CoveredVersion>,
}

impl Coverage {
    /// Whether every version is proven on every required token.
    pub fn is_whole(&self) -> bool {
        self.versions.iter().all(|version| {
            let mut covers = version.covers.iter().zip(&self.tokens);
            covers.all(|(cover, token)| !token.is_required || matches!(cover, Cover::Proven { .. }))
        })
    }
}

impl Node {
    /// Which version is proven on which token, of one KEK or of all that the caller may see.
    pub fn coverage(
        &self,
        identity: &Identity,
        kek: Option<&KekName>,
    ) -> Result<Coverage, KeysError> {
        let caller = self.reader(identity)?;
        if let Some(kek) = kek {
            caller.sight(kek)?;
        }
        let fleet = &self.fleet;
        let mut tokens = vec![CoveringToken {
            name: PRIMARY.to_owned(),
            is_required: true,
            state: fleet.primary().status().state,
        }];
        tokens.extend(fleet.replicas().iter().map(|replica| CoveringToken {
            name: replica.name().to_owned(),
            is_required: replica.is_required(),
            state: replica.hsm().status().state,
        }));
        let state = self.snapshot();
        let is_asked = |name: &KekName| kek.map_or_else(|| caller.sees(name), |kek| kek == name);
        let known = super::holdings::in_token(&state).filter(|version| is_asked(&version.kek));
        let mut versions: Vec<CoveredVersion> = known.map(|one| self.covered(one)).collect();
        let waiting = self.awaited.all().into_iter();
        versions.extend(waiting.filter_map(|(id, waiting)| {
            let name: KekName = waiting.made.kek.parse().ok()?;
            let is_begun = state.governance().begun(id).is_some();
            let here = match waiting.is_proven {
                true => Cover::Proven { at: waiting.since },
                false => Cover::Unknown,
            };
            (is_asked(&name) && is_begun).then(|| CoveredVersion {
                kek: name,
                number: waiting.made.number,
                keypair_id: id,
                state: None,
                covers: self.covers(id, here),
            })
        }));
        versions.sort_by(|a, b| (&a.kek, a.number).cmp(&(&b.kek, b.number)));
        // A KEK whose versions are destroyed is known, and covered nowhere.
        if let Some(kek) = kek
            && versions.is_empty()
        {
            state.keyring().kek(kek)?;
        }
        Ok(Coverage { tokens, versions })
    }

    fn covered(&self, version: &Version) -> CoveredVersion {
        let here = match self.proofs.found(version.keypair_id) {
            Some(Ok(at)) => {
                let gone_by = u64::try_from(at.elapsed().as_millis()).unwrap_or(u64::MAX);
                let at = UnixMs(self.time.now().0.saturating_sub(gone_by));
                Cover::Proven { at }
            }
            Some(Err(why)) => Cover::Wrong(why.to_string()),
            None => Cover::Unknown,
        };
        CoveredVersion {
            kek: version.kek.clone(),
            number: version.number,
            keypair_id: version.keypair_id,
            state: Some(version.state()),
            covers: self.covers(version.keypair_id, here),
        }
    }

    /// `here` is what the primary holds unless something speaks against it.
    fn covers(&self, id: KeypairId, here: Cover) -> Vec<Cover> {
        let replicas = self.fleet.replicas().iter();
        std::iter::once(self.cover_of_primary(id, here))
            .chain(replicas.map(|replica| cover_of(replica, id)))
            .collect()
    }

    fn cover_of_primary(&self, id: KeypairId, here: Cover) -> Cover {
        if let Some(why) = lost(self.fleet.primary()) {
            return Cover::Lost(why);
        }
        let found = self.vigil.findings();
        match (found.foreign, found.at_fault.get(id.as_bytes())) {
            (Some(why), _) => Cover::Lost(why),
            (None, Some(why)) => Cover::Wrong(why.clone()),
            (None, None) => here,
        }
    }

    /// What is to be said of replicas, one sentence each.
    pub(super) fn replica_problems(&self) -> Vec<String> {
        let state = self.snapshot();
        let mut problems = Vec::new();
        for replica in self.fleet.replicas() {
            let name = replica.name();
            if let Some(why) = lost(replica.hsm()) {
                problems.push(format!("token {name} does not serve: {why}"));
                continue;
            }
            let versions = super::holdings::in_token(&state);
            let without: Vec<_> = versions
                .filter(|version| !replica.proves(version.keypair_id.as_bytes()))
                .collect();
            if let Some(first) = without.first() {
                let why = match cover_of(replica, first.keypair_id) {
                    Cover::Missing(why) | Cover::Wrong(why) | Cover::Lost(why) => why,
                    Cover::Unknown | Cover::Proven { .. } => "it is not proven yet".to_owned(),
                };
                let (count, key) = (without.len(), label::of(first));
                problems.push(format!(
                    "token {name} is not asked for {count} versions, the first is '{key}': {why}. \
                     kekctl coverage shows all"
                ));
            }
            let aside = replica.aside().into_iter();
            problems.extend(aside.map(|sentence| format!("on token {name}: {sentence}")));
        }
        problems.extend(self.waiting_said());
        problems
    }

    /// Whether replicas serve every version that unwraps now.
    pub(super) fn replicas_serve_all(&self) -> bool {
        let state = self.snapshot();
        let mut versions = state.keyring().versions();
        !self.fleet.replicas().is_empty()
            && versions.all(|version| {
                !version.state().unwraps() || self.fleet.serves(version.keypair_id.as_bytes())
            })
    }
}

fn cover_of(replica: &Replica, id: KeypairId) -> Cover {
    if let Some(why) = lost(replica.hsm()) {
        return Cover::Lost(why);
    }
    match replica.standing(id.as_bytes()) {
        Some(Standing::Proven { at, .. }) => Cover::Proven { at },
        Some(Standing::Missing(why)) => Cover::Missing(why),
        Some(Standing::Wrong(why)) => Cover::Wrong(why),
        None => Cover::Unknown,
    }
}

/// Why a token does not serve, if it does not.
fn lost(hsm: &Hsm) -> Option<String> {
    match hsm.status().state {
        HsmState::Ready => None,
        HsmState::Starting => Some("its worker is starting".to_owned()),
        HsmState::Unavailable { why } | HsmState::Refused { why } => Some(why.to_string()),
        HsmState::ShutDown => Some("it is shut down".to_owned()),
    }
}
