//! The marker: the one file that says across a restart what is stopped. Its blocks are written in
//! place, so that a stop needs nothing that a full disk does not have. What a stop means is not here.
//!
//! The invariant: a block that holds neither nothing nor a whole stop is read as a stop of all.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{FileExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use super::{Source, Stop, StopsError};
use crate::types::{KekName, Sha256};

/// The name of the marker in the state folder.
pub const FILE_NAME: &str = "stops";

/// Blocks of the file; the first is its head, the others are slots.
pub(super) const BLOCKS: usize = 32;
const BLOCK_LEN: usize = 8 * 1024;
const FILE_LEN: usize = BLOCKS * BLOCK_LEN;

/// What a disk writes whole or not at all.
const SECTOR_LEN: usize = 512;

/// The whole head: name, version 1, blocks and the length of one (big-endian). Zeros follow.
const HEAD: &[u8; 24] = b"kekdstops\0\0\0\0\0\0\x01\0\0\0\x20\0\0\x20\0";

const SLOT_MAGIC: &[u8; 8] = b"kekdstop";
/// Magic, length and digest.
const SLOT_HEAD_LEN: usize = 8 + 4 + 32;

const OFFICER: u8 = 1;
const HOST: u8 = 2;
const NO_SLOT_LEFT: u8 = 3;

/// The open file, and what is known to be on disk.
///
/// ```text
/// 0       head                       "kekdstops" 0 0 0 | version 1 | 32 | 8192     (u32 each)
/// 8192    slot 1                     empty: its first 512 bytes are zeros
/// ...     ...                        full:  0   8  "kekdstop"
/// 253952  slot 31, kept for a stop          8   4  length of what follows the digest
///         of all                            12 32  SHA-256 over what follows
///                                           44  1  source: 1 officer, 2 host, 3 no slot left
///                                               2  length, then the KEK's name; none is every KEK
///                                               4  length, then the statement
///                                               4  length, then the signature
/// ```
///
/// All numbers are big-endian. The 256 KiB were written with zeros, not merely reserved, and synced
/// when the file was made, so a write in place needs no new block: it succeeds on a full disk. That
/// holds for ext4 and XFS. On file systems that copy on write (btrfs, ZFS, or XFS with reflinked
/// files) nothing can promise it; there a stop on a full disk is in effect but may be forgotten by a
/// restart, and says so.
pub(super) struct Marker {
    path: PathBuf,
    file: File,
    /// One for each block; `None` is unknown after a write that failed. An unreadable block says
    /// [`Source::MarkerUnreadable`], and the head says nothing or that.
    on_disk: Vec<Option<Option<Stop>>>,
}

/// Makes the file where there is none: whole under another name, then renamed.
pub(super) fn create(path: &Path) -> Result<(), StopsError> {
    match path.symlink_metadata() {
        Ok(_) => return Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(refused("look at it", path)(error)),
    }
    let staged = path.with_extension("new");
    let mut bytes = vec![0; FILE_LEN];
    fill(&mut bytes, HEAD);
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&staged)
        .map_err(refused("make it", &staged))?;
    file.write_all(&bytes)
        .and_then(|()| file.sync_all())
        .map_err(refused("fill it with zeros", &staged))?;
    fs::rename(&staged, path).map_err(refused("rename it into place", &staged))?;
    let folder = path.parent().unwrap_or(path);
    File::open(folder)
        .and_then(|folder| folder.sync_all())
        .map_err(refused("sync it", folder))
}

