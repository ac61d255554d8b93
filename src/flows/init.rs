//! The birth of an instance: from a genesis that its officers signed to a token with keys, a ledger
//! that records them and an empty audit log. The only place where kekd creates state.
//!
//! The invariant this file keeps: either everything exists and agrees, or there is no ledger. The
//! commit point is the renaming of the ledger into place; before it a crash leaves keys that nothing
//! refers to, which the next `init` names and refuses to build upon.

use std::path::PathBuf;

use tracing::info;

pub use super::make::MakeError;
use super::make::{Forge, InstanceKey, Issuing, Plan, random_id};
use super::profiles::profile;
use super::{holdings, label, notary};
use crate::audit::{AuditError, Journal};
use crate::clock::Clock;
use crate::config::Config;
use crate::hsm::profile::Profile;
use crate::hsm::{DataKind, Hsm, HsmError, Token};
use crate::ledger::{ANCHOR_LABEL, Draft, Event, LedgerError, PIN_LABEL, Staged, Vacancy};
use crate::merkle::Frontier;
use crate::proto::v1;
use crate::quorum::{Authorized, Genesis, GenesisError, GenesisKek, Initialise};
use crate::stops::{Stops, StopsError};
use crate::types::Sha256;

/// Labels of objects found that are shown.
const LABELS_SHOWN_MAX: usize = 16;

