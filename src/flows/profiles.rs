//! Key profiles by name: those compiled in, and those in `hsm.profiles_dir`, which win. What officers
//! signed for is pinned by SHA-256, so that neither a changed file nor a newer kekd makes another key
//! than they agreed to.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::hsm::profile::{Profile, ProfileError};
use crate::types::Sha256;

/// Longest key profile read from `hsm.profiles_dir`, in bytes.
const PROFILE_LEN_MAX: u64 = 64 * 1024;
/// Most files of `hsm.profiles_dir` that are listed.
const FILES_MAX: usize = 256;

/// Why there is no profile to make a key to.
#[derive(Debug, thiserror::Error)]
pub enum ProfilesError {
    /// There is no such profile.
    #[error(
        "there is no key profile '{name}': kekd has {builtin} built in, and hsm.profiles_dir may name a \
         folder with more"
    )]
    Unknown {
        /// The name.
        name: String,
        /// The names of the built-in ones.
        builtin: String,
    },
    /// The profile cannot be used.
    #[error("the key profile '{name}' cannot be used")]
    Unusable {
        /// Its name.
        name: String,
        /// Why.
        #[source]
        source: ProfileError,
    },
    /// The officers signed for another profile.
    #[error(
        "the profile '{name}' has the SHA-256 {found}, and the officers signed for {expected}: it was \
         changed after they signed, or kekd was"
    )]
    Changed {
        /// Its name.
        name: String,
        /// What the officers signed for.
        expected: Sha256,
        /// What it is.
        found: Sha256,
    },
    /// A profile file cannot be read.
    #[error("the key profile {} cannot be read (hsm.profiles_dir)", .path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// The profile of this name, as pinned where it is.
pub(super) fn profile(
    folder: Option<&Path>,
    name: &str,
    pinned: Option<Sha256>,
) -> Result<Profile, ProfilesError> {
    let profile = match site_profile(folder, name)? {
        Some(bytes) => Profile::parse(&bytes).map_err(|source| ProfilesError::Unusable {
            name: name.to_owned(),
            source,
        })?,
        None => builtin(name)?,
    };
    let found = Sha256::of(profile.bytes());
    match pinned {
        Some(expected) if expected != found => Err(ProfilesError::Changed {
            name: name.to_owned(),
            expected,
            found,
        }),
        Some(_) | None => Ok(profile),
    }
}

/// The profiles that can be had, by name, with SHA-256 over their bytes; those that cannot be read
/// are left out. At most 256 of the folder are looked at.
pub(super) fn known(folder: Option<&Path>) -> Vec<(String, Sha256)> {
    let mut names: BTreeSet<String> = Profile::builtin_names().map(str::to_owned).collect();
    let files = folder.and_then(|folder| fs::read_dir(folder).ok());
    for file in files.into_iter().flatten().flatten().take(FILES_MAX) {
        let path = file.path();
        if path
            .extension()
            .is_some_and(|extension| extension == "toml")
            && let Some(name) = path.file_stem().and_then(|name| name.to_str())
        {
            names.insert(name.to_owned());
        }
    }
    let with_digest = |name: String| {
        let profile = profile(folder, &name, None).ok()?;
        Some((name, Sha256::of(profile.bytes())))
    };
    names.into_iter().filter_map(with_digest).collect()
}

/// A profile that is compiled in.
pub(super) fn builtin(name: &str) -> Result<Profile, ProfilesError> {
    let text = Profile::builtin(name).ok_or_else(|| ProfilesError::Unknown {
        name: name.to_owned(),
        builtin: Profile::builtin_names().collect::<Vec<_>>().join(", "),
    })?;
    Profile::parse(text.as_bytes()).map_err(|source| ProfilesError::Unusable {
        name: name.to_owned(),
        source,
    })
}

/// The bytes of a profile in `folder`, where there is such a file.
fn site_profile(folder: Option<&Path>, name: &str) -> Result<Option<Vec<u8>>, ProfilesError> {
    use io::Read as _;
    let Some(folder) = folder else {
        return Ok(None);
    };
    let path = folder.join(format!("{name}.toml"));
    let read = || -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        fs::File::open(&path)?
            .take(PROFILE_LEN_MAX + 1)
            .read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    match read() {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(ProfilesError::Unreadable { path, source }),
    }
}
