//! kekctl's command line where no kekd is needed: each `tests/cmd/*.toml` names arguments and what
//! must come of them, to the letter. `{tmp}` stands for a folder of the case's own, `{version}` for
//! kekctl's.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde::Deserialize;

/// One case.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    args: Vec<String>,
    #[serde(default)]
    env: BTreeMap<String, String>,
    /// Files to begin with, by name under `{tmp}`.
    #[serde(default)]
    files: BTreeMap<String, String>,
    status: i32,
    #[serde(default)]
    stdout: String,
    #[serde(default)]
    stderr: String,
}

/// What the environment of a developer may hold and a case must not see.
const VARIABLES: [&str; 14] = [
    "KEKD_ENDPOINT",
    "KEKD_SOCKET",
    "KEKD_CA",
    "KEKD_CERT",
    "KEKD_KEY",
    "KEKD_OFFICER",
    "KEKD_OFFICER_KEY",
    "KEKD_INSTANCE",
    "KEKD_LKM_URL",
    "KEKD_LKM_ID",
    "KEKD_LKM_KEY",
    "KEKD_LKM_CA",
    "NO_COLOR",
    "CLICOLOR_FORCE",
];

#[test]
fn every_case_ends_as_written() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cmd");
    let mut paths: Vec<PathBuf> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| {
            path.extension()
                .is_some_and(|extension| extension == "toml")
        })
        .collect();
    paths.sort();
    assert!(paths.len() > 10, "the cases are missing");
    let differing: Vec<String> = paths.iter().filter_map(|path| difference(path)).collect();
    assert!(differing.is_empty(), "{}", differing.join("\n"));
}

fn difference(path: &Path) -> Option<String> {
    let text = std::fs::read_to_string(path).unwrap();
    let case: Case = toml::from_str(&text).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let tmp = dir.path().to_str().unwrap();
    for (name, content) in &case.files {
        std::fs::write(dir.path().join(name), content).unwrap();
    }
    let mut command = Command::new(env!("CARGO_BIN_EXE_kekctl"));
    for variable in VARIABLES {
        command.env_remove(variable);
    }
    let filled = |text: &String| text.replace("{tmp}", tmp);
    let output = command
        .args(case.args.iter().map(filled))
        .envs(case.env.iter().map(|(name, value)| (name, filled(value))))
        .output()
        .unwrap();
    let found = (
        output.status.code().unwrap(),
        String::from_utf8(output.stdout)
            .unwrap()
            .replace(tmp, "{tmp}"),
        String::from_utf8(output.stderr)
            .unwrap()
            .replace(tmp, "{tmp}"),
    );
    let stdout = case.stdout.replace("{version}", env!("CARGO_PKG_VERSION"));
    let expected = (case.status, stdout, case.stderr);
    (found != expected).then(|| {
        format!(
            "{}\n-- status {} expected {}\n-- stdout\n{}-- expected\n{}-- stderr\n{}-- expected\n{}",
            path.display(),
            found.0,
            expected.0,
            found.1,
            expected.1,
            found.2,
            expected.2
        )
    })
}

/// Runs kekctl with a standard output whose reader has gone.
fn with_no_reader(program: &str, arguments: &[&str]) -> std::process::Output {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    Command::new(program)
        .args(arguments)
        .stdout(writer)
        .output()
        .unwrap()
}

#[test]
fn a_reader_that_leaves_is_no_failure() {
    let (kekctl, kekd) = (env!("CARGO_BIN_EXE_kekctl"), env!("CARGO_BIN_EXE_kekd"));
    let kekd_lkm = env!("CARGO_BIN_EXE_kekd-lkm");
    for (program, arguments) in [
        (kekctl, &["--help"][..]),
        (kekctl, &["completions", "bash"]),
        (kekd, &["--help"]),
        (kekd_lkm, &["--help"]),
    ] {
        let output = with_no_reader(program, arguments);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {said}");
        assert_eq!(said, "", "{arguments:?}");
    }
}

#[test]
fn arguments_that_are_no_text_are_wrong_usage() {
    use std::os::unix::ffi::OsStrExt as _;
    let output = Command::new(env!("CARGO_BIN_EXE_kekctl"))
        .arg(std::ffi::OsStr::from_bytes(b"\xff"))
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(64));
}
