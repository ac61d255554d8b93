//! What was found: one entry for each goal, printed as a table and written as JSON. Nothing is
//! measured here.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use comfy_table::{ContentArrangement, Table, presets};
use serde::Serialize;
use serde_json::{Value, json};

/// One line of the table.
#[derive(Debug, Serialize)]
pub struct Finding {
    /// What was found; a number, or several by name.
    pub value: Value,
    /// What is asked for.
    pub goal: &'static str,
    /// Whether it is.
    pub met: bool,
    /// Everything measured beside it, with sizes.
    pub detail: Value,
}

/// The whole table.
pub struct Report {
    machine: Value,
    sizes: Value,
    findings: BTreeMap<&'static str, Finding>,
}

/// What each number means.
const WHAT: [(&str, &str); 9] = [
    ("P1", "throughput against the raw module, same sessions"),
    ("P2", "added latency of one caller, p50 and p99 (ms)"),
    (
        "P3",
        "ceiling on a module that costs nothing, against an echo",
    ),
    ("P4", "one unwrap as keys grow"),
    ("P5", "start with many records and versions (s)"),
    ("P6", "unwraps after the kill switch's acknowledgement"),
    ("P7", "memory at 1,000 concurrent callers (MiB)"),
    ("P8", "goodput at 5 times the capacity"),
    (
        "P9",
        "interactive p99 beside a bulk export (operation times)",
    ),
];

impl Report {
    /// An empty one.
    pub fn new(sizes: Value) -> Self {
        Self {
            machine: machine(),
            sizes,
            findings: BTreeMap::new(),
        }
    }

    /// Takes a finding in, or why there is none.
    pub fn add(
        &mut self,
        name: &'static str,
        goal: &'static str,
        finding: anyhow::Result<(Value, bool, Value)>,
    ) {
        let (value, met, detail) = finding
            .unwrap_or_else(|error| (Value::Null, false, json!({ "error": format!("{error:#}") })));
        let finding = Finding {
            value,
            goal,
            met,
            detail,
        };
        self.findings.insert(name, finding);
    }

    /// Writes what there is into `report.json` in `folder`, and says where that is.
    pub fn write(&self, folder: &Path) -> anyhow::Result<PathBuf> {
        let mut whole = json!(self.findings);
        if let Some(whole) = whole.as_object_mut() {
            whole.insert("machine".to_owned(), self.machine.clone());
            whole.insert("sizes".to_owned(), self.sizes.clone());
        }
        let path = folder.join("report.json");
        fs::write(&path, serde_json::to_vec_pretty(&whole)?)
            .with_context(|| format!("{} cannot be written", path.display()))?;
        Ok(path)
    }

    /// Prints the table.
    pub fn print(&self) -> anyhow::Result<()> {
        let mut table = Table::new();
        table.load_style(presets::UTF8_BORDERS_ONLY);
        table.set_content_arrangement(ContentArrangement::Dynamic);
        table.set_width(150);
        table.set_header(["", "what", "found", "goal", "met", "detail"]);
        for (name, what) in WHAT {
            let Some(finding) = self.findings.get(name) else {
                continue;
            };
            table.add_row([
                name.to_owned(),
                what.to_owned(),
                short(&finding.value),
                finding.goal.to_owned(),
                if finding.met { "yes" } else { "no" }.to_owned(),
                short(&finding.detail),
            ]);
        }
        Ok(writeln!(
            std::io::stdout(),
            "{}\n{table}",
            short(&self.machine)
        )?)
    }
}

/// JSON without its punctuation.
fn short(value: &Value) -> String {
    match value {
        Value::Object(fields) => {
            let fields = fields.iter();
            let fields: Vec<_> = fields
                .map(|(name, value)| match value.is_object() {
                    true => format!("{name}: ({})", short(value)),
                    false => format!("{name} {}", short(value)),
                })
                .collect();
            fields.join("; ")
        }
        Value::String(text) => text.clone(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) => value.to_string(),
    }
}

/// Three decimals are more than such figures bear.
pub fn round(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}

fn machine() -> Value {
    let cpu = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpu
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(": "))
        .map_or_else(String::new, |(_, model)| model.to_owned());
    let uname = rustix::system::uname();
    json!({
        "processors": std::thread::available_parallelism().map_or(0, usize::from),
        "model": model,
        "kernel": uname.release().to_string_lossy(),
        "load before": fs::read_to_string("/proc/loadavg").unwrap_or_default().trim(),
    })
}
