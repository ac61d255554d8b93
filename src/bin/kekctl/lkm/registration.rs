//! `kekctl lkm registration`: the exact bodies of the two calls that make a KEK the cloud's, and their
//! order. Refuses while a version is not proven to unwrap on every node named: from the moment it is
//! registered, recordings depend on it.

use std::fmt;

use anyhow::Context as _;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clap::Args;
use kekd::client::version_state_name;
use kekd::proto::{self, v1};
use kekd::types::{KekName, KeypairId, Padding, ReleaseForm};
use serde::Serialize;

use super::trial;
use crate::connection::Connection;
use crate::coverage::cover_state_name;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::{self, Format, Stream};

/// Print the bodies of the cloud's registration calls for the newest version of a KEK
///
/// The version must be active, and is proven first: a value wrapped under its public key must unwrap
/// on kekd, and every token that kekd requires must be proven to hold the key (see kekctl coverage);
/// the same on each further node that --node names. Name them all.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  kekctl lkm registration recordings --url https://lkm.example.com/key-management/v1/decrypt
  kekctl lkm registration recordings --node https://kekd-2:7443 --node https://kekd-3:7443
  kekctl lkm registration recordings --show-key --output json | jq .local_key")]
pub struct Registration {
    /// The KEK
    kek: KekName,
    /// A further node, on the same connection settings; may be given several times
    #[arg(long = "node", value_name = "URL")]
    nodes: Vec<String>,
    /// The URL that the cloud is to call
    #[arg(long, env = "KEKD_LKM_URL", hide_env_values = true, value_name = "URL")]
    url: Option<String>,
    /// The Hawk id that the cloud is to use
    #[arg(long, env = "KEKD_LKM_ID", hide_env_values = true, value_name = "ID")]
    id: Option<String>,
    /// Put the Hawk key (KEKD_LKM_KEY) into the body, too
    #[arg(long)]
    show_key: bool,
    /// The Hawk key
    #[arg(long, env = "KEKD_LKM_KEY", hide_env_values = true, hide = true)]
    lkm_key: Option<String>,
}

impl Registration {
    pub async fn run(self, kekd: &Connection, format: Format) -> anyhow::Result<Exit> {
        let client = kekd.open().await?;
        let kek = client.get_kek(&self.kek).await?;
        let (id, padding) = newest(&kek)?;
        let proven_on = proven_on(kekd, self.nodes, &self.kek, id, padding).await?;
        let der = client
            .get_public_key(id, v1::PublicKeyFormat::Pkcs1Der)
            .await?;
        let key = self.lkm_key.filter(|_| self.show_key);
        let registration = Bodies {
            kek: kek.name,
            keypair_id: id.to_string(),
            proven_on,
            key_configuration: KeyConfiguration {
                url: self
                    .url
                    .unwrap_or_else(|| "<the URL of kekd-lkm>".to_owned()),
                api_id: self
                    .id
                    .unwrap_or_else(|| "<the credential's id>".to_owned()),
                api_key: key.unwrap_or_else(|| "<the credential's secret>".to_owned()),
                key_configuration_type: "LocalKeyManager",
            },
            local_key: LocalKey {
                config_id: "<id from the answer to step 2>",
                public_key: STANDARD.encode(der),
                keypair_id: id.to_string(),
            },
        };
        output::show(format, Stream::Out, &registration)?;
        Ok(Exit::Done)
    }
}

/// Where a version is proven to unwrap: on every token that a recording may wait for, or nowhere. The
/// proof is a value wrapped under its public key that comes back from each node, and what the node
/// knows of each of its tokens.
async fn proven_on(
    kekd: &Connection,
    others: Vec<String>,
    kek: &KekName,
    id: KeypairId,
    padding: Padding,
) -> anyhow::Result<Vec<ProvenOn>> {
    let own = kekd.endpoint.clone();
    let own = own.unwrap_or_else(|| "this node".to_owned());
    let mut nodes = vec![(own, kekd.clone())];
    for node in others {
        let mut connection = kekd.clone();
        connection.endpoint = Some(node.clone());
        connection.socket = None;
        nodes.push((node, connection));
    }
    let mut proven_on = Vec::new();
    for (node, connection) in nodes {
        let proof = async {
            let client = connection.open().await?;
            trial::prove(&client, id, padding).await?;
            covering(&client.coverage(Some(kek)).await?, id)
        };
        let tokens = proof.await.map_err(|error| {
            let text = format!(
                "the key pair {id} is not proven on {node}: {error:#}; registering it now could lose \
                 recordings"
            );
            Failure::new(Exit::Failed, "NOT_PROVEN", text)
        })?;
        proven_on.push(ProvenOn { node, tokens });
    }
    Ok(proven_on)
}

