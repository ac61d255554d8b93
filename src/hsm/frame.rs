//! How messages follow each other on the socketpair between daemon and worker: four bytes of
//! length, big endian, then that many bytes of protobuf. Nothing here knows what the messages
//! mean. The invariant: no length a peer names makes either side take more than [`FRAME_LEN_MAX`].

use std::io::{self, Read};

use prost::bytes::Bytes;
use prost::{DecodeError, Message};
use zeroize::Zeroizing;

/// Bytes of the longest message, without its length: the inventory of a token with some 30,000 pairs of
/// keys, three times as many as kekd is meant for.
pub const FRAME_LEN_MAX: usize = 8 * 1024 * 1024;
/// Bytes of the longest request to a session: a profile or what a certificate says, 64 KiB each, and
/// room for the rest. Sockets take it whole where the kernel's own limits are as they come.
pub const REQUEST_LEN_MAX: usize = 128 * 1024;
/// Bytes of the length before each message.
pub const FRAME_HEADER_LEN: usize = 4;

/// A frame that cannot be read or made. The connection is of no use afterwards: fatal for the
/// worker, and for the daemon a reason to replace it.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// The message is longer than a frame may be.
    #[error("a message of {found} bytes is longer than the {FRAME_LEN_MAX} a frame may carry")]
    TooLong {
        /// Its length, or the length its header claims.
        found: usize,
    },
    /// The request is longer than one may be.
    #[error("a request of {found} bytes is longer than the {REQUEST_LEN_MAX} a session takes")]
    RequestTooLong {
        /// Its length.
        found: usize,
    },
    /// The peer ended in the middle of a frame, or the socket failed.
    #[error("the socket between daemon and worker failed")]
    Socket(#[from] io::Error),
}

/// The number of bytes that follow this header, once it is found acceptable.
pub fn body_len(header: [u8; FRAME_HEADER_LEN]) -> Result<usize, FrameError> {
    match usize::try_from(u32::from_be_bytes(header)) {
        Ok(len) if len <= FRAME_LEN_MAX => Ok(len),
        Ok(len) => Err(FrameError::TooLong { found: len }),
        Err(_) => Err(FrameError::TooLong { found: usize::MAX }),
    }
}

/// A message as one frame, header and body. The buffer is made at its final size, so that no
/// copy of a DEK stays behind in memory, and is wiped when dropped.
pub fn encode<M: Message>(message: &M) -> Result<Zeroizing<Vec<u8>>, FrameError> {
    let found = message.encoded_len();
    let len = u32::try_from(found).map_err(|_| FrameError::TooLong { found })?;
    if found > FRAME_LEN_MAX {
        return Err(FrameError::TooLong { found });
    }
    let mut frame = Zeroizing::new(Vec::with_capacity(FRAME_HEADER_LEN.saturating_add(found)));
    frame.extend_from_slice(&len.to_be_bytes());
    message
        .encode(&mut *frame)
        .map_err(|_| FrameError::TooLong { found })?;
    Ok(frame)
}

/// Reads a message. A byte string in it is copied once, into the message: from a plain slice prost
/// would copy it into a buffer in between that nobody wipes, and it may be a DEK.
pub fn decode<M: Message + Default>(body: Zeroizing<Vec<u8>>) -> Result<M, DecodeError> {
    M::decode(Bytes::from_owner(body))
}

/// The body of the next frame, or `None` where the peer closed the socket between two frames.
/// Blocks.
pub fn read(mut socket: impl Read) -> Result<Option<Zeroizing<Vec<u8>>>, FrameError> {
    let mut header = [0; FRAME_HEADER_LEN];
    let (first, rest) = header.split_at_mut(1);
    loop {
        match socket.read(first) {
            Ok(0) => return Ok(None),
            Ok(_) => break,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error.into()),
        }
    }
    socket.read_exact(rest)?;
    let mut body = Zeroizing::new(vec![0; body_len(header)?]);
    socket.read_exact(&mut body)?;
    Ok(Some(body))
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test that cannot unwrap has failed")]
mod tests {
    use std::io::Write;
    use std::os::unix::net::UnixStream;

    use super::*;
    use crate::proto::worker::{DataObjects, Failure};

    #[test]
    fn a_frame_is_length_and_body() {
        let (mut near, far) = UnixStream::pair().unwrap();
        let failure = Failure {
            detail: "why".to_owned(),
            ..Failure::default()
        };
        near.write_all(&encode(&failure).unwrap()).unwrap();
        drop(near);
        let body = read(&far).unwrap().unwrap();
        assert_eq!(Failure::decode(&body[..]).unwrap(), failure);
        assert!(read(&far).unwrap().is_none());
    }

    #[test]
    fn a_message_is_read_from_the_frames_own_bytes() {
        let objects = DataObjects {
            values: vec![vec![7; 32], vec![]],
            labels: vec![0, 0],
        };
        let body = Zeroizing::new(objects.encode_to_vec());
        assert_eq!(decode::<DataObjects>(body).unwrap(), objects);
        assert!(decode::<DataObjects>(Zeroizing::new(vec![0x0a, 9])).is_err());
        // What `decode` rests on: bytes taken from an owner are the owner's, and no copy.
        let owner = Zeroizing::new(vec![7; 32]);
        let inside = owner.as_ptr_range();
        let mut bytes = Bytes::from_owner(owner);
        assert!(inside.contains(&prost::bytes::Buf::copy_to_bytes(&mut bytes, 16).as_ptr()));
    }

    #[test]
    fn lengths_are_bounded_both_ways() {
        let long = DataObjects {
            values: vec![vec![0; FRAME_LEN_MAX]],
            labels: Vec::new(),
        };
        assert!(matches!(encode(&long), Err(FrameError::TooLong { .. })));
        assert_eq!(body_len([0, 128, 0, 0]).unwrap(), FRAME_LEN_MAX);
        assert!(matches!(
            body_len([0, 128, 0, 1]),
            Err(FrameError::TooLong { found: 8_388_609 })
        ));
    }

    #[test]
    fn a_frame_cut_short_is_an_error() {
        let (mut near, far) = UnixStream::pair().unwrap();
        near.write_all(&[0, 0, 0, 9, 1]).unwrap();
        drop(near);
        assert!(matches!(read(&far), Err(FrameError::Socket(_))));
    }
}
