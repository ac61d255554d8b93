//! The PIN file and the "PIN refused" mark. The mark keeps a restart loop from using up the tries
//! of a token: a PIN that was refused once is not offered again. No token is touched here, and
//! the PIN is in memory only while somebody holds the value.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::num::NonZeroU32;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use aws_lc_rs::{pbkdf2, rand};
use cryptoki::types::RawAuthPin;
use secrecy::ExposeSecret;
use zeroize::Zeroizing;

use super::error::hex;

/// Bytes of the longest PIN.
const PIN_LEN_MAX: usize = 256;
/// Bytes of the longest mark file: far more than a mark has.
const MARK_LEN_MAX: u64 = 1024;
/// The first word of a mark.
const MARK_VERSION: &str = "kekd-pin-refused-v1";
/// OWASP's figure of 2023 for PBKDF2-HMAC-SHA256. A PIN has little entropy: the mark must not
/// give it away at the price of a hash.
const ITERATIONS: NonZeroU32 = match NonZeroU32::new(600_000) {
    Some(iterations) => iterations,
    None => NonZeroU32::MAX,
};

/// A PIN file that is not acceptable. The operator mends it.
#[derive(Debug, thiserror::Error)]
pub(super) enum PinFileError {
    #[error("the PIN file {path} cannot be read: {source}")]
    Unreadable { path: String, source: io::Error },
    #[error("the PIN file {path} must be a regular file")]
    NotAFile { path: String },
    #[error(
        "the PIN file {path} has mode {mode:04o}: others can read it, or its group can write it; \
         make it 0400 (0440 is accepted, as systemd's credentials have it)"
    )]
    TooOpen { path: String, mode: u32 },
    #[error("the PIN file {path} must hold 1 to {PIN_LEN_MAX} bytes and an optional line end")]
    BadLength { path: String },
}

/// Reads the PIN: the bytes of the file without one trailing LF or CRLF.
pub(super) fn read(path: &Path) -> Result<RawAuthPin, PinFileError> {
    let shown = || path.display().to_string();
    let unreadable = |source| PinFileError::Unreadable {
        path: shown(),
        source,
    };
    let mut file = File::open(path).map_err(unreadable)?;
    let metadata = file.metadata().map_err(unreadable)?;
    if !metadata.is_file() {
        return Err(PinFileError::NotAFile { path: shown() });
    }
    let mode = metadata.permissions().mode() & 0o7777;
    if mode & 0o027 != 0 {
        return Err(PinFileError::TooOpen {
            path: shown(),
            mode,
        });
    }
    // A buffer of fixed size: one that grew would leave copies of the PIN behind.
    let mut buffer = Zeroizing::new([0; PIN_LEN_MAX + 3]);
    let mut len = 0;
    while let Some(rest) = buffer.get_mut(len..) {
        match file.read(rest) {
            Ok(0) => break,
            Ok(read) => len += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(unreadable(error)),
        }
    }
    let text = buffer.get(..len).unwrap_or_default();
    let pin = match text.strip_suffix(b"\n") {
        Some(line) => line.strip_suffix(b"\r").unwrap_or(line),
        None => text,
    };
    if pin.is_empty() || pin.len() > PIN_LEN_MAX {
        return Err(PinFileError::BadLength { path: shown() });
    }
    Ok(RawAuthPin::new(Box::new(pin.to_vec())))
}

/// The mark of one token: one line that says which PIN its token refused, as
/// `VERSION salt=HEX pbkdf2-hmac-sha256-600000=HEX serial=SERIAL`.
pub(super) struct Mark {
    path: PathBuf,
    serial: String,
}

impl Mark {
    pub(super) const fn new(path: PathBuf, serial: String) -> Self {
        Self { path, serial }
    }

    /// The path, for messages.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Whether this PIN was refused by this token before. A mark that cannot be understood forbids
    /// every PIN: somebody must look at it.
    pub(super) fn forbids(&self, pin: &RawAuthPin) -> io::Result<bool> {
        let mut text = String::new();
        match File::open(&self.path) {
            Ok(file) => file.take(MARK_LEN_MAX).read_to_string(&mut text)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(error),
        };
        let garbled = || io::Error::new(io::ErrorKind::InvalidData, "it is not a mark of kekd's");
        let mark = parse(&text).ok_or_else(garbled)?;
        if mark.serial != self.serial {
            return Ok(false);
        }
        let secret = self.secret(pin);
        let verdict = pbkdf2::verify(
            pbkdf2::PBKDF2_HMAC_SHA256,
            ITERATIONS,
            &mark.salt,
            &secret,
            &mark.hash,
        );
        Ok(verdict.is_ok())
    }

    /// Makes sure that a mark could be written, before there is something to mark.
    pub(super) fn prepare(&self) -> io::Result<()> {
        tempfile::Builder::new()
            .prefix(".pin-refused-")
            .tempfile_in(self.folder())
            .map(drop)
    }

