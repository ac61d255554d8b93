//! kekctl: the command line of kekd. One file per command; the folders are the command tree. Here
//! is only the way in and the way out: parse, run one command, turn what came of it into an exit
//! status. Nothing here decides anything about keys: kekd does.

mod approve;
mod audit;
mod cli;
mod completions;
mod connection;
mod coverage;
mod execute;
mod exit;
mod failure;
mod file;
mod import;
mod kek;
mod ledger;
mod lkm;
mod log_key;
mod officer;
mod officers;
mod output;
mod policy;
mod proposal;
mod proposals;
mod propose;
mod prove_possession;
mod recording;
mod rig;
mod status;
mod suspend;
mod unwrap;
mod veto;
mod witness;

use std::process::ExitCode;

use clap::{CommandFactory as _, FromArgMatches as _};

use cli::{Cli, Command};
use connection::Explicit;
use exit::Exit;

fn main() -> ExitCode {
    let matches = match Cli::command().try_get_matches() {
        Ok(matches) => matches,
        Err(error) => return output::usage(&error).into(),
    };
    let explicit = Explicit::read(&matches);
    let cli = match Cli::from_arg_matches(&matches) {
        Ok(cli) => cli,
        Err(error) => return output::usage(&error).into(),
    };
    output::colour(cli.global.color);
    let format = cli.global.output;
    match run(cli, explicit) {
        Ok(exit) => exit.into(),
        Err(error) => output::failure(format, &error.into()).into(),
    }
}

fn run(cli: Cli, explicit: Explicit) -> anyhow::Result<Exit> {
    if let Command::Completions(command) = cli.command {
        return command.run();
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let format = cli.global.output;
    let kekd = cli.global.connection(explicit);
    runtime.block_on(async {
        match cli.command {
            Command::Kek(command) => command.run(&kekd, format).await,
            Command::Unwrap(command) => command.run(&kekd, format).await,
            Command::Recording(command) => command.run(&kekd, format).await,
            Command::Status(command) => command.run(&kekd, format).await,
            Command::Coverage(command) => command.run(&kekd, format).await,
            Command::Ledger(command) => command.run(&kekd, format).await,
            Command::Lkm(command) => command.run(&kekd, format).await,
            Command::Audit(command) => command.run(&kekd, format).await,
            Command::Witness(command) => command.run(&kekd, format).await,
            Command::Propose(command) => command.run(&kekd, format).await,
            Command::Proposals(command) => command.run(&kekd, format).await,
            Command::Proposal(command) => command.run(&kekd, format).await,
            Command::Approve(command) => command.run(&kekd, format).await,
            Command::Veto(command) => command.run(&kekd, format).await,
            Command::ProvePossession(command) => command.run(&kekd, format).await,
            Command::Execute(command) => command.run(&kekd, format).await,
            Command::Import(command) => command.run(&kekd, format).await,
            Command::Suspend(command) => command.run(&kekd, format).await,
            Command::Officers(command) => command.run(&kekd, format).await,
            Command::Policy(command) => command.run(&kekd, format).await,
            Command::Rig(command) => command.run(format).await,
            Command::Completions(command) => command.run(),
        }
    })
}
