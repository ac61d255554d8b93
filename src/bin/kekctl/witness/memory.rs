//! What a witness keeps in its folder: its key, whose log it watches, and the newest head it signed.
//! A new head is durable before anything is signed. A witness that lost its folder is no witness any
//! more: its key is not made again.

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use kekd::merkle::{Anchor, Head, LogKey, WitnessKey};
use kekd::types::Sha256;

use crate::exit::Exit;
use crate::failure::Failure;
use crate::file;
use crate::log_key;

/// The first line of the file that holds the newest head.
const FORMAT: &str = "kekd-witness-v1";
/// Longest file read, in bytes.
const LEN_MAX: u64 = 16 * 1024;

/// A witness's folder, held by this process alone.
pub struct Memory {
    dir: PathBuf,
    key: Ed25519KeyPair,
    name: String,
    pub instance_id: Sha256,
    pub log_key: LogKey,
    _lock: File,
}

impl Memory {
    /// Makes the folder, which must not exist, with a new key.
    pub fn create(
        dir: &Path,
        name: &str,
        instance_id: Sha256,
        log_key: &Path,
    ) -> anyhow::Result<Self> {
        // Refused here rather than at the first cosignature.
        WitnessKey::new(name, [0; 32])?;
        log_key::read(log_key)?;
        let made = DirBuilder::new().mode(0o700).create(dir);
        made.with_context(|| {
            let text = format!("{} cannot be made", dir.display());
            Failure::new(Exit::CannotCreate, "OUTPUT_NOT_MADE", text)
        })?;
        let key = Ed25519KeyPair::generate().context("no key could be made")?;
        let key = key.to_pkcs8().context("no key could be made")?;
        write_new(dir, "key.pk8", key.as_ref())?;
        write_new(dir, "log-key.pem", &file::read(log_key, LEN_MAX)?)?;
        write_new(dir, "log", format!("{name}\n{instance_id}\n").as_bytes())?;
        File::open(dir)?.sync_all()?;
        Self::open(dir)
    }

    /// Opens the folder. A second process is refused: two could sign two histories.
    pub fn open(dir: &Path) -> anyhow::Result<Self> {
        let broken = |what: &str| {
            let text = format!("{} is no witness's folder: {what}", dir.display());
            Failure::new(Exit::Malformed, "NO_WITNESS", text)
        };
        let lock = File::open(dir).map_err(|error| {
            let text = format!("{} cannot be read: {error}", dir.display());
            Failure::new(Exit::NoInput, "INPUT_MISSING", text)
        })?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let text = format!("{} is in use by another process", dir.display());
                return Err(Failure::new(Exit::Unavailable, "IN_USE", text).into());
            }
            Err(TryLockError::Error(error)) => return Err(error.into()),
        }
        let key = file::read(&dir.join("key.pk8"), LEN_MAX)?;
        let key = Ed25519KeyPair::from_pkcs8(&key).map_err(|_| broken("key.pk8 holds no key"))?;
        let log = file::text(&dir.join("log"), LEN_MAX)?;
        let (name, instance) = log
            .strip_suffix('\n')
            .and_then(|log| log.split_once('\n'))
            .ok_or_else(|| broken("'log' must be two lines"))?;
        let instance = instance.parse();
        Ok(Self {
            name: name.to_owned(),
            instance_id: instance.map_err(|_| broken("'log' names no instance"))?,
            log_key: log_key::read(&dir.join("log-key.pem"))?,
            dir: dir.to_owned(),
            key,
            _lock: lock,
        })
    }

    /// The key others verify its cosignatures with.
    pub fn public_key(&self) -> anyhow::Result<WitnessKey> {
        let public = self.key.public_key().as_ref().try_into();
        Ok(WitnessKey::new(
            &self.name,
            public.context("an Ed25519 key has 32 bytes")?,
        )?)
    }

    /// Signs.
    pub fn sign(&self, message: &str) -> Vec<u8> {
        self.key.sign(message.as_bytes()).as_ref().to_vec()
    }

    /// The newest head it signed; none before the first.
    pub fn newest(&self) -> anyhow::Result<Option<Head>> {
        let path = self.dir.join("newest");
        if !path.try_exists()? {
            return Ok(None);
        }
        let anchor = Anchor::parse(&file::read(&path, LEN_MAX)?, FORMAT)
            .filter(|anchor| anchor.instance_id == self.instance_id);
        match anchor {
            Some(anchor) => Ok(Some(anchor.head)),
            None => {
                let text = format!(
                    "{} does not hold a head of this log; a witness whose memory is damaged must be \
                     retired",
                    path.display()
                );
                Err(Failure::new(Exit::Malformed, "NO_WITNESS", text).into())
            }
        }
    }

    /// Remembers a head, durably.
    pub fn remember(&self, head: Head) -> anyhow::Result<()> {
        let instance_id = self.instance_id;
        let text = Anchor { instance_id, head }.to_text(FORMAT);
        let staged = tempfile::NamedTempFile::new_in(&self.dir)?;
        staged.as_file().write_all(text.as_bytes())?;
        staged.as_file().sync_all()?;
        staged.persist(self.dir.join("newest"))?;
        Ok(File::open(&self.dir)?.sync_all()?)
    }
}

fn write_new(dir: &Path, name: &str, bytes: &[u8]) -> anyhow::Result<()> {
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(dir.join(name))?;
    file.write_all(bytes)?;
    file.sync_all()?;
    Ok(())
}
