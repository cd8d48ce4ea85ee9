//! Tests of marks, dictionaries, and the sweep of producers.

use matyan_store::Store;
use proptest::prelude::*;

use super::*;
use crate::{
    position::Cursor,
    quarantine::{quarantine_begin, quarantine_end},
    testing::TestStore,
};

const P: Project = Project(0);
const PRODUCER: ProducerId = ProducerId([7; 16]);

fn sent(sequence: u64, acknowledged: u64) -> BatchOrigin {
    BatchOrigin { producer: PRODUCER, sequence, part: None, acknowledged, is_ephemeral: true }
}

#[test]
fn rule_05_only_a_record_that_continues_the_sequence_is_applied() {
    for (applied, sequence, acknowledged, expected) in [
        (0, 1, 0, true),
        (0, 2, 0, false),
        (5, 6, 5, true),
        (5, 6, 0, true),
        (5, 5, 4, false),
        (5, 1, 0, false),
        (5, 7, 5, false),
        // The mark was swept: the acknowledged sequence number replaces it.
        (0, 9, 8, true),
        (0, 10, 8, false),
        (0, 8, 8, false),
        // The log has lost acknowledged records, so unacknowledged ones are not waited
        // for either.
        (5, 9, 8, true),
        (5, 11, 8, true),
        (5, 8, 8, false),
        (u64::MAX, 0, 0, false),
    ] {
        let mark = Mark { sequence: applied, ..Mark::default() };
        let moved = mark.advanced_by(&sent(sequence, acknowledged), 7);
        let expected = expected.then_some(Mark { sequence, items: 0, seen_us: 7 });
        assert_eq!(moved, expected, "{applied} {sequence} {acknowledged}");
    }
}

fn part(first: u32, total: u32) -> BatchOrigin {
    BatchOrigin { part: Some(BatchPart { first, count: 1, total }), ..sent(1, 0) }
}

#[test]
fn rule_05_records_of_one_batch_continue_each_other() {
    let start = Mark::default();
    assert_eq!(start.advanced_by(&part(1, 3), 0), None);
    let first = start.advanced_by(&part(0, 3), 0).unwrap();
    assert_eq!(first, Mark { sequence: 0, items: 1, seen_us: 0 });
    assert_eq!(first.advanced_by(&part(0, 3), 0), None);
    assert_eq!(first.advanced_by(&sent(1, 0), 0), None);
    let last = first.advanced_by(&part(1, 3), 0).unwrap().advanced_by(&part(2, 3), 0).unwrap();
    assert_eq!(last, Mark { sequence: 1, items: 0, seen_us: 0 });
    // After the log has lost records, a batch still counts only from its first item on.
    let lost = Mark { sequence: 5, ..Mark::default() };
    let part_of_lost =
        |first| BatchOrigin { part: Some(BatchPart { first, count: 1, total: 3 }), ..sent(9, 7) };
    assert_eq!(lost.advanced_by(&part_of_lost(1), 0), None);
    assert_eq!(lost.advanced_by(&part_of_lost(0), 0), Some(Mark { sequence: 8, items: 1, seen_us: 0 }));
}

fn definition(name: String) -> Definition {
    Definition { name, context: "{}".into(), dtype: "float".into() }
}

fn definitions(names: &[&str]) -> Vec<Definition> {
    names.iter().map(|name| definition((*name).to_owned())).collect()
}

proptest! {
    #[test]
    fn pages_contain_every_definition_and_fit_a_row(lengths in proptest::collection::vec(0..40_000_usize, 0..20), first in 0..1000_u32) {
        let definitions: Vec<_> = lengths.iter().map(|length| definition("x".repeat(*length))).collect();
        let pages = dictionary_pages(first, &definitions);
        let mut next = first as usize;
        for (start, count) in pages {
            prop_assert_eq!(start as usize, next);
            let page = &definitions[next - first as usize..][..count];
            prop_assert!(rows::encode(&page).len() <= rows::PIECE_BYTES + 16 || count == 1);
            next += count;
        }
        prop_assert_eq!(next - first as usize, definitions.len());
    }
}

#[tokio::test]
async fn definitions_are_read_back_and_replaced_from_a_number_on() {
    let store = TestStore::open().await;
    let id = RunId::new("r");
    let mut batch = Batch::default();
    dictionary_put(&mut batch, P, &id, PRODUCER, 0, &definitions(&["a", "b"]));
    dictionary_put(&mut batch, P, &id, PRODUCER, 2, &definitions(&["c"]));
    dictionary_truncate(&mut batch, P, &id, PRODUCER, 1);
    dictionary_put(&mut batch, P, &id, PRODUCER, 1, &definitions(&["d", "e"]));
    store.commit(batch).await.unwrap();
    let read = dictionary_get(&*store.snapshot().await.unwrap(), P, &id, PRODUCER).await.unwrap();
    assert_eq!(read, definitions(&["a", "d", "e"]));
}

