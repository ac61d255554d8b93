//! Files that commands read and write. Inputs have a longest length; outputs appear whole, with
//! mode 0600, or not at all, and replace nothing unless told to. `-` is standard input or output;
//! bytes that are no text are never thrown at a terminal.

use std::io::{self, IsTerminal as _, Read as _, Write as _};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use kekd::program::reader_may_leave;
use kekd::recording::{self, Fault, Overwrite};

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
        false => {
            std::fs::File::open(path).and_then(|file| file.take(limit).read_to_end(&mut bytes))
        }
    };
    let len = read.map_err(|error| missing(path, &error))?;
    if u64::try_from(len).is_ok_and(|len| len > len_max) {
        let text = format!("{} is longer than {len_max} bytes", path.display());
        return Err(Failure::new(Exit::Malformed, "TOO_LARGE", text).into());
    }
    Ok(bytes)
}

/// The text of a small file.
pub fn text(path: &Path, len_max: u64) -> anyhow::Result<String> {
    let bytes = read(path, len_max)?;
    String::from_utf8(bytes).map_err(|_| {
        let text = format!("{} is not text", path.display());
        Failure::new(Exit::Malformed, "NOT_TEXT", text).into()
    })
}

fn missing(path: &Path, error: &io::Error) -> Failure {
    let text = format!("{} cannot be read: {error}", path.display());
    Failure::new(Exit::NoInput, "INPUT_MISSING", text)
}

fn is_dash(path: &Path) -> bool {
    path.as_os_str() == "-"
}

/// Opens an input that is read as a stream: a file, or standard input for `-`.
pub fn source(path: &Path) -> anyhow::Result<recording::Source> {
    match is_dash(path) {
        true => Ok(recording::Source::stream("-", Box::new(io::stdin()))),
        false => Ok(recording::Source::open(path)?),
    }
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

    /// Writes the content, part after part: durable when this returns. `progress` gets the bytes
    /// written and their number.
    pub fn write(&self, parts: &[&[u8]], progress: &mut dyn FnMut(u64, u64)) -> anyhow::Result<()> {
        if self.is_stdout() {
            let mut out = io::stdout().lock();
            let written = parts.iter().try_for_each(|part| out.write_all(part));
            return reader_may_leave(written.and_then(|()| out.flush()))
                .context("standard output did not take everything");
        }
        let overwrite = match self.force {
            true => Overwrite::Yes,
            false => Overwrite::No,
        };
        recording::write_new(&self.path, parts, overwrite, progress).map_err(|error| {
            if matches!(error.fault, Fault::Exists) {
                return self.exists().into();
            }
            let kind = (Exit::CannotCreate, "OUTPUT_NOT_MADE");
            anyhow::Error::from(error).context(Failure::new(kind.0, kind.1, "no output was made"))
        })
    }

    fn exists(&self) -> Failure {
        let text = format!("{} exists; --force replaces it", self.path.display());
        Failure::new(Exit::CannotCreate, "OUTPUT_EXISTS", text)
    }
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
        target.write(&[b"first"], &mut |_, _| ()).unwrap();
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);

        assert_eq!(target.check(true).unwrap_err().exit, Exit::CannotCreate);
        let failure = Failure::from(target.write(&[b"second"], &mut |_, _| ()).unwrap_err());
        assert_eq!(failure.reason, "OUTPUT_EXISTS");
        assert_eq!(std::fs::read(&path).unwrap(), b"first");

        Target::new(path.clone(), true)
            .write(&[b"thi", b"rd"], &mut |_, _| ())
            .unwrap();
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
