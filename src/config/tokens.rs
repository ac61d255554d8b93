//! Further tokens: `[[token]]`. Each is a replica, a token that holds the same KEKs under the same
//! ids because somebody cloned them there. What an entry leaves out it has from `[hsm]`, and that is
//! written into it before it is checked: what is read here is what is meant.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::{ConfigError, HsmConfig, paths};

/// Most entries.
const TOKENS_MAX: usize = 8;
/// Longest name.
const NAME_LEN_MAX: usize = 63;
/// The name of the token of `[hsm]`, where all are named.
pub const PRIMARY: &str = "primary";

/// One replica: `[[token]]`.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct TokenConfig {
    /// Its name in status, coverage and logs: 1 to 63 letters, digits, `.`, `_` and `-`; not
    /// `primary`, which is the token of `[hsm]`.
    pub name: String,
    /// As `hsm.module`, which is the default. `Some` in a configuration that was loaded, as are the
    /// four below.
    pub module: Option<PathBuf>,
    /// As `hsm.token_label`, which is the default.
    pub token_label: Option<String>,
    /// As `hsm.token_serial`, which is the default.
    pub token_serial: Option<String>,
    /// As `hsm.pin_file`, which is the default.
    pub pin_file: Option<PathBuf>,
    /// As `hsm.sessions`, which is the default.
    pub sessions: Option<usize>,
    /// Whether a new version becomes active only once this token holds it too.
    #[serde(default = "yes")]
    pub required: bool,
    /// Variables for the worker process of this token alone: many modules find their configuration
    /// by one, and so their token. No secrets: `kekd check-config` prints them.
    #[serde(default)]
    pub environment: BTreeMap<String, String>,
}

const fn yes() -> bool {
    true
}

impl TokenConfig {
    /// `[hsm]` as it is for this token.
    pub fn hsm(&self, primary: &HsmConfig) -> HsmConfig {
        let of = primary.clone();
        HsmConfig {
            module: self.module.clone().unwrap_or(of.module),
            token_label: self.token_label.clone().unwrap_or(of.token_label),
            token_serial: self.token_serial.clone().unwrap_or(of.token_serial),
            pin_file: self.pin_file.clone().unwrap_or(of.pin_file),
            sessions: self.sessions.unwrap_or(of.sessions),
            ..of
        }
    }

    /// Takes relative paths from their folders, and what is left out from `[hsm]`, whose paths are
    /// resolved.
    pub(super) fn resolve(&mut self, primary: &HsmConfig, folder: &Path, secrets: &Path) {
        if let Some(module) = &mut self.module {
            paths::from(folder, module);
        }
        if let Some(pin_file) = &mut self.pin_file {
            paths::from(secrets, pin_file);
        }
        let HsmConfig {
            module,
            token_label,
            token_serial,
            pin_file,
            sessions,
            ..
        } = self.hsm(primary);
        self.module = Some(module);
        self.token_label = Some(token_label);
        self.token_serial = Some(token_serial);
        self.pin_file = Some(pin_file);
        self.sessions = Some(sessions);
    }

    /// The first rule that is broken: the key, and what it must be.
    fn broken(&self, primary: &HsmConfig) -> Option<(&'static str, &'static str)> {
        let hsm = self.hsm(primary);
        let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        let is_variable = |name: &String| {
            !name.is_empty() && !name.contains(['=', '\0']) && !name.starts_with("KEKD_")
        };
        let name_len = 1..=NAME_LEN_MAX;
        [
            (
                "name",
                "1 to 63 letters, digits, '.', '_' and '-', and not begin with '.'",
                name_len.contains(&self.name.len())
                    && self.name.chars().all(is_name)
                    && !self.name.starts_with('.'),
            ),
            (
                "name",
                "another than \"primary\", which is the token of [hsm]",
                self.name != PRIMARY,
            ),
            (
                "module",
                "a path, not empty",
                !hsm.module.as_os_str().is_empty(),
            ),
            (
                "token_label",
                "1 to 32 bytes",
                (1..=32).contains(&hsm.token_label.len()),
            ),
            (
                "token_serial",
                "1 to 16 bytes",
                (1..=16).contains(&hsm.token_serial.len()),
            ),
            (
                "pin_file",
                "a path, not empty",
                !hsm.pin_file.as_os_str().is_empty(),
            ),
            ("sessions", "1 to 64", (1..=64).contains(&hsm.sessions)),
            (
                "environment",
                "names of variables without '=' that do not begin with KEKD_, and values without a \
                 zero byte",
                self.environment.keys().all(is_variable)
                    && !self.environment.values().any(|value| value.contains('\0')),
            ),
        ]
        .into_iter()
        .find_map(|(key, rule, holds)| (!holds).then_some((key, rule)))
    }
}

/// Checks all entries.
pub(super) fn check(
    tokens: &[TokenConfig],
    primary: &HsmConfig,
    file: &Path,
) -> Result<(), ConfigError> {
    let mut names = BTreeSet::new();
    for (index, token) in tokens.iter().enumerate() {
        let refused = |key, rule| {
            Err(ConfigError::Token {
                file: file.to_owned(),
                entry: index.saturating_add(1),
                name: token.name.clone(),
                key,
                rule,
            })
        };
        if index >= TOKENS_MAX {
            return refused("entry", "one of 8 at most");
        }
        if let Some((key, rule)) = token.broken(primary) {
            return refused(key, rule);
        }
        // Marks in the state folder bear the name, and some file systems fold case.
        if !names.insert(token.name.to_ascii_lowercase()) {
            return refused("name", "another than that of an entry before it");
        }
        let is_primary = |token: &TokenConfig| {
            let hsm = token.hsm(primary);
            token.environment.is_empty()
                && hsm.module == primary.module
                && hsm.token_label == primary.token_label
                && hsm.token_serial == primary.token_serial
        };
        if is_primary(token) {
            return refused(
                "entry",
                "another token than that of [hsm]: give it a module, token_label, token_serial or \
                 environment of its own",
            );
        }
    }
    Ok(())
}
