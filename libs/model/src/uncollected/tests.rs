//! Lists that are renewed while runs join and leave them.

use std::collections::BTreeMap;

use matyan_store::{Commit, Store as _};

use super::*;
use crate::testing::TestStore;

const P: Project = Project(3);
const KIND: CohortKind = CohortKind::Params;
const ONE: Scan = Scan { rows: 1, ..Scan::DEFAULT };

async fn list_of(store: &TestStore) -> UncollectedList {
    UncollectedList::read(&*store.snapshot().await.unwrap(), KIND, P).await.unwrap()
}

/// Returns false if the list has another generation by then.
async fn put_in(store: &TestStore, list: &UncollectedList, number: u64, value: &[u8]) -> bool {
    let mut batch = Batch::default();
    list.put(&mut batch, RunNumber(number), value.to_vec());
    matches!(store.commit(batch).await.unwrap(), Commit::Done { .. })
}

async fn put(store: &TestStore, number: u64, value: &[u8]) {
    assert!(put_in(store, &list_of(store).await, number, value).await);
}

async fn remove(store: &TestStore, number: u64) -> bool {
    let removed = store.run(async |transaction| {
        let list = UncollectedList::read(transaction.unchecked(), KIND, P).await?;
        let mut batch = Batch::default();
        let is_listed = list.remove(transaction.unchecked(), &mut batch, RunNumber(number)).await?;
        transaction.batch().append(batch);
        Ok::<_, matyan_store::Error>(is_listed)
    });
    removed.await.unwrap()
}

async fn renew_step(store: &TestStore) -> bool {
    store.run(async |transaction| uncollected_renew(transaction, KIND, P).await).await.unwrap()
}

/// Reads the list with a snapshot for each row, and does something after the first one.
async fn read_with(store: &TestStore, mut meanwhile: impl AsyncFnMut()) -> BTreeMap<u64, Vec<Vec<u8>>> {
    let mut reader = UncollectedReader::new(KIND, P);
    let mut found: BTreeMap<u64, Vec<Vec<u8>>> = BTreeMap::new();
    let mut pages = 0;
    loop {
        let snapshot = store.snapshot().await.unwrap();
        let Some(rows) = reader.next(&*snapshot, ONE).await.unwrap() else { break };
        for (key, value) in &rows {
            found.entry(keys::index_run(key).unwrap().0).or_default().push(value.to_vec());
        }
        pages += 1;
        if pages == 1 {
            meanwhile().await;
        }
    }
    assert!(reader.is_done());
    found
}

async fn read(store: &TestStore) -> BTreeMap<u64, Vec<Vec<u8>>> {
    read_with(store, async || {}).await
}

async fn rows_in(store: &TestStore, generation: ListGeneration) -> usize {
    let all = keys::uncollected_all(KIND, P, generation);
    store.snapshot().await.unwrap().scan(&all, Scan::DEFAULT).await.unwrap().rows.len()
}

#[tokio::test]
async fn a_renewed_list_has_the_same_runs_in_another_place() {
    let store = TestStore::open().await;
    for number in 1..=4 {
        put(&store, number, b"old").await;
    }
    let before = list_of(&store).await;
    assert!(!renew_step(&store).await);
    assert!(!put_in(&store, &before, 5, b"lost").await, "its row would be in a place that is left");
    put(&store, 2, b"new").await;
    put(&store, 5, b"new").await;
    assert_eq!(read(&store).await[&2], [b"old".to_vec(), b"new".to_vec()]);
    assert!(remove(&store, 3).await);
    assert!(renew_step(&store).await);
    let value = |text: &[u8]| vec![text.to_vec()];
    let expected = [(1, value(b"old")), (2, value(b"new")), (4, value(b"old")), (5, value(b"new"))];
    assert_eq!(read(&store).await, expected.into());
    assert_eq!([rows_in(&store, ListGeneration(0)).await, rows_in(&store, ListGeneration(1)).await], [0, 4]);
    assert!(remove(&store, 2).await);
    assert!(!remove(&store, 2).await);
}

