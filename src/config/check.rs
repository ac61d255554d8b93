//! The limits of every setting, in one table. What passes here needs no second look downstream.

use super::schema::Schema;
use super::{Config, ConfigError, Place};

/// One number with its limits; `None` where its section is left out.
pub struct Number {
    /// Its key.
    pub key: &'static str,
    /// Least value allowed.
    pub min: u64,
    /// Greatest value allowed.
    pub max: u64,
    /// The value.
    pub found: Option<u64>,
}

/// Key, rule to be read after "must be", and whether the rule holds.
pub type Text = (&'static str, &'static str, bool);

/// Checks numbers, texts and paths. `place` says where a key was written.
pub(super) fn check<T>(
    schema: &Schema<T>,
    config: &T,
    place: impl Fn(&str) -> Place,
) -> Result<(), ConfigError> {
    for Number {
        key,
        min,
        max,
        found,
    } in (schema.numbers)(config)
    {
        if let Some(found) = found.filter(|found| !(min..=max).contains(found)) {
            return Err(ConfigError::OutOfRange {
                place: place(key),
                key,
                min,
                max,
                found,
            });
        }
    }
    for (key, rule, holds) in (schema.texts)(config) {
        if !holds {
            return Err(ConfigError::Text {
                place: place(key),
                key,
                rule,
            });
        }
    }
    Ok(())
}

pub(super) fn numbers(config: &Config) -> Vec<Number> {
    let (hsm, limits, audit) = (&config.hsm, &config.limits, &config.audit);
    let number = |key, min, max, found| Number {
        key,
        min,
        max,
        found: Some(found),
    };
    let count = |key, max, found| Number {
        key,
        min: 1,
        max,
        found: u64::try_from(found).ok(),
    };
    vec![
        count("hsm.sessions", 64, hsm.sessions),
        count("hsm.queue_len_max", 65_536, hsm.queue_len_max),
        number("hsm.call_timeout_ms", 100, 60_000, hsm.call_timeout_ms),
        number("hsm.admin_timeout_ms", 1_000, 600_000, hsm.admin_timeout_ms),
        number(
            "hsm.coverage_timeout_ms",
            1_000,
            30 * 24 * 3600 * 1000,
            hsm.coverage_timeout_ms,
        ),
        Number {
            min: 0,
            ..count("hsm.proven_at_start", 65_536, hsm.proven_at_start)
        },
        Number {
            key: "tcp.reload_interval_ms",
            min: 100,
            max: 3_600_000,
            found: config.tcp.as_ref().map(|tcp| tcp.reload_interval_ms),
        },
        count("limits.connections_max", 65_536, limits.connections_max),
        count(
            "limits.connections_per_peer_max",
            65_536,
            limits.connections_per_peer_max,
        ),
        number(
            "limits.streams_per_connection_max",
            1,
            1_024,
            limits.streams_per_connection_max.into(),
        ),
        count(
            "limits.requests_per_stream_max",
            1_024,
            limits.requests_per_stream_max,
        ),
        Number {
            min: 4_096,
            ..count(
                "limits.request_bytes_max",
                1_048_576,
                limits.request_bytes_max,
            )
        },
        number(
            "limits.header_bytes_max",
            1_024,
            65_536,
            limits.header_bytes_max.into(),
        ),
        number(
            "limits.handshake_timeout_ms",
            100,
            60_000,
            limits.handshake_timeout_ms,
        ),
        number(
            "limits.keepalive_interval_ms",
            100,
            3_600_000,
            limits.keepalive_interval_ms,
        ),
        number(
            "limits.keepalive_timeout_ms",
            100,
            600_000,
            limits.keepalive_timeout_ms,
        ),
        number(
            "limits.connection_age_ms_max",
            1_000,
            86_400_000,
            limits.connection_age_ms_max,
        ),
        number(
            "limits.request_timeout_ms_max",
            100,
            600_000,
            limits.request_timeout_ms_max,
        ),
        number(
            "limits.failures_max",
            1,
            1_000_000,
            limits.failures_max.into(),
        ),
        number(
            "limits.failures_window_ms",
            1_000,
            86_400_000,
            limits.failures_window_ms,
        ),
        number(
            "limits.refusals_recorded_per_minute_max",
            1,
            1_000_000,
            limits.refusals_recorded_per_minute_max.into(),
        ),
        count("audit.queue_len_max", 65_536, audit.queue_len_max),
        count("audit.batch_len_max", 65_536, audit.batch_len_max),
        number("audit.sync_timeout_ms", 100, 60_000, audit.sync_timeout_ms),
        number(
            "audit.checkpoint_interval_ms",
            100,
            3_600_000,
            audit.checkpoint_interval_ms,
        ),
        number(
            "audit.retention_days_min",
            0,
            36_500,
            audit.retention_days_min,
        ),
    ]
}

pub(super) fn texts(config: &Config) -> Vec<Text> {
    const PATH: &str = "a path, not empty";
    let (node, hsm) = (&config.node, &config.hsm);
    let path = |key, path: &std::path::Path| (key, PATH, !path.as_os_str().is_empty());
    let mut rules = vec![
        (
            "node",
            "1 to 63 printable ASCII characters, no spaces",
            (1..=63).contains(&node.len()) && node.chars().all(|c| c.is_ascii_graphic()),
        ),
        (
            "hsm.token_label",
            "1 to 32 bytes",
            (1..=32).contains(&hsm.token_label.len()),
        ),
        (
            "hsm.token_serial",
            "1 to 16 bytes",
            (1..=16).contains(&hsm.token_serial.len()),
        ),
        (
            "log.filter",
            "a level (error, warn, info, debug, trace) or a filter such as \"info,kekd::hsm=debug\"",
            tracing_subscriber::EnvFilter::try_new(&config.log.filter).is_ok(),
        ),
        path("state_dir", &config.state_dir),
        path("hsm.module", &hsm.module),
        path("hsm.pin_file", &hsm.pin_file),
    ];
    rules.extend(
        hsm.profiles_dir
            .as_deref()
            .map(|dir| path("hsm.profiles_dir", dir)),
    );
    if let Some(tcp) = &config.tcp {
        rules.push(path("tcp.certificate_file", &tcp.certificate_file));
        rules.push(path("tcp.private_key_file", &tcp.private_key_file));
        rules.push(path("tcp.client_ca_file", &tcp.client_ca_file));
        rules.extend(
            tcp.client_crl_file
                .as_deref()
                .map(|crl| path("tcp.client_crl_file", crl)),
        );
    }
    rules.extend(
        config
            .unix
            .as_ref()
            .map(|unix| path("unix.socket", &unix.socket)),
    );
    rules
}
