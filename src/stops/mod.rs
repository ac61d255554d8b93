//! The kill switch: what must not be unwrapped although the ledger does not say so yet. A stop takes
//! effect in memory, then in a file of its own that needs neither the HSM nor a free block on the
//! disk, and only then, when that is possible, in the ledger. Who may stop is not judged here, and
//! nothing here lifts a stop: [`Stops::settled`] only hands it over to the ledger.
//!
//! The invariant: what is stopped stays so, through crashes and restarts, until the ledger says it.
//! Whatever cannot be read, or has no place, stops more and never less.

mod error;
mod folder;
mod gate;
mod marker;
mod stop;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};

use arc_swap::ArcSwap;
use tokio::sync::watch;
use tracing::{error, warn};

pub use error::StopsError;
pub use folder::FOLDER;
pub use gate::{Drained, Gate, Passage};
pub use marker::FILE_NAME;
pub use stop::{Source, Stop};

use crate::types::KekName;
use marker::{BLOCKS, Marker};

/// What became of a stop that was added.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Added {
    /// It is held.
    New,
    /// One that stops the same from the same kind of source is held already, and stays the one that
    /// is. Nothing of the new one is kept.
    Already,
    /// There was no slot for it: every KEK is stopped in its place. Nothing else of it is kept.
    Widened,
}

/// The stops that the ledger does not tell yet.
pub struct Stops {
    state_dir: PathBuf,
    /// One place for each block of the marker. Readers take no lock.
    now: ArcSwap<Table>,
    /// Held to change `now`, for moments: never while a disk is waited for.
    change: Mutex<()>,
    marker: Mutex<Marker>,
    trouble: Mutex<Trouble>,
    changed: watch::Sender<()>,
}

type Table = Vec<Option<Held>>;

#[derive(Clone)]
struct Held {
    stop: Stop,
    /// The ledger has it, and its file in the drop folder does not go away: it stays while the file
    /// does.
    is_recorded: bool,
}

/// What stands in the way of the mechanism itself, in words.
#[derive(Default)]
struct Trouble {
    marker: Option<String>,
    folder: Option<String>,
}

impl Stops {
    /// Makes the marker and the drop folder of a state folder that has none. What exists stays.
    ///
    /// # Errors
    /// Where the disk does not do it.
    pub fn create(state_dir: &Path) -> Result<(), StopsError> {
        marker::create(&state_dir.join(FILE_NAME))?;
        folder::create(state_dir)
    }

    /// What is stopped in a state folder which this process has to itself: by the marker and by the
    /// drop folder. Makes both for an instance that is older than they are.
    ///
    /// # Errors
    /// Where either cannot be made, opened or read. Then nothing may be served.
    pub fn open(state_dir: &Path) -> Result<Self, StopsError> {
        Self::create(state_dir)?;
        let (marker, found) = Marker::open(state_dir.join(FILE_NAME))?;
        let table = found.into_iter().map(|stop| stop.map(Held::pending));
        let stops = Self {
            state_dir: state_dir.to_owned(),
            now: ArcSwap::from_pointee(table.collect()),
            change: Mutex::default(),
            marker: Mutex::new(marker),
            trouble: Mutex::default(),
            changed: watch::Sender::new(()),
        };
        let found = folder::look(state_dir)?;
        stops.heed(&found);
        stops.write_or_say();
        for stop in stops.pending() {
            error!("{}", stop.sentence());
        }
        Ok(stops)
    }

    /// Whether this KEK is stopped. No lock, no wait.
    pub fn is_stopped(&self, kek: &KekName) -> bool {
        let now = self.now.load();
        now.iter().flatten().any(|held| held.stop.covers(kek))
    }

    /// Whether every KEK is stopped.
    pub fn is_all_stopped(&self) -> bool {
        let now = self.now.load();
        now.iter().flatten().any(|held| held.stop.target.is_none())
    }

    /// Stops: at once in memory, then in the marker. Waits for the disk.
    ///
    /// # Errors
    /// Where the marker does not take it. The stop is in effect all the same, and is written as
    /// soon as that is possible ([`Stops::look`] tries again); but a restart before that forgets it.
    pub fn add(&self, stop: Stop) -> Result<Added, StopsError> {
        let added = self.take_effect(stop);
        self.write()?;
        Ok(added)
    }

    /// The first half of [`Stops::add`]: memory. It waits for nothing.
    pub fn take_effect(&self, stop: Stop) -> Added {
        self.changing(|table| place(table, stop))
    }

    /// The second half: the marker says durably what memory says when this begins.
    ///
    /// # Errors
    /// As [`Stops::add`].
    pub fn write(&self) -> Result<(), StopsError> {
        let marker = self.marker.lock().unwrap_or_else(PoisonError::into_inner);
        self.write_to(marker)
    }

    fn write_to(&self, mut marker: MutexGuard<'_, Marker>) -> Result<(), StopsError> {
        let wanted: Vec<_> = self.now.load().iter().map(stop_of).collect();
        let written = marker.say(&wanted);
        drop(marker);
        self.trouble().marker = written.as_ref().err().map(ToString::to_string);
        written
    }

    /// The stops that are to be recorded in the ledger, each once.
    pub fn pending(&self) -> Vec<Stop> {
        let mut pending: Vec<Stop> = Vec::new();
        for held in self.now.load().iter().flatten() {
            if !held.is_recorded && !pending.contains(&held.stop) {
                pending.push(held.stop.clone());
            }
        }
        pending
    }

