//! The two lanes in which work waits for the HSM.

/// Whether somebody waits for each answer by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Lane {
    /// A person waits: one call, one answer. Goes first.
    Interactive,
    /// Many at once, as in an export: takes what the interactive lane leaves, and never nothing.
    Bulk,
}
