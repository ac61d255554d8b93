//! What is remembered: the answer to each ciphertext, by key and mechanism, and what each session
//! is about to decrypt. Bounded; what finds no room is the real module's work each time.

use std::collections::HashMap;
use std::sync::{LazyLock, Mutex, PoisonError, RwLock};

use cryptoki_sys::*;

/// Answers that are remembered.
const ANSWERS_LEN_MAX: usize = 16 * 1024;

/// The one memory of the process.
pub static MEMORY: LazyLock<Memory> = LazyLock::new(Memory::default);

/// A key, and the mechanism that decrypts with it. Its parameter is a copy of the caller's bytes.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Asked {
    key: CK_OBJECT_HANDLE,
    mechanism: CK_MECHANISM_TYPE,
    parameter: Vec<u8>,
}

#[derive(Default)]
struct Answers {
    len: usize,
    by_asked: HashMap<Asked, HashMap<Vec<u8>, Vec<u8>>>,
}

/// What is remembered.
#[derive(Default)]
pub struct Memory {
    answers: RwLock<Answers>,
    /// By session; true where the real module has begun the operation.
    active: Mutex<HashMap<CK_SESSION_HANDLE, (Asked, bool)>>,
}

impl Asked {
    /// What a caller asks for. None where it cannot be remembered: no RSA, or a parameter that
    /// points to more than itself.
    ///
    /// # Safety
    ///
    /// `mechanism` is null or valid, with its parameter.
    pub unsafe fn of(mechanism: CK_MECHANISM_PTR, key: CK_OBJECT_HANDLE) -> Option<Self> {
        // SAFETY: the caller's promise.
        let asked = unsafe { mechanism.as_ref() }?;
        let len = usize::try_from(asked.ulParameterLen).ok()?;
        let has_parameter = match asked.mechanism {
            CKM_RSA_PKCS => false,
            CKM_RSA_PKCS_OAEP if len == size_of::<CK_RSA_PKCS_OAEP_PARAMS>() => true,
            _ => return None,
        };
        let parameter = if has_parameter {
            // SAFETY: the caller's promise; the length was just compared.
            let (oaep, bytes) = unsafe {
                let oaep = &*asked.pParameter.cast::<CK_RSA_PKCS_OAEP_PARAMS>();
                let bytes = std::slice::from_raw_parts(asked.pParameter.cast::<u8>(), len);
                (oaep, bytes)
            };
            if oaep.ulSourceDataLen != 0 {
                return None;
            }
            bytes.to_vec()
        } else {
            Vec::new()
        };
        Some(Self {
            key,
            mechanism: asked.mechanism,
            parameter,
        })
    }

    /// The same as PKCS#11 has it, for one call.
    pub fn with_mechanism<T>(
        &self,
        call: impl FnOnce(CK_MECHANISM_PTR, CK_OBJECT_HANDLE) -> T,
    ) -> T {
        let mut parameter = self.parameter.clone();
        let mut mechanism = CK_MECHANISM {
            mechanism: self.mechanism,
            pParameter: match parameter.is_empty() {
                true => std::ptr::null_mut(),
                false => parameter.as_mut_ptr().cast(),
            },
            ulParameterLen: parameter.len() as CK_ULONG,
        };
        call(&raw mut mechanism, self.key)
    }
}

impl Memory {
    /// Whether the real module once decrypted with this key and mechanism.
    pub fn accepts(&self, asked: &Asked) -> bool {
        let answers = self.answers.read().unwrap_or_else(PoisonError::into_inner);
        answers.by_asked.contains_key(asked)
    }

    /// The plaintext, where it is known.
    pub fn answer(&self, asked: &Asked, ciphertext: &[u8]) -> Option<Vec<u8>> {
        let answers = self.answers.read().unwrap_or_else(PoisonError::into_inner);
        answers.by_asked.get(asked)?.get(ciphertext).cloned()
    }

    /// Keeps an answer while there is room.
    pub fn remember(&self, asked: Asked, ciphertext: &[u8], plaintext: &[u8]) {
        let mut answers = self.answers.write().unwrap_or_else(PoisonError::into_inner);
        if answers.len >= ANSWERS_LEN_MAX {
            return;
        }
        answers.len += 1;
        let of_key = answers.by_asked.entry(asked).or_default();
        of_key.insert(ciphertext.to_vec(), plaintext.to_vec());
    }

    /// Forgets all answers: handles may name other keys from now on.
    pub fn forget(&self) {
        *self.answers.write().unwrap_or_else(PoisonError::into_inner) = Answers::default();
    }

    /// A session is about to decrypt; `is_begun` where the real module knows.
    pub fn begin(&self, session: CK_SESSION_HANDLE, asked: Asked, is_begun: bool) {
        let mut active = self.active.lock().unwrap_or_else(PoisonError::into_inner);
        active.insert(session, (asked, is_begun));
    }

    /// What a session is about to decrypt.
    pub fn active(&self, session: CK_SESSION_HANDLE) -> Option<(Asked, bool)> {
        let active = self.active.lock().unwrap_or_else(PoisonError::into_inner);
        active.get(&session).cloned()
    }

    /// A session has decrypted, or failed to.
    pub fn end(&self, session: CK_SESSION_HANDLE) {
        let mut active = self.active.lock().unwrap_or_else(PoisonError::into_inner);
        active.remove(&session);
    }
}
