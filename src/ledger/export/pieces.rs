//! Where in an entry's bytes its statement and its signatures are. The entry is walked as protobuf
//! (encoding of length-delimited fields), never searched, so that a text inside another is not taken
//! for it.

use std::ops::Range;

use prost::encoding::{WireType, decode_key, decode_varint};

use crate::quorum::GENESIS_NAMESPACE;

/// Events that carry signatures, by their field number in `kekd.v1.Entry`: the SSHSIG namespace, and
/// whether field 1 is the statement itself; otherwise it is the id of the proposal whose statement
/// was signed. Signatures are in field 2 of all.
const SIGNED: [(u32, &str, bool); 8] = [
    (10, GENESIS_NAMESPACE, true),
    (12, "proposal@kekd", true),
    (13, "approval@kekd", false),
    (14, "possession@kekd", false),
    (15, "veto@kekd", false),
    (16, "execution@kekd", true),
    (17, "execution@kekd", true),
    (21, "suspension@kekd", true),
];
/// The first field number of events in `kekd.v1.Entry`.
const EVENTS_FROM: u32 = 10;

/// The signed parts of an entry, as ranges of its bytes.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Pieces {
    /// The field number of the event.
    pub(super) event: u32,
    /// The SSHSIG namespace.
    pub(super) namespace: &'static str,
    /// The statement, where the entry holds it.
    pub(super) statement: Option<Range<usize>>,
    /// The id of the proposal whose statement was signed, where the entry does not hold it.
    pub(super) proposal_id: Option<Range<usize>>,
    /// The signatures.
    pub(super) signatures: Vec<Range<usize>>,
}

/// The signed parts of an entry; `None` where nobody signs an event of this kind.
pub(super) fn pieces(entry: &[u8]) -> Option<Pieces> {
    let whole = 0..entry.len();
    let (event, body) = fields(entry, whole)
        .into_iter()
        .find(|(number, _)| *number >= EVENTS_FROM)?;
    let (_, namespace, holds_statement) =
        SIGNED.into_iter().find(|(number, _, _)| *number == event)?;
    let of = |wanted: u32| {
        fields(entry, body.clone())
            .into_iter()
            .filter(move |(number, _)| *number == wanted)
            .map(|(_, at)| at)
    };
    let first = of(1).next();
    Some(Pieces {
        event,
        namespace,
        statement: first.clone().filter(|_| holds_statement),
        proposal_id: first.filter(|_| !holds_statement),
        signatures: of(2).collect(),
    })
}

/// The length-delimited fields of the message at `within`, as far as it can be read: their numbers,
/// and where their contents are.
fn fields(bytes: &[u8], within: Range<usize>) -> Vec<(u32, Range<usize>)> {
    let end = within.end;
    let mut rest = bytes.get(within).unwrap_or_default();
    let mut found = Vec::new();
    while let Ok((number, wire)) = decode_key(&mut rest) {
        let Ok(value) = decode_varint(&mut rest) else {
            break;
        };
        match wire {
            WireType::Varint => {}
            WireType::LengthDelimited => {
                let start = end.saturating_sub(rest.len());
                let len = usize::try_from(value).unwrap_or(usize::MAX);
                let Some((_, after)) = rest.split_at_checked(len) else {
                    break;
                };
                found.push((number, start..start.saturating_add(len)));
                rest = after;
            }
            // No message of the ledger has these.
            WireType::SixtyFourBit
            | WireType::ThirtyTwoBit
            | WireType::StartGroup
            | WireType::EndGroup => break,
        }
    }
    found
}
