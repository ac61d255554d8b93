//! Where records come from: a running kekd, or a copy of its audit log, and the archives of what was
//! dropped from it. Page by page, so that a log of millions needs no memory. Records that were dropped and
//! whose archive is not named are an error, never a gap.

use std::path::{Path, PathBuf};

use kekd::audit::archive::Archive;
use kekd::audit::{AuditReader, Before, Mismatch, PageMax};
use kekd::client::Client;
use kekd::proto::v1;
use kekd::types::Sha256;

use super::archive::message;
use super::bar::Bar;
use super::filter::FilterArgs;
use super::{not_kekd, refused};
use crate::connection::Connection;

/// What one page from a copy may hold.
const PAGE_MAX: PageMax = PageMax {
    records: 4096,
    bytes: 4 * 1024 * 1024,
};

/// See the head of this file.
pub struct Source {
    log: Log,
    archives: Vec<Archive>,
}

enum Log {
    Kekd(Box<Client>),
    Copy(Box<AuditReader>),
}

/// A page, from wherever.
struct Page {
    records: Vec<Vec<u8>>,
    next: u64,
    size: u64,
}

impl Source {
    /// The copy where one is named, else the kekd that the connection leads to, and archives of what was
    /// dropped from it.
    pub async fn open(
        kekd: &Connection,
        copy: Option<&Path>,
        archives: &[PathBuf],
    ) -> anyhow::Result<Self> {
        let log = match copy {
            Some(path) => Log::Copy(Box::new(AuditReader::of_copy(path).map_err(refused)?)),
            None => Log::Kekd(Box::new(kekd.open().await?)),
        };
        let mut source = Self {
            log,
            archives: Vec::new(),
        };
        if archives.is_empty() {
            return Ok(source);
        }
        let (instance, dropped) = source.dropped().await?;
        for path in archives {
            let mut bar = Bar::new("verifying");
            // What vouches for it is the log it was dropped from, which names its digest.
            let archive = Archive::open(path, None, &mut |done, total| bar.at(done, total));
            let archive = archive.map_err(refused)?;
            archive.require_instance(instance).map_err(refused)?;
            if !dropped.contains(&archive.sha256()) {
                return Err(refused(unknown(path, &archive)).into());
            }
            source.archives.push(archive);
        }
        Ok(source)
    }

    /// What kekd dropped and what can be archived.
    pub async fn retention(&self, before: Before) -> anyhow::Result<v1::GetRetentionResponse> {
        match &self.log {
            Log::Kekd(client) => Ok(client.audit_retention(message(before)).await?),
            Log::Copy(_) => Err(not_kekd("nothing: a copy is read here").into()),
        }
    }

    /// The instance, and the digests of the archives of what was dropped.
    async fn dropped(&self) -> anyhow::Result<(Sha256, Vec<Sha256>)> {
        if let Log::Copy(reader) = &self.log {
            let stubs = reader.stubs().map_err(refused)?;
            let digests = stubs.iter().map(|stub| stub.archive).collect();
            return Ok((reader.instance_id().map_err(refused)?, digests));
        }
        let found = self.retention(Before::Now).await?;
        let digest =
            |bytes: &[u8]| Sha256::try_from(bytes).map_err(|_| not_kekd("a digest that is none"));
        let digests = found.archived.iter().map(|one| digest(&one.archive_sha256));
        Ok((
            digest(&found.instance_id)?,
            digests.collect::<Result<_, _>>()?,
        ))
    }

    /// Gives the bytes of each record that is meant to `take`, in order, until it wants no more.
    /// `progress` is told how many were looked at, of how many.
    pub async fn each(
        &self,
        filter: &FilterArgs,
        from: Option<u64>,
        progress: &mut dyn FnMut(u64, u64),
        take: &mut dyn FnMut(&[u8]) -> anyhow::Result<bool>,
    ) -> anyhow::Result<()> {
        let mut from = from.unwrap_or(0);
        loop {
            let archive = self
                .archives
                .iter()
                .find(|archive| archive.span().range.contains(&from));
            let page = match archive {
                Some(archive) => from_archive(archive, filter, from)?,
                None => self.page(filter, from).await?,
            };
            for record in &page.records {
                if !take(record)? {
                    return Ok(());
                }
            }
            // Behind an archive there is more.
            if page.next >= page.size && archive.is_none() {
                return Ok(());
            }
            if page.next <= from {
                return Err(not_kekd("a page that leads nowhere").into());
            }
            progress(page.next, page.size);
            from = page.next;
        }
    }

    async fn page(&self, filter: &FilterArgs, from: u64) -> anyhow::Result<Page> {
        match &self.log {
            Log::Kekd(client) => {
                let page = client.read_records(from, filter.message()).await?;
                Ok(Page {
                    records: page.records,
                    next: page.next,
                    size: page.size,
                })
            }
            Log::Copy(reader) => {
                let page = reader.page(&filter.here(), from, PAGE_MAX);
                Ok(here(page.map_err(refused)?))
            }
        }
    }
}

fn from_archive(archive: &Archive, filter: &FilterArgs, from: u64) -> anyhow::Result<Page> {
    let page = archive.page(&filter.here(), from, PAGE_MAX);
    Ok(here(page.map_err(refused)?))
}

fn here(page: kekd::audit::Page) -> Page {
    Page {
        records: page.records.into_iter().map(|(_, bytes)| bytes).collect(),
        next: page.next,
        size: page.size,
    }
}

fn unknown(path: &Path, archive: &Archive) -> kekd::audit::AuditError {
    kekd::audit::AuditError::Mismatch {
        path: path.to_owned(),
        mismatch: Mismatch::ArchiveUnknown {
            archive: archive.sha256(),
        },
    }
}
