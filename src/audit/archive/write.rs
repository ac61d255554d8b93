//! Writing an archive: the head, then record after record. Nothing is verified here: what was written is
//! read back from the disk before it is believed.

use std::fs::File;
use std::io::{self, BufWriter, Write as _};

use super::{RECORD_LEN_MAX, Span};

/// An archive that is being written.
pub struct ArchiveWriter(BufWriter<File>);

impl ArchiveWriter {
    /// Begins with the head, in an empty file.
    pub fn begin(file: File, span: &Span) -> io::Result<Self> {
        let mut out = BufWriter::new(file);
        out.write_all(&span.to_bytes())?;
        Ok(Self(out))
    }

    /// Adds the next record, by its exact bytes: their number, 4 bytes big-endian, and they.
    pub fn push(&mut self, record: &[u8]) -> io::Result<()> {
        let len = u32::try_from(record.len()).ok();
        let len = len.filter(|_| record.len() <= RECORD_LEN_MAX);
        let len = len.ok_or_else(|| io::Error::other("a record is longer than 64 KiB"))?;
        self.0.write_all(&len.to_be_bytes())?;
        self.0.write_all(record)
    }

    /// Everything written, and durable.
    pub fn finish(self) -> io::Result<()> {
        self.0.into_inner()?.sync_all()
    }
}
