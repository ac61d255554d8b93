//! `kekctl propose bind-recording-policy` and `unbind-recording-policy`: which KEK the recordings of
//! a queue or tag are wrapped under.

use clap::Args;
use kekd::quorum::Operation;
use kekd::types::KekName;

/// Say which KEK the recordings of a queue or tag are wrapped under
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  kekctl propose bind-recording-policy --queue support-de --kek recordings --fallback vault")]
pub struct BindRecordingPolicy {
    /// The queue or tag: 1 to 128 printable ASCII characters without spaces
    #[arg(long, value_name = "NAME")]
    queue: String,
    /// The KEK
    #[arg(long, value_name = "NAME")]
    kek: KekName,
    /// The KEK to use while the first has no active version
    #[arg(long, value_name = "NAME")]
    fallback: Option<KekName>,
}

/// Take that back
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  kekctl propose unbind-recording-policy --queue support-de")]
pub struct UnbindRecordingPolicy {
    /// The queue or tag
    #[arg(long, value_name = "NAME")]
    queue: String,
}

impl BindRecordingPolicy {
    pub fn operation(self) -> Operation {
        Operation::BindRecordingPolicy {
            key: self.queue,
            kek: self.kek,
            fallback: self.fallback,
        }
    }
}

impl UnbindRecordingPolicy {
    pub fn operation(self) -> Operation {
        Operation::UnbindRecordingPolicy { key: self.queue }
    }
}