/// Why no instance was born.
#[derive(Debug, thiserror::Error)]
pub enum InitError {
    /// The genesis or its signatures are refused.
    #[error(transparent)]
    Genesis(#[from] GenesisError),
    /// There is no room for a ledger, or it cannot be written.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// The audit log cannot be made.
    #[error(transparent)]
    Audit(#[from] AuditError),
    /// The files of the kill switch cannot be made.
    #[error(transparent)]
    Stops(#[from] StopsError),
    /// The token cannot be opened or asked.
    #[error(transparent)]
    Hsm(#[from] HsmError),
    /// A key cannot be made as its profile says.
    #[error(transparent)]
    Make(#[from] MakeError),
    /// The token holds objects of another instance, or of an `init` that did not finish.
    #[error(
        "the token '{label}' already holds objects of kekd: {objects}. They belong to another instance, \
         or to an init that did not finish (then nothing refers to them). kekd adopts and deletes \
         nothing: use another token, or initialise this one again with the HSM's own tools"
    )]
    TokenInUse {
        /// The token's label.
        label: String,
        /// The labels of the objects found.
        objects: String,
    },
    /// The token lacks what every instance needs.
    #[error("the token cannot do {what}, which every instance needs (hsm.module, hsm.token_label)")]
    Incapable {
        /// What it cannot do.
        what: &'static str,
    },
}

/// What was born.
#[derive(Debug)]
pub struct InitReport {
    /// SHA-256 of the genesis entry.
    pub instance_id: Sha256,
    /// The instance's name.
    pub instance_name: String,
    /// The officers who signed.
    pub signers: Vec<String>,
    /// Each KEK by name with the keypair id of its first version.
    pub keks: Vec<(String, String)>,
    /// Where the state is.
    pub state_dir: PathBuf,
}

/// Everything an instance is made of but the token: a genesis that enough officers signed, a place
/// for the state, the profiles of the keys.
pub struct Prepared {
    authority: Authorized<Initialise>,
    vacancy: Vacancy,
    profiles: Vec<Profile>,
}

/// Judges the genesis document, which `signatures` (armored SSHSIG) must cover, and takes the state
/// folder, making it if need be. To be done before the HSM is started: nobody is to log in to a
/// token for a genesis that is refused, and the worker needs the folder for its "PIN refused" mark.
pub fn prepare(
    config: &Config,
    genesis: &[u8],
    signatures: &[Vec<u8>],
) -> Result<Prepared, InitError> {
    let authority = Genesis::parse(genesis)?.authorize(signatures)?;
    let vacancy = Vacancy::claim(&config.state_dir)?;
    // Met again at the end otherwise, when there are keys in the token.
    Journal::require_none(&config.state_dir)?;
    let profiles = profiles(config, authority.operation().genesis.keks())?;
    Ok(Prepared {
        authority,
        vacancy,
        profiles,
    })
}

/// Makes the instance in the HSM's token and in the state folder.
pub async fn init(
    config: &Config,
    prepared: Prepared,
    hsm: &Hsm,
    clock: Clock,
) -> Result<InitReport, InitError> {
    let Prepared {
        authority,
        vacancy,
        profiles,
    } = prepared;
    let token = hsm.opened().await?;
    check_vacant(hsm, &token).await?;

    let capabilities = hsm.probe().await?;
    for (able, what) in [
        (capabilities.ecdsa_p256, "ECDSA with P-256"),
        (capabilities.hmac_sha256, "HMAC with SHA-256"),
    ] {
        if !able {
            return Err(InitError::Incapable { what });
        }
    }
    let forge = Forge {
        hsm,
        authority: &authority,
        capabilities: &capabilities,
        now: clock.now(),
    };
    let log_signing = forge
        .instance_key(label::LOG_SIGNING, "log-signing")
        .await?;
    let issuing = forge
        .instance_key(label::ISSUING, "certificate-issuing")
        .await?;
    let rejection = forge
        .instance_key(label::IMPLICIT_REJECTION, "implicit-rejection")
        .await?;
    let issuing_certificate = forge.issuing_certificate(&issuing).await?;

    let mut activated = Vec::new();
    for (kek, profile) in authority.operation().genesis.keks().iter().zip(&profiles) {
        let plan = Plan {
            kek: &kek.name,
            number: 1,
            keypair_id: random_id()?,
            certificate_subject: &kek.certificate_subject,
            certificate_valid_days: kek.certificate_valid_days,
            proposal: None,
        };
        let issuing = Issuing {
            key: issuing.key.clone(),
            certificate: &issuing_certificate,
        };
        activated.push(forge.kek(&plan, profile, &issuing).await?);
    }
    let created = created(
        &authority,
        token,
        [&log_signing, &issuing, &rejection],
        issuing_certificate,
    );
    let report = report(config, &authority, &activated);
    let events = std::iter::once(Event::InstanceCreated(created))
        .chain(activated.into_iter().map(Event::KekVersionActivated))
        .collect();
    let draft = Draft::new(events, forge.now)?;
    let signature = hsm.sign_digest(&log_signing.key, &draft.digest()).await?;
    let staged = draft.stage(vacancy, &signature)?;
    let instance_id = staged.pin().instance_id;
    commit(config, hsm, staged).await?;
    Ok(InitReport {
        instance_id,
        ..report
    })
}

/// Ties the token to the ledger and makes the ledger real: pin and anchors first, then the audit log,
/// then the one rename that is the commit point.
async fn commit(config: &Config, hsm: &Hsm, staged: Staged) -> Result<(), InitError> {
    let (pin, anchor) = (staged.pin(), staged.anchor());
    hsm.write_data(PIN_LABEL, &pin.to_bytes(), DataKind::Fixed)
        .await?;
    hsm.write_data(ANCHOR_LABEL, &anchor.to_bytes(), DataKind::Replace)
        .await?;
    let empty = Frontier::default().head();
    notary::anchor(hsm, pin.instance_id, empty).await?;
    Journal::create(&config.state_dir, &pin.instance_id)?;
    Stops::create(&config.state_dir)?;
    staged.commit()?;
    info!(instance = %pin.instance_id, "the instance exists");
    Ok(())
}

/// Nothing of kekd may be in the token: neither keys nor the objects that pin a ledger.
async fn check_vacant(hsm: &Hsm, token: &Token) -> Result<(), InitError> {
    let mut labels: Vec<String> = hsm
        .inventory()
        .await?
        .into_iter()
        .map(|object| object.label)
        .filter(|label| label.starts_with(label::PREFIX))
        .map(|label| holdings::shown(&label))
        .collect();
    if labels.is_empty() {
        return Ok(());
    }
    labels.sort();
    labels.dedup();
    labels.truncate(LABELS_SHOWN_MAX);
    Err(InitError::TokenInUse {
        label: token.label.clone(),
        objects: labels.join(", "),
    })
}

/// The profile of each KEK, from `hsm.profiles_dir` or built in, as the officers signed for it.
fn profiles(config: &Config, keks: &[GenesisKek]) -> Result<Vec<Profile>, MakeError> {
    let folder = config.hsm.profiles_dir.as_deref();
    let all = keks
        .iter()
        .map(|kek| profile(folder, &kek.profile, kek.profile_sha256));
    Ok(all.collect::<Result<_, _>>()?)
}

fn created(
    authority: &Authorized<Initialise>,
    token: Token,
    [log_signing, issuing, rejection]: [&InstanceKey; 3],
    issuing_certificate: Vec<u8>,
) -> v1::InstanceCreated {
    let Initialise {
        genesis,
        signatures,
        ..
    } = authority.operation();
    v1::InstanceCreated {
        genesis: genesis.bytes().to_vec(),
        signatures: signatures.clone(),
        token: Some(v1::TokenIdentity {
            label: token.label,
            serial: token.serial,
            manufacturer: token.manufacturer,
            model: token.model,
        }),
        log_signing_key: Some(log_signing.to_proto()),
        issuing_key: Some(issuing.to_proto()),
        issuing_certificate,
        implicit_rejection_key: Some(rejection.to_proto()),
    }
}

fn report(
    config: &Config,
    authority: &Authorized<Initialise>,
    activated: &[v1::KekVersionActivated],
) -> InitReport {
    let Initialise {
        genesis,
        signers,
        genesis_sha256,
        ..
    } = authority.operation();
    InitReport {
        instance_id: *genesis_sha256,
        instance_name: genesis.instance().to_owned(),
        signers: signers.clone(),
        keks: activated
            .iter()
            .map(|version| {
                let id = crate::types::KeypairId::try_from(version.keypair_id.as_slice());
                (
                    version.kek.clone(),
                    id.map(|id| id.to_string()).unwrap_or_default(),
                )
            })
            .collect(),
        state_dir: config.state_dir.clone(),
    }
}
