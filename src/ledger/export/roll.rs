//! Who the officers were when an entry was signed: the roll is called from the genesis on, and
//! changes with each executed `change-officers` and `recover`. Statements are read line by line, in
//! ledgers that the fold has accepted; nothing is judged here.

use std::collections::BTreeMap;
use std::ops::Range;

use serde::Deserialize;

use super::pieces::pieces;
use crate::types::Sha256;

/// Somebody who may sign.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Signer {
    /// The name, as officers wrote it.
    pub(super) name: String,
    /// The public key: kind and base64, as in a `.pub` file.
    pub(super) key: String,
}

impl Signer {
    fn new(name: &str, key: &str) -> Self {
        let words: Vec<&str> = key.split_ascii_whitespace().take(2).collect();
        Self {
            name: name.to_owned(),
            key: words.join(" "),
        }
    }

    /// The name as a principal, in which ssh-keygen would take some characters for patterns: all but
    /// letters, digits, `.`, `_`, `@` and `-` become `_`.
    pub(super) fn principal(&self) -> String {
        let plain = |c: char| match c.is_ascii_alphanumeric() || "._@-".contains(c) {
            true => c,
            false => '_',
        };
        self.name.chars().map(plain).collect()
    }
}

/// What was signed in one entry, and by whom it may have been.
#[derive(Debug)]
pub(super) struct Act {
    /// The field number of its event.
    pub(super) event: u32,
    /// The SSHSIG namespace.
    pub(super) namespace: &'static str,
    /// The quorum epoch it was signed in.
    pub(super) epoch: u64,
    /// What was signed.
    pub(super) statement: Vec<u8>,
    /// Where it is in this entry, if it is.
    pub(super) statement_at: Option<Range<usize>>,
    /// The entry that opened the proposal, if that one holds it.
    pub(super) statement_of: Option<u64>,
    /// Where the signatures are.
    pub(super) signatures: Vec<Range<usize>>,
    /// Who may have signed, where that is not the officers of the epoch.
    pub(super) signers_of_its_own: Option<Vec<Signer>>,
}

/// The officers as of the newest entry taken.
#[derive(Debug, Default)]
pub(super) struct Roll {
    epoch: u64,
    officers: Vec<Signer>,
    recovery: Vec<Signer>,
    proposals: BTreeMap<Sha256, Opened>,
}

#[derive(Debug)]
struct Opened {
    entry: u64,
    statement: Vec<u8>,
}

/// What of a genesis document is needed here.
#[derive(Deserialize)]
struct Named {
    #[serde(default)]
    officer: Vec<NamedOfficer>,
    #[serde(default)]
    recovery: Recovery,
}

#[derive(Deserialize, Default)]
struct Recovery {
    #[serde(default)]
    officer: Vec<NamedOfficer>,
}

#[derive(Deserialize)]
struct NamedOfficer {
    name: String,
    key: String,
}

impl Roll {
    /// The quorum epoch, from 1.
    pub(super) const fn epoch(&self) -> u64 {
        self.epoch
    }

    /// The officers of the epoch.
    pub(super) fn officers(&self) -> &[Signer] {
        &self.officers
    }

    /// The recovery set of the genesis.
    pub(super) fn recovery(&self) -> &[Signer] {
        &self.recovery
    }

    /// Takes the next entry. `None` where it carries no signatures.
    pub(super) fn take(&mut self, index: u64, entry: &[u8]) -> Option<Act> {
        let found = pieces(entry)?;
        let cut = |at: &Range<usize>| entry.get(at.clone()).unwrap_or_default().to_vec();
        let id = found.proposal_id.as_ref();
        let id = id.and_then(|at| Sha256::try_from(cut(at).as_slice()).ok());
        let opened = id.and_then(|id| self.proposals.get(&id));
        let statement_of = opened.map(|opened| opened.entry);
        let statement = match &found.statement {
            Some(at) => cut(at),
            None => opened.map_or_else(Vec::new, |opened| opened.statement.clone()),
        };
        if found.event == 10 {
            self.begin(&statement);
        }
        let act = Act {
            event: found.event,
            namespace: found.namespace,
            epoch: self.epoch,
            signers_of_its_own: self.signers_of_its_own(found.event, &statement),
            statement,
            statement_at: found.statement,
            statement_of,
            signatures: found.signatures,
        };
        match act.event {
            12 => {
                let statement = act.statement.clone();
                let opened = Opened {
                    entry: index,
                    statement,
                };
                self.proposals.insert(Sha256::of(&act.statement), opened);
            }
            16 => self.execute(&act.statement),
            _ => {}
        }
        Some(act)
    }

    fn begin(&mut self, genesis: &[u8]) {
        let text = String::from_utf8_lossy(genesis);
        let signers = |named: Vec<NamedOfficer>| {
            let signer = |named: &NamedOfficer| Signer::new(&named.name, &named.key);
            named.iter().map(signer).collect()
        };
        if let Ok(named) = toml::from_str::<Named>(&text) {
            self.officers = signers(named.officer);
            self.recovery = signers(named.recovery.officer);
        }
        self.epoch = 1;
    }

    /// The effect of an execution on the roll.
    fn execute(&mut self, execution: &[u8]) {
        let opened = field(execution, "proposal")
            .and_then(|id| id.parse().ok())
            .and_then(|id: Sha256| self.proposals.get(&id));
        match field(execution, "operation").as_deref() {
            Some("change-officers" | "recover") => {
                self.officers = opened.map_or_else(Vec::new, |opened| named(&opened.statement));
            }
            Some("change-policy") => {}
            Some(_) | None => return,
        }
        self.epoch = self.epoch.saturating_add(1);
    }

    fn signers_of_its_own(&self, event: u32, statement: &[u8]) -> Option<Vec<Signer>> {
        let is_recovery = field(statement, "operation").as_deref() == Some("recover");
        match event {
            14 => Some(named(statement)),
            // Approved and executed by the recovery set alone.
            13 | 16 if is_recovery => Some(self.recovery.clone()),
            // Put forward by either, and any officer may veto.
            12 | 15 if is_recovery => Some([&self.officers[..], &self.recovery[..]].concat()),
            _ => None,
        }
    }
}

/// The officers that a statement names, one `officer ROLE KIND BASE64 NAME` a line.
fn named(statement: &[u8]) -> Vec<Signer> {
    let text = String::from_utf8_lossy(statement);
    text.lines()
        .filter_map(|line| {
            let mut words = line.strip_prefix("officer ")?.splitn(4, ' ');
            let (_role, kind, base64) = (words.next()?, words.next()?, words.next()?);
            Some(Signer::new(words.next()?, &format!("{kind} {base64}")))
        })
        .collect()
}

/// The value of the first line with this name.
pub(super) fn field(statement: &[u8], name: &str) -> Option<String> {
    let text = String::from_utf8_lossy(statement);
    let value = |line: &str| Some(line.strip_prefix(name)?.strip_prefix(' ')?.to_owned());
    text.lines().find_map(value)
}
