//! `kekctl propose`: an operation is put forward, one subcommand per kind. What the operation says
//! comes from the options; instance, epoch, ledger head and rule come from kekd, and kekd holds the
//! signed statement against its own.

mod clients;
mod destruction;
mod ground;
mod mandate;
mod officers;
mod policy;
mod recording_policy;
mod signed;
mod stops;
mod version;

use std::path::PathBuf;

use clap::{Args, Subcommand};
use kekd::quorum::{Operation, Proposal};

use crate::connection::Connection;
use crate::exit::Exit;
use crate::file::Target;
use crate::officer::bundle::{Bundle, Written};
use crate::officer::facts::Facts;
use crate::officer::key::Named;
use crate::officer::purpose::Purpose;
use crate::officer::signer::Signer;
use crate::officer::statement_file;
use crate::officer::view::ProposalView;
use crate::output::{self, Format, Stream};

use ground::Ground;

/// Put an operation forward for a quorum to decide on
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  kekctl propose create-kek --kek archive --profile kek-rsa-3072
  kekctl propose rotate-kek --kek recordings
  kekctl propose grant-unwrap --identity spiffe://example.org/lkm-3 --kek recordings

With a key on another machine:
  kekctl propose rotate-kek --kek recordings --officer alice --bundle-out bundle.json")]
pub struct Propose {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    departure: Departure,
    #[command(flatten)]
    signer: Signer,
}

/// How the statement leaves unsigned, to be signed elsewhere.
#[derive(Debug, Args)]
struct Departure {
    /// Write the statement to this file (- for standard output) to sign it elsewhere; sign nothing
    #[arg(
        long,
        global = true,
        value_name = "FILE",
        conflicts_with = "bundle_out"
    )]
    statement_out: Option<PathBuf>,
    /// Write a bundle to this file to sign it elsewhere (kekctl proposal sign-bundle); sign nothing
    #[arg(long, global = true, value_name = "FILE")]
    bundle_out: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum Command {
    #[command(flatten)]
    Operation(OperationCommand),
    Signed(signed::Signed),
}

/// One for each kind of operation, by its name.
#[derive(Debug, Subcommand)]
enum OperationCommand {
    CreateKek(version::CreateKek),
    RotateKek(version::RotateKek),
    SetRotationMandate(mandate::SetRotationMandate),
    WithdrawRotationMandate(mandate::WithdrawRotationMandate),
    Reinstate(stops::Reinstate),
    RevokeVersion(stops::RevokeVersion),
    DestroyVersion(destruction::DestroyVersion),
    CancelDestruction(destruction::CancelDestruction),
    ImportKek(version::ImportKek),
    #[command(name = "allow-pkcs1v15")]
    AllowPkcs1V15(stops::AllowPkcs1V15),
    #[command(name = "forbid-pkcs1v15")]
    ForbidPkcs1V15(stops::ForbidPkcs1V15),
    GrantUnwrap(clients::GrantUnwrap),
    WithdrawUnwrap(clients::WithdrawUnwrap),
    AssignRole(clients::AssignRole),
    RemoveClient(clients::RemoveClient),
    BindRecordingPolicy(recording_policy::BindRecordingPolicy),
    UnbindRecordingPolicy(recording_policy::UnbindRecordingPolicy),
    ChangeOfficers(officers::ChangeOfficers),
    ChangePolicy(policy::ChangePolicy),
    Recover(officers::Recover),
}

impl Propose {
    pub async fn run(self, kekd: &Connection, format: Format) -> anyhow::Result<Exit> {
        let ground = Ground::of(kekd.open().await?).await?;
        let operation = match self.command {
            Command::Signed(command) => return command.run(&ground, format).await,
            Command::Operation(command) => command.operation(&ground).await?,
        };
        let name = self
            .signer
            .name(Named::of(&ground.governance.officers), format)?;
        let proposal = ground.draft(operation, name)?;
        match (self.departure.statement_out, self.departure.bundle_out) {
            (Some(path), _) => leave_as_statement(&path, &proposal, format)?,
            (None, Some(path)) => leave_as_bundle(path, &proposal, &ground, format)?,
            (None, None) => {
                let mut facts = Facts::of_proposal(&proposal);
                let instance_name = &ground.governance.instance_name;
                facts.add("instance name, says kekd", instance_name);
                let (text, instance) = (proposal.text(), proposal.instance_id);
                let purpose = Purpose::Propose;
                let signature = self.signer.sign(purpose, text, instance, &facts, format)?;
                let said = ground.client.propose(text.to_vec(), signature).await?;
                output::show(format, Stream::Out, &ProposalView::read(said)?)?;
            }
        }
        Ok(Exit::Done)
    }
}

impl OperationCommand {
    async fn operation(self, ground: &Ground) -> anyhow::Result<Operation> {
        match self {
            Self::CreateKek(command) => command.operation(ground),
            Self::RotateKek(command) => command.operation(ground).await,
            Self::SetRotationMandate(command) => command.operation(ground).await,
            Self::WithdrawRotationMandate(command) => Ok(command.operation()),
            Self::Reinstate(command) => Ok(command.operation()),
            Self::RevokeVersion(command) => Ok(command.operation()),
            Self::DestroyVersion(command) => command.operation(ground).await,
            Self::CancelDestruction(command) => command.operation(ground).await,
            Self::ImportKek(command) => command.operation(ground),
            Self::AllowPkcs1V15(command) => Ok(command.operation()),
            Self::ForbidPkcs1V15(command) => Ok(command.operation()),
            Self::GrantUnwrap(command) => Ok(command.operation()),
            Self::WithdrawUnwrap(command) => Ok(command.operation()),
            Self::AssignRole(command) => Ok(command.operation()),
            Self::RemoveClient(command) => Ok(command.operation()),
            Self::BindRecordingPolicy(command) => Ok(command.operation()),
            Self::UnbindRecordingPolicy(command) => Ok(command.operation()),
            Self::ChangeOfficers(command) => command.operation(ground),
            Self::ChangePolicy(command) => command.operation(ground),
            Self::Recover(command) => command.operation(ground),
        }
    }
}

fn leave_as_statement(
    path: &std::path::Path,
    proposal: &Proposal,
    format: Format,
) -> anyhow::Result<()> {
    let file = path.display();
    let next = format!("kekctl propose signed --statement {file} --signature");
    statement_file::write(path, Purpose::Propose, proposal.text(), next, format)
}

fn leave_as_bundle(
    path: PathBuf,
    proposal: &Proposal,
    ground: &Ground,
    format: Format,
) -> anyhow::Result<()> {
    let target = Target::new(path, false);
    target.check(false)?;
    let approvals = "none, it is not put forward yet".to_owned();
    Bundle::new(Purpose::Propose, proposal, approvals, &ground.governance).write(&target)?;
    let written = Written::new(proposal, Purpose::Propose, &target);
    output::show(format, target.report_stream(), &written)?;
    Ok(())
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test that cannot unwrap has failed")]
mod tests {
    use clap::CommandFactory as _;
    use kekd::quorum::OperationKind;

    #[test]
    fn every_kind_of_operation_can_be_proposed() {
        let command = crate::cli::Cli::command();
        let propose = command.find_subcommand("propose").unwrap();
        let names: Vec<&str> = propose.get_subcommands().map(|of| of.get_name()).collect();
        let kinds = OperationKind::ALL.map(OperationKind::name);
        assert_eq!(names, [&kinds[..], &["signed"]].concat());
    }
}
