//! `kekctl audit archive`: records in a file that verifies by itself, so that kekd may drop them. The file
//! gets its name only once it was read back from the disk and verified. The invariant: a file that has, or
//! had, a name of the operator's is never written to.

use std::fmt;
use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::Args;
use kekd::audit::archive::{Archive as Opened, ArchiveWriter, Span};
use kekd::audit::{AuditReader, Before};
use kekd::clock::UnixMs;
use kekd::proto::v1;
use kekd::proto::v1::get_retention_request;
use kekd::types::Sha256;
use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::io::Errno;
use serde::Serialize;

use super::bar::Bar;
use super::filter::{FilterArgs, moment};
use super::source::Source;
use super::{not_kekd, refused};
use crate::connection::Connection;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::log_key;
use crate::output::{self, Format, Stream};

/// Archive the oldest records that are kept, in a file that verifies by itself
///
/// The file holds whole tiles of 1024 records under the newest checkpoint, each record's exact bytes, and
/// the proof that they are in the log. It is read back and verified before it gets its name; a run that was
/// cut short leaves FILE.partial, and the next one begins anew. Nothing is dropped: that is kekctl audit
/// drop. Keep more than one copy.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  kekctl audit archive 2025.kekd-audit --before 2026-01-01 --log-key ledger/log-key.pem
  kekctl audit archive first.kekd-audit --before 1048576 --log-key ledger/log-key.pem
  kekctl audit archive all.kekd-audit --log-key ledger/log-key.pem --file backup/audit.db")]
pub struct Archive {
    /// The file to write
    #[arg(value_name = "FILE")]
    path: PathBuf,
    /// Only records before this index, or written before this day or time; all that can be, when left out
    #[arg(long, value_parser = before, value_name = "INDEX|TIME")]
    before: Option<Before>,
    /// The log key that signed the checkpoint, PEM: log-key.pem of a ledger's export
    #[arg(long, value_name = "FILE")]
    log_key: PathBuf,
    /// A copy of audit.db to archive instead of asking kekd
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
}

impl Archive {
    pub async fn run(self, kekd: &Connection, format: Format) -> anyhow::Result<Exit> {
        let key = log_key::read(&self.log_key)?;
        require_new(&self.path)?;
        let before = self.before.unwrap_or(Before::Now);
        let source = Source::open(kekd, self.file.as_deref(), &[]).await?;
        let span = match &self.file {
            Some(copy) => {
                let reader = AuditReader::of_copy(copy).map_err(refused)?;
                reader.retention(before, &key).map_err(refused)?.archivable
            }
            None => span_of(&source.retention(before).await?)?,
        };
        let span = span.ok_or_else(|| {
            let text = "there is no whole tile of 1024 records to archive: none is under a checkpoint and \
                        before the limit";
            Failure::new(Exit::Failed, "NOTHING_TO_ARCHIVE", text)
        })?;
        let partial = partial(&self.path);
        let file = begin(&partial)?;
        let lock = file.try_clone()?;
        write(file, &span, &source).await?;
        let archive = self.verified(&partial, &span, &key)?;
        give_name(&partial, &self.path)?;
        drop(lock);
        output::show(format, Stream::Out, &Archived::of(&self.path, &archive))?;
        Ok(Exit::Done)
    }

    /// The file as the disk has it.
    fn verified(
        &self,
        partial: &Path,
        span: &Span,
        key: &kekd::merkle::LogKey,
    ) -> anyhow::Result<Opened> {
        let mut bar = Bar::new("verifying");
        let archive = Opened::open(partial, Some(key), &mut |done, total| bar.at(done, total));
        let archive = archive.map_err(refused)?;
        match archive.span() == span {
            true => Ok(archive),
            false => Err(not_kekd("another proof than was asked for").into()),
        }
    }
}

/// A day, a moment or an index.
fn before(text: &str) -> Result<Before, String> {
    if let Ok(index) = text.parse() {
        return Ok(Before::Index(index));
    }
    moment(text).map(Before::Time).map_err(|_| {
        "write an index, a day like 2026-01-01 or a time like 2026-01-01T00:00:00Z".to_owned()
    })
}

