//! The rig's Local Key Manager: its configuration, with what `kekd-lkm` has no default for, and one
//! credential for the KEKs that the client `lkm-1` may unwrap under.

use std::net::SocketAddr;
use std::path::PathBuf;

use kekd::lkm::credential_file::CredentialFile;
use kekd::lkm::credentials::Lane;
use kekd::types::KekName;
use serde::Serialize;

use super::daemon::Role;
use super::env::Front;
use super::layout::Layout;

/// Whom kekd takes the front-end for.
const CLIENT: &str = "lkm-1";
/// The credential's id.
const ID: &str = "rig-cloud";
/// The path that the cloud would call: the front-end's default.
const PATH: &str = "/key-management/v1/decrypt";

#[derive(Serialize)]
struct Document<'a> {
    https: Https,
    hawk: Hawk,
    kekd: Kekd<'a>,
    local: Local,
}

#[derive(Serialize)]
struct Https {
    listen: SocketAddr,
    certificate_file: PathBuf,
    private_key_file: PathBuf,
    public_host: String,
    public_port: u16,
}

#[derive(Serialize)]
struct Hawk {
    credentials_file: PathBuf,
}

#[derive(Serialize)]
struct Kekd<'a> {
    endpoint: &'a str,
    ca_file: PathBuf,
    certificate_file: PathBuf,
    private_key_file: PathBuf,
}

#[derive(Serialize)]
struct Local {
    listen: SocketAddr,
}

/// The URL that the cloud would call.
pub fn url(listen: SocketAddr) -> String {
    format!("https://{listen}{PATH}")
}

/// Writes the configuration and the credential.
pub fn create(
    layout: &Layout,
    endpoint: &str,
    listen: SocketAddr,
    local: SocketAddr,
    keks: Vec<KekName>,
) -> anyhow::Result<Front> {
    let document = Document {
        https: Https {
            listen,
            certificate_file: layout.certificate("server"),
            private_key_file: layout.private_key("server"),
            public_host: listen.ip().to_string(),
            public_port: listen.port(),
        },
        hawk: Hawk {
            credentials_file: layout.credentials(),
        },
        kekd: Kekd {
            endpoint,
            ca_file: layout.certificate("ca"),
            certificate_file: layout.certificate(CLIENT),
            private_key_file: layout.private_key(CLIENT),
        },
        local: Local { listen: local },
    };
    let text = toml::to_string(&document)?;
    layout.write(&layout.config(Role::Lkm), text.as_bytes())?;
    let mut credentials = CredentialFile::default();
    let key = credentials.add(ID, keks, Lane::Interactive)?;
    credentials.write(&layout.credentials())?;
    Ok(Front {
        url: url(listen),
        id: ID.to_owned(),
        key,
    })
}
