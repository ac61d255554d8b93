//! Opening a node: everything that must agree before the first request is served. It only opens; it
//! creates, adopts and repairs nothing. Each disagreement has its own message: what was expected, what
//! was found, what to do.

use std::collections::HashSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::time::sleep;
use tracing::{error, info, warn};

use super::holdings::{Holdings, Ties, in_token, orphans, remains, strangers};
use super::inspect::{InspectError, Seen, inspect};
use super::proofs::{Proofs, parse_profile};
use super::prover::prove_first;
use super::stop::Switch;
use super::vigil::Findings;
use super::{Node, label};
use crate::audit::{self, AuditError, Journal, Mismatch};
use crate::clock::Clock;
use crate::config::Config;
use crate::hsm::profile::ProfileError;
use crate::hsm::{Capabilities, Fleet, Hsm, HsmError, KeyRef, Token};
use crate::ledger::{Ledger, LedgerError, State, TokenIdentity};
use crate::merkle::{Head, LogKey};
use crate::stops::{Stops, StopsError};
use crate::types::{Padding, RequestId, Sha256};

/// Looks at a start for what ties the token to this instance, and the pause between two.
const LOOKS_MAX: u32 = 4;
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// Why a node does not open.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The ledger cannot be opened or does not prove itself.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// The audit log cannot be opened.
    #[error(transparent)]
    Audit(#[from] AuditError),
    /// What is stopped cannot be read or written down.
    #[error(transparent)]
    Stops(#[from] StopsError),
    /// The token cannot be opened or asked.
    #[error(transparent)]
    Hsm(#[from] HsmError),
    /// A key is not what the ledger says.
    #[error(transparent)]
    Inspect(#[from] InspectError),
    /// A key of the ledger is not in the token.
    #[error(
        "the token holds no key '{label}' (CKA_ID {object_id}), which the ledger says exists. Nothing \
         was changed. Restore the token from its backup; kekd never makes a key in its place"
    )]
    KeyMissing {
        /// The key's label.
        label: String,
        /// Its CKA_ID as a UUID.
        object_id: String,
    },
    /// More than one key answers to the name of one.
    #[error(
        "the token holds {count} keys that look like '{label}' (same CKA_ID or same label). All but \
         one were planted or copied; find out by whom, and remove them with the HSM's own tools"
    )]
    Lookalike {
        /// The key's label.
        label: String,
        /// How many there are.
        count: usize,
    },
    /// The one key found has another public key.
    #[error(
        "the token's key '{label}' has a public key with the SHA-256 {found}, and the ledger says \
         {expected}: it was replaced. Restore the token from its backup"
    )]
    OtherKey {
        /// The key's label.
        label: String,
        /// What the ledger says.
        expected: Sha256,
        /// What the token holds.
        found: Sha256,
    },
    /// The token lost an ability that a version needs.
    #[error(
        "the token cannot do {padding}, which '{label}' unwraps according to the ledger. Was the \
         PKCS#11 module changed (hsm.module)?"
    )]
    Incapable {
        /// The key's label.
        label: String,
        /// The padding.
        padding: Padding,
    },
    /// A profile in the ledger does not parse.
    #[error(
        "this kekd cannot read the profile of '{label}' in the ledger; use the kekd that wrote it"
    )]
    Profile {
        /// The key's label.
        label: String,
        /// Why.
        #[source]
        source: ProfileError,
    },
}

impl OpenError {
    /// Whether an object that ties the token to this instance is not there.
    fn is_absence(&self) -> bool {
        let of_ledger = matches!(
            self,
            Self::Ledger(LedgerError::ObjectCount { found: 0, .. })
        );
        let none = Mismatch::AnchorCount { found: 0 };
        of_ledger
            || matches!(self, Self::Audit(AuditError::Mismatch { mismatch, .. }) if *mismatch == none)
    }
}

