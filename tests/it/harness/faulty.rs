//! A rig whose token is steered by a test: the module `fault` forwards to SoftHSM and does what its script
//! says. The script's words are in `tests/modules/fault`.

use std::fs;
use std::path::Path;
use std::time::Duration;

use super::{Rig, test_module};

/// A rig whose module is the fault module, and the files that steer it.
pub struct Faulty {
    pub rig: Rig,
}

impl Faulty {
    pub fn stopped() -> Self {
        Self::of(Rig::stopped())
    }

    /// The same for a rig that is stopped.
    pub fn of(mut rig: Rig) -> Self {
        let module = test_module("kekd_test_fault");
        rig.edit("kekd.toml", |text| {
            let old = text
                .lines()
                .find(|line| line.starts_with("module"))
                .unwrap()
                .to_owned();
            text.replace(&old, &format!("module = \"{}\"", module.display()))
        });
        let file = |name: &str| rig.dir.join(name).to_str().unwrap().to_owned();
        rig.environment = vec![
            ("PKCS11_FAULT_SCRIPT".to_owned(), file("faults")),
            ("PKCS11_FAULT_COUNTS".to_owned(), file("counts")),
        ];
        Self { rig }
    }

    pub fn serving() -> Self {
        let faulty = Self::stopped();
        faulty.rig.start();
        faulty
    }

    /// From now on the token does this.
    pub fn script(&self, rules: &str) {
        script(&self.rig.dir, rules);
    }

    /// How often the module was called for `function` so far.
    pub fn count(&self, function: &str) -> usize {
        count(&self.rig.dir, function)
    }

    /// How often the worker was replaced.
    pub async fn restarts(&self) -> u64 {
        let operator = self.rig.client("operator").await;
        operator
            .status()
            .await
            .unwrap()
            .token
            .unwrap()
            .worker_restarts
    }
}

/// From now on the token of a [`Faulty`] rig in this folder does this.
pub fn script(dir: &Path, rules: &str) {
    let path = dir.join("faults");
    fs::write(path.with_extension("new"), format!("{rules}\n")).unwrap();
    fs::rename(path.with_extension("new"), path).unwrap();
}

/// How often the module of a [`Faulty`] rig in this folder was called for `function` so far.
pub fn count(dir: &Path, function: &str) -> usize {
    let counts = fs::read_to_string(dir.join("counts")).unwrap_or_default();
    counts
        .lines()
        .filter(|line| line.split(' ').next() == Some(function))
        .count()
}

/// Waits until that is so many times.
pub async fn until_called(dir: &Path, function: &str, times: usize) {
    for _ in 0..12_000 {
        if count(dir, function) >= times {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let found = count(dir, function);
    panic!("{function} was called {found} times, and not {times}");
}
