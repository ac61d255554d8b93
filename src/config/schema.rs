//! What differs between the programs that read a configuration: their prefix in the environment, their
//! keys, their limits. How it is read is the same for all, and in `load.rs`.

use std::path::Path;

use super::check::{self, Number, Text};
use super::{Config, paths};

/// The settings of one program, whose types are `T`.
pub struct Schema<T: 'static> {
    /// The program's name, for messages.
    pub program: &'static str,
    /// How its variables begin: `KEKD` for `KEKD__SECTION__KEY`.
    pub prefix: &'static str,
    /// Names with that prefix that are another program's.
    pub client_variables: &'static [&'static str],
    /// Longer prefixes that are another program's.
    pub others: &'static [&'static str],
    /// Every key there is, for example `hsm.sessions`; `token[].name` in a list of sections, and
    /// `token[].environment.*` where the last part is anything.
    pub keys: &'static [&'static str],
    /// What a key takes, where its type's own words would not help an operator.
    pub expected: fn(&str) -> Option<&'static str>,
    /// The numbers with their limits.
    pub numbers: fn(&T) -> Vec<Number>,
    /// The texts with their rules.
    pub texts: fn(&T) -> Vec<Text>,
    /// Makes relative paths absolute: from the folder of the file, and those of secrets from the
    /// folder of systemd's credentials where there is one.
    pub resolve: fn(&mut T, &Path, Option<&Path>),
}

/// kekd's own.
pub(super) const KEKD: Schema<Config> = Schema {
    program: "kekd",
    prefix: "KEKD",
    client_variables: &CLIENT_VARIABLES,
    others: &["KEKD_LKM_"],
    keys: &KEYS,
    expected,
    numbers: check::numbers,
    texts: check::texts,
    resolve: paths::resolve,
};

/// Every key there is. A test holds this list against the types.
pub(super) const KEYS: [&str; 49] = [
    "state_dir",
    "node",
    "hsm.module",
    "hsm.token_label",
    "hsm.token_serial",
    "hsm.pin_file",
    "hsm.sessions",
    "hsm.queue_len_max",
    "hsm.call_timeout_ms",
    "hsm.admin_timeout_ms",
    "hsm.proven_at_start",
    "hsm.coverage_timeout_ms",
    "hsm.profiles_dir",
    "token[].name",
    "token[].module",
    "token[].token_label",
    "token[].token_serial",
    "token[].pin_file",
    "token[].sessions",
    "token[].required",
    "token[].environment.*",
    "tcp.listen",
    "tcp.certificate_file",
    "tcp.private_key_file",
    "tcp.client_ca_file",
    "tcp.client_crl_file",
    "tcp.reload_interval_ms",
    "unix.socket",
    "limits.connections_max",
    "limits.connections_per_peer_max",
    "limits.streams_per_connection_max",
    "limits.requests_per_stream_max",
    "limits.request_bytes_max",
    "limits.header_bytes_max",
    "limits.handshake_timeout_ms",
    "limits.keepalive_interval_ms",
    "limits.keepalive_timeout_ms",
    "limits.connection_age_ms_max",
    "limits.request_timeout_ms_max",
    "limits.failures_max",
    "limits.failures_window_ms",
    "limits.refusals_recorded_per_minute_max",
    "audit.queue_len_max",
    "audit.batch_len_max",
    "audit.sync_timeout_ms",
    "audit.checkpoint_interval_ms",
    "audit.retention_days_min",
    "log.format",
    "log.filter",
];

/// Names that begin like settings of kekd and are kekctl's. They are left alone, so that one shell
/// can hold both.
const CLIENT_VARIABLES: [&str; 10] = [
    "KEKD_ENDPOINT",
    "KEKD_OFFICER",
    "KEKD_OFFICER_KEY",
    "KEKD_INSTANCE",
    "KEKD_CA",
    "KEKD_CERT",
    "KEKD_KEY",
    "KEKD_SOCKET",
    "KEKD_KEK",
    "KEKD_KEYPAIR_ID",
];

/// What a key takes, where its type's own words would not help an operator.
fn expected(key: &str) -> Option<&'static str> {
    match key {
        "tcp.listen" => Some(
            "expected an address and a port, such as 127.0.0.1:7443 or [::]:7443; a host's name is \
             neither",
        ),
        "log.format" => Some("expected text or json"),
        _ => None,
    }
}
