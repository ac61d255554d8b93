//! The rig's kekd.toml: only what kekd has no default for, so that a rig runs with the limits a
//! production node runs with.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::layout::Layout;
use super::replica;
use super::token::Token;

/// What differs from rig to rig.
pub struct Settings<'a> {
    pub token: &'a Token,
    pub listen: SocketAddr,
    pub profiles_dir: Option<&'a Path>,
    /// Names of the replicas.
    pub replicas: &'a [String],
}

#[derive(Serialize)]
struct Document<'a> {
    state_dir: PathBuf,
    node: &'a str,
    hsm: Hsm<'a>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    token: Vec<Replica<'a>>,
    tcp: Tcp,
    unix: Unix,
}

#[derive(Serialize)]
struct Hsm<'a> {
    module: &'a Path,
    token_label: &'a str,
    token_serial: &'a str,
    pin_file: &'a Path,
    #[serde(skip_serializing_if = "Option::is_none")]
    profiles_dir: Option<&'a Path>,
}

#[derive(Serialize)]
struct Replica<'a> {
    name: &'a str,
    environment: BTreeMap<&'static str, String>,
}

#[derive(Serialize)]
struct Tcp {
    listen: SocketAddr,
    certificate_file: PathBuf,
    private_key_file: PathBuf,
    client_ca_file: PathBuf,
}

#[derive(Serialize)]
struct Unix {
    socket: PathBuf,
}

/// Writes the document.
pub fn document(layout: &Layout, settings: &Settings<'_>) -> Result<String, toml::ser::Error> {
    toml::to_string(&Document {
        state_dir: layout.state(),
        node: "rig",
        hsm: Hsm {
            module: &settings.token.module,
            token_label: &settings.token.label,
            token_serial: &settings.token.serial,
            pin_file: &settings.token.pin_file,
            profiles_dir: settings.profiles_dir,
        },
        token: (settings.replicas.iter())
            .map(|name| Replica {
                name,
                environment: BTreeMap::from([replica::variable(layout, name)]),
            })
            .collect(),
        tcp: Tcp {
            listen: settings.listen,
            certificate_file: layout.certificate("server"),
            private_key_file: layout.private_key("server"),
            client_ca_file: layout.certificate("ca"),
        },
        unix: Unix {
            socket: layout.socket(),
        },
    })
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test that cannot unwrap has failed")]
mod tests {
    use super::*;
    use kekd::config::Config;

    #[test]
    fn kekd_reads_what_the_rig_writes() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::create(&dir.path().join("rig")).unwrap();
        let token = Token {
            module: "/module.so".into(),
            label: "label".to_owned(),
            serial: "007".to_owned(),
            pin_file: layout.pin(),
        };
        let settings = Settings {
            token: &token,
            listen: "127.0.0.1:7443".parse().unwrap(),
            profiles_dir: None,
            replicas: &["b".to_owned()],
        };
        let text = document(&layout, &settings).unwrap();
        let config: Config = toml::from_str(&text).unwrap();
        assert_eq!(config.hsm.token_serial, "007");
        assert_eq!(config.tcp.unwrap().listen, settings.listen);
        assert_eq!(config.unix.unwrap().socket, layout.socket());
        let variables = &config.token.first().unwrap().environment;
        let conf = layout.replica_config("b").display().to_string();
        assert_eq!(variables.get("SOFTHSM2_CONF"), Some(&conf));
    }
}
