//! The token: module loaded, token found, user logged in, and the keeper session that keeps it so.
//! Shared by all threads of the worker. No key is used here. Two invariants: a slot number never
//! chooses a token, and there is at most one login under way, ever.

use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use cryptoki::context::{CInitializeArgs, CInitializeFlags, Pkcs11};
use cryptoki::error::Error;
use cryptoki::session::{Session, SessionState};
use cryptoki::slot::Slot;

use super::answers::Answers;
use super::error::JobError;
use super::handles::Handles;
use super::login::PinFiles;
use super::return_value;
use crate::proto::worker::{Open, Opened, Probed};

/// A logged-in token.
pub(super) struct Token {
    // Before `module`: the last session is closed before the module goes.
    keeper: Mutex<Session>,
    module: Pkcs11,
    slot: Slot,
    pin_files: PinFiles,
    handles: Handles,
    answers: Answers,
    probed: OnceLock<Probed>,
    changes: Mutex<()>,
}

impl Token {
    /// Loads the module, finds the one token with this label and serial number, and logs in.
    pub(super) fn open(open: &Open) -> Result<(Self, Opened), JobError> {
        let unusable = |source| JobError::Module {
            path: open.module.clone(),
            source,
        };
        let module = Pkcs11::new(&open.module).map_err(unusable)?;
        module
            .initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK))
            .map_err(unusable)?;
        let library = module.get_library_info().map_err(unusable)?;
        let slot = find_slot(&module, open)?;
        let token = module.get_token_info(slot)?;
        let pin_files = PinFiles::new(
            PathBuf::from(&open.pin_file),
            PathBuf::from(&open.pin_mark_file),
            token.serial_number().to_owned(),
        );
        let keeper = module.open_rw_session(slot)?;
        pin_files.log_in(&keeper, &token)?;
        let opened = Opened {
            label: token.label().to_owned(),
            serial: token.serial_number().to_owned(),
            manufacturer: token.manufacturer_id().to_owned(),
            model: token.model().to_owned(),
            firmware_version: token.firmware_version().to_string(),
            cryptoki_version: library.cryptoki_version().to_string(),
            // As it was before this login, which resets it.
            pin_count_low: token.user_pin_count_low(),
        };
        let token = Self {
            keeper: Mutex::new(keeper),
            module,
            slot,
            pin_files,
            handles: Handles::default(),
            answers: Answers::default(),
            probed: OnceLock::new(),
            changes: Mutex::new(()),
        };
        Ok((token, opened))
    }

    /// A new session, for reading and writing.
    pub(super) fn session(&self) -> Result<Session, JobError> {
        Ok(self.module.open_rw_session(self.slot)?)
    }

    /// Makes sure that the user is logged in. Whoever comes second finds it done: however many
    /// threads see the login gone, there is one `C_Login`.
    pub(super) fn ensure_login(&self) -> Result<(), JobError> {
        let mut keeper = locked(&self.keeper);
        let state = match keeper.get_session_info() {
            Ok(session) => Some(session.session_state()),
            Err(_) => None,
        };
        if state.is_some_and(is_logged_in) {
            return Ok(());
        }
        self.forget_handles();
        if state.is_none() {
            *keeper = self.session()?;
            if is_logged_in(keeper.get_session_info()?.session_state()) {
                return Ok(());
            }
        }
        let token = self.module.get_token_info(self.slot)?;
        self.pin_files.log_in(&keeper, &token)?;
        // Again: who looked for a key meanwhile saw none, and learns by this that it was blind.
        self.forget_handles();
        Ok(())
    }

    /// Whether the token itself still answers; its sessions may say so long after it went.
    pub(super) fn check_present(&self) -> Result<(), JobError> {
        match self
            .module
            .get_token_info(self.slot)
            .map_err(JobError::from)
        {
            Ok(_) => Ok(()),
            Err(error) => Err(JobError::LinkLost {
                why: format!("the token cannot be read any more: {error}"),
                return_value: error.return_value(),
            }),
        }
    }

    /// Object handles learnt before this are not to be used any more.
    pub(super) fn forget_handles(&self) {
        self.handles.forget();
    }

    /// The handles of keys that were looked up.
    pub(super) const fn handles(&self) -> &Handles {
        &self.handles
    }

    /// Changes whenever handles are to be forgotten.
    pub(super) fn generation(&self) -> u64 {
        self.handles.generation()
    }

    /// The known-answer tests that passed.
    pub(super) const fn answers(&self) -> &Answers {
        &self.answers
    }

    /// What the probe found, once it has run.
    pub(super) fn probed(&self) -> Option<&Probed> {
        self.probed.get()
    }

    /// Keeps what the first probe found.
    pub(super) fn set_probed(&self, found: &Probed) {
        self.probed.get_or_init(|| found.clone());
    }

    /// Held while objects are made or destroyed: "is there one already?" and "make one" are one step
    /// for this worker, which is the only one of its daemon.
    pub(super) fn changes(&self) -> MutexGuard<'_, ()> {
        locked(&self.changes)
    }

    /// Closes the keeper session and finalises the module. All other sessions must be closed:
    /// modules crash when they are finalised in use.
    pub(super) fn close(self) -> Result<(), Error> {
        drop(self.keeper);
        self.module.finalize()
    }
}

const fn is_logged_in(state: SessionState) -> bool {
    matches!(state, SessionState::RoUser | SessionState::RwUser)
}

/// A panicking job must not take the others with it; what these locks guard is whole at any time.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn find_slot(module: &Pkcs11, open: &Open) -> Result<Slot, JobError> {
    let mut seen = Vec::new();
    let mut matching = Vec::new();
    for slot in module.get_slots_with_token()? {
        match module.get_token_info(slot) {
            Ok(token) => {
                let (label, serial) = (token.label(), token.serial_number());
                if label == open.token_label && serial == open.token_serial {
                    matching.push(slot);
                }
                seen.push(format!("label {label:?} serial {serial:?}"));
            }
            Err(Error::Pkcs11(code, _)) => {
                seen.push(format!("a token that answers {}", return_value::name(code)));
            }
            Err(error) => seen.push(format!("a token that cannot be read: {error}")),
        }
    }
    match matching.as_slice() {
        [slot] => Ok(*slot),
        found => Err(JobError::TokenNotFound {
            label: open.token_label.clone(),
            serial: open.token_serial.clone(),
            found: found.len(),
            seen: match seen.is_empty() {
                true => "no tokens".to_owned(),
                false => seen.join("; "),
            },
        }),
    }
}
