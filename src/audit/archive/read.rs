//! Reading an archive. It is read from its first byte to its last once, and held against its checkpoint;
//! only then records and proofs are given out. The invariant: a record that is given out has the leaf hash
//! it had when the archive was verified.

use std::fs::File;
use std::io::{self, BufReader, Read, Seek as _, SeekFrom};
use std::ops::Range;
use std::path::{Path, PathBuf};

use aws_lc_rs::digest;
use prost::Message as _;

use super::{ArchiveFault, HEAD_LEN_MAX, RECORD_LEN_MAX, Span, refused};
use crate::audit::judge::origin;
use crate::audit::stub::{Stub, tiles_digest};
use crate::audit::tree::{TILE_LEN, Tile, Tree};
use crate::audit::{AuditError, Filter, Mismatch, Page, PageMax, RecordProof};
use crate::clock::UnixMs;
use crate::merkle::{Checkpoint, Frontier, Head, LogKey, SpanProof, leaf_hash};
use crate::proto::v1;
use crate::types::Sha256;

/// An archive that verifies.
pub struct Archive {
    path: PathBuf,
    span: Span,
    proof: SpanProof,
    head: Head,
    sha256: Sha256,
    tiles: Vec<Tile>,
    /// Where the records of each tile begin in the file.
    offsets: Vec<u64>,
}

