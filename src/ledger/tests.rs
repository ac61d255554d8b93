//! A real ledger on a real disk, with a real log signing key (P-256 in aws-lc-rs, where the HSM
//! is in service). What it says comes from the frozen entries in `tests/golden/ledger-v1`.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that cannot unwrap or index has failed"
)]

mod copies;
mod disk;
mod export;
mod files;
mod golden;
mod reading;
mod refusals;
mod token;

use std::path::{Path, PathBuf};

use aws_lc_rs::encoding::AsDer as _;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use rusqlite::Connection;
use tempfile::TempDir;

use super::*;
use crate::proto::v1;

const NOW: UnixMs = UnixMs(1_795_284_000_123);

const ENTRIES: [&[u8]; 3] = [
    include_bytes!("../../tests/golden/ledger-v1/entry-0.bin"),
    include_bytes!("../../tests/golden/ledger-v1/entry-1.bin"),
    include_bytes!("../../tests/golden/ledger-v1/entry-2.bin"),
];

/// A state directory to be, and the key that signs its ledger.
struct Site {
    folder: TempDir,
    log_key: EcdsaKeyPair,
}

impl Site {
    fn new() -> Self {
        Self {
            folder: tempfile::tempdir().unwrap(),
            log_key: EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap(),
        }
    }

    /// With a ledger of the two first frozen entries in it.
    fn born() -> Self {
        let site = Self::new();
        drop(site.bear());
        site
    }

    fn bear(&self) -> Ledger {
        let draft = Draft::new(vec![self.birth(), recordings()], NOW).unwrap();
        let signature = self.sign(&draft.state().checkpoint().unwrap().text());
        let vacancy = Vacancy::claim(&self.dir()).unwrap();
        draft.stage(vacancy, &signature).unwrap().commit().unwrap()
    }

    fn dir(&self) -> PathBuf {
        self.folder.path().join("state")
    }

    fn file(&self) -> PathBuf {
        self.dir().join(LEDGER_FILE)
    }

    /// The birth of the frozen ledger, with this site's log signing key.
    fn birth(&self) -> Event {
        let mut birth = frozen_birth();
        let spki = self.log_key.public_key().as_der().unwrap();
        birth.log_signing_key.as_mut().unwrap().spki = spki.as_ref().to_vec();
        Event::InstanceCreated(birth)
    }

    fn sign(&self, text: &str) -> Vec<u8> {
        let signature = self.log_key.sign(&SystemRandom::new(), text.as_bytes());
        signature.unwrap().as_ref().to_vec()
    }

    fn append(&self, ledger: &mut Ledger, event: Event, now: UnixMs) -> Arc<State> {
        let prepared = ledger.prepare(event, now).unwrap();
        let signature = self.sign(&prepared.checkpoint.text());
        ledger.commit(prepared, &signature).unwrap()
    }

    fn open(&self) -> Result<Ledger, LedgerError> {
        Ledger::open(&self.dir())
    }

    /// What an open says, which must be a refusal.
    fn refusal(&self) -> String {
        self.open().err().unwrap().to_string()
    }

    /// Writes to the database behind the ledger's back.
    fn tamper(&self, sql: &str) {
        Connection::open(self.file())
            .unwrap()
            .execute_batch(sql)
            .unwrap();
    }
}

fn event(bytes: &[u8]) -> Event {
    let stored = StoredEntry::decode(bytes.to_vec()).unwrap();
    stored.entry().event.clone().unwrap()
}

fn frozen_birth() -> v1::InstanceCreated {
    let Event::InstanceCreated(birth) = event(ENTRIES[0]) else {
        unreachable!()
    };
    birth
}

fn frozen_kek(at: usize) -> v1::KekVersionActivated {
    let Event::KekVersionActivated(kek) = event(ENTRIES.get(at).unwrap()) else {
        unreachable!()
    };
    kek
}

fn recordings() -> Event {
    Event::KekVersionActivated(frozen_kek(1))
}

