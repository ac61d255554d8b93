//! The whole log verified: each record against its leaf hash and its place, the tree over all against
//! every checkpoint. Where records were dropped, their stub stands for them, or their archive where the
//! caller has it. Reading only. The invariant: whatever was changed, the error names the first
//! record that is not as it was, or, where records and hashes were changed together, the records
//! between two checkpoints.

mod archived;

use prost::Message as _;
use rusqlite::{Connection, Row, Rows};

use super::reader::AuditReader;
use super::{row_id, stub, tree, unsigned};
use crate::audit::archive::Archive;
use crate::audit::judge::origin;
use crate::audit::stub::{Stub, kept_from};
use crate::audit::tree::{TILE_LEN, Tile, Tree};
use crate::audit::{AuditError, Mismatch};
use crate::clock::UnixMs;
use crate::merkle::{Checkpoint, Head, LogKey, MerkleError, leaf_hash};
use crate::proto::v1;
use crate::types::Sha256;

/// Records between two reports of progress.
const REPORT_EVERY: u64 = 4096;

/// What the caller knows of the log, from outside of it.
#[derive(Debug, Clone, Default)]
pub struct Expectations {
    /// The instance.
    pub instance_id: Option<Sha256>,
    /// The log key. Without it a log shows only that it agrees with itself.
    pub log_key: Option<LogKey>,
    /// An earlier signed note of this log, which the records must contain. Without it an older copy
    /// passes.
    pub checkpoint: Option<String>,
}

/// A log that verifies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified {
    /// The instance it names.
    pub instance_id: Sha256,
    /// Number of records, and the root over them.
    pub head: Head,
    /// The same at the newest checkpoint. Records after it are not signed yet.
    pub signed: Option<Head>,
    /// Checkpoints that were held against the records.
    pub checkpoints: u64,
    /// Whether their signatures were verified.
    pub is_signature_verified: bool,
    /// The earliest and the latest time in a record.
    pub times: Option<(UnixMs, UnixMs)>,
    /// Records that were dropped, the oldest first, and whether their archive was at hand.
    pub archived: Vec<(Stub, bool)>,
    /// Checkpoints within dropped records whose archive was not at hand: only their signature was
    /// verified.
    pub unheld: u64,
}

