//! One binary of integration tests, one module per noun.

mod recording_cms;
