//! Case 18: SIGKILL at every moment of making a version; what must hold afterwards is `saga_scene.rs`'s.
//! Moments in time are swept here; `saga_steps.rs` takes the steps one by one.

use std::collections::BTreeMap;

use tokio::time::sleep;

use crate::harness::Rig;
use crate::saga_scene::{Act, Outcome, PROFILE, Scene, serving};

/// Kills that one rig is put through: each start looks at every key that was made before.
const KILLS_PER_RIG: usize = 12;
/// Rigs side by side in the long run.
const LANES: usize = 8;

/// How often each act came to each end.
type Table = BTreeMap<(&'static str, Outcome), usize>;

/// The kills of one lane out of `lanes`: the moments of all lanes together cover the whole of an
/// execution evenly (the golden ratio's multiples), and a little more.
async fn kill_all(runs: usize, lane: usize, lanes: usize) -> Table {
    const GOLDEN: f64 = 0.618_033_988_749_895;
    let mut table = Table::new();
    let mut scene: Option<Scene> = None;
    for (done, run) in (lane..runs).step_by(lanes).enumerate() {
        if done % KILLS_PER_RIG == 0 {
            scene = Some(Scene::begin(serving(Rig::stopped())).await);
        }
        let scene = scene.as_mut().unwrap();
        let act = match (run / lanes) % 2 {
            0 => Act::Create(format!("archive-{run}"), PROFILE),
            _ => Act::Rotate,
        };
        #[expect(clippy::cast_precision_loss, reason = "a few hundred")]
        let part = (run as f64 * GOLDEN).fract();
        let moment = sleep(scene.takes.mul_f64(part * 1.2));
        let outcome = scene.cut_short(&act, moment).await;
        // Seen as it goes where the output is not captured, so that a run cut short has its figures.
        eprintln!("kill {run}: {}: {outcome}", act.name());
        *table.entry((act.name(), outcome)).or_default() += 1;
    }
    table
}

/// Each lane on a thread and rigs of its own.
fn kill_in_lanes(runs: usize, lanes: usize) -> Table {
    let mut table = Table::new();
    std::thread::scope(|scope| {
        let lanes: Vec<_> = (0..lanes)
            .map(|lane| {
                scope.spawn(move || {
                    let runtime = tokio::runtime::Builder::new_current_thread();
                    let runtime = { runtime }.enable_all().build().unwrap();
                    runtime.block_on(kill_all(runs, lane, lanes))
                })
            })
            .collect();
        for lane in lanes {
            for (end, count) in lane.join().unwrap() {
                *table.entry(end).or_default() += count;
            }
        }
    });
    assert_eq!(table.values().sum::<usize>(), runs);
    table
}

/// A few of the moments that `make kill-loop` sweeps.
#[test]
fn a_kill_while_a_version_is_made_leaves_one_active_version() {
    kill_in_lanes(12, 2);
}

/// `make kill-loop`: as many kills as `KILLS` says, 500 without it.
#[test]
#[ignore = "takes a quarter of an hour: make kill-loop"]
#[expect(
    clippy::disallowed_methods,
    reason = "how long it takes is for whoever runs it"
)]
fn kill_loop() {
    let runs = std::env::var_os("KILLS");
    let runs = runs.map_or(500, |runs| runs.to_str().unwrap().parse().unwrap());
    for ((act, outcome), count) in kill_in_lanes(runs, LANES) {
        eprintln!("{act}  {outcome:<28} {count:>4}");
    }
}
