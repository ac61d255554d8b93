//! `kekctl rig up`: everything a rig is, in the order in which one thing needs the other.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use kekd::client::{Client, Endpoint, TlsFiles};
use serde::Serialize;

use super::daemon::Role;
use super::existing::{Existing, Variable};
use super::genesis::{KEKS_DEFAULT, NewKek};
use super::layout::{ForeignToken, Layout, Lkm, Mark};
use super::settings::Settings;
use super::{Folder, daemon, env, genesis, lkm, officers, pki, replica, settings, token};
use crate::exit::Exit;
use crate::output::{self, Format, Stream};

/// Make a rig and start it
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  kekctl rig up ./rig
  kekctl rig up ./rig --kek recordings=kek-rsa-3072      # one KEK only: quicker
  kekctl rig up ./rig --tokens 2                         # a replica, named b, beside the token
  kekctl rig up ./rig --module /usr/lib/softhsm/libsofthsm2.so --kekd target/release/kekd

On a token that exists, with what its module wants in its environment:
  kekctl rig up ./rig --module /opt/vendor/libpkcs11.so --token-label hsm-1 \\
      --token-serial 0123456789 --pin-file ./pin --env VENDOR_CONF=/etc/vendor.conf
kekd makes its keys in that token, and rig down leaves them there.")]
pub struct Up {
    #[command(flatten)]
    folder: Folder,
    /// The PKCS#11 module kekd loads [default: SoftHSM2's]
    #[arg(long, value_name = "PATH")]
    module: Option<PathBuf>,
    #[command(flatten)]
    existing: Option<Existing>,
    /// Tokens in all: the rig's own, and copies of it as replicas named b, c and so on, up to 8.
    /// Copy to them again with rig clone
    #[arg(long, value_name = "NUMBER", default_value_t = 1, conflicts_with = "Existing",
          value_parser = clap::value_parser!(u8).range(1..=8))]
    tokens: u8,
    /// A variable for the daemon and the rig's env file; may be given several times
    #[arg(long = "env", value_name = "NAME=VALUE")]
    variables: Vec<Variable>,
    /// The daemon to run [default: kekd beside this program]
    #[arg(long, value_name = "PATH")]
    kekd: Option<PathBuf>,
    /// The front-end to run before it [default: kekd-lkm beside this program]
    #[arg(long, value_name = "PATH")]
    kekd_lkm: Option<PathBuf>,
    /// Do not run the front-end: nothing but you asks kekd for anything
    #[arg(long)]
    without_lkm: bool,
    /// A KEK to begin with; may be given several times
    #[arg(long = "kek", value_name = "NAME=PROFILE", default_values = KEKS_DEFAULT)]
    keks: Vec<NewKek>,
    /// A folder of key profiles beside the built-in ones
    #[arg(long, value_name = "DIR")]
    profiles_dir: Option<PathBuf>,
}

impl Up {
    pub async fn run(self, format: Format) -> anyhow::Result<Exit> {
        let kekd = daemon::program(Role::Kekd, self.kekd.as_deref())?;
        let front_end = daemon::program(Role::Lkm, self.kekd_lkm.as_deref())?;
        let module = token::module(self.module.as_deref())?;
        let layout = Layout::create(&self.folder.dir)?;
        let [listen, https, local] = free_ports()?;
        let endpoint = format!("https://{listen}");
        // From here on the folder is a rig, and `rig down` removes it whatever comes.
        let mut mark = self.mark(&layout, kekd, &endpoint);
        mark.lkm = (!self.without_lkm).then(|| Lkm {
            program: front_end,
            url: lkm::url(https),
        });
        layout.write_mark(&mark)?;

        pki::create(&layout)?;
        let token = match &self.existing {
            Some(existing) => existing.token(&module)?,
            None => token::create(&layout, &module, &mark.environment)?,
        };
        let profiles_dir = self.profiles_dir.map(std::path::absolute).transpose()?;
        let settings = Settings {
            token: &token,
            listen,
            profiles_dir: profiles_dir.as_deref(),
            replicas: &mark.replicas,
        };
        let config = settings::document(&layout, &settings)?;
        layout.write(&layout.config(Role::Kekd), config.as_bytes())?;

        let signatures = sign_genesis(&layout, &self.keks)?;
        daemon::init(&layout, &mark, &signatures)?;
        for name in &mark.replicas {
            replica::create(&layout, name)?;
        }
        let lkm_keks = genesis::keks_of_first_client(&self.keks);
        let front = lkm::create(&layout, &endpoint, https, local, lkm_keks)?;
        let pid = daemon::start_all(&layout, &mark)?;

        let keks = keypairs(&layout, &endpoint).await?;
        let first = self.keks.first().map(|kek| kek.name.to_string());
        let first = keks.iter().find(|kek| Some(&kek.name) == first.as_ref());
        let first = first.ok_or_else(|| anyhow::anyhow!("kekd does not show the first KEK"))?;
        let text = env::text(
            &layout,
            &env::First {
                endpoint: &endpoint,
                kek: &first.name,
                keypair_id: &first.keypair_id,
                lkm: &front,
            },
            &mark.environment,
        );
        layout.write(&layout.env(), text.as_bytes())?;
        let text = env::officer_text(&layout);
        layout.write(&layout.officer_env(), text.as_bytes())?;
        let made = Made {
            dir: layout.dir().display().to_string(),
            env: layout.env().display().to_string(),
            endpoint,
            lkm_url: front.url,
            socket: layout.socket().display().to_string(),
            pid: pid.as_raw_nonzero().get(),
            token_serial: token.serial,
            keks,
        };
        output::show(format, Stream::Out, &made)?;
        Ok(Exit::Done)
    }

