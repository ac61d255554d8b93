//! What all statements of officers have in common: their namespaces, their bounds and what can be
//! wrong with one. How lines are taken apart and put together is in `lines`, what each statement
//! says is in `proposal` and `orders`.

use super::officer::KeyError;
use super::policy::PolicyError;

/// Longest statement accepted, in bytes.
pub const STATEMENT_LEN_MAX: usize = 64 * 1024;
/// The SSHSIG namespace of a proposer's signature over a proposal.
pub const PROPOSAL_NAMESPACE: &str = "proposal@kekd";
/// The SSHSIG namespace of an approval: over the proposal's text.
pub const APPROVAL_NAMESPACE: &str = "approval@kekd";
/// The SSHSIG namespace of a veto: over the proposal's text.
pub const VETO_NAMESPACE: &str = "veto@kekd";
/// The SSHSIG namespace of a new officer's proof of possession: over the proposal's text.
pub const POSSESSION_NAMESPACE: &str = "possession@kekd";
/// The SSHSIG namespace of a signature over an execution.
pub const EXECUTION_NAMESPACE: &str = "execution@kekd";
/// The SSHSIG namespace of a signature over a suspension.
pub const SUSPENSION_NAMESPACE: &str = "suspension@kekd";

/// What is wrong with a statement. Always the fault of whoever wrote it: the same bytes are never
/// accepted later. Lines count from 1; what was found is cut to 100 characters.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StatementError {
    /// Too long to be one.
    #[error("expected a statement of at most 65536 bytes; found {found_len}")]
    TooLong {
        /// The length found.
        found_len: usize,
    },
    /// A byte that no statement has.
    #[error("line {line}: expected printable ASCII and LF line ends; found the byte 0x{found:02x}")]
    NotPrintable {
        /// The line.
        line: usize,
        /// The byte.
        found: u8,
    },
    /// The text does not end with LF.
    #[error("line {line}: expected LF at its end, as at every line's; the text ends without")]
    LineOpen {
        /// The line.
        line: usize,
    },
    /// Another kind of statement, or of another version.
    #[error(
        "line 1: expected {expected:?}; found {found:?}: use the kekctl of this kekd's version"
    )]
    TitleUnknown {
        /// The title expected.
        expected: &'static str,
        /// The line found.
        found: String,
    },
    /// The text ends too early.
    #[error("line {line}: expected a line `{expected} …`; the text ends")]
    LineMissing {
        /// The line.
        line: usize,
        /// The name of the line expected.
        expected: &'static str,
    },
    /// Another line than the one that has its place here.
    #[error("line {line}: expected a line `{expected} …`; found {found:?}")]
    LineUnexpected {
        /// The line.
        line: usize,
        /// The name of the line expected.
        expected: &'static str,
        /// The line found.
        found: String,
    },
    /// Something behind the last line.
    #[error("line {line}: expected the end of the text; found {found:?}")]
    LineTooMany {
        /// The line.
        line: usize,
        /// The line found.
        found: String,
    },
    /// A value that breaks its rule, or is not in the one form it is written in.
    #[error("line {line}, {name}: expected {expected}; found {found:?}")]
    ValueRefused {
        /// The line.
        line: usize,
        /// The line's name.
        name: &'static str,
        /// The rule.
        expected: String,
        /// The value found.
        found: String,
    },
    /// A line that does not follow from the others as it must.
    #[error("line {line}: by the other lines it must read {expected:?}; found {found:?}")]
    LineDiffers {
        /// The line.
        line: usize,
        /// The line as it must be.
        expected: String,
        /// The line found.
        found: String,
    },
    /// A key that cannot be an officer's.
    #[error("line {line}: {source}")]
    KeyRefused {
        /// The line.
        line: usize,
        /// The rule.
        source: KeyError,
    },
    /// A policy that is none.
    #[error("line {line}: {source}")]
    PolicyRefused {
        /// The line.
        line: usize,
        /// The rule.
        source: PolicyError,
    },
    /// A value whose text would not be read back as it is, for example a KEK with the name `none`
    /// as a fallback.
    #[error("this {what} cannot be written as a statement: its text would mean something else")]
    Unwritable {
        /// What it is, for example "bind-recording-policy".
        what: &'static str,
    },
}

#[cfg(test)]
mod tests;