impl AuditReader {
    /// Verifies every record that is kept, and the stubs of those that were dropped. `progress` is told how
    /// many records are done, of how many.
    pub fn verify(
        &self,
        expect: &Expectations,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<Verified, AuditError> {
        self.verify_with(expect, &[], progress)
    }

    /// As [`AuditReader::verify`], and every record in these archives of what was dropped.
    pub fn verify_with(
        &self,
        expect: &Expectations,
        archives: &[Archive],
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<Verified, AuditError> {
        let instance_id = self.instance_id()?;
        match expect.instance_id {
            Some(expected) if expected != instance_id => {
                let found = instance_id;
                let other = Mismatch::OtherInstance { expected, found };
                return Err(self.mismatch(other));
            }
            Some(_) | None => {}
        }
        let db = self.db();
        let sqlite = |source| self.sqlite("read it", source);
        let _still = db.unchecked_transaction().map_err(sqlite)?;
        if !tree::is_there(&db).map_err(sqlite)? {
            return Err(self.mismatch(Mismatch::LeafMissing { index: 0 }));
        }
        let kept = tree::all_checkpoints(&db).map_err(sqlite)?;
        let heads = heads(&kept, expect, &origin(&instance_id)).map_err(|it| self.mismatch(it))?;
        let signed = kept.last().map(|(size, _)| *size);
        let signed = heads.iter().find(|head| Some(head.size) == signed).copied();
        let stubs = self.stubs_in(&db)?;
        let kept = stubs.last().map_or(0, |stub| stub.until);
        for archive in archives {
            archive.require_instance(instance_id)?;
            if !stubs.iter().any(|stub| archive.is_of(stub)) {
                let archive = archive.sha256();
                return Err(self.mismatch(Mismatch::ArchiveUnknown { archive }));
            }
        }
        let mut scan = Scan {
            tree: Tree::default(),
            tiles: tree::tiles(&db, 0..u64::MAX).map_err(sqlite)?,
            checkpoints: heads.iter().copied().peekable(),
            sound: 0,
            times: None,
            unheld: 0,
            newest_drop: None,
        };
        let count = tree::hashed(&db).map_err(sqlite)?;
        let mut records = db
            .prepare(
                "SELECT record_index, bytes FROM record WHERE record_index >= ?1
                 ORDER BY record_index",
            )
            .map_err(sqlite)?;
        let mut leaves = db
            .prepare(
                "SELECT record_index, hash FROM leaf WHERE record_index >= ?1
                 ORDER BY record_index",
            )
            .map_err(sqlite)?;
        let mut archived = Vec::new();
        for stub in &stubs {
            let archive = archives.iter().find(|archive| archive.is_of(stub));
            scan.take_stub(stub).map_err(|it| self.mismatch(it))?;
            match archive {
                Some(archive) => scan.take_archive(archive, &mut |done| progress(done, count))?,
                None => scan.take_tiles(stub).map_err(|it| self.mismatch(it))?,
            }
            archived.push((*stub, archive.is_some()));
        }
        let records = records.query([row_id(kept)]).map_err(sqlite)?;
        let leaves = leaves.query([row_id(kept)]).map_err(sqlite)?;
        let scan = scan
            .run(records, leaves, &mut |done| progress(done, count))
            .and_then(|scan| scan.require_recorded(&stubs))
            .map_err(|mismatch| self.mismatch(mismatch))?;
        Ok(Verified {
            instance_id,
            head: scan.tree.head(),
            signed,
            checkpoints: u64::try_from(heads.len()).unwrap_or(u64::MAX),
            is_signature_verified: expect.log_key.is_some(),
            times: scan.times,
            archived,
            unheld: scan.unheld,
        })
    }

    /// The stubs, which must follow one another up to the first record that is kept.
    fn stubs_in(&self, db: &Connection) -> Result<Vec<Stub>, AuditError> {
        let sqlite = |source| self.sqlite("read what was dropped", source);
        let missing = |index| self.mismatch(Mismatch::StubMissing { index });
        let stubs = stub::all(db).map_err(sqlite)?;
        let kept = kept_from(&stubs).map_err(missing)?;
        // Records are dropped in whole tiles; less than one is missing for another reason.
        let lowest = stub::lowest(db).map_err(sqlite)?;
        match lowest.filter(|lowest| lowest.is_multiple_of(TILE_LEN)) {
            Some(lowest) if lowest > kept => Err(missing(kept)),
            Some(_) | None => Ok(stubs),
        }
    }

    fn mismatch(&self, mismatch: Mismatch) -> AuditError {
        AuditError::mismatch(&self.path, mismatch)
    }
}

/// What checkpoints state, the smallest first: those kept, and the one the caller has.
fn heads(
    kept: &[(u64, String)],
    expect: &Expectations,
    origin: &str,
) -> Result<Vec<Head>, Mismatch> {
    let open = |note: &str| match &expect.log_key {
        Some(key) => Checkpoint::open(note, origin, key),
        None => Checkpoint::claimed(note, origin),
    };
    let mut heads = Vec::with_capacity(kept.len());
    for (size, note) in kept {
        let size = *size;
        let refused = |source| Mismatch::CheckpointRefused { size, source };
        let head = open(note).map_err(refused)?.head();
        if head.size != size {
            let rule = "it states another size";
            return Err(refused(MerkleError::NoteMalformed { rule }));
        }
        heads.push(head);
    }
    if let Some(note) = &expect.checkpoint {
        let refused = |source| Mismatch::CheckpointRefused { size: 0, source };
        heads.push(open(note).map_err(refused)?.head());
        heads.sort_by_key(|head| head.size);
    }
    Ok(heads)
}

/// One walk over all records.
struct Scan<C: Iterator<Item = Head>> {
    tree: Tree,
    tiles: Vec<Tile>,
    checkpoints: std::iter::Peekable<C>,
    /// The size of the last checkpoint that held.
    sound: u64,
    times: Option<(UnixMs, UnixMs)>,
    /// See [`Verified`].
    unheld: u64,
    /// The newest record of a drop, and the digest over the stubs that it says.
    newest_drop: Option<(u64, Option<Sha256>)>,
}

impl<C: Iterator<Item = Head>> Scan<C> {
    fn run(
        mut self,
        mut records: Rows<'_>,
        mut leaves: Rows<'_>,
        progress: &mut dyn FnMut(u64),
    ) -> Result<Self, Mismatch> {
        loop {
            self.hold_against_checkpoints()?;
            let index = self.tree.size();
            let unreadable = |why: rusqlite::Error| {
                let why = why.to_string();
                Mismatch::Unreadable { index, why }
            };
            let record = records.next().map_err(unreadable)?;
            let leaf = leaves.next().map_err(unreadable)?;
            let leaf = leaf.map(leaf_in).transpose().map_err(unreadable)?;
            let Some(record) = record else {
                match leaf {
                    None => break,
                    Some(_) => return Err(Mismatch::RecordMissing { index }),
                }
            };
            let found: i64 = record.get(0).map_err(unreadable)?;
            if unsigned(found) != index {
                return Err(Mismatch::RecordMissing { index });
            }
            let bytes = record.get_ref(1).map_err(unreadable)?;
            let bytes = bytes.as_blob().map_err(|why| unreadable(why.into()))?;
            self.take(index, bytes, leaf)?;
            if index.is_multiple_of(REPORT_EVERY) {
                progress(index);
            }
        }
        let size = self.tree.size();
        if let Some(Head { size: expected, .. }) = self.checkpoints.peek().copied() {
            let found = size;
            return Err(Mismatch::ShorterThanSigned { expected, found });
        }
        if let Some(tile) = self
            .tiles
            .iter()
            .find(|tile| tile.number >= size / TILE_LEN)
        {
            let first = tile.number.saturating_mul(TILE_LEN);
            return Err(Mismatch::TileChanged { first });
        }
        Ok(self)
    }

    /// Takes in the record at `index`, which has this leaf beside it.
    fn take(
        &mut self,
        index: u64,
        bytes: &[u8],
        leaf: Option<(u64, Sha256)>,
    ) -> Result<(), Mismatch> {
        let Some((_, expected)) = leaf.filter(|(at, _)| *at == index) else {
            return Err(Mismatch::LeafMissing { index });
        };
        let record = v1::Record::decode(bytes).ok();
        let says = record.as_ref().map(|record| record.index);
        if says != Some(index) {
            return Err(Mismatch::RecordMoved { index, found: says });
        }
        let found = leaf_hash(bytes);
        if found != expected {
            return Err(Mismatch::RecordChanged {
                index,
                expected,
                found,
            });
        }
        let record = record.unwrap_or_default();
        self.push(index, &record, found)
    }

    /// Takes in a record whose leaf hash is known to be this.
    fn push(&mut self, index: u64, record: &v1::Record, found: Sha256) -> Result<(), Mismatch> {
        let at = UnixMs(record.time_ms);
        self.seen(at, at);
        if record.outcome() == v1::Outcome::RecordsArchived {
            let digest = Sha256::try_from(record.stubs_sha256.as_slice()).ok();
            self.newest_drop = Some((index, digest));
        }
        if let Some(tile) = self.tree.push(found, at) {
            let stored = usize::try_from(tile.number)
                .ok()
                .and_then(|at| self.tiles.get(at));
            if stored != Some(&tile) {
                let first = tile.number.saturating_mul(TILE_LEN);
                return Err(Mismatch::TileChanged { first });
            }
        }
        Ok(())
    }

    fn seen(&mut self, first: UnixMs, last: UnixMs) {
        self.times = Some(match self.times {
            None => (first, last),
            Some((earliest, latest)) => (earliest.min(first), latest.max(last)),
        });
    }

    fn hold_against_checkpoints(&mut self) -> Result<(), Mismatch> {
        let size = self.tree.size();
        while let Some(expected) = self.checkpoints.next_if(|head| head.size <= size) {
            let found = self.tree.head().root;
            if found != expected.root {
                return Err(Mismatch::Rewritten {
                    from: self.sound,
                    size,
                    expected: expected.root,
                    found,
                });
            }
            self.sound = size;
        }
        Ok(())
    }
}

fn leaf_in(row: &Row<'_>) -> rusqlite::Result<(u64, Sha256)> {
    Ok((
        unsigned(row.get(0)?),
        Sha256::from(row.get::<_, [u8; 32]>(1)?),
    ))
}
