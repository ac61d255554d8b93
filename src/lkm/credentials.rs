//! The Hawk credentials in force: who may ask, for which KEKs, in which lane. Read whole from their
//! file; secrets leave it as HMAC keys and never as text. The invariant: the memory of nonces of an id
//! outlives every reload, so that a reload lets no replay in.

use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::credential_file::CredentialFile;
use super::hawk::{Nonces, Secret};
use crate::types::KekName;

/// Credentials one front-end has at most.
const CREDENTIALS_MAX: usize = 256;
/// Bytes of the file read at most.
const FILE_LEN_MAX: u64 = 1024 * 1024;

/// How a caller's unwraps travel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Lane {
    /// One call each, at once: somebody waits to listen.
    #[default]
    Interactive,
    /// Over streams, with places of their own: an export of thousands takes none from the others.
    Bulk,
}

impl Lane {
    /// The word in files, logs and metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Interactive => "interactive",
            Self::Bulk => "bulk",
        }
    }
}

/// One caller. No `Debug`: it holds secrets.
pub struct Credential {
    /// Its Hawk id.
    pub id: String,
    /// The KEKs it may unwrap under.
    pub keks: Vec<KekName>,
    /// Its lane.
    pub lane: Lane,
    /// One secret, or two while one follows the other; the newer first.
    pub secrets: Vec<Secret>,
    /// The nonces it has used.
    pub nonces: Arc<Nonces>,
}

/// All of them.
pub struct Credentials {
    by_id: HashMap<String, Arc<Credential>>,
    /// Stands in for an id that nobody has, so that it costs the same.
    nobody: Arc<Credential>,
}

/// Why the file does not serve. The operator's to mend.
#[derive(Debug, thiserror::Error)]
pub enum CredentialsError {
    /// It cannot be read.
    #[error(
        "hawk.credentials_file: cannot read {}: {source}; make one with kekd-lkm credential new",
        file.display()
    )]
    Unreadable {
        /// The file.
        file: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// Others may read it.
    #[error(
        "hawk.credentials_file: {} has mode {mode:04o}: others can read it, or its group can write \
         it; make it 0600 (0440 is accepted, as systemd's credentials have it)",
        file.display()
    )]
    TooOpen {
        /// The file.
        file: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// It is not what it should be. The text never quotes the file: it holds secrets.
    #[error("hawk.credentials_file: {} is not a file of credentials: {problem}", file.display())]
    Malformed {
        /// The file.
        file: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// No randomness from the operating system.
    #[error("the operating system gives no randomness")]
    NoRandomness,
}

/// The nonces of every id there ever was in this process.
pub struct Memory {
    max: usize,
    by_id: HashMap<String, Arc<Nonces>>,
}

impl Memory {
    /// Each id gets room for `max` nonces.
    pub fn new(max: usize) -> Self {
        Self {
            max,
            by_id: HashMap::new(),
        }
    }

    fn of(&mut self, id: &str) -> Arc<Nonces> {
        let max = self.max;
        let fresh = || Arc::new(Nonces::new(max));
        Arc::clone(self.by_id.entry(id.to_owned()).or_insert_with(fresh))
    }
}

impl Credentials {
    /// Reads the file. Blocks.
    ///
    /// # Errors
    /// Where it cannot be read, others can read it, or it is not one.
    pub fn load(file: &Path, memory: &mut Memory) -> Result<Self, CredentialsError> {
        let text = read(file)?;
        let malformed = |problem: String| CredentialsError::Malformed {
            file: file.to_owned(),
            problem,
        };
        let read = CredentialFile::parse(&text).map_err(|error| malformed(error.to_string()))?;
        if read.credential.len() > CREDENTIALS_MAX {
            return Err(malformed(format!("it has more than {CREDENTIALS_MAX}")));
        }
        let mut by_id = HashMap::new();
        for entry in &read.credential {
            let credential = Credential {
                id: entry.id.clone(),
                keks: entry.keks.clone(),
                lane: entry.lane,
                secrets: entry.secrets.iter().map(|text| Secret::new(text)).collect(),
                nonces: memory.of(&entry.id),
            };
            by_id.insert(entry.id.clone(), Arc::new(credential));
        }
        let mut bytes = Zeroizing::new([0; 32]);
        aws_lc_rs::rand::fill(&mut *bytes).map_err(|_| CredentialsError::NoRandomness)?;
        let nobody = Arc::new(Credential {
            id: String::new(),
            keks: Vec::new(),
            lane: Lane::Interactive,
            secrets: vec![Secret::new(&format!("{bytes:?}"))],
            nonces: Arc::new(Nonces::new(0)),
        });
        Ok(Self { by_id, nobody })
    }

    /// The one with this id.
    pub fn of(&self, id: &str) -> Option<&Arc<Credential>> {
        self.by_id.get(id)
    }

    /// Whether there is one with this id.
    pub fn has(&self, id: &str) -> bool {
        self.by_id.contains_key(id)
    }

    /// What stands in where there is none: its secret is known to nobody.
    pub const fn nobody(&self) -> &Arc<Credential> {
        &self.nobody
    }

    /// All of them, in no order.
    pub fn all(&self) -> impl Iterator<Item = &Arc<Credential>> {
        self.by_id.values()
    }
}

/// The text of a file that holds secrets.
pub(super) fn read(file: &Path) -> Result<Zeroizing<String>, CredentialsError> {
    let unreadable = |source| CredentialsError::Unreadable {
        file: file.to_owned(),
        source,
    };
    let found = fs::metadata(file).map_err(unreadable)?;
    let mode = found.permissions().mode();
    if mode & 0o027 != 0 {
        return Err(CredentialsError::TooOpen {
            file: file.to_owned(),
            mode: mode & 0o7777,
        });
    }
    if found.len() > FILE_LEN_MAX {
        return Err(CredentialsError::Malformed {
            file: file.to_owned(),
            problem: format!("it has more than {FILE_LEN_MAX} bytes"),
        });
    }
    fs::read_to_string(file)
        .map(Zeroizing::new)
        .map_err(unreadable)
}
