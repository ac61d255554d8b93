//! Secrets in places they must not be: known DEKs and the PIN are searched for wherever kekd writes.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use kekd::types::Padding;

use crate::harness::{Kek, Rig, dek};

/// A DEK that is easy to find: 32 bytes that are nowhere by chance.
const MARK: &[u8; 32] = b"kekd-leak-mark-0123456789abcdef!";

/// All files below a folder but those of the token, where the HSM itself keeps what it likes.
fn files(folder: &Path, found: &mut Vec<std::path::PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            if path.file_name().is_some_and(|name| name != "tokens") {
                files(&path, found);
            }
        } else if path.is_file() {
            found.push(path);
        }
    }
}

fn forms_of(secret: &[u8]) -> Vec<Vec<u8>> {
    use base64::Engine as _;
    let hex: String = secret.iter().map(|byte| format!("{byte:02x}")).collect();
    vec![
        secret.to_vec(),
        hex.to_uppercase().into_bytes(),
        hex.into_bytes(),
        base64::engine::general_purpose::STANDARD
            .encode(secret)
            .into_bytes(),
        format!("{secret:?}").into_bytes(),
    ]
}

fn holds(haystack: &[u8], needle: &[u8]) -> bool {
    haystack
        .windows(needle.len())
        .any(|window| window == needle)
}

#[tokio::test]
async fn no_dek_and_no_pin_is_written_anywhere() {
    let rig = Rig::stopped();
    rig.set("log", "filter = \"trace\"");
    rig.start();
    let client = rig.client("lkm-1").await;
    for (kek, padding) in [
        ("recordings", Padding::OaepSha1),
        ("legacy", Padding::Pkcs1V15),
    ] {
        let kek = Kek::of(&client, kek).await;
        for _ in 0..50 {
            let answer = client.unwrap(kek.call(padding, MARK)).await.unwrap();
            assert_eq!(&dek(&answer.release), MARK);
        }
        let long = kek.call(padding, &[&MARK[..], &MARK[..]].concat());
        client.unwrap(long).await.ok();
    }
    let daemon = rig.daemon_pid();
    let worker = rig.worker_pid().await;
    for pid in [daemon, worker] {
        for file in ["environ", "cmdline"] {
            // A process that is not dumpable hides its environment, from all but root.
            let bytes = match fs::read(format!("/proc/{pid}/{file}")) {
                Err(error) if error.kind() == ErrorKind::PermissionDenied => continue,
                read => read.unwrap(),
            };
            assert!(
                !holds(&bytes, rig.pin().as_bytes()),
                "the PIN is in /proc/{pid}/{file}"
            );
        }
    }
    rig.stop().await;

    let pin = rig.pin();
    let mut found = Vec::new();
    files(&rig.dir, &mut found);
    assert!(found.iter().any(|path| path.ends_with("kekd.log")));
    for path in found {
        let bytes = fs::read(&path).unwrap();
        for form in forms_of(MARK) {
            assert!(!holds(&bytes, &form), "a DEK is in {}", path.display());
        }
        if !path.ends_with("pin") {
            assert!(
                !holds(&bytes, pin.as_bytes()),
                "the PIN is in {}",
                path.display()
            );
        }
    }
}

#[tokio::test]
async fn daemon_and_worker_leave_no_core_and_let_nobody_look() {
    let rig = Rig::serving();
    let worker = rig.worker_pid().await;
    for pid in [rig.daemon_pid(), worker] {
        // A process that is not dumpable belongs to root in /proc (prctl(2), PR_SET_DUMPABLE), and its
        // limits say that it leaves no core.
        let limits = fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
        let core = limits
            .lines()
            .find(|line| line.starts_with("Max core file size"))
            .unwrap();
        let soft = core.split_whitespace().nth(4).unwrap();
        assert_eq!(soft, "0", "{pid} may leave a core: {core}");
    }
}
