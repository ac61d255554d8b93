//! One stop: what it stops, and who made it. Nothing is decided or kept here.

use crate::types::KekName;

/// One stop.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stop {
    /// The KEK that is stopped; `None` is every KEK, those to come included.
    pub target: Option<KekName>,
    /// Who stopped it.
    pub source: Source,
}

/// Who or what makes a stop.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// An officer, whose signature was verified by the one who made the stop.
    Officer {
        /// The statement, byte for byte.
        statement: Vec<u8>,
        /// The armored SSHSIG over it. Where both together do not fit a slot of the marker (about 8
        /// KiB) they are not kept there: after a restart the stop is one of the host.
        signature: Vec<u8>,
    },
    /// Somebody with the rights of root on this host, by a file in the drop folder.
    Host,
    /// kekd: there was a stop of one KEK more than the marker has slots, so all are stopped.
    NoSlotLeft,
    /// kekd: a part of the marker cannot be read, so it could be a stop of anything.
    MarkerUnreadable,
}

impl Stop {
    /// Whether this KEK is stopped by it.
    pub fn covers(&self, kek: &KekName) -> bool {
        self.target.as_ref().is_none_or(|target| target == kek)
    }

    /// Whether the other one stops the same from the same kind of source: one of them is enough.
    pub(super) fn is_like(&self, other: &Self) -> bool {
        let kind = std::mem::discriminant(&self.source);
        self.target == other.target && kind == std::mem::discriminant(&other.source)
    }

    pub(super) const fn unreadable() -> Self {
        Self {
            target: None,
            source: Source::MarkerUnreadable,
        }
    }

    /// One sentence for the operator.
    pub(super) fn sentence(&self) -> String {
        let what = self.target.as_ref().map_or_else(
            || "every KEK is stopped".to_owned(),
            |kek| format!("the KEK {kek} is stopped"),
        );
        let why = match &self.source {
            Source::Officer { .. } => "by an officer",
            Source::Host => "by a file in stop.d",
            Source::NoSlotLeft => "because there were more stops than the file stops has slots",
            Source::MarkerUnreadable => {
                "because the file stops in the state folder is damaged: find out by whom"
            }
        };
        format!("{what} {why}; only a quorum lifts it")
    }
}
