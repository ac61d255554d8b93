//! kryoptic as a PKCS#11 module for tests: the `kryoptic-lib` crate behind the three entry points
//! of PKCS#11 v3.0 section 5.4. It gives the tests a second token, unlike SoftHSM in many small
//! ways, and one that does OAEP with SHA-256. No behaviour of ours belongs here.

use kryoptic_lib::fns::general::{fn_get_function_list, fn_get_interface, fn_get_interface_list};
use kryoptic_lib::pkcs11::*;

/// Gives the table of PKCS#11 v2.40 functions.
// SAFETY: no other object of this library defines the symbol; likewise for the two below.
#[unsafe(no_mangle)]
pub extern "C" fn C_GetFunctionList(list: CK_FUNCTION_LIST_PTR_PTR) -> CK_RV {
    fn_get_function_list(list)
}

/// Gives one table by name and version, PKCS#11 v3.0.
#[unsafe(no_mangle)]
pub extern "C" fn C_GetInterface(
    name: CK_UTF8CHAR_PTR,
    version: CK_VERSION_PTR,
    interface: CK_INTERFACE_PTR_PTR,
    flags: CK_FLAGS,
) -> CK_RV {
    fn_get_interface(name, version, interface, flags)
}

/// Lists the tables, PKCS#11 v3.0.
#[unsafe(no_mangle)]
pub extern "C" fn C_GetInterfaceList(list: CK_INTERFACE_PTR, count: CK_ULONG_PTR) -> CK_RV {
    fn_get_interface_list(list, count)
}
