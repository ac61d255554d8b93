//! A worker process and the far ends of its sockets.

use std::collections::HashMap;
use std::fs;
use std::io::Write;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, ExitStatus};

use kekd::hsm::frame;
use kekd::hsm::profile::{KeyKind, Profile};
use kekd::proto::worker::{
    Attack, AttackReport, AttributeMismatch, Failure, FailureKind, Generate, Generated, KeyRef,
    KnownAnswer, Open, Opened, Padding, ReadBack, Request, Response, Unwrap, request::Op,
    response::Result as Answer,
};
use kekd::public_key::RsaPublicKey;
use kekd::types::{self, Sha256};
use prost::Message;
use rustix::net::{AddressFamily, SendFlags, SocketFlags, SocketType, send, socketpair};

use crate::harness::test_module;
use crate::softhsm::{MODULE, SoftHsm};

/// A running `kekd hsm-worker`.
pub struct Worker {
    child: Child,
    socket: UnixStream,
    requests: OwnedFd,
    next_id: u64,
    early: HashMap<u64, Answer>,
}

/// A key that was generated.
pub struct Key {
    pub key_ref: KeyRef,
    pub label: String,
    pub profile: Vec<u8>,
    /// Empty for a secret key.
    pub spki: Vec<u8>,
}

impl Worker {
    /// Starts a worker that sees this token's module configuration, and opens nothing.
    pub fn start(token: &SoftHsm) -> Self {
        let (socket, theirs) = UnixStream::pair().unwrap();
        let (requests, taken) = socketpair(
            AddressFamily::UNIX,
            SocketType::SEQPACKET,
            SocketFlags::CLOEXEC,
            None,
        )
        .unwrap();
        let child = Command::new(env!("CARGO_BIN_EXE_kekd"))
            .arg("hsm-worker")
            .env("SOFTHSM2_CONF", token.conf())
            .env("PKCS11_FAULT_SCRIPT", token.path().join("faults"))
            .env("PKCS11_FAULT_COUNTS", token.path().join("counts"))
            .stdin(OwnedFd::from(theirs))
            .stdout(taken)
            .spawn()
            .unwrap();
        Self {
            child,
            socket,
            requests,
            next_id: 0,
            early: HashMap::new(),
        }
    }

    /// Starts a worker and opens the token with two sessions.
    pub fn open(token: &SoftHsm) -> Self {
        let mut worker = Self::start(token);
        worker.try_open(&open_request(token)).unwrap();
        worker
    }

    /// The same, through the module that fails by this script (`tests/modules/README.md`).
    pub fn open_faulty(token: &SoftHsm, rules: &str) -> Self {
        fs::write(token.path().join("faults"), rules).unwrap();
        let mut worker = Self::start(token);
        let module = test_module("kekd_test_fault").display().to_string();
        let open = Open {
            module,
            ..open_request(token)
        };
        worker.try_open(&open).unwrap();
        worker
    }

    /// Waits for the worker to die.
    pub fn wait(mut self) -> ExitStatus {
        self.child.wait().unwrap()
    }

    /// Asks to open.
    pub fn try_open(&mut self, open: &Open) -> Result<Opened, Failure> {
        match self.call(Op::Open(open.clone())) {
            Ok(Answer::Opened(opened)) => Ok(opened),
            Err(failure) => Err(failure),
            Ok(other) => panic!("{other:?}"),
        }
    }

    /// Sends a request; its answer is fetched by `receive`.
    pub fn send(&mut self, op: Op) -> u64 {
        self.next_id += 1;
        let request = Request {
            id: self.next_id,
            op: Some(op),
        };
        if let Some(Op::Open(_) | Op::Ping(_)) = &request.op {
            let frame = frame::encode(&request).unwrap();
            self.socket.write_all(&frame).unwrap();
        } else {
            let message = request.encode_to_vec();
            send(&self.requests, &message, SendFlags::NOSIGNAL).unwrap();
        }
        self.next_id
    }

    /// The answer to one request, whatever order they come in.
    pub fn receive(&mut self, id: u64) -> Result<Answer, Failure> {
        let answer = loop {
            if let Some(answer) = self.early.remove(&id) {
                break answer;
            }
            let body = frame::read(&self.socket).unwrap().unwrap();
            let response = Response::decode(&body[..]).unwrap();
            self.early.insert(response.id, response.result.unwrap());
        };
        match answer {
            Answer::Failure(failure) => Err(failure),
            answer => Ok(answer),
        }
    }

    /// Sends a request and waits for its answer.
    pub fn call(&mut self, op: Op) -> Result<Answer, Failure> {
        let id = self.send(op);
        self.receive(id)
    }

    /// Closes the socket and waits for the worker to end.
    pub fn close(mut self) -> ExitStatus {
        self.socket.shutdown(std::net::Shutdown::Both).unwrap();
        self.child.wait().unwrap()
    }

    /// The worker's process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Generates a key to a built-in profile; `number` makes its `CKA_ID`.
    pub fn generate(&mut self, profile: &str, number: u8) -> Key {
        let profile = Profile::builtin(profile).unwrap().as_bytes().to_vec();
        self.generate_to(profile, number).unwrap()
    }

