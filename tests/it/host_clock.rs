//! The wall clock of a rig's host, as its daemon sees it: libfaketime turns it or makes it stand still,
//! while the daemon runs or while it does not. The monotonic clock stays true. Beside it, what tests of
//! time read again and again: the ledger's entries, and what the daemon noted and logged.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use kekd::client::ClientError;
use kekd::clock::UnixMs;
use kekd::proto::v1;
use kekd::proto::v1::entry::Event;
use kekd::quorum::{EXECUTION_NAMESPACE, Execution, ProposalId};
use prost::Message as _;

use crate::harness::Rig;
use crate::officers::Officers;

pub const SECOND: u64 = 1000;
pub const HOUR: u64 = 3600 * SECOND;
pub const DAY: u64 = 24 * HOUR;

/// Where Debian and Fedora have it.
const LIBRARIES: [&str; 3] = [
    "/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1",
    "/usr/lib/aarch64-linux-gnu/faketime/libfaketimeMT.so.1",
    "/usr/lib64/faketime/libfaketimeMT.so.1",
];

/// The true time.
pub fn now() -> UnixMs {
    let since = SystemTime::UNIX_EPOCH.elapsed().unwrap();
    UnixMs(u64::try_from(since.as_millis()).unwrap())
}

/// See the head of this file.
pub struct HostClock {
    file: PathBuf,
}

impl HostClock {
    /// The clock of a rig that is not started; it is right.
    pub fn of(rig: &mut Rig) -> Self {
        let library = LIBRARIES.into_iter().find(|path| Path::new(path).exists());
        let library = library.expect("run `make setup` first: no libfaketime");
        let clock = Self {
            file: rig.dir.join("host-clock"),
        };
        clock.shift(0);
        let file = clock.file.to_str().unwrap().to_owned();
        let variables = [
            ("LD_PRELOAD", library),
            ("FAKETIME_TIMESTAMP_FILE", &file),
            ("FAKETIME_NO_CACHE", "1"),
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1"),
            ("TZ", "UTC"),
        ];
        let variables = variables.map(|(name, value)| (name.to_owned(), value.to_owned()));
        rig.environment.extend(variables);
        clock
    }

    /// Right but for so many milliseconds (cut to seconds), and running.
    pub fn shift(&self, ms: i64) {
        self.write(&format!("{:+}", ms / 1000));
    }

    /// Shifted by days to the future.
    pub fn days(&self, days: i64) {
        self.shift(days * i64::try_from(DAY).unwrap());
    }

    /// Standing still at a whole second.
    pub fn stand_at(&self, at: UnixMs) {
        assert_eq!(at.0 % SECOND, 0);
        let text = at.rfc3339().replace('T', " ").replace('Z', "");
        self.write(&text);
    }

    /// Whole at each instant: the daemon reads it at each look at its clock.
    fn write(&self, text: &str) {
        let beside = self.file.with_extension("new");
        fs::write(&beside, text).unwrap();
        fs::rename(beside, &self.file).unwrap();
    }
}

/// Stops the daemon and starts it again at another time.
pub async fn restart(rig: &Rig, turn: impl FnOnce()) {
    rig.stop().await;
    turn();
    rig.start();
}

/// All entries of the ledger.
pub async fn entries(rig: &Rig) -> Vec<v1::Entry> {
    let auditor = rig.client("auditor").await;
    let mut entries = Vec::new();
    loop {
        let page = auditor.read_entries(entries.len() as u64).await.unwrap();
        if page.entries.is_empty() {
            return entries;
        }
        let page = page.entries.iter();
        entries.extend(page.map(|bytes| v1::Entry::decode(bytes.as_slice()).unwrap()));
    }
}

/// How many entries of a kind there are.
pub async fn count(rig: &Rig, is_it: impl Fn(&Event) -> bool) -> usize {
    let entries = entries(rig).await;
    let events = entries.iter().filter_map(|entry| entry.event.as_ref());
    events.filter(|event| is_it(event)).count()
}

/// Waits until an entry of this kind is there so many times.
pub async fn until_count(rig: &Rig, wanted: usize, is_it: impl Fn(&Event) -> bool + Copy) {
    for _ in 0..400 {
        if count(rig, is_it).await == wanted {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!(
        "{} entries in the end\n{}",
        count(rig, is_it).await,
        rig.log()
    );
}

/// Waits until words are in the log so many times.
pub async fn logged(rig: &Rig, times: usize, words: &str) {
    for _ in 0..400 {
        if rig.log().matches(words).count() >= times {
            return;
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    panic!("not {times} times in the log: {words}\n{}", rig.log());
}

/// Waits until the clerk, whose clock says `days` more than the truth, made two rounds with a clock it
/// believes: what it would do, it has done or begun.
pub async fn rounds(rig: &Rig, days: u64) {
    let wanted = now().0 + days * DAY - HOUR;
    let note = rig.dir.join("state/clock");
    for _ in 0..400 {
        let noted = fs::read_to_string(&note).unwrap_or_default();
        if noted
            .trim()
            .parse::<u64>()
            .is_ok_and(|noted| noted >= wanted)
        {
            // Nothing more can be seen of a round in which nothing is done.
            tokio::time::sleep(Duration::from_millis(1200)).await;
            return;
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    panic!("the clerk made no round\n{}", rig.log());
}

/// An officer whose own clock says `at` executes.
pub async fn execute_at(
    officers: &Officers<'_>,
    officer: &str,
    id: ProposalId,
    at: UnixMs,
) -> Result<v1::ExecuteResponse, ClientError> {
    let proposal = officers.proposal(id).await;
    let order = Execution::draft(&proposal, officer, at).unwrap();
    let signature = officers.sign(officer, EXECUTION_NAMESPACE, order.text());
    officers
        .client
        .execute(order.text().to_vec(), signature)
        .await
}

/// The refusal's reason and text.
pub fn refused<T>(answer: Result<T, ClientError>) -> (String, String) {
    let error = answer.err().expect("this was to be refused");
    (crate::harness::reason(&error).to_owned(), error.to_string())
}
