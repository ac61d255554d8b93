//! `kekctl completions`: what a shell needs to complete kekctl's command lines. Talks to nobody.

use std::io::Write as _;

use clap::{Args, CommandFactory as _};
use clap_complete::Shell;
use kekd::program::reader_may_leave;

use crate::cli::Cli;
use crate::exit::Exit;

/// Write the completions of a shell to standard output
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  kekctl completions bash > ~/.local/share/bash-completion/completions/kekctl
  kekctl completions zsh > ~/.zfunc/_kekctl      # with fpath+=~/.zfunc before compinit
  kekctl completions fish > ~/.config/fish/completions/kekctl.fish")]
pub struct Completions {
    /// Which shell
    shell: Shell,
}

impl Completions {
    pub fn run(self) -> anyhow::Result<Exit> {
        let mut text = Vec::new();
        clap_complete::generate(self.shell, &mut Cli::command(), "kekctl", &mut text);
        reader_may_leave(std::io::stdout().lock().write_all(&text))?;
        Ok(Exit::Done)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// clap_complete puts the help of values between double quotes, unescaped, into fish's file.
    #[test]
    fn no_help_of_a_value_breaks_the_quotes_of_a_shell() {
        fn walk(command: &clap::Command) {
            for argument in command.get_arguments() {
                for value in argument.get_possible_values() {
                    let help = value.get_help().map(ToString::to_string);
                    assert!(
                        !help.is_some_and(|help| help.contains(['"', '$', '`'])),
                        "{argument} {}",
                        value.get_name()
                    );
                }
            }
            command.get_subcommands().for_each(walk);
        }
        walk(&Cli::command());
    }
}
