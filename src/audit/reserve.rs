//! Space put by for a full disk: a file whose blocks are given back when the log finds no room, so
//! that refusals can still be recorded. Nothing is ever written into it that is read. No SQL here.
//! The invariant: a release never lives on the reserve.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{FallocateFlags, fallocate};

/// The name of the file in the state folder.
const FILE_NAME: &str = "audit.reserve";
/// Bytes put by: some dozens of commits, each with up to `audit.batch_len_max` records.
const LEN: u64 = 2 * 1024 * 1024;

/// See the head of this file.
pub(super) struct Reserve {
    path: PathBuf,
    is_there: bool,
}

impl Reserve {
    /// Puts the space by where it is not yet. Without room for it the log works as well, and a full
    /// disk then takes no refusals either.
    pub(super) fn of(state_dir: &Path) -> Self {
        let mut reserve = Self {
            path: state_dir.join(FILE_NAME),
            is_there: false,
        };
        if let Err(error) = reserve.put_by() {
            let path = reserve.path.display();
            tracing::warn!(%path, %error, "no space is put by for refusals on a full disk");
        }
        reserve
    }

    /// Gives the space back to the file system. Returns whether there was any.
    pub(super) fn give_back(&mut self) -> bool {
        let gives = self.is_there && fs::remove_file(&self.path).is_ok();
        self.is_there = false;
        gives
    }

    /// Puts the space by again.
    pub(super) fn put_by(&mut self) -> io::Result<()> {
        if self.is_there {
            return Ok(());
        }
        let made = make(&self.path);
        if made.is_err() {
            // A part of it helps nobody and fills the disk.
            fs::remove_file(&self.path).ok();
        }
        self.is_there = made.is_ok();
        made
    }
}

fn make(path: &Path) -> io::Result<()> {
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)?;
    match fallocate(&file, FallocateFlags::empty(), 0, LEN) {
        Ok(()) => {}
        Err(rustix::io::Errno::OPNOTSUPP) => write_zeros(&mut file)?,
        Err(error) => return Err(error.into()),
    }
    file.sync_all()
}

fn write_zeros(file: &mut File) -> io::Result<()> {
    let block = [0; 64 * 1024];
    let mut left = LEN;
    while left > 0 {
        file.write_all(&block)?;
        left = left.saturating_sub(u64::try_from(block.len()).unwrap_or(LEN));
    }
    Ok(())
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test that cannot unwrap has failed")]
mod tests {
    use std::os::unix::fs::MetadataExt as _;

    use super::*;

    #[test]
    fn the_space_is_taken_given_back_once_and_taken_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(FILE_NAME);
        let mut reserve = Reserve::of(dir.path());
        assert!(path.metadata().unwrap().blocks() * 512 >= LEN);
        assert!(reserve.give_back());
        assert!(!reserve.give_back());
        assert!(!path.exists());
        reserve.put_by().unwrap();
        assert!(path.exists());
        let none = Reserve::of(&dir.path().join("nowhere"));
        assert!(!none.is_there);
    }
}
