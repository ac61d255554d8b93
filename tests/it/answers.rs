//! What kekctl answers with `--output json`.

use std::process::Command;

use serde_json::Value;

use crate::harness::must;

/// The one answer of a command that must succeed.
pub fn answer(command: &mut Command) -> Value {
    serde_json::from_slice(&must(command.args(["--output", "json"])).stdout).unwrap()
}

/// The lines of its answer, each an object.
pub fn lines(command: &mut Command) -> Vec<Value> {
    let output = must(command.args(["--output", "json"]));
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

/// Exit status and reason of a command that must not.
pub fn refused(command: &mut Command) -> (i32, String) {
    let (status, reason, _) = refused_because(command);
    (status, reason)
}

/// Exit status, reason and message.
pub fn refused_because(command: &mut Command) -> (i32, String, String) {
    let output = command.args(["--output", "json"]).output().unwrap();
    let error: Value = serde_json::from_slice(&output.stderr)
        .unwrap_or_else(|_| panic!("{command:?}: {output:?}"));
    let text = |name: &str| error["error"][name].as_str().unwrap().to_owned();
    (
        output.status.code().unwrap(),
        text("reason"),
        text("message"),
    )
}
