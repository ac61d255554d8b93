//! `kekd check-config`: every effective value and where it came from.

use std::io::{self, Write as _};
use std::path::Path;

use crate::exit::Failure;
use crate::{Output, load};

/// Prints the configuration. Opens nothing but the file.
pub fn check_config(file: &Path, output: Output) -> Result<(), Failure> {
    let settings = load(file)?.settings;
    let mut out = io::stdout().lock();
    let printed = match output {
        Output::Text => settings.iter().try_for_each(|setting| {
            let line = if setting.value.is_null() {
                format!("{} is not set", setting.key)
            } else {
                format!("{} = {}", setting.key, setting.value)
            };
            writeln!(out, "{line:<60} # {}", setting.origin)
        }),
        Output::Json => {
            let rows: Vec<_> = settings
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
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        printed => printed.map_err(Failure::fatal),
    }
}
