//! The files that make up the open log, and whether their paths still name them. SQLite goes on
//! writing to a file that was unlinked, and says so to nobody; a record in such a file is lost at
//! the next start. No SQL here.

use std::fs::{self, File, TryLockError};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use super::{AuditError, Unavailable};

/// The name of the log in the state folder. SQLite adds `-wal` and `-shm` beside it.
const FILE_NAME: &str = "audit.db";

/// Where the log of a state folder is.
pub(super) fn path_in(state_dir: &Path) -> PathBuf {
    state_dir.join(FILE_NAME)
}

/// Refuses where the log, or what SQLite puts beside one, is in the state folder.
pub(super) fn require_none(state_dir: &Path) -> Result<(), AuditError> {
    let path = path_in(state_dir);
    for path in [path.clone(), beside(&path, "-wal"), beside(&path, "-shm")] {
        match fs::symlink_metadata(&path) {
            Ok(_) => return Err(AuditError::Exists { path }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(AuditError::io(&path, "look for it", error)),
        }
    }
    Ok(())
}

/// Opens the log's file, which must exist, and locks it for this process (flock(2)).
///
/// The lock must outlive every SQLite connection this process has on the file: closing any
/// descriptor of a file drops the POSIX locks that SQLite holds on it.
pub(super) fn lock(path: &Path) -> Result<File, AuditError> {
    let file = File::open(path).map_err(|source| {
        if source.kind() == io::ErrorKind::NotFound {
            AuditError::Missing { path: path.into() }
        } else {
            AuditError::io(path, "open it", source)
        }
    })?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(AuditError::InUse { path: path.into() }),
        Err(TryLockError::Error(source)) => Err(AuditError::io(path, "lock it", source)),
    }
}

/// One file by path and by device and inode number. While it is held open the kernel gives its
/// inode number to no other file, so equality means that the path still names it.
struct Identity {
    path: PathBuf,
    device: u64,
    inode: u64,
}

impl Identity {
    fn of(path: PathBuf) -> Result<Self, AuditError> {
        let found = fs::metadata(&path)
            .map_err(|source| AuditError::io(&path, "look at its inode", source))?;
        Ok(Self {
            device: found.dev(),
            inode: found.ino(),
            path,
        })
    }

    fn is_in_place(&self) -> bool {
        fs::metadata(&self.path).is_ok_and(|found| {
            found.nlink() > 0 && found.dev() == self.device && found.ino() == self.inode
        })
    }
}

/// The database, its write-ahead log and its shared memory. All three matter: commits go to the
/// write-ahead log, and a second process that finds no shared memory makes its own and no longer
/// sees our locks.
pub(super) struct Files([Identity; 3]);

impl Files {
    /// The files as they are now, right after SQLite opened them; `lock` is the descriptor made
    /// before that, so a file exchanged in between is noticed.
    pub(super) fn opened(path: &Path, lock: &File) -> Result<Self, AuditError> {
        let locked = lock
            .metadata()
            .map_err(|source| AuditError::io(path, "look at its inode", source))?;
        let database = Identity::of(path.to_owned())?;
        if (locked.dev(), locked.ino()) != (database.device, database.inode) {
            return Err(AuditError::Unavailable(Unavailable::FileMoved {
                path: path.to_owned(),
            }));
        }
        Ok(Self([
            database,
            Identity::of(beside(path, "-wal"))?,
            Identity::of(beside(path, "-shm"))?,
        ]))
    }

    /// Refuses unless every path still names the file that was opened.
    pub(super) fn require_in_place(&self) -> Result<(), Unavailable> {
        match self.0.iter().find(|file| !file.is_in_place()) {
            None => Ok(()),
            Some(moved) => Err(Unavailable::FileMoved {
                path: moved.path.clone(),
            }),
        }
    }
}

/// Whether the file system of the log takes no writes at all. Asked with a file without a name: closing a
/// descriptor of the log would drop SQLite's locks.
pub(super) fn is_read_only(path: &Path) -> bool {
    let folder = path.parent().unwrap_or(Path::new("."));
    let made = tempfile::tempfile_in(folder);
    made.is_err_and(|error| error.kind() == io::ErrorKind::ReadOnlyFilesystem)
}

/// Bytes of the write-ahead log; 0 where there is none.
pub(super) fn wal_len(path: &Path) -> u64 {
    fs::metadata(beside(path, "-wal")).map_or(0, |found| found.len())
}

/// A file beside the log.
pub(super) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}
