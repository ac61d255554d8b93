//! Who must agree before a key's life changes. Pure: no async, files, clock, randomness or logging.

mod authorized;

pub use authorized::{Authorized, Initialise};
