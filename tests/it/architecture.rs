//! The shape of the source: layers, single homes and purity, read from the files themselves.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Modules by layer, lowest first. A module imports only from lower layers.
const LAYERS: [&[&str]; 8] = [
    &[
        "types",
        "clock",
        "config",
        "program",
        "proto",
        "public_key",
        "reload",
        "slots",
        "telemetry",
        "systemd",
        "unix_socket",
    ],
    &["merkle"],
    &["keyring", "quorum", "access"],
    &["audit", "ledger", "stops"],
    &["hsm", "certificate"],
    &["flows"],
    &["grpc"],
    &["serve"],
];

/// Modules beside the layers: what talks to kekd from outside, with the modules that each uses.
/// `lkm` is a program of its own on another host, so it stands on what every program stands on, and
/// on the client; it can reach no key, ledger or audit log.
const BESIDE: [(&str, &[&str]); 3] = [
    (
        "client",
        &["types", "proto", "clock", "public_key", "unix_socket"],
    ),
    ("recording", &["types", "proto", "clock", "public_key"]),
    (
        "lkm",
        &[
            "client",
            "clock",
            "config",
            "proto",
            "public_key",
            "reload",
            "slots",
            "systemd",
            "telemetry",
            "types",
        ],
    ),
];

/// Modules of one layer that may import each other, with the reason.
const NEIGHBOURS: [(&str, &str); 8] = [
    ("telemetry", "config"), // each module receives its own section
    ("program", "config"),
    ("program", "telemetry"), // how a program begins
    ("reload", "systemd"),    // who asked for it is told
    ("proto", "types"),       // the words of the wire become types here
    ("public_key", "types"),
    ("quorum", "access"),  // a genesis names clients
    ("quorum", "keyring"), // an operation is judged against the keys there are
];

/// Words with one home: nothing else may say them.
const HOMES: [(&str, &[&str]); 6] = [
    ("cryptoki::", &["src/hsm/worker/"]),
    ("rusqlite::", &["src/audit/", "src/ledger/"]),
    ("Status::with_error_details", &["src/grpc/status.rs"]),
    ("Status::new(", &["src/grpc/status.rs"]),
    ("SystemTime::now", &["src/clock.rs"]),
    ("env::var", &["src/config", "src/bin/kekctl/"]),
];

/// What the pure modules never name.
const IMPURE: [&str; 8] = [
    "async ",
    ".await",
    "std::fs",
    "std::net",
    "tokio::",
    "tracing::",
    "rand::",
    "Instant::now",
];
const PURE: [&str; 4] = ["merkle", "keyring", "quorum", "access"];

/// The parts of kekctl that name the code of a log: they verify copies, exports and proofs, where
/// there is no state directory, no lock and no key.
const READS_COPIES: [(&str, &str); 2] = [
    ("src/bin/kekctl/ledger/", "ledger"),
    ("src/bin/kekctl/audit/", "audit"),
];

/// What opens a state directory, and so is nothing for kekctl even there.
const OPENS_STATE: [&str; 5] = ["Ledger::open", "Vacancy", "Draft", "LOCK_FILE", "Journal"];

/// Longest source file, tests included.
const LINES_MAX: usize = 450;

/// A source file of the library or a binary, without its unit tests.
struct Source {
    path: String,
    module: String,
    code: String,
}

fn sources() -> Vec<Source> {
    let mut files = Vec::new();
    walk(Path::new("src"), &mut files);
    assert!(files.len() > 10, "run from the package's folder");
    files.retain(|path| !is_for_tests(path));
    files.into_iter().map(|path| source(&path)).collect()
}

/// Whether a file is a module that its parent declares under `#[cfg(test)]`.
fn is_for_tests(path: &Path) -> bool {
    // What is in a folder of tests, however deep.
    if path.components().any(|part| part.as_os_str() == "tests") {
        return true;
    }
    let name = path.file_stem().unwrap().to_str().unwrap();
    let folder = path.parent().unwrap();
    [
        folder.join("mod.rs"),
        folder.with_extension("rs"),
        folder.join("main.rs"),
    ]
    .into_iter()
    .filter_map(|parent| fs::read_to_string(parent).ok())
    .any(|parent| {
        let lines: Vec<&str> = parent.lines().map(str::trim).collect();
        lines.windows(2).any(|pair| {
            pair[0].starts_with("#[cfg(test)]") && pair[1].ends_with(&format!("mod {name};"))
        })
    })
}

fn walk(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            walk(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}

fn source(path: &Path) -> Source {
    let text = fs::read_to_string(path).unwrap();
    let code = text
        .split("#[cfg(test)]")
        .next()
        .unwrap_or_default()
        .to_owned();
    let path = path.to_str().unwrap().to_owned();
    let module = path["src/".len()..]
        .split(['/', '.'])
        .next()
        .unwrap_or_default()
        .to_owned();
    Source { path, module, code }
}

fn layer(module: &str) -> Option<usize> {
    LAYERS.iter().position(|modules| modules.contains(&module))
}

/// The top-level modules a file names after `crate::`, by line.
fn imports(source: &Source) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for (number, line) in source.code.lines().enumerate() {
        if line.trim_start().starts_with("//") {
            continue;
        }
        for (at, _) in line.match_indices("crate::") {
            if line[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == '$') {
                continue;
            }
            let rest = &line[at + "crate::".len()..];
            let name: String = rest
                .chars()
                .take_while(|c| c.is_alphanumeric() || *c == '_')
                .collect();
            found.push((number + 1, name));
        }
    }
    found
}

