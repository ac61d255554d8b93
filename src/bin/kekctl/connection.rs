//! From options and environment to a connection with kekd. Which way to take when both are known is
//! settled here: what stands on the command line wins, then the endpoint, then the socket.

use std::path::PathBuf;
use std::time::Duration;

use clap::ArgMatches;
use clap::parser::ValueSource;
use kekd::client::{Client, ClientError, Endpoint, TlsFiles};

use crate::exit::Exit;
use crate::failure::Failure;

/// Which of the two ways was named on the command line itself, not by the environment.
#[derive(Debug, Clone, Copy, Default)]
pub struct Explicit {
    endpoint: bool,
    socket: bool,
}

impl Explicit {
    /// Asks clap where the values came from.
    pub fn read(matches: &ArgMatches) -> Self {
        let named = |id| matches.value_source(id) == Some(ValueSource::CommandLine);
        Self {
            endpoint: named("endpoint"),
            socket: named("socket"),
        }
    }
}

/// How to reach kekd.
#[derive(Debug, Clone)]
pub struct Connection {
    pub endpoint: Option<String>,
    pub socket: Option<PathBuf>,
    pub ca: Option<PathBuf>,
    pub certificate: Option<PathBuf>,
    pub private_key: Option<PathBuf>,
    pub timeout: Duration,
    pub explicit: Explicit,
}

impl Connection {
    /// Connects.
    pub async fn open(&self) -> anyhow::Result<Client> {
        Ok(Client::connect(self.way()?, self.timeout).await?)
    }

    fn way(&self) -> Result<Endpoint, anyhow::Error> {
        if self.explicit.endpoint && self.explicit.socket {
            let text = "name --endpoint or --socket, not both";
            return Err(Failure::new(Exit::Usage, "USAGE", text).into());
        }
        match (&self.endpoint, &self.socket) {
            (Some(endpoint), None) => self.tcp(endpoint),
            (Some(endpoint), Some(_)) if !self.explicit.socket => self.tcp(endpoint),
            (_, Some(socket)) => Ok(Endpoint::Unix(std::path::absolute(socket)?)),
            (None, None) => Err(Failure::new(
                Exit::Configuration,
                "ENDPOINT_MISSING",
                "kekd's address is not set: use --endpoint (KEKD_ENDPOINT) or --socket \
                 (KEKD_SOCKET)",
            )
            .into()),
        }
    }

    fn tcp(&self, endpoint: &str) -> Result<Endpoint, anyhow::Error> {
        let files = match endpoint.starts_with("https:") {
            true => Some(TlsFiles {
                ca: named(&self.ca, "--ca (KEKD_CA)")?,
                certificate: named(&self.certificate, "--cert (KEKD_CERT)")?,
                private_key: named(&self.private_key, "--key (KEKD_KEY)")?,
            }),
            false => None,
        };
        Ok(Endpoint::parse(endpoint, files).map_err(ClientError::from)?)
    }
}

fn named(path: &Option<PathBuf>, option: &str) -> Result<PathBuf, Failure> {
    path.clone().ok_or_else(|| {
        let text = format!("kekd asks for mutual TLS: set {option} as well");
        Failure::new(Exit::Configuration, "TLS_FILES", text)
    })
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test that cannot unwrap has failed")]
mod tests {
    use super::*;

    fn connection(explicit: Explicit) -> Connection {
        Connection {
            endpoint: Some("https://kekd:1".to_owned()),
            socket: Some("/run/kekd.sock".into()),
            ca: Some("ca".into()),
            certificate: Some("cert".into()),
            private_key: Some("key".into()),
            timeout: Duration::from_secs(1),
            explicit,
        }
    }

    #[test]
    fn the_command_line_wins_then_the_endpoint() {
        let cases = [
            (false, false, "https://kekd:1"),
            (true, false, "https://kekd:1"),
            (false, true, "unix:/run/kekd.sock"),
        ];
        for (endpoint, socket, expected) in cases {
            let way = connection(Explicit { endpoint, socket }).way().unwrap();
            assert_eq!(way.to_string(), expected);
        }
        let both = Explicit {
            endpoint: true,
            socket: true,
        };
        let failure = Failure::from(connection(both).way().unwrap_err());
        assert_eq!(failure.exit, Exit::Usage);
    }

    #[test]
    fn what_is_missing_is_named_by_option_and_variable() {
        let without = Connection {
            private_key: None,
            ..connection(Explicit::default())
        };
        let text = without.way().unwrap_err().to_string();
        assert!(text.contains("--key (KEKD_KEY)"), "{text}");
    }
}
