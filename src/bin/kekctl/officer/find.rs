//! The proposal that is meant: by its whole id or by the beginning of it. What kekd answers is read
//! here again from its bytes, and the id is computed, not believed.

use std::str::FromStr;

use kekd::client::Client;
use kekd::proto::v1;
use kekd::quorum::Proposal;
use kekd::types::{Sha256, TypeError};

use crate::exit::Exit;
use crate::failure::Failure;

/// Fewest digits that name a proposal.
const PREFIX_LEN_MIN: usize = 8;
/// Digits of a whole id.
const ID_LEN: usize = 64;

/// An id of a proposal, or the beginning of one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProposalRef(String);

/// A proposal that was found.
#[derive(Debug)]
pub struct Found {
    /// What kekd says of it.
    pub said: v1::Proposal,
    /// What its statement says.
    pub proposal: Proposal,
}

impl FromStr for ProposalRef {
    type Err = TypeError;

    fn from_str(text: &str) -> Result<Self, TypeError> {
        let is_digit = |byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        let fits = (PREFIX_LEN_MIN..=ID_LEN).contains(&text.len()) && text.bytes().all(is_digit);
        match fits {
            true => Ok(Self(text.to_owned())),
            false => Err(TypeError {
                what: "a proposal",
                rule: "its id, or the first 8 or more of its hexadecimal digits",
            }),
        }
    }
}

impl ProposalRef {
    fn whole(&self) -> Option<Sha256> {
        self.0.parse().ok()
    }
}

impl Found {
    /// Reads what kekd sent.
    pub fn read(said: v1::Proposal) -> anyhow::Result<Self> {
        match Proposal::parse(&said.statement) {
            Ok(proposal) => Ok(Self { said, proposal }),
            Err(error) => {
                let text = format!(
                    "kekd sent a statement that this kekctl does not accept ({error}); is kekctl \
                     as new as kekd?"
                );
                Err(Failure::new(Exit::Protocol, "STATEMENT_UNREADABLE", text).into())
            }
        }
    }
}

/// Asks kekd for the proposal.
pub async fn find(client: &Client, wanted: &ProposalRef) -> anyhow::Result<Found> {
    let said = match wanted.whole() {
        Some(id) => client.get_proposal(id).await?,
        None => only(wanted, client.list_proposals(true).await?)?,
    };
    let found = Found::read(said)?;
    if found.proposal.id.to_string().starts_with(&wanted.0) {
        return Ok(found);
    }
    let text = format!("kekd sent the proposal {} instead", found.proposal.id);
    Err(Failure::new(Exit::Protocol, "PROTOCOL", text).into())
}

/// The one proposal whose id begins so.
fn only(wanted: &ProposalRef, proposals: Vec<v1::Proposal>) -> Result<v1::Proposal, Failure> {
    let begins_so = |of: &v1::Proposal| {
        let id = Sha256::of(&of.statement).to_string();
        id.starts_with(&wanted.0)
    };
    let mut matching = proposals.into_iter().filter(begins_so);
    let prefix = &wanted.0;
    match (matching.next(), matching.next()) {
        (Some(proposal), None) => Ok(proposal),
        (None, _) => {
            let text = format!("no proposal's id begins with {prefix} (kekctl proposals --all)");
            Err(Failure::new(Exit::Failed, "PROPOSAL_UNKNOWN", text))
        }
        (Some(_), Some(_)) => {
            let text =
                format!("more than one proposal's id begins with {prefix}: write more of it");
            Err(Failure::new(Exit::Failed, "PROPOSAL_AMBIGUOUS", text))
        }
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test that cannot unwrap has failed")]
mod tests {
    use super::*;

    #[test]
    fn a_proposal_is_named_by_eight_digits_or_more() {
        for good in ["01234567", &"a".repeat(64)] {
            assert!(good.parse::<ProposalRef>().is_ok(), "{good}");
        }
        for bad in ["", "0123456", "0123456G", "0123456A", &"a".repeat(65)] {
            assert!(bad.parse::<ProposalRef>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_prefix_must_lead_to_one_proposal() {
        let of = |statement: &[u8]| v1::Proposal {
            statement: statement.to_vec(),
            // A wrong id of kekd's is not looked at.
            id: vec![7; 32],
            ..v1::Proposal::default()
        };
        let id = Sha256::of(b"one").to_string();
        let wanted = ProposalRef(id.chars().take(8).collect());
        let found = only(&wanted, vec![of(b"one"), of(b"two")]).unwrap();
        assert_eq!(found.statement, b"one");
        let failure = only(&wanted, vec![of(b"two")]).unwrap_err();
        assert_eq!(failure.reason, "PROPOSAL_UNKNOWN");
        let failure = only(&wanted, vec![of(b"one"), of(b"one")]).unwrap_err();
        assert_eq!(failure.reason, "PROPOSAL_AMBIGUOUS");
    }
}
