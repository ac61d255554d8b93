//! `suspend` as officers have it, over the network: nobody gets a DEK after it was acknowledged,
//! counted by the clients themselves under full load; and it needs neither the HSM nor a free block on
//! the disk. The file drop of root is in `stops.rs`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::time::{Duration, Instant};

use kekd::client::{Client, UnwrapCall};
use kekd::quorum::{Operation, SUSPENSION_NAMESPACE, Suspension, Target};
use kekd::types::{Padding, Sha256};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use crate::audit::disk::own_mounts;
use crate::harness::faulty::Faulty;
use crate::harness::{Kek, PATIENCE, Rig, dek, must, reason, skipped};
use crate::officers::Officers;

const STREAMS: usize = 64;
/// Requests on their way in each stream.
const WINDOW: usize = 4;

/// What the clients of one KEK have seen.
#[derive(Default)]
struct Seen {
    /// Set when the acknowledgement has returned, cleared before the reinstatement is ordered.
    is_stopped: AtomicBool,
    deks: AtomicUsize,
    late: AtomicUsize,
    refused: AtomicUsize,
    cut: AtomicUsize,
    end: AtomicBool,
}

/// Streams until the end, opened again where the node cuts it.
async fn stream(client: Client, call: UnwrapCall, value: [u8; 32], seen: Arc<Seen>) {
    while !seen.end.load(SeqCst) {
        let (calls, queue) = mpsc::channel(WINDOW);
        let mut number = 0;
        let mut next = || {
            number += 1;
            let request_id = Some(format!("r-{number}").parse().unwrap());
            UnwrapCall {
                request_id,
                ..call.clone()
            }
        };
        for _ in 0..WINDOW {
            calls.send(next()).await.unwrap();
        }
        let Ok(mut answers) = client.unwrap_stream(ReceiverStream::new(queue)).await else {
            seen.cut.fetch_add(1, SeqCst);
            continue;
        };
        while !seen.end.load(SeqCst) {
            let Some(Ok(answer)) = answers.next().await else {
                seen.cut.fetch_add(1, SeqCst);
                break;
            };
            match answer.outcome {
                Ok(released) => {
                    // Looked at first: what comes now is late.
                    if seen.is_stopped.load(SeqCst) {
                        seen.late.fetch_add(1, SeqCst);
                    }
                    assert_eq!(dek(&released.release), value);
                    seen.deks.fetch_add(1, SeqCst);
                }
                Err(refusal) if refusal.reason == "BUSY" => {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
                Err(refusal) => {
                    assert_eq!(refusal.reason, "VERSION_NOT_USABLE");
                    seen.refused.fetch_add(1, SeqCst);
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            }
            if calls.send(next()).await.is_err() {
                break;
            }
        }
    }
}

/// Clients that go on asking for what is stopped are not told that they ask too often.
fn under_load() -> Rig {
    let rig = Rig::stopped();
    rig.set("limits", "refusals_recorded_per_minute_max = 1000000");
    rig.start();
    rig
}

/// Half of the streams unwrap under one KEK, half under another.
struct Load {
    recordings: Arc<Seen>,
    legacy: Arc<Seen>,
    tasks: Vec<tokio::task::JoinHandle<()>>,
}

impl Load {
    async fn on(rig: &Rig) -> Self {
        let (recordings, legacy) = (Arc::default(), Arc::default());
        let (mut tasks, mut client) = (Vec::new(), rig.client("lkm-1").await);
        for number in 0..STREAMS {
            if number % 8 == 0 {
                client = rig.client("lkm-1").await;
            }
            let (name, seen) = match number % 2 {
                0 => ("recordings", &recordings),
                _ => ("legacy", &legacy),
            };
            let kek = Kek::of(&client, name).await;
            let value = [u8::try_from(number).unwrap(); 32];
            let call = kek.call(Padding::OaepSha1, &value);
            tasks.push(tokio::spawn(stream(
                client.clone(),
                call,
                value,
                Arc::clone(seen),
            )));
        }
        Self {
            recordings,
            legacy,
            tasks,
        }
    }

    fn all(&self) -> [&Arc<Seen>; 2] {
        [&self.recordings, &self.legacy]
    }

    async fn end(self) {
        for seen in self.all() {
            seen.end.store(true, SeqCst);
        }
        for task in self.tasks {
            task.await.unwrap();
        }
    }
}

async fn grows(count: &AtomicUsize, by: usize) {
    let wanted = count.load(SeqCst) + by;
    let patience = Instant::now() + 10 * PATIENCE;
    while count.load(SeqCst) < wanted {
        assert!(Instant::now() < patience, "nothing happens any more");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// One officer stops, under load; the quorum lifts it. `None` is all.
async fn stopped_once(officers: &Officers<'_>, load: &Load, target: &Target) -> Duration {
    let (all, one) = (load.all(), [&load.recordings]);
    let stopped: &[&Arc<Seen>] = match target {
        Target::All => &all,
        Target::Kek(_) => &one,
    };
    for seen in load.all() {
        grows(&seen.deks, STREAMS).await;
    }
    let began = Instant::now();
    assert!(officers.suspend("dave", target.clone()).await.unwrap());
    for seen in stopped {
        seen.is_stopped.store(true, SeqCst);
    }
    let took = began.elapsed();
    for seen in stopped {
        grows(&seen.refused, STREAMS).await;
    }
    if let Target::Kek(_) = target {
        grows(&load.legacy.deks, STREAMS).await;
    }
    let operation = Operation::Reinstate(target.clone());
    let id = officers.propose("alice", operation).await.unwrap();
    for officer in ["bob", "carol"] {
        officers.approve(officer, id).await.unwrap();
    }
    for seen in stopped {
        assert_eq!(seen.late.load(SeqCst), 0, "DEKs after the acknowledgement");
        seen.is_stopped.store(false, SeqCst);
    }
    officers.execute("alice", id).await.unwrap();
    took
}

fn targets() -> [Target; 2] {
    [Target::Kek("recordings".parse().unwrap()), Target::All]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_dek_after_the_acknowledgement_under_full_load() {
    let rig = under_load();
    let officers = Officers::of(&rig).await;
    let load = Load::on(&rig).await;
    for round in 0..5 {
        stopped_once(&officers, &load, &targets()[round % 2]).await;
    }
    load.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a minute of it, by hand"]
async fn soak() {
    let rig = under_load();
    let officers = Officers::of(&rig).await;
    let load = Load::on(&rig).await;
    let began = Instant::now();
    let mut took = Vec::new();
    while began.elapsed() < Duration::from_secs(60) {
        took.push(stopped_once(&officers, &load, &targets()[took.len() % 2]).await);
        if took.len() % 30 == 0 {
            // So that no officer opens more than a day allows.
            break;
        }
    }
    took.sort();
    for (name, seen) in [("recordings", &load.recordings), ("legacy", &load.legacy)] {
        let Seen {
            deks,
            late,
            refused,
            cut,
            ..
        } = &**seen;
        eprintln!("{name}: {deks:?} DEKs, {late:?} late, {refused:?} refused, {cut:?} cut");
    }
    eprintln!(
        "{} stops in {:?}; acknowledged after {:?} (median), {:?} (longest)",
        took.len(),
        began.elapsed(),
        took[took.len() / 2],
        took.last().unwrap()
    );
    load.end().await;
}

/// A stop that was lifted cannot be replayed, nor be taken for one that holds.
#[tokio::test]
async fn a_replayed_suspension_stops_nothing_and_says_so() {
    let rig = Rig::serving();
    let officers = Officers::of(&rig).await;
    let governance = officers.governance().await;
    let instance = Sha256::try_from(governance.instance_id.as_slice()).unwrap();
    let at = kekd::clock::UnixMs(governance.now_ms);
    let stop = Suspension::draft(instance, Target::All, "dave", [9; 16], at).unwrap();
    let text = stop.text().to_vec();
    let signature = officers.sign("dave", SUSPENSION_NAMESPACE, &text);
    let suspend = || officers.client.suspend(text.clone(), signature.clone());
    assert!(suspend().await.unwrap());
    assert!(suspend().await.unwrap(), "it holds");
    officers
        .enact(Operation::Reinstate(Target::All))
        .await
        .unwrap();
    let replayed = suspend().await.err().unwrap();
    assert_eq!(reason(&replayed), "NOT_ACCEPTED", "{replayed}");
    assert!(officers.governance().await.stops.is_empty());
}

async fn refusal(client: &Client, kek: &Kek) -> String {
    let answer = client.unwrap(kek.call(Padding::OaepSha1, &[1; 32])).await;
    reason(&answer.err().unwrap()).to_owned()
}

/// Every slot of the marker is empty.
fn is_marker_clear(state: &Path) -> bool {
    let bytes = fs::read(state.join("stops")).unwrap();
    let mut slots = bytes.chunks(8192).skip(1);
    slots.all(|slot| slot[..512].iter().all(|byte| *byte == 0))
}

/// Waits until the ledger has the only stop there is, and who made it.
async fn in_ledger(officers: &Officers<'_>) -> (String, String) {
    for _ in 0..1200 {
        // A worker that is exchanged may keep a call waiting.
        if let Ok(governance) = officers.client.governance().await
            && let [stop] = governance.stops.as_slice()
            && stop.at_ms != 0
        {
            return (stop.kek.clone(), stop.by.clone());
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("the ledger did not get the stop by itself");
}

async fn clears(state: &Path) {
    for _ in 0..200 {
        if is_marker_clear(state) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("the marker was not cleared");
}

/// One approval too few does not lift it, and then the quorum does.
async fn lifted_by_a_quorum_only(officers: &Officers<'_>, target: Target) {
    let operation = Operation::Reinstate(target);
    let id = officers.propose("alice", operation.clone()).await.unwrap();
    officers.approve("bob", id).await.unwrap();
    let alone = officers.execute("alice", id).await.err().unwrap();
    assert_eq!(reason(&alone), "NOT_ACCEPTED", "{alone}");
    officers.approve("carol", id).await.unwrap();
    officers.execute("alice", id).await.unwrap();
    assert!(officers.governance().await.stops.is_empty());
}

#[tokio::test]
async fn a_file_in_stop_d_is_recorded_and_removed_and_only_a_quorum_lifts_it() {
    let faulty = Faulty::of(Rig::stopped());
    let rig = &faulty.rig;
    rig.start();
    let (client, officers) = (rig.client("lkm-1").await, Officers::of(rig).await);
    let kek = Kek::of(&client, "recordings").await;
    let file = rig.dir.join("state/stop.d/recordings");
    faulty.script("* * hang");
    fs::write(&file, "").unwrap();
    // Twice as long as it may take; a call that the hung HSM holds would wait longer.
    tokio::time::sleep(Duration::from_millis(400)).await;
    while refusal(&client, &kek).await != "VERSION_NOT_USABLE" {}
    assert!(file.exists(), "removed before the ledger has it");
    faulty.script("");
    let expected = ("recordings".to_owned(), "host".to_owned());
    assert_eq!(in_ledger(&officers).await, expected);
    clears(&rig.dir.join("state")).await;
    assert!(!file.exists());
    assert_eq!(refusal(&client, &kek).await, "VERSION_NOT_USABLE");
    lifted_by_a_quorum_only(&officers, Target::Kek("recordings".parse().unwrap())).await;
    kek.comes_back(&client).await;
}

/// The folder the parent prepared; `None` where somebody runs ignored tests by hand.
#[expect(
    clippy::disallowed_methods,
    reason = "how a test process is told that it has mounts of its own"
)]
fn has_own_mounts() -> bool {
    std::env::var_os("KILL_SWITCH_TEST").is_some()
}

/// Case 48.
#[test]
fn with_the_hsm_hung_and_the_disk_full() {
    let Some(own_mounts) = own_mounts() else {
        let why = "a file system of its own needs root or user namespaces (unshare -rm)";
        return skipped("kill_switch::with_the_hsm_hung_and_the_disk_full", why);
    };
    let output = must(
        Command::new("unshare")
            .args(own_mounts)
            .arg(std::env::current_exe().unwrap())
            .args(["--exact", "kill_switch::child_on_a_full_disk"])
            .args(["--ignored", "--nocapture"])
            .env("KILL_SWITCH_TEST", "1"),
    );
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.contains("child_on_a_full_disk ... ok"), "{text}");
}

/// The rig's state folder on a file system of its own.
fn small_disk(rig: &Rig) -> PathBuf {
    let state = rig.dir.join("state");
    let script = r#"cp -a "$1" "$1.was" && mount -t tmpfs -o size=6m,mode=700 tmpfs "$1" &&
                    cp -a "$1.was/." "$1""#;
    must(Command::new("sh").args(["-c", script, "sh"]).arg(&state));
    state
}

fn fill(state: &Path) -> PathBuf {
    let filler = state.join("filler");
    let (mut file, mut len) = (fs::File::create(&filler).unwrap(), 1 << 20);
    while len > 0 {
        if std::io::Write::write_all(&mut file, &vec![0; len]).is_err() {
            len /= 2;
        }
    }
    filler
}

#[tokio::test]
#[ignore = "runs in a process of its own, started by another test"]
async fn child_on_a_full_disk() {
    if !has_own_mounts() {
        return;
    }
    let faulty = Faulty::of(Rig::stopped());
    let rig = &faulty.rig;
    let state = small_disk(rig);
    rig.start();
    let (client, officers) = (rig.client("lkm-1").await, Officers::of(rig).await);
    let kek = Kek::of(&client, "recordings").await;
    let recordings = Target::Kek("recordings".parse().unwrap());
    kek.comes_back(&client).await;

    // Both come back while the node serves: the ledger gets it by itself.
    faulty.script("* * hang");
    let filler = fill(&state);
    let has_it = officers.suspend("dave", recordings.clone()).await.unwrap();
    assert!(!has_it, "the ledger cannot have it");
    faulty.script("");
    fs::remove_file(&filler).unwrap();
    let expected = ("recordings".to_owned(), "dave".to_owned());
    assert_eq!(in_ledger(&officers).await, expected);
    clears(&state).await;
    assert_eq!(refusal(&client, &kek).await, "VERSION_NOT_USABLE");
    lifted_by_a_quorum_only(&officers, recordings).await;
    kek.comes_back(&client).await;

    // And where the node is killed before that, the marker tells the next one.
    faulty.script("* * hang");
    let filler = fill(&state);
    let has_it = officers.suspend("dave", Target::All).await.unwrap();
    assert!(!has_it, "the ledger cannot have it");
    let pid = i32::try_from(rig.daemon_pid()).unwrap();
    let pid = rustix::process::Pid::from_raw(pid).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    assert!(!is_marker_clear(&state));
    faulty.script("");
    fs::remove_file(&filler).unwrap();
    rig.stop().await;
    rig.start();
    let (client, officers) = (rig.client("lkm-1").await, Officers::of(rig).await);
    assert_eq!(refusal(&client, &kek).await, "VERSION_NOT_USABLE");
    let expected = (String::new(), "dave".to_owned());
    assert_eq!(in_ledger(&officers).await, expected);
    clears(&state).await;
    rig.stop().await;
    rig.start();
    let (client, officers) = (rig.client("lkm-1").await, Officers::of(rig).await);
    assert_eq!(refusal(&client, &kek).await, "VERSION_NOT_USABLE");
    lifted_by_a_quorum_only(&officers, Target::All).await;
    kek.comes_back(&client).await;
    rig.stop().await;
    must(Command::new("umount").arg(&state));
}
