//! The state of a version: where it is in its life and what stops it. Values only; which change
//! leads where is for the keyring to say. The invariant: the state that is shown and obeyed is
//! computed from these two and kept nowhere.

use std::fmt;

/// The state of a version, in the words of NIST SP 800-57 part 1 revision 5, section 7.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum VersionState {
    /// Generated and not yet in use.
    PreActive,
    /// Wraps new DEKs and unwraps.
    Active,
    /// Unwraps old DEKs only.
    Deactivated,
    /// Stopped by an officer; a quorum can bring it back.
    Suspended,
    /// Stopped for good.
    Compromised,
    /// The private key no longer exists.
    Destroyed,
}

impl VersionState {
    /// Whether a DEK may be unwrapped in this state.
    pub const fn unwraps(self) -> bool {
        match self {
            Self::Active | Self::Deactivated => true,
            Self::PreActive | Self::Suspended | Self::Compromised | Self::Destroyed => false,
        }
    }

    /// The name used in output.
    pub const fn name(self) -> &'static str {
        match self {
            Self::PreActive => "pre-active",
            Self::Active => "active",
            Self::Deactivated => "deactivated",
            Self::Suspended => "suspended",
            Self::Compromised => "compromised",
            Self::Destroyed => "destroyed",
        }
    }
}

impl fmt::Display for VersionState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Where a version is in its life, whatever stops it. It goes forward only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Lifecycle {
    /// The newest of its KEK: wraps new DEKs and unwraps.
    Active,
    /// A newer one follows it: unwraps old DEKs only.
    Deactivated,
    /// Stopped for good.
    Compromised,
    /// The private key no longer exists.
    Destroyed,
}

impl Lifecycle {
    /// The state of a version that nothing stops.
    pub const fn state(self) -> VersionState {
        match self {
            Self::Active => VersionState::Active,
            Self::Deactivated => VersionState::Deactivated,
            Self::Compromised => VersionState::Compromised,
            Self::Destroyed => VersionState::Destroyed,
        }
    }
}

impl fmt::Display for Lifecycle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.state().name())
    }
}

/// What stops a version. Each stop is lifted by itself; one is enough to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Stops {
    /// All KEKs are stopped.
    pub of_all: bool,
    /// Its KEK is stopped.
    pub of_kek: bool,
    /// It waits for its destruction.
    pub for_destruction: bool,
}

impl Stops {
    /// Whether there is one.
    pub const fn any(self) -> bool {
        self.of_all || self.of_kek || self.for_destruction
    }
}

/// Where a private key came from. This never changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// Made in the token; it was never anywhere else.
    Generated,
    /// Brought in from outside; copies may exist.
    Imported,
}