async fn sweep(store: &TestStore, now_us: i64) -> bool {
    store.run(async |transaction| producers_sweep(transaction, now_us).await).await.unwrap()
}

async fn seen(store: &TestStore, id: &RunId, sequence: u64, seen_us: i64) {
    let before = mark_get(&*store.snapshot().await.unwrap(), P, id, PRODUCER).await.unwrap();
    let mut batch = Batch::default();
    let mark = Mark { sequence, items: 0, seen_us };
    mark_put(&mut batch, P, id, &sent(sequence, 0), &mark, before.is_none());
    store.commit(batch).await.unwrap();
}

#[tokio::test]
async fn rule_05_marks_of_silent_producers_are_swept() {
    let store = TestStore::open().await;
    let id = RunId::new("r");
    let with_dictionary = RunId::new("d");
    let is_kept = async |id: &RunId| {
        mark_get(&*store.snapshot().await.unwrap(), P, id, PRODUCER).await.unwrap().is_some()
    };
    seen(&store, &id, 1, 0).await;
    seen(&store, &id, 2, MARK_KEPT_US).await;
    seen(&store, &with_dictionary, 1, 0).await;
    let mut batch = Batch::default();
    dictionary_put(&mut batch, P, &with_dictionary, PRODUCER, 0, &[definition("a".into())]);
    store.commit(batch).await.unwrap();

    while sweep(&store, MARK_KEPT_US + 1).await {}
    assert!(is_kept(&id).await, "the producer was seen a moment ago");
    while sweep(&store, 2 * MARK_KEPT_US + 1).await {}
    assert!(!is_kept(&id).await);
    assert!(is_kept(&with_dictionary).await);
    while sweep(&store, DICTIONARY_KEPT_US + 1).await {}
    assert!(!is_kept(&with_dictionary).await);
    let snapshot = store.snapshot().await.unwrap();
    assert_eq!(dictionary_get(&*snapshot, P, &with_dictionary, PRODUCER).await.unwrap(), []);
}

#[tokio::test]
async fn rule_41_dictionaries_of_silent_producers_with_their_own_ids_are_swept() {
    let store = TestStore::open().await;
    let id = RunId::new("r");
    let own = BatchOrigin { is_ephemeral: false, ..sent(1, 0) };
    let definitions = [definition("a".into())];
    let put = async |seen_us: i64| {
        let mut batch = Batch::default();
        mark_put(&mut batch, P, &id, &own, &Mark { sequence: 1, items: 0, seen_us }, true);
        dictionary_put(&mut batch, P, &id, PRODUCER, 0, &definitions);
        store.commit(batch).await.unwrap();
    };
    let rows = async || {
        let snapshot = store.snapshot().await.unwrap();
        let mark = mark_get(&*snapshot, P, &id, PRODUCER).await.unwrap();
        (mark.is_some(), dictionary_get(&*snapshot, P, &id, PRODUCER).await.unwrap().len())
    };
    put(0).await;
    while sweep(&store, DICTIONARY_KEPT_US).await {}
    assert_eq!(rows().await, (true, 1));
    while sweep(&store, DICTIONARY_KEPT_US + 1).await {}
    assert_eq!(rows().await, (true, 0), "its mark is kept: it may send old batches again");
    // A producer that returns is listed.
    put(2 * DICTIONARY_KEPT_US).await;
    while sweep(&store, 2 * DICTIONARY_KEPT_US).await {}
    assert_eq!(rows().await, (true, 1));
    while sweep(&store, 3 * DICTIONARY_KEPT_US + 1).await {}
    assert_eq!(rows().await, (true, 0));
}

#[tokio::test]
async fn rule_40_marks_of_a_run_in_quarantine_are_kept() {
    let store = TestStore::open().await;
    let id = RunId::new("r");
    let is_kept =
        async || mark_get(&*store.snapshot().await.unwrap(), P, &id, PRODUCER).await.unwrap().is_some();
    seen(&store, &id, 1, 0).await;
    store.run(async |transaction| quarantine_begin(transaction, P, &id, "damaged", 0).await).await.unwrap();
    while sweep(&store, 2 * MARK_KEPT_US).await {}
    assert!(is_kept().await);

    let mut batch = Batch::default();
    quarantine_end(&mut batch, P, &id, Cursor::default());
    store.commit(batch).await.unwrap();
    while sweep(&store, 4 * MARK_KEPT_US).await {}
    assert!(!is_kept().await);
}