fn span_of(answer: &v1::GetRetentionResponse) -> anyhow::Result<Option<Span>> {
    let digest = |bytes: &Vec<u8>| {
        Sha256::try_from(bytes.as_slice()).map_err(|_| not_kekd("a digest that is none"))
    };
    let Some(found) = &answer.archivable else {
        return Ok(None);
    };
    Ok(Some(Span {
        instance_id: digest(&answer.instance_id)?,
        range: found.first..found.until,
        outside: found.outside.iter().map(digest).collect::<Result<_, _>>()?,
        note: found.note.clone(),
    }))
}

fn require_new(path: &Path) -> Result<(), Failure> {
    match path.symlink_metadata() {
        Ok(_) => {
            let text = format!("{} exists; choose another name", path.display());
            Err(Failure::new(Exit::CannotCreate, "OUTPUT_EXISTS", text))
        }
        Err(_) => Ok(()),
    }
}

fn partial(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".partial");
    name.into()
}

fn not_made(path: &Path) -> Failure {
    let text = format!("{} cannot be made", path.display());
    Failure::new(Exit::CannotCreate, "OUTPUT_NOT_MADE", text)
}

/// An empty file that no other run has. What an earlier one left is written anew, unless that may be an
/// archive.
fn begin(partial: &Path) -> anyhow::Result<File> {
    let mut writable = OpenOptions::new();
    writable.write(true).mode(0o600);
    let file = writable.clone().create(true).truncate(false).open(partial);
    let file = file.with_context(|| not_made(partial))?;
    lock(&file, partial)?;
    let found = file.metadata()?;
    let here = partial.symlink_metadata();
    if !here.is_ok_and(|here| (here.dev(), here.ino()) == (found.dev(), found.ino())) {
        // The run that had it gave it its name before we had its lock: it is an archive.
        return Err(in_use(partial));
    }
    if found.nlink() > 1 {
        // A run that named its archive with a link was cut short before it took this name away. Who holds
        // the lock of what is here is alone with the name.
        output::say(&format!(
            "{} is another name of an archive, which is left as it is; beginning anew",
            partial.display()
        ));
        std::fs::remove_file(partial).with_context(|| not_made(partial))?;
        let new = writable.create_new(true).open(partial);
        let new = new.with_context(|| not_made(partial))?;
        lock(&new, partial)?;
        return Ok(new);
    }
    if found.len() > 0 {
        output::say(&format!(
            "{} is of a run that was cut short; beginning anew",
            partial.display()
        ));
    }
    file.set_len(0)?;
    Ok(file)
}

fn lock(file: &File, partial: &Path) -> anyhow::Result<()> {
    match file.try_lock() {
        Ok(()) => Ok(()),
        Err(TryLockError::WouldBlock) => Err(in_use(partial)),
        Err(TryLockError::Error(error)) => Err(error.into()),
    }
}

fn in_use(partial: &Path) -> anyhow::Error {
    let text = format!("another run writes {}", partial.display());
    Failure::new(Exit::Unavailable, "IN_USE", text).into()
}

async fn write(file: File, span: &Span, source: &Source) -> anyhow::Result<()> {
    let total = span.range.end.saturating_sub(span.range.start);
    let mut archive = ArchiveWriter::begin(file, span)?;
    let mut bar = Bar::new("archiving");
    let mut done = 0_u64;
    let mut take = |bytes: &[u8]| {
        archive.push(bytes)?;
        done = done.saturating_add(1);
        bar.at(done, total);
        Ok(done < total)
    };
    source
        .each(
            &FilterArgs::default(),
            Some(span.range.start),
            &mut |_, _| (),
            &mut take,
        )
        .await?;
    Ok(archive.finish()?)
}

