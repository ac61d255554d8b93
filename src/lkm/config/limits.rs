//! The limits of every setting of `kekd-lkm.toml`, in one table.

use super::LkmConfig;
use crate::client::Endpoint;
use crate::config::{Number, Text};
use crate::lkm::kekd::endpoint;
use crate::lkm::sources::Sources;

/// The numbers with their limits.
pub(super) fn numbers(config: &LkmConfig) -> Vec<Number> {
    let (limits, kekd, hawk) = (&config.limits, &config.kekd, &config.hawk);
    let number = |key, min, max, found: u64| Number {
        key,
        min,
        max,
        found: Some(found),
    };
    let count = |key, min, max, found: usize| Number {
        key,
        min,
        max,
        found: u64::try_from(found).ok(),
    };
    vec![
        number(
            "https.public_port",
            1,
            65_535,
            config.https.public_port.into(),
        ),
        number(
            "https.reload_interval_ms",
            100,
            3_600_000,
            config.https.reload_interval_ms,
        ),
        number("hawk.skew_s_max", 1, 600, hawk.skew_s_max),
        count("hawk.nonces_max", 1_000, 1_000_000, hawk.nonces_max),
        count("kekd.connections", 1, 64, kekd.connections),
        number("kekd.timeout_ms", 100, 60_000, kekd.timeout_ms),
        number(
            "kekd.canary_interval_ms",
            1_000,
            3_600_000,
            kekd.canary_interval_ms,
        ),
        count("limits.connections_max", 1, 65_536, limits.connections_max),
        count(
            "limits.connections_per_address_max",
            1,
            65_536,
            limits.connections_per_address_max,
        ),
        number(
            "limits.handshake_timeout_ms",
            100,
            60_000,
            limits.handshake_timeout_ms,
        ),
        number(
            "limits.head_timeout_ms",
            100,
            600_000,
            limits.head_timeout_ms,
        ),
        number(
            "limits.request_timeout_ms",
            100,
            120_000,
            limits.request_timeout_ms,
        ),
        number(
            "limits.connection_age_ms_max",
            1_000,
            86_400_000,
            limits.connection_age_ms_max,
        ),
        count(
            "limits.head_bytes_max",
            8_192,
            65_536,
            limits.head_bytes_max,
        ),
        count(
            "limits.body_bytes_max",
            1_024,
            65_536,
            limits.body_bytes_max,
        ),
        number(
            "limits.requests_per_s_of_credential",
            1,
            100_000,
            limits.requests_per_s_of_credential.into(),
        ),
        number(
            "limits.requests_per_s_of_address",
            1,
            100_000,
            limits.requests_per_s_of_address.into(),
        ),
        count("limits.interactive_max", 1, 4_096, limits.interactive_max),
        count("limits.bulk_max", 1, 1_024, limits.bulk_max),
    ]
}

/// The texts with their rules.
pub(super) fn texts(config: &LkmConfig) -> Vec<Text> {
    let https = &config.https;
    let is_host = |c: char| c.is_ascii_alphanumeric() || ".-:".contains(c);
    let is_path = |c: char| c.is_ascii_graphic() && !"?#\"\\%".contains(c);
    let way = endpoint(&config.kekd);
    let files = match &way {
        Ok(Endpoint::Unix(_)) => config.kekd.ca_file.is_none(),
        Ok(Endpoint::Tcp { .. }) | Err(_) => true,
    };
    vec![
        (
            "https.public_host",
            "the host of the URL that the cloud calls, without https:// and port",
            !https.public_host.is_empty()
                && https.public_host.len() <= 253
                && https.public_host.chars().all(is_host),
        ),
        (
            "https.path",
            "the path of the URL that the cloud calls, with its first slash and without a query",
            https.path.starts_with('/')
                && https.path.len() <= 256
                && https.path.chars().all(is_path),
        ),
        (
            "https.allow_sources",
            "networks with commas between, such as 203.0.113.0/24, 2001:db8::/32",
            https.allow_sources.parse::<Sources>().is_ok(),
        ),
        (
            "kekd.endpoint",
            "unix:/PATH, or https://HOST:PORT with kekd.ca_file, kekd.certificate_file and \
             kekd.private_key_file",
            way.is_ok(),
        ),
        (
            "kekd.ca_file",
            "left out where kekd.endpoint is a Unix socket: there are no certificates",
            files,
        ),
        (
            "local.listen",
            "a loopback address, such as 127.0.0.1:9484: what is said there is for this host",
            config.local.listen.ip().is_loopback(),
        ),
        (
            "log.filter",
            "a level (error, warn, info, debug, trace) or a filter such as \"info,kekd::lkm=debug\"",
            tracing_subscriber::EnvFilter::try_new(&config.log.filter).is_ok(),
        ),
    ]
}