/// Opens the node that `config` describes, through handles on its tokens that were just started. It
/// waits for the primary alone: a replica that does not open is told of, and serves when it does.
pub async fn open(config: &Config, fleet: Arc<Fleet>, clock: Clock) -> Result<Node, OpenError> {
    let hsm = fleet.primary().clone();
    let ledger = Ledger::open(&config.state_dir)?;
    let state = Arc::clone(ledger.state());
    info!(entries = state.size(), instance = %state.instance_id(), "the ledger verifies");
    let stops = Arc::new(Stops::open(&config.state_dir)?);
    let journal = Journal::open(
        &config.state_dir,
        &state.instance_id(),
        config.node.clone(),
        config.audit.clone(),
        clock,
    )?;

    state.require_token(&identity_of(hsm.opened().await?))?;
    let capabilities = hsm.probe().await?;
    info!(capabilities = ?capabilities.names(), "the token was probed");
    let ledger_reader = ledger.reader()?;
    let ledger = Arc::new(Mutex::new(ledger));
    let (anchored, judged) = tie(&hsm, &ledger, &journal, state.log_key()).await?;
    record_loss(&journal, &judged).await?;

    let objects = hsm.inventory().await?;
    let holdings = Holdings::new(&objects);
    for (key, label) in state.instance_keys().into_iter().zip(label::OF_INSTANCE) {
        let profile = parse_profile(label, &key.profile)?;
        let key = KeyRef::from(key);
        holdings.check(&key, label)?;
        inspect(&hsm, &key, label, &profile, Seen::InInventory).await?;
    }
    check_versions(&holdings, &capabilities, &state)?;
    let (sessions, at_start) = (config.hsm.sessions, config.hsm.proven_at_start);
    let proofs = Proofs::new(hsm.clone(), sessions);
    prove_first(&hsm, &proofs, &state, at_start, sessions).await?;
    let (proven, versions) = proofs.count(&state);
    info!(
        versions,
        proven, "every key is there, once; what is not proven yet is before its first use"
    );
    let found = Findings {
        strangers: strangers(&objects, &state),
        orphans: orphans(&objects, &state),
        remains: remains(&objects, state.keyring()),
        ..Findings::default()
    };
    for problem in found.problems() {
        warn!("{problem}");
    }
    let switch = Switch::begin(stops)?;
    Ok(Node::new(
        config,
        judged.anchored,
        ledger,
        ledger_reader,
        capabilities,
        fleet,
        proofs,
        journal,
        switch,
        clock,
        found,
        anchored.map(|head| head.size),
    ))
}

/// Whether the token is tied to this ledger and this audit log. A start may follow a kill: the worker
/// of the daemon that is gone, or the token itself, may still be putting a new anchor in the place of
/// the last. So where nothing is found it looks again before it refuses.
async fn tie(
    hsm: &Hsm,
    ledger: &Mutex<Ledger>,
    journal: &Journal,
    key: &LogKey,
) -> Result<(Option<Head>, audit::Judged), OpenError> {
    let mut looks = 1;
    loop {
        let ties = Ties::read(hsm).await?;
        let judged = ties.judge(ledger).and_then(|anchored| {
            let judged = journal.judge(key, &ties.audit_anchors)?;
            Ok((anchored, judged))
        });
        match judged {
            Err(why) if why.is_absence() && looks < LOOKS_MAX => {
                warn!(%why, "the token is looked at again");
                sleep(LOOK_AGAIN).await;
                looks += 1;
            }
            judged => return judged,
        }
    }
}

/// A loss that the host's administrator accepted is the first thing the log says after it.
async fn record_loss(journal: &Journal, judged: &audit::Judged) -> Result<(), AuditError> {
    let Some(lost) = judged.lost else {
        return Ok(());
    };
    let from = journal.head().size;
    error!(
        from,
        until = lost.size,
        "audit records are lost; the host accepted it"
    );
    let Ok(request_id) = RequestId::random() else {
        return Err(AuditError::Closed);
    };
    let draft = audit::Draft {
        outcome: audit::Outcome::RecordsLost,
        reason: "RECORDS_LOST",
        lost_until: lost.size,
        ..audit::Draft::new("host".to_owned(), request_id)
    };
    journal.record(draft).await.map(drop)
}

fn identity_of(token: Token) -> TokenIdentity {
    TokenIdentity {
        label: token.label,
        serial: token.serial,
        manufacturer: token.manufacturer,
        model: token.model,
    }
}

/// What can be said of every version before anybody looks at its key.
fn check_versions(
    holdings: &Holdings<'_>,
    capabilities: &Capabilities,
    state: &State,
) -> Result<(), OpenError> {
    let able = capabilities.paddings();
    // Few profiles stand for many versions.
    let mut readable = HashSet::new();
    for version in in_token(state) {
        let label = label::of(version);
        let mut shown = version.paddings_shown.iter();
        if let Some(padding) = shown.find(|padding| !able.contains(padding)) {
            return Err(OpenError::Incapable {
                label,
                padding: *padding,
            });
        }
        if !readable.contains(&version.profile) {
            parse_profile(&label, &version.profile)?;
            readable.insert(&version.profile);
        }
        holdings.check(&KeyRef::from(&**version), &label)?;
    }
    Ok(())
}