#[test]
fn imports_point_downward() {
    let mut broken = Vec::new();
    for source in sources() {
        if source.module == "lib" || source.module == "bin" {
            continue;
        }
        for (line, used) in imports(&source) {
            if used == source.module || used.is_empty() {
                continue;
            }
            let beside = BESIDE.iter().find(|(module, _)| *module == source.module);
            let allowed = if let Some((_, uses)) = beside {
                uses.contains(&used.as_str())
            } else {
                let own = layer(&source.module);
                assert!(
                    own.is_some(),
                    "{} is in no layer: add it to LAYERS",
                    source.path
                );
                layer(&used).is_some_and(|below| Some(below) < own)
                    || NEIGHBOURS.contains(&(source.module.as_str(), used.as_str()))
            };
            if !allowed {
                broken.push(format!("{}:{line} imports crate::{used}", source.path));
            }
        }
    }
    assert!(
        broken.is_empty(),
        "imports against the layers:\n{}",
        broken.join("\n")
    );
}

#[test]
fn every_module_of_the_library_is_in_a_layer() {
    let lib = fs::read_to_string("src/lib.rs").unwrap();
    for line in lib.lines().filter_map(|line| line.strip_prefix("pub mod ")) {
        let module = line.trim_end_matches(';');
        assert!(
            layer(module).is_some() || BESIDE.iter().any(|(beside, _)| *beside == module),
            "{module} is in no layer"
        );
    }
}

#[test]
fn kekctl_holds_no_key_and_opens_no_state() {
    for source in sources()
        .iter()
        .filter(|source| source.path.starts_with("src/bin/kekctl"))
    {
        for module in ["hsm", "ledger", "audit", "flows", "grpc", "serve"] {
            let word = format!("kekd::{module}");
            let reads_copies = READS_COPIES
                .iter()
                .any(|(path, of)| source.path.starts_with(path) && module == *of);
            if reads_copies {
                for word in OPENS_STATE {
                    assert!(!source.code.contains(word), "{} names {word}", source.path);
                }
                continue;
            }
            assert!(!source.code.contains(&word), "{} names {word}", source.path);
        }
    }
}

#[test]
fn the_front_end_binary_is_a_front_end_only() {
    for source in sources()
        .iter()
        .filter(|source| source.path.starts_with("src/bin/kekd-lkm"))
    {
        for module in [
            "hsm", "ledger", "audit", "flows", "grpc", "serve", "keyring",
        ] {
            let word = format!("kekd::{module}");
            assert!(!source.code.contains(&word), "{} names {word}", source.path);
        }
    }
}

#[test]
fn each_outside_thing_has_one_home() {
    let mut broken = Vec::new();
    for source in sources() {
        for (number, line) in source.code.lines().enumerate() {
            if line.trim_start().starts_with("//") {
                continue;
            }
            for (word, homes) in HOMES {
                if line.contains(word) && !homes.iter().any(|home| source.path.starts_with(home)) {
                    broken.push(format!("{}:{} says {word}", source.path, number + 1));
                }
            }
        }
    }
    assert!(
        broken.is_empty(),
        "outside their home:\n{}",
        broken.join("\n")
    );
}

#[test]
fn the_rules_are_pure() {
    let mut broken = Vec::new();
    for source in sources()
        .iter()
        .filter(|source| PURE.contains(&source.module.as_str()))
    {
        for (number, line) in source.code.lines().enumerate() {
            if line.trim_start().starts_with("//") {
                continue;
            }
            for word in IMPURE.iter().filter(|word| line.contains(**word)) {
                broken.push(format!("{}:{} says {word:?}", source.path, number + 1));
            }
        }
    }
    assert!(broken.is_empty(), "not pure:\n{}", broken.join("\n"));
}

#[test]
fn every_file_says_what_lives_in_it_and_can_be_held_in_the_head() {
    let (mut files, mut broken) = (Vec::new(), BTreeMap::new());
    for folder in ["src", "tests", "benches"] {
        walk(Path::new(folder), &mut files);
    }
    assert!(files.iter().any(|path| is_for_tests(path)));
    for path in files {
        let text = fs::read_to_string(&path).unwrap();
        if !text.starts_with("//!") {
            let without = "opens without a //! paragraph".to_owned();
            broken.insert(path.clone(), without);
        }
        let lines = text.lines().count();
        if lines > LINES_MAX {
            broken.insert(path, format!("has {lines} lines, more than {LINES_MAX}"));
        }
    }
    assert!(broken.is_empty(), "{broken:#?}");
}
