//! Scans: the pages of a range add up to the range, in both directions and for every limit.

use super::{Instance, batch, must_commit};
use crate::{Batch, Key, Page, Range, Scan, Store, Value};

const ROWS: usize = 1_000;

async fn fill(store: &dyn Store) -> Vec<(Key, Value)> {
    let rows: Vec<(Key, Value)> = (0..ROWS)
        .map(|row| {
            (
                Key::from(format!("row/{row:04}")),
                Value::from(vec![u8::try_from(row % 251).unwrap(); row % 300]),
            )
        })
        .collect();
    must_commit(store, batch(|b| rows.iter().fold(b, |b, (key, value)| b.set(key.clone(), value.clone()))))
        .await;
    must_commit(store, batch(|b| b.set("row.", "before").set("row0", "after"))).await;
    rows
}

/// All pages of a range, read by continuing from the last key. Each page is read on a new snapshot,
/// because hundreds of pages together outlast one snapshot on a busy machine.
async fn pages(store: &dyn Store, range: &Range, scan: Scan) -> Vec<Page> {
    let mut rest = range.clone();
    let mut pages = Vec::new();
    loop {
        let page = store.snapshot().await.unwrap().scan(&rest, scan).await.unwrap();
        let Some((last, _)) = page.rows.last() else { break };
        rest = if scan.reverse { rest.before(last) } else { rest.after(last) };
        let more = page.more;
        pages.push(page);
        if !more {
            break;
        }
    }
    pages
}

async fn check_pages(instance: &mut dyn Instance, reverse: bool) {
    let store = instance.store();
    let mut expected = fill(store.as_ref()).await;
    if reverse {
        expected.reverse();
    }
    for (rows, bytes) in
        [(usize::MAX, usize::MAX), (usize::MAX, 1 << 20), (7, 1 << 20), (64, 1 << 20), (999, 1 << 20)]
            .into_iter()
            .chain([
                (1_000, usize::MAX),
                (1_001, usize::MAX),
                (usize::MAX, 500),
                (usize::MAX, 40_000),
                (3, 300),
            ])
    {
        let pages =
            pages(store.as_ref(), &Range::prefix("row/"), Scan { rows, bytes, reverse, ..Scan::DEFAULT })
                .await;
        assert!(pages.iter().all(|page| page.rows.len() <= rows), "rows {rows}, bytes {bytes}");
        for page in &pages {
            let (_, without_last) = page.rows.split_last().unwrap();
            let sum = without_last.iter().map(|(key, value)| key.len() + value.len()).sum::<usize>();
            assert!(sum < bytes, "rows {rows}, bytes {bytes}");
        }
        let all: Vec<(Key, Value)> = pages.into_iter().flat_map(|page| page.rows).collect();
        assert_eq!(all, expected, "rows {rows}, bytes {bytes}");
        let keys_only = Scan { rows, bytes, reverse, keys_only: true };
        let pages = self::pages(store.as_ref(), &Range::prefix("row/"), keys_only).await;
        assert!(pages.iter().all(|page| page.rows.len() <= rows), "rows {rows}, bytes {bytes}");
        let all: Vec<(Key, Value)> = pages.into_iter().flat_map(|page| page.rows).collect();
        let keys = expected.iter().map(|(key, _)| (key.clone(), Value::new()));
        assert_eq!(all, keys.collect::<Vec<_>>(), "rows {rows}, bytes {bytes}");
    }
}

pub(super) async fn pages_forward(instance: &mut dyn Instance) {
    check_pages(instance, false).await;
}

pub(super) async fn pages_backward(instance: &mut dyn Instance) {
    check_pages(instance, true).await;
}

pub(super) async fn pages_hold_a_row(instance: &mut dyn Instance) {
    let store = instance.store();
    let expected = fill(store.as_ref()).await;
    let snapshot = store.snapshot().await.unwrap();
    for (rows, bytes) in [(1, 0), (0, 0), (1, usize::MAX), (0, usize::MAX)] {
        let page =
            snapshot.scan(&Range::prefix("row/09"), Scan { rows, bytes, ..Scan::DEFAULT }).await.unwrap();
        assert_eq!((page.rows, page.more), (vec![expected[900].clone()], true));
    }
}

