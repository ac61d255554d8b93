//! What takes an approval: making, destroying and bringing in keys, by the handle, with a real
//! worker and a real SoftHSM token behind it. Only here can an approval be had for nothing, so what
//! the worker does with a key is in `tests/it/hsm_worker`, and these look at the handle's part.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;
use std::time::Instant;

use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der, PublicKeyX509Der};
use aws_lc_rs::key_wrap::{AES_256, AesKek, KeyWrapPadded};
use aws_lc_rs::rsa::{KeySize, PrivateDecryptingKey};
use rustix::process::{Pid, Signal, kill_process};

use super::{LONG, config};
use crate::config::HsmConfig;
use crate::hsm::{
    Asker, Hsm, HsmError, HsmState, KeyRef, KnownAnswer, Profile, UnwrapJob, WorkerCommand, worker,
};
use crate::public_key::RsaPublicKey;
use crate::quorum::{
    Authorized, DestroyVersion, ImportVersion, MakeVersion, NewVersion, ProposalId,
};
use crate::types::{KeypairId, Lane, Padding, Sha256, WrappedDek};

/// The worker of these tests: this very program, told to run the test below.
#[test]
#[ignore = "run by the tests here, as a process of its own"]
fn worker_process() {
    worker::run().unwrap();
}

struct Rig {
    folder: tempfile::TempDir,
    hsm: Hsm,
}

impl Rig {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        fs::create_dir(path("tokens")).unwrap();
        let conf = format!("directories.tokendir = {}\n", path("tokens").display());
        fs::write(path("conf"), conf).unwrap();
        fs::write(path("pin"), "73924186").unwrap();
        fs::set_permissions(path("pin"), fs::Permissions::from_mode(0o400)).unwrap();
        let util = |arguments: &[&str]| {
            let mut util = Command::new("softhsm2-util");
            let output = util.args(arguments).env("SOFTHSM2_CONF", path("conf"));
            String::from_utf8(output.output().unwrap().stdout).unwrap()
        };
        let pins = ["--pin", "73924186", "--so-pin", "55554444"];
        util(&[&["--init-token", "--free", "--label", "hsm"], &pins[..]].concat());
        let slots = util(&["--show-slots"]);
        let (_, rest) = slots.split_once("Serial number:").unwrap();
        let config = HsmConfig {
            module: PathBuf::from("/usr/lib/softhsm/libsofthsm2.so"),
            token_label: "hsm".to_owned(),
            token_serial: rest.lines().next().unwrap().trim().to_owned(),
            pin_file: path("pin"),
            queue_len_max: 64,
            call_timeout_ms: 5_000,
            admin_timeout_ms: 30_000,
            coverage_timeout_ms: 60_000,
            ..config()
        };
        let test = concat!(module_path!(), "::worker_process");
        let (_, test) = test.split_once("::").unwrap();
        let mut args = vec![format!("SOFTHSM2_CONF={}", path("conf").display()).into()];
        args.push(std::env::current_exe().unwrap().into_os_string());
        args.extend(["--exact", test, "--ignored", "--nocapture"].map(Into::into));
        let program = PathBuf::from("/usr/bin/env");
        let hsm = Hsm::start(
            config,
            WorkerCommand {
                program,
                args,
                environment: std::collections::BTreeMap::new(),
            },
            path("mark"),
        );
        hsm.opened().await.unwrap();
        Self { folder, hsm }
    }

    async fn make(&self, profile: &str) -> (KeyRef, Vec<u8>) {
        let authority = Authorized::unproved(MakeVersion {
            proposal: proposal(),
            version: version(profile),
            number: 1,
            keypair_id: id(),
        });
        let object_id = *id().as_bytes();
        let profile = Profile::parse(profile.as_bytes()).unwrap();
        let made = self.hsm.generate(&authority, object_id, "kek", &profile);
        let spki = made.await.unwrap();
        let spki_sha256 = Some(Sha256::of(&spki));
        let key = KeyRef {
            object_id,
            spki_sha256,
        };
        let wrapped = wrap(&spki, &[7; 32]);
        let test = KnownAnswer {
            key: key.clone(),
            padding: Padding::OaepSha1,
            wrapped: WrappedDek::try_from(wrapped).unwrap(),
            sha256: Sha256::of(&[7; 32]),
            by_unwrap: false,
        };
        assert!(self.hsm.set_known_answer(test).await.unwrap());
        (key, spki)
    }

    /// Why this does not unwrap.
    async fn refusal(&self, key: &KeyRef, wrapped: Vec<u8>) -> Option<HsmError> {
        let job = UnwrapJob {
            key: key.clone(),
            padding: Padding::OaepSha1,
            wrapped_dek: WrappedDek::try_from(wrapped).unwrap(),
            implicit_rejection_key: None,
        };
        let caller = "uid:7".parse().unwrap();
        let asker = Asker::new(&caller, Lane::Interactive, Instant::now() + LONG);
        self.hsm.unwrap(&job, &asker).await.err()
    }

    /// Kills the worker and waits for the next, which serves.
    async fn next_worker(&self) {
        let before = self.hsm.status().worker_pid.unwrap();
        let pid = Pid::from_raw(i32::try_from(before).unwrap()).unwrap();
        kill_process(pid, Signal::KILL).unwrap();
        let mut state = self.hsm.changed();
        while self.hsm.status().worker_pid.is_none_or(|pid| pid == before) {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
        let ready = state.wait_for(|state| !matches!(state, HsmState::Starting));
        assert!(matches!(*ready.await.unwrap(), HsmState::Ready));
    }

    async fn object_count(&self) -> usize {
        self.hsm.inventory().await.unwrap().len()
    }
}

