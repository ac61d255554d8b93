//! Which versions were proven on one token in this process: every attribute read back, every forbidden
//! act tried, the public path walked with each padding. There is one of these for each token.
//!
//! The invariants: a version is unwrapped with only after its proof on this token; of one version at
//! most one proof is under way, however many callers wait for it; and a proof that ends after what it
//! saw was forgotten counts for nothing.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{Semaphore, watch};
use tokio::time::timeout_at;
use tracing::{error, info, warn};

use super::holdings;
use super::inspect::{InspectError, Seen, inspect, self_test};
use super::label;
use super::open::OpenError;
use super::saga::chain;
use crate::hsm::profile::Profile;
use crate::hsm::{Hsm, KeyRef};
use crate::keyring::Version;
use crate::ledger::State;
use crate::types::{KeypairId, Next};

/// A version that failed is proven again after this: the token may have been mended, or unwell.
const REFUSED_FOR: Duration = Duration::from_secs(10);
/// A version that passed is proven again after this.
const PROVEN_FOR: Duration = Duration::from_secs(24 * 60 * 60);
/// Most proofs at once.
const AT_ONCE_MAX: usize = 8;
/// Versions that are named; of more, the number.
const SHOWN_MAX: usize = 8;

/// Why a version may not be unwrapped with now.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unproven {
    /// It was looked at and is not as the ledger says.
    #[error("{0}")]
    Refused(Arc<str>),
    /// The HSM did not do its part; nothing is known against the key.
    #[error("{0}")]
    Unavailable(Arc<str>),
    /// The caller's deadline passed before the proof ended.
    #[error("the deadline passed before the key was proven")]
    DeadlineExceeded,
    /// The proof panicked.
    #[error("the proof ended without a result")]
    NoResult,
}

/// How a proof ended.
#[derive(Debug, Clone)]
enum End {
    Proven,
    Refused(Arc<str>),
    Unavailable(Arc<str>),
}

enum Standing {
    /// Being proven for the first time, or anew: whoever wants it waits.
    UnderWay {
        number: u64,
        end: watch::Receiver<Option<End>>,
    },
    Proven {
        at: Instant,
    },
    Refused {
        why: Arc<str>,
        at: Instant,
    },
}

impl Standing {
    /// When this was found.
    const fn since(&self) -> Option<Instant> {
        match self {
            Self::UnderWay { .. } => None,
            Self::Proven { at } | Self::Refused { at, .. } => Some(*at),
        }
    }
}

/// The proofs on one token. Cloning gives another handle on the same.
#[derive(Clone)]
pub(super) struct Proofs(Arc<Inner>);

struct Inner {
    hsm: Hsm,
    /// Proofs at once: callers of proven versions keep the other sessions.
    places: Semaphore,
    numbers: AtomicU64,
    standings: Mutex<HashMap<KeypairId, Standing>>,
    /// Whether none is refused.
    sound: watch::Sender<bool>,
}

impl Proofs {
    /// Nothing is proven yet. At most half of so many sessions are taken by proofs, and no more than
    /// leave the daemon's other calls their places in the line.
    pub(super) fn new(hsm: Hsm, sessions: usize) -> Self {
        Self(Arc::new(Inner {
            hsm,
            places: Semaphore::new((sessions / 2).clamp(1, AT_ONCE_MAX)),
            numbers: AtomicU64::new(0),
            standings: Mutex::default(),
            sound: watch::Sender::new(true),
        }))
    }

    /// Returns once the version is proven. The first who asks for it begins the proof, the others wait
    /// for the same; it goes on when they leave.
    pub(super) async fn require(
        &self,
        version: &Arc<Version>,
        deadline: Instant,
    ) -> Result<(), Unproven> {
        loop {
            let mut end = match self.look_or_begin(version) {
                Ok(None) => return Ok(()),
                Ok(Some(under_way)) => under_way,
                Err(refused) => return Err(Unproven::Refused(refused)),
            };
            match timeout_at(deadline.into(), end.wait_for(Option::is_some)).await {
                // What it found is looked up, since it may be forgotten again.
                Ok(Ok(end)) => {
                    if let Some(End::Unavailable(why)) = &*end {
                        return Err(Unproven::Unavailable(Arc::clone(why)));
                    }
                }
                Ok(Err(_)) => return Err(Unproven::NoResult),
                Err(_) => return Err(Unproven::DeadlineExceeded),
            }
        }
    }

