//! Reading a file or a stream as a whole, up to a limit. The buffer becomes plaintext later, or is
//! plaintext now, so it wipes itself, and what it outgrows is wiped too.

use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use super::{CHUNK_LEN, Fault, RecordingError};

/// Where bytes come from, with the name that errors give it.
pub struct Source {
    name: PathBuf,
    reader: Box<dyn Read>,
    len: Option<u64>,
}

impl Source {
    /// A file, opened now and read later.
    pub fn open(path: &Path) -> Result<Self, RecordingError> {
        let opened = File::open(path).and_then(|file| {
            let metadata = file.metadata()?;
            Ok((file, metadata))
        });
        let (file, metadata) = opened.map_err(|cause| Fault::io("opening")(cause).of(path))?;
        Ok(Self {
            name: path.to_owned(),
            reader: Box::new(file),
            len: metadata.is_file().then_some(metadata.len()),
        })
    }

    /// A stream of unknown length, such as standard input. `name` is for errors only.
    pub fn stream(name: &str, reader: Box<dyn Read>) -> Self {
        Self {
            name: PathBuf::from(name),
            reader,
            len: None,
        }
    }

    /// The name that errors give it.
    pub fn name(&self) -> &Path {
        &self.name
    }

    /// All bytes. `progress` gets the bytes read and the length, which is 0 where it is unknown.
    pub(super) fn read_all(
        self,
        len_max: u64,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<(PathBuf, Zeroizing<Vec<u8>>), RecordingError> {
        let Self {
            name,
            mut reader,
            len,
        } = self;
        match read_bounded(reader.as_mut(), len, len_max, progress) {
            Ok(bytes) => Ok((name, bytes)),
            Err(fault) => Err(fault.of(&name)),
        }
    }
}

fn read_bounded(
    reader: &mut dyn Read,
    len: Option<u64>,
    len_max: u64,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Zeroizing<Vec<u8>>, Fault> {
    let too_large = Fault::TooLarge { len_max };
    let (Ok(limit), Ok(expected)) = (
        usize::try_from(len_max),
        usize::try_from(len.unwrap_or(0).min(len_max.saturating_add(1))),
    ) else {
        return Err(too_large);
    };
    if expected > limit {
        return Err(too_large);
    }
    // One byte more than expected, so that the end is seen without growing.
    let mut bytes = with_capacity(expected.max(CHUNK_LEN).saturating_add(1))?;
    loop {
        if bytes.len() == bytes.capacity() {
            let mut larger = with_capacity(bytes.capacity().saturating_mul(2))?;
            larger.extend_from_slice(&bytes);
            bytes = larger;
        }
        let start = bytes.len();
        let end = bytes.capacity().min(start.saturating_add(CHUNK_LEN));
        bytes.resize(end, 0);
        let read = reader.read(bytes.get_mut(start..).unwrap_or_default());
        let count = match read {
            Ok(count) => count,
            Err(cause) if cause.kind() == ErrorKind::Interrupted => {
                bytes.truncate(start);
                continue;
            }
            Err(cause) => return Err(Fault::io("reading")(cause)),
        };
        bytes.truncate(start.saturating_add(count));
        if bytes.len() > limit {
            return Err(too_large);
        }
        if count == 0 {
            return Ok(bytes);
        }
        progress(bytes.len() as u64, len.unwrap_or(0));
    }
}

fn with_capacity(len: usize) -> Result<Zeroizing<Vec<u8>>, Fault> {
    let mut bytes = Vec::new();
    match bytes.try_reserve_exact(len) {
        Ok(()) => Ok(Zeroizing::new(bytes)),
        Err(_) => Err(Fault::OutOfMemory { len }),
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test that cannot unwrap has failed")]
mod tests {
    use std::io::Cursor;

    use super::*;

    #[test]
    fn a_stream_is_read_whole_and_not_past_its_limit() {
        let len = 3 * CHUNK_LEN + 5;
        let stream = || Source::stream("-", Box::new(Cursor::new(vec![7; len])));
        let mut seen = 0;
        let (_, bytes) = stream()
            .read_all(len as u64, &mut |done, total| {
                assert!(done > seen && total == 0);
                seen = done;
            })
            .unwrap();
        assert_eq!(bytes.len(), len);
        let refused = stream().read_all(len as u64 - 1, &mut |_, _| ());
        assert_eq!(
            refused.err().unwrap().to_string(),
            format!(
                "-: the file is longer than {} bytes; allow more if it is meant to be",
                len - 1
            )
        );
    }

    #[test]
    fn a_file_beyond_the_limit_is_not_even_read() {
        let file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().set_len(1 << 40).unwrap();
        let source = Source::open(file.path()).unwrap();
        let refused = source.read_all(1000, &mut |_, _| ()).err().unwrap();
        assert!(matches!(refused.fault, Fault::TooLarge { len_max: 1000 }));
    }
}