    /// Writes the mark for this PIN. It is on disk when this returns.
    pub(super) fn write(&self, pin: &RawAuthPin) -> io::Result<()> {
        let mut salt = [0; 16];
        rand::fill(&mut salt).map_err(|_| io::Error::other("no randomness"))?;
        let mut hash = [0; 32];
        let secret = self.secret(pin);
        pbkdf2::derive(
            pbkdf2::PBKDF2_HMAC_SHA256,
            ITERATIONS,
            &salt,
            &secret,
            &mut hash,
        );
        let mut file = tempfile::Builder::new()
            .prefix(".pin-refused-")
            .tempfile_in(self.folder())?;
        writeln!(
            file,
            "{MARK_VERSION} salt={} pbkdf2-hmac-sha256-{ITERATIONS}={} serial={}",
            hex(&salt),
            hex(&hash),
            self.serial
        )?;
        file.as_file().sync_all()?;
        file.persist(&self.path).map_err(|error| error.error)?;
        File::open(self.folder())?.sync_all()
    }

    /// Removes the mark, where there is one.
    pub(super) fn remove(&self) -> io::Result<()> {
        match fs::remove_file(&self.path) {
            Ok(()) => File::open(self.folder())?.sync_all(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
        }
    }

    fn folder(&self) -> &Path {
        match self.path.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder,
            Some(_) | None => Path::new("."),
        }
    }

    fn secret(&self, pin: &RawAuthPin) -> Zeroizing<Vec<u8>> {
        let pin = pin.expose_secret();
        let len = pin.len().saturating_add(self.serial.len());
        let mut secret = Zeroizing::new(Vec::with_capacity(len));
        secret.extend_from_slice(pin);
        secret.extend_from_slice(self.serial.as_bytes());
        secret
    }
}

struct ParsedMark<'a> {
    salt: Vec<u8>,
    hash: Vec<u8>,
    serial: &'a str,
}

fn parse(text: &str) -> Option<ParsedMark<'_>> {
    let line = text.strip_suffix('\n')?;
    let rest = line.strip_prefix(MARK_VERSION)?.strip_prefix(" salt=")?;
    let (salt, rest) = rest.split_once(' ')?;
    let (hash, serial) = rest.split_once(" serial=")?;
    let hash = hash.strip_prefix(&format!("pbkdf2-hmac-sha256-{ITERATIONS}="))?;
    Some(ParsedMark {
        salt: unhex(salt, 16)?,
        hash: unhex(hash, 32)?,
        serial,
    })
}

fn unhex(text: &str, len: usize) -> Option<Vec<u8>> {
    let digits: Option<Vec<u32>> = text.chars().map(|c| c.to_digit(16)).collect();
    let digits = digits?;
    let pairs = digits.chunks_exact(2);
    if !pairs.remainder().is_empty() || pairs.len() != len {
        return None;
    }
    pairs
        .map(|pair| match pair {
            [high, low] => u8::try_from(high * 16 + low).ok(),
            _ => None,
        })
        .collect()
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test that cannot unwrap has failed")]
mod tests {
    use super::*;

    fn pin_file(bytes: &[u8], mode: u32) -> tempfile::NamedTempFile {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(bytes).unwrap();
        file.as_file()
            .set_permissions(fs::Permissions::from_mode(mode))
            .unwrap();
        file
    }

    #[test]
    fn one_line_end_is_not_part_of_the_pin() {
        for (bytes, pin) in [
            (&b"1234"[..], &b"1234"[..]),
            (b"1234\n", b"1234"),
            (b"1234\r\n", b"1234"),
            (b"1234\n\n", b"1234\n"),
            (b" 12\xff", b" 12\xff"),
            (&[b'7'; 256], &[b'7'; 256]),
        ] {
            let file = pin_file(bytes, 0o400);
            assert_eq!(read(file.path()).unwrap().expose_secret(), pin);
        }
        for bytes in [&b""[..], b"\n", b"\r\n", &[b'7'; 257], &[b'7'; 9000]] {
            let file = pin_file(bytes, 0o400);
            let found = read(file.path());
            assert!(matches!(found, Err(PinFileError::BadLength { .. })));
        }
    }

    #[test]
    fn a_pin_file_open_to_others_is_refused() {
        for mode in [0o644, 0o604, 0o620, 0o602, 0o601] {
            let file = pin_file(b"1234", mode);
            let found = read(file.path());
            assert!(
                matches!(found, Err(PinFileError::TooOpen { .. })),
                "{mode:o}"
            );
        }
        for mode in [0o400, 0o600, 0o440, 0o640] {
            assert!(read(pin_file(b"1234", mode).path()).is_ok(), "{mode:o}");
        }
    }

    #[test]
    fn a_mark_forbids_its_pin_on_its_token_only() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pin-refused");
        let mark = Mark::new(path.clone(), "ab 12".to_owned());
        let pin = |text: &str| RawAuthPin::new(Box::new(text.as_bytes().to_vec()));
        assert!(!mark.forbids(&pin("1234")).unwrap());
        mark.write(&pin("1234")).unwrap();
        assert!(mark.forbids(&pin("1234")).unwrap());
        assert!(!mark.forbids(&pin("1235")).unwrap());
        let other = Mark::new(path.clone(), "ab 13".to_owned());
        assert!(!other.forbids(&pin("1234")).unwrap());
        assert!(!fs::read_to_string(&path).unwrap().contains("1234"));
        mark.remove().unwrap();
        mark.remove().unwrap();
        assert!(!mark.forbids(&pin("1234")).unwrap());
        fs::write(&path, "something else\n").unwrap();
        assert!(mark.forbids(&pin("1234")).is_err());
    }
}
