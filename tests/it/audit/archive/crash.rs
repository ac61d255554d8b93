//! SIGKILL in the midst of a drop: it is whole or undone, and the next start ends what was begun.

use super::*;

/// The process is killed at any moment of a drop and its sweep: all or nothing of it is there, and the next
/// start ends what was begun.
#[tokio::test(flavor = "multi_thread")]
async fn a_crash_leaves_a_drop_whole_or_undone() {
    let signer = Signer::new();
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("state");
    fs::create_dir(&state).unwrap();
    Journal::create(&state, &instance()).unwrap();
    let journal = open_on(&state, 0, 0);
    release(&journal, 9000).await;
    signer.checkpoint(&journal).await;
    let file = dir.path().join("archive");
    archive(&journal, Before::Now, &signer, &file);
    journal.close().await.unwrap();
    let pristine = fs::read(state.join("audit.db")).unwrap();
    let (mut whole, mut undone, mut unswept) = (0, 0, 0);
    for round in 0..24_u64 {
        for suffix in ["-wal", "-shm"] {
            fs::remove_file(state.join(format!("audit.db{suffix}"))).ok();
        }
        fs::write(state.join("audit.db"), &pristine).unwrap();
        let begun = disk::killed_child(
            dir.path(),
            "archive::crash::child_that_drops",
            Duration::from_millis(round),
        );
        assert!(begun);
        let copy = dir.path().join("copy");
        fs::create_dir(&copy).unwrap();
        for suffix in ["", "-wal"] {
            let name = format!("audit.db{suffix}");
            if state.join(&name).exists() {
                fs::copy(state.join(&name), copy.join(&name)).unwrap();
            }
        }
        let archive = Archive::open(&file, Some(&signer.key), &mut |_, _| ()).unwrap();
        let verified = verify(&copy.join("audit.db"), &signer, &[]).unwrap();
        let rows: i64 = Connection::open(copy.join("audit.db"))
            .unwrap()
            .query_row("SELECT count(*) FROM record", (), |row| row.get(0))
            .unwrap();
        fs::remove_dir_all(&copy).unwrap();
        match (verified.archived.len(), verified.head.size) {
            (0, 9000) => undone += 1,
            (1, 9001) => whole += 1,
            other => panic!("round {round}: {other:?}"),
        }
        unswept += u32::from(verified.archived.len() == 1 && rows > 809);
        let journal = open_on(&state, 0, 0);
        dropped(&journal, &archive).await.unwrap();
        swept(&state, 8192).await;
        release(&journal, 1).await;
        journal.close().await.unwrap();
        let verified = verify(&state.join("audit.db"), &signer, &[archive]).unwrap();
        assert_eq!(verified.head.size, 9002, "round {round}");
    }
    disk::tell(&format!(
        "{whole} whole ({unswept} not swept yet), {undone} undone"
    ));
}

#[tokio::test]
#[ignore = "runs in a process of its own, started by another test"]
async fn child_that_drops() {
    let Some(dir) = disk::prepared_dir() else {
        return;
    };
    let archive = Archive::open(&dir.join("archive"), None, &mut |_, _| ()).unwrap();
    let journal = open_on(&dir.join("state"), 0, 0);
    disk::tell("begin");
    dropped(&journal, &archive).await.unwrap();
    // Until it is killed.
    std::future::pending::<()>().await;
}

/// What is dropped before its uses were counted is counted with the drop.
#[tokio::test(flavor = "multi_thread")]
async fn uses_survive_a_drop_and_a_kill() {
    let signer = Signer::new();
    let dir = tempfile::tempdir().unwrap();
    Journal::create(dir.path(), &instance()).unwrap();
    let journal = open_on(dir.path(), 0, 0);
    release(&journal, 600).await;
    journal.close().await.unwrap();
    // Of the first tile, 424 records that the file does not count.
    let journal = open_on(dir.path(), 1, 0);
    release(&journal, 900).await;
    signer.checkpoint(&journal).await;
    let file = dir.path().join("archive");
    let archive = archive(&journal, Before::Index(1024), &signer, &file);
    dropped(&journal, &archive).await.unwrap();
    swept(dir.path(), 1024).await;
    let killed = as_a_kill_leaves(dir.path());
    let again = open_on(killed.path(), 1, 0);
    let id = "6f9619ff-8b86-4011-b42d-00cf4fc964ff".parse().unwrap();
    assert_eq!(again.usage(&id).released, 1500);
}
