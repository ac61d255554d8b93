//! Old audit records in an archive, dropped, and asked for again: with kekctl by an auditor against a running
//! daemon, on a copy, and by docs/verify-archive.py, which is no code of ours.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Instant;

use kekd::client::UnwrapCall;
use kekd::proto::v1;
use kekd::types::Padding;
use tokio::task::JoinSet;

use crate::answers::{lines, refused, refused_because};
use crate::harness::{Kek, PATIENCE, Rig, must, reason, skipped};

/// Refusals that cost the HSM nothing: so many records.
pub async fn refusals(rig: &Rig, count: usize) {
    let client = rig.client("lkm-1").await;
    let kek = Kek::of(&client, "recordings").await;
    let mut call = kek.call(Padding::OaepSha1, &[1; 32]);
    call.keypair_id = "6f9619ff-8b86-4011-b42d-00cf4fc964ff".parse().unwrap();
    let calls = (0..count).map(move |number| UnwrapCall {
        request_id: Some(format!("refused-{number}").parse().unwrap()),
        ..call.clone()
    });
    let mut answers = client
        .unwrap_stream(tokio_stream::iter(calls))
        .await
        .unwrap();
    while let Some(answer) = answers.next().await {
        assert!(answer.unwrap().outcome.is_err());
    }
}

async fn release(rig: &Rig, count: u8) {
    let client = rig.client("lkm-1").await;
    let kek = Kek::of(&client, "recordings").await;
    for value in 0..count {
        let call = kek.call(Padding::OaepSha1, &[value; 32]);
        client.unwrap(call).await.unwrap();
    }
}

