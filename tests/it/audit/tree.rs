//! The Merkle tree over the records: it is the same after a restart, its checkpoints and the token's
//! anchor refuse an older or another log, and a verification names what was changed, whatever was.

use aws_lc_rs::encoding::AsDer as _;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use kekd::audit::{AuditReader, Expectations, Filter, Mismatch, PageMax, Verified};
use kekd::merkle::{Head, LogKey, leaf_hash, root_of, verify_consistency, verify_inclusion};

use super::*;

/// The log key of a test.
pub struct Signer {
    pair: EcdsaKeyPair,
    pub key: LogKey,
}

impl Signer {
    pub fn new() -> Self {
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
        let key = LogKey::from_spki(pair.public_key().as_der().unwrap().as_ref()).unwrap();
        Self { pair, key }
    }

    /// Signs and keeps the head; the note and the anchor that the token would hold.
    pub async fn checkpoint(&self, journal: &Journal) -> (String, Vec<u8>) {
        let checkpoint = journal.checkpoint().unwrap();
        let head = checkpoint.head();
        let text = checkpoint.text();
        let raw = self.pair.sign(&SystemRandom::new(), text.as_bytes());
        let note = checkpoint.into_note(&self.key, raw.unwrap().as_ref());
        let note = note.unwrap();
        journal.keep(head, note.clone()).await.unwrap();
        (note, audit::anchor_bytes(instance(), head))
    }
}

async fn write(journal: &Journal, count: usize) {
    let mut under_way = JoinSet::new();
    for n in 0..count {
        let journal = journal.clone();
        under_way.spawn(async move { journal.record(draft(&format!("r-{n}"))).await.unwrap() });
    }
    under_way.join_all().await;
}

fn leaves(dir: &Path) -> Vec<Sha256> {
    let reader = AuditReader::of_copy(&dir.join("audit.db")).unwrap();
    let mut leaves = Vec::new();
    loop {
        let from = u64::try_from(leaves.len()).unwrap();
        let all = PageMax {
            records: usize::MAX,
            bytes: usize::MAX,
        };
        let page = reader.page(&Filter::default(), from, all).unwrap();
        leaves.extend(page.records.iter().map(|(_, bytes)| leaf_hash(bytes)));
        if page.next == page.size {
            return leaves;
        }
    }
}

fn verify(path: &Path, key: Option<&LogKey>) -> Result<Verified, AuditError> {
    let expect = Expectations {
        instance_id: Some(instance()),
        log_key: key.cloned(),
        checkpoint: None,
    };
    AuditReader::of_copy(path)?.verify(&expect, &mut |_, _| ())
}

