//! The one login of a start. Whatever could use up a token's tries is decided here: one
//! `C_Login` per call, none where the token says the last try is near, none with a PIN that was
//! refused before, and the mark of a refusal is on disk before anybody hears of it.

use std::io;
use std::path::PathBuf;

use cryptoki::error::{Error, RvError};
use cryptoki::session::{Session, UserType};
use cryptoki::slot::TokenInfo;

use super::pin::{self, Mark, PinFileError};
use super::return_value;
use crate::proto::worker::FailureKind;

/// Why there is no login. None of these is tried again by the worker.
#[derive(Debug, thiserror::Error)]
pub(super) enum LoginError {
    #[error(transparent)]
    PinFile(#[from] PinFileError),
    #[error(
        "the token refused the PIN ({}); it will not be offered again: correct the PIN file, or \
         remove the mark {mark} if the PIN is right after all{trouble}",
        return_value::name(*.return_value)
    )]
    Refused {
        return_value: RvError,
        mark: String,
        /// What went wrong with the mark; empty where it is on disk.
        trouble: String,
    },
    #[error(
        "this PIN was refused by this token before and is not offered again: correct the PIN \
         file, or remove the mark {mark} if the PIN is right after all"
    )]
    RefusedBefore { mark: String },
    #[error("the token says that the PIN is locked: unlock it with the security officer's PIN")]
    Locked,
    #[error(
        "the token says that one more wrong PIN locks it, so no login was tried: log in once by \
         hand with the right PIN, then start again"
    )]
    FinalTry,
    #[error("the token has no user PIN yet: initialise it first")]
    NoUserPin,
    #[error(
        "no login was tried, because a refusal could not be marked: the mark {mark} or its \
         folder cannot be used: {source}"
    )]
    MarkUnusable { mark: String, source: io::Error },
    #[error("the login failed, and not for the PIN: {0}")]
    Failed(Error),
}

impl LoginError {
    pub(super) const fn kind(&self) -> FailureKind {
        match self {
            Self::PinFile(_) => FailureKind::PinUnreadable,
            Self::Refused { .. } => FailureKind::PinRefused,
            Self::RefusedBefore { .. }
            | Self::Locked
            | Self::FinalTry
            | Self::NoUserPin
            | Self::MarkUnusable { .. } => FailureKind::PinWithheld,
            Self::Failed(_) => FailureKind::LinkLost,
        }
    }

    pub(super) const fn return_value(&self) -> Option<RvError> {
        match self {
            Self::Refused { return_value, .. } | Self::Failed(Error::Pkcs11(return_value, _)) => {
                Some(*return_value)
            }
            Self::PinFile(_)
            | Self::RefusedBefore { .. }
            | Self::Locked
            | Self::FinalTry
            | Self::NoUserPin
            | Self::MarkUnusable { .. }
            | Self::Failed(_) => None,
        }
    }
}

/// Where the PIN and the mark are.
pub(super) struct PinFiles {
    pin: PathBuf,
    mark: Mark,
}

impl PinFiles {
    pub(super) const fn new(pin: PathBuf, mark: PathBuf, serial: String) -> Self {
        Self {
            pin,
            mark: Mark::new(mark, serial),
        }
    }

    /// Logs the user in. The PIN is read now and wiped on return, whatever comes of it. That
    /// somebody is logged in already counts as success: login belongs to the whole process.
    pub(super) fn log_in(&self, session: &Session, token: &TokenInfo) -> Result<(), LoginError> {
        if token.user_pin_locked() {
            return Err(LoginError::Locked);
        }
        if token.user_pin_final_try() {
            return Err(LoginError::FinalTry);
        }
        let pin = pin::read(&self.pin)?;
        let mark = self.mark.path().display().to_string();
        match self.mark.forbids(&pin) {
            Ok(false) => {}
            Ok(true) => return Err(LoginError::RefusedBefore { mark }),
            Err(source) => return Err(LoginError::MarkUnusable { mark, source }),
        }
        if let Err(source) = self.mark.prepare() {
            return Err(LoginError::MarkUnusable { mark, source });
        }
        let refused = match session.login_with_raw(UserType::User, &pin) {
            Ok(()) | Err(Error::Pkcs11(RvError::UserAlreadyLoggedIn, _)) => {
                // A mark that stays is that of another PIN, which harms nobody.
                drop(self.mark.remove());
                return Ok(());
            }
            Err(Error::Pkcs11(code, call))
                if return_value::class(call, code) == return_value::Class::PinRefused =>
            {
                code
            }
            Err(Error::Pkcs11(RvError::UserPinNotInitialized, _)) => {
                return Err(LoginError::NoUserPin);
            }
            Err(error) => return Err(LoginError::Failed(error)),
        };
        let trouble = match self.mark.write(&pin) {
            Ok(()) => String::new(),
            Err(error) => format!("; THE MARK COULD NOT BE WRITTEN, do not restart: {error}"),
        };
        Err(LoginError::Refused {
            return_value: refused,
            mark,
            trouble,
        })
    }
}
