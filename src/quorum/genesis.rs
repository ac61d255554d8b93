//! The genesis document: what the officers of an instance sign before anything exists. It names
//! them, the policy, the issuer of certificates, the first KEKs and who may call. It is kept as the
//! exact bytes that were signed; nothing here writes one. Its rules are in `rules`.

use std::time::Duration;

use serde::Deserialize;

use super::authorized::{Authorized, Initialise};
use super::document::Document;
use super::officer::{KeyError, Officer};
use super::policy::{Policy, PolicyError};
use super::rules;
use super::sshsig::{self, SignatureError};
use crate::access::{AccessError, Clients};
use crate::types::{KekName, Sha256, TypeError};

/// Longest genesis document accepted, in bytes.
pub const GENESIS_LEN_MAX: usize = 256 * 1024;
/// The SSHSIG namespace of signatures over a genesis document.
pub const GENESIS_NAMESPACE: &str = "genesis@kekd";
/// The value of `format`.
pub(super) const FORMAT: &str = "kekd-genesis-v1";

/// What is wrong with a genesis document or the signatures over it. The officers mend it; nothing
/// was made.
#[derive(Debug, thiserror::Error)]
pub enum GenesisError {
    /// Too long to be one.
    #[error("expected a genesis document of at most 262144 bytes; found {found_len}")]
    TooLong {
        /// The length found.
        found_len: usize,
    },
    /// Not TOML, or not these keys.
    #[error("the genesis document is not as docs/formats.md says: {0}")]
    Malformed(#[from] toml::de::Error),
    /// Not UTF-8.
    #[error("the genesis document is not UTF-8 text")]
    NotText(#[from] std::str::Utf8Error),
    /// Another format, perhaps of a newer kekd.
    #[error(
        "expected a genesis document of the format {FORMAT}; found {found:?}: use the kekd it was \
         written for"
    )]
    FormatUnknown {
        /// The format found.
        found: String,
    },
    /// A value that breaks its own rule.
    #[error("{place}: expected {rule}; found {found}")]
    ValueRefused {
        /// The key at fault, for example `kek "recordings" profile`.
        place: String,
        /// What was expected.
        rule: &'static str,
        /// What was found.
        found: String,
    },
    /// A name that parses as nothing kekd knows.
    #[error("{place}: {source}; found {found:?}")]
    NameRefused {
        /// The key at fault.
        place: String,
        /// What was found.
        found: String,
        /// The rule.
        source: TypeError,
    },
    /// A key that cannot be an officer's.
    #[error("officer {officer:?}: {source}")]
    KeyRefused {
        /// The officer.
        officer: String,
        /// The rule.
        source: KeyError,
    },
    /// One key under two names.
    #[error("the officers {first:?} and {second:?} have one key: give each officer a key")]
    KeyTwice {
        /// Who comes first.
        first: String,
        /// Who comes second.
        second: String,
    },
    /// Something that must be there once is there twice.
    #[error("{what} {name:?} is there twice: name each once")]
    Twice {
        /// What it is.
        what: &'static str,
        /// Its name.
        name: String,
    },
    /// One identity in two roles.
    #[error("a client is refused: {0}")]
    ClientRefused(#[from] AccessError),
    /// A grant for a KEK that does not exist, or to somebody who cannot use it.
    #[error("client {client:?} holds a grant for {kek:?}: expected {rule}")]
    GrantRefused {
        /// The client.
        client: String,
        /// The KEK.
        kek: String,
        /// What was expected.
        rule: &'static str,
    },
    /// A policy under which one person could act alone, or nobody could.
    #[error("policy: {0}")]
    PolicyRefused(#[from] PolicyError),
    /// A signature that is not accepted.
    #[error("signature {number}: {source}")]
    SignatureRefused {
        /// Which one, from 1, in the order given.
        number: usize,
        /// Why.
        source: SignatureError,
    },
    /// An officer who signed twice.
    #[error("signature {number}: {officer} has signed already: give one signature of each officer")]
    SignedTwice {
        /// Which one, from 1, in the order given.
        number: usize,
        /// The officer.
        officer: String,
    },
    /// More signatures than there are officers.
    #[error("expected at most one signature of each of the {officers} officers; found {found}")]
    TooManySignatures {
        /// Number of officers.
        officers: usize,
        /// Number of signatures.
        found: usize,
    },
    /// Too few officers signed.
    #[error("expected signatures of {threshold} officers; found those of {found}: {}", .signers.join(", "))]
    BelowThreshold {
        /// How many must sign.
        threshold: usize,
        /// How many did.
        found: usize,
        /// Who did.
        signers: Vec<String>,
    },
}

/// Who puts new officers in place when those in office no longer can.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recovery {
    /// The recovery set: 2 to 32 people with keys that are no officer's. Their role means nothing.
    pub officers: Vec<Officer>,
    /// How many of them must approve: 2 to 31, and no more than there are.
    pub threshold: usize,
    /// Between the threshold being met and the first moment of execution, whole seconds.
    pub time_lock: Duration,
}

/// The key that issues the certificates of KEKs.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Issuer {
    /// Subject of its certificate (RFC 4514).
    pub subject: String,
    /// Validity of its certificate in days, 1 to 36500.
    pub valid_days: u32,
}

