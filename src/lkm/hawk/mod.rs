//! Hawk, version 1.1, with SHA-256 (mozilla/hawk, API.md): the header, the MAC over a request, the hash
//! of a payload, the memory of nonces, and the verdict of a server. By hand, since the crate `hawk`
//! accepts duplicate attributes, leaves `app` and `dlg` out of the MAC and brings a second
//! cryptographic library. The invariants: a MAC is compared in constant time, and a secret never has
//! a `Debug`.

mod header;
mod mac;
mod nonces;
mod verify;

pub use header::{Header, Malformed};
pub use mac::{Artifacts, Kind, MAC_LEN, Secret, payload_hash};
pub use nonces::{Nonces, Seen};
pub use verify::{Authenticated, NotAuthentic, Reading, SignedPath, Verifier};
