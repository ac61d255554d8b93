//! The commented examples, `systemd/kekd.toml` and `systemd/kekd-lkm.toml`, against the configurations
//! they explain.

#![expect(clippy::unwrap_used, reason = "a test that cannot unwrap has failed")]

use kekd::config::Config;
use kekd::lkm::config::LkmConfig;
use serde::Serialize;
use serde::de::DeserializeOwned;
use toml::{Table, Value};

const KEKD: &str = include_str!("../../systemd/kekd.toml");
const KEKD_LKM: &str = include_str!("../../systemd/kekd-lkm.toml");

/// Fields whose value in the example is a sample and not the default.
const SAMPLES: [&str; 5] = [
    "node",
    "hsm.sessions",
    "hsm.profiles_dir",
    "tcp.client_crl_file",
    "token",
];

/// The example with every `#name = value` line taken as said.
fn uncommented(example: &str) -> String {
    let said = |line: &&str| !line.starts_with("# ") && *line != "#";
    let lines = example.lines().filter(said);
    lines
        .map(|line| line.strip_prefix('#').unwrap_or(line).to_owned() + "\n")
        .collect()
}

/// All settings with their values, named `section.field`.
fn settings(table: &Table) -> Vec<(String, Value)> {
    let mut found = Vec::new();
    for (name, value) in table {
        if let Value::Table(section) = value {
            let fields = settings(section).into_iter();
            found.extend(fields.map(|(field, value)| (format!("{name}.{field}"), value)));
        } else {
            found.push((name.clone(), value.clone()));
        }
    }
    found.sort_by(|a, b| a.0.cmp(&b.0));
    found
}

fn names_every_setting_and_no_other<T: Serialize + DeserializeOwned>(example: &str) {
    let written: Table = toml::from_str(&uncommented(example)).unwrap();
    let config: T = toml::from_str(&uncommented(example)).unwrap();
    let read_back = Table::try_from(&config).unwrap();
    assert_eq!(settings(&written), settings(&read_back));
}

fn shows_defaults<T: Serialize + DeserializeOwned>(example: &str) {
    let config: T = toml::from_str(example).unwrap();
    let defaults = settings(&Table::try_from(&config).unwrap());
    for (name, value) in settings(&toml::from_str(&uncommented(example)).unwrap()) {
        if !SAMPLES.contains(&name.as_str()) {
            assert!(defaults.contains(&(name.clone(), value)), "{name}");
        }
    }
}

#[test]
fn an_example_names_every_setting_and_no_other() {
    names_every_setting_and_no_other::<Config>(KEKD);
    names_every_setting_and_no_other::<LkmConfig>(KEKD_LKM);
}

#[test]
fn a_commented_setting_shows_its_default() {
    shows_defaults::<Config>(KEKD);
    shows_defaults::<LkmConfig>(KEKD_LKM);
}
