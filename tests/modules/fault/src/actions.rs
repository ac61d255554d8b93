//! What is done to one call: forward it, answer in its place, spoil its result, or end the process.
//! This and `lib.rs` are the only files that touch a caller's memory.

use std::env::var_os;
use std::fs::File;
use std::io::Write;
use std::slice::from_raw_parts;
use std::thread::sleep;
use std::time::Duration;

use cryptoki_sys::*;

use crate::rules::{Action, choose, wait_for_another_than};

/// One call to the module.
pub struct Call<'a> {
    /// Its name, `C_…`.
    pub function: &'static str,
    /// Its arguments in order.
    pub words: &'a [usize],
}

/// True for the functions whose last two arguments are an output buffer and its length, by the
/// convention of PKCS#11 v2.40 section 5.2.
pub fn has_output(function: &str) -> bool {
    matches!(
        function,
        "C_Encrypt"
            | "C_EncryptUpdate"
            | "C_EncryptFinal"
            | "C_Decrypt"
            | "C_DecryptUpdate"
            | "C_DecryptFinal"
            | "C_Digest"
            | "C_DigestFinal"
            | "C_Sign"
            | "C_SignFinal"
            | "C_SignRecover"
            | "C_VerifyRecover"
            | "C_WrapKey"
            | "C_GetOperationState"
            | "C_DigestEncryptUpdate"
            | "C_DecryptDigestUpdate"
            | "C_SignEncryptUpdate"
            | "C_DecryptVerifyUpdate"
    )
}

/// Closes all sessions with the token of this one.
fn close_all_sessions(real: &CK_FUNCTION_LIST, session: CK_SESSION_HANDLE) -> CK_RV {
    let mut info = CK_SESSION_INFO::default();
    let (Some(ask), Some(close)) = (real.C_GetSessionInfo, real.C_CloseAllSessions) else {
        return CKR_FUNCTION_NOT_SUPPORTED;
    };
    // SAFETY: the caller's session, and a place for the answer.
    match unsafe { ask(session, &raw mut info) } {
        // SAFETY: a slot of the real module.
        CKR_OK => unsafe { close(info.slotID) },
        answer => answer,
    }
}

