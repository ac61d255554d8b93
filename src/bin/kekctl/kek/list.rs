//! `kekctl kek list`: all KEKs you may see, one line a version.

use std::fmt;

use clap::Args;
use comfy_table::{Table, presets};
use serde::Serialize;

use super::view::KekView;
use crate::connection::Connection;
use crate::exit::Exit;
use crate::output::{self, Format, Stream};

/// List the KEKs you may see, with their versions
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  kekctl kek list
  kekctl kek list --output json | jq -r '.keks[].versions[].keypair_id'")]
pub struct List {}

impl List {
    pub async fn run(self, kekd: &Connection, format: Format) -> anyhow::Result<Exit> {
        let keks = kekd.open().await?.list_keks().await?;
        let keks = keks.into_iter().map(KekView::from).collect();
        output::show(format, Stream::Out, &Keks { keks })?;
        Ok(Exit::Done)
    }
}

#[derive(Debug, Serialize)]
struct Keks {
    keks: Vec<KekView>,
}

impl fmt::Display for Keks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.keks.is_empty() {
            return f.write_str("no KEK that you may see");
        }
        let mut table = Table::new();
        table.load_style(presets::NOTHING);
        table.set_header([
            "KEK",
            "VERSION",
            "STATE",
            "KEYPAIR ID",
            "PADDINGS",
            "RELEASE",
        ]);
        for kek in &self.keks {
            for version in &kek.versions {
                table.add_row([
                    kek.name.clone(),
                    version.number.to_string(),
                    version.standing(),
                    version.keypair_id.clone(),
                    version.paddings.join(","),
                    version.release_forms.join(","),
                ]);
            }
        }
        let lines: Vec<String> = table.lines().map(|line| line.trim().to_owned()).collect();
        f.write_str(&lines.join("\n"))
    }
}

#[cfg(test)]
mod tests {
    use kekd::proto::v1::KeyOrigin;

    use super::*;

    #[test]
    fn a_version_is_a_line() {
        let keks = vec![KekView::from(super::super::view::tests::kek())];
        let text = Keks { keks }.to_string();
        let expected = concat!(
            "KEK         VERSION  STATE   KEYPAIR ID                            PADDINGS               RELEASE\n",
            "recordings  1        active  6f9619ff-8b86-4011-b42d-00cf4fc964ff  oaep-sha1,oaep-sha256  clear",
        );
        assert_eq!(text, expected);
    }

    #[test]
    fn a_key_from_outside_is_shown_as_such() {
        let mut kek = super::super::view::tests::kek();
        for version in &mut kek.versions {
            version.origin = KeyOrigin::Imported.into();
        }
        let keks = vec![KekView::from(kek)];
        let json = serde_json::to_string(&keks).unwrap_or_default();
        assert!(json.contains(r#""origin":"imported""#), "{json}");
        let text = Keks { keks }.to_string();
        assert!(text.contains("1        active, imported  6f96"), "{text}");
    }
}
