//! A PKCS#11 v2.40 module for tests that forwards every call to a real module, except where a
//! script says otherwise. Environment:
//!
//! * `PKCS11_FAULT_MODULE`: path of the real module; without it, SoftHSM's usual places.
//! * `PKCS11_FAULT_SCRIPT`: path of the script; no such file means no faults. It is read again
//!   whenever it changes, so a test switches faults on and off in a running process. Put a new
//!   script in place by renaming: that cannot be mistaken for the old one.
//! * `PKCS11_FAULT_COUNTS`: path of a file that gets one line `C_Name PID` for each call, from all
//!   processes.
//!
//! A script has one rule a line, `FUNCTION WHEN ACTION`; `#` starts a comment. The first rule that
//! fits is applied. FUNCTION is a name or `*`. WHEN is one of
//!
//! * `3`: the third call from now. A rule like this is spent when it has been applied, by whichever
//!   process; the mark is a file beside the script. Calls are counted in each process by itself.
//! * `every 2`: each second call, in every process.
//! * `*`: each call.
//!
//! ACTION is one of
//!
//! * `CKR_DEVICE_ERROR` or `0x30`: answer this and do nothing. An operation that was begun stays
//!   active in the real module, as when a request is lost on its way; `lie` ends it.
//! * `ok` or `ok 24`: answer CKR_OK and do nothing, with 24 zero bytes of output.
//! * `lie CKR_DEVICE_ERROR`: do the work, then answer this.
//! * `corrupt`: do the work, then flip the lowest bit of the last byte of the output.
//! * `lie-attribute CKA_EXTRACTABLE 00`: C_GetAttributeValue only: do the work, then put these
//!   bytes, which must be as many, in place of the attribute's value.
//! * `delay 500`: do the work that many milliseconds later.
//! * `log-out`, `close-all-sessions`: C_DecryptInit and C_Decrypt only: do that to the real token, with
//!   the call's session, then the work.
//! * `hold`: do the work when there is another script, whatever it says.
//! * `hang`: never return. * `segv`, `abort`, `exit`: end the process thus.
//!
//! A call that only asks for the size of an output (a null output pointer) is forwarded, not
//! counted, and meets no rule but `* ok`. A script that cannot be understood aborts the process.
//!
//! This file holds the C interface; `rules.rs` the script; `actions.rs` what is done to a call.

mod actions;
mod names;
mod rules;

use std::env::var_os;
use std::ffi::OsString;
use std::path::Path;
use std::sync::OnceLock;

use cryptoki_sys::*;

#[cfg(not(target_pointer_width = "64"))]
compile_error!("calls are forwarded as machine words, which needs CK_ULONG to be one");

/// Debian's and Fedora's places for SoftHSM.
const SOFTHSM: [&str; 4] = [
    "/usr/lib/softhsm/libsofthsm2.so",
    "/usr/lib/x86_64-linux-gnu/softhsm/libsofthsm2.so",
    "/usr/lib/aarch64-linux-gnu/softhsm/libsofthsm2.so",
    "/usr/lib64/pkcs11/libsofthsm2.so",
];

static REAL: OnceLock<Option<CK_FUNCTION_LIST>> = OnceLock::new();
static OURS: OnceLock<CK_FUNCTION_LIST> = OnceLock::new();

/// Gives our table, PKCS#11 v2.40 section 5.1. The real module is loaded by the first call.
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
    let ours: *const CK_FUNCTION_LIST = OURS.get_or_init(|| table(real.version));
    // SAFETY: the caller's promise. Nobody writes through the pointer: PKCS#11 forbids it.
    unsafe { list.write(ours.cast_mut()) };
    CKR_OK
}

