//! The fold held against what officers may and may not do. Keys are real, signatures are real.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::wildcard_enum_match_arm,
    reason = "a test that cannot unwrap or index has failed, and one that knows a few kinds of \
              operations may leave out the others"
)]

mod approvals;
mod destruction;
mod executions;
mod invariants;
mod model;
mod offices;
mod play;
mod proposals;
mod signing;
mod stage;
mod stops;

/// Holds where the refusal is this variant.
macro_rules! refused {
    ($result:expr, $variant:pat $(if $guard:expr)?) => {{
        let result = $result;
        assert!(
            matches!(result, Err($variant) $(if $guard)?),
            "expected {}; found {result:?}",
            stringify!($variant)
        );
    }};
}
use refused;