impl Marker {
    /// Opens the file, and tells what is in each block.
    pub(super) fn open(path: PathBuf) -> Result<(Self, Vec<Option<Stop>>), StopsError> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .open(&path)
            .map_err(refused("open it", &path))?;
        let mut bytes = Vec::with_capacity(FILE_LEN);
        let limit = u64::try_from(FILE_LEN + 1).unwrap_or(u64::MAX);
        (&file)
            .take(limit)
            .read_to_end(&mut bytes)
            .map_err(refused("read it", &path))?;
        fill_holes(&file, &bytes).map_err(refused("fill its holes", &path))?;
        let found = parse(&bytes);
        let on_disk = found.iter().cloned().map(Some).collect();
        let marker = Self {
            path,
            file,
            on_disk,
        };
        Ok((marker, found))
    }

    /// Has every block say what is wanted of it, durably: first what is stopped, then what no longer
    /// is. Does nothing where the disk says so already.
    pub(super) fn say(&mut self, wanted: &[Option<Stop>]) -> Result<(), StopsError> {
        let differs = |marker: &Self, index: usize, stop: &Option<Stop>| {
            marker.on_disk.get(index).and_then(Option::as_ref) != Some(stop)
        };
        for stopped in [true, false] {
            let differing: Vec<(usize, &Option<Stop>)> = wanted
                .iter()
                .enumerate()
                .filter(|(index, stop)| stop.is_some() == stopped && differs(self, *index, stop))
                .collect();
            if differing.is_empty() {
                continue;
            }
            self.require_in_place()?;
            for (index, stop) in &differing {
                // A write that fails leaves nobody knows what, and so may a sync: the kernel may
                // drop pages it could not write. What is unknown is written again, not only synced.
                if let Some(known) = self.on_disk.get_mut(*index) {
                    *known = None;
                }
                self.write(*index, stop.as_ref())?;
            }
            self.file
                .sync_data()
                .map_err(refused("sync it", &self.path))?;
            for (index, stop) in differing {
                if let Some(known) = self.on_disk.get_mut(index) {
                    *known = Some(stop.clone());
                }
            }
        }
        Ok(())
    }

    fn write(&self, index: usize, stop: Option<&Stop>) -> Result<(), StopsError> {
        let bytes = match stop {
            Some(stop) => match encode(stop) {
                Some(slot) => slot,
                // What cannot be read already says that it cannot be read.
                None => return Ok(()),
            },
            None if index == 0 => return self.renew(),
            // One sector, so that a crash leaves a whole stop or none.
            None => vec![0; SECTOR_LEN],
        };
        self.write_at(&bytes, index)
    }

    /// Gives a file whose head was damaged its length and its head again.
    fn renew(&self) -> Result<(), StopsError> {
        let len = u64::try_from(FILE_LEN).unwrap_or(u64::MAX);
        let found = self
            .file
            .metadata()
            .map_err(refused("look at it", &self.path))?;
        if found.len() != len {
            self.file
                .set_len(len)
                .map_err(refused("give it its length", &self.path))?;
        }
        let mut head = vec![0; BLOCK_LEN];
        fill(&mut head, HEAD);
        self.write_at(&head, 0)
    }

    fn write_at(&self, bytes: &[u8], index: usize) -> Result<(), StopsError> {
        let offset = u64::try_from(index * BLOCK_LEN).unwrap_or(u64::MAX);
        self.file
            .write_all_at(bytes, offset)
            .map_err(refused("write it", &self.path))
    }

    /// A stop in a file that no path names would be lost.
    fn require_in_place(&self) -> Result<(), StopsError> {
        let open = self
            .file
            .metadata()
            .map_err(refused("look at it", &self.path))?;
        let is_named = fs::metadata(&self.path)
            .is_ok_and(|named| (named.dev(), named.ino()) == (open.dev(), open.ino()));
        if is_named {
            return Ok(());
        }
        Err(StopsError::MarkerMoved {
            path: self.path.clone(),
        })
    }
}

/// A copy or a restored backup may have become sparse: it gets its blocks back, by the bytes it has.
fn fill_holes(file: &File, bytes: &[u8]) -> io::Result<()> {
    let found = file.metadata()?;
    // In units of 512 bytes, whatever the file system's own are (stat(3type)).
    if bytes.len() != FILE_LEN || found.blocks().saturating_mul(512) >= found.len() {
        return Ok(());
    }
    file.write_all_at(bytes, 0)?;
    file.sync_all()
}

