//! Files that commands read and write. Inputs have a longest length; outputs appear whole, with
//! mode 0600, or not at all, and replace nothing unless told to. `-` is standard input or output;
//! bytes that are no text are never thrown at a terminal.

use std::io::{self, IsTerminal as _, Read as _, Write as _};
use std::path::{Path, PathBuf};

use anyhow::Context as _;

use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::Stream;

/// Reads a file, or standard input for `-`, of at most `len_max` bytes.
pub fn read(path: &Path, len_max: u64) -> anyhow::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    // One byte more than allowed tells "too long" from "just fits".
    let limit = len_max.saturating_add(1);
    let read = match is_dash(path) {
        true => io::stdin().lock().take(limit).read_to_end(&mut bytes),
        false => std::fs::File::open(path).and_then(|file| file.take(limit).read_to_end(&mut bytes)),
    };
    let len = read.map_err(|error| missing(path, &error))?;
    if u64::try_from(len).is_ok_and(|len| len > len_max) {
        let text = format!("{} is longer than {len_max} bytes", path.display());
        return Err(Failure::new(Exit::Malformed, "TOO_LARGE", text).into());
    }
    Ok(bytes)
}

fn missing(path: &Path, error: &io::Error) -> Failure {
    let text = format!("{} cannot be read: {error}", path.display());
    Failure::new(Exit::NoInput, "INPUT_MISSING", text)
}

fn is_dash(path: &Path) -> bool {
    path.as_os_str() == "-"
}

/// Where an output goes.
#[derive(Debug, Clone)]
pub struct Target {
    path: PathBuf,
    force: bool,
}

impl Target {
    /// A file, or standard output for `-`. With `force` a file that exists is replaced.
    pub const fn new(path: PathBuf, force: bool) -> Self {
        Self { path, force }
    }

    /// Refuses early what would be refused late: a file that exists, or binary to a terminal. To be
    /// called before a DEK is asked for, so that none is released in vain.
    pub fn check(&self, binary: bool) -> Result<(), Failure> {
        if is_dash(&self.path) {
            return match binary && io::stdout().is_terminal() {
                true => Err(Failure::new(
                    Exit::CannotCreate,
                    "OUTPUT_IS_TERMINAL",
                    "the result is binary and standard output is a terminal: name a file with --out",
                )),
                false => Ok(()),
            };
        }
        match !self.force && self.path.symlink_metadata().is_ok() {
            true => Err(self.exists()),
            false => Ok(()),
        }
    }

    /// Where the report about this output goes, so that it does not mix with the content.
    pub fn report_stream(&self) -> Stream {
        match is_dash(&self.path) {
            true => Stream::Err,
            false => Stream::Out,
        }
    }

    /// The path as the user named it.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether standard output is meant.
    pub fn is_stdout(&self) -> bool {
        is_dash(&self.path)
    }

    /// Whether a file that exists is to be replaced.
    pub const fn force(&self) -> bool {
        self.force
    }

    /// Writes the content: durable when this returns.
    pub fn write(&self, bytes: &[u8]) -> anyhow::Result<()> {
        if self.is_stdout() {
            let mut out = io::stdout().lock();
            out.write_all(bytes).and_then(|()| out.flush())?;
            return Ok(());
        }
        self.write_file(bytes).map_err(|error| self.not_made(&error))?;
        Ok(())
    }

    fn write_file(&self, bytes: &[u8]) -> io::Result<()> {
        let folder = match self.path.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder,
            Some(_) | None => Path::new("."),
        };
        // Made with mode 0600 under a random name, and named only when it is whole.
        let mut file = tempfile::NamedTempFile::new_in(folder)?;
        file.write_all(bytes)?;
        file.as_file().sync_all()?;
        match self.force {
            true => file.persist(&self.path)?,
            false => file.persist_noclobber(&self.path)?,
        };
        std::fs::File::open(folder)?.sync_all()
    }

    fn not_made(&self, error: &io::Error) -> Failure {
        if error.kind() == io::ErrorKind::AlreadyExists {
            return self.exists();
        }
        let text = format!("{} cannot be written: {error}", self.path.display());
        Failure::new(Exit::CannotCreate, "OUTPUT_NOT_MADE", text)
    }

    fn exists(&self) -> Failure {
        let text = format!("{} exists; --force replaces it", self.path.display());
        Failure::new(Exit::CannotCreate, "OUTPUT_EXISTS", text)
    }
}

/// Reads a text file of at most 1 MiB.
pub fn read_text(path: &Path) -> anyhow::Result<String> {
    String::from_utf8(read(path, 1024 * 1024)?)
        .with_context(|| format!("{} is not text", path.display()))
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test that cannot unwrap has failed")]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn an_output_is_private_whole_and_replaces_nothing_unasked() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("dek");
        let target = Target::new(path.clone(), false);
        target.check(true).unwrap();
        target.write(b"first").unwrap();
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);

        assert_eq!(target.check(true).unwrap_err().exit, Exit::CannotCreate);
        let failure = Failure::from(target.write(b"second").unwrap_err());
        assert_eq!(failure.reason, "OUTPUT_EXISTS");
        assert_eq!(std::fs::read(&path).unwrap(), b"first");

        Target::new(path.clone(), true).write(b"third").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"third");
        // Nothing is left beside it.
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn an_input_is_there_and_bounded() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("in");
        let failure = Failure::from(read(&path, 4).unwrap_err());
        assert_eq!(failure.exit, Exit::NoInput);
        std::fs::write(&path, b"1234").unwrap();
        assert_eq!(read(&path, 4).unwrap(), b"1234");
        let failure = Failure::from(read(&path, 3).unwrap_err());
        assert_eq!(failure.exit, Exit::Malformed);
    }
}
