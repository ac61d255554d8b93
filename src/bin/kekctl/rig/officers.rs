//! The rig's three officers: SSH keys made and used by ssh-keygen, as officers do.

use std::process::Command;

use super::layout::Layout;
use super::tool;

/// The officers' names.
pub const NAMES: [&str; 3] = ["alice", "bob", "carol"];
/// Those who sign the genesis: as many as its threshold asks for.
pub const SIGNERS: [&str; 2] = ["alice", "bob"];
/// The SSHSIG namespace of a genesis document.
const NAMESPACE: &str = "genesis@kekd";

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
