//! `kekd-lkm check-config`: every effective value and where it came from; then the files it names.

use std::io::{self, Write as _};
use std::path::Path;

use crate::exit::Failure;
use crate::{Output, load};

/// Prints the configuration, and reads certificate, key and credentials. Opens no socket.
pub fn check_config(file: &Path, output: Output) -> Result<(), Failure> {
    let loaded = load(file)?;
    let mut out = io::stdout().lock();
    let printed = match output {
        Output::Text => loaded.settings.iter().try_for_each(|setting| {
            let line = match setting.value.is_null() {
                true => format!("{} is not set", setting.key),
                false => format!("{} = {}", setting.key, setting.value),
            };
            writeln!(out, "{line:<60} # {}", setting.origin)
        }),
        Output::Json => {
            let rows: Vec<_> = loaded
                .settings
                .iter()
                .map(|setting| {
                    let origin = setting.origin.to_string();
                    serde_json::json!({
                        "key": setting.key, "value": setting.value, "origin": origin,
                    })
                })
                .collect();
            writeln!(out, "{:#}", serde_json::Value::from(rows))
        }
    };
    match printed {
        // Whoever reads the output, for example `head`, had enough.
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(Failure::fatal(error)),
        Ok(()) | Err(_) => kekd::lkm::check_files(&loaded.config).map_err(Failure::configuration),
    }
}