    /// Proves a version now that is due, and waits for it. Meanwhile callers are answered as before,
    /// where it was proven or refused already.
    pub(super) async fn renew(&self, version: &Arc<Version>) {
        let before = self
            .standings()
            .get(&version.keypair_id)
            .and_then(Standing::since);
        let Some(before) = before else {
            if let Ok(Some(mut end)) = self.look_or_begin(version) {
                drop(end.wait_for(Option::is_some).await);
            }
            return;
        };
        let _place = self.0.places.acquire().await;
        let end = self.prove(version).await;
        let mut standings = self.standings();
        if let Some(standing) = standings.get_mut(&version.keypair_id)
            // What was forgotten or found anew meanwhile may be of another key than was proven here.
            && standing.since() == Some(before)
            && let Some(now) = end.standing()
        {
            *standing = now;
        }
        self.publish(&standings);
    }

    /// The version was proven elsewhere in this process: when it was made, or before the start was over.
    pub(super) fn passed(&self, id: KeypairId) {
        let at = Instant::now();
        self.standings().insert(id, Standing::Proven { at });
    }

    /// What was found of these versions is not known any more.
    pub(super) fn forget(&self, ids: impl IntoIterator<Item = KeypairId>) {
        let mut standings = self.standings();
        for id in ids {
            standings.remove(&id);
        }
        self.publish(&standings);
    }

    /// Nothing is known any more: this was another token for a while.
    pub(super) fn forget_all(&self) {
        let mut standings = self.standings();
        standings.clear();
        self.publish(&standings);
    }

    /// Whether a version is to be proven now: it was not, or that was too long ago.
    pub(super) fn is_due(&self, id: KeypairId) -> bool {
        match self.standings().get(&id) {
            None => true,
            Some(Standing::UnderWay { .. }) => false,
            Some(Standing::Refused { at, .. }) => at.elapsed() >= REFUSED_FOR,
            Some(Standing::Proven { at }) => at.elapsed() >= PROVEN_FOR,
        }
    }

    /// When a version was proven, or why it is refused; `None` where neither is known.
    pub(super) fn found(&self, id: KeypairId) -> Option<Result<Instant, Arc<str>>> {
        match self.standings().get(&id)? {
            Standing::Proven { at } => Some(Ok(*at)),
            Standing::Refused { why, .. } => Some(Err(Arc::clone(why))),
            Standing::UnderWay { .. } => None,
        }
    }

    /// How many versions that the token must hold are proven, and how many there are.
    pub(super) fn count(&self, state: &State) -> (usize, usize) {
        let standings = self.standings();
        let mut all = 0_usize;
        let proven = holdings::in_token(state).filter(|version| {
            all = all.saturating_add(1);
            let standing = standings.get(&version.keypair_id);
            matches!(standing, Some(Standing::Proven { .. }))
        });
        (proven.count(), all)
    }

    /// What is wrong with versions that are refused, one sentence each.
    pub(super) fn problems(&self) -> Vec<String> {
        let standings = self.standings();
        let refused = standings.values().filter_map(|standing| match standing {
            Standing::Refused { why, .. } => Some(why.to_string()),
            Standing::UnderWay { .. } | Standing::Proven { .. } => None,
        });
        let mut refused: Vec<String> = refused.collect();
        drop(standings);
        refused.sort();
        let count = refused.len();
        refused.truncate(SHOWN_MAX);
        if count > refused.len() {
            refused.push(format!("{count} keys in all are refused after their proof"));
        }
        refused
    }

    /// Whether none is refused.
    pub(super) fn is_sound(&self) -> bool {
        *self.0.sound.borrow()
    }

    /// Follows [`Proofs::is_sound`].
    pub(super) fn changed(&self) -> watch::Receiver<bool> {
        self.0.sound.subscribe()
    }

    /// `None` where it is proven; the end of the proof under way otherwise, which is begun where none
    /// is; an error where it was refused.
    fn look_or_begin(
        &self,
        version: &Arc<Version>,
    ) -> Result<Option<watch::Receiver<Option<End>>>, Arc<str>> {
        let id = version.keypair_id;
        let mut standings = self.standings();
        match standings.get(&id) {
            Some(Standing::Proven { .. }) => return Ok(None),
            Some(Standing::Refused { why, .. }) => return Err(Arc::clone(why)),
            Some(Standing::UnderWay { end, .. }) => return Ok(Some(end.clone())),
            None => {}
        }
        let number = self.0.numbers.fetch_add(1, Ordering::Relaxed);
        let (sender, end) = watch::channel(None);
        let under_way = Standing::UnderWay {
            number,
            end: end.clone(),
        };
        standings.insert(id, under_way);
        drop(standings);
        let flight = Flight {
            proofs: self.clone(),
            id,
            number,
        };
        let version = Arc::clone(version);
        tokio::spawn(async move {
            let _place = flight.proofs.0.places.acquire().await;
            let end = flight.proofs.prove(&version).await;
            flight.land(&end);
            sender.send_replace(Some(end));
        });
        Ok(Some(end))
    }

