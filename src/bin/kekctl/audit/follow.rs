//! `kekctl audit follow`: records as they are written.

use std::io::Write as _;

use clap::Args;

use super::filter::FilterArgs;
use super::line::Line;
use super::list::goes_on;
use super::not_kekd;
use crate::connection::Connection;
use crate::exit::Exit;
use crate::output::Format;

/// Show records as they are written, until you end it
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  kekctl audit follow
  kekctl audit follow --kek recordings --output json
  kekctl audit follow --from 1200              # and what was written before")]
pub struct Follow {
    #[command(flatten)]
    filter: FilterArgs,
    /// The index of the first record looked at; the next one to be written when left out
    #[arg(long, value_name = "INDEX")]
    from: Option<u64>,
}

impl Follow {
    pub async fn run(self, kekd: &Connection, format: Format) -> anyhow::Result<Exit> {
        let client = kekd.open().await?;
        let mut records = client
            .follow_records(self.from, self.filter.message())
            .await?;
        let mut out = anstream::stdout();
        while let Some(bytes) = records.next().await? {
            let line = Line::of(&bytes).ok_or_else(|| not_kekd("a record that is none"))?;
            let text = line.text(format)?;
            if !goes_on(writeln!(out, "{text}").and_then(|()| out.flush()))? {
                break;
            }
        }
        Ok(Exit::Done)
    }
}
