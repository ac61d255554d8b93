//! The seal on plaintext. The HSM hands out DEKs sealed; only the audit journal opens the seal, and
//! it does so after the record of the release is on disk. Anyone may seal:
//!
//! ```
//! let sealed = kekd::audit::Sealed::new(zeroize::Zeroizing::new([0u8; 32]));
//! # drop(sealed);
//! ```
//!
//! Code elsewhere that wants the bytes does not compile:
//!
//! ```compile_fail,E0624
//! let sealed = kekd::audit::Sealed::new(zeroize::Zeroizing::new([0u8; 32]));
//! let dek = sealed.open(); // private to the audit module
//! ```

/// A value that may leave only after its audit record is durable. It can be made by anyone and
/// opened by the audit module alone. It has no `Debug`, no `Clone` and no way to borrow what is
/// inside; `T` wipes itself when dropped.
pub struct Sealed<T>(T);

impl<T> Sealed<T> {
    /// Seals a value.
    pub const fn new(value: T) -> Self {
        Self(value)
    }

    pub(in crate::audit) fn open(self) -> T {
        self.0
    }
}
