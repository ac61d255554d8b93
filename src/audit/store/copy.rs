//! Copies of the log, away from its state directory. They are never changed: one without a
//! write-ahead log is read as a file that nobody writes to, one with it from a private copy, because
//! SQLite works on a database it reads.

use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use super::checks::{instance_of, require_format};
use super::reader::{AuditReader, Held};
use crate::audit::{AuditError, files};
use crate::types::Sha256;

impl AuditReader {
    /// Reads a copy of an audit log, with the `-wal` beside it where there is one. No lock is taken
    /// and neither file is changed. The file of a running kekd is no copy.
    pub fn of_copy(path: &Path) -> Result<Self, AuditError> {
        let found = fs::metadata(path).map_err(|source| {
            if source.kind() == std::io::ErrorKind::NotFound {
                AuditError::Missing { path: path.into() }
            } else {
                AuditError::io(path, "look at it", source)
            }
        })?;
        if !found.is_file() {
            let what = std::io::Error::other("it is no file");
            return Err(AuditError::io(path, "open it", what));
        }
        let reader = match files::wal_len(path) {
            0 => Self::connect(path, immutable(path)?, Held::Nothing)?,
            _ => Self::of_private_copy(path)?,
        };
        require_format(&reader.db(), path)?;
        Ok(reader)
    }

    fn of_private_copy(path: &Path) -> Result<Self, AuditError> {
        let io = |doing| move |source| AuditError::io(path, doing, source);
        let folder = tempfile::tempdir().map_err(io("make a folder for a copy of it"))?;
        let copy = files::path_in(folder.path());
        for suffix in ["", "-wal"] {
            let (from, to) = (files::beside(path, suffix), files::beside(&copy, suffix));
            let copied = File::open(from).and_then(|mut from| {
                let mut to = File::create_new(to)?;
                std::io::copy(&mut from, &mut to)
            });
            copied.map_err(io("copy it"))?;
        }
        Self::connect(path, copy, Held::Folder(folder))
    }

    /// The instance it says it belongs to.
    pub fn instance_id(&self) -> Result<Sha256, AuditError> {
        instance_of(&self.db(), &self.path).map(|(found, _)| found)
    }
}

/// The URI of a file that nobody changes while it is read (sqlite.org/uri.html, "immutable").
fn immutable(path: &Path) -> Result<PathBuf, AuditError> {
    let absolute = std::path::absolute(path)
        .map_err(|source| AuditError::io(path, "find where it is", source))?;
    let mut uri = String::from("file://");
    for byte in absolute.as_os_str().as_bytes() {
        match byte {
            b'/' | b'.' | b'-' | b'_' | b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z' => {
                uri.push(char::from(*byte));
            }
            other => uri.push_str(&format!("%{other:02X}")),
        }
    }
    uri.push_str("?immutable=1");
    Ok(uri.into())
}