    fn mark(&self, layout: &Layout, kekd: PathBuf, endpoint: &str) -> Mark {
        let own_token = match self.existing {
            Some(_) => BTreeMap::new(),
            None => token::environment(layout),
        };
        let variables = self.variables.iter();
        let variables = variables.map(|variable| (variable.name.clone(), variable.value.clone()));
        let environment = own_token.into_iter().chain(variables).collect();
        let mut mark = Mark::new(kekd, endpoint.to_owned(), environment);
        let copies = usize::from(self.tokens).saturating_sub(1);
        let names = replica::NAMES.into_iter().take(copies);
        mark.replicas = names.map(str::to_owned).collect();
        mark.foreign_token = self.existing.as_ref().map(|existing| ForeignToken {
            label: existing.token_label.clone(),
            serial: existing.token_serial.clone(),
        });
        mark
    }
}

/// Ports that were free a moment ago. Another program may take one before ours does; then ours does not
/// start, and says so.
fn free_ports<const COUNT: usize>() -> std::io::Result<[SocketAddr; COUNT]> {
    let mut held = Vec::new();
    let mut ports = [SocketAddr::from(([127, 0, 0, 1], 0)); COUNT];
    for port in &mut ports {
        let listener = TcpListener::bind(*port)?;
        *port = listener.local_addr()?;
        // Held until all are found, so that no two are one.
        held.push(listener);
    }
    Ok(ports)
}

/// Makes the officers, lets them sign the genesis and returns the signatures' files.
fn sign_genesis(layout: &Layout, keks: &[NewKek]) -> anyhow::Result<Vec<PathBuf>> {
    let officers = officers::create_all(layout)?;
    let uid = rustix::process::getuid().as_raw();
    let recovery = officers::create_recovery(layout)?;
    let document = genesis::document(keks, officers, recovery, uid)?;
    layout.write(&layout.genesis(), document.as_bytes())?;
    let mut signatures = Vec::new();
    for name in officers::SIGNERS {
        let signature = officers::sign(layout, name, document.as_bytes())?;
        layout.write(&layout.signature(name), signature.as_bytes())?;
        signatures.push(layout.signature(name));
    }
    Ok(signatures)
}

/// The first version of every KEK, as the operator sees them over mutual TLS.
async fn keypairs(layout: &Layout, endpoint: &str) -> anyhow::Result<Vec<Keypair>> {
    let client = connect(layout, endpoint, "operator").await?;
    let keks = client.list_keks().await?;
    let first = |kek: kekd::proto::v1::Kek| {
        let version = kek.versions.into_iter().next()?;
        Some(Keypair {
            name: kek.name,
            keypair_id: version.keypair_id,
            profile: version.profile,
        })
    };
    Ok(keks.into_iter().filter_map(first).collect())
}

/// Connects as one of the rig's clients.
pub(super) async fn connect(
    layout: &Layout,
    endpoint: &str,
    client: &str,
) -> anyhow::Result<Client> {
    let files = TlsFiles {
        ca: layout.certificate("ca"),
        certificate: layout.certificate(client),
        private_key: layout.private_key(client),
    };
    let endpoint = Endpoint::parse(endpoint, Some(files))?;
    Ok(Client::connect(endpoint, Duration::from_secs(10)).await?)
}

#[derive(Debug, Serialize)]
struct Made {
    dir: String,
    env: String,
    endpoint: String,
    lkm_url: String,
    socket: String,
    pid: i32,
    token_serial: String,
    keks: Vec<Keypair>,
}

#[derive(Debug, Serialize)]
struct Keypair {
    name: String,
    keypair_id: String,
    profile: String,
}

impl fmt::Display for Made {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "kekd runs on {} (process {})", self.endpoint, self.pid)?;
        writeln!(f, "kekd-lkm runs on {}", self.lkm_url)?;
        for kek in &self.keks {
            writeln!(f, "  {:<12} {}  {}", kek.name, kek.keypair_id, kek.profile)?;
        }
        let (env, dir) = (env::quoted(&self.env), env::quoted(&self.dir));
        write!(
            f,
            "\nGo on with:\n  . {env}\n  kekctl status\n  kekctl kek list\n\
             Throw it away with:\n  kekctl rig down {dir}"
        )
    }
}
