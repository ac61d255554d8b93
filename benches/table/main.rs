//! `make bench`: the table P1 to P9 of kekd beside the raw module, in one run, printed and written to
//! `target/bench/report.json`. It reports; it never fails on a time. What the figures meant on one
//! machine is in docs/measurements.md. Not shipped, and no test.
//!
//! `cargo bench --bench table -- [--quick] [P1 P2 …]`

mod bench;
mod capacity;
mod echo;
mod growth;
mod load;
mod raw;
mod report;
mod rig;
mod stress;

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context as _, ensure};
use serde_json::json;

use bench::Bench;
use raw::Raw;
use report::Report;
use rig::Rig;

/// The KEK that is measured.
pub const KEK: &str = "recordings";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match begin(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Nobody is left to hear that this failed.
            drop(writeln!(std::io::stderr(), "bench: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn begin(arguments: &[String]) -> anyhow::Result<()> {
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["echo", rig] => in_runtime(echo::serve(Path::new(rig))),
        ["module-memory", rig] => {
            let rig = Rig::existing(Path::new(rig))?;
            let id = std::fs::read(rig.dir.join("measured"))?;
            let id = id.try_into().ok().context("no CKA_ID")?;
            let found = growth::module_memory(&rig, id, processors())?;
            Ok(writeln!(std::io::stdout(), "{found}")?)
        }
        ["module-rate", rig, module, sessions, warm, window] => {
            let rig = Rig::existing(Path::new(rig))?;
            let times = [warm.parse()?, window.parse()?];
            let found = capacity::module_rate(&rig, Path::new(module), sessions.parse()?, times);
            Ok(writeln!(std::io::stdout(), "{}", in_runtime(found)?)?)
        }
        ["module-list", rig] => {
            let took = growth::module_list(&Rig::existing(Path::new(rig))?)?;
            Ok(writeln!(std::io::stdout(), "{took}")?)
        }
        ["measure", home, rest @ ..] => in_runtime(measure(PathBuf::from(home), rest)),
        rest => again_with_token(rest),
    }
}

/// The raw module finds its token by the environment, which a process cannot safely change for
/// itself: the measurements run in a child.
fn again_with_token(rest: &[&str]) -> anyhow::Result<()> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/bench");
    std::fs::create_dir_all(&folder)?;
    let home = tempfile::Builder::new()
        .prefix("")
        .rand_bytes(4)
        .tempdir_in(&folder)?;
    let status = Command::new(std::env::current_exe()?)
        .arg("measure")
        .arg(home.path())
        .args(rest)
        .env("SOFTHSM2_CONF", home.path().join("rig/softhsm2.conf"))
        .status()?;
    ensure!(status.success(), "the measurements ended with {status}");
    Ok(())
}

async fn measure(home: PathBuf, rest: &[&str]) -> anyhow::Result<()> {
    let is_quick = rest.contains(&"--quick");
    let asked: Vec<&str> = rest
        .iter()
        .copied()
        .filter(|word| word.starts_with('P'))
        .collect();
    let is_asked = |name: &str| asked.is_empty() || asked.contains(&name);
    let null =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("target/modules/release/libkekd_test_null.so");
    ensure!(null.exists(), "run `make bench`: no {}", null.display());

    let mut keks = vec![KEK.to_owned()];
    if is_asked("P6") {
        keks.extend(stress::STOPPED.map(str::to_owned));
    }
    let mut rig = Rig::make(&home.join("rig"), &keks)?;
    rig.start(&[], &rig::Module::SoftHsm)?;
    let kek = rig.kek(KEK).await?;
    std::fs::write(rig.dir.join("measured"), kek.object_id()?)?;
    let raw = Raw::open(&rig)?;
    let calls = Arc::new(kek.calls()?);
    let sessions = processors();
    let folder = home.parent().context("no folder")?.to_owned();
    let mut bench = Bench {
        rig,
        raw,
        kek,
        calls,
        sessions,
        is_quick,
        null,
        home,
    };
    let mut report = Report::new(json!({
        "quick": is_quick,
        "key": "RSA-3072, OAEP with SHA-1",
        "ciphertexts": bench.calls.len(),
        "sessions": sessions,
        "warm-up and window of a sample": format!("{:?}", bench.times()),
    }));

    /// Runs one measurement where it is asked for, and says how long it took.
    macro_rules! goal {
        ($name:literal, $goal:literal, $measure:path) => {
            if is_asked($name) {
                let began = Instant::now();
                let found = $measure(&mut bench).await;
                report.add($name, $goal, found);
                // A run that is cut short has said what it found until then.
                report.write(&folder)?;
                let seconds = began.elapsed().as_secs();
                writeln!(std::io::stderr(), "{} measured in {seconds} s", $name)?;
            }
        };
    }
    goal!("P1", ">= 0.97", capacity::throughput);
    goal!("P2", "<= 0.3 / <= 1", capacity::latency);
    goal!("P3", ">= 0.6 unary, >= 2 streamed", capacity::ceiling);
    goal!("P9", "<= 2", stress::beside_bulk);
    goal!("P8", ">= 0.95", stress::overload);
    goal!("P7", "<= 64", growth::memory);
    goal!("P6", "0, acknowledged <= 20 ms", stress::kill_switch);
    // Fills the token, which the next then finds full.
    goal!("P4", "<= 1.05", growth::keys);
    goal!("P5", "<= 2", growth::start);
    report.print()?;
    let path = report.write(&folder)?;
    Ok(writeln!(std::io::stdout(), "{}", path.display())?)
}

fn in_runtime<T>(run: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?
        .block_on(run)
}

fn processors() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}
