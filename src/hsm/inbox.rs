//! Answers as they come from the worker: frames cut out of what the socket gives, mostly one read
//! each. The invariant: what passed through the buffer is wiped, since it may be a DEK.

use tokio::io::{AsyncRead, AsyncReadExt as _};
use zeroize::{Zeroize as _, Zeroizing};

use super::frame::{FRAME_HEADER_LEN, FrameError, body_len};

/// Bytes read at once; an answer to an unwrap has about a hundred.
const BUFFER_LEN: usize = 8 * 1024;

/// The frames that come through a socket.
pub(super) struct Inbox<R> {
    socket: R,
    /// What was read and is in no frame yet.
    buffer: Zeroizing<Vec<u8>>,
}

impl<R: AsyncRead + Unpin> Inbox<R> {
    /// Nothing is read yet.
    pub(super) fn new(socket: R) -> Self {
        // Never grows, so that no copy of it stays behind in memory.
        let buffer = Zeroizing::new(Vec::with_capacity(BUFFER_LEN));
        Self { socket, buffer }
    }

    /// The body of the next frame, wiped when dropped.
    pub(super) async fn next(&mut self) -> Result<Zeroizing<Vec<u8>>, FrameError> {
        while self.buffer.len() < FRAME_HEADER_LEN {
            self.read().await?;
        }
        let Some((header, rest)) = self.buffer.split_first_chunk::<FRAME_HEADER_LEN>() else {
            return Err(FrameError::TooLong { found: usize::MAX });
        };
        let mut body = Zeroizing::new(vec![0; body_len(*header)?]);
        let here = rest.len().min(body.len());
        if let (Some(to), Some(from)) = (body.get_mut(..here), rest.get(..here)) {
            to.copy_from_slice(from);
        }
        self.take(FRAME_HEADER_LEN.saturating_add(here));
        if let Some(missing) = body.get_mut(here..)
            && !missing.is_empty()
        {
            self.socket.read_exact(missing).await?;
        }
        Ok(body)
    }

    async fn read(&mut self) -> Result<(), FrameError> {
        let room = BUFFER_LEN.saturating_sub(self.buffer.len());
        let limit = u64::try_from(room).unwrap_or(0);
        let read = (&mut self.socket)
            .take(limit)
            .read_buf(&mut *self.buffer)
            .await?;
        match read {
            0 => Err(std::io::Error::from(std::io::ErrorKind::UnexpectedEof).into()),
            _ => Ok(()),
        }
    }

    /// Takes the first bytes away and wipes where the rest was.
    fn take(&mut self, len: usize) {
        let left = self.buffer.len().saturating_sub(len);
        self.buffer.copy_within(len.., 0);
        if let Some(old) = self.buffer.get_mut(left..) {
            old.zeroize();
        }
        self.buffer.truncate(left);
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test that cannot unwrap has failed")]
mod tests {
    use super::*;
    use crate::hsm::frame::encode;
    use crate::proto::worker::DataObjects;

    fn frames(lens: &[usize]) -> Vec<u8> {
        let frame = |len: &usize| {
            let values = vec![vec![7; *len]];
            let labels = Vec::new();
            encode(&DataObjects { values, labels }).unwrap().to_vec()
        };
        lens.iter().flat_map(frame).collect()
    }

    #[tokio::test]
    async fn frames_are_cut_out_however_they_come() {
        let lens = [10, 0, BUFFER_LEN * 3, 100, BUFFER_LEN - 8, 1];
        let bytes = frames(&lens);
        for step in [1, 3, 4, 5, 100, 8191, bytes.len()] {
            let (ours, mut theirs) = tokio::io::duplex(step);
            let sent = bytes.clone();
            let writer = tokio::spawn(async move {
                tokio::io::AsyncWriteExt::write_all(&mut theirs, &sent).await
            });
            let mut inbox = Inbox::new(ours);
            for len in lens {
                let body = inbox.next().await.unwrap();
                let expected = frames(&[len]);
                assert_eq!(Some(body.as_slice()), expected.get(FRAME_HEADER_LEN..));
            }
            writer.await.unwrap().unwrap();
            let ended = inbox.next().await;
            assert!(matches!(ended, Err(FrameError::Socket(_))));
        }
    }

    #[tokio::test]
    async fn what_was_taken_is_wiped() {
        let bytes = frames(&[100]);
        let mut inbox = Inbox::new(bytes.as_slice());
        let address = inbox.buffer.as_ptr();
        inbox.next().await.unwrap();
        assert!(inbox.buffer.is_empty());
        assert_eq!(inbox.buffer.as_ptr(), address, "the buffer has moved");
    }
}
