//! One file that crosses an air gap and comes back: the statement, what is wanted of it, and in the
//! end the signature. Whoever signs believes nothing in it but the statement, which is read again
//! where it is signed; the rest is there for people and for names.

use std::fmt;
use std::path::Path;

use kekd::proto::v1;
use kekd::quorum::{Execution, Proposal};
use kekd::types::Sha256;
use serde::{Deserialize, Serialize};

use super::facts::Facts;
use super::key::Named;
use super::now;
use super::purpose::Purpose;
use super::signer::Signer;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::file::{self, Target};
use crate::output::Format;

/// The first words of a bundle.
const FORMAT: &str = "kekd-bundle-v1";
/// Longest bundle read: a statement, a signature, 32 officers' keys.
const BUNDLE_LEN_MAX: u64 = 512 * 1024;

/// The file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bundle {
    format: String,
    /// What the signature is for.
    pub purpose: Purpose,
    /// The SSHSIG namespace; follows from the purpose.
    namespace: String,
    /// How to go on, for people.
    instructions: Vec<String>,
    /// The facts of the statement when the bundle was made, for people who open the file.
    facts: Vec<String>,
    /// The name of the instance, says kekd.
    pub instance_name: String,
    /// Those who have approved, says kekd.
    approvals: String,
    /// The officers, says kekd: to find the signer's name by the key.
    officers: Vec<Named>,
    /// The proposal's statement.
    statement: String,
    /// For an execution: its own statement, made where it is signed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    execution: Option<String>,
    /// The armored SSHSIG: over the execution where there is one, else over the statement.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    signature: Option<String>,
}

/// What a signed bundle brings to kekd.
#[derive(Debug)]
pub struct Signed {
    pub purpose: Purpose,
    /// The proposal's id.
    pub id: Sha256,
    /// The bytes that were signed.
    pub text: Vec<u8>,
    pub signature: Vec<u8>,
}

impl Bundle {
    /// A bundle without a signature.
    pub fn new(
        purpose: Purpose,
        proposal: &Proposal,
        approvals: String,
        governance: &v1::GetGovernanceResponse,
    ) -> Self {
        Self {
            format: FORMAT.to_owned(),
            purpose,
            namespace: purpose.namespace().to_owned(),
            instructions: [
                "1. Carry this file to the machine with your officer key.",
                "2. kekctl proposal sign-bundle FILE --officer-key KEY --out SIGNED",
                "3. Carry SIGNED back.",
                "4. kekctl proposal submit-bundle SIGNED",
            ]
            .map(str::to_owned)
            .to_vec(),
            facts: Facts::of_proposal(proposal).lines().collect(),
            instance_name: governance.instance_name.clone(),
            approvals,
            officers: Named::of(&governance.officers).collect(),
            statement: String::from_utf8_lossy(proposal.text()).into_owned(),
            execution: None,
            signature: None,
        }
    }

    /// Reads a bundle.
    pub fn open(path: &Path) -> anyhow::Result<Self> {
        let bytes = file::read(path, BUNDLE_LEN_MAX)?;
        let bundle: Self = serde_json::from_slice(&bytes)
            .map_err(|error| refused(&format!("{} is no bundle: {error}", path.display())))?;
        if bundle.format != FORMAT {
            let found = &bundle.format;
            let text = format!("expected a bundle of the format {FORMAT}; found {found:?}");
            return Err(refused(&text).into());
        }
        let expected = bundle.purpose.namespace();
        if bundle.namespace != expected || bundle.purpose == Purpose::Suspend {
            let found = &bundle.namespace;
            let text = format!("expected a bundle for {expected}; found one for {found:?}");
            return Err(refused(&text).into());
        }
        Ok(bundle)
    }

    /// Writes the bundle.
    pub fn write(&self, target: &Target) -> anyhow::Result<()> {
        let mut text = serde_json::to_string_pretty(self)?;
        text.push('\n');
        target.write(&[text.as_bytes()], &mut |_, _| ())
    }

    /// The proposal, read from the statement.
    pub fn proposal(&self) -> anyhow::Result<Proposal> {
        let read = Proposal::parse(self.statement.as_bytes());
        Ok(read.map_err(|error| refused(&format!("the bundle's statement: {error}")))?)
    }

    /// The same bundle with the signature. Talks to nobody.
    pub fn sign(mut self, signer: &Signer, format: Format) -> anyhow::Result<Self> {
        if self.signature.is_some() {
            return Err(refused("the bundle is signed already").into());
        }
        let proposal = self.proposal()?;
        let (text, mut facts) = match self.purpose {
            Purpose::Execute => {
                let execution = self.order(signer, &proposal, format)?;
                let facts = Facts::of_execution(&execution, &proposal);
                (execution.text().to_vec(), facts)
            }
            Purpose::Propose
            | Purpose::Approve
            | Purpose::Possession
            | Purpose::Veto
            | Purpose::Suspend => (proposal.text().to_vec(), Facts::of_proposal(&proposal)),
        };
        facts.add("instance name, says the bundle", &self.instance_name);
        facts.add("approvals, says the bundle", &self.approvals);
        let instance = proposal.instance_id;
        let signature = signer.sign(self.purpose, &text, instance, &facts, format)?;
        if self.purpose == Purpose::Execute {
            self.execution = Some(String::from_utf8_lossy(&text).into_owned());
        }
        self.signature = Some(String::from_utf8_lossy(&signature).into_owned());
        Ok(self)
    }

    /// The order to execute, dated now by this machine.
    fn order(
        &self,
        signer: &Signer,
        proposal: &Proposal,
        format: Format,
    ) -> anyhow::Result<Execution> {
        let name = signer.name(self.officers.iter().cloned(), format)?;
        Ok(Execution::draft(proposal, &name, now())?)
    }

    /// What a signed bundle brings.
    pub fn signed(self) -> anyhow::Result<Signed> {
        let proposal = self.proposal()?;
        let Some(signature) = self.signature else {
            let text = "the bundle is not signed yet: kekctl proposal sign-bundle does that";
            return Err(refused(text).into());
        };
        let text = match (self.purpose, self.execution) {
            (Purpose::Execute, Some(text)) => text.into_bytes(),
            (Purpose::Execute, None) => {
                return Err(refused("the bundle holds no execution").into());
            }
            _ => proposal.text().to_vec(),
        };
        Ok(Signed {
            purpose: self.purpose,
            id: proposal.id.0,
            text,
            signature: signature.into_bytes(),
        })
    }
}

/// What is said of a bundle that was written.
#[derive(Debug, Serialize)]
pub struct Written {
    proposal_id: String,
    purpose: Purpose,
    out: String,
}

impl Written {
    pub fn new(proposal: &Proposal, purpose: Purpose, target: &Target) -> Self {
        Self {
            proposal_id: proposal.id.to_string(),
            purpose,
            out: target.path().display().to_string(),
        }
    }
}

impl fmt::Display for Written {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            proposal_id, out, ..
        } = self;
        write!(
            f,
            "wrote the bundle for the proposal {proposal_id} to {out}; go on, on the machine with \
             your officer key, with:\n  kekctl proposal sign-bundle {out} --officer-key KEY --out \
             SIGNED"
        )
    }
}

fn refused(text: &str) -> Failure {
    Failure::new(Exit::Malformed, "NOT_ACCEPTABLE", text)
}

#[cfg(test)]
mod tests;
