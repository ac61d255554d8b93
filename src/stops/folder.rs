//! The drop folder: `touch STATE_DIR/stop.d/all`, or the name of a KEK in the place of `all`, stops
//! without a client, a certificate or a signature. Only the service's user and root can do it. Only
//! names are looked at, never what is behind them. Nothing is judged here.

use std::ffi::OsStr;
use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use super::StopsError;
use crate::types::KekName;

/// The name of the drop folder in the state folder.
pub const FOLDER: &str = "stop.d";

/// The file that stops every KEK. A KEK of that name cannot be stopped alone in this way.
const ALL: &str = "all";

/// Names that are looked at. `all` is found beyond them, too.
const NAMES_MAX: usize = 1024;

/// What is in the folder.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// What the names stop; `None` is every KEK.
    pub(super) targets: Vec<Option<KekName>>,
    /// Names that stop nothing, as text.
    pub(super) strange: Vec<String>,
    /// Whether every name was looked at.
    pub(super) is_whole: bool,
}

/// Makes the folder (mode 0700) where it is missing.
pub(super) fn create(state_dir: &Path) -> Result<(), StopsError> {
    let path = state_dir.join(FOLDER);
    match DirBuilder::new().mode(0o700).create(&path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            Err(refused("make the folder", path, error))
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Looks at the names in the folder. One that was removed is made again: it is only a place.
pub(super) fn look(state_dir: &Path) -> Result<Found, StopsError> {
    let path = state_dir.join(FOLDER);
    let entries = match fs::read_dir(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            create(state_dir)?;
            fs::read_dir(&path)
        }
        entries => entries,
    };
    let mut entries = entries.map_err(|source| refused("read it", path.clone(), source))?;
    let mut found = Found {
        is_whole: true,
        ..Found::default()
    };
    for entry in entries.by_ref().take(NAMES_MAX) {
        let entry = entry.map_err(|source| refused("read it", path.clone(), source))?;
        found.note(&entry.file_name());
    }
    if entries.next().is_some() {
        found.is_whole = false;
        found.strange.push(format!("more than {NAMES_MAX} names"));
        if !found.targets.contains(&None) && fs::symlink_metadata(path.join(ALL)).is_ok() {
            found.targets.push(None);
        }
    }
    Ok(found)
}

/// Removes the file that stops `target`, if there is one.
pub(super) fn remove(state_dir: &Path, target: Option<&KekName>) -> Result<(), StopsError> {
    let name = target.map_or(ALL, KekName::as_str);
    let path = state_dir.join(FOLDER).join(name);
    match fs::remove_file(&path) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => {
            Err(StopsError::NotRemoved { path, source })
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

impl Found {
    fn note(&mut self, name: &OsStr) {
        let text = name.to_string_lossy();
        if text == ALL {
            self.targets.push(None);
        } else if let Ok(kek) = text.parse() {
            self.targets.push(Some(kek));
        } else {
            self.strange.push(text.escape_debug().to_string());
        }
    }
}

const fn refused(action: &'static str, path: PathBuf, source: io::Error) -> StopsError {
    StopsError::Io {
        action,
        path,
        source,
    }
}
