//! Where records come from: a running kekd, or a copy of its audit log. Page by page, so that a log of
//! millions needs no memory.

use std::path::Path;

use kekd::audit::{AuditReader, PageMax};
use kekd::client::Client;

use super::filter::FilterArgs;
use super::{not_kekd, refused};
use crate::connection::Connection;

/// What one page from a copy may hold.
const PAGE_MAX: PageMax = PageMax {
    records: 4096,
    bytes: 4 * 1024 * 1024,
};

/// See the head of this file.
pub enum Source {
    Kekd(Box<Client>),
    Copy(AuditReader),
}

impl Source {
    /// The copy where one is named, else the kekd that the connection leads to.
    pub async fn open(kekd: &Connection, copy: Option<&Path>) -> anyhow::Result<Self> {
        Ok(match copy {
            Some(path) => Self::Copy(AuditReader::of_copy(path).map_err(refused)?),
            None => Self::Kekd(Box::new(kekd.open().await?)),
        })
    }

    /// Gives the bytes of each record that is meant to `take`, in order, until it wants no more.
    /// `progress` is told how many were looked at, of how many.
    pub async fn each(
        &self,
        filter: &FilterArgs,
        from: u64,
        progress: &mut dyn FnMut(u64, u64),
        take: &mut dyn FnMut(&[u8]) -> anyhow::Result<bool>,
    ) -> anyhow::Result<()> {
        let mut from = from;
        loop {
            let (records, next, size) = self.page(filter, from).await?;
            for record in &records {
                if !take(record)? {
                    return Ok(());
                }
            }
            if next >= size {
                return Ok(());
            }
            if next <= from {
                return Err(not_kekd("a page that leads nowhere").into());
            }
            progress(next, size);
            from = next;
        }
    }

    async fn page(
        &self,
        filter: &FilterArgs,
        from: u64,
    ) -> anyhow::Result<(Vec<Vec<u8>>, u64, u64)> {
        match self {
            Self::Kekd(client) => {
                let page = client.read_records(from, filter.message()).await?;
                Ok((page.records, page.next, page.size))
            }
            Self::Copy(reader) => {
                let page = reader
                    .page(&filter.here(), from, PAGE_MAX)
                    .map_err(refused)?;
                let records = page.records.into_iter().map(|(_, bytes)| bytes);
                Ok((records.collect(), page.next, page.size))
            }
        }
    }
}