fn id() -> KeypairId {
    KeypairId::from_random([1; 16])
}

fn proposal() -> ProposalId {
    ProposalId(Sha256::of(b"a proposal"))
}

fn version(profile: &str) -> NewVersion {
    NewVersion {
        kek: "recordings".parse().unwrap(),
        profile: "a profile".to_owned(),
        profile_sha256: Sha256::of(profile.as_bytes()),
        certificate_subject: "CN=recordings".to_owned(),
        certificate_valid_days: 1,
    }
}

fn destroy_version(keypair_id: KeypairId) -> Authorized<DestroyVersion> {
    let proposal = proposal();
    Authorized::unproved(DestroyVersion {
        proposal,
        keypair_id,
    })
}

fn wrap(spki: &[u8], value: &[u8]) -> Vec<u8> {
    let key = RsaPublicKey::from_spki(spki).unwrap();
    let wrapped = key.wrap(Padding::OaepSha1, value).unwrap();
    wrapped.as_bytes().to_vec()
}

#[tokio::test]
async fn a_destroyed_key_is_missed_by_calls_and_by_no_worker() {
    let rig = Rig::new().await;
    let (key, spki) = rig.make(Profile::builtin("kek-rsa-3072").unwrap()).await;
    let other = destroy_version(KeypairId::from_random([2; 16]));
    let refused = rig.hsm.destroy(&other, &key).await.unwrap_err();
    assert!(
        matches!(refused, HsmError::NotApproved { .. }),
        "{refused:?}"
    );
    let refusal = rig.refusal(&key, vec![3; 384]).await;
    assert!(matches!(refusal, Some(HsmError::Undecryptable)));

    for _ in 0..2 {
        rig.hsm.destroy(&destroy_version(id()), &key).await.unwrap();
        assert_eq!(rig.object_count().await, 0);
        // A worker that wanted the key's known answer would not serve.
        rig.next_worker().await;
        for wrapped in [wrap(&spki, &[7; 32]), vec![3; 384]] {
            let refusal = rig.refusal(&key, wrapped).await;
            assert!(
                matches!(refusal, Some(HsmError::KeyMissing { .. })),
                "{refusal:?}"
            );
        }
    }
    rig.hsm.shutdown().await;
}

