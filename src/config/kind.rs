//! The kinds of values in the file. The `config` crate makes what is asked for out of what it finds,
//! 4 out of 4.5 and 1 out of true; here a value is what it looks like, or it is refused.

use std::path::Path;

use config::{Map, Value, ValueKind};

use super::{ConfigError, Place, Setting};

/// A key of the file, for example `hsm.sessions`, and the kind of its value, in words.
pub(super) struct Written {
    pub(super) key: String,
    kind: &'static str,
}

const SECTION: &str = "a section";
const INTEGER: &str = "an integer";
const BOOLEAN: &str = "true or false";
const TEXT: &str = "a text in quotes";

/// All leaves of the file; an empty section is a leaf.
///
/// `lists` are the keys whose values are lists of sections: what is in the first is `token[0].name`
/// and so on.
pub(super) fn leaves(table: &Map<String, Value>, lists: &[&str]) -> Vec<Written> {
    let mut found = Vec::new();
    flatten("", table, lists, &mut found);
    found
}

fn flatten(prefix: &str, table: &Map<String, Value>, lists: &[&str], found: &mut Vec<Written>) {
    for (name, value) in table {
        let key = if prefix.is_empty() {
            name.clone()
        } else {
            format!("{prefix}.{name}")
        };
        if let ValueKind::Table(inner) = &value.kind
            && !inner.is_empty()
        {
            flatten(&key, inner, lists, found);
        } else if let ValueKind::Array(entries) = &value.kind
            && lists.contains(&key.as_str())
        {
            for (index, entry) in entries.iter().enumerate() {
                let key = format!("{key}[{index}]");
                if let ValueKind::Table(inner) = &entry.kind {
                    flatten(&key, inner, lists, found);
                } else {
                    let kind = word(&entry.kind);
                    found.push(Written { key, kind });
                }
            }
        } else {
            let kind = word(&value.kind);
            found.push(Written { key, kind });
        }
    }
}

const fn word(kind: &ValueKind) -> &'static str {
    match kind {
        ValueKind::Nil => "nothing",
        ValueKind::Boolean(_) => BOOLEAN,
        ValueKind::I64(_) | ValueKind::I128(_) | ValueKind::U64(_) | ValueKind::U128(_) => INTEGER,
        ValueKind::Float(_) => "a number with a fraction",
        ValueKind::String(_) => TEXT,
        ValueKind::Table(_) => SECTION,
        ValueKind::Array(_) => "a list",
    }
}

/// Refuses what stands in a section's place and is none.
pub(super) fn check_sections<'a>(
    written: &[Written],
    known: impl Iterator<Item = &'a str> + Clone,
    file: &Path,
) -> Result<(), ConfigError> {
    for Written { key, kind } in written {
        if *kind != SECTION && known.clone().any(|section| section == key) {
            return Err(other(file, key, kind, &format!("{SECTION}, [{key}]")));
        }
    }
    Ok(())
}

/// Refuses integers that are texts in the file, and the like.
pub(super) fn check_values(
    written: &[Written],
    settings: &[Setting],
    file: &Path,
) -> Result<(), ConfigError> {
    for setting in settings {
        let Place::File(_) = setting.origin else {
            continue;
        };
        let expected = if setting.value.is_number() {
            INTEGER
        } else if setting.value.is_boolean() {
            BOOLEAN
        } else {
            TEXT
        };
        for Written { key, kind } in written {
            if *key == setting.key && *kind != expected {
                return Err(other(file, key, kind, expected));
            }
        }
    }
    Ok(())
}

fn other(file: &Path, key: &str, found: &str, expected: &str) -> ConfigError {
    ConfigError::Value {
        place: Place::File(file.to_owned()),
        key: key.to_owned(),
        problem: format!("found {found}, expected {expected}"),
    }
}
