//! `kekctl status`: the state of the node, and an exit status that says whether it is ready.

use std::fmt;

use clap::Args;
use kekd::clock::UnixMs;
use kekd::proto::v1;
use serde::Serialize;

use crate::connection::Connection;
use crate::exit::Exit;
use crate::output::{self, Format, Stream};

/// Show the state of the node; exit status 75 when it is not ready
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  kekctl status
  until kekctl status >/dev/null 2>&1; do sleep 1; done
  kekctl status --output json | jq .token.state
  kekctl status --output json | jq -e '.oracle_alarms == []'")]
pub struct Status {}

impl Status {
    pub async fn run(self, kekd: &Connection, format: Format) -> anyhow::Result<Exit> {
        let node = Node::from(kekd.open().await?.status().await?);
        output::show(format, Stream::Out, &node)?;
        Ok(match node.ready {
            true => Exit::Done,
            false => Exit::NotReady,
        })
    }
}

/// The state of the node: the fields of `GetStatusResponse`, digests in hex, times in RFC 3339.
#[derive(Debug, Serialize)]
pub struct Node {
    ready: bool,
    problems: Vec<String>,
    version: String,
    instance_id: String,
    instance_name: String,
    started_at: String,
    token: Token,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    replicas: Vec<Replica>,
    ledger: Log,
    audit: Log,
    counters: Counters,
    limits: Limits,
    oracle_alarms: Vec<OracleAlarm>,
}

#[derive(Debug, Serialize)]
struct OracleAlarm {
    caller: String,
    kek: String,
    since: String,
    refused: u64,
}

#[derive(Debug, Serialize)]
struct Token {
    state: String,
    label: String,
    serial: String,
    model: String,
    capabilities: Vec<String>,
    sessions: u32,
    queue_len: u32,
    worker_pid: u32,
    worker_restarts: u64,
    versions_proven: u32,
    versions: u32,
}

/// A replica; the fields of the primary's token, and these.
#[derive(Debug, Serialize)]
struct Replica {
    name: String,
    required: bool,
    unwraps: u64,
    #[serde(flatten)]
    token: Token,
}

#[derive(Debug, Serialize)]
struct Log {
    size: u64,
    root: Option<String>,
    writable: bool,
}

#[derive(Debug, Serialize)]
struct Counters {
    unwraps_released: u64,
    unwraps_refused: u64,
    connections_accepted: u64,
    connections_refused: u64,
    refusals_unrecorded: u64,
}

#[derive(Debug, Serialize)]
struct Limits {
    connections_max: u32,
    streams_per_connection_max: u32,
    queue_len_max: u32,
    request_bytes_max: u32,
    hsm_call_timeout_ms: u64,
    failures_max: u32,
    failures_window_ms: u64,
}

impl Node {
    /// Whether an unwrap can succeed now.
    pub const fn ready(&self) -> bool {
        self.ready
    }
}

impl From<v1::GetStatusResponse> for Node {
    fn from(node: v1::GetStatusResponse) -> Self {
        let token = node.token.unwrap_or_default();
        let counters = node.counters.unwrap_or_default();
        let limits = node.limits.unwrap_or_default();
        Self {
            ready: node.ready,
            problems: node.problems,
            version: node.version,
            instance_id: hex(&node.instance_id),
            instance_name: node.instance_name,
            started_at: UnixMs(node.started_at_ms).rfc3339(),
            token: Token::from(token),
            replicas: node.replicas.into_iter().map(Replica::from).collect(),
            ledger: Log::from(node.ledger.unwrap_or_default()),
            audit: Log::from(node.audit.unwrap_or_default()),
            counters: Counters {
                unwraps_released: counters.unwraps_released,
                unwraps_refused: counters.unwraps_refused,
                connections_accepted: counters.connections_accepted,
                connections_refused: counters.connections_refused,
                refusals_unrecorded: counters.refusals_unrecorded,
            },
            limits: Limits {
                connections_max: limits.connections_max,
                streams_per_connection_max: limits.streams_per_connection_max,
                queue_len_max: limits.queue_len_max,
                request_bytes_max: limits.request_bytes_max,
                hsm_call_timeout_ms: limits.hsm_call_timeout_ms,
                failures_max: limits.failures_max,
                failures_window_ms: limits.failures_window_ms,
            },
            oracle_alarms: node
                .oracle_alarms
                .into_iter()
                .map(|alarm| OracleAlarm {
                    caller: alarm.caller,
                    kek: alarm.kek,
                    since: UnixMs(alarm.since_ms).rfc3339(),
                    refused: alarm.refused,
                })
                .collect(),
        }
    }
}

impl From<v1::TokenStatus> for Token {
    fn from(token: v1::TokenStatus) -> Self {
        Self {
            state: token.state,
            label: token.label,
            serial: token.serial,
            model: token.model,
            capabilities: token.capabilities,
            sessions: token.sessions,
            queue_len: token.queue_len,
            worker_pid: token.worker_pid,
            worker_restarts: token.worker_restarts,
            versions_proven: token.versions_proven,
            versions: token.versions,
        }
    }
}

impl From<v1::TokenStatus> for Replica {
    fn from(mut token: v1::TokenStatus) -> Self {
        Self {
            name: std::mem::take(&mut token.name),
            required: token.required,
            unwraps: token.unwraps,
            token: Token::from(token),
        }
    }
}

impl From<v1::LogStatus> for Log {
    fn from(log: v1::LogStatus) -> Self {
        Self {
            size: log.size,
            root: (!log.root.is_empty()).then(|| hex(&log.root)),
            writable: log.writable,
        }
    }
}

