//! The kill switch as root on the host has it: a file in the drop folder of the state. Nobody gets a
//! DEK after it took effect, whatever the HSM, the disk or the clients do.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use kekd::client::{Client, ClientError};
use kekd::proto::v1::{self, GetStatusResponse, Outcome};
use kekd::stops::{Added, Source, Stop, Stops};
use kekd::types::Padding;
use prost::Message as _;
use rustix::process::{Pid, Signal, kill_process};
use tokio::io::AsyncWriteExt as _;

use crate::audit::disk::own_mounts;
use crate::harness::{Kek, Rig, dek, reason, skipped};
use crate::limits::{DATA, END_HEADERS, HEADERS, PREFACE, SETTINGS, call, frame, is_cut, socket};
use crate::still::stand_still;

const CLIENTS: usize = 16;

fn touch(rig: &Rig, name: &str) {
    fs::write(rig.dir.join("state/stop.d").join(name), "").unwrap();
}

async fn status_when(
    operator: &Client,
    wanted: impl Fn(&GetStatusResponse) -> bool,
) -> GetStatusResponse {
    for _ in 0..400 {
        let status = operator.status().await.unwrap();
        if wanted(&status) {
            return status;
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    panic!("waited in vain: {:?}", operator.status().await.unwrap());
}

fn says(status: &GetStatusResponse, words: &str) -> bool {
    status.problems.iter().any(|text| text.contains(words))
}

async fn logged(rig: &Rig, words: &str) {
    for _ in 0..400 {
        if rig.log().contains(words) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    panic!("not in the log: {words}\n{}", rig.log());
}

async fn refusal(client: &Client, kek: &Kek) -> String {
    let answer = client.unwrap(kek.call(Padding::OaepSha1, &[1; 32])).await;
    reason(&answer.err().unwrap()).to_owned()
}

/// Case 48.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_stops_everything_under_load_and_after_a_restart() {
    let rig = Rig::serving();
    let operator = rig.client("operator").await;
    let kek = Kek::of(&operator, "recordings").await;
    let released = Arc::new(AtomicUsize::new(0));
    let mut tasks = Vec::new();
    for number in 0..CLIENTS {
        let client = rig.client("lkm-1").await;
        let value = [u8::try_from(number).unwrap(); 32];
        let call = kek.call(Padding::OaepSha1, &value);
        let released = Arc::clone(&released);
        tasks.push(tokio::spawn(async move {
            let mut refused = 0;
            // Ends only where a file that is there refuses, and goes on refusing.
            while refused < 20 {
                match client.unwrap(call.clone()).await {
                    Ok(answer) => {
                        assert_eq!(refused, 0, "a DEK after a refusal");
                        assert_eq!(dek(&answer.release), value);
                        released.fetch_add(1, Ordering::SeqCst);
                    }
                    Err(ClientError::Refused(refusal)) if refusal.reason == "BUSY" => (),
                    Err(error) => {
                        assert_eq!(reason(&error), "VERSION_NOT_USABLE");
                        refused += 1;
                    }
                }
            }
        }));
    }
    while released.load(Ordering::SeqCst) < 10 * CLIENTS {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    touch(&rig, "all");
    for task in tasks {
        task.await.unwrap();
    }
    let status = status_when(&operator, |status| !status.ready).await;
    assert!(says(&status, "every KEK is stopped by"));

    // In the order of the records, too, nothing is released after the first refusal; each release
    // arrived; and each refusal has its record.
    let records = rig.records();
    let first = records
        .iter()
        .position(|record| record.outcome() == Outcome::Refused);
    let (before, after) = records.split_at(first.unwrap());
    let is_released = |record: &&v1::Record| record.outcome() == Outcome::Released;
    // One batch may hold both: a release that had its passage, and a refusal.
    let late = after.iter().filter(is_released).count();
    assert!(late <= CLIENTS, "{late} releases after a refusal");
    let count = before.iter().filter(is_released).count() + late;
    assert_eq!(count, released.load(Ordering::SeqCst));

    rig.stop().await;
    // Marker or ledger say it without the file.
    match fs::remove_file(rig.dir.join("state/stop.d/all")) {
        Ok(()) | Err(_) => (),
    }
    rig.start();
    let client = rig.client("lkm-1").await;
    assert_eq!(refusal(&client, &kek).await, "VERSION_NOT_USABLE");
    let status = rig.client("operator").await.status().await.unwrap();
    assert!(!status.ready && says(&status, "every KEK is stopped"));
}

#[tokio::test]
async fn a_file_is_heeded_before_the_first_request() {
    let rig = Rig::stopped();
    fs::create_dir_all(rig.dir.join("state/stop.d")).unwrap();
    touch(&rig, "all");
    rig.start();
    let client = rig.client("lkm-1").await;
    let kek = Kek::of(&client, "recordings").await;
    assert_eq!(refusal(&client, &kek).await, "VERSION_NOT_USABLE");
    assert!(rig.records_with(Outcome::Released).is_empty());
}

#[tokio::test]
async fn one_kek_is_stopped_and_the_others_serve() {
    let rig = Rig::serving();
    let (client, operator) = (rig.client("lkm-1").await, rig.client("operator").await);
    let kek = Kek::of(&client, "recordings").await;
    let other = Kek::of(&client, "legacy").await;
    touch(&rig, "recordings");
    touch(&rig, "no-such-kek");
    touch(&rig, "Readme.txt");
    let said = "the KEK recordings is stopped by";
    let unknown = "no KEK has the name no-such-kek";
    let both = |status: &GetStatusResponse| says(status, said) && says(status, unknown);
    let status = status_when(&operator, both).await;
    assert!(status.ready, "{status:?}");
    assert_eq!(refusal(&client, &kek).await, "VERSION_NOT_USABLE");
    let answer = client.unwrap(other.call(Padding::OaepSha1, &[2; 32])).await;
    assert_eq!(dek(&answer.unwrap().release), [2; 32]);
    logged(&rig, "Readme.txt").await;
}

/// The HSM does not answer, and what it was asked before the stop it answers after it.
#[tokio::test]
async fn a_stop_needs_no_hsm_and_overtakes_it() {
    let rig = Rig::serving();
    let (client, operator) = (rig.client("lkm-1").await, rig.client("operator").await);
    let kek = Kek::of(&client, "recordings").await;
    let worker = Pid::from_raw(i32::try_from(rig.worker_pid().await).unwrap()).unwrap();
    stand_still(worker);
    let under_way = {
        let (client, call) = (
            rig.client("lkm-1").await,
            kek.call(Padding::OaepSha1, &[1; 32]),
        );
        tokio::spawn(async move { client.unwrap(call).await })
    };
    tokio::time::sleep(Duration::from_millis(200)).await;
    touch(&rig, "recordings");
    status_when(&operator, |status| says(status, "is stopped")).await;
    assert_eq!(refusal(&client, &kek).await, "VERSION_NOT_USABLE");
    // Where the watchdog was quicker, there is another worker, and this one is gone.
    kill_process(worker, Signal::CONT).ok();
    let answer = under_way.await.unwrap().err().unwrap();
    let expected = ["VERSION_NOT_USABLE", "HSM_UNAVAILABLE"];
    assert!(expected.contains(&reason(&answer)), "{answer}");
    assert!(rig.records_with(Outcome::Released).is_empty());
}

/// An answer that its caller does not take is still on its way; so a stop cuts the connection.
#[tokio::test]
async fn a_stop_does_not_wait_for_who_takes_no_answer() {
    let rig = Rig::serving();
    let client = rig.client("lkm-1").await;
    let kek = Kek::of(&client, "recordings").await;
    let request = v1::UnwrapRequest {
        keypair_id: kek.keypair_id.to_string(),
        wrapped_dek: kek.wrap(Padding::OaepSha1, &[0xd5; 32]),
        padding: v1::Padding::OaepSha1.into(),
        request_id: "untaken".to_owned(),
        ..v1::UnwrapRequest::default()
    };
    let streamed = v1::UnwrapStreamRequest {
        request: Some(request.clone()),
    };
    let mut readers = Vec::new();
    for (path, message) in [
        ("Unwrap", request.encode_to_vec()),
        ("UnwrapStream", streamed.encode_to_vec()),
    ] {
        let mut stream = socket(&rig).await;
        // SETTINGS_INITIAL_WINDOW_SIZE 0: no answer may be sent, ever.
        let no_window = frame(SETTINGS, 0, 0, b"\x00\x04\x00\x00\x00\x00");
        let len = u32::try_from(message.len()).unwrap().to_be_bytes();
        let message = [&[0][..], &len, &message].concat();
        let path = format!("/kekd.v1.UnwrapService/{path}");
        let end_stream = u8::from(path.ends_with("Unwrap"));
        let sent = [
            PREFACE,
            &no_window,
            &frame(HEADERS, END_HEADERS, 1, &call(&path)),
            &frame(DATA, end_stream, 1, &message),
        ];
        stream.write_all(&sent.concat()).await.unwrap();
        readers.push(stream);
    }
    while rig.records_with(Outcome::Released).len() < readers.len() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    touch(&rig, "recordings");
    for reader in &mut readers {
        assert!(is_cut(reader).await, "the answer still waits to be taken");
    }
    // Said when all of them are gone, a moment after the first.
    logged(&rig, "were not taken were withheld").await;
}

/// The folder the parent prepared; `None` where somebody runs ignored tests by hand.
#[expect(
    clippy::disallowed_methods,
    reason = "how a test process is told its folder"
)]
fn prepared_dir() -> Option<PathBuf> {
    std::env::var_os("STOPS_TEST_DIR").map(PathBuf::from)
}

#[test]
fn a_full_disk_does_not_keep_a_stop_from_lasting() {
    let Some(own_mounts) = own_mounts() else {
        let why = "a file system of one MiB needs root or user namespaces (unshare -rm)";
        return skipped("stops::a_full_disk", why);
    };
    let dir = tempfile::tempdir().unwrap();
    let output = Command::new("unshare")
        .args(own_mounts)
        .args(["sh", "-c"])
        .arg("mount -t tmpfs -o size=1m tmpfs \"$STOPS_TEST_DIR\" && exec \"$0\" \"$@\"")
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "stops::child_on_a_full_disk"])
        .args(["--ignored", "--nocapture"])
        .env("STOPS_TEST_DIR", dir.path())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && text.contains("child_on_a_full_disk ... ok"),
        "{text}\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

fn fill(path: &Path) {
    let (mut file, mut len) = (fs::File::create(path).unwrap(), 1 << 20);
    while len > 0 {
        if std::io::Write::write_all(&mut file, &vec![0; len]).is_err() {
            len /= 2;
        }
    }
}

#[test]
#[ignore = "runs in a process of its own, started by another test"]
fn child_on_a_full_disk() {
    let Some(dir) = prepared_dir() else { return };
    let stops = Stops::open(&dir).unwrap();
    fill(&dir.join("filler"));
    assert!(fs::write(dir.join("more"), "no").is_err(), "not full");
    for number in 0..40 {
        let stop = Stop {
            target: Some(format!("k{number}").parse().unwrap()),
            source: Source::Officer {
                statement: vec![b's'; 2000],
                signature: vec![b'x'; 3000],
            },
        };
        let expected = if number < 30 {
            Added::New
        } else {
            Added::Widened
        };
        assert_eq!(stops.add(stop).unwrap(), expected);
    }
    drop(stops);
    let again = Stops::open(&dir).unwrap();
    assert_eq!(again.pending().len(), 31);
    for stop in again.pending() {
        again.settled(&stop).unwrap();
    }
    assert!(Stops::open(&dir).unwrap().pending().is_empty());
}
