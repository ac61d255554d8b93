//! A PKCS#11 v2.40 module for measurements: SoftHSM, except that a decryption costs nothing the
//! second time. What is left is what kekd itself costs. Environment:
//!
//! * `PKCS11_NULL_MODULE`: path of the real module; without it, SoftHSM's usual places.
//! * `PKCS11_NULL_LATENCY_MS`: each `C_Decrypt` sleeps this long, as one waits for an HSM on the
//!   network, without use of a processor.
//!
//! The first decryption of each ciphertext is the real module's, so the answers are true and kekd's
//! known-answer tests mean what they say. This file holds the C interface; `memory.rs` what is
//! remembered.

mod memory;

use std::env;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::thread::sleep;
use std::time::Duration;

use cryptoki_sys::*;

use memory::{Asked, MEMORY};

/// Debian's and Fedora's places for SoftHSM.
const SOFTHSM: [&str; 4] = [
    "/usr/lib/softhsm/libsofthsm2.so",
    "/usr/lib/x86_64-linux-gnu/softhsm/libsofthsm2.so",
    "/usr/lib/aarch64-linux-gnu/softhsm/libsofthsm2.so",
    "/usr/lib64/pkcs11/libsofthsm2.so",
];
/// What is said to whoever asks how long a plaintext will be that is not known yet: as long as the
/// modulus of an RSA-4096 key, which PKCS#11 v2.40 section 5.2 allows for.
const PLAINTEXT_LEN_MAX: CK_ULONG = 512;

static REAL: OnceLock<Option<CK_FUNCTION_LIST>> = OnceLock::new();
static OURS: OnceLock<CK_FUNCTION_LIST> = OnceLock::new();
static LATENCY: OnceLock<Duration> = OnceLock::new();

/// Gives our table, PKCS#11 v2.40 section 5.1: the real one but for five functions.
///
/// # Safety
///
/// `list` is null or may be written to.
// SAFETY: no other object of this library defines the symbol.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn C_GetFunctionList(list: CK_FUNCTION_LIST_PTR_PTR) -> CK_RV {
    let Some(real) = REAL.get_or_init(load) else {
        return CKR_GENERAL_ERROR;
    };
    if list.is_null() {
        return CKR_ARGUMENTS_BAD;
    }
    let ours: *const CK_FUNCTION_LIST = OURS.get_or_init(|| CK_FUNCTION_LIST {
        C_GetFunctionList: Some(C_GetFunctionList),
        C_DecryptInit: Some(decrypt_init),
        C_Decrypt: Some(decrypt),
        C_CloseSession: Some(close_session),
        C_DestroyObject: Some(destroy_object),
        C_Finalize: Some(finalize),
        ..*real
    });
    // SAFETY: the caller's promise. Nobody writes through the pointer: PKCS#11 forbids it.
    unsafe { list.write(ours.cast_mut()) };
    CKR_OK
}

fn load() -> Option<CK_FUNCTION_LIST> {
    let path = env::var_os("PKCS11_NULL_MODULE").map(PathBuf::from);
    let path = path.or_else(|| {
        let found = SOFTHSM.iter().map(Path::new).find(|path| path.exists());
        found.map(Path::to_owned)
    })?;
    // SAFETY: whoever measures names a module that may be loaded.
    let module = unsafe { Pkcs11::new(&path) }
        .inspect_err(|error| eprintln!("null: {}: {error}", path.display()))
        .ok()?;
    let module: &'static Pkcs11 = Box::leak(Box::new(module));
    let mut list = std::ptr::null_mut();
    let get = module.C_GetFunctionList.as_ref().ok()?;
    // SAFETY: `list` may be written to.
    let answer = unsafe { get(&raw mut list) };
    // SAFETY: null, or a table that lives as long as the module does.
    let list = unsafe { list.as_ref() };
    list.copied().filter(|_| answer == CKR_OK)
}

fn real() -> Option<&'static CK_FUNCTION_LIST> {
    REAL.get().and_then(Option::as_ref)
}

/// Asks the real module only where it has not yet accepted this key for this mechanism.
unsafe extern "C" fn decrypt_init(
    session: CK_SESSION_HANDLE,
    mechanism: CK_MECHANISM_PTR,
    key: CK_OBJECT_HANDLE,
) -> CK_RV {
    // SAFETY: the caller's promise, PKCS#11 v2.40 section 5.9.
    let asked = unsafe { Asked::of(mechanism, key) };
    if let Some(asked) = &asked
        && MEMORY.accepts(asked)
    {
        MEMORY.begin(session, asked.clone(), false);
        return CKR_OK;
    }
    let Some(init) = real().and_then(|real| real.C_DecryptInit) else {
        return CKR_FUNCTION_NOT_SUPPORTED;
    };
    // SAFETY: the caller's own arguments.
    let answer = unsafe { init(session, mechanism, key) };
    if let (CKR_OK, Some(asked)) = (answer, asked) {
        MEMORY.begin(session, asked, true);
    }
    answer
}

