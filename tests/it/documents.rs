//! What documents promise of the tests: each test that docs/faults.md names is there.

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;

#[test]
fn each_test_that_a_document_names_is_there() {
    let output = Command::new(std::env::current_exe().unwrap())
        .arg("--list")
        .output()
        .unwrap();
    let listed = String::from_utf8(output.stdout).unwrap();
    let tests: BTreeSet<&str> = listed
        .lines()
        .filter_map(|line| line.strip_suffix(": test"))
        .collect();
    let text = fs::read_to_string("docs/faults.md").unwrap();
    let cases = [
        "1", "2", "3", "4", "5", "21", "22", "23", "24", "25", "26", "27", "28", "29", "33", "54",
        "55", "56", "57",
    ];
    for case in cases {
        assert!(
            text.contains(&format!("\n| {case} | ")),
            "case {case} has no row"
        );
    }
    let mut named = 0;
    // What is in backquotes and has the form of a test's name.
    for name in text
        .split('`')
        .skip(1)
        .step_by(2)
        .filter(|name| name.contains("::"))
    {
        if name.starts_with("it::") {
            continue;
        }
        assert!(
            tests.contains(name),
            "docs/faults.md names {name}, which is no test"
        );
        named += 1;
    }
    assert!(named > 30, "{named} tests are named");
}
