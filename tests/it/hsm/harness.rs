//! A token with one KEK, an [`Hsm`] on it, and the journal that opens what the HSM sealed.

use std::ffi::OsString;
use std::fs;
use std::path::PathBuf;
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use kekd::access::Identity;
use kekd::audit::{Draft, Journal, Sealed};
use kekd::clock::Clock;
use kekd::config::{AuditConfig, HsmConfig};
use kekd::hsm::{
    Asker, Hsm, HsmError, HsmState, KeyRef, KnownAnswer, RewrapJob, UnwrapJob, WorkerCommand,
};
use kekd::types::{Lane, Padding, Sha256, WrappedDek};
use rustix::process::{Pid, Signal, kill_process};

use crate::harness::test_module;
use crate::hsm_worker::harness::{Key, Worker, oaep_sha1};
use crate::softhsm::{MODULE, SoftHsm};

/// Far longer than anything here takes: whoever waits so long has hung.
pub const LONG: Duration = Duration::from_secs(60);

pub struct Rig {
    pub token: SoftHsm,
    pub kek: Key,
    pub profile: &'static str,
    pub journal: Journal,
}

impl Rig {
    /// A token with a KEK to this built-in profile.
    pub fn new(label: &str, profile: &'static str) -> Self {
        let token = SoftHsm::new(label);
        let mut worker = Worker::open(&token);
        let kek = worker.generate(profile, 7);
        assert!(worker.close().success());
        let state_dir = token.path().join("state");
        let instance_id = Sha256::of(b"an instance");
        Journal::create(&state_dir, &instance_id).unwrap();
        let journal = Journal::open(
            &state_dir,
            &instance_id,
            "node".to_owned(),
            AuditConfig::default(),
            Clock::System,
        )
        .unwrap();
        Self {
            token,
            kek,
            profile,
            journal,
        }
    }

    pub fn config(&self) -> HsmConfig {
        HsmConfig {
            module: PathBuf::from(MODULE),
            token_label: self.token.label.clone(),
            token_serial: self.token.serial.clone(),
            pin_file: self.token.pin_file(),
            sessions: 4,
            queue_len_max: 64,
            call_timeout_ms: 5_000,
            admin_timeout_ms: 30_000,
            proven_at_start: 32,
            coverage_timeout_ms: 60_000,
            profiles_dir: None,
        }
    }

    /// The same, through the module that fails by script (`tests/modules/README.md`).
    pub fn faulty_config(&self) -> HsmConfig {
        HsmConfig {
            module: test_module("kekd_test_fault"),
            call_timeout_ms: 1_000,
            ..self.config()
        }
    }

    /// From now on the faulty module fails like this.
    pub fn script(&self, rules: &str) {
        let new = self.token.path().join("faults.new");
        fs::write(&new, rules).unwrap();
        fs::rename(new, self.token.path().join("faults")).unwrap();
    }

    /// How often the faulty module was asked to log in, by all workers together.
    pub fn logins(&self) -> usize {
        let counts = fs::read_to_string(self.token.path().join("counts")).unwrap();
        let login = |line: &&str| line.starts_with("C_Login ");
        counts.lines().filter(login).count()
    }

    /// An HSM that may not be open yet.
    pub fn start(&self, config: HsmConfig) -> Hsm {
        // Each test has a token of its own and all share this process, so the environment is set
        // by env(1), which becomes the worker: the process id is the worker's.
        let set = |name: &str, file: PathBuf| {
            let mut assignment = OsString::from(name);
            assignment.push("=");
            assignment.push(file);
            assignment
        };
        let command = WorkerCommand {
            program: PathBuf::from("/usr/bin/env"),
            args: vec![
                set("SOFTHSM2_CONF", self.token.conf()),
                set("PKCS11_FAULT_SCRIPT", self.token.path().join("faults")),
                set("PKCS11_FAULT_COUNTS", self.token.path().join("counts")),
                env!("CARGO_BIN_EXE_kekd").into(),
                "hsm-worker".into(),
            ],
            environment: std::collections::BTreeMap::new(),
        };
        Hsm::start(config, command, self.token.pin_mark_file())
    }

    /// An open HSM with the known-answer test set.
    pub async fn open(&self, config: HsmConfig) -> Hsm {
        let hsm = self.start(config);
        hsm.opened().await.unwrap();
        assert!(hsm.set_known_answer(self.known_answer()).await.unwrap());
        hsm
    }

    pub fn key(&self) -> KeyRef {
        key_ref(&self.kek)
    }

    pub fn known_answer(&self) -> KnownAnswer {
        KnownAnswer {
            key: self.key(),
            padding: Padding::OaepSha1,
            wrapped: self.wrap(&[0x55; 32]),
            sha256: Sha256::of(&[0x55; 32]),
            by_unwrap: self.profile.ends_with("recipient"),
        }
    }

    pub fn wrap(&self, dek: &[u8]) -> WrappedDek {
        WrappedDek::try_from(oaep_sha1(&self.kek.spki, dek)).unwrap()
    }

    pub fn job(&self, dek: &[u8; 32]) -> UnwrapJob {
        UnwrapJob {
            key: self.key(),
            padding: Padding::OaepSha1,
            wrapped_dek: self.wrap(dek),
            implicit_rejection_key: None,
        }
    }

    pub fn rewrap_job(&self, dek: &[u8; 32], recipient_spki: Vec<u8>) -> RewrapJob {
        RewrapJob {
            key: self.key(),
            padding: Padding::OaepSha1,
            wrapped_dek: self.wrap(dek),
            recipient_spki,
            recipient_padding: Padding::OaepSha1,
        }
    }

    /// The DEK, released the only way there is.
    pub async fn unwrap(&self, hsm: &Hsm, job: &UnwrapJob) -> Result<[u8; 32], HsmError> {
        let answer = hsm.unwrap(job, &asker(Instant::now() + LONG)).await?;
        Ok(*self.release(answer.value).await.as_bytes())
    }

    pub async fn release<T>(&self, sealed: Sealed<T>) -> T {
        let draft = Draft::new("uid:0".to_owned(), "request".parse().unwrap());
        let released = self.journal.record_and_release(draft, sealed).await;
        released.unwrap().value
    }
}

/// A client's call that nobody else is in the way of.
pub fn asker(deadline: Instant) -> Asker<'static> {
    static CALLER: LazyLock<Identity> = LazyLock::new(|| "uid:7".parse().unwrap());
    Asker::new(&CALLER, Lane::Interactive, deadline)
}

pub fn key_ref(key: &Key) -> KeyRef {
    KeyRef {
        object_id: key.key_ref.object_id.as_slice().try_into().unwrap(),
        spki_sha256: Sha256::try_from(key.key_ref.spki_sha256.as_slice()).ok(),
    }
}

pub fn pid(worker: u32) -> Pid {
    Pid::from_raw(worker.cast_signed()).unwrap()
}

pub fn signal(worker: u32, signal: Signal) {
    kill_process(pid(worker), signal).unwrap();
}

/// Waits until another worker than this one serves, and returns its process id.
pub async fn next_worker(hsm: &Hsm, before: u32) -> u32 {
    let mut state = hsm.changed();
    loop {
        state
            .wait_for(|state| matches!(state, HsmState::Ready))
            .await
            .unwrap();
        match hsm.status().worker_pid {
            Some(pid) if pid != before => return pid,
            // The state has not caught up with the death yet.
            Some(_) | None => tokio::time::sleep(Duration::from_millis(5)).await,
        }
    }
}
