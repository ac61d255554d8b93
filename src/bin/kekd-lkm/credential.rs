//! `kekd-lkm credential`: the file of Hawk credentials. A secret is printed once, when it is made, on
//! standard output and nowhere else.

use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand, ValueEnum};
use kekd::lkm::credential_file::CredentialFile;
use kekd::lkm::credentials::Lane;
use kekd::program::Failure;
use kekd::types::KekName;
use zeroize::Zeroizing;

/// Make, rotate and list Hawk credentials
#[derive(Args)]
#[command(after_help = "Examples:
  kekd-lkm credential new --file credentials.toml --id cloud-eu --kek recordings
  kekd-lkm credential rotate --file credentials.toml --id cloud-eu
  kekd-lkm credential rotate --file credentials.toml --id cloud-eu --finish
  kekd-lkm credential list --file credentials.toml")]
pub struct Credential {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Make a credential, and the file where there is none; prints its secret
    #[command(after_help = "Example:
  kekd-lkm credential new --file credentials.toml --id cloud-eu --kek recordings")]
    New {
        #[command(flatten)]
        file: File,
        /// Its id, as the cloud is told: 6 to 64 letters, digits, '.', '_' and '-'
        #[arg(long)]
        id: String,
        /// A KEK it may unwrap under; may be given several times
        #[arg(long = "kek", value_name = "NAME", required = true)]
        keks: Vec<KekName>,
        /// How its unwraps travel: somebody waits, or an export of thousands
        #[arg(long, value_enum, default_value_t = LaneName::Interactive)]
        lane: LaneName,
    },
    /// Give a credential a second secret, which it prints, or end that with --finish
    ///
    /// Both secrets are good until --finish: rotate, tell the cloud, see that it uses the new one, finish.
    /// kekd-lkm logs once after each load of the file which secret a credential's caller uses: what="secret"
    /// with met="newer" or "older" while there are two, and "only" where there is one.
    #[command(after_help = "Examples:
  kekd-lkm credential rotate --file credentials.toml --id cloud-eu
  kekd-lkm credential rotate --file credentials.toml --id cloud-eu --finish")]
    Rotate {
        #[command(flatten)]
        file: File,
        /// Its id
        #[arg(long)]
        id: String,
        /// Forget the older secret
        #[arg(long)]
        finish: bool,
    },
    /// List credentials, without their secrets
    #[command(after_help = "Example:
  kekd-lkm credential list --file credentials.toml")]
    List {
        #[command(flatten)]
        file: File,
    },
}

#[derive(Args)]
struct File {
    /// The file of credentials
    #[arg(long, value_name = "FILE")]
    file: PathBuf,
}

#[derive(Clone, Copy, ValueEnum)]
enum LaneName {
    /// Somebody waits to listen
    Interactive,
    /// An export of thousands
    Bulk,
}

impl Credential {
    pub fn run(self) -> Result<(), Failure> {
        match self.command {
            Command::New {
                file,
                id,
                keks,
                lane,
            } => {
                let mut credentials = match file.file.exists() {
                    true => read(&file.file)?,
                    false => CredentialFile::default(),
                };
                let lane = match lane {
                    LaneName::Interactive => Lane::Interactive,
                    LaneName::Bulk => Lane::Bulk,
                };
                let secret = credentials
                    .add(&id, keks, lane)
                    .map_err(Failure::configuration)?;
                credentials
                    .write(&file.file)
                    .map_err(Failure::configuration)?;
                print(&secret)
            }
            Command::Rotate { file, id, finish } => {
                let mut credentials = read(&file.file)?;
                let secret = match finish {
                    true => credentials.finish(&id).map(|()| None),
                    false => credentials.rotate(&id).map(Some),
                };
                let secret = secret.map_err(Failure::configuration)?;
                credentials
                    .write(&file.file)
                    .map_err(Failure::configuration)?;
                secret.map_or(Ok(()), |secret| print(&secret))
            }
            Command::List { file } => list(&read(&file.file)?),
        }
    }
}

fn read(file: &Path) -> Result<CredentialFile, Failure> {
    let text = std::fs::read_to_string(file).map(Zeroizing::new);
    let text = text.map_err(|error| {
        Failure::configuration(format!("cannot read {}: {error}", file.display()))
    })?;
    CredentialFile::parse(&text)
        .map_err(|error| Failure::configuration(format!("{}: {error}", file.display())))
}

fn print(secret: &str) -> Result<(), Failure> {
    writeln!(io::stdout().lock(), "{secret}").map_err(Failure::fatal)
}

fn list(file: &CredentialFile) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    let head = writeln!(out, "{:<24} {:<12} {:<8} KEKS", "ID", "LANE", "SECRETS");
    let printed = file.credential.iter().fold(head, |so_far, entry| {
        let keks: Vec<&str> = entry.keks.iter().map(KekName::as_str).collect();
        let (lane, secrets) = (entry.lane.name(), entry.secrets.len());
        so_far?;
        writeln!(
            out,
            "{:<24} {lane:<12} {secrets:<8} {}",
            entry.id,
            keks.join(", ")
        )
    });
    printed.map_err(Failure::fatal)
}
