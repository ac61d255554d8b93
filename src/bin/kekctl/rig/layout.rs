//! What lies where in a rig's folder, and the mark that says the folder is a rig: without it nothing
//! is ever removed. Paths are absolute, so that they hold wherever they are used from.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use serde::{Deserialize, Serialize};

use super::daemon::Role;
use crate::exit::Exit;
use crate::failure::Failure;

/// The first words of the mark.
const FORMAT: &str = "kekd-rig-v1";
/// Longest path of a Unix socket: `sun_path` has 108 bytes, the last one zero (unix(7)).
const SOCKET_PATH_LEN_MAX: usize = 107;

/// The mark: what the other commands of a rig have to know again.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Mark {
    format: String,
    /// The daemon's program.
    pub kekd: PathBuf,
    /// Where it listens.
    pub endpoint: String,
    /// The variables with which it sees its token.
    pub environment: BTreeMap<String, String>,
    /// The token, where the rig did not make it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub foreign_token: Option<ForeignToken>,
    /// The front-end, where the rig has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lkm: Option<Lkm>,
    /// The names of its replicas.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub replicas: Vec<String>,
}

/// The Local Key Manager before the rig's kekd.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Lkm {
    /// Its program.
    pub program: PathBuf,
    /// The URL that the cloud would call.
    pub url: String,
}

/// A token that outlives the rig.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ForeignToken {
    pub label: String,
    pub serial: String,
}

impl Mark {
    /// The mark of a rig that made its token.
    pub fn new(kekd: PathBuf, endpoint: String, environment: BTreeMap<String, String>) -> Self {
        Self {
            format: FORMAT.to_owned(),
            kekd,
            endpoint,
            environment,
            foreign_token: None,
            lkm: None,
            replicas: Vec::new(),
        }
    }
}

/// A rig's folder.
#[derive(Debug, Clone)]
pub struct Layout {
    dir: PathBuf,
}

impl Layout {
    /// Makes the folder, mode 0700, or takes an empty one.
    pub fn create(dir: &Path) -> anyhow::Result<Self> {
        let layout = Self {
            dir: std::path::absolute(dir)?,
        };
        let shown = layout.dir.display();
        let too_long = layout.socket().as_os_str().len() > SOCKET_PATH_LEN_MAX;
        if too_long || layout.dir.to_str().is_none() {
            let text = format!(
                "{shown} is no folder for a rig: its path must be UTF-8 and short enough for the \
                 path of a Unix socket, {SOCKET_PATH_LEN_MAX} bytes in all"
            );
            return Err(Failure::new(Exit::CannotCreate, "FOLDER_NOT_FIT", text).into());
        }
        fs::DirBuilder::new()
            .mode(0o700)
            .recursive(true)
            .create(&layout.dir)
            .and_then(|()| fs::read_dir(&layout.dir))
            .map_err(|error| {
                let text = format!("{shown} cannot be made: {error}");
                Failure::new(Exit::CannotCreate, "FOLDER_NOT_MADE", text)
            })
            .and_then(|mut entries| match entries.next() {
                None => Ok(()),
                Some(_) => {
                    let text = format!(
                        "{shown} is not empty; a rig gets a folder of its own (an old rig is \
                         removed with kekctl rig down)"
                    );
                    Err(Failure::new(Exit::CannotCreate, "FOLDER_NOT_EMPTY", text))
                }
            })?;
        for folder in ["pki", "officers", "run"] {
            layout.folder(folder)?;
        }
        Ok(layout)
    }

    /// Opens the folder of a rig that exists.
    pub fn open(dir: &Path) -> anyhow::Result<(Self, Mark)> {
        let layout = Self {
            dir: std::path::absolute(dir)?,
        };
        let mark = fs::read(layout.mark())
            .ok()
            .and_then(|bytes| serde_json::from_slice::<Mark>(&bytes).ok())
            .filter(|mark| mark.format == FORMAT);
        match mark {
            Some(mark) => Ok((layout, mark)),
            None => {
                let (dir, mark) = (layout.dir.display(), layout.mark());
                let text = format!("{dir} is no rig: {} is missing or not one", mark.display());
                Err(Failure::new(Exit::NoInput, "NOT_A_RIG", text).into())
            }
        }
    }

