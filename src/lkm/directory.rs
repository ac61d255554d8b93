//! Which KEK a key pair belongs to, as kekd shows it to this front-end. It is what binds a credential
//! to its tenant's KEKs, so a key pair that is not known here goes nowhere. A key pair never changes
//! its KEK: what was learnt stays true, and only what is new is asked for.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use tokio::sync::Mutex;

use super::kekd::NoDek;
use crate::client::{Client, ClientError};
use crate::proto::v1;
use crate::types::{KekName, KeypairId};

/// Between two looks for the sake of key pairs that are not known.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// What kekd shows.
#[derive(Default)]
pub struct Directory {
    known: ArcSwap<Known>,
    /// How the last reading went. Locked while it is being read.
    last: Mutex<Last>,
}

#[derive(Default)]
struct Last {
    read_at: Option<Instant>,
    /// When kekd last did not answer, and why: whoever waited behind that call does not wait for
    /// another.
    failed: Option<(Instant, NoDek)>,
}

#[derive(Default)]
struct Known {
    by_keypair: HashMap<KeypairId, KekName>,
    keks: Arc<[v1::Kek]>,
}

impl Directory {
    /// The KEK of a key pair; none where kekd shows none.
    ///
    /// # Errors
    /// Where kekd has to be asked and does not answer.
    pub async fn kek_of(&self, id: KeypairId, client: &Client) -> Result<Option<KekName>, NoDek> {
        if let Some(kek) = self.known.load().by_keypair.get(&id) {
            return Ok(Some(kek.clone()));
        }
        self.read(client, LOOK_INTERVAL).await?;
        Ok(self.known.load().by_keypair.get(&id).cloned())
    }

    /// Reads it anew, if that was not done within `age_max`.
    ///
    /// # Errors
    /// Where kekd does not answer.
    pub async fn read(&self, client: &Client, age_max: Duration) -> Result<(), NoDek> {
        // Many may find the same key pair missing: one of them asks.
        let mut last = self.last.lock().await;
        if last.read_at.is_some_and(|at| at.elapsed() < age_max) {
            return Ok(());
        }
        if let Some((at, why)) = &last.failed
            && at.elapsed() < age_max
        {
            return Err(why.clone());
        }
        if let Err(error) = self.ask(client).await {
            let why = NoDek::unavailable(error.to_string());
            last.failed = Some((Instant::now(), why.clone()));
            return Err(why);
        }
        *last = Last {
            read_at: Some(Instant::now()),
            failed: None,
        };
        Ok(())
    }

    async fn ask(&self, client: &Client) -> Result<(), ClientError> {
        let keks = client.list_keks().await?;
        let mut by_keypair = HashMap::new();
        for kek in &keks {
            let Ok(name) = kek.name.parse::<KekName>() else {
                return Err(ClientError::Protocol("a KEK came under no name"));
            };
            for version in &kek.versions {
                let Ok(id) = version.keypair_id.parse() else {
                    return Err(ClientError::Protocol("a version came without a keypair id"));
                };
                by_keypair.insert(id, name.clone());
            }
        }
        self.known.store(Arc::new(Known {
            by_keypair,
            keks: keks.into(),
        }));
        Ok(())
    }

    /// All KEKs as they were last shown.
    pub fn keks(&self) -> Arc<[v1::Kek]> {
        Arc::clone(&self.known.load().keks)
    }
}