pub(super) async fn ranges_end_before_their_end(instance: &mut dyn Instance) {
    let store = instance.store();
    let expected = fill(store.as_ref()).await;
    let snapshot = store.snapshot().await.unwrap();
    let cases = [
        (Range::new("row/0010", "row/0013"), &expected[10..13]),
        (Range::new("row/0010", "row/0010"), &[]),
        (Range::new("row/0013", "row/0010"), &[]),
        (Range::new("row/0009x", "row/0010\0"), &expected[10..11]),
        (Range::prefix("row/099"), &expected[990..]),
        (Range::prefix("nothing"), &[]),
    ];
    for (range, rows) in cases {
        for reverse in [false, true] {
            let mut page = snapshot.scan(&range, Scan { reverse, ..Scan::default() }).await.unwrap();
            if reverse {
                page.rows.reverse();
            }
            assert_eq!(page, Page { rows: rows.to_vec(), more: false }, "{range:?}");
        }
    }
    let whole =
        snapshot.scan(&Range::prefix(""), Scan { bytes: usize::MAX, ..Scan::default() }).await.unwrap();
    assert_eq!(whole.rows.len(), ROWS + 2);
}

pub(super) async fn large_values_come_whole(instance: &mut dyn Instance) {
    let store = instance.store();
    let sizes = [0, 1, 4_095, 4_096, 4_097, 65_536, 100_000];
    fn value(size: usize) -> Value {
        Value::from((0..size).map(|byte| (byte % 253) as u8).collect::<Vec<_>>())
    }
    must_commit(
        store.as_ref(),
        batch(|b| sizes.iter().fold(b, |b, size| b.set(format!("l/{size:06}"), value(*size)))),
    )
    .await;
    let expected = sizes.map(|size| (Key::from(format!("l/{size:06}")), value(size)));
    assert_eq!(super::rows(store.as_ref(), "l/").await, expected);
    let snapshot = store.snapshot().await.unwrap();
    for (key, value) in expected {
        assert_eq!(snapshot.get(&key).await.unwrap(), Some(value));
    }
}

/// Many keys are read at once, in their order, whether they are next to each other or not.
pub(super) async fn keys_are_read_near_and_far_apart(instance: &mut dyn Instance) {
    const MANY: u32 = 4_000;
    let store = instance.store();
    fn key(number: u32) -> Key {
        Key::from(format!("many/{number:05}"))
    }
    fn value(number: u32) -> Value {
        Value::from(vec![number as u8; 100 + number as usize % 7])
    }
    // Every third row is missing.
    fn stored(number: u32) -> Option<Value> {
        (number < MANY && number % 3 != 2).then(|| value(number))
    }
    for numbers in (0..MANY).collect::<Vec<_>>().chunks(1_000) {
        let mut rows = Batch::default();
        for number in numbers {
            stored(*number).map(|value| rows.set(key(*number), value));
        }
        must_commit(store.as_ref(), rows).await;
    }
    let snapshot = store.snapshot().await.unwrap();
    let near: Vec<u32> = (500..2_500).collect();
    let scattered: Vec<u32> = (0..MANY + 500).step_by(37).collect();
    let in_groups: Vec<u32> = (0..300).chain(3_700..MANY + 10).collect();
    let repeated: Vec<u32> = (0..200).rev().chain(100..300).collect();
    let beyond: Vec<u32> = (MANY..MANY + 200).collect();
    for numbers in [near, scattered, in_groups, repeated, beyond] {
        let keys: Vec<Key> = numbers.iter().copied().map(key).collect();
        let expected: Vec<Option<Value>> = numbers.into_iter().map(stored).collect();
        assert_eq!(snapshot.get_many(&keys).await.unwrap(), expected);
    }
}