fn mismatch<T: std::fmt::Debug>(result: Result<T, AuditError>) -> Mismatch {
    match result {
        Err(AuditError::Mismatch { mismatch, .. }) => mismatch,
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_tree_is_that_of_the_stored_bytes_and_outlives_the_process() {
    let signer = Signer::new();
    let (dir, mut journal) = created();
    for (count, size) in [
        (0, 0),
        (1, 1),
        (1022, 1023),
        (1, 1024),
        (1, 1025),
        (1500, 2525),
    ] {
        write(&journal, count).await;
        let head = journal.head();
        assert_eq!(head.size, size);
        journal.close().await.unwrap();
        assert_eq!(head.root, root_of(&leaves(dir.path())), "size {size}");
        journal = open(dir.path()).unwrap();
        assert_eq!(journal.head(), head);
    }
    let (note, anchor) = signer.checkpoint(&journal).await;
    let signed = journal.head();
    write(&journal, 10).await;

    // Proofs beside the writer, on both sides of tiles.
    let reader = journal.reader();
    let origin = audit::origin(&instance());
    for index in [0, 1, 1023, 1024, 2047, 2048, 2500, 2524] {
        let proof = reader.prove(index, &origin, &signer.key).unwrap();
        assert_eq!(proof.note, note);
        verify_inclusion(leaf_hash(&proof.record), index, signed, &proof.hashes).unwrap();
    }
    let unsigned = reader.prove(2525, &origin, &signer.key).unwrap_err();
    let expected = matches!(unsigned, AuditError::RecordUnknown { size: 2525, .. });
    assert!(expected, "{unsigned}");
    for old in [0, 1, 1000, 1024, 2048, 2100, 2525] {
        let proof = reader.prove_growth(old, &origin, &signer.key).unwrap();
        verify_consistency(proof.old, signed, &proof.hashes).unwrap();
    }
    drop(reader);
    journal.close().await.unwrap();

    let journal = open(dir.path()).unwrap();
    journal.judge(&signer.key, &[anchor]).unwrap();
    assert_eq!(journal.status().signed, Some(signed));
    journal.close().await.unwrap();
    let verified = verify(&dir.path().join("audit.db"), Some(&signer.key)).unwrap();
    assert_eq!((verified.head.size, verified.signed), (2535, Some(signed)));
    assert!(verified.is_signature_verified);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_of_a_kekd_without_a_tree_is_caught_up_once() {
    let (dir, journal) = created();
    write(&journal, 2100).await;
    let head = journal.head();
    journal.close().await.unwrap();
    let path = dir.path().join("audit.db");
    let sql = "DROP TABLE leaf; DROP TABLE tile; DROP TABLE checkpoint";
    Connection::open(&path).unwrap().execute_batch(sql).unwrap();
    assert!(matches!(
        mismatch(verify(&path, None)),
        Mismatch::LeafMissing { index: 0 }
    ));
    let journal = open(dir.path()).unwrap();
    assert_eq!(journal.head(), head);
    journal.judge(&Signer::new().key, &[]).unwrap();
    journal.close().await.unwrap();

    // And one that such a kekd wrote to in between.
    let connection = Connection::open(&path).unwrap();
    let sql = "DROP TRIGGER leaf_not_deleted; DROP TRIGGER tile_not_deleted;
        DELETE FROM leaf WHERE record_index >= 1500; DELETE FROM tile WHERE number >= 1;";
    connection.execute_batch(sql).unwrap();
    drop(connection);
    let journal = open(dir.path()).unwrap();
    assert_eq!(journal.head(), head);
    journal.close().await.unwrap();
    assert_eq!(verify(&path, None).unwrap().head, head);
}

/// An older copy, a cut or another log in its place: refused by what the token and the newest
/// checkpoint say.
#[tokio::test]
async fn a_log_that_is_not_the_newest_one_is_refused() {
    let signer = Signer::new();
    let (dir, journal) = created();
    let path = dir.path().join("audit.db");
    let never_signed = audit::anchor_bytes(instance(), journal.head());
    journal
        .judge(&signer.key, std::slice::from_ref(&never_signed))
        .unwrap();
    write(&journal, 5).await;
    signer.checkpoint(&journal).await;
    journal.close().await.unwrap();
    let older = fs::read(&path).unwrap();

    let journal = open(dir.path()).unwrap();
    write(&journal, 5).await;
    let (_, anchor) = signer.checkpoint(&journal).await;
    let seen = journal.head();
    write(&journal, 5).await;
    journal.close().await.unwrap();
    let newest = fs::read(&path).unwrap();

    let judged = async |sql: &str, file: &[u8], key: &LogKey, anchors: &[Vec<u8>]| {
        for suffix in ["", "-wal", "-shm"] {
            fs::remove_file(format!("{}{suffix}", path.display())).ok();
        }
        fs::write(&path, file).unwrap();
        let connection = Connection::open(&path).unwrap();
        connection.execute_batch(sql).unwrap();
        drop(connection);
        let journal = open(dir.path())?;
        let judged = journal.judge(key, anchors);
        journal.close().await.unwrap();
        judged
    };
    let key = &signer.key;
    let anchors = std::slice::from_ref(&anchor);
    judged("", &newest, key, anchors).await.unwrap();
    // After a crash there may be two.
    let two = [never_signed, anchor.clone()];
    judged("", &newest, key, &two).await.unwrap();

    let found = mismatch(judged("", &older, key, anchors).await);
    let rolled_back = |found| Mismatch::RolledBack {
        expected: 10,
        found,
        root: seen.root,
    };
    assert_eq!(found, rolled_back(5));
    // No record of the newest tile can be changed, moved or removed without being seen at a start.
    let unlocked = "DROP TRIGGER record_not_deleted; DROP TRIGGER record_not_changed;
        DROP TRIGGER leaf_not_deleted; DROP TRIGGER leaf_not_changed;
        DROP TRIGGER checkpoint_not_deleted;";
    let cut = format!(
        "{unlocked} DELETE FROM record WHERE record_index > 6; DELETE FROM leaf WHERE record_index > 6;
         DELETE FROM checkpoint WHERE size > 5"
    );
    let found = mismatch(judged(&cut, &newest, key, anchors).await);
    assert_eq!(found, rolled_back(7));
    // Only the token tells a cut that takes the checkpoint along.
    judged(&cut, &newest, key, std::slice::from_ref(&two[0]))
        .await
        .unwrap();
    let tail = format!("{unlocked} DELETE FROM record WHERE record_index > 12");
    let found = mismatch(judged(&tail, &newest, key, anchors).await);
    assert_eq!(
        found,
        Mismatch::Cut {
            expected: 15,
            found: 13
        }
    );
    let forged = format!("{unlocked} UPDATE leaf SET hash = randomblob(32) WHERE record_index = 3");
    let found = mismatch(judged(&forged, &newest, key, anchors).await);
    assert!(
        matches!(found, Mismatch::RecordChanged { index: 3, .. }),
        "{found}"
    );

    // An older copy is taken where its loss is accepted, and that very loss.
    let loss = dir.path().join("audit.loss");
    let anchor_text = String::from_utf8(anchor.clone()).unwrap();
    let accepted = anchor_text.replace("kekd-audit-anchor-v1", "kekd-audit-loss-v1");
    fs::write(&loss, accepted.replace("size 10", "size 11")).unwrap();
    let found = mismatch(judged("", &older, key, anchors).await);
    assert_eq!(found, rolled_back(5));
    fs::write(&loss, accepted).unwrap();
    let taken = judged("", &older, key, anchors).await.unwrap();
    assert_eq!(taken.lost, Some(seen));
    let taken = judged("", &newest, key, anchors).await.unwrap();
    assert_eq!(taken.lost, None);

    let found = mismatch(judged("", &newest, key, &[]).await);
    assert_eq!(found, Mismatch::AnchorCount { found: 0 });
    let found = mismatch(judged("", &newest, key, &[b"kekd".to_vec()]).await);
    assert_eq!(found, Mismatch::AnchorMalformed { found_len: 4 });
    let other = audit::anchor_bytes(Sha256::of(b"other"), seen);
    assert!(matches!(
        mismatch(judged("", &newest, key, &[other]).await),
        Mismatch::AnchorMalformed { .. }
    ));
    let root = Sha256::of(b"another history");
    let fork = audit::anchor_bytes(instance(), Head { root, ..seen });
    assert!(matches!(
        mismatch(judged("", &newest, key, &[fork]).await),
        Mismatch::Forked { size: 10, .. }
    ));
    assert!(matches!(
        mismatch(judged("", &newest, &Signer::new().key, anchors).await),
        Mismatch::CheckpointRefused { size: 10, .. }
    ));
}