/// What each block says. A file of another length has no head that could be trusted.
pub(super) fn parse(bytes: &[u8]) -> Vec<Option<Stop>> {
    let mut blocks = bytes.chunks(BLOCK_LEN);
    let head = blocks.next().unwrap_or_default();
    let is_good = bytes.len() == FILE_LEN && head.starts_with(HEAD);
    let mut found = vec![(!is_good).then(Stop::unreadable)];
    found.extend(blocks.map(decode));
    found.resize(BLOCKS, None);
    found
}

/// What a slot says.
pub(super) fn decode(block: &[u8]) -> Option<Stop> {
    if block.iter().take(SECTOR_LEN).all(|byte| *byte == 0) {
        return None;
    }
    Some(decode_full(block).unwrap_or(Stop::unreadable()))
}

fn decode_full(block: &[u8]) -> Option<Stop> {
    let rest = &mut block.strip_prefix(SLOT_MAGIC)?;
    let len = take_u32(rest)?;
    let digest = take(rest, 32)?;
    let mut body = rest.get(..len)?;
    if Sha256::of(body).as_bytes() != digest {
        return None;
    }
    let body = &mut body;
    let source = *take(body, 1)?.first()?;
    let len = u16::from_be_bytes(take(body, 2)?.try_into().ok()?);
    let name = std::str::from_utf8(take(body, len.into())?).ok()?;
    let target = match name {
        "" => None,
        name => Some(name.parse::<KekName>().ok()?),
    };
    let len = take_u32(body)?;
    let statement = take(body, len)?.to_vec();
    let len = take_u32(body)?;
    let signature = take(body, len)?.to_vec();
    let source = match source {
        OFFICER => Source::Officer {
            statement,
            signature,
        },
        HOST => Source::Host,
        NO_SLOT_LEFT => Source::NoSlotLeft,
        _ => return None,
    };
    body.is_empty().then_some(Stop { target, source })
}

/// A slot's bytes; none for what is never written. An officer's stop that does not fit is written as
/// one of the host: the stop matters more than who made it.
pub(super) fn encode(stop: &Stop) -> Option<Vec<u8>> {
    let (source, statement, signature): (u8, &[u8], &[u8]) = match &stop.source {
        Source::Officer {
            statement,
            signature,
        } => (OFFICER, statement, signature),
        Source::Host => (HOST, &[], &[]),
        Source::NoSlotLeft => (NO_SLOT_LEFT, &[], &[]),
        Source::MarkerUnreadable => return None,
    };
    let name = stop.target.as_ref().map_or("", KekName::as_str);
    let mut body = vec![source];
    body.extend(u16::try_from(name.len()).ok()?.to_be_bytes());
    body.extend(name.as_bytes());
    for part in [statement, signature] {
        body.extend(u32::try_from(part.len()).ok()?.to_be_bytes());
        body.extend(part);
    }
    if body.len() > BLOCK_LEN - SLOT_HEAD_LEN {
        let target = stop.target.clone();
        let source = Source::Host;
        return encode(&Stop { target, source });
    }
    let mut slot = SLOT_MAGIC.to_vec();
    slot.extend(u32::try_from(body.len()).ok()?.to_be_bytes());
    slot.extend(Sha256::of(&body).as_bytes());
    slot.extend(body);
    // The first sector decides whether the slot is empty, so it is written whole.
    slot.resize(slot.len().max(SECTOR_LEN), 0);
    Some(slot)
}

fn take<'a>(rest: &mut &'a [u8], len: usize) -> Option<&'a [u8]> {
    let (taken, left) = rest.split_at_checked(len)?;
    *rest = left;
    Some(taken)
}

fn take_u32(rest: &mut &[u8]) -> Option<usize> {
    let bytes = take(rest, 4)?.try_into().ok()?;
    usize::try_from(u32::from_be_bytes(bytes)).ok()
}

fn fill(bytes: &mut [u8], with: &[u8]) {
    for (byte, with) in bytes.iter_mut().zip(with) {
        *byte = *with;
    }
}

fn refused(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> StopsError {
    let path = path.to_owned();
    move |source| StopsError::Io {
        action,
        path,
        source,
    }
}
