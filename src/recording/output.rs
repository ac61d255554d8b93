//! Files that appear whole or not at all. A file is written without a name where the filesystem can
//! (`O_TMPFILE`), synced, and only then linked under its name, which is the commit point: a process
//! killed before it leaves nothing behind. Elsewhere a file `.kekctl-*` in the same folder, mode
//! 0600, takes the place of the nameless one, and a kill may leave it. No format is known here.

use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::AsRawFd as _;
use std::path::{Path, PathBuf};

use aws_lc_rs::rand;
use rustix::fs::{AtFlags, CWD, Mode, OFlags, linkat};
use rustix::io::Errno;
use tempfile::NamedTempFile;

use super::{CHUNK_LEN, Fault, RecordingError};

const TEMPORARY_PREFIX: &str = ".kekctl-";

/// Whether an existing file may be replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Overwrite {
    /// Yes, if it is a regular file. It is replaced whole, never written into.
    Yes,
    /// No: an existing file is an error.
    No,
}

/// Writes `parts`, one after the other, to a file of mode 0600 that appears whole or not at all:
/// file synced, linked under its name, folder synced. `progress` gets the bytes written and their
/// number.
///
/// With [`Overwrite::Yes`] over an existing file the complete new file has for a moment a name
/// `.kekctl-*` beside it, because a link cannot replace and a rename needs a name.
pub fn write_new(
    path: &Path,
    parts: &[&[u8]],
    overwrite: Overwrite,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<(), RecordingError> {
    write_checked(path, parts, overwrite, progress).map_err(|fault| fault.of(path))
}

fn write_checked(
    path: &Path,
    parts: &[&[u8]],
    overwrite: Overwrite,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<(), Fault> {
    // Said early, before a long write; the commit below refuses again, without a race.
    match path.symlink_metadata() {
        Ok(_) if overwrite == Overwrite::No => return Err(Fault::Exists),
        Ok(metadata) if !metadata.is_file() => return Err(Fault::NotRegular),
        Ok(_) => (),
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => (),
        Err(cause) => return Err(Fault::io("looking for the output")(cause)),
    }
    if path.file_name().is_none() {
        return Err(Fault::NotRegular);
    }
    let folder = match path.parent() {
        Some(parent) if parent != Path::new("") => parent,
        Some(_) | None => Path::new("."),
    };
    match nameless(folder).map_err(Fault::io("creating the output"))? {
        Some(mut file) => {
            write_parts(&mut file, parts, progress)?;
            link(&file, path, folder, overwrite)?;
        }
        None => write_named(path, folder, parts, overwrite, progress)?,
    }
    File::open(folder)
        .and_then(|folder| folder.sync_all())
        .map_err(Fault::io("syncing the output's folder"))
}

/// A file without a name, or nothing where there can be none: a filesystem without `O_TMPFILE`, or
/// no /proc to link it through.
fn nameless(folder: &Path) -> io::Result<Option<File>> {
    let flags = OFlags::TMPFILE | OFlags::WRONLY | OFlags::CLOEXEC;
    match rustix::fs::open(folder, flags, Mode::RUSR | Mode::WUSR) {
        Ok(fd) => {
            let file = File::from(fd);
            let linkable = through_proc(&file).symlink_metadata().is_ok();
            Ok(linkable.then_some(file))
        }
        // open(2): what kernels and filesystems without it say.
        Err(Errno::OPNOTSUPP | Errno::ISDIR | Errno::INVAL) => Ok(None),
        Err(cause) => Err(cause.into()),
    }
}

/// The way to a nameless file that needs no privilege; see linkat(2), `AT_EMPTY_PATH`.
fn through_proc(file: &File) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()))
}

fn link(file: &File, path: &Path, folder: &Path, overwrite: Overwrite) -> Result<(), Fault> {
    let link_to = |target: &Path| {
        let source = through_proc(file);
        linkat(CWD, source.as_path(), CWD, target, AtFlags::SYMLINK_FOLLOW)
    };
    let failed = Fault::io("naming the output");
    match link_to(path) {
        Ok(()) => Ok(()),
        Err(Errno::EXIST) if overwrite == Overwrite::No => Err(Fault::Exists),
        Err(Errno::EXIST) => {
            let mut random = [0; 8];
            rand::fill(&mut random).map_err(|_| Fault::Cryptography {
                doing: "drawing random bytes",
            })?;
            let random = u64::from_ne_bytes(random);
            let beside = folder.join(format!("{TEMPORARY_PREFIX}{random:016x}"));
            link_to(&beside).map_err(|cause| failed(cause.into()))?;
            std::fs::rename(&beside, path).map_err(|cause| {
                // Best effort: the error that matters is that of the rename.
                drop(std::fs::remove_file(&beside));
                Fault::io("replacing the output")(cause)
            })
        }
        Err(cause) => Err(failed(cause.into())),
    }
}