/// A KEK that is made when the instance is born.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GenesisKek {
    /// Its name.
    pub name: KekName,
    /// The name of its key profile: 1 to 63 of a-z, 0-9 and inner hyphens.
    pub profile: String,
    /// SHA-256 over the profile's bytes, where the officers pinned them.
    pub profile_sha256: Option<Sha256>,
    /// Subject of its certificate (RFC 4514).
    pub certificate_subject: String,
    /// Validity of its certificate in days, 1 to 36500.
    pub certificate_valid_days: u32,
}

/// A genesis document that keeps every rule. Not yet signed by anybody: see [`Genesis::authorize`].
#[derive(Debug, Clone)]
pub struct Genesis {
    bytes: Vec<u8>,
    instance: String,
    threshold: usize,
    policy: Policy,
    recovery: Option<Recovery>,
    issuer: Issuer,
    officers: Vec<Officer>,
    clients: Clients,
    keks: Vec<GenesisKek>,
}

impl Genesis {
    /// Reads a document (TOML, UTF-8) and holds it against every rule.
    pub fn parse(bytes: &[u8]) -> Result<Self, GenesisError> {
        if bytes.len() > GENESIS_LEN_MAX {
            return Err(GenesisError::TooLong {
                found_len: bytes.len(),
            });
        }
        let document = Document::parse(str::from_utf8(bytes)?)?;
        let genesis = Self {
            bytes: bytes.to_vec(),
            officers: document.officers()?,
            keks: document.keks()?,
            clients: document.clients()?,
            threshold: document.policy.threshold,
            policy: document.policy()?,
            recovery: document.recovery()?,
            instance: document.instance,
            issuer: document.issuer,
        };
        rules::names_are_names(&genesis, document.client.iter().map(|c| c.name.as_str()))?;
        rules::quorum_is_reachable_and_not_one_person(&genesis)?;
        rules::officers_have_keys_of_their_own(&genesis)?;
        rules::recovery_is_reachable(&genesis)?;
        genesis.policy.check(&genesis.officers, false)?;
        genesis.policy.check_recovery(genesis.recovery())?;
        rules::certificates_can_be_issued(&genesis)?;
        for client in &document.client {
            rules::grants_are_for_known_keks(&genesis, &client.name, client.role, &client.keks)?;
        }
        Ok(genesis)
    }

    /// The proof that the officers agreed: signatures (armored SSHSIG, namespace
    /// [`GENESIS_NAMESPACE`]) over the exact bytes of the document, by at least as many distinct
    /// officers as the policy asks. Anything that is not such a signature refuses them all.
    pub fn authorize(
        &self,
        signatures: &[Vec<u8>],
    ) -> Result<Authorized<Initialise>, GenesisError> {
        if signatures.len() > self.officers.len() {
            return Err(GenesisError::TooManySignatures {
                officers: self.officers.len(),
                found: signatures.len(),
            });
        }
        let mut signers: Vec<String> = Vec::new();
        for (number, signature) in (1..).zip(signatures) {
            let officer = sshsig::signer(&self.officers, GENESIS_NAMESPACE, &self.bytes, signature)
                .map_err(|source| GenesisError::SignatureRefused { number, source })?;
            if signers.contains(&officer.name) {
                return Err(GenesisError::SignedTwice {
                    number,
                    officer: officer.name.clone(),
                });
            }
            signers.push(officer.name.clone());
        }
        if signers.len() < self.threshold {
            return Err(GenesisError::BelowThreshold {
                threshold: self.threshold,
                found: signers.len(),
                signers,
            });
        }
        Ok(Authorized::new(Initialise {
            genesis: self.clone(),
            genesis_sha256: self.sha256(),
            signatures: signatures.to_vec(),
            signers,
        }))
    }

    /// The document, byte for byte.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// SHA-256 over the document.
    pub fn sha256(&self) -> Sha256 {
        Sha256::of(&self.bytes)
    }

    /// The name of the instance: 1 to 63 printable ASCII characters.
    pub fn instance(&self) -> &str {
        &self.instance
    }

    /// How many officers must sign the document; the threshold of every rule that names no other.
    pub const fn threshold(&self) -> usize {
        self.threshold
    }

    /// How the instance is governed from its birth on. Its rule for `recover` is that of
    /// [`Genesis::recovery`]; without a recovery set it does not allow it.
    pub const fn policy(&self) -> &Policy {
        &self.policy
    }

    /// The recovery set, where there is one.
    pub const fn recovery(&self) -> Option<&Recovery> {
        self.recovery.as_ref()
    }

    /// The key that issues the certificates of KEKs.
    pub const fn issuer(&self) -> &Issuer {
        &self.issuer
    }

    /// The officers, in the order of the document.
    pub fn officers(&self) -> &[Officer] {
        &self.officers
    }

    /// Who may call, with roles and grants.
    pub const fn clients(&self) -> &Clients {
        &self.clients
    }

    /// The first KEKs, in the order of the document.
    pub fn keks(&self) -> &[GenesisKek] {
        &self.keks
    }

    /// The first KEK of this name.
    pub fn kek(&self, name: &KekName) -> Option<&GenesisKek> {
        self.keks.iter().find(|kek| kek.name == *name)
    }
}

#[cfg(test)]
mod tests;
