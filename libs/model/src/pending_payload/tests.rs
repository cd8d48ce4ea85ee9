//! Tests of pending payloads on the embedded store.

use matyan_store::{Commit, Store};

use super::*;
use crate::{project::project_count, testing::TestStore};

const P: Project = Project(0);

fn payload(key: &str, size: usize) -> PendingPayload {
    PendingPayload {
        blob: BlobRef { key: key.to_owned(), size: size as u64, hash: [7; 32] },
        run_id: RunId::new("r"),
        at: ItemPosition { log: 1, partition: 2, offset: 3, item: 4 },
        received_us: 5,
        refusal: None,
    }
}

#[tokio::test]
async fn rule_39_a_payload_is_readable_until_it_is_cleared() {
    let store = TestStore::open().await;
    let count = async || {
        let snapshot = store.snapshot().await.unwrap();
        project_count(&*snapshot, P, Counter::PendingBytes).await.unwrap()
    };
    let content = Bytes::from(vec![9; 2_000_000]);
    let large = payload("r/a", content.len());
    for batch in pending_content(P, "r/a", &content) {
        assert!(batch.bytes() < 1 << 20);
        store.commit(batch).await.unwrap();
    }
    let get = async |blob: &BlobRef| {
        let snapshot = store.snapshot().await.unwrap();
        pending_get(&*snapshot, P, blob).await.unwrap()
    };
    assert_eq!(get(&large.blob).await, None, "content without a row has no effect");
    let put = async || {
        let mut batch = Batch::default();
        pending_put(&mut batch, P, &large);
        store.commit(batch).await.unwrap()
    };
    assert!(matches!(put().await, Commit::Done { .. }));
    assert_eq!(put().await, Commit::Conflict, "it is counted once");
    assert_eq!((get(&large.blob).await, count().await), (Some(content), 2_000_000));
    let refuse = async |transaction: &mut Transaction| pending_refuse(transaction, P, &large, "no").await;
    assert!(store.run(refuse).await.unwrap());
    assert!(!store.run(refuse).await.unwrap());
    let snapshot = store.snapshot().await.unwrap();
    let (listed, rest) = pending_list(&*snapshot, &keys::pending_payloads(P), 9).await.unwrap();
    assert_eq!((listed[0].refusal.as_deref(), listed.len(), rest), (Some("no"), 1, None));
    let clear = async |transaction: &mut Transaction| pending_clear(transaction, P, &large.blob).await;
    assert!(store.run(clear).await.unwrap());
    assert!(!store.run(clear).await.unwrap());
    assert_eq!((get(&large.blob).await, count().await), (None, 0));
}