impl Archive {
    /// Reads and verifies a file. Without the log key its checkpoint is not verified, and it shows only
    /// that it agrees with itself. `progress` is told how many records are done, of how many.
    pub fn open(
        path: &Path,
        key: Option<&LogKey>,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<Self, AuditError> {
        let fault = |fault| refused(path, fault);
        let mut reading = Reading::begin(path)?;
        let (span, beginning) = reading.head()?;
        let origin = origin(&span.instance_id);
        let opened = match key {
            Some(key) => Checkpoint::open(&span.note, &origin, key),
            None => Checkpoint::claimed(&span.note, &origin),
        };
        let head = opened.map_err(|error| fault(error.into()))?.head();
        let Range { start, end } = span.range;
        if !start.is_multiple_of(TILE_LEN) || !end.is_multiple_of(TILE_LEN) {
            return Err(fault(ArchiveFault::Malformed(
                "it must hold whole tiles of 1024",
            )));
        }
        let proof = SpanProof::new(head.size, span.range.clone(), &span.outside);
        let mut archive = Self {
            path: path.to_owned(),
            proof: proof.map_err(|error| fault(error.into()))?,
            span,
            head,
            sha256: Sha256::of(b""),
            tiles: Vec::new(),
            offsets: vec![beginning],
        };
        let mut tree = Tree::beginning_at(start);
        for index in start..end {
            let bytes = reading.record(index, end)?;
            let at = time_in(&bytes, index).map_err(fault)?;
            if let Some(tile) = tree.push(leaf_hash(&bytes), at) {
                archive.tiles.push(tile);
                archive.offsets.push(reading.at);
                progress(
                    index.saturating_add(1).saturating_sub(start),
                    end.saturating_sub(start),
                );
            }
        }
        archive.sha256 = reading.end(end.saturating_sub(start))?;
        let root = archive
            .proof
            .root(&mut |range| archive.root_of_tiles(&range));
        let found = root.map_err(|error| fault(error.into()))?;
        if found != head.root {
            let (size, expected) = (head.size, head.root);
            return Err(fault(ArchiveFault::Changed {
                size,
                expected,
                found,
            }));
        }
        Ok(archive)
    }

    /// Its head.
    pub const fn span(&self) -> &Span {
        &self.span
    }

    /// SHA-256 over the file.
    pub const fn sha256(&self) -> Sha256 {
        self.sha256
    }

    /// The head of the log that its checkpoint stands for.
    pub const fn head(&self) -> Head {
        self.head
    }

    /// The digest over the roots and times of its tiles, as stubs hold it.
    pub fn tiles_digest(&self) -> Sha256 {
        tiles_digest(&self.tiles)
    }

    /// The earliest and the latest time in its records.
    pub fn times(&self) -> (UnixMs, UnixMs) {
        let earliest = self.tiles.iter().map(|tile| tile.earliest).min();
        let latest = self.tiles.iter().map(|tile| tile.latest).max();
        (earliest.unwrap_or_default(), latest.unwrap_or_default())
    }

    /// Whether this is what a stub stands for.
    pub fn is_of(&self, stub: &Stub) -> bool {
        (self.span.range.clone(), self.sha256, self.tiles_digest())
            == (stub.range(), stub.archive, stub.tiles)
    }

    /// Refuses unless it is of this instance.
    pub fn require_instance(&self, expected: Sha256) -> Result<(), AuditError> {
        let found = self.span.instance_id;
        match found == expected {
            true => Ok(()),
            false => Err(refused(
                &self.path,
                ArchiveFault::OtherInstance { expected, found },
            )),
        }
    }

    /// Records that a filter keeps, from an index of the archive on; `next` and `size` of the page are at
    /// most its end.
    pub fn page(&self, filter: &Filter, from: u64, max: PageMax) -> Result<Page, AuditError> {
        let mut page = Page {
            next: from,
            size: self.span.range.end,
            ..Page::default()
        };
        let mut len = 0_usize;
        while page.next < page.size {
            let is_wanted = |tile: &&Tile| match filter.times() {
                None => true,
                Some((first, last)) => tile.latest >= first && tile.earliest <= last,
            };
            let Some(tile) = self.tile_of(page.next).filter(is_wanted) else {
                page.next = (page.next / TILE_LEN)
                    .saturating_add(1)
                    .saturating_mul(TILE_LEN);
                continue;
            };
            for (index, bytes) in (tile.number.saturating_mul(TILE_LEN)..).zip(self.tile(tile)?) {
                if index < page.next {
                    continue;
                }
                if filter.keeps(&bytes) {
                    len = len.saturating_add(bytes.len());
                    let is_full = page.records.len() >= max.records || len > max.bytes;
                    if is_full && !page.records.is_empty() {
                        return Ok(page);
                    }
                    page.records.push((index, bytes));
                }
                page.next = index.saturating_add(1);
            }
        }
        Ok(page)
    }

    /// The proof that one of its records is in the log of its checkpoint.
    pub fn prove(&self, index: u64) -> Result<RecordProof, AuditError> {
        let unknown = || AuditError::NotInArchive {
            index,
            first: self.span.range.start,
            last: self.span.range.end.saturating_sub(1),
        };
        let tile = self.tile_of(index).ok_or_else(unknown)?;
        let mut records = self.tile(tile)?;
        let leaves: Vec<_> = records.iter().map(|bytes| leaf_hash(bytes)).collect();
        let beginning = tile.number.saturating_mul(TILE_LEN);
        let place = |index: u64| usize::try_from(index.saturating_sub(beginning)).ok();
        let mut inside = |range: Range<u64>| {
            if range.start.is_multiple_of(TILE_LEN) && range.end.is_multiple_of(TILE_LEN) {
                return self.root_of_tiles(&range);
            }
            let leaves = leaves.get(place(range.start)?..place(range.end)?)?;
            Some(crate::merkle::root_of(leaves))
        };
        let hashes = self.proof.path(index, &mut inside)?;
        let at = place(index).filter(|at| *at < records.len());
        Ok(RecordProof {
            index,
            record: records.swap_remove(at.ok_or_else(unknown)?),
            hashes,
            note: self.span.note.clone(),
        })
    }

    /// A log contradicts it.
    pub(in crate::audit) fn contradicted(&self, mismatch: Mismatch) -> AuditError {
        AuditError::mismatch(&self.path, mismatch)
    }

    fn tile_of(&self, index: u64) -> Option<&Tile> {
        let number = (index / TILE_LEN).checked_sub(self.span.range.start / TILE_LEN)?;
        self.tiles.get(usize::try_from(number).ok()?)
    }

    /// The records of a tile, held against its root.
    fn tile(&self, tile: &Tile) -> Result<Vec<Vec<u8>>, AuditError> {
        let changed = || refused(&self.path, ArchiveFault::ChangedMeanwhile);
        let number = tile.number.saturating_sub(self.span.range.start / TILE_LEN);
        let offset = usize::try_from(number)
            .ok()
            .and_then(|at| self.offsets.get(at));
        let mut reading = Reading::begin(&self.path)?;
        reading.seek(*offset.ok_or_else(changed)?)?;
        let first = tile.number.saturating_mul(TILE_LEN);
        let mut frontier = Frontier::default();
        let mut records = Vec::new();
        for index in first..first.saturating_add(TILE_LEN) {
            let bytes = reading.record(index, self.span.range.end)?;
            frontier.push(leaf_hash(&bytes));
            records.push(bytes);
        }
        match frontier.head().root == tile.root {
            true => Ok(records),
            false => Err(changed()),
        }
    }

    /// The root over whole tiles.
    fn root_of_tiles(&self, range: &Range<u64>) -> Option<Sha256> {
        let mut frontier = Frontier::default();
        for at in (range.start / TILE_LEN)..(range.end / TILE_LEN) {
            let tile = self.tile_of(at.saturating_mul(TILE_LEN))?;
            frontier.push_subtree(tile.root, TILE_LEN).ok()?;
        }
        Some(frontier.head().root)
    }
}

/// The time of a record that says its index.
fn time_in(bytes: &[u8], index: u64) -> Result<UnixMs, ArchiveFault> {
    let record = v1::Record::decode(bytes).ok();
    match record {
        Some(record) if record.index == index => Ok(UnixMs(record.time_ms)),
        other => Err(ArchiveFault::RecordMoved {
            index,
            found: other.map(|record| record.index),
        }),
    }
}

/// A file read from its beginning, and the digest over what was read.
struct Reading {
    path: PathBuf,
    file: BufReader<File>,
    at: u64,
    digest: digest::Context,
}

impl Reading {
    fn begin(path: &Path) -> Result<Self, AuditError> {
        let file = File::open(path).map_err(|source| {
            if source.kind() == io::ErrorKind::NotFound {
                AuditError::Missing { path: path.into() }
            } else {
                AuditError::io(path, "open it", source)
            }
        })?;
        Ok(Self {
            path: path.to_owned(),
            file: BufReader::with_capacity(256 * 1024, file),
            at: 0,
            digest: digest::Context::new(&digest::SHA256),
        })
    }

