//! The operations that officers decide on: a closed set. What each is called, who approves it and
//! what is checked of it alone is here; how it is written is in `operation_text`, whether it fits the
//! instance as it stands is `governance`'s concern.

use super::officer::{Officer, OfficerRole};
use super::policy::Policy;
use super::proposal::ProposalId;
use crate::access::{Identity, Role};
use crate::clock::UnixMs;
use crate::types::{KekName, KeypairId, Sha256};

/// Longest reason of a revocation, in characters.
pub(super) const REASON_LEN_MAX: usize = 200;
/// Longest name of a queue or tag, in characters.
pub(super) const RECORDING_KEY_LEN_MAX: usize = 128;
/// Most days that a version can be asked to have been out of use for.
pub(super) const UNUSED_DAYS_MAX: u32 = 3650;
/// Most announcements of one rotation.
pub(super) const WARNINGS_MAX: usize = 8;

/// What a new version is made to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewVersion {
    /// The KEK it is of.
    pub kek: KekName,
    /// The name of its key profile.
    pub profile: String,
    /// SHA-256 over the profile's bytes (TOML).
    pub profile_sha256: Sha256,
    /// Subject of its certificate (RFC 4514).
    pub certificate_subject: String,
    /// Validity of its certificate in days, 1 to 36500.
    pub certificate_valid_days: u32,
}

/// One KEK, or all.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Target {
    /// Every KEK, those to come included.
    All,
    /// This one.
    Kek(KekName),
}

/// What the audit log says of a version's use when its destruction is proposed. The proposer states
/// it; officers see it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Usage {
    /// DEKs released.
    pub unwraps: u64,
    /// The first release.
    pub first: Option<UnixMs>,
    /// The latest.
    pub last: Option<UnixMs>,
}

/// A standing approval of rotations on schedule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mandate {
    /// What each new version is made to.
    pub version: NewVersion,
    /// Days from one version to the next, 1 to 3650.
    pub period_days: u32,
    /// Days that must lie between two versions whatever happens, 1 to `period_days`.
    pub interval_days_min: u32,
    /// The end of the mandate.
    pub until: UnixMs,
    /// Days before a rotation at which it is announced, 1 to 3650, descending, at most 8.
    pub warn_days: Vec<u32>,
}

/// A change that takes a quorum.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Operation {
    /// Make a KEK with its first version.
    CreateKek(NewVersion),
    /// Make a new version of a KEK; the one that is active unwraps old DEKs only from then on.
    RotateKek {
        /// The new version.
        version: NewVersion,
        /// The active version it follows; none where that was revoked.
        retires: Option<KeypairId>,
    },
    /// Rotate on schedule without new signatures.
    SetRotationMandate(Mandate),
    /// End that.
    WithdrawRotationMandate {
        /// The KEK.
        kek: KekName,
    },
    /// Lift every stop of one KEK, or the stop of all.
    Reinstate(Target),
    /// Stop a version for good.
    RevokeVersion {
        /// The version.
        keypair_id: KeypairId,
        /// Why: one line of 1 to 200 printable ASCII characters.
        reason: String,
    },
    /// Destroy the private key of a version.
    DestroyVersion {
        /// The version.
        keypair_id: KeypairId,
        /// Days it must not have been used for, at the moment of destruction, 0 to 3650.
        unused_days: u32,
        /// What it was used for until now.
        usage: Usage,
    },
    /// Close a proposal to destroy a version; the version is as it was before.
    CancelDestruction {
        /// The proposal.
        proposal: ProposalId,
    },
    /// Bring in an RSA private key from outside as a new KEK.
    ImportKek {
        /// What it becomes. Its profile must be one for imported keys.
        version: NewVersion,
        /// SHA-256 over the DER `SubjectPublicKeyInfo` of the key.
        spki_sha256: Sha256,
    },
    /// Unwrap PKCS#1 v1.5 under a KEK, as far as the profiles of its versions allow it.
    AllowPkcs1V15 {
        /// The KEK.
        kek: KekName,
    },
    /// Unwrap no PKCS#1 v1.5 under a KEK.
    ForbidPkcs1V15 {
        /// The KEK.
        kek: KekName,
    },
    /// Let a client unwrap under a KEK. A client the ledger does not name becomes an unwrap client.
    GrantUnwrap {
        /// The client.
        identity: Identity,
        /// The KEK.
        kek: KekName,
    },
    /// Take that back.
    WithdrawUnwrap {
        /// The client.
        identity: Identity,
        /// The KEK.
        kek: KekName,
    },
    /// Name a client for a role that does not unwrap, or an unwrap client without grants.
    AssignRole {
        /// The client: one the ledger does not name yet.
        identity: Identity,
        /// The role.
        role: Role,
    },
    /// Name a client no more.
    RemoveClient {
        /// The client.
        identity: Identity,
    },
    /// Say which KEK the recordings of a queue or tag are wrapped under.
    BindRecordingPolicy {
        /// The queue or tag: 1 to 128 printable ASCII characters without spaces.
        key: String,
        /// The KEK.
        kek: KekName,
        /// The KEK to use while the first has no active version.
        fallback: Option<KekName>,
    },
    /// Take that back.
    UnbindRecordingPolicy {
        /// The queue or tag.
        key: String,
    },
    /// Replace all officers. Starts a new epoch.
    ChangeOfficers {
        /// All officers from then on.
        officers: Vec<Officer>,
    },
    /// Replace the policy. Starts a new epoch.
    ChangePolicy(Policy),
    /// Replace all officers by decision of the recovery set. Starts a new epoch.
    Recover {
        /// All officers from then on.
        officers: Vec<Officer>,
    },
}