fn archive() -> Event {
    Event::KekVersionActivated(frozen_kek(2))
}

fn copy_dir(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for file in std::fs::read_dir(from).unwrap() {
        let file = file.unwrap();
        std::fs::copy(file.path(), to.join(file.file_name())).unwrap();
    }
}

#[test]
fn a_ledger_is_read_back_as_it_was_written() {
    let site = Site::new();
    let born = site.bear();
    let before = Arc::clone(born.state());
    drop(born);
    let mut ledger = site.open().unwrap();
    let state = Arc::clone(ledger.state());
    assert_eq!(state.instance_id(), before.instance_id());
    assert_eq!(state.head(), before.head());
    assert_eq!((state.size(), state.instance_name()), (2, "golden"));
    assert_eq!(state.token().serial, "0123456789abcdef");
    assert_eq!(state.keyring().versions().count(), 1);
    let version = state.keyring().versions().next().unwrap();
    assert_eq!((version.modulus_bits, version.number), (3072, 1));
    assert_eq!(version.profile_name, "kek-rsa-3072");
    assert!(version.certificate_expires_at > NOW);
    assert_eq!(version.created_at, NOW);

    let appended = site.append(&mut ledger, archive(), UnixMs(NOW.0 + 5));
    assert_eq!((appended.size(), appended.latest()), (3, UnixMs(NOW.0 + 5)));
    assert_eq!(state.size(), 2, "a reader's snapshot never changes");
    for (size, root) in [(2, before.root()), (3, appended.root())] {
        assert_eq!(ledger.root_at(size).unwrap(), root);
    }
    assert!(ledger.root_at(4).is_err());
    drop(ledger);
    let reopened = site.open().unwrap();
    assert_eq!(reopened.state().head(), appended.head());
    assert_eq!(reopened.state().keyring().versions().count(), 2);
}

#[test]
fn nothing_is_appended_without_a_right_signature() {
    let site = Site::new();
    let mut ledger = site.bear();
    let prepared = ledger.prepare(archive(), NOW).unwrap();
    let text = prepared.checkpoint.text();
    assert_eq!(prepared.digest(), Sha256::of(text.as_bytes()));
    let mut wrong = site.sign(&text);
    wrong[40] ^= 1;
    let found = ledger.commit(prepared, &wrong).err().unwrap().to_string();
    assert!(
        found.contains("does not verify under the pinned key"),
        "{found}"
    );
    let prepared = ledger.prepare(archive(), NOW).unwrap();
    let old = site.sign(&ledger.state().checkpoint().unwrap().text());
    assert!(ledger.commit(prepared, &old).is_err(), "an older head's");
    drop(ledger);
    assert_eq!(site.open().unwrap().state().size(), 2);
}

#[test]
fn an_entry_is_appended_to_the_head_it_was_prepared_for() {
    let site = Site::new();
    let mut ledger = site.bear();
    let late = ledger.prepare(archive(), NOW).unwrap();
    site.append(&mut ledger, archive(), NOW);
    let signature = site.sign(&late.checkpoint.text());
    let found = ledger.commit(late, &signature).err().unwrap();
    assert!(matches!(
        found,
        LedgerError::HeadMoved {
            expected: 2,
            found: 3
        }
    ));

    let site = Site::new();
    let mut ledger = site.bear();
    let prepared = ledger.prepare(archive(), NOW).unwrap();
    site.tamper("INSERT INTO entry VALUES (2, zeroblob(32), x'00')");
    let signature = site.sign(&prepared.checkpoint.text());
    let found = ledger.commit(prepared, &signature).err().unwrap();
    assert!(matches!(
        found,
        LedgerError::WrittenByAnother {
            expected: 2,
            found: 3
        }
    ));
}

#[test]
fn times_never_go_backwards() {
    let site = Site::new();
    let mut ledger = site.bear();
    let state = site.append(&mut ledger, archive(), UnixMs(7));
    assert_eq!(state.latest(), NOW);
}