impl fmt::Display for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", if self.ready { "ready" } else { "NOT READY" })?;
        for problem in &self.problems {
            writeln!(f, "  {problem}")?;
        }
        let Self {
            token, counters, ..
        } = self;
        writeln!(f, "instance  {} ({})", self.instance_name, self.instance_id)?;
        writeln!(f, "version   {}, started {}", self.version, self.started_at)?;
        writeln!(
            f,
            "token     {}: {}, serial {}, {}",
            token.state, token.label, token.serial, token.model
        )?;
        writeln!(f, "          can do {}", token.capabilities.join(", "))?;
        writeln!(
            f,
            "          {} of {} versions proven",
            token.versions_proven, token.versions
        )?;
        writeln!(
            f,
            "worker    process {}, {} restarts, {} sessions, {} calls waiting",
            token.worker_pid, token.worker_restarts, token.sessions, token.queue_len
        )?;
        for replica in &self.replicas {
            write!(f, "{replica}")?;
        }
        for (name, log, lines) in [
            ("ledger", &self.ledger, "entries"),
            ("audit", &self.audit, "records"),
        ] {
            let state = if log.writable {
                "writable"
            } else {
                "NOT WRITABLE"
            };
            writeln!(f, "{name:<9} {} {lines}, {state}", log.size)?;
        }
        writeln!(
            f,
            "unwraps   {} released, {} refused, {} refusals not recorded",
            counters.unwraps_released, counters.unwraps_refused, counters.refusals_unrecorded
        )?;
        write!(
            f,
            "callers   {} connections, {} refused",
            counters.connections_accepted, counters.connections_refused
        )
    }
}

impl fmt::Display for Replica {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, token, .. } = self;
        let required = if self.required {
            "required"
        } else {
            "not required"
        };
        writeln!(
            f,
            "replica   {name}, {required}: {}, serves {} versions, {} unwraps",
            token.state, token.versions_proven, self.unwraps
        )?;
        writeln!(
            f,
            "worker    process {}, {} restarts, {} sessions, {} calls waiting",
            token.worker_pid, token.worker_restarts, token.sessions, token.queue_len
        )
    }
}

/// Lower-case hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_json_shape_is_stable() {
        let node = Node::from(v1::GetStatusResponse {
            instance_id: vec![0xab; 2],
            ..v1::GetStatusResponse::default()
        });
        let expected = concat!(
            r#"{"ready":false,"problems":[],"version":"","instance_id":"abab","#,
            r#""instance_name":"","started_at":"1970-01-01T00:00:00Z","token":{"state":"","#,
            r#""label":"","serial":"","model":"","capabilities":[],"sessions":0,"queue_len":0,"#,
            r#""worker_pid":0,"worker_restarts":0,"versions_proven":0,"versions":0},"#,
            r#""ledger":{"size":0,"root":null,"writable":false},"#,
            r#""audit":{"size":0,"root":null,"writable":false},"#,
            r#""counters":{"unwraps_released":0,"unwraps_refused":0,"connections_accepted":0,"#,
            r#""connections_refused":0,"refusals_unrecorded":0},"limits":{"connections_max":0,"#,
            r#""streams_per_connection_max":0,"queue_len_max":0,"request_bytes_max":0,"#,
            r#""hsm_call_timeout_ms":0,"failures_max":0,"failures_window_ms":0},"#,
            r#""oracle_alarms":[]}"#
        );
        assert_eq!(serde_json::to_string(&node).ok().as_deref(), Some(expected));
    }

    #[test]
    fn the_text_has_a_line_for_each_part() {
        let node = Node::from(v1::GetStatusResponse {
            problems: vec!["a sentence".to_owned()],
            instance_id: vec![0xab],
            instance_name: "rig".to_owned(),
            version: "1.0.0".to_owned(),
            token: Some(v1::TokenStatus {
                state: "ready".to_owned(),
                label: "kekd".to_owned(),
                serial: "42".to_owned(),
                model: "M".to_owned(),
                capabilities: vec!["oaep-sha1".to_owned(), "ecdsa-p256".to_owned()],
                sessions: 4,
                queue_len: 1,
                worker_restarts: 2,
                worker_pid: 3,
                versions_proven: 32,
                versions: 40,
                ..v1::TokenStatus::default()
            }),
            replicas: vec![v1::TokenStatus {
                state: "ready".to_owned(),
                name: "b".to_owned(),
                required: true,
                unwraps: 9,
                versions_proven: 4,
                worker_pid: 8,
                ..v1::TokenStatus::default()
            }],
            ledger: Some(v1::LogStatus {
                size: 5,
                writable: true,
                ..v1::LogStatus::default()
            }),
            ..v1::GetStatusResponse::default()
        });
        let expected = "\
NOT READY
  a sentence
instance  rig (ab)
version   1.0.0, started 1970-01-01T00:00:00Z
token     ready: kekd, serial 42, M
          can do oaep-sha1, ecdsa-p256
          32 of 40 versions proven
worker    process 3, 2 restarts, 4 sessions, 1 calls waiting
replica   b, required: ready, serves 4 versions, 9 unwraps
worker    process 8, 0 restarts, 0 sessions, 0 calls waiting
ledger    5 entries, writable
audit     0 records, NOT WRITABLE
unwraps   0 released, 0 refused, 0 refusals not recorded
callers   0 connections, 0 refused";
        assert_eq!(node.to_string(), expected);
    }
}