    /// Writes the mark.
    pub fn write_mark(&self, mark: &Mark) -> anyhow::Result<()> {
        self.write(&self.mark(), serde_json::to_string(mark)?.as_bytes())
    }

    /// Makes a folder in the rig's, mode 0700.
    pub fn folder(&self, name: &str) -> anyhow::Result<()> {
        let path = self.dir.join(name);
        fs::DirBuilder::new()
            .mode(0o700)
            .create(&path)
            .with_context(|| format!("{} cannot be made", path.display()))
    }

    /// Writes a new file with mode 0600.
    pub fn write(&self, path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
        fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(path)
            .and_then(|mut file| file.write_all(bytes))
            .with_context(|| format!("{} cannot be written", path.display()))
    }

    pub fn dir(&self) -> &Path {
        &self.dir
    }

    fn mark(&self) -> PathBuf {
        self.dir.join("rig.json")
    }

    pub fn softhsm_config(&self) -> PathBuf {
        self.dir.join("softhsm2.conf")
    }

    pub fn tokens(&self) -> PathBuf {
        self.dir.join("tokens")
    }

    pub fn replica_config(&self, name: &str) -> PathBuf {
        self.dir.join(format!("softhsm2-{name}.conf"))
    }

    pub fn replica_tokens(&self, name: &str) -> PathBuf {
        self.dir.join(format!("tokens-{name}"))
    }

    pub fn pin(&self) -> PathBuf {
        self.dir.join("pin")
    }

    pub fn so_pin(&self) -> PathBuf {
        self.dir.join("so-pin")
    }

    pub fn certificate(&self, name: &str) -> PathBuf {
        self.dir.join("pki").join(format!("{name}.crt"))
    }

    pub fn private_key(&self, name: &str) -> PathBuf {
        self.dir.join("pki").join(format!("{name}.key"))
    }

    pub fn officer(&self, name: &str) -> PathBuf {
        self.dir.join("officers").join(name)
    }

    pub fn genesis(&self) -> PathBuf {
        self.dir.join("genesis.toml")
    }

    pub fn signature(&self, officer: &str) -> PathBuf {
        self.dir.join(format!("genesis.toml.{officer}.sig"))
    }

    pub fn config(&self, role: Role) -> PathBuf {
        self.dir.join(format!("{}.toml", role.name()))
    }

    pub fn credentials(&self) -> PathBuf {
        self.dir.join("credentials.toml")
    }

    pub fn state(&self) -> PathBuf {
        self.dir.join("state")
    }

    pub fn socket(&self) -> PathBuf {
        self.dir.join("run").join("kekd.sock")
    }

    pub fn notify_socket(&self) -> PathBuf {
        self.dir.join("run").join("ready.sock")
    }

    pub fn log(&self, role: Role) -> PathBuf {
        self.dir.join(format!("{}.log", role.name()))
    }

    pub fn pid(&self, role: Role) -> PathBuf {
        self.dir.join(format!("{}.pid", role.name()))
    }

    pub fn env(&self) -> PathBuf {
        self.dir.join("env")
    }

    pub fn officer_env(&self) -> PathBuf {
        self.dir.join("officer-env")
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test that cannot unwrap has failed")]
mod tests {
    use super::*;

    #[test]
    fn only_a_marked_folder_is_a_rig() {
        let dir = tempfile::tempdir().unwrap();
        let inside = dir.path().join("rig");
        let layout = Layout::create(&inside).unwrap();
        let failure = Failure::from(Layout::open(&inside).unwrap_err());
        assert_eq!(failure.reason, "NOT_A_RIG");

        let mark = Mark::new("/kekd".into(), "https://a:1".to_owned(), BTreeMap::new());
        layout.write_mark(&mark).unwrap();
        assert_eq!(Layout::open(&inside).unwrap().1.endpoint, "https://a:1");
        let failure = Failure::from(Layout::create(&inside).unwrap_err());
        assert_eq!(failure.reason, "FOLDER_NOT_EMPTY");
    }

    #[test]
    fn a_path_too_long_for_a_socket_is_refused_before_anything_is_made() {
        let dir = tempfile::tempdir().unwrap();
        let long = dir.path().join("x".repeat(100));
        let failure = Failure::from(Layout::create(&long).unwrap_err());
        assert_eq!(failure.reason, "FOLDER_NOT_FIT");
        assert!(!long.exists());
    }
}