/// Waits until the token is tied to a checkpoint of this many records.
async fn anchored(rig: &Rig, size: u64) {
    let client = rig.client("auditor").await;
    let started = Instant::now();
    loop {
        let note = client.audit_checkpoint().await.unwrap_or_default();
        let signed = note.lines().nth(1).and_then(|line| line.parse().ok());
        if signed.is_some_and(|signed: u64| signed >= size) {
            break;
        }
        assert!(started.elapsed() < PATIENCE, "no checkpoint: {}", rig.log());
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    // The token is told right after.
    tokio::time::sleep(std::time::Duration::from_millis(500)).await;
}

struct Scene {
    rig: Rig,
    key: PathBuf,
}

impl Scene {
    fn file(&self, name: &str) -> String {
        self.rig.dir.join(name).to_str().unwrap().to_owned()
    }

    fn audit(&self, args: &[&str]) -> Command {
        let mut command = self.rig.auditor(&["audit"]);
        command.args(args);
        command
    }

    /// With the log key.
    fn keyed(&self, args: &[&str]) -> Command {
        let mut command = self.audit(args);
        command.arg("--log-key").arg(&self.key);
        command
    }

    /// A copy of the log of a daemon that runs, by SQLite.
    fn copy(&self, name: &str) -> String {
        let copy = self.file(name);
        fs::remove_file(&copy).ok();
        let state = rusqlite::Connection::open(self.rig.dir.join("state/audit.db")).unwrap();
        state.execute("VACUUM INTO ?1", [&copy]).unwrap();
        copy
    }
}

/// A log of 2,220 records, three of which are releases.
async fn scene(days: &str) -> Scene {
    let rig = Rig::stopped();
    rig.set("audit", &format!("checkpoint_interval_ms = 100\n{days}"));
    rig.set("limits", "refusals_recorded_per_minute_max = 100000");
    rig.start();
    release(&rig, 3).await;
    refusals(&rig, 2217).await;
    anchored(&rig, 2220).await;
    let export = rig.dir.join("export");
    must(rig.auditor(&["ledger", "export"]).arg(&export));
    let key = export.join("log-key.pem");
    Scene { rig, key }
}

#[tokio::test(flavor = "multi_thread")]
async fn old_records_are_archived_dropped_and_found_again() {
    let scene = scene("retention_days_min = 0").await;
    let (rig, file) = (&scene.rig, scene.file("first.kekd-audit"));
    let witness = scene.file("witness");
    let instance = fs::read_to_string(rig.dir.join("export/instance")).unwrap();
    let init = [
        "witness",
        "init",
        &witness,
        "--name",
        "witness.test/w1",
        "--instance",
        instance.trim(),
    ];
    must(rig.auditor(&init).arg("--log-key").arg(&scene.key));
    must(&mut rig.auditor(&["witness", "cosign", &witness]));

    let made = lines(&mut scene.keyed(&["archive", &file]));
    let told = (&made[0]["first"], &made[0]["last"], &made[0]["records"]);
    assert_eq!(told, (&0.into(), &2047.into(), &2048.into()));
    let sha = made[0]["sha256"].as_str().unwrap().to_owned();
    let openssl = must(Command::new("openssl").args(["dgst", "-sha256", "-r", &file])).stdout;
    assert!(String::from_utf8(openssl).unwrap().starts_with(&sha));
    // Nothing is replaced, and nothing of it was dropped yet.
    assert_eq!(
        refused(&mut scene.keyed(&["archive", &file])).1,
        "OUTPUT_EXISTS"
    );
    assert_eq!(lines(&mut scene.audit(&["list"])).len(), 2220);
    assert_eq!(
        refused(scene.audit(&["list"]).args(["--archive", &file])).0,
        65
    );
    verified_without_kekd(&scene, &file);

    // Never unasked, by nobody else, and not what is another's.
    assert_eq!(
        refused(&mut scene.keyed(&["drop", &file])).1,
        "CONSENT_MISSING"
    );
    for (name, expected) in [
        ("operator", "ROLE_NOT_ALLOWED"),
        ("stranger", "CALLER_UNKNOWN"),
    ] {
        let mut command = rig.kekctl_as(name, &["audit", "drop", &file, "--yes"]);
        let found = refused(command.arg("--log-key").arg(&scene.key));
        assert_eq!((found.0, found.1.as_str()), (77, expected));
    }
    let damaged = scene.file("damaged");
    let mut bytes = fs::read(&file).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&damaged, bytes).unwrap();
    let found = refused(&mut scene.keyed(&["drop", &damaged, "--yes"]));
    assert_eq!(found.0, 65, "{found:?}");
    let before = scene.copy("before.db");

    let dropped = lines(&mut scene.keyed(&["drop", &file, "--yes"]));
    let record = dropped[0]["record_index"].as_u64().unwrap();
    assert!(record >= 2220);
    // The answer was lost: once more says the same and writes nothing.
    assert_eq!(lines(&mut scene.keyed(&["drop", &file, "--yes"])), dropped);
    release(rig, 2).await;
    anchored(rig, record + 3).await;

    // Nothing is skipped in silence.
    for command in [
        &mut scene.audit(&["list"]),
        &mut scene.audit(&["export"]),
        &mut scene.audit(&["follow", "--from", "7"]),
        &mut scene.keyed(&["prove", "7"]),
    ] {
        let (exit, why, message) = refused_because(command);
        assert_eq!((exit, why.as_str()), (1, "RECORDS_ARCHIVED"), "{command:?}");
        assert!(
            message.contains(&sha) && message.contains("2048"),
            "{message}"
        );
    }
    let kept = lines(scene.audit(&["list"]).args(["--from", "2048"]));
    // The stranger is on record, the drop, and two releases.
    assert_eq!(kept.len(), 2220 - 2048 + 4);
    let drops =
        lines(
            scene
                .audit(&["list"])
                .args(["--from", "2048", "--outcome", "records-archived"]),
        );
    assert_eq!(
        (drops.len(), &drops[0]["archived"]["archive_sha256"]),
        (1, &sha.clone().into())
    );
    assert_eq!(drops[0]["caller"], "spiffe://kekd.test/auditor");
    // Who unwrapped what under this KEK between two dates, whatever was dropped.
    let released = "list --kek recordings --since 2026-01-01 --until 2100-01-01 --outcome released";
    let mut released = scene.audit(&released.split(' ').collect::<Vec<_>>());
    assert_eq!(lines(released.args(["--archive", &file])).len(), 5);
    assert_eq!(
        lines(scene.audit(&["list"]).args(["--archive", &file])).len(),
        2224
    );
    assert_eq!(
        refused(scene.audit(&["list"]).args(["--archive", &damaged])).0,
        65
    );
    let proof = scene.file("proof");
    must(&mut scene.keyed(&["prove", "7", "--archive", &file, "--out", &proof]));
    let proved = lines(&mut scene.keyed(&["prove", "--check", &proof]));
    assert_eq!(proved[0]["record"]["index"], 7);
    must(&mut scene.keyed(&["prove", "2200"]));
    must(&mut rig.auditor(&["witness", "cosign", &witness]));

    // A copy, alone and with the archive; and the daemon goes on after a restart.
    let copy = scene.copy("copy.db");
    let alone = lines(&mut scene.keyed(&["verify", &copy]));
    assert_eq!(alone[0]["archived"][0]["archive_sha256"], sha);
    assert_eq!(alone[0]["archived"][0]["archive_verified"], false);
    let whole = lines(&mut scene.keyed(&["verify", &copy, "--archive", &file]));
    assert_eq!(whole[0]["archived"][0]["archive_verified"], true);
    assert_eq!(whole[0]["checkpoints_unheld"], 0);
    assert_eq!(
        refused(&mut scene.keyed(&["verify", &copy, "--archive", &damaged])).0,
        65
    );
    assert_eq!(
        lines(
            scene
                .audit(&["list"])
                .args(["--file", &copy, "--archive", &file])
        )
        .len(),
        2224
    );
    rig.stop().await;
    rig.start();
    release(rig, 1).await;
    let started = rig
        .client("auditor")
        .await
        .audit_retention(None)
        .await
        .unwrap();
    assert_eq!((started.first_kept, started.archived.len()), (2048, 1));
    rig.stop().await;

    // The log as it was before the drop is an older copy, as any.
    let state = rig.dir.join("state/audit.db");
    for suffix in ["-wal", "-shm"] {
        fs::remove_file(format!("{}{suffix}", state.display())).ok();
    }
    fs::copy(before, &state).unwrap();
    let older = rusqlite::Connection::open(&state).unwrap();
    older.pragma_update(None, "journal_mode", "WAL").unwrap();
    drop(older);
    let said = rig.start_refused();
    assert!(said.contains("the token has seen"), "{said}");
}

