//! Whether an unwrap would do now: kekd says that it is ready, and a value wrapped here comes back, for
//! every KEK that a credential names. Each canary is one record of kekd's audit log. Looked at from time
//! to time, and soon after a caller met a kekd that does not serve. The invariant: what one credential can
//! do to its KEK is no verdict about the others.

use std::collections::hash_map::Entry;
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use rustls_pki_types::SubjectPublicKeyInfoDer;
use rustls_pki_types::pem::PemObject as _;
use subtle::ConstantTimeEq as _;
use tokio::time::MissedTickBehavior;
use tracing::{info, warn};
use zeroize::Zeroizing;

use super::front_end::FrontEnd;
use super::kekd::NoDek;
use super::readiness::Readiness;
use crate::client::{Client, ClientError, Release, UnwrapCall};
use crate::proto::{self, v1};
use crate::public_key::RsaPublicKey;
use crate::types::{DEK_LEN, EndUser, KeypairId, Padding, ReleaseForm, RequestId};

/// Between two looks while something is wrong.
const LOOK_AGAIN: Duration = Duration::from_secs(1);
/// KEKs that are tried at most.
const KEKS_MAX: usize = 64;
/// kekd's reasons for not trying a canary that say nothing of whether it serves: callers were before it, or
/// spent what may fail under this KEK. Not `REFUSED_TOO_OFTEN`, which hides a reason that may say so.
const NO_VERDICT: [&str; 2] = ["BUSY", "FAILURE_QUOTA"];

/// What a canary told.
enum Told {
    /// It came back.
    Serves,
    /// Nothing: kekd did not try it, for this reason.
    Nothing(String),
}

/// Keeps the readiness of `front_end` true. Never returns.
pub async fn keep(front_end: Arc<FrontEnd>) {
    let every = Duration::from_millis(front_end.config.kekd.canary_interval_ms);
    front_end.begun().await;
    let mut keys = HashMap::new();
    let mut told = None;
    let mut ticks = tokio::time::interval(LOOK_AGAIN);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let readiness = look(&front_end, &mut keys).await;
        if told.as_ref() != Some(&readiness) {
            match readiness.ready {
                true => info!(problems = ?readiness.problems, "ready"),
                false => warn!(problems = ?readiness.problems, "not ready"),
            }
        }
        let ready = readiness.ready;
        front_end.set_readiness(readiness.clone());
        told = Some(readiness);
        match ready {
            true => tokio::select! {
                () = tokio::time::sleep(every) => {}
                () = front_end.doubted() => tokio::time::sleep(LOOK_AGAIN).await,
            },
            false => drop(ticks.tick().await),
        }
    }
}

async fn look(front_end: &FrontEnd, keys: &mut HashMap<KeypairId, RsaPublicKey>) -> Readiness {
    match try_all(front_end, keys).await {
        Ok(problems) => Readiness {
            ready: true,
            problems,
        },
        Err(problem) => Readiness {
            ready: false,
            problems: vec![problem],
        },
    }
}

/// What should be known although all is well; or what makes this front-end useless.
async fn try_all(
    front_end: &FrontEnd,
    keys: &mut HashMap<KeypairId, RsaPublicKey>,
) -> Result<Vec<String>, String> {
    let text = |error: &dyn std::fmt::Display| error.to_string();
    let client = front_end.kekd.client().map_err(|error| text(&error))?;
    let status = client.status().await.map_err(|error| text(&error))?;
    if !status.ready {
        return Err(format!("kekd is not ready: {}", status.problems.join("; ")));
    }
    let read = front_end.directory.read(client, Duration::ZERO).await;
    read.map_err(|error| text(&error))?;
    let mut problems = Vec::new();
    let mut tried = 0_usize;
    for name in named(front_end).into_iter().take(KEKS_MAX) {
        let keks = front_end.directory.keks();
        let kek = keks.iter().find(|kek| kek.name == name);
        match kek.and_then(newest) {
            Some((id, padding)) => {
                let told = try_one(client, id, padding, keys)
                    .await
                    .map_err(|why| format!("the canary of the KEK {name} failed: {why}"))?;
                if let Told::Nothing(why) = told {
                    problems.push(format!("the canary of the KEK {name} was not tried: {why}"));
                }
                // Also then: kekd answered, and says of itself that it is ready.
                tried += 1;
            }
            None => problems.push(format!(
                "a credential names the KEK {name}, of which kekd shows this front-end no active \
                 version that releases DEKs in clear"
            )),
        }
    }
    match tried {
        0 => Err(match problems.is_empty() {
            true => "there is no credential: make one with kekd-lkm credential new".to_owned(),
            false => problems.join("; "),
        }),
        _ => Ok(problems),
    }
}

