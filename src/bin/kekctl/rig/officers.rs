//! The rig's officers and its recovery set: SSH keys made and used by ssh-keygen, as officers do.

use std::process::Command;

use super::genesis::{Officer, RecoveryOfficer};
use super::layout::Layout;
use super::tool;

/// The officers' names, with what each is trusted with: enough of either role that a quorum is
/// there without its proposer.
pub const OFFICERS: [(&str, &str); 6] = [
    ("alice", "key-custodian"),
    ("bob", "key-custodian"),
    ("carol", "key-custodian"),
    ("dave", "policy-officer"),
    ("erin", "policy-officer"),
    ("frank", "policy-officer"),
];
/// The recovery set.
pub const RECOVERY: [&str; 2] = ["grace", "heidi"];
/// Those who sign the genesis: as many as its threshold asks for.
pub const SIGNERS: [&str; 2] = ["alice", "bob"];
/// The SSHSIG namespace of a genesis document.
const NAMESPACE: &str = "genesis@kekd";

/// Makes the key pairs of all officers.
pub fn create_all(layout: &Layout) -> anyhow::Result<Vec<Officer>> {
    let officer = |(name, role)| {
        let key = create(layout, name)?;
        Ok(Officer { name, role, key })
    };
    OFFICERS.into_iter().map(officer).collect()
}

/// Makes the key pairs of the recovery set.
pub fn create_recovery(layout: &Layout) -> anyhow::Result<Vec<RecoveryOfficer>> {
    let officer = |name| {
        let key = create(layout, name)?;
        Ok(RecoveryOfficer { name, key })
    };
    RECOVERY.into_iter().map(officer).collect()
}

/// Makes an officer's key pair and returns the public key in OpenSSH form, without its comment.
pub fn create(layout: &Layout, name: &str) -> anyhow::Result<String> {
    let path = layout.officer(name);
    let mut keygen = Command::new("ssh-keygen");
    keygen.args(["-q", "-t", "ed25519", "-N", "", "-C", name, "-f"]);
    tool::run(keygen.arg(&path), b"")?;
    let public = std::fs::read_to_string(path.with_extension("pub"))?;
    let words: Vec<&str> = public.split_whitespace().take(2).collect();
    Ok(words.join(" "))
}

/// Signs the genesis document and returns the armored SSHSIG.
pub fn sign(layout: &Layout, name: &str, document: &[u8]) -> anyhow::Result<String> {
    let mut keygen = Command::new("ssh-keygen");
    keygen.args(["-q", "-Y", "sign", "-n", NAMESPACE, "-f"]);
    let signature = tool::run(keygen.arg(layout.officer(name)), document)?;
    Ok(format!("{signature}\n"))
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test that cannot unwrap has failed")]
mod tests {
    use super::*;

    #[test]
    fn an_officer_signs_with_a_key_of_their_own() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::create(&dir.path().join("rig")).unwrap();
        let key = create(&layout, "alice").unwrap();
        assert!(key.starts_with("ssh-ed25519 AAAA"), "{key}");
        assert_eq!(key.split(' ').count(), 2);
        let signature = sign(&layout, "alice", b"document").unwrap();
        assert!(signature.starts_with("-----BEGIN SSH SIGNATURE-----\n"));
        assert!(signature.ends_with("-----END SSH SIGNATURE-----\n"));
    }
}
