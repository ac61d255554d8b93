//! What the entries add up to. A state is made by [`State::begin`] from entry 0 and by
//! [`State::advance`] from each further one; both judge the entry whole before they take it in, so
//! that a state never holds half of one. Nothing else builds or changes a state.

use std::fmt;

use super::entry::{ENTRY_LEN_MAX, Event, StoredEntry};
use super::error::{EntryError, LedgerError};
use super::keys;
use crate::access::Clients;
use crate::clock::UnixMs;
use crate::keyring::{Keyring, Version};
use crate::merkle::{Checkpoint, Frontier, Head, LogKey, MerkleError};
use crate::proto::v1;
use crate::quorum::{Genesis, Governance};
use crate::types::{KeypairId, Sha256};

/// What names a token (`CK_TOKEN_INFO`, PKCS#11 v2.40 section 3.2), without the padding spaces.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenIdentity {
    /// Its label.
    pub label: String,
    /// Its serial number.
    pub serial: String,
    /// Its maker.
    pub manufacturer: String,
    /// Its model.
    pub model: String,
}

impl fmt::Display for TokenIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:?} with serial number {:?} ({} {})",
            self.label, self.serial, self.manufacturer, self.model
        )
    }
}

/// A key of the instance itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InstanceKey {
    /// `CKA_ID` of its objects.
    pub object_id: KeypairId,
    /// DER `SubjectPublicKeyInfo`; empty for a secret key.
    pub spki: Vec<u8>,
    /// The profile it was made to, byte for byte (TOML).
    pub profile: Vec<u8>,
}

/// The instance as the ledger tells it.
#[derive(Debug, Clone)]
pub struct State {
    instance_id: Sha256,
    genesis: Genesis,
    token: TokenIdentity,
    log_signing_key: InstanceKey,
    log_key: LogKey,
    issuing_key: InstanceKey,
    issuing_certificate: Vec<u8>,
    implicit_rejection_key: InstanceKey,
    pub(super) keyring: Keyring,
    pub(super) clients: Clients,
    pub(super) governance: Governance,
    tree: Frontier,
    /// The root over the first n + 1 entries, at n.
    pub(super) roots: Vec<Sha256>,
    latest: UnixMs,
}

impl State {
    /// The state after entry 0. The officers' signatures are verified again.
    pub(super) fn begin(stored: &StoredEntry) -> Result<Self, EntryError> {
        within_limit(stored)?;
        let entry = stored.entry();
        let event = match &entry.event {
            Some(Event::InstanceCreated(event)) => event,
            Some(other) => {
                return Err(EntryError::EventOutOfPlace {
                    expected: "the birth of the instance as entry 0",
                    found: name(other),
                });
            }
            None => return Err(EntryError::EventUnknown),
        };
        index_is(entry, 0)?;
        if !entry.instance_id.is_empty() {
            return Err(EntryError::InstanceWrong {
                expected: "that entry 0 itself makes, so none in it".to_owned(),
            });
        }
        let genesis = Genesis::parse(&event.genesis)?;
        genesis.authorize(&event.signatures)?;
        let issuing_key = keys::p256_key("issuing_key", event.issuing_key.as_ref())?;
        let certificate = &event.issuing_certificate;
        keys::certificate_of("issuing_certificate", certificate, &issuing_key.spki)?;
        let log_signing_key = keys::p256_key("log_signing_key", event.log_signing_key.as_ref())?;
        let log_key = LogKey::from_spki(&log_signing_key.spki);
        let secret = event.implicit_rejection_key.as_ref();
        let instance_id = Sha256::of(stored.bytes());
        let mut state = Self {
            instance_id,
            governance: Governance::begin(instance_id, &genesis),
            clients: genesis.clients().clone(),
            roots: Vec::new(),
            genesis,
            token: token(event.token.as_ref())?,
            log_key: log_key.map_err(|_| EntryError::FieldRefused {
                field: "log_signing_key",
                rule: "a P-256 key",
            })?,
            log_signing_key,
            issuing_key,
            issuing_certificate: certificate.clone(),
            implicit_rejection_key: keys::secret_key("implicit_rejection_key", secret)?,
            keyring: Keyring::default(),
            tree: Frontier::default(),
            latest: UnixMs(entry.time_ms),
        };
        let [log, issuing, secret] = state.instance_keys();
        // One key for two purposes would let a checkpoint pass for a certificate.
        if log.object_id == issuing.object_id || log.spki == issuing.spki {
            return Err(EntryError::KeyTwice(issuing.object_id));
        }
        if [log.object_id, issuing.object_id].contains(&secret.object_id) {
            return Err(EntryError::KeyTwice(secret.object_id));
        }
        state.push(stored);
        Ok(state)
    }

