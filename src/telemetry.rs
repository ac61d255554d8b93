//! Logging: one line an event, to standard error, as text for people or JSON for machines. No
//! request body, PIN or DEK is ever an argument of a log line; types that hold one have no `Debug`.

use std::io::IsTerminal as _;

use tracing_subscriber::EnvFilter;

use crate::config::{LogConfig, LogFormat};

/// Why logging cannot begin.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// The filter is not one.
    #[error("log.filter {filter:?} is not a filter: {problem}; write a level such as \"info\"")]
    Filter {
        /// The filter.
        filter: String,
        /// What is wrong with it.
        problem: String,
    },
    /// Logging has begun before in this process.
    #[error("logging was set up twice in one process")]
    SetUpTwice,
}

/// Begins logging. Only the configuration decides; `RUST_LOG` is not read.
///
/// # Errors
/// Where the filter is not one, or logging has begun before.
pub fn init(config: &LogConfig) -> Result<(), TelemetryError> {
    let filter = EnvFilter::try_new(&config.filter).map_err(|problem| TelemetryError::Filter {
        filter: config.filter.clone(),
        problem: problem.to_string(),
    })?;
    let to_stderr = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr);
    match config.format {
        LogFormat::Text => to_stderr
            .with_ansi(std::io::stderr().is_terminal())
            .try_init(),
        LogFormat::Json => to_stderr
            .json()
            .flatten_event(true)
            .with_ansi(false)
            .try_init(),
    }
    .map_err(|_| TelemetryError::SetUpTwice)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bad_filter_is_named() {
        let config = LogConfig {
            format: LogFormat::Text,
            filter: "kekd=loud".to_owned(),
        };
        let text = init(&config)
            .err()
            .map(|error| error.to_string())
            .unwrap_or_default();
        assert!(
            text.starts_with("log.filter \"kekd=loud\" is not a filter: "),
            "{text}"
        );
    }
}
