//! Integration tests: one binary, one module per noun, a real SoftHSM token each.

mod hsm_worker;
mod softhsm;
