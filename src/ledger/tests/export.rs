//! An export of every kind of signed entry, made by hand and signed by `ssh-keygen`, before the eyes
//! of docs/verify-ledger.sh: what the fold makes of such entries is not asked here.

use std::fs;
use std::process::{Command, Output};

use super::super::export::{deeds_of, files};
use super::*;
use crate::merkle::{Head, LogKey, root_of};

/// A ledger in the making, and the officers' keys.
struct Scribe {
    site: Site,
    entries: Vec<Vec<u8>>,
}

impl Scribe {
    fn new() -> Self {
        let site = Site::new();
        for name in ["alice", "bob b", "carol", "dave", "rita"] {
            let mut command = Command::new("ssh-keygen");
            command.args(["-q", "-t", "ed25519", "-N", "", "-C", name, "-f"]);
            let status = command.arg(site.folder.path().join(name)).status().unwrap();
            assert!(status.success());
        }
        let entries = Vec::new();
        Self { site, entries }
    }

    /// The public key, as in a `.pub` file.
    fn key(&self, name: &str) -> String {
        let path = self.site.folder.path().join(format!("{name}.pub"));
        fs::read_to_string(path).unwrap().trim().to_owned()
    }

    fn sign(&self, name: &str, namespace: &str, text: &str) -> Vec<u8> {
        let message = self.site.folder.path().join("message");
        fs::write(&message, text).unwrap();
        let mut command = Command::new("ssh-keygen");
        command.args(["-Y", "sign", "-q", "-n", namespace, "-f"]);
        command
            .arg(self.site.folder.path().join(name))
            .arg(&message);
        assert!(command.output().unwrap().status.success());
        let signature = message.with_extension("sig");
        let armored = fs::read(&signature).unwrap();
        fs::remove_file(signature).unwrap();
        armored
    }

    fn write(&mut self, event: Event) {
        let index = u64::try_from(self.entries.len()).unwrap();
        let id = self.entries.first().map(|birth| Sha256::of(birth));
        let entry = StoredEntry::encode(index, NOW, id, event);
        self.entries.push(entry.bytes().to_vec());
    }

    fn birth(&mut self) {
        let officer = |table: &str, name: &str| {
            let key = self.key(name);
            format!("[[{table}]]\nname = \"{name}\"\nkey = \"{key}\"\n")
        };
        let officers = ["alice", "bob b", "carol"].map(|name| officer("officer", name));
        let recovery = officer("recovery.officer", "rita");
        let genesis = format!("{}[recovery]\nthreshold = 1\n{recovery}", officers.concat());
        let Event::InstanceCreated(mut birth) = self.site.birth() else {
            unreachable!()
        };
        birth.signatures = ["alice", "bob b"]
            .map(|name| self.sign(name, "genesis@kekd", &genesis))
            .to_vec();
        birth.genesis = genesis.into_bytes();
        self.write(Event::InstanceCreated(birth));
    }

    /// Opens a proposal and gives its text.
    fn propose(&mut self, by: &str, operation: &str) -> String {
        let text = format!("kekd proposal v1\n{operation}effect does {by}'s will\nproposer {by}\n");
        let signature = self.sign(by, "proposal@kekd", &text);
        self.write(Event::ProposalOpened(v1::ProposalOpened {
            statement: text.clone().into_bytes(),
            signature,
        }));
        text
    }

    fn approve(&mut self, by: &str, proposal: &str) {
        let signature = self.sign(by, "approval@kekd", proposal);
        let proposal_id = id(proposal);
        self.write(Event::ApprovalGiven(v1::ApprovalGiven {
            proposal_id,
            signature,
        }));
    }

    fn prove_possession(&mut self, by: &str, proposal: &str) {
        let signature = self.sign(by, "possession@kekd", proposal);
        let proposal_id = id(proposal);
        self.write(Event::PossessionProven(v1::PossessionProven {
            proposal_id,
            signature,
        }));
    }

    fn execution(&self, by: &str, proposal: &str, operation: &str) -> (Vec<u8>, Vec<u8>) {
        let id = Sha256::of(proposal.as_bytes());
        let text = format!(
            "kekd execution v1\nproposal {id}\noperation {operation}\neffect does it\nofficer {by}\n"
        );
        let signature = self.sign(by, "execution@kekd", &text);
        (text.into_bytes(), signature)
    }

