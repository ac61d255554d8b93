//! The daemon's program. For now it knows only the worker it will start.

use std::process::ExitCode;

fn main() -> ExitCode {
    match std::env::args().nth(1).as_deref() {
        Some("hsm-worker") if kekd::hsm::worker::run().is_ok() => ExitCode::SUCCESS,
        Some(_) | None => ExitCode::from(70),
    }
}