fn write_named(
    path: &Path,
    folder: &Path,
    parts: &[&[u8]],
    overwrite: Overwrite,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<(), Fault> {
    // Mode 0600 is the default of `tempfile`. Dropped before the commit, the file is removed.
    let mut file: NamedTempFile = tempfile::Builder::new()
        .prefix(TEMPORARY_PREFIX)
        .tempfile_in(folder)
        .map_err(Fault::io("creating the output"))?;
    write_parts(file.as_file_mut(), parts, progress)?;
    let committed = match overwrite {
        Overwrite::Yes => file.persist(path),
        Overwrite::No => file.persist_noclobber(path),
    };
    match committed {
        Ok(_) => Ok(()),
        Err(refused) if refused.error.kind() == io::ErrorKind::AlreadyExists => Err(Fault::Exists),
        Err(refused) => Err(Fault::io("naming the output")(refused.error)),
    }
}

fn write_parts(
    file: &mut File,
    parts: &[&[u8]],
    progress: &mut dyn FnMut(u64, u64),
) -> Result<(), Fault> {
    let total: u64 = parts.iter().map(|part| part.len() as u64).sum();
    let mut done = 0;
    for chunk in parts.iter().flat_map(|part| part.chunks(CHUNK_LEN)) {
        file.write_all(chunk).map_err(Fault::io("writing"))?;
        done += chunk.len() as u64;
        progress(done, total);
    }
    file.sync_all().map_err(Fault::io("syncing"))
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test that cannot unwrap has failed")]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).unwrap();
        let name = |entry: io::Result<fs::DirEntry>| entry.unwrap().file_name();
        entries
            .map(|entry| name(entry).into_string().unwrap())
            .collect()
    }

    #[test]
    fn an_output_appears_whole_and_private() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("out");
        let body = vec![7; CHUNK_LEN * 2 + 1];
        let mut steps = vec![];
        write_new(
            &path,
            &[b"head", &body, b"", b"tail"],
            Overwrite::No,
            &mut |done, total| {
                assert_eq!(
                    names(folder.path()),
                    Vec::<String>::new(),
                    "named before it is whole"
                );
                steps.push((done, total));
            },
        )
        .unwrap();
        let total = body.len() as u64 + 8;
        assert_eq!(steps.len(), 5);
        assert_eq!(steps.last(), Some(&(total, total)));
        assert_eq!(
            fs::read(&path).unwrap(),
            [&b"head"[..], &body, b"tail"].concat()
        );
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(names(folder.path()), ["out"]);
    }

    #[test]
    fn an_existing_file_is_replaced_only_if_asked() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("out");
        fs::write(&path, b"old").unwrap();
        let write = |overwrite| write_new(&path, &[b"new"], overwrite, &mut |_, _| ());
        assert!(matches!(
            write(Overwrite::No).unwrap_err().fault,
            Fault::Exists
        ));
        assert_eq!(fs::read(&path).unwrap(), b"old");
        write(Overwrite::Yes).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(names(folder.path()), ["out"]);
    }

    #[test]
    fn a_file_that_comes_up_meanwhile_is_not_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("out");
        let refused = write_new(&path, &[b"new"], Overwrite::No, &mut |_, _| {
            fs::write(&path, b"somebody else's").unwrap();
        });
        assert!(matches!(refused.unwrap_err().fault, Fault::Exists));
        assert_eq!(fs::read(&path).unwrap(), b"somebody else's");
    }

    #[test]
    fn without_nameless_files_the_rules_are_the_same() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("out");
        let write = |text: &[u8], overwrite| {
            write_named(&path, folder.path(), &[text], overwrite, &mut |_, _| ())
        };
        write(b"one", Overwrite::No).unwrap();
        assert!(matches!(write(b"two", Overwrite::No), Err(Fault::Exists)));
        assert_eq!(fs::read(&path).unwrap(), b"one");
        write(b"three", Overwrite::Yes).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"three");
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(names(folder.path()), ["out"]);
    }

    #[test]
    fn what_is_no_regular_file_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let link = folder.path().join("link");
        std::os::unix::fs::symlink("/dev/null", &link).unwrap();
        for path in [
            link.as_path(),
            folder.path(),
            Path::new("/"),
            Path::new("/dev/null"),
        ] {
            let refused = write_new(path, &[b"x"], Overwrite::Yes, &mut |_, _| ());
            assert!(
                matches!(refused.unwrap_err().fault, Fault::NotRegular),
                "{path:?}"
            );
        }
        let missing = folder.path().join("no/such/folder");
        let refused = write_new(&missing, &[b"x"], Overwrite::No, &mut |_, _| ());
        assert!(matches!(refused.unwrap_err().fault, Fault::Io { .. }));
    }
}