fn verified_without_kekd(scene: &Scene, file: &str) {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/verify-archive.py");
    let run = |file: &str| {
        let mut python = Command::new("python3");
        python.arg(script).arg(file).arg(&scene.key).output()
    };
    let Ok(output) = run(file) else {
        return skipped(
            "audit_archive::verified_without_kekd",
            "there is no python3",
        );
    };
    assert!(output.status.success(), "{output:?}");
    let bytes = fs::read(file).unwrap();
    let changed = scene.file("changed");
    for at in [30, 100, 400, bytes.len() / 2, bytes.len() - 1] {
        let mut flipped = bytes.clone();
        flipped[at] ^= 1;
        fs::write(&changed, flipped).unwrap();
        assert!(!run(&changed).unwrap().status.success(), "byte {at}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn young_records_are_not_dropped_and_a_run_cut_short_begins_anew() {
    let scene = scene("").await;
    let file = scene.file("young.kekd-audit");
    fs::write(format!("{file}.partial"), "of a run that was cut short").unwrap();
    let none = refused(&mut scene.keyed(&["archive", &file, "--before", "2026-01-01"]));
    assert_eq!(none.1, "NOTHING_TO_ARCHIVE");
    let made = must(&mut scene.keyed(&["archive", &file, "--before", "2000"]));
    assert!(String::from_utf8_lossy(&made.stderr).contains("beginning anew"));
    assert!(!fs::exists(format!("{file}.partial")).unwrap());
    earlier_archive_stays_whole(&scene, &file);
    let (exit, why, message) = refused_because(&mut scene.keyed(&["drop", &file, "--yes"]));
    assert_eq!((exit, why.as_str()), (1, "NOT_DROPPED"));
    assert!(
        message.contains("audit.retention_days_min keeps records for 365 days"),
        "{message}"
    );
    assert_eq!(lines(&mut scene.audit(&["list"])).len(), 2220);

    // A message that is none is refused, and nothing happens.
    let client = scene.rig.client("auditor").await;
    let malformed = client
        .drop_archived(v1::DropArchivedRequest::default())
        .await;
    assert_eq!(reason(&malformed.err().unwrap()), "INVALID_REQUEST");
}

/// A run that was killed after it gave its archive a name, and before it took FILE.partial away, left both
/// names to one file. That archive is the operator's, wherever it was moved to.
fn earlier_archive_stays_whole(scene: &Scene, file: &str) {
    let (partial, elsewhere) = (format!("{file}.partial"), scene.file("elsewhere"));
    let bytes = fs::read(file).unwrap();
    fs::hard_link(file, &partial).unwrap();
    fs::rename(file, &elsewhere).unwrap();
    let made = lines(&mut scene.keyed(&["archive", file]));
    assert_eq!(made[0]["records"], 2048);
    assert!(
        fs::read(&elsewhere).unwrap() == bytes,
        "the earlier archive was written to"
    );
    assert_ne!(fs::read(file).unwrap(), bytes);
    assert!(!fs::exists(&partial).unwrap());
    fs::rename(elsewhere, file).unwrap();
}

/// A follower that takes nothing is cut, told so, and gives its place back.
#[tokio::test(flavor = "multi_thread")]
async fn a_follower_that_is_too_slow_is_cut() {
    let rig = Rig::stopped();
    rig.set("limits", "refusals_recorded_per_minute_max = 100000");
    rig.start();
    refusals(&rig, 4_000).await;
    let all = v1::RecordFilter::default;
    let slow = rig.client("auditor").await;
    let mut stalled = Vec::new();
    for _ in 0..32 {
        stalled.push(slow.follow_records(Some(0), all()).await.unwrap());
    }
    let good = rig.client("auditor").await;
    let started = Instant::now();
    // Their places are given back when they are cut; until then there is none.
    let mut was_full = false;
    loop {
        match good.follow_records(Some(0), all()).await {
            Ok(mut live) => {
                assert!(live.next().await.unwrap().is_some());
                break;
            }
            Err(error) => assert_eq!(reason(&error), "TOO_MANY_FOLLOWERS"),
        }
        was_full = true;
        assert!(started.elapsed() < 8 * PATIENCE, "nobody is cut");
        tokio::time::sleep(std::time::Duration::from_millis(500)).await;
    }
    assert!(was_full);
    // All at once: what one of them has not taken is in the way of the others of its connection.
    let mut ends = JoinSet::new();
    for mut live in stalled {
        ends.spawn(async move {
            for _ in 0..4_000 {
                if let Err(error) = live.next().await {
                    assert_eq!(reason(&error), "TOO_SLOW");
                    return true;
                }
            }
            false
        });
    }
    let too_slow = ends.join_all().await.contains(&true);
    assert!(too_slow);
}