    fn execute(&mut self, by: &str, proposal: &str, operation: &str) {
        let (statement, signature) = self.execution(by, proposal, operation);
        self.write(Event::OperationExecuted(v1::OperationExecuted {
            statement,
            signature,
        }));
    }

    fn officers(&self, kind: &str, names: &[&str]) -> String {
        let line = |name: &&str| {
            let key = self.key(name);
            let mut words = key.split(' ');
            let (algorithm, base64) = (words.next().unwrap(), words.next().unwrap());
            format!("officer key-custodian {algorithm} {base64} {name}\n")
        };
        let lines: String = names.iter().map(line).collect();
        format!("operation {kind}\n{lines}")
    }

    /// Every kind of entry that is signed, over four epochs, the last of them by a recovery.
    fn whole() -> Self {
        let mut scribe = Self::new();
        scribe.birth();
        scribe.write(recordings());
        let create = scribe.propose("alice", "operation create-kek\n");
        scribe.approve("bob b", &create);
        scribe.approve("carol", &create);
        let (statement, signature) = scribe.execution("carol", &create, "create-kek");
        scribe.write(Event::ExecutionBegun(v1::ExecutionBegun {
            statement,
            signature,
            keypair_id: vec![7; 16],
        }));
        scribe.write(archive());

        let change = scribe.officers("change-officers", &["alice", "bob b", "dave"]);
        let change = scribe.propose("bob b", &change);
        scribe.prove_possession("dave", &change);
        scribe.approve("carol", &change);
        scribe.execute("carol", &change, "change-officers");

        let policy = scribe.propose("dave", "operation change-policy\n");
        scribe.approve("alice", &policy);
        scribe.execute("dave", &policy, "change-policy");
        let doubtful = scribe.propose("alice", "operation create-kek\n");
        let signature = scribe.sign("dave", "veto@kekd", &doubtful);
        scribe.write(Event::ProposalVetoed(v1::ProposalVetoed {
            proposal_id: id(&doubtful),
            signature,
        }));
        let text = "kekd suspension v1\ntarget all\neffect stops all\nofficer bob b\n";
        let signature = scribe.sign("bob b", "suspension@kekd", text);
        let statement = text.as_bytes().to_vec();
        scribe.write(Event::Suspended(v1::Suspended {
            statement,
            signature,
        }));

        let recover = scribe.officers("recover", &["carol", "dave"]);
        let recover = scribe.propose("rita", &recover);
        scribe.approve("rita", &recover);
        scribe.execute("rita", &recover, "recover");
        let last = scribe.propose("carol", "operation create-kek\n");
        scribe.approve("dave", &last);
        scribe
    }

    fn note(&self) -> String {
        let leaves: Vec<Sha256> = self.entries.iter().map(|bytes| leaf_hash(bytes)).collect();
        let origin = format!("kekd/ledger/{}", Sha256::of(&self.entries[0]));
        let head = Head {
            size: u64::try_from(leaves.len()).unwrap(),
            root: root_of(&leaves),
        };
        let checkpoint = Checkpoint::new(&origin, head).unwrap();
        let signature = self.site.sign(&checkpoint.text());
        let key = LogKey::from_spki(&self.spki()).unwrap();
        checkpoint.into_note(&key, &signature).unwrap()
    }

    fn spki(&self) -> Vec<u8> {
        let key = self.site.log_key.public_key().as_der().unwrap();
        key.as_ref().to_vec()
    }

    /// Writes the export of the entries as they are now.
    fn export(&self) -> PathBuf {
        let dir = self.site.folder.path().join("export");
        drop(fs::remove_dir_all(&dir));
        for (path, bytes) in files(&self.entries, &self.note(), &self.spki()) {
            let path = dir.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, bytes).unwrap();
        }
        dir
    }
}

fn id(proposal: &str) -> Vec<u8> {
    Sha256::of(proposal.as_bytes()).as_bytes().to_vec()
}

fn script(dir: &Path) -> Output {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/verify-ledger.sh");
    Command::new("sh").arg(script).arg(dir).output().unwrap()
}

