use super::*;
use crate::{Check, Durability, Range, Scan};

async fn open(directory: &Path) -> EmbeddedStore {
    EmbeddedStore::open(directory, Settings::default()).await.unwrap()
}

fn done(commit: Commit) -> crate::Version {
    match commit {
        Commit::Done { version, stamp } => {
            assert_eq!(stamp.version(), version);
            version
        }
        Commit::Conflict => panic!("unexpected conflict"),
    }
}

#[tokio::test]
async fn reopens_with_what_was_committed() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path()).await;
    let mut batch = Batch::default();
    batch.set("a", "1").set("b", vec![7; 100_000]).add("n", 5).set_stamped("s/", "/x", "stamped");
    let first = done(store.commit(batch).await.unwrap());
    let refused = EmbeddedStore::open(directory.path(), Settings::default()).await.err().unwrap();
    assert!(
        matches!(&refused, Error::InUse { reason } if reason.contains("is in use by process")),
        "{refused}"
    );
    store.close().await.unwrap();
    store.close().await.unwrap();
    assert!(matches!(store.commit(Batch::default()).await, Err(Error::Unavailable { .. })));
    let journal = std::fs::metadata(directory.path().join("engine/0.jnl")).unwrap();
    assert_eq!(journal.len(), 0, "everything is in tables");

    let store = open(directory.path()).await;
    let snapshot = store.snapshot().await.unwrap();
    assert!(snapshot.version() > first);
    let keys = ["a", "b", "n", "c"].map(Key::from);
    let values = snapshot.get_many(&keys).await.unwrap();
    assert_eq!(values[0].as_deref(), Some(&b"1"[..]));
    assert_eq!(values[1].as_ref().map(Value::len), Some(100_000));
    assert_eq!(values[2].as_deref(), Some(&5_i64.to_le_bytes()[..]));
    assert_eq!(values[3], None);
    let page = snapshot.scan(&Range::prefix("s/"), Scan::default()).await.unwrap();
    assert_eq!(page.rows.len(), 1);
    assert_eq!(crate::Stamp::in_key(&page.rows[0].0, 2).unwrap().version(), first);

    let mut batch = Batch { durability: Durability::Buffered, ..Batch::default() };
    batch.checks.push(Check::Value { key: "a".into(), expected: Some("2".into()) });
    batch.clear("a");
    assert_eq!(store.commit(batch).await.unwrap(), Commit::Conflict);
    store.close().await.unwrap();
}
