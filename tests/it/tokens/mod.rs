//! Several tokens: SoftHSM2 tokens copied as a vendor's tool would clone them. Who serves, who
//! serves instead, what is proven where, and what a new version waits for.

mod coverage;
mod loss;
mod waiting;

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output};
use std::time::Duration;

use kekd::client::Client;
use kekd::proto::v1::{CoverState, GetStatusResponse, TokenStatus};

use crate::harness::{Kek, Rig, copy};
use crate::softhsm;

/// The KEKs of a rig.
const KEKS: [&str; 4] = ["engage", "legacy", "recordings", "vault"];

/// A rig with replicas of these names, each with further lines of its section; not started.
pub fn stopped(replicas: &[(&str, &str)]) -> Rig {
    let rig = Rig::stopped();
    for (name, lines) in replicas {
        let (tokens, conf) = (
            folder(&rig, name),
            rig.dir.join(format!("softhsm2-{name}.conf")),
        );
        copy(&rig.dir.join("tokens"), &tokens);
        let text = fs::read_to_string(rig.dir.join("softhsm2.conf")).unwrap();
        let (old, new) = (rig.dir.join("tokens"), tokens.display().to_string());
        fs::write(&conf, text.replace(old.to_str().unwrap(), &new)).unwrap();
        let conf = conf.display();
        rig.edit("kekd.toml", |text| {
            let variables = format!("environment = {{ SOFTHSM2_CONF = \"{conf}\" }}");
            format!("{text}\n[[token]]\nname = \"{name}\"\n{variables}\n{lines}\n")
        });
    }
    rig.edit("rig.json", |text| {
        let mut mark: serde_json::Value = serde_json::from_str(&text).unwrap();
        let names: Vec<_> = replicas.iter().map(|(name, _)| *name).collect();
        mark["replicas"] = serde_json::json!(names);
        mark.to_string()
    });
    rig.set("limits", "request_timeout_ms_max = 120000");
    rig
}

/// The same, serving, and all of it proven on every replica.
pub async fn serving(replicas: &[(&str, &str)]) -> Rig {
    let rig = stopped(replicas);
    rig.start();
    let operator = rig.client("operator").await;
    status_when(&operator, |status| {
        let mut replicas = status.replicas.iter();
        replicas.all(|replica| replica.versions_proven == 4)
    })
    .await;
    rig
}

/// Where the token of a replica lies.
fn folder(rig: &Rig, replica: &str) -> PathBuf {
    rig.dir.join(format!("tokens-{replica}"))
}

/// `pkcs11-tool`, logged in, on a replica.
fn on_replica(rig: &Rig, replica: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new("pkcs11-tool");
    command
        .env(
            "SOFTHSM2_CONF",
            rig.dir.join(format!("softhsm2-{replica}.conf")),
        )
        .args(["--module", softhsm::MODULE, "--token-label", "kekd-rig"])
        .args(["--login", "--pin", &rig.pin()])
        .args(arguments);
    command
}

/// `kekctl rig clone`.
pub fn clone_keys(rig: &Rig) {
    let dir = rig.dir.display().to_string();
    crate::harness::must(Command::new(crate::harness::KEKCTL).args(["rig", "clone", &dir]));
}

/// `kekctl coverage` as one of the rig's clients.
fn kekctl_coverage(rig: &Rig, client: &str, arguments: &[&str]) -> Output {
    let mut command = rig.kekctl_as(client, &["coverage"]);
    command.args(arguments).output().unwrap()
}

/// The first status that is as wanted; it must come within 45 seconds, four times a look.
async fn status_when(
    operator: &Client,
    wanted: impl Fn(&GetStatusResponse) -> bool,
) -> GetStatusResponse {
    for _ in 0..450 {
        let status = operator.status().await.unwrap();
        if wanted(&status) {
            return status;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("waited in vain: {:?}", operator.status().await.unwrap());
}

fn says(status: &GetStatusResponse, word: &str) -> bool {
    status.problems.iter().any(|problem| problem.contains(word))
}

async fn replica(operator: &Client, name: &str) -> TokenStatus {
    let status = operator.status().await.unwrap();
    let mut replicas = status.replicas.into_iter();
    replicas.find(|replica| replica.name == name).unwrap()
}

/// What a token is known to hold of the newest version of a KEK, and why.
async fn cover(operator: &Client, kek: &str, token: &str) -> (CoverState, String) {
    let coverage = operator
        .coverage(Some(&kek.parse().unwrap()))
        .await
        .unwrap();
    let names = coverage.tokens.iter().map(|token| token.name.as_str());
    let at = names.into_iter().position(|name| name == token).unwrap();
    let cover = &coverage.versions.last().unwrap().covers[at];
    (cover.state(), cover.why.clone())
}

/// Waits until a token is known to hold, or not to hold, the newest version of a KEK.
pub async fn cover_when(operator: &Client, kek: &str, token: &str, wanted: CoverState) -> String {
    for _ in 0..450 {
        let (found, why) = cover(operator, kek, token).await;
        if found == wanted {
            return why;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("waited in vain: {:?}", cover(operator, kek, token).await);
}

/// One DEK of each KEK that releases in clear.
async fn keks(client: &Client) -> Vec<Kek> {
    let mut keks = Vec::new();
    for name in ["legacy", "recordings"] {
        keks.push(Kek::of(client, name).await);
    }
    keks
}
