//! The latest time at which the node's clock was known to be right, noted in the state folder: what the
//! next process holds its own clock against. It is a note and no proof: without it, or with an old
//! one, the node waits for an officer before it acts of its own accord; nothing else depends on it.
//!
//! The invariant: only a clock that is confirmed is noted, so a clock that is wrong at the start does
//! not vouch for itself at the next.

use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;
use tracing::warn;

use crate::clock::UnixMs;

/// The file in the state folder: milliseconds since 1970-01-01 UTC in decimal digits, and a line feed.
pub const FILE_NAME: &str = "clock";
/// Between two notes, in milliseconds: an hour.
const INTERVAL_MS: u64 = 3600 * 1000;

/// The note.
#[derive(Debug)]
pub(super) struct Noted {
    folder: PathBuf,
    at: UnixMs,
}

impl Noted {
    /// What was noted; 1970 where nothing was, or nothing that can be read.
    pub(super) fn read(state_dir: &Path) -> Self {
        let path = state_dir.join(FILE_NAME);
        let at = match fs::read_to_string(&path) {
            Ok(text) => text.strip_suffix('\n').and_then(|text| text.parse().ok()),
            Err(why) if why.kind() == io::ErrorKind::NotFound => Some(0),
            Err(_) => None,
        };
        if at.is_none() {
            warn!(path = %path.display(), "the note of the time cannot be read; it is done without");
        }
        Self {
            folder: state_dir.to_owned(),
            at: UnixMs(at.unwrap_or_default()),
        }
    }

    /// The time that was noted.
    pub(super) const fn at(&self) -> UnixMs {
        self.at
    }

    /// Notes the time, where the note is older than an hour. Blocks for as long as a small file takes.
    ///
    /// # Errors
    /// Where the file cannot be written; the old note stays.
    pub(super) fn note(&mut self, now: UnixMs) -> io::Result<()> {
        if now.0 < self.at.0.saturating_add(INTERVAL_MS) {
            return Ok(());
        }
        let mut file = NamedTempFile::with_prefix_in("clock-", &self.folder)?;
        writeln!(file, "{}", now.0)?;
        file.as_file().sync_all()?;
        file.persist(self.folder.join(FILE_NAME))?;
        self.at = now;
        Ok(())
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test that cannot unwrap has failed")]
mod tests {
    use super::*;

    #[test]
    fn what_was_noted_is_read_again_and_anything_else_is_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let read = || Noted::read(dir.path()).at();
        assert_eq!(read(), UnixMs(0));
        let mut noted = Noted::read(dir.path());
        noted.note(UnixMs(INTERVAL_MS)).unwrap();
        noted.note(UnixMs(INTERVAL_MS + 1)).unwrap();
        assert_eq!(read(), UnixMs(INTERVAL_MS), "an hour has not gone by");
        noted.note(UnixMs(2 * INTERVAL_MS)).unwrap();
        assert_eq!(read(), UnixMs(2 * INTERVAL_MS));
        for bad in ["", "7", "-7\n", "7\n\n", "soon\n"] {
            fs::write(dir.path().join(FILE_NAME), bad).unwrap();
            assert_eq!(read(), UnixMs(0), "{bad:?}");
        }
    }
}