    /// The state after one more entry. The old state is gone either way: clone it to keep it.
    pub(super) fn advance(mut self, stored: &StoredEntry) -> Result<Self, EntryError> {
        within_limit(stored)?;
        let entry = stored.entry();
        index_is(entry, self.tree.size())?;
        if entry.instance_id != self.instance_id.as_bytes() {
            return Err(EntryError::InstanceWrong {
                expected: self.instance_id.to_string(),
            });
        }
        if entry.time_ms < self.latest.0 {
            return Err(EntryError::TimeBackwards {
                expected_ms: self.latest.0,
                found_ms: entry.time_ms,
            });
        }
        match &entry.event {
            Some(other @ Event::InstanceCreated(_)) => {
                return Err(EntryError::EventOutOfPlace {
                    expected: "anything but a second birth",
                    found: name(other),
                });
            }
            Some(event) => self.apply(event, UnixMs(entry.time_ms))?,
            None => return Err(EntryError::EventUnknown),
        }
        self.latest = UnixMs(entry.time_ms);
        self.push(stored);
        Ok(self)
    }

    fn push(&mut self, stored: &StoredEntry) {
        self.tree.push(stored.leaf());
        self.roots.push(self.tree.head().root);
    }

    /// Whether neither the id nor the key itself is known already.
    pub(super) fn is_new_key(&self, version: &Version) -> Result<(), EntryError> {
        let id = version.keypair_id;
        if self.instance_keys().iter().any(|key| key.object_id == id)
            || self.keyring.knows(&version.spki_sha256)
        {
            return Err(EntryError::KeyTwice(id));
        }
        Ok(())
    }

    /// Whether the officers signed for this KEK and this profile in the genesis. Only a first version
    /// can stand on that.
    pub(super) fn was_signed_for(&self, version: &Version) -> Result<(), EntryError> {
        let Some(signed) = self.genesis.kek(&version.kek) else {
            return Err(EntryError::KekNotInGenesis(version.kek.clone()));
        };
        let differs = |expected: String, found: String| {
            Err(EntryError::ProfileNotAsSigned {
                kek: version.kek.clone(),
                expected,
                found,
            })
        };
        if version.number != 1 {
            return differs(
                "a proposal that asks for it".to_owned(),
                format!("version {} without one", version.number),
            );
        }
        if version.profile_name != signed.profile {
            return differs(
                format!("the profile {:?}", signed.profile),
                format!("{:?}", version.profile_name),
            );
        }
        let found = Sha256::of(&version.profile);
        match signed.profile_sha256 {
            Some(expected) if expected != found => differs(
                format!("the profile with SHA-256 {expected}"),
                found.to_string(),
            ),
            Some(_) | None => Ok(()),
        }
    }

    /// What the head of the ledger says of itself, to be signed.
    pub(super) fn checkpoint(&self) -> Result<Checkpoint, MerkleError> {
        Checkpoint::new(&self.origin(), self.head())
    }

    /// The key that signs checkpoints, ready to verify.
    pub const fn log_key(&self) -> &LogKey {
        &self.log_key
    }

    /// Time of the newest entry.
    pub const fn latest(&self) -> UnixMs {
        self.latest
    }

    /// The id of the instance: SHA-256 over entry 0.
    pub const fn instance_id(&self) -> Sha256 {
        self.instance_id
    }

    /// The name of the instance, from its genesis.
    pub fn instance_name(&self) -> &str {
        self.genesis.instance()
    }