/// The kind of an operation: what a policy has a rule for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(missing_docs, reason = "each is documented where the operation is")]
pub enum OperationKind {
    CreateKek,
    RotateKek,
    SetRotationMandate,
    WithdrawRotationMandate,
    Reinstate,
    RevokeVersion,
    DestroyVersion,
    CancelDestruction,
    ImportKek,
    AllowPkcs1V15,
    ForbidPkcs1V15,
    GrantUnwrap,
    WithdrawUnwrap,
    AssignRole,
    RemoveClient,
    BindRecordingPolicy,
    UnbindRecordingPolicy,
    ChangeOfficers,
    ChangePolicy,
    Recover,
}

impl OperationKind {
    /// All kinds, in the order in which a policy lists them.
    pub const ALL: [Self; 20] = [
        Self::CreateKek,
        Self::RotateKek,
        Self::SetRotationMandate,
        Self::WithdrawRotationMandate,
        Self::Reinstate,
        Self::RevokeVersion,
        Self::DestroyVersion,
        Self::CancelDestruction,
        Self::ImportKek,
        Self::AllowPkcs1V15,
        Self::ForbidPkcs1V15,
        Self::GrantUnwrap,
        Self::WithdrawUnwrap,
        Self::AssignRole,
        Self::RemoveClient,
        Self::BindRecordingPolicy,
        Self::UnbindRecordingPolicy,
        Self::ChangeOfficers,
        Self::ChangePolicy,
        Self::Recover,
    ];

    /// The name used in statements, policies and on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::CreateKek => "create-kek",
            Self::RotateKek => "rotate-kek",
            Self::SetRotationMandate => "set-rotation-mandate",
            Self::WithdrawRotationMandate => "withdraw-rotation-mandate",
            Self::Reinstate => "reinstate",
            Self::RevokeVersion => "revoke-version",
            Self::DestroyVersion => "destroy-version",
            Self::CancelDestruction => "cancel-destruction",
            Self::ImportKek => "import-kek",
            Self::AllowPkcs1V15 => "allow-pkcs1v15",
            Self::ForbidPkcs1V15 => "forbid-pkcs1v15",
            Self::GrantUnwrap => "grant-unwrap",
            Self::WithdrawUnwrap => "withdraw-unwrap",
            Self::AssignRole => "assign-role",
            Self::RemoveClient => "remove-client",
            Self::BindRecordingPolicy => "bind-recording-policy",
            Self::UnbindRecordingPolicy => "unbind-recording-policy",
            Self::ChangeOfficers => "change-officers",
            Self::ChangePolicy => "change-policy",
            Self::Recover => "recover",
        }
    }

    /// Whether the HSM has a part in it: then its execution is begun in one entry and ends in another.
    pub const fn needs_hsm(self) -> bool {
        matches!(
            self,
            Self::CreateKek | Self::RotateKek | Self::ImportKek | Self::DestroyVersion
        )
    }

    /// Who decides on it. This is the separation of duties; no policy changes it.
    pub const fn approvers(self) -> Approvers {
        match self {
            Self::CreateKek
            | Self::RotateKek
            | Self::SetRotationMandate
            | Self::WithdrawRotationMandate
            | Self::Reinstate
            | Self::RevokeVersion
            | Self::DestroyVersion
            | Self::CancelDestruction
            | Self::ImportKek
            | Self::AllowPkcs1V15
            | Self::ForbidPkcs1V15 => Approvers::Role(OfficerRole::KeyCustodian),
            Self::GrantUnwrap
            | Self::WithdrawUnwrap
            | Self::AssignRole
            | Self::RemoveClient
            | Self::BindRecordingPolicy
            | Self::UnbindRecordingPolicy => Approvers::Role(OfficerRole::PolicyOfficer),
            Self::ChangeOfficers | Self::ChangePolicy => Approvers::AnyOfficer,
            Self::Recover => Approvers::Recovery,
        }
    }
}

impl Operation {
    /// Its kind.
    pub const fn kind(&self) -> OperationKind {
        match self {
            Self::CreateKek(_) => OperationKind::CreateKek,
            Self::RotateKek { .. } => OperationKind::RotateKek,
            Self::SetRotationMandate(_) => OperationKind::SetRotationMandate,
            Self::WithdrawRotationMandate { .. } => OperationKind::WithdrawRotationMandate,
            Self::Reinstate(_) => OperationKind::Reinstate,
            Self::RevokeVersion { .. } => OperationKind::RevokeVersion,
            Self::DestroyVersion { .. } => OperationKind::DestroyVersion,
            Self::CancelDestruction { .. } => OperationKind::CancelDestruction,
            Self::ImportKek { .. } => OperationKind::ImportKek,
            Self::AllowPkcs1V15 { .. } => OperationKind::AllowPkcs1V15,
            Self::ForbidPkcs1V15 { .. } => OperationKind::ForbidPkcs1V15,
            Self::GrantUnwrap { .. } => OperationKind::GrantUnwrap,
            Self::WithdrawUnwrap { .. } => OperationKind::WithdrawUnwrap,
            Self::AssignRole { .. } => OperationKind::AssignRole,
            Self::RemoveClient { .. } => OperationKind::RemoveClient,
            Self::BindRecordingPolicy { .. } => OperationKind::BindRecordingPolicy,
            Self::UnbindRecordingPolicy { .. } => OperationKind::UnbindRecordingPolicy,
            Self::ChangeOfficers { .. } => OperationKind::ChangeOfficers,
            Self::ChangePolicy(_) => OperationKind::ChangePolicy,
            Self::Recover { .. } => OperationKind::Recover,
        }
    }
}

/// Who may propose, approve, veto and execute an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Approvers {
    /// Officers of one role.
    Role(OfficerRole),
    /// Every officer.
    AnyOfficer,
    /// The recovery set of the genesis. Every officer may veto.
    Recovery,
}