#[tokio::test]
async fn a_key_that_was_not_destroyed_keeps_its_tests() {
    let rig = Rig::new().await;
    let text = Profile::builtin("kek-rsa-3072").unwrap();
    let destroyable = "attribute = \"CKA_DESTROYABLE\"\nvalue = true";
    let fixed = text.replace(destroyable, &destroyable.replace("true", "false"));
    let (key, _) = rig.make(&fixed).await;
    let refused = rig.hsm.destroy(&destroy_version(id()), &key).await;
    let refused = refused.unwrap_err();
    assert!(
        matches!(refused, HsmError::RefusedByToken { .. }),
        "{refused:?}"
    );
    for _ in 0..2 {
        let refusal = rig.refusal(&key, vec![3; 384]).await;
        assert!(matches!(refusal, Some(HsmError::Undecryptable)));
        rig.next_worker().await;
    }
    // Dropped by hand, no later worker has them.
    rig.hsm.forget_known_answers(&key);
    let known = rig.hsm.shared().known_answer(&key, Padding::OaepSha1);
    assert!(known.is_none());
    rig.hsm.shutdown().await;
}

#[tokio::test]
async fn an_import_ends_its_transport_key() {
    let rig = Rig::new().await;
    let outside = PrivateDecryptingKey::generate(KeySize::Rsa2048).unwrap();
    let spki: PublicKeyX509Der<'_> = outside.public_key().as_der().unwrap();
    let pkcs8: Pkcs8V1Der<'_> = outside.as_der().unwrap();
    let text = Profile::builtin("kek-rsa-2048-imported").unwrap();
    let profile = Profile::parse(text.as_bytes()).unwrap();
    let approved = |spki_sha256| {
        Authorized::unproved(ImportVersion {
            proposal: proposal(),
            version: version(text),
            keypair_id: id(),
            spki_sha256,
        })
    };
    let authority = approved(Sha256::of(spki.as_ref()));
    let (transport, transport_spki) = rig.hsm.make_transport_key(&authority).await.unwrap();
    let again = rig.hsm.make_transport_key(&authority).await.unwrap();
    assert_eq!((&transport, &transport_spki), (&again.0, &again.1));

    let aes_key = [9; 32];
    let kek = AesKek::new(&AES_256, &aes_key).unwrap();
    let mut private = vec![0; pkcs8.as_ref().len() + 16];
    let private = kek.wrap_with_padding(pkcs8.as_ref(), &mut private).unwrap();
    let aes_key = wrap(&transport_spki, &aes_key);
    let other = Profile::builtin("kek-rsa-3072-imported").unwrap();
    let other = Profile::parse(other.as_bytes()).unwrap();
    let refused = rig.hsm.import(&authority, "kek", &other, &aes_key, private);
    let refused = refused.await.unwrap_err();
    assert!(
        matches!(refused, HsmError::ProfileNotApproved { .. }),
        "{refused:?}"
    );
    let another = approved(Sha256::of(b"another"));
    let refused = rig.hsm.import(&another, "kek", &profile, &aes_key, private);
    let refused = refused.await.unwrap_err();
    assert!(
        matches!(refused, HsmError::KeyMismatch { .. }),
        "{refused:?}"
    );
    assert_eq!(rig.object_count().await, 2);

    // Twice is as once.
    for _ in 0..2 {
        let imported = rig
            .hsm
            .import(&authority, "kek", &profile, &aes_key, private);
        assert_eq!(imported.await.unwrap(), spki.as_ref());
        let objects = rig.hsm.inventory().await.unwrap();
        assert_eq!(objects.len(), 2);
        assert!(objects.iter().all(|o| o.object_id == id().as_bytes()));
    }
    // A transport key that is not to be used goes, too.
    rig.hsm.make_transport_key(&authority).await.unwrap();
    for _ in 0..2 {
        rig.hsm.destroy_transport_key(&authority).await.unwrap();
        assert_eq!(rig.object_count().await, 2);
    }
    rig.hsm.shutdown().await;
    assert!(rig.folder.path().exists());
}