    /// The origin of the ledger's checkpoints: `kekd/ledger/` and the instance id in hexadecimal.
    pub fn origin(&self) -> String {
        format!("kekd/ledger/{}", self.instance_id)
    }

    /// The genesis document the officers signed.
    pub const fn genesis(&self) -> &Genesis {
        &self.genesis
    }

    /// All KEKs and their versions.
    pub const fn keyring(&self) -> &Keyring {
        &self.keyring
    }

    /// Who may call, with roles and grants.
    pub const fn clients(&self) -> &Clients {
        &self.clients
    }

    /// How the instance is governed.
    pub const fn governance(&self) -> &Governance {
        &self.governance
    }

    /// The token everything was made in.
    pub const fn token(&self) -> &TokenIdentity {
        &self.token
    }

    /// Whether this is the token everything was made in.
    pub fn require_token(&self, found: &TokenIdentity) -> Result<(), LedgerError> {
        if self.token == *found {
            return Ok(());
        }
        Err(LedgerError::TokenWrong {
            expected: Box::new(self.token.clone()),
            found: Box::new(found.clone()),
        })
    }

    /// The P-256 key that signs checkpoints of the ledger and the audit log.
    pub const fn log_signing_key(&self) -> &InstanceKey {
        &self.log_signing_key
    }

    /// The P-256 key that issues certificates of KEK versions.
    pub const fn issuing_key(&self) -> &InstanceKey {
        &self.issuing_key
    }

    /// DER certificate of the issuing key.
    pub fn issuing_certificate(&self) -> &[u8] {
        &self.issuing_certificate
    }

    /// The secret key behind PKCS#1 v1.5 implicit rejection.
    pub const fn implicit_rejection_key(&self) -> &InstanceKey {
        &self.implicit_rejection_key
    }

    /// The three keys of the instance itself.
    pub const fn instance_keys(&self) -> [&InstanceKey; 3] {
        [
            &self.log_signing_key,
            &self.issuing_key,
            &self.implicit_rejection_key,
        ]
    }

    /// Number of entries and the root over them.
    pub fn head(&self) -> Head {
        self.tree.head()
    }

    /// Number of entries.
    pub const fn size(&self) -> u64 {
        self.tree.size()
    }

    /// The root over all entries (RFC 6962 section 2.1).
    pub fn root(&self) -> Sha256 {
        self.head().root
    }
}

fn token(found: Option<&v1::TokenIdentity>) -> Result<TokenIdentity, EntryError> {
    match found {
        Some(token) if !token.label.is_empty() && !token.serial.is_empty() => Ok(TokenIdentity {
            label: token.label.clone(),
            serial: token.serial.clone(),
            manufacturer: token.manufacturer.clone(),
            model: token.model.clone(),
        }),
        Some(_) | None => Err(EntryError::FieldRefused {
            field: "token",
            rule: "a token with label and serial number",
        }),
    }
}

fn within_limit(stored: &StoredEntry) -> Result<(), EntryError> {
    let found_len = stored.bytes().len();
    if found_len > ENTRY_LEN_MAX {
        return Err(EntryError::TooLong { found_len });
    }
    Ok(())
}

const fn index_is(entry: &v1::Entry, expected: u64) -> Result<(), EntryError> {
    if entry.index == expected {
        return Ok(());
    }
    Err(EntryError::IndexWrong {
        expected,
        found: entry.index,
    })
}

const fn name(event: &Event) -> &'static str {
    match event {
        Event::InstanceCreated(_) => "the birth of an instance",
        Event::KekVersionActivated(_) => "a KEK version",
        Event::ProposalOpened(_) => "a proposal",
        Event::ApprovalGiven(_) => "an approval",
        Event::PossessionProven(_) => "a proof of possession",
        Event::ProposalVetoed(_) => "a veto",
        Event::OperationExecuted(_) | Event::ExecutionBegun(_) => "an execution",
        Event::MandatedRotationBegun(_) => "a rotation under a mandate",
        Event::ExecutionFailed(_) => "an execution without effect",
        Event::VersionDestroyed(_) => "the end of a key",
        Event::Suspended(_) | Event::SuspendedByHost(_) => "a stop",
        Event::ProposalExpired(_) => "the end of a proposal",
    }
}