    async fn prove(&self, version: &Version) -> End {
        let label = label::of(version);
        match prove(&self.0.hsm, version, &label).await {
            Ok(()) => {
                info!(key = label, "read back, attacked and tested");
                End::Proven
            }
            Err(error) if is_about_the_key(&error) => {
                let why: Arc<str> = chain(&error).into();
                // Said once: it is proven again and again.
                if !self.is_refused_for(version.keypair_id, &why) {
                    error!(key = label, %why, "the key is refused");
                }
                End::Refused(why)
            }
            Err(error) => {
                let why = chain(&error);
                warn!(key = label, why, "the key could not be proven now");
                End::Unavailable(why.into())
            }
        }
    }

    fn is_refused_for(&self, id: KeypairId, reason: &str) -> bool {
        let standings = self.standings();
        matches!(standings.get(&id), Some(Standing::Refused { why, .. }) if **why == *reason)
    }

    fn publish(&self, standings: &HashMap<KeypairId, Standing>) {
        let refused = |standing: &Standing| matches!(standing, Standing::Refused { .. });
        let sound = !standings.values().any(refused);
        let replaced = |known: &mut bool| std::mem::replace(known, sound) != sound;
        self.0.sound.send_if_modified(replaced);
    }

    // Every change under the lock is whole.
    fn standings(&self) -> MutexGuard<'_, HashMap<KeypairId, Standing>> {
        let standings = &self.0.standings;
        standings.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl End {
    /// What is known from now on; `None` where nothing was learnt.
    fn standing(&self) -> Option<Standing> {
        let at = Instant::now();
        match self {
            Self::Proven => Some(Standing::Proven { at }),
            Self::Refused(why) => Some(Standing::Refused {
                why: Arc::clone(why),
                at,
            }),
            Self::Unavailable(_) => None,
        }
    }
}

/// A first proof under way. However it ends, nobody waits for it any longer.
struct Flight {
    proofs: Proofs,
    id: KeypairId,
    number: u64,
}

impl Flight {
    fn land(&self, end: &End) {
        let mut standings = self.proofs.standings();
        let ours = matches!(
            standings.get(&self.id),
            Some(Standing::UnderWay { number, .. }) if *number == self.number
        );
        if !ours {
            return;
        }
        match end.standing() {
            Some(now) => standings.insert(self.id, now),
            None => standings.remove(&self.id),
        };
        self.proofs.publish(&standings);
    }
}

impl Drop for Flight {
    /// Without effect after a landing.
    fn drop(&mut self) {
        self.land(&End::Unavailable("the proof ended without a result".into()));
    }
}

/// Proves one version on this token: its attributes, what it must refuse, and each padding it was shown
/// to do. Those that are forbidden now as well: officers may allow them again while the node serves.
/// That the token holds it once is for the inventory to say.
pub(super) async fn prove(hsm: &Hsm, version: &Version, label: &str) -> Result<(), OpenError> {
    let key = KeyRef::from(version);
    let profile = parse_profile(label, &version.profile)?;
    inspect(hsm, &key, label, &profile, Seen::InInventory).await?;
    let (spki, forms) = (&version.spki, &version.release_forms);
    for padding in &version.paddings_shown {
        self_test(hsm, &key, label, spki, *padding, forms).await?;
    }
    Ok(())
}

/// A profile that the ledger holds.
pub(super) fn parse_profile(label: &str, bytes: &[u8]) -> Result<Profile, OpenError> {
    Profile::parse(bytes).map_err(|source| OpenError::Profile {
        label: label.to_owned(),
        source,
    })
}

/// Whether something is known against the key, or only the HSM was not there to ask.
fn is_about_the_key(error: &OpenError) -> bool {
    match error {
        OpenError::Hsm(source) | OpenError::Inspect(InspectError::Hsm { source, .. }) => {
            source.next() != Next::TryAgain
        }
        OpenError::Inspect(InspectError::Randomness) => false,
        OpenError::Inspect(
            InspectError::Attribute { .. }
            | InspectError::Attack { .. }
            | InspectError::SelfTest { .. }
            | InspectError::PublicKey { .. },
        )
        | OpenError::Ledger(_)
        | OpenError::Audit(_)
        | OpenError::Stops(_)
        | OpenError::KeyMissing { .. }
        | OpenError::Lookalike { .. }
        | OpenError::OtherKey { .. }
        | OpenError::Incapable { .. }
        | OpenError::Profile { .. } => true,
    }
}