    /// The ledger has this stop, and its new state is what requests are judged by: from here on it
    /// is the ledger's. A stop of the host ends with its file in the drop folder. Waits for the disk.
    ///
    /// # Errors
    /// [`StopsError::NotRemoved`] where that file does not go away: the stop then stays in effect,
    /// and out of [`Stops::pending`], until somebody removes the file or kekd starts again. Others
    /// as [`Stops::add`]: the stop has ended in memory, and is pending again after a restart.
    pub fn settled(&self, stop: &Stop) -> Result<(), StopsError> {
        let removed = match stop.source {
            Source::Host => folder::remove(&self.state_dir, stop.target.as_ref()),
            Source::Officer { .. } | Source::NoSlotLeft | Source::MarkerUnreadable => Ok(()),
        };
        self.changing(|table| {
            for place in table {
                if let Some(held) = place.as_mut().filter(|held| held.stop == *stop) {
                    held.is_recorded = true;
                    if removed.is_ok() {
                        *place = None;
                    }
                }
            }
        });
        removed?;
        self.write()
    }

    /// Looks into the drop folder, and writes what the marker would not take before. Waits for the
    /// disk. Gives the names that stop nothing.
    pub fn look(&self) -> Vec<String> {
        let strange = match folder::look(&self.state_dir) {
            Ok(found) => {
                self.trouble().folder = None;
                self.heed(&found);
                found.strange
            }
            Err(why) => {
                let why = why.to_string();
                let before = self.trouble().folder.replace(why.clone());
                if before.as_ref() != Some(&why) {
                    error!("{why}");
                }
                Vec::new()
            }
        };
        self.write_or_say();
        strange
    }

    /// Follows what is stopped.
    pub fn changed(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    /// What the operator should know, one sentence each.
    pub fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        for held in self.now.load().iter().flatten() {
            let sentence = held.stop.sentence();
            if !problems.contains(&sentence) {
                problems.push(sentence);
            }
        }
        let trouble = self.trouble();
        problems.extend(trouble.marker.iter().chain(&trouble.folder).cloned());
        problems
    }

    /// Stops what the drop folder names, and ends what was only there because its file was.
    fn heed(&self, found: &folder::Found) {
        let now = self.now.load_full();
        let host = |target: &Option<KekName>| Stop {
            target: target.clone(),
            source: Source::Host,
        };
        for stop in found.targets.iter().map(host) {
            let is_held = |held: &Held| held.stop.is_like(&stop);
            // Its own place is not free for it; a stop of all is what holds it then.
            let is_full = self.is_all_stopped() && now.iter().skip(1).all(Option::is_some);
            if !now.iter().flatten().any(is_held) && !is_full {
                warn!("{}", stop.sentence());
                self.take_effect(stop);
            }
        }
        let is_over = |held: &Held| held.is_recorded && !found.targets.contains(&held.stop.target);
        if found.is_whole && now.iter().flatten().any(is_over) {
            self.changing(|table| {
                for place in table {
                    if place.as_ref().is_some_and(is_over) {
                        *place = None;
                    }
                }
            });
        }
    }

    fn write_or_say(&self) {
        // Where somebody is at it, a hung disk must not keep us from seeing the next stop.
        let marker = match self.marker.try_lock() {
            Ok(marker) => marker,
            Err(TryLockError::Poisoned(marker)) => marker.into_inner(),
            Err(TryLockError::WouldBlock) => return,
        };
        let before = self.trouble().marker.clone();
        if let Err(why) = self.write_to(marker)
            && before != Some(why.to_string())
        {
            error!(%why, "a stop is in effect that a restart would forget");
        }
    }

    fn changing<T>(&self, change: impl FnOnce(&mut Table) -> T) -> T {
        // Every change is published whole: a panic elsewhere leaves nothing half done.
        let changing = self.change.lock().unwrap_or_else(PoisonError::into_inner);
        let mut table = Table::clone(&self.now.load());
        let result = change(&mut table);
        self.now.store(Arc::new(table));
        drop(changing);
        self.changed.send_replace(());
        result
    }

    fn trouble(&self) -> MutexGuard<'_, Trouble> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Held {
    const fn pending(stop: Stop) -> Self {
        Self {
            stop,
            is_recorded: false,
        }
    }
}

fn stop_of(place: &Option<Held>) -> Option<Stop> {
    place.as_ref().map(|held| held.stop.clone())
}

/// Gives a stop its place. Place 0 is the marker's head. The last one is kept for a stop of all, so
/// that there is always a way to stop.
fn place(table: &mut Table, stop: Stop) -> Added {
    if table.iter().flatten().any(|held| held.stop.is_like(&stop)) {
        return Added::Already;
    }
    let free = table.iter_mut().skip(1).take(BLOCKS - 2);
    if let Some(free) = free.into_iter().find(|place| place.is_none()) {
        *free = Some(Held::pending(stop));
        return Added::New;
    }
    let is_all = stop.target.is_none();
    match table.last_mut() {
        Some(last @ None) => {
            *last = Some(Held::pending(Stop {
                target: None,
                source: if is_all {
                    stop.source
                } else {
                    Source::NoSlotLeft
                },
            }));
            if is_all { Added::New } else { Added::Widened }
        }
        // A stop of all is in it.
        Some(Some(_)) | None => {
            if is_all {
                Added::Already
            } else {
                Added::Widened
            }
        }
    }
}

#[cfg(test)]
mod tests;