/// Answers from memory where it can.
unsafe extern "C" fn decrypt(
    session: CK_SESSION_HANDLE,
    data: CK_BYTE_PTR,
    data_len: CK_ULONG,
    output: CK_BYTE_PTR,
    output_len: CK_ULONG_PTR,
) -> CK_RV {
    let Some(functions) = real() else {
        return CKR_FUNCTION_NOT_SUPPORTED;
    };
    let (Some(init), Some(run)) = (functions.C_DecryptInit, functions.C_Decrypt) else {
        return CKR_FUNCTION_NOT_SUPPORTED;
    };
    let Some((asked, is_begun)) = MEMORY.active(session) else {
        // SAFETY: the caller's own arguments.
        return unsafe { run(session, data, data_len, output, output_len) };
    };
    // SAFETY: the caller's promise: so many bytes of data, and a length that may be read and written.
    let (ciphertext, len) = unsafe {
        let bytes = usize::try_from(data_len).unwrap_or(0);
        (std::slice::from_raw_parts(data, bytes), &mut *output_len)
    };
    let known = MEMORY.answer(&asked, ciphertext).filter(|_| !is_begun);
    if output.is_null() {
        *len = known.map_or(PLAINTEXT_LEN_MAX, |known| known.len() as CK_ULONG);
        return CKR_OK;
    }
    sleep(*LATENCY.get_or_init(latency));
    if let Some(known) = known {
        if (*len as usize) < known.len() {
            *len = known.len() as CK_ULONG;
            return CKR_BUFFER_TOO_SMALL;
        }
        // SAFETY: the caller's buffer is at least that long, as just seen.
        unsafe { std::ptr::copy_nonoverlapping(known.as_ptr(), output, known.len()) };
        *len = known.len() as CK_ULONG;
        MEMORY.end(session);
        return CKR_OK;
    }
    if !is_begun {
        let answer = asked.with_mechanism(|mechanism, key| {
            // SAFETY: a mechanism that lives for the call, and a key that was good for it before.
            unsafe { init(session, mechanism, key) }
        });
        if answer != CKR_OK {
            MEMORY.end(session);
            return answer;
        }
        MEMORY.begin(session, asked.clone(), true);
    }
    // SAFETY: the caller's own arguments.
    let answer = unsafe { run(session, data, data_len, output, output_len) };
    if answer == CKR_BUFFER_TOO_SMALL {
        return answer;
    }
    MEMORY.end(session);
    if answer == CKR_OK {
        // SAFETY: the real module has just written so many bytes.
        let plaintext = unsafe { std::slice::from_raw_parts(output, *len as usize) };
        MEMORY.remember(asked, ciphertext, plaintext);
    }
    answer
}

unsafe extern "C" fn close_session(session: CK_SESSION_HANDLE) -> CK_RV {
    MEMORY.end(session);
    let Some(close) = real().and_then(|real| real.C_CloseSession) else {
        return CKR_FUNCTION_NOT_SUPPORTED;
    };
    // SAFETY: the caller's own argument.
    unsafe { close(session) }
}

unsafe extern "C" fn destroy_object(session: CK_SESSION_HANDLE, object: CK_OBJECT_HANDLE) -> CK_RV {
    MEMORY.forget();
    let Some(destroy) = real().and_then(|real| real.C_DestroyObject) else {
        return CKR_FUNCTION_NOT_SUPPORTED;
    };
    // SAFETY: the caller's own arguments.
    unsafe { destroy(session, object) }
}

unsafe extern "C" fn finalize(reserved: CK_VOID_PTR) -> CK_RV {
    MEMORY.forget();
    let Some(finalize) = real().and_then(|real| real.C_Finalize) else {
        return CKR_FUNCTION_NOT_SUPPORTED;
    };
    // SAFETY: the caller's own argument.
    unsafe { finalize(reserved) }
}

fn latency() -> Duration {
    let ms = env::var("PKCS11_NULL_LATENCY_MS").unwrap_or_default();
    Duration::from_millis(ms.parse().unwrap_or(0))
}
