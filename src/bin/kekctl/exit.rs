//! The exit statuses of kekctl: one enum, the numbers of sysexits(3), and the text that `--help`
//! prints. Nothing else in kekctl names a number.

use std::process::ExitCode;

/// How kekctl ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// Done as asked.
    Done = 0,
    /// Refused or failed, and trying again does not help.
    Failed = 1,
    /// The command line is wrong.
    Usage = 64,
    /// An input is not what it must be.
    Malformed = 65,
    /// An input is missing or cannot be read.
    NoInput = 66,
    /// kekd cannot be reached, or cannot serve now.
    Unavailable = 69,
    /// An output cannot be made.
    CannotCreate = 73,
    /// kekd is there and not ready.
    NotReady = 75,
    /// What answered does not speak kekd's interface.
    Protocol = 76,
    /// You may not do this.
    NotPermitted = 77,
    /// The connection's settings are missing or wrong.
    Configuration = 78,
    /// A required token does not hold every version.
    Uncovered = 79,
}

/// The table of `kekctl --help`.
pub const CODES: &str = "\
Exit status:
  0   done
  1   refused or failed; trying again does not help
  64  wrong usage
  65  an input is not what it must be
  66  an input is missing or cannot be read
  69  kekd cannot be reached or is busy; trying again may help
  73  an output cannot be made (it exists, or its folder does not)
  75  status: kekd is not ready
  76  what answered is not kekd, or is another version
  77  you may not do this
  78  the connection's settings are missing or wrong
  79  coverage: a required token does not hold every version";

impl Exit {
    /// The stable word for it in JSON errors.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Failed => "failed",
            Self::Usage => "usage",
            Self::Malformed => "malformed",
            Self::NoInput => "no-input",
            Self::Unavailable => "unavailable",
            Self::CannotCreate => "cannot-create",
            Self::NotReady => "not-ready",
            Self::Protocol => "protocol",
            Self::NotPermitted => "not-permitted",
            Self::Configuration => "configuration",
            Self::Uncovered => "uncovered",
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_status_is_in_the_help() {
        use Exit::*;
        let all = [
            Done,
            Failed,
            Usage,
            Malformed,
            NoInput,
            Unavailable,
            CannotCreate,
            NotReady,
            Protocol,
            NotPermitted,
            Configuration,
            Uncovered,
        ];
        assert_eq!(CODES.lines().count(), all.len() + 1);
        for exit in all {
            let number = format!("\n  {:<4}", exit as u8);
            assert!(
                CODES.contains(&number),
                "{} is not in the help",
                exit.name()
            );
        }
    }
}
