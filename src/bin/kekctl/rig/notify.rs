//! The listening end of sd_notify(3): how the rig learns that its daemon is ready, by the same
//! datagrams that systemd gets. Nothing in kekd knows that it is a rig that listens.

use std::io;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Longest datagram read; systemd's own limit is 4 KiB.
const DATAGRAM_LEN_MAX: usize = 4096;

/// What a read that came back empty-handed says (socket(7), `SO_RCVTIMEO`).
const NOTHING_YET: [io::ErrorKind; 3] = [
    io::ErrorKind::WouldBlock,
    io::ErrorKind::TimedOut,
    io::ErrorKind::Interrupted,
];

/// A bound notification socket; its file goes away with it.
pub struct Notify {
    socket: UnixDatagram,
    path: PathBuf,
}

impl Notify {
    /// Binds the socket in place of one that was left behind.
    pub fn bind(path: &Path) -> io::Result<Self> {
        match std::fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
        Ok(Self {
            socket: UnixDatagram::bind(path)?,
            path: path.to_path_buf(),
        })
    }

    /// Waits for a moment; true when somebody has said `READY=1`.
    pub fn is_ready_within(&self, wait: Duration) -> io::Result<bool> {
        self.socket.set_read_timeout(Some(wait))?;
        let mut buffer = [0; DATAGRAM_LEN_MAX];
        match self.socket.recv(&mut buffer) {
            Ok(len) => Ok(says_ready(buffer.get(..len).unwrap_or_default())),
            Err(error) if NOTHING_YET.contains(&error.kind()) => Ok(false),
            Err(error) => Err(error),
        }
    }
}

impl Drop for Notify {
    fn drop(&mut self) {
        // A file left behind does no harm: the next one takes its place.
        std::fs::remove_file(&self.path).ok();
    }
}

fn says_ready(datagram: &[u8]) -> bool {
    datagram
        .split(|byte| *byte == b'\n')
        .any(|line| line == b"READY=1")
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test that cannot unwrap has failed")]
mod tests {
    use super::*;

    #[test]
    fn ready_is_heard_among_other_words() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ready.sock");
        std::fs::write(&path, b"left behind").unwrap();
        let notify = Notify::bind(&path).unwrap();
        let daemon = UnixDatagram::unbound().unwrap();
        let wait = Duration::from_millis(10);
        assert!(!notify.is_ready_within(wait).unwrap());
        daemon.send_to(b"STATUS=READY=1 soon", &path).unwrap();
        assert!(!notify.is_ready_within(wait).unwrap());
        daemon.send_to(b"STATUS=serving\nREADY=1\n", &path).unwrap();
        assert!(notify.is_ready_within(wait).unwrap());
        drop(notify);
        assert!(!path.exists());
    }
}
