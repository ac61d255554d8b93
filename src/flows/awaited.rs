//! Versions that are made in the primary token and wait until required replicas hold them. What a
//! restart needs to go on waiting is in a file beside the ledger: public key and certificate, nothing
//! secret. The file proves nothing: what it says is proven against the token before it is used, and
//! without it the version is given up, as one whose making was cut short.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use prost::Message as _;
use serde::{Deserialize, Serialize};
use tempfile::NamedTempFile;
use tracing::warn;

use super::replica_proof::Subject;
use crate::clock::UnixMs;
use crate::proto::v1;
use crate::types::KeypairId;

/// How the files' names begin; the key pair's id follows.
const PREFIX: &str = "awaited-";
/// Longest file that is read: a version with its profile is far below.
const LEN_MAX: u64 = 256 * 1024;

/// One version that waits.
#[derive(Debug, Clone)]
pub(super) struct Waiting {
    /// Since when, by the node's clock.
    pub(super) since: UnixMs,
    /// What its entry is to say.
    pub(super) made: v1::KekVersionActivated,
    /// Whether this process has proven it on the primary. What is only read of proves nothing, and
    /// no token is asked about it.
    pub(super) is_proven: bool,
}

#[derive(Serialize, Deserialize)]
struct File {
    since_ms: u64,
    /// `KekVersionActivated`, protobuf, in base64.
    version: String,
}

/// See the head of this file.
pub(super) struct Awaited {
    folder: PathBuf,
    versions: Mutex<BTreeMap<KeypairId, Waiting>>,
}

impl Awaited {
    /// Those that an earlier process left waiting.
    pub(super) fn read(state_dir: &Path) -> Self {
        let mut versions = BTreeMap::new();
        let entries = fs::read_dir(state_dir).into_iter().flatten().flatten();
        for entry in entries {
            let name = entry.file_name();
            let Some(id) = name.to_str().and_then(|name| name.strip_prefix(PREFIX)) else {
                continue;
            };
            match id.parse().ok().zip(read(&entry.path())) {
                Some((id, waiting)) => {
                    versions.insert(id, waiting);
                }
                None => {
                    let path = entry.path();
                    warn!(path = %path.display(), "a version that waits cannot be read of");
                }
            }
        }
        Self {
            folder: state_dir.to_owned(),
            versions: Mutex::new(versions),
        }
    }

    /// One that waits.
    pub(super) fn get(&self, id: KeypairId) -> Option<Waiting> {
        self.versions().get(&id).cloned()
    }

    /// Takes down that a version was proven on the primary, and what its entry is to say.
    pub(super) fn prove(&self, id: KeypairId, made: v1::KekVersionActivated) {
        if let Some(waiting) = self.versions().get_mut(&id) {
            waiting.made = made;
            waiting.is_proven = true;
        }
    }

    /// What replicas are to prove.
    pub(super) fn subjects(&self) -> Vec<Subject> {
        let versions = self.versions();
        let subjects = versions.values();
        subjects
            .filter(|waiting| waiting.is_proven)
            .filter_map(|waiting| Subject::of_made(&waiting.made))
            .collect()
    }

    /// All, by the id of their key pairs.
    pub(super) fn all(&self) -> Vec<(KeypairId, Waiting)> {
        let versions = self.versions();
        let all = versions.iter();
        all.map(|(id, waiting)| (*id, waiting.clone())).collect()
    }

    /// Has a version wait. Blocks for as long as a small file takes.
    ///
    /// # Errors
    /// Where the file cannot be written: the version waits for as long as this process lives.
    pub(super) fn add(&self, id: KeypairId, waiting: Waiting) -> io::Result<()> {
        let file = File {
            since_ms: waiting.since.0,
            version: STANDARD.encode(waiting.made.encode_to_vec()),
        };
        self.versions().insert(id, waiting);
        let bytes = serde_json::to_vec(&file)?;
        let mut file = NamedTempFile::with_prefix_in("waiting-", &self.folder)?;
        file.write_all(&bytes)?;
        file.as_file().sync_all()?;
        file.persist(self.path(id))?;
        fs::File::open(&self.folder)?.sync_all()
    }

    /// Forgets those that wait no more: what began them has ended.
    pub(super) fn keep_only(&self, wanted: impl Fn(KeypairId) -> bool) {
        let ended: Vec<KeypairId> = {
            let versions = self.versions();
            versions.keys().copied().filter(|id| !wanted(*id)).collect()
        };
        for id in ended {
            self.versions().remove(&id);
            if let Err(why) = fs::remove_file(self.path(id))
                && why.kind() != io::ErrorKind::NotFound
            {
                warn!(%id, %why, "the file of a version that waits no more cannot be removed");
            }
        }
    }

    fn path(&self, id: KeypairId) -> PathBuf {
        self.folder.join(format!("{PREFIX}{id}"))
    }

    fn versions(&self) -> MutexGuard<'_, BTreeMap<KeypairId, Waiting>> {
        self.versions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn read(path: &Path) -> Option<Waiting> {
    let len = fs::metadata(path).ok()?.len();
    let bytes = (len <= LEN_MAX).then(|| fs::read(path).ok())??;
    let file: File = serde_json::from_slice(&bytes).ok()?;
    let version = STANDARD.decode(file.version).ok()?;
    Some(Waiting {
        since: UnixMs(file.since_ms),
        made: v1::KekVersionActivated::decode(version.as_slice()).ok()?,
        is_proven: false,
    })
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test that cannot unwrap has failed")]
mod tests {
    use super::*;

    #[test]
    fn what_waits_is_read_again_until_it_has_ended() {
        let dir = tempfile::tempdir().unwrap();
        let id = KeypairId::from_random([7; 16]);
        let waiting = Waiting {
            since: UnixMs(5),
            made: v1::KekVersionActivated {
                kek: "a".to_owned(),
                spki: vec![1, 2],
                ..v1::KekVersionActivated::default()
            },
            is_proven: true,
        };
        Awaited::read(dir.path()).add(id, waiting).unwrap();
        let again = Awaited::read(dir.path());
        let found = again.get(id).unwrap();
        assert_eq!((found.since, found.is_proven), (UnixMs(5), false));
        assert_eq!(found.made.spki, [1, 2]);
        again.keep_only(|kept| kept == id);
        assert!(again.get(id).is_some());
        again.keep_only(|_| false);
        assert!(again.get(id).is_none());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_file_that_is_none_is_left_alone_and_nothing_waits() {
        let dir = tempfile::tempdir().unwrap();
        let id = KeypairId::from_random([7; 16]);
        for text in ["", "{}", r#"{"since_ms":1,"version":"!"}"#] {
            fs::write(dir.path().join(format!("{PREFIX}{id}")), text).unwrap();
            assert!(Awaited::read(dir.path()).get(id).is_none(), "{text}");
        }
        fs::write(dir.path().join("awaited-x"), "{}").unwrap();
        assert!(Awaited::read(dir.path()).all().is_empty());
    }
}
