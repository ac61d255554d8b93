//! Whatever is changed of a stub, of the tiles that stay or of an archive is refused, and named.

use kekd::audit::archive::ArchiveFault;

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn what_is_changed_of_stubs_and_archives_is_refused_by_name() {
    let (dir, signer, archives) = twice_dropped().await;
    let path = dir.path().join("audit.db");
    let pristine = fs::read(&path).unwrap();
    let unlocked = "DROP TRIGGER stub_not_changed; DROP TRIGGER stub_not_deleted;
        DROP TRIGGER tile_not_changed; DROP TRIGGER record_not_deleted; DROP TRIGGER leaf_not_deleted;";
    let found = |damage: &str| {
        let connection = Connection::open(&path).unwrap();
        connection
            .execute_batch(&format!("{unlocked}{damage}"))
            .unwrap();
        drop(connection);
        let found = verify(&path, &signer, &[]);
        for suffix in ["-wal", "-shm"] {
            fs::remove_file(format!("{}{suffix}", path.display())).ok();
        }
        fs::write(&path, &pristine).unwrap();
        mismatch(found)
    };
    for (damage, named) in [
        ("UPDATE stub SET archive = randomblob(32) WHERE first = 0", "stub was changed"),
        ("UPDATE stub SET archive = randomblob(32) WHERE first = 1024", "stub was changed"),
        ("UPDATE stub SET signed = signed + 1 WHERE first = 0", "stub was changed"),
        ("UPDATE stub SET record_index = 7 WHERE first = 0", "stub was changed"),
        ("UPDATE stub SET tiles = randomblob(32) WHERE first = 0", "tiles of the archived records 0 to 1023"),
        ("UPDATE stub SET until = 2048 WHERE first = 0", "expected record 2048, or a stub"),
        ("DELETE FROM stub WHERE first = 0", "expected record 0, or a stub"),
        ("DELETE FROM stub WHERE first = 1024", "expected record 1024, or a stub"),
        ("DELETE FROM stub", "expected record 0, or a stub"),
        ("UPDATE tile SET root = randomblob(32) WHERE number = 2", "tiles of the archived records 1024 to 3071"),
        ("UPDATE tile SET latest_ms = latest_ms + 1 WHERE number = 0", "tiles of the archived records 0 to 1023"),
        (
            "DELETE FROM record WHERE record_index < 4096; DELETE FROM leaf WHERE record_index < 4096;
             INSERT INTO stub VALUES (3072, 4096, randomblob(32), randomblob(32), 5000, 5001)",
            "tiles of the archived records 3072 to 4095",
        ),
    ] {
        let said = found(damage).to_string();
        assert!(said.contains(named), "{damage}: {said}");
    }
    // Root and stub together: the checkpoints know.
    let digest = "UPDATE tile SET root = (SELECT root FROM tile WHERE number = 1) WHERE number = 0";
    assert!(matches!(
        found(digest),
        Mismatch::StubTilesChanged { first: 0, .. }
    ));

    // An archive: every byte of its head, and many of its records.
    let file = dir.path().join("archive-0");
    let bytes = fs::read(&file).unwrap();
    let head_len = bytes.windows(6).position(|it| it == b"\nnote ").unwrap();
    let places = (0..head_len + 400).chain((head_len..bytes.len()).step_by(997));
    for at in places.chain([bytes.len() - 1]) {
        let mut flipped = bytes.clone();
        flipped[at] ^= 1 << (at % 8);
        fs::write(&file, &flipped).unwrap();
        let opened = Archive::open(&file, Some(&signer.key), &mut |_, _| ());
        let refused = match opened {
            Err(_) => continue,
            // A signature in the note that is nobody's, or an ECDSA signature in another form.
            Ok(opened) => verify(&path, &signer, &[opened]),
        };
        assert!(
            matches!(mismatch(refused), Mismatch::ArchiveUnknown { .. }),
            "byte {at}"
        );
    }
    let fault = |bytes: &[u8]| {
        fs::write(&file, bytes).unwrap();
        match Archive::open(&file, Some(&signer.key), &mut |_, _| ()).err() {
            Some(AuditError::Archive { fault, .. }) => fault,
            other => panic!("{other:?}"),
        }
    };
    assert!(matches!(
        fault(&bytes[..bytes.len() - 1]),
        ArchiveFault::Cut { found: 1023, .. }
    ));
    assert!(matches!(
        fault(&[&bytes[..], b"x"].concat()),
        ArchiveFault::Longer { .. }
    ));
    assert!(matches!(fault(b"kekd"), ArchiveFault::Malformed(_)));
    fs::write(&file, &bytes).unwrap();
    let stranger = Archive::open(&file, Some(&Signer::new().key), &mut |_, _| ()).err();
    let is_refused = matches!(
        stranger,
        Some(AuditError::Archive {
            fault: ArchiveFault::Checkpoint(_),
            ..
        })
    );
    assert!(is_refused, "{stranger:?}");
    let text = String::from_utf8_lossy(&bytes[..head_len]).into_owned();
    let other = text.replace(&instance().to_string(), &Sha256::of(b"other").to_string());
    let other = [other.as_bytes(), &bytes[head_len..]].concat();
    assert!(matches!(fault(&other), ArchiveFault::Checkpoint(_)));
    let another = archives[0]
        .require_instance(Sha256::of(b"other"))
        .unwrap_err();
    assert!(
        another
            .to_string()
            .contains("expected an archive of the instance"),
        "{another}"
    );
    assert_eq!(verify(&path, &signer, &archives).unwrap().unheld, 0);

    // And a start refuses what it can see.
    for damage in ["DELETE FROM stub", "DELETE FROM stub WHERE first = 0"] {
        Connection::open(&path)
            .unwrap()
            .execute_batch(&format!("{unlocked}{damage}"))
            .unwrap();
        let refused = open(dir.path()).err().unwrap();
        let named = matches!(
            refused,
            AuditError::Mismatch {
                mismatch: Mismatch::StubMissing { index: 0 },
                ..
            } | AuditError::NotContiguous { .. }
        );
        assert!(named, "{refused}");
        fs::write(&path, &pristine).unwrap();
    }
}
