//! The passphrase of a legacy key: from a file, or asked for at the terminal without showing it. It
//! is never an argument, which every process of the machine could read.

use std::fs::{File, OpenOptions};
use std::io::{BufRead as _, BufReader, Read, Write as _};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::Args;
use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};
use zeroize::Zeroizing;

use crate::exit::Exit;
use crate::failure::Failure;

/// Longest passphrase, in bytes.
const LEN_MAX: usize = 1024;

/// Where the key is, and its passphrase.
#[derive(Debug, Args)]
pub struct KeyFile {
    /// The legacy key: PEM (PKCS#8, encrypted or not, or PKCS#1), or PKCS#12
    #[arg(long = "legacy-key", value_name = "FILE")]
    pub path: PathBuf,
    /// A file whose first line is the key's passphrase [default: ask for it where one is needed]
    #[arg(long, value_name = "FILE")]
    passphrase_file: Option<PathBuf>,
}

impl KeyFile {
    /// The passphrase; asks for it where no file is named.
    pub fn passphrase(&self) -> anyhow::Result<Zeroizing<String>> {
        let Some(path) = &self.passphrase_file else {
            return asked(&self.path);
        };
        let file = File::open(path).map_err(|error| {
            let text = format!("{} cannot be read: {error}", path.display());
            Failure::new(Exit::NoInput, "INPUT_MISSING", text)
        })?;
        line(file)
    }
}

/// The first line, without its end.
fn line(from: impl Read) -> anyhow::Result<Zeroizing<String>> {
    // As long as it can become, so that it is never moved and left behind.
    let mut line = Zeroizing::new(String::with_capacity(LEN_MAX + 3));
    let limit = u64::try_from(LEN_MAX + 2)?;
    BufReader::with_capacity(1, from.take(limit)).read_line(&mut line)?;
    let len = line.trim_end_matches(['\r', '\n']).len();
    line.truncate(len);
    if len > LEN_MAX {
        return Err(super::malformed(format!(
            "a passphrase has at most {LEN_MAX} bytes"
        )));
    }
    Ok(line)
}

fn asked(key: &Path) -> anyhow::Result<Zeroizing<String>> {
    let mut terminal = OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/tty")
        .map_err(|_| {
            let text = format!(
                "{} needs a passphrase and there is no terminal to ask at: --passphrase-file",
                key.display()
            );
            Failure::new(Exit::Usage, "PASSPHRASE_MISSING", text)
        })?;
    write!(terminal, "Passphrase of {}: ", key.display())?;
    let quiet = Quiet::new(terminal.try_clone()?)?;
    let read = line(&terminal);
    drop(quiet);
    writeln!(terminal)?;
    read
}

/// A terminal that does not show what is typed, until this is dropped.
struct Quiet {
    terminal: File,
    before: Termios,
}

impl Quiet {
    fn new(terminal: File) -> anyhow::Result<Self> {
        let why = "the terminal does not stop showing what is typed";
        let before = tcgetattr(terminal.as_fd()).context(why)?;
        let mut quiet = before.clone();
        quiet.local_modes.remove(LocalModes::ECHO);
        tcsetattr(terminal.as_fd(), OptionalActions::Flush, &quiet).context(why)?;
        Ok(Self { terminal, before })
    }
}

impl Drop for Quiet {
    fn drop(&mut self) {
        // The shell sets its terminal right again where this fails.
        tcsetattr(self.terminal.as_fd(), OptionalActions::Flush, &self.before).ok();
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test that cannot unwrap has failed")]
mod tests {
    use super::*;

    #[test]
    fn a_passphrase_is_the_first_line_whatever_ends_it() {
        for text in ["geheim 1", "geheim 1\n", "geheim 1\r\n", "geheim 1\nmore"] {
            assert_eq!(line(text.as_bytes()).unwrap().as_str(), "geheim 1");
        }
        assert_eq!(line(&b""[..]).unwrap().as_str(), "");
        assert!(line("x".repeat(LEN_MAX).as_bytes()).is_ok());
        assert!(line("x".repeat(LEN_MAX + 1).as_bytes()).is_err());
    }
}
