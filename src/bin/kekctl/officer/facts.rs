//! The facts of a statement, a line each, as an officer sees them before signing. They are read on
//! this machine from the very bytes that are signed; what only kekd says is marked as such.

use std::fmt;

use kekd::quorum::{Execution, Proposal, Suspension};

/// Characters of a proposal's id that people compare.
const SHORT_ID_LEN: usize = 12;

/// Facts in the order of the statement.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Facts {
    lines: Vec<(String, String)>,
}

impl Facts {
    /// The facts of a proposal.
    pub fn of_proposal(proposal: &Proposal) -> Self {
        let mut facts = Self::default();
        facts.add("proposal", short_id(&proposal.id.to_string()));
        facts.read(proposal.text());
        facts
    }

    /// The facts of an execution, with those of the proposal it is of.
    pub fn of_execution(execution: &Execution, proposal: &Proposal) -> Self {
        let mut facts = Self::of_proposal(proposal);
        facts.read(execution.text());
        facts
    }

    /// The facts of a suspension.
    pub fn of_suspension(suspension: &Suspension) -> Self {
        let mut facts = Self::default();
        facts.read(suspension.text());
        facts
    }

    /// Adds what the statement does not say.
    pub fn add(&mut self, name: &str, value: impl Into<String>) {
        self.lines.push((name.to_owned(), value.into()));
    }

    /// Takes in the lines of a statement that was parsed: printable ASCII, `name SP value`. The
    /// first line is its kind.
    fn read(&mut self, text: &[u8]) {
        let text = String::from_utf8_lossy(text);
        let mut lines = text.lines();
        self.add("statement", lines.next().unwrap_or_default());
        for line in lines {
            let (name, value) = line.split_once(' ').unwrap_or((line, ""));
            self.add(name, value);
        }
    }

    /// The facts as lines of text, values in one column.
    pub fn lines(&self) -> impl Iterator<Item = String> {
        let width = self.lines.iter().map(|(name, _)| name.len()).max();
        let width = width.unwrap_or_default();
        let line = move |(name, value): &(String, String)| format!("  {name:<width$}  {value}");
        self.lines.iter().map(line)
    }
}

impl fmt::Display for Facts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.lines().try_for_each(|line| writeln!(f, "{line}"))
    }
}

/// The part of a proposal's id that people compare.
pub fn short_id(id: &str) -> String {
    id.chars().take(SHORT_ID_LEN).collect()
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test that cannot unwrap has failed")]
pub mod tests {
    use std::time::Duration;

    use kekd::clock::UnixMs;
    use kekd::merkle::Head;
    use kekd::quorum::{Operation, ProposalDraft, Rule, Target};
    use kekd::types::Sha256;

    use super::*;

    /// A proposal to reinstate `recordings`, put forward by alice.
    pub fn proposal() -> Proposal {
        let draft = ProposalDraft {
            instance_id: Sha256::of(b"instance"),
            operation: Operation::Reinstate(Target::Kek("recordings".parse().unwrap())),
            proposer: "alice".to_owned(),
            nonce: [7; 16],
            opened_at: UnixMs(1_795_284_000_000),
            rule: Rule {
                threshold: 2,
                time_lock: Duration::ZERO,
                lifetime: Duration::from_secs(7 * 86_400),
                allowed: true,
            },
            epoch: 1,
            head: Head {
                size: 4,
                root: Sha256::of(b"root"),
            },
        };
        Proposal::draft(draft).unwrap()
    }

    #[test]
    fn each_fact_of_a_statement_has_a_line() {
        let proposal = proposal();
        let mut facts = Facts::of_proposal(&proposal);
        facts.add("approvals, says kekd", "bob (1 of 2)");
        let shown = facts.to_string();
        let text = String::from_utf8(proposal.text().to_vec()).unwrap();
        for line in text.lines().skip(1) {
            let (name, value) = line.split_once(' ').unwrap();
            let fact = format!("  {name:<20}  {value}\n");
            assert!(shown.contains(&fact), "{fact:?} is not in\n{shown}");
        }
        assert!(shown.contains("  statement             kekd proposal v1\n"));
        assert!(shown.contains("  approvals, says kekd  bob (1 of 2)\n"));
        let short = proposal.id.to_string();
        let first = format!("  proposal              {}\n", short.get(..12).unwrap());
        assert!(shown.starts_with(&first), "{shown}");
        assert_eq!(shown.lines().count(), text.lines().count() + 2);
    }

    #[test]
    fn an_execution_shows_what_it_executes() {
        let proposal = proposal();
        let execution = Execution::draft(&proposal, "bob", UnixMs(1_795_284_060_000)).unwrap();
        let shown = Facts::of_execution(&execution, &proposal).to_string();
        for fact in ["kekd proposal v1", "kekd execution v1", "alice", "bob"] {
            assert!(shown.contains(&format!("  {fact}\n")), "{fact}: {shown}");
        }
    }
}