impl Call<'_> {
    /// Counts the call and does what the script says; `real` forwards it.
    pub fn run(&self, real: impl FnOnce() -> CK_RV) -> CK_RV {
        let asks_size = self.output().is_some_and(|(output, _)| output.is_null());
        let chosen = choose(self.function, asks_size);
        // Only now: who reads the count and then changes the script does not change it for this call.
        if !asks_size {
            self.count();
        }
        match chosen {
            None => real(),
            Some(Action::Answer(code)) => code,
            Some(Action::Ok { output_len }) => self.pretend(output_len),
            Some(Action::Lie(code)) => {
                real();
                code
            }
            Some(Action::Corrupt) => self.corrupt(real()),
            Some(Action::LieAttribute(kind, value)) => self.lie_attribute(kind, &value, real()),
            Some(Action::Delay { ms }) => {
                sleep(Duration::from_millis(ms));
                real()
            }
            Some(Action::LogOut) => {
                self.in_between(|real, session| {
                    // SAFETY: the caller's session, to the real module.
                    real.C_Logout
                        .map_or(CKR_OK, |log_out| unsafe { log_out(session) })
                });
                real()
            }
            Some(Action::CloseAllSessions) => {
                self.in_between(close_all_sessions);
                real()
            }
            Some(Action::Hang) => loop {
                sleep(Duration::from_secs(3600));
            },
            Some(Action::Hold(script)) => {
                wait_for_another_than(script);
                real()
            }
            Some(Action::Segv) => die_of_segv(),
            Some(Action::Abort) => std::process::abort(),
            // SAFETY: always safe; unlike `exit` it runs none of the real module's destructors.
            Some(Action::Exit) => unsafe { libc::_exit(3) },
        }
    }

    /// Does something to the real module behind the caller's back, with the call's session.
    fn in_between(&self, act: impl FnOnce(&CK_FUNCTION_LIST, CK_SESSION_HANDLE) -> CK_RV) {
        let real = crate::REAL.get().and_then(Option::as_ref);
        if let (Some(real), [session, ..]) = (real, self.words) {
            let answer = act(real, *session as CK_SESSION_HANDLE);
            if answer != CKR_OK {
                eprintln!(
                    "fault: the token answers {answer:#x} to {}'s rule",
                    self.function
                );
            }
        }
    }

    /// The output buffer and where its length stands.
    fn output(&self) -> Option<(*mut u8, *mut CK_ULONG)> {
        match *self.words {
            [.., output, len] if has_output(self.function) => {
                Some((output as *mut u8, len as *mut CK_ULONG))
            }
            _ => None,
        }
    }

    fn count(&self) {
        let Some(path) = var_os("PKCS11_FAULT_COUNTS") else {
            return;
        };
        let line = format!("{} {}\n", self.function, std::process::id());
        let file = File::options().append(true).create(true).open(&path);
        // One write in append mode: lines of several processes do not mix.
        if let Err(error) = file.and_then(|mut file| file.write_all(line.as_bytes())) {
            eprintln!("fault: {}: {error}", path.display());
            std::process::abort();
        }
    }

    /// Answers CKR_OK with `output_len` zero bytes, as far as the caller's buffer reaches.
    fn pretend(&self, output_len: usize) -> CK_RV {
        let Some((output, len)) = self.output() else {
            return CKR_OK;
        };
        // SAFETY: PKCS#11 has the caller point at the buffer's length.
        let room = unsafe { len.replace(output_len as CK_ULONG) } as usize;
        if output.is_null() {
            return CKR_OK;
        }
        if room < output_len {
            return CKR_BUFFER_TOO_SMALL;
        }
        // SAFETY: the buffer has `room` bytes.
        unsafe { output.write_bytes(0, output_len) };
        CKR_OK
    }

    /// Flips one bit of an output that came with `answer`.
    fn corrupt(&self, answer: CK_RV) -> CK_RV {
        let (output, len) = match (self.output(), self.words) {
            // SAFETY: PKCS#11 has the caller point at the length, which the real module has set.
            (Some((output, len)), _) => (output, unsafe { len.read() } as usize),
            (None, &[_, output, len]) => (output as *mut u8, len), // C_GenerateRandom
            (None, _) => return answer,
        };
        if answer == CKR_OK && len > 0 {
            // SAFETY: the real module has written `len` bytes there.
            let last = unsafe { &mut *output.add(len - 1) };
            *last ^= 1;
        }
        answer
    }

    /// Puts `value` in place of the attribute's own, in the answer to C_GetAttributeValue.
    fn lie_attribute(&self, kind: CK_ATTRIBUTE_TYPE, value: &[u8], answer: CK_RV) -> CK_RV {
        let &[_, _, template, len] = self.words else {
            return answer;
        };
        // SAFETY: the caller's template has `len` attributes.
        let template = unsafe { from_raw_parts(template as *const CK_ATTRIBUTE, len) };
        for attribute in template {
            if attribute.type_ != kind || attribute.pValue.is_null() {
                continue;
            }
            if attribute.ulValueLen as usize != value.len() {
                eprintln!(
                    "fault: attribute {kind:#x} has {} bytes",
                    attribute.ulValueLen
                );
                std::process::abort();
            }
            let output = attribute.pValue.cast::<u8>();
            // SAFETY: the real module has written as many bytes there.
            unsafe { output.copy_from_nonoverlapping(value.as_ptr(), value.len()) };
        }
        answer
    }
}

/// As a bad pointer in a module would. `raise` alone could meet a handler and return.
fn die_of_segv() -> ! {
    // SAFETY: always safe.
    unsafe { libc::signal(libc::SIGSEGV, libc::SIG_DFL) };
    // SAFETY: always safe.
    unsafe { libc::raise(libc::SIGSEGV) };
    std::process::abort()
}
