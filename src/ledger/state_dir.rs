//! The state directory: where the ledger's files are, and the lock that keeps a second process out
//! of it. Nothing is read or written here but the lock.

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use super::error::LedgerError;

/// The ledger's file in the state directory.
pub const LEDGER_FILE: &str = "ledger.db";
/// The file whose lock says that the state directory is in use.
pub const LOCK_FILE: &str = "kekd.lock";
/// The ledger while `kekd init` is at work.
const STAGED_FILE: &str = "ledger.db.new";

/// A state directory that this process has to itself for as long as the value lives. The kernel
/// lets go of the lock when the process ends in any way (flock(2)); worker processes do not
/// inherit it, for Rust opens files close-on-exec.
pub(super) struct StateDir {
    path: PathBuf,
    lock: File,
}

impl StateDir {
    /// Takes a directory that holds a ledger.
    pub(super) fn hold(path: &Path) -> Result<Self, LedgerError> {
        let (ledger, staged) = (path.join(LEDGER_FILE), path.join(STAGED_FILE));
        if !exists(&ledger)? {
            return Err(if exists(&staged)? {
                LedgerError::Unfinished { path: staged }
            } else {
                LedgerError::Missing { path: ledger }
            });
        }
        Self::lock(path)
    }

    /// Takes a directory that holds no ledger and no trace of one, making it if need be.
    pub(super) fn claim(path: &Path) -> Result<Self, LedgerError> {
        let is_new = !exists(path)?;
        let made = DirBuilder::new().recursive(true).mode(0o700).create(path);
        made.map_err(io_error("make the directory", path))?;
        let dir = Self::lock(path)?;
        // A new directory is durable only with its name in the one above.
        match path.parent() {
            Some(above) if is_new && !above.as_os_str().is_empty() => sync_dir(above)?,
            Some(_) | None => {}
        }
        if exists(&dir.ledger())? {
            return Err(LedgerError::Exists { path: dir.ledger() });
        }
        if exists(&dir.staged())? {
            return Err(LedgerError::Unfinished { path: dir.staged() });
        }
        Ok(dir)
    }

    fn lock(path: &Path) -> Result<Self, LedgerError> {
        let found = path.metadata().map_err(io_error("look at", path))?;
        let found_mode = found.permissions().mode() & 0o7777;
        if !found.is_dir() || found_mode & 0o077 != 0 {
            return Err(LedgerError::DirOpenToOthers {
                path: path.to_owned(),
                found_mode,
            });
        }
        let lock_path = path.join(LOCK_FILE);
        let mut lock = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&lock_path)
            .map_err(io_error("open", &lock_path))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(LedgerError::Locked {
                    holder: holder(&lock),
                    path: lock_path,
                });
            }
            Err(TryLockError::Error(source)) => return Err(io_error("lock", &lock_path)(source)),
        }
        // Only for the message above: the lock is what counts.
        lock.set_len(0)
            .and_then(|()| writeln!(lock, "process {}", std::process::id()))
            .map_err(io_error("write", &lock_path))?;
        Ok(Self {
            path: path.to_owned(),
            lock,
        })
    }

    /// The ledger's file.
    pub(super) fn ledger(&self) -> PathBuf {
        self.path.join(LEDGER_FILE)
    }

    /// The ledger's file before it is real.
    pub(super) fn staged(&self) -> PathBuf {
        self.path.join(STAGED_FILE)
    }

    /// Makes the names in the directory durable (fsync(2) on the directory).
    pub(super) fn sync(&self) -> Result<(), LedgerError> {
        sync_dir(&self.path)
    }
}

impl Drop for StateDir {
    /// Closing alone would not do: a child of ours between fork and exec still has the file open,
    /// and with it the lock. Where unlocking fails, closing is what is left.
    fn drop(&mut self) {
        self.lock.unlock().unwrap_or_default();
    }
}

/// Makes an error of what was tried on a path.
pub(super) fn io_error(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> LedgerError {
    let path = path.to_owned();
    move |source| LedgerError::Io {
        action,
        path,
        source,
    }
}

fn sync_dir(path: &Path) -> Result<(), LedgerError> {
    File::open(path)
        .and_then(|dir| dir.sync_all())
        .map_err(io_error("sync", path))
}

fn exists(path: &Path) -> Result<bool, LedgerError> {
    match path.symlink_metadata() {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(io_error("look at", path)(error)),
    }
}

fn holder(lock: &File) -> String {
    let mut text = String::new();
    match lock.take(64).read_to_string(&mut text) {
        Ok(_) if !text.trim().is_empty() => text.trim().to_owned(),
        Ok(_) | Err(_) => "another process".to_owned(),
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test that cannot unwrap has failed")]
mod tests {
    use super::*;

    #[test]
    fn a_child_that_is_just_being_started_does_not_keep_the_lock() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state");
        let first = StateDir::claim(&path).unwrap();
        // What a child shares between fork and exec is the same open file.
        let in_the_child = first.lock.try_clone().unwrap();
        assert!(StateDir::claim(&path).is_err());
        drop(first);
        StateDir::claim(&path).unwrap();
        drop(in_the_child);
    }
}
