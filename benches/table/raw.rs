//! The raw module, without kekd: as many threads as kekd has sessions, each with a session of its
//! own and the key's handle, in a loop.

use std::path::Path;
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use cryptoki::context::{CInitializeArgs, CInitializeFlags, Pkcs11};
use cryptoki::mechanism::rsa::{PkcsMgfType, PkcsOaepParams, PkcsOaepSource};
use cryptoki::mechanism::{Mechanism, MechanismType};
use cryptoki::object::{Attribute, AttributeType, ObjectClass, ObjectHandle};
use cryptoki::session::{Session, UserType};
use cryptoki::slot::Slot;
use cryptoki::types::AuthPin;
use kekd::client::UnwrapCall;

use crate::load::{Sample, histogram, micros};
use crate::rig::{Rig, SOFTHSM};

/// The module, logged in.
pub struct Raw {
    pkcs11: Pkcs11,
    slot: Slot,
    /// Keeps the login.
    _session: Session,
}

impl Raw {
    /// Opens the token of a rig; its `SOFTHSM2_CONF` must be in this process's environment.
    pub fn open(rig: &Rig) -> anyhow::Result<Self> {
        Self::open_with(rig, Path::new(SOFTHSM))
    }

    /// The same with another module, which finds the token by itself.
    pub fn open_with(rig: &Rig, module: &Path) -> anyhow::Result<Self> {
        let pkcs11 = Pkcs11::new(module)?;
        pkcs11.initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK))?;
        let slots = pkcs11.get_slots_with_initialized_token()?;
        let slot = *slots.first().context("no token")?;
        let session = pkcs11.open_rw_session(slot)?;
        let pin = std::fs::read_to_string(rig.file("pin"))?;
        session.login(UserType::User, Some(&AuthPin::new(pin.trim().into())))?;
        Ok(Self {
            pkcs11,
            slot,
            _session: session,
        })
    }

    /// A session that is logged in.
    pub fn session(&self) -> anyhow::Result<Session> {
        Ok(self.pkcs11.open_rw_session(self.slot)?)
    }

    /// Lists the token as kekd's inventory does: one search, and the same of each object. How many of
    /// them are private keys.
    pub fn list(&self) -> anyhow::Result<usize> {
        let session = self.session()?;
        let wanted = [
            AttributeType::Class,
            AttributeType::Id,
            AttributeType::Label,
            AttributeType::Modulus,
            AttributeType::PublicExponent,
        ];
        let private = Attribute::Class(ObjectClass::PRIVATE_KEY);
        let mut count = 0;
        for object in session.find_objects(&[Attribute::Token(true)])? {
            let found = session.get_attributes(object, &wanted)?;
            count += usize::from(found.contains(&private));
        }
        Ok(count)
    }

    /// A session and the handle of a private key.
    pub fn caller(&self, object_id: [u8; 16]) -> anyhow::Result<Caller> {
        let session = self.session()?;
        let found = session.find_objects(&[
            Attribute::Class(ObjectClass::PRIVATE_KEY),
            Attribute::Id(object_id.to_vec()),
        ])?;
        let key = *found.first().context("the token has no such key")?;
        Ok(Caller { session, key })
    }

    /// Decrypts on so many threads for so long.
    pub fn run(
        &self,
        threads: usize,
        object_id: [u8; 16],
        calls: &[UnwrapCall],
        [warm, window]: [Duration; 2],
    ) -> anyhow::Result<Sample> {
        let stop = AtomicBool::new(false);
        let measuring = AtomicBool::new(false);
        let ready = Barrier::new(threads + 1);
        thread::scope(|scope| {
            let mut workers = Vec::new();
            for _ in 0..threads {
                let caller = self.caller(object_id)?;
                let (stop, measuring, ready) = (&stop, &measuring, &ready);
                workers.push(scope.spawn(move || {
                    let mut seen = histogram()?;
                    ready.wait();
                    for call in calls.iter().cycle() {
                        if stop.load(Ordering::Relaxed) {
                            break;
                        }
                        let began = Instant::now();
                        caller.decrypt(call)?;
                        if measuring.load(Ordering::Relaxed) {
                            seen.record(micros(began.elapsed()))?;
                        }
                    }
                    anyhow::Ok(seen)
                }));
            }
            ready.wait();
            thread::sleep(warm);
            measuring.store(true, Ordering::Relaxed);
            let began = Instant::now();
            thread::sleep(window);
            measuring.store(false, Ordering::Relaxed);
            let seconds = began.elapsed().as_secs_f64();
            stop.store(true, Ordering::Relaxed);
            let mut latency = histogram()?;
            for worker in workers {
                let seen = worker.join().ok().context("a thread panicked")??;
                latency.add(seen)?;
            }
            Ok(Sample::new(latency, seconds))
        })
    }
}

/// One session with one key.
pub struct Caller {
    pub session: Session,
    pub key: ObjectHandle,
}

impl Caller {
    /// One decryption.
    pub fn decrypt(&self, call: &UnwrapCall) -> anyhow::Result<()> {
        let (hash, mgf) = (MechanismType::SHA1, PkcsMgfType::MGF1_SHA1);
        let oaep = PkcsOaepParams::new(hash, mgf, PkcsOaepSource::empty());
        let mechanism = Mechanism::RsaPkcsOaep(oaep);
        let dek = self
            .session
            .decrypt(&mechanism, self.key, call.wrapped_dek.as_bytes())?;
        ensure!(dek.len() == 32, "a DEK has 32 bytes");
        Ok(())
    }
}
