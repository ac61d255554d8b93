//! One record as it is shown: a line of text, a JSON object, a row of CSV. Only forms; nothing is
//! asked or decided.

use std::fmt;

use kekd::client::{padding_name, release_form_name};
use kekd::clock::UnixMs;
use kekd::proto::v1;
use prost::Message as _;
use serde::Serialize;

use crate::output::Format;

/// One record. The JSON form is an interface: fields are added, never renamed.
#[derive(Debug, Serialize)]
pub struct Line {
    index: u64,
    time: String,
    time_ms: u64,
    outcome: &'static str,
    kek: String,
    keypair_id: String,
    caller: String,
    end_user: String,
    request_id: String,
    reason: String,
    padding: Option<&'static str>,
    release_form: Option<&'static str>,
    ciphertext_digest: String,
    recipient_spki_sha256: String,
    node: String,
    queue_us: u64,
    hsm_us: u64,
    /// In the record of a loss alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    lost_until: Option<u64>,
    /// In the record of a drop alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    archived: Option<Archived>,
}

/// What the record of a drop says.
#[derive(Debug, Serialize)]
struct Archived {
    from: u64,
    until: u64,
    archive_sha256: String,
    stubs_sha256: String,
}

/// The first line of a CSV file.
pub const CSV_HEADER: &str = "index,time,time_ms,outcome,kek,keypair_id,caller,end_user,request_id,reason,\
padding,release_form,ciphertext_digest,recipient_spki_sha256,node,queue_us,hsm_us\r\n";

impl Line {
    /// Reads the bytes of a record; none where they are none.
    pub fn of(bytes: &[u8]) -> Option<Self> {
        let record = v1::Record::decode(bytes).ok()?;
        let hex =
            |bytes: &[u8]| -> String { bytes.iter().map(|byte| format!("{byte:02x}")).collect() };
        let archived = (record.outcome() == v1::Outcome::RecordsArchived).then(|| Archived {
            from: record.archived_from,
            until: record.archived_until,
            archive_sha256: hex(&record.archive_sha256),
            stubs_sha256: hex(&record.stubs_sha256),
        });
        Some(Self {
            index: record.index,
            time_ms: record.time_ms,
            time: UnixMs(record.time_ms).rfc3339(),
            outcome: outcome_name(record.outcome()),
            padding: named(record.padding, padding_name),
            release_form: named(record.release_form, release_form_name),
            ciphertext_digest: hex(&record.ciphertext_digest),
            recipient_spki_sha256: hex(&record.recipient_spki_sha256),
            kek: record.kek,
            keypair_id: record.keypair_id,
            caller: record.caller,
            end_user: record.end_user,
            request_id: record.request_id,
            reason: record.reason,
            node: record.node,
            queue_us: record.queue_us,
            hsm_us: record.hsm_us,
            lost_until: Some(record.lost_until).filter(|until| *until > 0),
            archived,
        })
    }

    /// As a result is printed: a line for people, one JSON object for programs.
    pub fn text(&self, format: Format) -> serde_json::Result<String> {
        match format {
            Format::Text => Ok(self.to_string()),
            Format::Json => serde_json::to_string(self),
        }
    }

    /// One row (RFC 4180). What a spreadsheet would take for a formula has an apostrophe in front.
    pub fn csv(&self) -> String {
        let (index, ms, queue, hsm) = (
            self.index.to_string(),
            self.time_ms.to_string(),
            self.queue_us.to_string(),
            self.hsm_us.to_string(),
        );
        let cells = [
            index.as_str(),
            &self.time,
            &ms,
            self.outcome,
            &self.kek,
            &self.keypair_id,
            &self.caller,
            &self.end_user,
            &self.request_id,
            &self.reason,
            self.padding.unwrap_or_default(),
            self.release_form.unwrap_or_default(),
            &self.ciphertext_digest,
            &self.recipient_spki_sha256,
            &self.node,
            &queue,
            &hsm,
        ];
        let cells: Vec<String> = cells.into_iter().map(cell).collect();
        format!("{}\r\n", cells.join(","))
    }
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let or_dash = |text: &str| match text.is_empty() {
            true => "-".to_owned(),
            // Callers choose these: nothing in them moves a cursor.
            false => text.escape_debug().to_string(),
        };
        write!(
            f,
            "{:>9}  {}  {:<18}  {:<16}  {:<36}  {}  {}",
            self.index,
            self.time,
            self.outcome,
            or_dash(&self.kek),
            or_dash(&self.keypair_id),
            or_dash(&self.caller),
            or_dash(&self.end_user),
        )?;
        match self.reason.as_str() {
            "" => {}
            reason => write!(f, "  {}", or_dash(reason))?,
        }
        match &self.archived {
            None => Ok(()),
            Some(it) => {
                let last = it.until.saturating_sub(1);
                write!(f, "  {} to {last} in {}", it.from, it.archive_sha256)
            }
        }
    }
}

fn cell(text: &str) -> String {
    let guard = match text.starts_with(['=', '+', '-', '@', '\t', '\r']) {
        true => "'",
        false => "",
    };
    match text.contains([',', '"', '\n', '\r']) || !guard.is_empty() {
        true => format!("\"{guard}{}\"", text.replace('"', "\"\"")),
        false => text.to_owned(),
    }
}

fn named(number: i32, name: fn(i32) -> &'static str) -> Option<&'static str> {
    (number != 0).then(|| name(number))
}

const fn outcome_name(outcome: v1::Outcome) -> &'static str {
    match outcome {
        v1::Outcome::Unspecified => "unknown",
        v1::Outcome::Released => "released",
        v1::Outcome::Refused => "refused",
        v1::Outcome::Undecryptable => "undecryptable",
        v1::Outcome::Unavailable => "unavailable",
        v1::Outcome::ConnectionRefused => "connection-refused",
        v1::Outcome::RecordsLost => "records-lost",
        v1::Outcome::RecordsArchived => "records-archived",
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test that cannot unwrap has failed")]
mod tests {
    use super::*;

    #[test]
    fn what_callers_chose_stays_a_cell_and_a_word() {
        let record = v1::Record {
            index: 7,
            kek: "recordings".to_owned(),
            outcome: v1::Outcome::Released.into(),
            end_user: "=cmd|' /C calc'!A0".to_owned(),
            caller: "a \"b\", c\n\u{1b}[2J".to_owned(),
            ..v1::Record::default()
        };
        let line = Line::of(&record.encode_to_vec()).unwrap();
        let csv = line.csv();
        let expected = "7,1970-01-01T00:00:00Z,0,released,recordings,,\"a \"\"b\"\", c\n\u{1b}[2J\",\
                        \"'=cmd|' /C calc'!A0\",,,,,,,,0,0\r\n";
        assert_eq!(csv, expected);
        assert_eq!(CSV_HEADER.split(',').count(), 17);
        let text = line.to_string();
        assert!(
            text.contains("\\u{1b}[2J") && !text.contains('\u{1b}'),
            "{text}"
        );
        assert!(Line::of(&[0xff]).is_none());
    }
}
