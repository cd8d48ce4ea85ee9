//! Tests of parked items on the embedded store.

use matyan_store::Store;

use super::*;
use crate::testing::TestStore;

const P: Project = Project(0);

fn parked(run: &str, item: u32, bytes: usize) -> ParkedItem {
    ParkedItem {
        run_id: RunId::new(run),
        at: ItemPosition { log: 1, partition: 2, offset: 3, item },
        reason: "why".into(),
        received_us: 4 + i64::from(item),
        item: vec![item as u8; bytes].into(),
        record: None,
    }
}

#[tokio::test]
async fn items_are_listed_in_pages_and_deleted() {
    let store = TestStore::open().await;
    let all = [
        parked("a", 0, 0),
        parked("a", 1, 200_000),
        parked("a", 2, 5),
        parked("b", 0, 70_000),
        parked("b", 7, 1),
    ];
    let mut batch = Batch::default();
    for parked in &all {
        for content in parked_content(P, parked) {
            store.commit(content).await.unwrap();
        }
        parked_put(&mut batch, P, parked);
    }
    store.commit(batch).await.unwrap();
    // The process died before it parked this item.
    for content in parked_content(P, &parked("a", 3, 5)) {
        store.commit(content).await.unwrap();
    }
    let list = async |range: Range, count: usize| {
        let snapshot = store.snapshot().await.unwrap();
        parked_list(&*snapshot, P, &range, count).await.unwrap()
    };
    assert_eq!(list(keys::parked(P), usize::MAX).await, (all.to_vec(), None));
    assert_eq!(list(keys::parked_run(P, &RunId::new("b")), 9).await.0, all[3..]);
    let (first, rest) = list(keys::parked(P), 2).await;
    assert_eq!(first, all[..2]);
    let (second, rest) = list(rest.unwrap(), 3).await;
    assert_eq!((second.as_slice(), rest), (&all[2..], None));
    let clear = async || {
        let clearing = async |transaction: &mut Transaction| {
            parked_clear(transaction, P, &RunId::new("a"), all[1].at).await
        };
        store.run(clearing).await.unwrap()
    };
    assert!(clear().await && !clear().await);
    assert_eq!(list(keys::parked(P), 9).await.0.len(), 4);
    let snapshot = store.snapshot().await.unwrap();
    assert_eq!(crate::project::project_count(&*snapshot, P, Counter::Parked).await.unwrap(), 4);
    let (newest, rest) = parked_newest(&*snapshot, P, &keys::parked_by_time_all(P), 2).await.unwrap();
    assert_eq!(newest, [(RunId::new("b"), all[4].at), (RunId::new("a"), all[2].at)]);
    let (older, rest) = parked_newest(&*snapshot, P, &rest.unwrap(), 9).await.unwrap();
    assert_eq!((older.len(), rest), (2, None));
    assert_eq!(parked_get(&*snapshot, P, &RunId::new("b"), all[3].at).await.unwrap(), Some(all[3].clone()));
}