    fn io(&self, source: io::Error) -> AuditError {
        AuditError::io(&self.path, "read it", source)
    }

    fn seek(&mut self, at: u64) -> Result<(), AuditError> {
        let sought = self.file.seek(SeekFrom::Start(at));
        self.at = sought.map_err(|source| self.io(source))?;
        Ok(())
    }

    /// The head, and where the records begin.
    fn head(&mut self) -> Result<(Span, u64), AuditError> {
        let mut beginning = Vec::new();
        let limit = u64::try_from(HEAD_LEN_MAX).unwrap_or(u64::MAX);
        let read = self.file.by_ref().take(limit).read_to_end(&mut beginning);
        read.map_err(|source| self.io(source))?;
        let (span, len) = Span::parse(&beginning).map_err(|fault| refused(&self.path, fault))?;
        self.digest.update(beginning.get(..len).unwrap_or_default());
        let len = u64::try_from(len).unwrap_or(u64::MAX);
        self.seek(len)?;
        Ok((span, len))
    }

    /// The bytes of the record at `index`, of those up to `until`.
    fn record(&mut self, index: u64, until: u64) -> Result<Vec<u8>, AuditError> {
        let path = self.path.clone();
        let cut = || {
            let found = index;
            refused(&path, ArchiveFault::Cut { until, found })
        };
        let mut len = [0; 4];
        if self.exact(&mut len)? < len.len() {
            return Err(cut());
        }
        let bytes_len = usize::try_from(u32::from_be_bytes(len)).unwrap_or(usize::MAX);
        if bytes_len > RECORD_LEN_MAX {
            let rule = "a record has at most 64 KiB";
            return Err(refused(&self.path, ArchiveFault::Malformed(rule)));
        }
        let mut bytes = vec![0; bytes_len];
        if self.exact(&mut bytes)? < bytes.len() {
            return Err(cut());
        }
        Ok(bytes)
    }

    /// Reads until `buffer` is full or the file ends; how much that was.
    fn exact(&mut self, buffer: &mut [u8]) -> Result<usize, AuditError> {
        let mut len = 0_usize;
        while let Some(rest) = buffer.get_mut(len..).filter(|rest| !rest.is_empty()) {
            match self.file.read(rest) {
                Ok(0) => break,
                Ok(read) => len = len.saturating_add(read),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(self.io(error)),
            }
        }
        self.digest.update(buffer.get(..len).unwrap_or_default());
        self.at = self.at.saturating_add(u64::try_from(len).unwrap_or(0));
        Ok(len)
    }

    /// The digest over the whole file, which must end here.
    fn end(mut self, records: u64) -> Result<Sha256, AuditError> {
        if self.exact(&mut [0])? > 0 {
            return Err(refused(&self.path, ArchiveFault::Longer { records }));
        }
        let mut out = [0; 32];
        out.copy_from_slice(self.digest.finish().as_ref());
        Ok(out.into())
    }
}
