//! Where one HTTP/2 frame ends and the next begins (RFC 9113 sections 3.4, 4.1 and 6.2), as seen
//! from the bytes a client sends. Nothing is decoded: the only question is whether the client is in
//! the middle of something, because a client that stays there holds memory and answers no ping.

/// Bytes of the client's connection preface.
const PREFACE_LEN: usize = 24;
/// Bytes of a frame header.
const HEADER_LEN: usize = 9;

const HEADERS: u8 = 0x1;
const PUSH_PROMISE: u8 = 0x5;
const CONTINUATION: u8 = 0x9;
const END_HEADERS: u8 = 0x4;

/// A client's place in its own stream of bytes.
#[derive(Debug)]
pub(super) struct Frames {
    part: Part,
    /// A header block was begun and has not ended: only CONTINUATION may follow.
    in_block: bool,
    /// Wholes so far: the preface with its first frame counts as one, then each frame that is not
    /// part of a block, then each block.
    wholes: u64,
}

#[derive(Debug)]
enum Part {
    Preface {
        left: usize,
    },
    Header {
        bytes: [u8; HEADER_LEN],
        filled: usize,
    },
    Payload {
        left: usize,
    },
}

impl Frames {
    /// Before the first byte.
    pub(super) const fn new() -> Self {
        Self {
            part: Part::Preface { left: PREFACE_LEN },
            in_block: false,
            wholes: 0,
        }
    }

    /// Takes note of what the client sent.
    pub(super) fn advance(&mut self, mut sent: &[u8]) {
        while !sent.is_empty() {
            let (part, taken) = match &mut self.part {
                Part::Preface { left } => {
                    let taken = sent.len().min(*left);
                    let left = *left - taken;
                    let part = if left == 0 {
                        Part::header()
                    } else {
                        Part::Preface { left }
                    };
                    (part, taken)
                }
                Part::Header { bytes, filled } => {
                    let mut taken = 0;
                    for (place, byte) in bytes.iter_mut().skip(*filled).zip(sent) {
                        *place = *byte;
                        taken += 1;
                    }
                    let (bytes, filled) = (*bytes, *filled + taken);
                    let part = if filled < HEADER_LEN {
                        Part::Header { bytes, filled }
                    } else {
                        self.begin(bytes)
                    };
                    (part, taken)
                }
                Part::Payload { left } => {
                    let taken = sent.len().min(*left);
                    let left = *left - taken;
                    let part = if left == 0 {
                        self.end()
                    } else {
                        Part::Payload { left }
                    };
                    (part, taken)
                }
            };
            self.part = part;
            sent = sent.get(taken..).unwrap_or_default();
        }
    }

    fn begin(&mut self, header: [u8; HEADER_LEN]) -> Part {
        let [a, b, c, kind, flags, ..] = header;
        match kind {
            HEADERS | PUSH_PROMISE | CONTINUATION => self.in_block = flags & END_HEADERS == 0,
            _ => (),
        }
        let left = usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c);
        if left == 0 {
            self.end()
        } else {
            Part::Payload { left }
        }
    }

    fn end(&mut self) -> Part {
        if !self.in_block {
            self.wholes += 1;
        }
        Part::header()
    }

    /// Whether the client owes nothing: what it began has ended.
    pub(super) const fn is_between(&self) -> bool {
        matches!(self.part, Part::Header { filled: 0, .. }) && !self.in_block && self.wholes > 0
    }

    /// How many wholes have ended. Where this moves, what is under way began anew.
    pub(super) const fn wholes(&self) -> u64 {
        self.wholes
    }
}

impl Part {
    const fn header() -> Self {
        Self::Header {
            bytes: [0; HEADER_LEN],
            filled: 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0, 0, u8::try_from(payload.len()).unwrap_or(0), kind, flags];
        bytes.extend([0, 0, 0, 1]);
        bytes.extend(payload);
        bytes
    }

    /// Each step: what is sent, and whether the client is then between wholes, and how many there
    /// were. Sent whole and byte by byte, which must come to the same.
    #[test]
    fn the_middle_of_something_is_recognised() {
        let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
        let headers = frame(HEADERS, 0, b"abc");
        let steps = [
            (
                preface.get(..10).map(<[u8]>::to_vec).unwrap_or_default(),
                false,
                0,
            ),
            (
                preface.get(10..).map(<[u8]>::to_vec).unwrap_or_default(),
                false,
                0,
            ),
            (frame(0x4, 0, &[]), true, 1),
            (frame(0x6, 0, &[0; 8]), true, 2),
            (
                headers.get(..11).map(<[u8]>::to_vec).unwrap_or_default(),
                false,
                2,
            ),
            (
                headers.get(11..).map(<[u8]>::to_vec).unwrap_or_default(),
                false,
                2,
            ),
            (frame(CONTINUATION, 0, b"d"), false, 2),
            (frame(CONTINUATION, END_HEADERS, &[]), true, 3),
            (frame(0x0, 1, &[1; 200]), true, 4),
            (vec![0], false, 4),
        ];
        let (mut whole, mut bytewise) = (Frames::new(), Frames::new());
        for (number, (sent, between, wholes)) in steps.into_iter().enumerate() {
            whole.advance(&sent);
            sent.iter().for_each(|byte| bytewise.advance(&[*byte]));
            for frames in [&whole, &bytewise] {
                assert_eq!(frames.is_between(), between, "step {number}: {frames:?}");
                assert_eq!(frames.wholes(), wholes, "step {number}: {frames:?}");
            }
        }
    }
}
