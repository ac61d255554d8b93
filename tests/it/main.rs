//! The integration tests: one binary, one file per noun.

mod example_config;
