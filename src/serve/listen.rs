//! The two doors. They are bound when the node is open: until then a caller is refused at once, and
//! may try another node, instead of waiting behind a door that nobody opens. A socket file that a
//! dead daemon left is removed; one that a live daemon answers on is not.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use tokio::net::{TcpListener, UnixListener};

use crate::config::Config;

/// Mode of the socket file: its owner and its group may connect. The folder may forbid more.
const SOCKET_MODE: u32 = 0o660;

/// Why a door cannot be opened. The operator's to mend.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// The address cannot be bound.
    #[error("tcp.listen: cannot listen on {address}: {source}")]
    Tcp {
        /// The address.
        address: SocketAddr,
        /// Why not.
        source: io::Error,
    },
    /// A live process answers on the socket.
    #[error(
        "unix.socket: another process answers on {}; stop it, or give this one another path",
        socket.display()
    )]
    SocketInUse {
        /// The path.
        socket: PathBuf,
    },
    /// Something else is in the way.
    #[error("unix.socket: {} is there and is not a socket; move it away", socket.display())]
    NotASocket {
        /// The path.
        socket: PathBuf,
    },
    /// The socket cannot be made.
    #[error("unix.socket: cannot listen on {}: {source}", socket.display())]
    Unix {
        /// The path.
        socket: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

/// The doors, bound and listening; nothing is accepted yet.
pub struct Listeners {
    /// For TLS.
    pub tcp: Option<TcpListener>,
    /// For local peers.
    pub unix: Option<SocketListener>,
}

impl Listeners {
    /// Binds what the configuration names.
    ///
    /// # Errors
    /// Where a door cannot be bound.
    pub async fn bind(config: &Config) -> Result<Self, ListenError> {
        let tcp =
            match &config.tcp {
                None => None,
                Some(tcp) => Some(TcpListener::bind(tcp.listen).await.map_err(|source| {
                    ListenError::Tcp {
                        address: tcp.listen,
                        source,
                    }
                })?),
            };
        let unix = config
            .unix
            .as_ref()
            .map(|unix| SocketListener::bind(&unix.socket))
            .transpose()?;
        Ok(Self { tcp, unix })
    }
}

/// A Unix socket that listens, and the file that names it. The file goes when this is dropped.
pub struct SocketListener {
    /// The listening socket.
    pub(super) listener: UnixListener,
    socket: PathBuf,
    inode: u64,
}

impl SocketListener {
    /// Binds `socket`, mode 0660.
    ///
    /// # Errors
    /// Where another process answers there, something else is in the way, or it cannot be made.
    pub fn bind(socket: &Path) -> Result<Self, ListenError> {
        let failed = |source| ListenError::Unix {
            socket: socket.to_owned(),
            source,
        };
        clear_way(socket)?;
        let listener = UnixListener::bind(socket).map_err(failed)?;
        fs::set_permissions(socket, fs::Permissions::from_mode(SOCKET_MODE)).map_err(failed)?;
        let inode = fs::metadata(socket).map_err(failed)?.ino();
        Ok(Self {
            listener,
            socket: socket.to_owned(),
            inode,
        })
    }
}

impl Drop for SocketListener {
    fn drop(&mut self) {
        // Only our own: the path may hold another process's socket by now.
        if fs::symlink_metadata(&self.socket).is_ok_and(|found| found.ino() == self.inode)
            && let Err(error) = fs::remove_file(&self.socket)
        {
            tracing::warn!(%error, socket = %self.socket.display(), "a socket file stays behind");
        }
    }
}

/// Nobody listens on a dead socket file: connecting is refused.
fn clear_way(socket: &Path) -> Result<(), ListenError> {
    let failed = |source| ListenError::Unix {
        socket: socket.to_owned(),
        source,
    };
    match fs::symlink_metadata(socket) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed(error)),
        Ok(found) if !found.file_type().is_socket() => {
            return Err(ListenError::NotASocket {
                socket: socket.to_owned(),
            });
        }
        Ok(_) => (),
    }
    match std::os::unix::net::UnixStream::connect(socket) {
        Ok(_) => Err(ListenError::SocketInUse {
            socket: socket.to_owned(),
        }),
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            fs::remove_file(socket).map_err(failed)
        }
        Err(error) => Err(failed(error)),
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test that cannot unwrap has failed")]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_dead_socket_gives_way_and_a_live_one_does_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("kekd.sock");
        let text = |result: Result<SocketListener, ListenError>| result.err().unwrap().to_string();

        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        assert!(path.exists(), "a dead socket file");
        let live = SocketListener::bind(&path).unwrap();
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o7777, 0o660);
        assert!(text(SocketListener::bind(&path)).contains("another process answers on"));
        drop(live);
        assert!(!path.exists(), "the socket file goes with its listener");

        fs::write(&path, "x").unwrap();
        assert!(text(SocketListener::bind(&path)).contains("is not a socket; move it away"));
        assert_eq!(fs::read(&path).unwrap(), b"x");
        let nowhere = folder.path().join("none/kekd.sock");
        assert!(text(SocketListener::bind(&nowhere)).contains("cannot listen on"));
    }
}