/// Gives the file its name, which nobody else may have taken meanwhile.
fn give_name(partial: &Path, path: &Path) -> anyhow::Result<()> {
    match renameat_with(CWD, partial, CWD, path, RenameFlags::NOREPLACE) {
        Ok(()) => {}
        // The file system does not know the flag (NFS), or the kernel does not: with two names for a moment.
        Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => {
            std::fs::hard_link(partial, path).with_context(|| not_made(path))?;
            std::fs::remove_file(partial).with_context(|| not_made(path))?;
        }
        Err(error) => return Err(io::Error::from(error)).with_context(|| not_made(path)),
    }
    let folder = std::path::absolute(path)?;
    let folder = folder.parent().unwrap_or(Path::new("/"));
    Ok(File::open(folder)?.sync_all()?)
}

/// What was archived. The JSON form is an interface: fields are added, never renamed.
#[derive(Debug, Serialize)]
pub struct Archived {
    archive: String,
    sha256: String,
    instance_id: String,
    first: u64,
    last: u64,
    records: u64,
    earliest: String,
    latest: String,
    /// Records under the checkpoint in the archive.
    signed: u64,
}

impl Archived {
    /// What an archive holds.
    pub fn of(path: &Path, archive: &Opened) -> Self {
        let range = &archive.span().range;
        let (UnixMs(earliest), UnixMs(latest)) = archive.times();
        Self {
            archive: path.display().to_string(),
            sha256: archive.sha256().to_string(),
            instance_id: archive.span().instance_id.to_string(),
            first: range.start,
            last: range.end.saturating_sub(1),
            records: range.end.saturating_sub(range.start),
            earliest: UnixMs(earliest).rfc3339(),
            latest: UnixMs(latest).rfc3339(),
            signed: archive.head().size,
        }
    }
}

impl fmt::Display for Archived {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} verifies", self.archive)?;
        writeln!(f, "  SHA-256   {}", self.sha256)?;
        writeln!(f, "  instance  {}", self.instance_id)?;
        writeln!(
            f,
            "  records   {}, from {} to {}",
            self.records, self.first, self.last
        )?;
        writeln!(f, "  times     {} to {}", self.earliest, self.latest)?;
        writeln!(f, "  signed    over {} records", self.signed)
    }
}

/// The message for kekd.
pub fn message(before: Before) -> Option<get_retention_request::Before> {
    match before {
        Before::Now => None,
        Before::Index(index) => Some(get_retention_request::Before::BeforeIndex(index)),
        Before::Time(UnixMs(ms)) => Some(get_retention_request::Before::BeforeMs(ms)),
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test that cannot unwrap has failed")]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_limit_is_an_index_a_day_or_a_time() {
        assert_eq!(before("1024"), Ok(Before::Index(1024)));
        assert_eq!(before("1970-01-02"), Ok(Before::Time(UnixMs(86_400_000))));
        for wrong in ["", "-1", "now", "1970-01-02T00:00:00"] {
            assert!(before(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn what_has_another_name_is_not_written_to() {
        let folder = tempfile::tempdir().unwrap();
        let (kept, partial) = (folder.path().join("kept"), folder.path().join("partial"));
        fs::write(&kept, "an archive").unwrap();
        fs::hard_link(&kept, &partial).unwrap();
        let begun = begin(&partial).unwrap();
        assert_eq!(fs::read(&kept).unwrap(), b"an archive");
        assert_eq!(begun.metadata().unwrap().nlink(), 1);
        assert_eq!(fs::read(&partial).unwrap(), b"");
        // The lock is that of the new file.
        assert!(begin(&partial).is_err());
        drop(begun);
        fs::write(&partial, "of a run that was cut short").unwrap();
        begin(&partial).unwrap();
        assert_eq!(fs::read(&partial).unwrap(), b"");
    }

    #[test]
    fn a_name_is_given_in_one_step_and_replaces_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let (path, partial) = (folder.path().join("file"), folder.path().join("partial"));
        fs::write(&partial, "the first").unwrap();
        give_name(&partial, &path).unwrap();
        assert!(!partial.exists());
        fs::write(&partial, "the second").unwrap();
        assert!(give_name(&partial, &path).is_err());
        assert_eq!(fs::read(&path).unwrap(), b"the first");
        assert_eq!(fs::read(&partial).unwrap(), b"the second");
    }
}