/// The tokens of a node that are proven to hold the key; an error where a required one is not.
fn covering(coverage: &v1::GetCoverageResponse, id: KeypairId) -> anyhow::Result<Vec<String>> {
    let id = id.to_string();
    let mut versions = coverage.versions.iter();
    let version = versions.find(|version| version.keypair_id == id);
    let version = version.context("kekd does not say which token holds it")?;
    anyhow::ensure!(
        !coverage.tokens.is_empty() && version.covers.len() == coverage.tokens.len(),
        "kekd does not say of every token whether it holds it"
    );
    let mut proven = Vec::new();
    for (token, cover) in coverage.tokens.iter().zip(&version.covers) {
        if cover.state() == v1::CoverState::Proven {
            proven.push(token.name.clone());
        } else if token.required {
            let why = match cover.why.as_str() {
                "" => "kekd proves each key by and by",
                why => why,
            };
            let (name, state) = (&token.name, cover_state_name(cover.state()));
            anyhow::bail!("on the token {name}: {state} ({why}); see `kekctl coverage`");
        }
    }
    Ok(proven)
}

/// The newest version, which must be active and release DEKs in clear under OAEP with SHA-1: what the
/// cloud wraps with.
fn newest(kek: &v1::Kek) -> anyhow::Result<(KeypairId, Padding)> {
    let refused = |text: String| Failure::new(Exit::Failed, "NOT_READY_TO_REGISTER", text);
    let name = &kek.name;
    let version = kek.versions.last();
    let version = version.ok_or_else(|| refused(format!("the KEK {name} has no version")))?;
    if version.state() != v1::VersionState::Active {
        let state = version_state_name(version.state);
        let number = version.number;
        let text = format!("version {number} of the KEK {name} is {state}, not active");
        return Err(refused(text).into());
    }
    let clear = |form: &i32| proto::release_form(*form) == Some(ReleaseForm::Clear);
    let oaep = |padding: &i32| proto::padding(*padding) == Some(Padding::OaepSha1);
    if !version.release_forms.iter().any(clear) || !version.paddings.iter().any(oaep) {
        let text = format!(
            "the KEK {name} does not unwrap what the cloud wraps: that needs oaep-sha1, released in \
             clear"
        );
        return Err(refused(text).into());
    }
    Ok((version.keypair_id.parse()?, Padding::OaepSha1))
}

#[derive(Debug, Serialize)]
struct Bodies {
    kek: String,
    keypair_id: String,
    proven_on: Vec<ProvenOn>,
    key_configuration: KeyConfiguration,
    local_key: LocalKey,
}

#[derive(Debug, Serialize)]
struct ProvenOn {
    node: String,
    tokens: Vec<String>,
}

impl fmt::Display for ProvenOn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plural = if self.tokens.len() == 1 { "" } else { "s" };
        write!(
            f,
            "{} (token{plural} {})",
            self.node,
            self.tokens.join(", ")
        )
    }
}

/// `RecordingEncryptionConfiguration` of the cloud's interface.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct KeyConfiguration {
    url: String,
    api_id: String,
    api_key: String,
    key_configuration_type: &'static str,
}

/// `LocalEncryptionKeyRequest` of the cloud's interface.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct LocalKey {
    config_id: &'static str,
    public_key: String,
    keypair_id: String,
}

impl fmt::Display for Bodies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let nodes: Vec<String> = self.proven_on.iter().map(ToString::to_string).collect();
        let (id, nodes) = (&self.keypair_id, nodes.join(", "));
        writeln!(f, "KEK {}, key pair {id}, proven on {nodes}\n", self.kek)?;
        writeln!(
            f,
            "1. Back up the token and the state folder, and see that kekd-lkm answers:\n   \
             kekctl lkm check {}\n",
            self.key_configuration.url
        )?;
        writeln!(
            f,
            "2. Once for each front-end and credential. The cloud probes the URL with OPTIONS:\n   \
             POST /api/v2/recording/keyconfigurations\n{}\n",
            pretty(&self.key_configuration)
        )?;
        writeln!(
            f,
            "3. For each new version. The cloud asks for one trial decrypt; a failure is told as \
             \"service not ready\":\n   POST /api/v2/recording/localkeys\n{}\n",
            pretty(&self.local_key)
        )?;
        write!(
            f,
            "4. From then on new recordings are wrapped under this key pair. Never destroy it while \
             one of them is kept:\n   the cloud has no other way to open them."
        )
    }
}

/// A body as the text to send. Texts always serialise.
fn pretty(body: &impl Serialize) -> String {
    serde_json::to_string_pretty(body).unwrap_or_default()
}
