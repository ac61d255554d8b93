//! Whether the front-end could answer now, and what its operator should know.

use serde::Serialize;

/// What `/ready` says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Readiness {
    /// A decrypt would be answered with its DEK.
    pub ready: bool,
    /// One sentence each. Never empty where not ready.
    pub problems: Vec<String>,
}

impl Default for Readiness {
    fn default() -> Self {
        Self {
            ready: false,
            problems: vec!["kekd was not asked yet".to_owned()],
        }
    }
}
