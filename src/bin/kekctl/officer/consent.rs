//! The question before a signature: the facts, then yes or no, on the terminal. A script says yes
//! with `--yes`; silence is no.

use std::io::{self, BufRead as _, IsTerminal as _};

use super::facts::Facts;
use super::purpose::Purpose;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::{self, Format};

/// Shows the facts and returns when the officer agrees.
pub fn ask(purpose: Purpose, facts: &Facts, yes: bool, format: Format) -> anyhow::Result<()> {
    let title = format!("With your signature you {}:", purpose.deed());
    let shown = format!("{title}\n{facts}");
    if yes {
        // A program reads standard error as JSON, and has said yes beforehand.
        if format == Format::Text {
            output::say(&shown);
        }
        return Ok(());
    }
    if !io::stdin().is_terminal() || !io::stderr().is_terminal() {
        let text = "nothing was signed: there is no terminal to show the facts on and to ask; \
                    look at them with `kekctl proposal show`, then say --yes";
        return Err(Failure::new(Exit::Usage, "CONSENT_MISSING", text).into());
    }
    output::say(&shown);
    output::prompt("Sign? [y/N] ");
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer)?;
    match is_yes(&answer) {
        true => Ok(()),
        false => Err(Failure::new(Exit::Failed, "DECLINED", "nothing was signed").into()),
    }
}

fn is_yes(answer: &str) -> bool {
    matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_yes_is_yes() {
        assert!(is_yes("y\n") && is_yes("YES\n") && is_yes(" yes "));
        for no in ["", "\n", "n", "yep", "j", "yy"] {
            assert!(!is_yes(no), "{no:?}");
        }
    }
}