    /// Asks to generate a key.
    pub fn generate_to(&mut self, profile: Vec<u8>, number: u8) -> Result<Key, Failure> {
        let label = format!("key {number}");
        let request = Generate {
            object_id: vec![number; 16],
            label: label.clone(),
            profile: profile.clone(),
        };
        let spki = match self.call(Op::Generate(request))? {
            Answer::Generated(Generated { spki }) => spki,
            other => panic!("{other:?}"),
        };
        let parsed = Profile::parse(&profile).unwrap();
        assert_eq!(spki.is_empty(), parsed.kind() == KeyKind::GenericSecret);
        let spki_sha256 = match spki.is_empty() {
            true => Vec::new(),
            false => Sha256::of(&spki).as_bytes().to_vec(),
        };
        Ok(Key {
            key_ref: KeyRef {
                object_id: vec![number; 16],
                spki_sha256,
            },
            label,
            profile,
            spki,
        })
    }

    /// Sets the known-answer test on this key, for OAEP.
    pub fn set_known_answer(&mut self, key: &Key, by_unwrap: bool) -> bool {
        let wrapped = oaep_sha1(&key.spki, &[7; 32]);
        self.known_answer(key, Padding::OaepSha1, wrapped, by_unwrap)
            .unwrap()
    }

    /// Sets the known-answer test on this key, for PKCS#1 v1.5.
    pub fn set_pkcs1_known_answer(&mut self, key: &Key) -> Result<bool, Failure> {
        let wrapped = pkcs1(&key.spki, &[7; 32]);
        self.known_answer(key, Padding::Pkcs1V15, wrapped, false)
    }

    fn known_answer(
        &mut self,
        key: &Key,
        padding: Padding,
        wrapped: Vec<u8>,
        by_unwrap: bool,
    ) -> Result<bool, Failure> {
        let request = KnownAnswer {
            key: Some(key.key_ref.clone()),
            padding: padding.into(),
            wrapped,
            sha256: Sha256::of(&[7; 32]).as_bytes().to_vec(),
            by_unwrap,
        };
        match self.call(Op::KnownAnswer(request))? {
            Answer::KnownAnswered(answer) => Ok(answer.passed),
            other => panic!("{other:?}"),
        }
    }

    /// Unwraps; the DEK or the failure.
    pub fn unwrap(&mut self, request: Unwrap) -> Result<Vec<u8>, Failure> {
        match self.call(Op::Unwrap(request))? {
            Answer::Unwrapped(unwrapped) => Ok(unwrapped.dek.clone()),
            other => panic!("{other:?}"),
        }
    }

    /// Reads a key back.
    pub fn read_back(&mut self, key: &Key) -> Vec<AttributeMismatch> {
        let request = ReadBack {
            key: Some(key.key_ref.clone()),
            label: key.label.clone(),
            profile: key.profile.clone(),
            was_inventoried: false,
        };
        match self.call(Op::ReadBack(request)).unwrap() {
            Answer::ReadBackReport(report) => report.mismatches,
            other => panic!("{other:?}"),
        }
    }

    /// Attacks a key.
    pub fn attack(&mut self, key: &Key) -> AttackReport {
        let request = Attack {
            key: Some(key.key_ref.clone()),
            profile: key.profile.clone(),
        };
        match self.call(Op::Attack(request)).unwrap() {
            Answer::AttackReport(report) => report,
            other => panic!("{other:?}"),
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // A test that failed half-way must not leave a process behind.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// What opens this token with two sessions.
pub fn open_request(token: &SoftHsm) -> Open {
    Open {
        module: MODULE.to_owned(),
        token_label: token.label.clone(),
        token_serial: token.serial.clone(),
        pin_file: token.pin_file().display().to_string(),
        pin_mark_file: token.pin_mark_file().display().to_string(),
        sessions: 2,
    }
}

/// An unwrap request without a rejection key.
pub fn unwrap_request(key: &Key, padding: Padding, wrapped_dek: Vec<u8>) -> Unwrap {
    Unwrap {
        key: Some(key.key_ref.clone()),
        padding: padding.into(),
        wrapped_dek,
        implicit_rejection_key: None,
    }
}

/// The kind of a failure.
pub fn kind(failure: &Failure) -> FailureKind {
    failure.kind()
}

/// A value wrapped outside the token.
pub fn wrap(spki: &[u8], padding: types::Padding, value: &[u8]) -> Vec<u8> {
    let key = RsaPublicKey::from_spki(spki).unwrap();
    key.wrap(padding, value).unwrap().as_bytes().to_vec()
}

/// RSA-OAEP with SHA-1.
pub fn oaep_sha1(spki: &[u8], value: &[u8]) -> Vec<u8> {
    wrap(spki, types::Padding::OaepSha1, value)
}

/// RSAES-PKCS1-v1_5.
pub fn pkcs1(spki: &[u8], value: &[u8]) -> Vec<u8> {
    wrap(spki, types::Padding::Pkcs1V15, value)
}