/// The KEKs that credentials name.
fn named(front_end: &FrontEnd) -> BTreeSet<String> {
    let credentials = front_end.credentials.load();
    let of_all = credentials.all().flat_map(|credential| &credential.keks);
    of_all.map(ToString::to_string).collect()
}

/// The newest active version that unwraps for this protocol.
fn newest(kek: &v1::Kek) -> Option<(KeypairId, Padding)> {
    let serves = |version: &&v1::Version| {
        version.state() == v1::VersionState::Active
            && version
                .release_forms
                .iter()
                .any(|form| proto::release_form(*form) == Some(ReleaseForm::Clear))
    };
    let version = kek.versions.iter().rev().find(serves)?;
    let paddings: Vec<Padding> = version
        .paddings
        .iter()
        .filter_map(|number| proto::padding(*number))
        .collect();
    let padding = [Padding::OaepSha1, Padding::Pkcs1V15]
        .into_iter()
        .find(|padding| paddings.contains(padding))?;
    Some((version.keypair_id.parse().ok()?, padding))
}

async fn try_one(
    client: &Client,
    id: KeypairId,
    padding: Padding,
    keys: &mut HashMap<KeypairId, RsaPublicKey>,
) -> Result<Told, String> {
    let text = |error: &dyn std::fmt::Display| error.to_string();
    let key = match keys.entry(id) {
        Entry::Occupied(known) => known.into_mut(),
        Entry::Vacant(place) => place.insert(public_key(client, id).await?),
    };
    let mut value = Zeroizing::new([0; DEK_LEN]);
    let no_randomness = "the operating system gives no randomness";
    aws_lc_rs::rand::fill(&mut *value).map_err(|_| no_randomness)?;
    let call = UnwrapCall {
        keypair_id: id,
        wrapped_dek: key.wrap(padding, &*value).map_err(|error| text(&error))?,
        padding,
        recipient: None,
        request_id: Some(RequestId::random().map_err(|_| no_randomness)?),
        end_user: "kekd-lkm canary"
            .parse::<EndUser>()
            .map_err(|error| text(&error))?,
    };
    let released = match client.unwrap(call).await {
        Ok(released) => released,
        Err(ClientError::Refused(refusal)) if NO_VERDICT.contains(&refusal.reason.as_str()) => {
            return Ok(Told::Nothing(refusal.to_string()));
        }
        Err(error) => return Err(NoDek::from(error).to_string()),
    };
    match released.release {
        Release::Dek(dek) if bool::from(dek.as_bytes().ct_eq(&*value)) => Ok(Told::Serves),
        Release::Dek(_) | Release::Rewrapped(_) => Err("another value came back".to_owned()),
    }
}

async fn public_key(client: &Client, id: KeypairId) -> Result<RsaPublicKey, String> {
    let text = |error: &dyn std::fmt::Display| error.to_string();
    let pem = client
        .get_public_key(id, v1::PublicKeyFormat::SpkiPem)
        .await;
    let pem = pem.map_err(|error| text(&error))?;
    let spki = SubjectPublicKeyInfoDer::from_pem_slice(&pem).map_err(|error| text(&error))?;
    RsaPublicKey::from_spki(&spki).map_err(|error| text(&error))
}
