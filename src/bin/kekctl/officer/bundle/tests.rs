//! Bundles go out, are signed by the real ssh-keygen and come back.

#![expect(clippy::unwrap_used, reason = "a test that cannot unwrap has failed")]

use std::path::PathBuf;
use std::process::{Command, Stdio};

use super::*;
use crate::officer::facts::tests::proposal;
use crate::officer::signer::tests::{key_in, signer};

struct Gap {
    dir: tempfile::TempDir,
    key: PathBuf,
}

impl Gap {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let key = key_in(dir.path());
        Self { dir, key }
    }

    fn bundle(&self, purpose: Purpose) -> Bundle {
        let key = std::fs::read_to_string(self.key.with_extension("pub")).unwrap();
        let governance = v1::GetGovernanceResponse {
            instance_name: "rig".to_owned(),
            officers: vec![v1::Officer {
                name: "bob".to_owned(),
                role: "key-custodian".to_owned(),
                key: key.trim_end().to_owned(),
                fingerprint: String::new(),
            }],
            ..v1::GetGovernanceResponse::default()
        };
        Bundle::new(
            purpose,
            &proposal(),
            "none (0 of 2)".to_owned(),
            &governance,
        )
    }

    /// Through a file, as it travels.
    fn carried(&self, bundle: &Bundle) -> anyhow::Result<Bundle> {
        let path = self.dir.path().join("bundle.json");
        bundle.write(&Target::new(path.clone(), true))?;
        Bundle::open(&path)
    }

    /// Whether OpenSSH accepts the signature over the text in this namespace.
    fn verifies(&self, text: &[u8], namespace: &str, signature: &[u8]) -> bool {
        let file = self.dir.path().join("signature");
        std::fs::write(&file, signature).unwrap();
        let statement = self.dir.path().join("text");
        std::fs::write(&statement, text).unwrap();
        let mut keygen = Command::new("ssh-keygen");
        keygen.args(["-q", "-Y", "check-novalidate", "-n", namespace, "-s"]);
        keygen
            .arg(&file)
            .stdin(std::fs::File::open(&statement).unwrap());
        let keygen = keygen.stdout(Stdio::null()).stderr(Stdio::null());
        keygen.status().unwrap().success()
    }
}

#[test]
fn a_bundle_comes_back_with_a_signature_for_its_purpose_only() {
    let gap = Gap::new();
    for purpose in [
        Purpose::Propose,
        Purpose::Approve,
        Purpose::Veto,
        Purpose::Possession,
    ] {
        let bundle = gap.bundle(purpose);
        let opened = gap.carried(&bundle).unwrap();
        assert_eq!(opened, bundle);
        let signed = opened.sign(&signer(&gap.key), Format::Json).unwrap();
        let back = gap.carried(&signed).unwrap().signed().unwrap();
        assert_eq!(back.purpose, purpose);
        assert_eq!(back.id, proposal().id.0);
        assert_eq!(back.text, proposal().text());
        for namespace in [PROPOSAL, APPROVAL, VETO, POSSESSION] {
            assert_eq!(
                gap.verifies(&back.text, namespace, &back.signature),
                namespace == purpose.namespace(),
                "{namespace}"
            );
        }
    }
}

const PROPOSAL: &str = "proposal@kekd";
const APPROVAL: &str = "approval@kekd";
const VETO: &str = "veto@kekd";
const POSSESSION: &str = "possession@kekd";

#[test]
fn an_execution_is_dated_and_named_where_it_is_signed() {
    let gap = Gap::new();
    let bundle = gap.carried(&gap.bundle(Purpose::Execute)).unwrap();
    let signed = bundle.sign(&signer(&gap.key), Format::Json).unwrap();
    let back = gap.carried(&signed).unwrap().signed().unwrap();
    let execution = Execution::parse(&back.text).unwrap();
    assert!(execution.is_of(&proposal()));
    assert_eq!(execution.officer, "bob");
    assert!(gap.verifies(&back.text, "execution@kekd", &back.signature));
    assert!(!gap.verifies(proposal().text(), "execution@kekd", &back.signature));
}

#[test]
fn what_is_no_bundle_is_refused() {
    let gap = Gap::new();
    let refused = |bundle: &Bundle| {
        let opened = gap.carried(bundle).and_then(|opened| opened.proposal());
        let failure = Failure::from(opened.unwrap_err());
        assert_eq!(failure.exit, Exit::Malformed);
        failure.message
    };
    let good = gap.bundle(Purpose::Approve);
    // A bundle that says one thing and asks for the signature of another.
    let mut bad = good.clone();
    bad.namespace = VETO.to_owned();
    assert!(refused(&bad).contains("expected a bundle for approval@kekd"));
    let mut bad = good.clone();
    bad.format = "kekd-bundle-v9".to_owned();
    assert!(refused(&bad).contains("kekd-bundle-v9"));
    let mut bad = good.clone();
    bad.statement = bad.statement.replace("recordings", "Recordings");
    refused(&bad);

    let failure = Failure::from(good.clone().signed().unwrap_err());
    assert!(failure.message.contains("not signed yet"));
    let signed = good.sign(&signer(&gap.key), Format::Json).unwrap();
    let failure = signed.sign(&signer(&gap.key), Format::Json).unwrap_err();
    assert!(failure.to_string().contains("signed already"));
}
