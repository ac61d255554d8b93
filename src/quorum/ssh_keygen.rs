//! Keys and signatures for tests, made by the `ssh-keygen` of this machine. No test is here.
#![expect(clippy::unwrap_used, reason = "a test that cannot unwrap has failed")]

use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use ssh_key::{LineEnding, Signature, SshSig};
use tempfile::TempDir;

use super::GENESIS_NAMESPACE;
use super::sshsig::string;

/// A folder with key pairs of `ssh-keygen`.
pub(in crate::quorum) struct Keys(TempDir);

impl Keys {
    pub(in crate::quorum) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub(in crate::quorum) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Makes a key pair and returns its public line.
    pub(in crate::quorum) fn make(&self, name: &str, kind: &str, bits: &str) -> String {
        let made = Command::new("ssh-keygen")
            .args(["-q", "-N", "", "-t", kind, "-b", bits, "-C", name, "-f"])
            .arg(self.path(name))
            .status()
            .unwrap();
        assert!(made.success());
        let line = std::fs::read_to_string(self.path(&format!("{name}.pub"))).unwrap();
        line.trim_end().to_owned()
    }

    pub(in crate::quorum) fn sign(&self, name: &str, namespace: &str, bytes: &[u8]) -> Vec<u8> {
        let file = self.path("signed");
        let signature = self.path("signed.sig");
        std::fs::write(&file, bytes).unwrap();
        let signed = Command::new("ssh-keygen")
            .args(["-q", "-Y", "sign", "-n", namespace, "-f"])
            .args([self.path(name), file])
            .stderr(Stdio::null())
            .status()
            .unwrap();
        assert!(signed.success());
        let armored = std::fs::read(&signature).unwrap();
        std::fs::remove_file(signature).unwrap();
        armored
    }

    /// What OpenSSH itself says of a signature.
    pub(in crate::quorum) fn openssh_accepts(
        &self,
        key: &str,
        signature: &[u8],
        bytes: &[u8],
    ) -> bool {
        std::fs::write(self.path("allowed"), format!("x {key}\n")).unwrap();
        std::fs::write(self.path("sig"), signature).unwrap();
        let mut verify = Command::new("ssh-keygen")
            .args(["-q", "-Y", "verify", "-n", GENESIS_NAMESPACE, "-I", "x"])
            .arg("-f")
            .arg(self.path("allowed"))
            .arg("-s")
            .arg(self.path("sig"))
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        verify.stdin.take().unwrap().write_all(bytes).unwrap();
        verify.wait().unwrap().success()
    }
}

/// The same ECDSA signature with n - s in place of s.
pub(in crate::quorum) fn malleated(armored: &[u8]) -> Vec<u8> {
    const ORDER: &str = "ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551";
    let envelope = SshSig::from_pem(armored).unwrap();
    let bytes = envelope.signature_bytes();
    let r_len = 4 + usize::from(*bytes.get(3).unwrap());
    let (r, s) = bytes.split_at(r_len);
    let s = s.get(4..).unwrap();
    let s = [vec![0; 33 - s.len()], s.to_vec()].concat();
    let mut flipped = Vec::new();
    let mut borrow = 0;
    for at in (0..32).rev() {
        let n = i32::from(u8::from_str_radix(ORDER.get(2 * at..2 * at + 2).unwrap(), 16).unwrap());
        let digit = n - i32::from(*s.get(at + 1).unwrap()) - borrow;
        borrow = i32::from(digit < 0);
        flipped.insert(0, u8::try_from(digit.rem_euclid(256)).unwrap());
    }
    let bytes = [r, &string(mpint(&flipped))].concat();
    let signature = Signature::new(envelope.algorithm(), bytes).unwrap();
    rebuilt(&envelope, envelope.namespace(), signature)
}

pub(in crate::quorum) fn rebuilt(
    envelope: &SshSig,
    namespace: &str,
    signature: Signature,
) -> Vec<u8> {
    let key = envelope.public_key().clone();
    let rebuilt = SshSig::new(key, namespace, envelope.hash_alg(), signature).unwrap();
    rebuilt.to_pem(LineEnding::LF).unwrap().into_bytes()
}

/// A positive integer of the SSH wire format, without its length (RFC 4251 section 5).
pub(in crate::quorum) fn mpint(big_endian: &[u8]) -> Vec<u8> {
    let start = big_endian.iter().position(|b| *b != 0).unwrap();
    let digits = big_endian.get(start..).unwrap();
    let sign: &[u8] = if digits.first() >= Some(&0x80) {
        &[0]
    } else {
        &[]
    };
    [sign, digits].concat()
}
