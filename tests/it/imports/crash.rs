//! The daemon is killed while a key comes in. Wherever that hits it, the same delivery made again
//! brings the key in, once.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use kekd::proto::v1::ProposalPhase;
use rustix::process::{Pid, Signal, kill_process};

use super::{Legacy, begun, deliver, done, nothing_else_is_in_the_token, objects, read, wrapped};
use super::{old_deks_unwrap, problems};
use crate::harness::Rig;
use crate::harness::faulty::Faulty;
use crate::officers::Officers;
use crate::vigil::object_files;

/// From before the first call into the HSM to after the last entry, on a fast machine and a slow
/// one; what each meets is not asserted.
const KILLED_AFTER_MS: [u64; 12] = [1, 5, 10, 20, 40, 60, 80, 100, 150, 200, 300, 450];

#[tokio::test(flavor = "multi_thread")]
async fn killed_at_any_moment_a_key_comes_in_once() {
    let rig = Rig::serving();
    let officers = Officers::of(&rig).await;
    let legacy = Legacy::new(2048);
    let id = begun(&officers, &legacy).await;
    let file = wrapped(&rig, id, &legacy, "key.pem");
    for after in KILLED_AFTER_MS {
        let client = officers.client.clone();
        let message = read(id, &file);
        let delivery = tokio::spawn(async move { client.deliver_import(message).await });
        tokio::time::sleep(Duration::from_millis(after)).await;
        let daemon = i32::try_from(rig.daemon_pid()).unwrap();
        kill_process(Pid::from_raw(daemon).unwrap(), Signal::KILL).unwrap();
        delivery.await.unwrap().ok();
        rig.start();
        let phase = officers.phase(id).await;
        if phase == ProposalPhase::Executed {
            break;
        }
        assert_eq!(phase, ProposalPhase::Executing, "{after} ms");
    }
    if officers.phase(id).await == ProposalPhase::Executing {
        done(&deliver(&rig, id, &file));
    }
    old_deks_unwrap(&rig, &officers, &legacy).await;
    assert_eq!(objects(&rig).matches("kekd kek old/1").count(), 2);
    nothing_else_is_in_the_token(&rig);
    assert_eq!(problems(&rig).await, Vec::<String>::new());
}

/// A private key object as SoftHSM leaves it when its process ends in C_UnwrapKey: with all that the
/// template says, and without a key.
#[tokio::test(flavor = "multi_thread")]
async fn an_object_without_a_key_makes_room_for_the_key() {
    let faulty = Faulty::of(Rig::stopped());
    let rig = &faulty.rig;
    rig.start();
    let officers = Officers::of(rig).await;
    let legacy = Legacy::new(2048);
    let id = begun(&officers, &legacy).await;
    let file = wrapped(rig, id, &legacy, "key.pem");
    let tokens = rig.dir.join("tokens");
    let before: BTreeSet<_> = object_files(&tokens).into_iter().collect();

    // Killed with the private key in the token, before the public one.
    let (client, message) = (officers.client.clone(), read(id, &file));
    faulty.script("C_CreateObject * hold");
    let delivery = tokio::spawn(async move { client.deliver_import(message).await });
    let whole = |path: &PathBuf| {
        let (_, len) = without_key(&fs::read(path).unwrap())?;
        (len > 1_024).then(|| path.clone())
    };
    let mut came = None;
    for _ in 0..6_000 {
        let files: BTreeSet<_> = object_files(&tokens).into_iter().collect();
        came = files.difference(&before).find_map(whole);
        if came.is_some() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let came = came.expect("the token got no private key");
    rig.kill();
    delivery.await.unwrap().ok();
    let (emptied, _) = without_key(&fs::read(&came).unwrap()).unwrap();
    fs::write(&came, emptied).unwrap();

    faulty.script("");
    rig.start();
    done(&deliver(rig, id, &file));
    assert!(!came.exists());
    old_deks_unwrap(rig, &officers, &legacy).await;
    assert_eq!(objects(rig).matches("kekd kek old/1").count(), 2);
    assert_eq!(problems(rig).await, Vec::<String>::new());
}

/// One of SoftHSM's object files with each part of its RSA private key empty, and how many bytes those
/// had. Eight bytes of generation, then attributes, each its type, the kind of its value (1: a truth
/// value; 2: a number; 3 and 4: bytes with their count; 5: numbers with their count) and the value;
/// a number has eight bytes, big-endian. None while it is being written.
fn without_key(bytes: &[u8]) -> Option<(Vec<u8>, usize)> {
    const MODULUS_TO_COEFFICIENT: std::ops::RangeInclusive<usize> = 0x120..=0x128;
    let number = |at: usize| {
        let number = u64::from_be_bytes(*bytes.get(at..)?.first_chunk()?);
        usize::try_from(number).ok()
    };
    let mut emptied = bytes.get(..8)?.to_vec();
    let (mut at, mut parts_len) = (8, 0);
    while at < bytes.len() {
        let (attribute, kind, value) = (number(at)?, number(at + 8)?, at + 16);
        let len = match kind {
            1 => 1,
            2 => 8,
            5 => 8 + 8 * number(value)?,
            _ => 8 + number(value)?,
        };
        if kind == 3 && MODULUS_TO_COEFFICIENT.contains(&attribute) {
            emptied.extend_from_slice(bytes.get(at..value)?);
            emptied.extend_from_slice(&[0; 8]);
            parts_len += len - 8;
        } else {
            emptied.extend_from_slice(bytes.get(at..value + len)?);
        }
        at = value + len;
    }
    Some((emptied, parts_len))
}
