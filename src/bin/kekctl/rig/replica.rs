//! The rig's replicas: copies of the folder of its SoftHSM2 token, each with a SoftHSM2 configuration
//! of its own. For SoftHSM2 this copying is what an HSM's vendor calls cloning; kekd has no part in
//! it. A replica has the primary's label, serial number and PIN.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;

use super::layout::Layout;
use super::token::SOFTHSM2_CONF;

/// The names of a rig's replicas, in order.
pub const NAMES: [&str; 7] = ["b", "c", "d", "e", "f", "g", "h"];
/// The file that SoftHSM2 changes with each change of a token: whoever has the token open reads it
/// and, where it is another than before, the objects anew.
const GENERATION: &str = "generation";
/// Most tries to copy a token that changes meanwhile, and the pause between two.
const TRIES_MAX: usize = 20;
const PAUSE: Duration = Duration::from_millis(20);
/// How often a change is told where somebody may listen, and the pause between two times.
const TELLINGS: usize = 5;
const BETWEEN_TELLINGS: Duration = Duration::from_millis(200);

/// Makes the folder and the configuration of a replica, and copies the token.
pub fn create(layout: &Layout, name: &str) -> anyhow::Result<()> {
    layout.folder(&format!("tokens-{name}"))?;
    let config = super::token::softhsm_config(&layout.replica_tokens(name));
    layout.write(&layout.replica_config(name), config.as_bytes())?;
    copy_all(layout, name).map(drop)
}

/// Copies the token's objects to a replica, and removes there what the token does not have. Returns
/// how many files changed. kekd may run: each file appears whole or not at all.
pub fn copy_all(layout: &Layout, name: &str) -> anyhow::Result<usize> {
    let (from, to) = (layout.tokens(), layout.replica_tokens(name));
    let mut changed = 0;
    let tokens = names(&from)?;
    for token in &tokens {
        changed += copy_token(&from.join(token), &to.join(token))
            .with_context(|| format!("{} cannot be copied", from.join(token).display()))?;
    }
    for stray in names(&to)?.difference(&tokens) {
        fs::remove_dir_all(to.join(stray))?;
        changed += 1;
    }
    Ok(changed)
}

/// The variable that shows a worker the replica.
pub fn variable(layout: &Layout, name: &str) -> (&'static str, String) {
    let config = layout.replica_config(name);
    (SOFTHSM2_CONF, config.display().to_string())
}

fn names(folder: &Path) -> io::Result<BTreeSet<OsString>> {
    fs::read_dir(folder)?
        .map(|entry| entry.map(|entry| entry.file_name()))
        .collect()
}

/// kekd may be writing an anchor meanwhile: then it is done again.
fn copy_token(from: &Path, to: &Path) -> io::Result<usize> {
    fs::create_dir_all(to)?;
    let mut changed = 0;
    for _ in 0..TRIES_MAX {
        let before = generation(from);
        changed += copy_objects(from, to)?;
        if generation(from) == before {
            break;
        }
        std::thread::sleep(PAUSE);
    }
    if changed > 0 {
        tell_of_change(from, to)?;
    }
    Ok(changed)
}

/// Writes another generation than any that whoever has the replica open has seen. Several times, where
/// it is not new: where kekd's worker changes the token itself between our change and its next look, as
/// it does while it tries a key, SoftHSM2 counts on from ours and takes both changes for its own.
fn tell_of_change(from: &Path, to: &Path) -> io::Result<()> {
    let is_new = !to.join(GENERATION).exists();
    for time in 0..if is_new { 1 } else { TELLINGS } {
        if time > 0 {
            std::thread::sleep(BETWEEN_TELLINGS);
        }
        let next = generation(from).max(generation(to)).saturating_add(1);
        fs::write(to.join(GENERATION), next.to_be_bytes())?;
    }
    Ok(())
}

fn copy_objects(from: &Path, to: &Path) -> io::Result<usize> {
    let (here, there) = (names(from)?, names(to)?);
    let mut changed = 0;
    for file in here.iter().filter(|file| *file != GENERATION) {
        let bytes = match fs::read(from.join(file)) {
            Ok(bytes) => bytes,
            Err(why) if why.kind() == io::ErrorKind::NotFound => continue,
            Err(why) => return Err(why),
        };
        if fs::read(to.join(file)).is_ok_and(|found| found == bytes) {
            continue;
        }
        let new = to.join("new");
        fs::write(&new, bytes)?;
        fs::rename(new, to.join(file))?;
        changed += 1;
    }
    for stray in there.difference(&here) {
        match fs::remove_file(to.join(stray)) {
            Ok(()) => changed += 1,
            // What kekd's worker made while it tried a key, it removes itself.
            Err(why) if why.kind() == io::ErrorKind::NotFound => {}
            Err(why) => return Err(why),
        }
    }
    Ok(changed)
}

/// 8 bytes, big-endian; 0 where there is no such file.
fn generation(token: &Path) -> u64 {
    let bytes = fs::read(token.join(GENERATION)).unwrap_or_default();
    let bytes = bytes.first_chunk().copied();
    bytes.map_or(0, u64::from_be_bytes)
}