/// Loads the real module and copies its table. The library stays loaded for good.
fn load() -> Option<CK_FUNCTION_LIST> {
    let path = var_os("PKCS11_FAULT_MODULE").or_else(|| {
        let found = SOFTHSM.into_iter().find(|path| Path::new(path).exists());
        found.map(OsString::from)
    })?;
    // SAFETY: a test names a module that may be loaded.
    let module = unsafe { Pkcs11::new(&path) }
        .inspect_err(|error| eprintln!("fault: {}: {error}", path.display()))
        .ok()?;
    let module: &'static Pkcs11 = Box::leak(Box::new(module));
    let mut list = std::ptr::null_mut();
    let get = module.C_GetFunctionList.as_ref().ok()?;
    // SAFETY: `list` may be written to.
    let answer = unsafe { get(&raw mut list) };
    // SAFETY: null, or a table that lives as long as the module does.
    unsafe { list.as_ref() }
        .copied()
        .filter(|_| answer == CKR_OK)
}

/// Defines one forwarding function for each name, and `table`, which lists them. Every parameter of
/// every function here is a machine word, a pointer or a byte, at most eight of them; the calling
/// conventions of x86-64 and AArch64 pass each in a word of its own, so words can be passed on
/// without knowing which is which.
macro_rules! forward {
    ($($words:tt $($name:ident)*;)*) => {
        $($(forward!(@one $name $words);)*)*

        #[expect(clippy::missing_transmute_annotations, reason = "the field has the type")]
        fn table(version: CK_VERSION) -> CK_FUNCTION_LIST {
            CK_FUNCTION_LIST {
                version,
                C_GetFunctionList: Some(C_GetFunctionList),
                $($(
                    // SAFETY: from a function pointer to one of as many words, see above.
                    $name: Some(unsafe { std::mem::transmute($name as *const ()) }),
                )*)*
            }
        }
    };
    (@one $name:ident ($($word:ident)*)) => {
        #[expect(non_snake_case, reason = "PKCS#11 names this function")]
        unsafe extern "C" fn $name($($word: usize),*) -> CK_RV {
            type Words = unsafe extern "C" fn($(forward!(@usize $word)),*) -> CK_RV;
            let real = REAL.get().and_then(Option::as_ref).and_then(|real| real.$name);
            let Some(real) = real else { return CKR_FUNCTION_NOT_SUPPORTED };
            // SAFETY: from a function pointer to one of as many words, see above.
            let real: Words = unsafe { std::mem::transmute(real as *const ()) };
            let call = actions::Call { function: stringify!($name), words: &[$($word),*] };
            // SAFETY: the caller's words, as they came.
            call.run(|| unsafe { real($($word),*) })
        }
    };
    (@usize $word:ident) => { usize };
}

forward! {
    (a) C_Initialize C_Finalize C_GetInfo C_CloseSession C_CloseAllSessions C_Logout
        C_FindObjectsFinal C_GetFunctionStatus C_CancelFunction;
    (a b) C_GetSlotInfo C_GetTokenInfo C_GetSessionInfo C_DestroyObject C_DigestInit C_DigestKey;
    (a b c) C_GetSlotList C_GetMechanismList C_GetMechanismInfo C_InitPIN C_GetOperationState
        C_GetObjectSize C_FindObjectsInit C_EncryptInit C_EncryptFinal C_DecryptInit C_DecryptFinal
        C_DigestUpdate C_DigestFinal C_SignInit C_SignUpdate C_SignFinal C_SignRecoverInit
        C_VerifyInit C_VerifyUpdate C_VerifyFinal C_VerifyRecoverInit C_SeedRandom C_GenerateRandom
        C_WaitForSlotEvent;
    (a b c d) C_InitToken C_Login C_CreateObject C_GetAttributeValue C_SetAttributeValue
        C_FindObjects;
    (a b c d e) C_SetPIN C_OpenSession C_SetOperationState C_CopyObject C_Encrypt C_EncryptUpdate
        C_Decrypt C_DecryptUpdate C_Digest C_Sign C_SignRecover C_Verify C_VerifyRecover
        C_DigestEncryptUpdate C_DecryptDigestUpdate C_SignEncryptUpdate C_DecryptVerifyUpdate
        C_GenerateKey;
    (a b c d e f) C_WrapKey C_DeriveKey;
    (a b c d e f g h) C_GenerateKeyPair C_UnwrapKey;
}