fn refusal(dir: &Path) -> String {
    let output = script(dir);
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{said}");
    said
}

#[test]
fn every_signature_is_verified_by_openssh_alone() {
    let scribe = Scribe::whole();
    let output = script(&scribe.export());
    let said = String::from_utf8(output.stdout).unwrap();
    let refused = String::from_utf8_lossy(&output.stderr);
    assert!(
        said.starts_with("OK 22 entries, 21 signatures\n"),
        "{said}{refused}"
    );
    let deeds = deeds_of(&scribe.entries, "golden");
    let by: Vec<String> = deeds.iter().map(|deed| deed.by.join("+")).collect();
    let expected = "alice+bob b,,alice,bob b,carol,carol,,bob b,dave,carol,carol,dave,alice,dave,\
                    alice,dave,bob b,rita,rita,rita,carol,dave";
    assert_eq!(by.join(","), expected);
    assert_eq!(deeds[0].what, "instance \"golden\" created");
    assert_eq!(deeds[3].what, "approved: does alice's will");
}

#[test]
fn what_is_signed_by_the_log_key_and_not_by_officers_is_refused() {
    type Forgery = fn(&mut Scribe);
    const CREATE: &str = "operation create-kek\n";
    let cases: [(&str, Forgery); 7] = [
        ("by nobody who may sign it", |scribe| {
            // An officer of the first epoch in the last.
            let text = scribe.propose("carol", CREATE);
            scribe.approve("alice", &text);
        }),
        ("does not verify", |scribe| {
            let text = scribe.propose("carol", CREATE);
            let signature = scribe.sign("dave", "veto@kekd", &text);
            let proposal_id = id(&text);
            scribe.write(Event::ApprovalGiven(v1::ApprovalGiven {
                proposal_id,
                signature,
            }));
        }),
        ("does not verify", |scribe| {
            let text = scribe.propose("carol", CREATE);
            let signature = scribe.sign("dave", "approval@kekd", "another text");
            let proposal_id = id(&text);
            scribe.write(Event::ApprovalGiven(v1::ApprovalGiven {
                proposal_id,
                signature,
            }));
        }),
        ("it names no proposal", |scribe| {
            scribe.approve("dave", "never opened");
        }),
        ("by nobody who may sign it", |scribe| {
            scribe.propose("rita", CREATE);
        }),
        ("by nobody who may sign it", |scribe| {
            let text = scribe.officers("change-officers", &["carol", "bob b"]);
            let text = scribe.propose("carol", &text);
            scribe.prove_possession("dave", &text);
        }),
        ("executes an unknown proposal", |scribe| {
            scribe.execute("dave", "never opened", "change-officers");
        }),
    ];
    let mut scribe = Scribe::whole();
    let whole = scribe.entries.clone();
    for (reason, forge) in cases {
        scribe.entries.clone_from(&whole);
        forge(&mut scribe);
        let last = scribe.entries.len() - 1;
        let found = refusal(&scribe.export());
        let named = found.starts_with(&format!("REFUSED entry {last}: "));
        assert!(named && found.contains(reason), "{reason}: {found}");
    }
}

#[test]
fn a_signer_put_into_the_lists_of_an_export_is_refused() {
    let scribe = Scribe::whole();
    let key = scribe.key("rita").rsplit_once(' ').unwrap().0.to_owned();
    let dir = scribe.export();
    for list in [
        "allowed_signers.1",
        "allowed_signers.2",
        "allowed_signers.3",
        "allowed_signers.4",
        "allowed_signers.5",
        "signed/00000003/allowed_signers",
        "signed/00000008/allowed_signers",
        "signed/00000018/allowed_signers",
    ] {
        let path = dir.join(list);
        let before = fs::read_to_string(&path).ok();
        let text = before.clone().unwrap_or_default();
        fs::write(&path, format!("{text}mallory {key}\n")).unwrap();
        assert!(refusal(&dir).contains("REFUSED"), "{list}");
        match before {
            Some(text) => fs::write(path, text).unwrap(),
            None => fs::remove_file(path).unwrap(),
        }
    }
    assert!(script(&dir).status.success());
}
