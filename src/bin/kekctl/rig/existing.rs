//! A token that was there before the rig: somebody's HSM, or another software token. It is named as
//! kekd names one, by module, label and serial number; kekd makes its keys in it, and nothing in the
//! rig ever makes, initialises or removes it.

use std::path::{Path, PathBuf};
use std::str::FromStr;

use clap::Args;

use super::token::Token;

/// Which token to use; all of it or nothing.
#[derive(Debug, Args)]
#[group(requires_all = ["module", "token_label", "token_serial", "pin_file"])]
pub struct Existing {
    /// The label of a token that exists; without it the rig makes a SoftHSM2 token of its own
    #[arg(long, required = false, value_name = "LABEL")]
    pub token_label: String,
    /// The serial number of the token that exists
    #[arg(long, required = false, value_name = "SERIAL")]
    pub token_serial: String,
    /// The file that holds its PIN, mode 0600 at most; it is used where it is
    #[arg(long, required = false, value_name = "FILE")]
    pin_file: PathBuf,
}

impl Existing {
    /// The token, as kekd's configuration names it.
    pub fn token(&self, module: &Path) -> std::io::Result<Token> {
        Ok(Token {
            module: module.to_path_buf(),
            label: self.token_label.clone(),
            serial: self.token_serial.clone(),
            pin_file: std::path::absolute(&self.pin_file)?,
        })
    }
}

/// A variable for the daemon: `NAME=VALUE`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Variable {
    pub name: String,
    pub value: String,
}

impl FromStr for Variable {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        // The names that sh can export: the rig's env file has to.
        let is_name = |name: &str| {
            name.bytes()
                .all(|byte| byte == b'_' || byte.is_ascii_alphanumeric())
                && name.starts_with(|first: char| !first.is_ascii_digit())
        };
        match text.split_once('=') {
            Some((name, value)) if is_name(name) => Ok(Self {
                name: name.to_owned(),
                value: value.to_owned(),
            }),
            Some(_) | None => Err("expected NAME=VALUE, NAME of letters, digits and underscores"),
        }
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test that cannot unwrap has failed")]
mod tests {
    use super::*;

    #[test]
    fn a_variable_is_a_name_and_a_value() {
        let variable: Variable = "A_1=b=c".parse().unwrap();
        assert_eq!((&*variable.name, &*variable.value), ("A_1", "b=c"));
        assert_eq!("A=".parse::<Variable>().unwrap().value, "");
        for bad in ["A", "=b", "1A=b", "A B=c", "A;B=c"] {
            assert!(bad.parse::<Variable>().is_err(), "{bad:?} was accepted");
        }
    }
}