#[tokio::test]
async fn rule_133_a_reader_misses_no_run_of_a_list_that_is_renewed_meanwhile() {
    let store = TestStore::open().await;
    for number in 1..=9 {
        put(&store, number, b"").await;
    }
    for steps in [1, 2, 3, 4] {
        let found = read_with(&store, async || {
            for _ in 0..steps {
                renew_step(&store).await;
            }
        });
        assert_eq!(found.await.into_keys().collect::<Vec<_>>(), (1..=9).collect::<Vec<_>>(), "{steps}");
    }
}

#[tokio::test]
async fn a_list_is_worn_once_more_runs_have_left_it_than_are_in_it() {
    let store = TestStore::open().await;
    let is_worn = async || {
        let snapshot = store.snapshot().await.unwrap();
        ListWear::default().is_worn(&*snapshot, KIND, P).await.unwrap()
    };
    let leave = async |runs: usize| {
        let mut batch = Batch::default();
        list_of(&store).await.count_left(&mut batch, runs);
        store.commit(batch).await.unwrap();
    };
    let few = WORN_RUNS as usize;
    leave(few - 1).await;
    assert!(!is_worn().await);
    leave(1).await;
    assert!(is_worn().await);
    let mut batch = Batch::default();
    for number in 0..=few as u64 {
        batch.set(keys::uncollected(KIND, P, ListGeneration::FIRST, RunNumber(number)), Vec::new());
    }
    store.commit(batch).await.unwrap();
    assert!(!is_worn().await, "moving its rows would take longer");
    let mut wear = ListWear::default();
    let mut is_worn_again = async || wear.is_worn(&*store.snapshot().await.unwrap(), KIND, P).await.unwrap();
    assert!(!is_worn_again().await);
    leave(1).await;
    assert!(!is_worn_again().await, "its rows are not counted again for each run");
    assert!(is_worn().await);
    leave(few / 4).await;
    assert!(is_worn_again().await);
    assert!(is_worn_again().await, "nothing has renewed it");
    let mut steps = 1;
    while !renew_step(&store).await {
        assert!(is_worn().await, "it was interrupted");
        steps += 1;
    }
    assert!(steps > few / 500, "{steps}");
    assert!(!is_worn().await);
    assert_eq!(read(&store).await.len(), few + 1);
}

/// Runs are found, listed, and removed without the row that says where they are, and renewing the list writes it again.
#[tokio::test]
async fn a_list_whose_generations_are_damaged_has_all_its_runs() {
    let store = TestStore::open().await;
    for renewals in 0..3 {
        for _ in 0..renewals {
            while !renew_step(&store).await {}
        }
        put(&store, 10 + renewals, b"").await;
        let mut batch = Batch::default();
        batch.set(keys::uncollected_generations(KIND, P), vec![0xff]);
        store.commit(batch).await.unwrap();
        put(&store, 20 + renewals, b"").await;
        let listed: Vec<u64> = read(&store).await.into_keys().collect();
        assert!([10, 20].iter().all(|first| listed.contains(&(first + renewals))), "{listed:?}");
        assert!(remove(&store, 20 + renewals).await);
        assert!(ListWear::default().is_worn(&*store.snapshot().await.unwrap(), KIND, P).await.unwrap());
        while !renew_step(&store).await {}
        let kept: Vec<u64> = read(&store).await.into_keys().collect();
        assert_eq!(kept, (10..=10 + renewals).collect::<Vec<_>>());
    }
}

#[tokio::test]
async fn a_renewed_list_still_says_that_index_rows_are_cleared() {
    let store = TestStore::open().await;
    put(&store, 1, b"").await;
    let may_have_rows = async || {
        let mut reader = UncollectedReader::new(KIND, P);
        let snapshot = store.snapshot().await.unwrap();
        while reader.next(&*snapshot, ONE).await.unwrap().is_some() {}
        assert_eq!(index_rows_are_cleared(&*snapshot, P).await.unwrap(), !reader.may_have_index_rows());
        reader.may_have_index_rows()
    };
    assert!(may_have_rows().await);
    store.run(async |transaction| index_rows_cleared_put(transaction, P).await).await.unwrap();
    assert!(!may_have_rows().await);
    while !renew_step(&store).await {}
    assert!(!may_have_rows().await);
    assert_eq!(read(&store).await.len(), 1);
}
