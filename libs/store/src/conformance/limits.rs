//! Guarantee 6, *limits*: anything over a limit is refused entirely, before anything is
//! applied; anything exactly at a limit is accepted.

use super::{Instance, WriteFn, batch, get, must_commit};
use crate::{Batch, Error, Key, Limits, Range, Scan, Stamp, Value, Version};

fn key(bytes: usize) -> Key {
    vec![b'k'; bytes].into()
}

fn value(bytes: usize) -> Value {
    vec![b'v'; bytes].into()
}

const LONG: usize = Limits::KEY_BYTES + 1;
const LARGE: usize = Limits::VALUE_BYTES + 1;

fn long_range() -> Range {
    Range::new("a", key(LONG + 1))
}

/// Just over the limit of a batch, although none of its values is too large.
fn fill(batch: &mut Batch) -> &mut Batch {
    (0..101_u8).fold(batch, |batch, n| batch.set(vec![1, n], value(99_999)))
}

pub(super) async fn limits(instance: &mut dyn Instance) {
    let store = instance.store();
    let refused: [(&str, WriteFn); 14] = [
        ("set key", |b| b.set(key(LONG), "")),
        ("set value", |b| b.set("k", value(LARGE))),
        ("clear", |b| b.clear(key(LONG))),
        ("clear range", |b| b.clear_range(long_range())),
        ("add", |b| b.add(key(LONG), 1)),
        ("stamped key", |b| b.set_stamped(key(LONG - Stamp::BYTES - 1), "s", "")),
        ("stamped value", |b| b.set_stamped("p", "s", value(LARGE))),
        ("check key", |b| b.expect(key(LONG), None)),
        ("check value", |b| b.expect("k", Some(value(LARGE)))),
        ("check range", |b| b.expect_unchanged(long_range(), Version(0))),
        ("empty key", |b| b.set("", "")),
        ("empty stamped prefix", |b| b.set_stamped("", "s", "")),
        ("key of another realm", |b| b.set(vec![0xff, 1], "")),
        ("batch", fill),
    ];
    for (what, write) in refused {
        let batch = batch(|b| write(b.set("witness", "1")));
        let error = store.commit(batch).await.expect_err(what);
        assert!(matches!(error, Error::TooLarge { .. } | Error::BadKey { .. }), "{what}: {error}");
    }
    assert_eq!(get(store.as_ref(), "witness").await, None);
}

pub(super) async fn limits_reached_are_accepted(instance: &mut dyn Instance) {
    let store = instance.store();
    let longest = key(Limits::KEY_BYTES);
    must_commit(store.as_ref(), batch(|b| b.set(longest.clone(), value(Limits::VALUE_BYTES)))).await;
    let snapshot = store.snapshot().await.unwrap();
    assert_eq!(snapshot.get(&longest).await.unwrap().map(|value| value.len()), Some(Limits::VALUE_BYTES));
    let whole = Range::prefix(longest.clone());
    let page = snapshot.scan(&Range::new("", whole.after(&longest).start), Scan::default()).await.unwrap();
    assert_eq!(page.rows.len(), 1);
    drop(snapshot);

    let one = Batch::bytes(&batch(|b| b.set(vec![1, 0], "")));
    let full =
        batch(|b| (0..100_u8).fold(b, |b, n| b.set(vec![1, n], value(Limits::BATCH_BYTES / 100 - one))));
    assert_eq!(full.bytes(), Limits::BATCH_BYTES);
    must_commit(store.as_ref(), full).await;
    let clear = batch(|b| b.clear_range(Range::new("", whole.after(&longest).start)));
    must_commit(store.as_ref(), clear).await;
    assert_eq!(super::rows(store.as_ref(), "").await, []);
}

/// The batch limit also covers many small mutations or checks, where FoundationDB's overhead
/// dominates.
pub(super) async fn limits_hold_for_small_mutations(instance: &mut dyn Instance) {
    let store = instance.store();
    let kinds: [fn(&mut Batch, Key, Version) -> &mut Batch; 7] = [
        |b, key, _| b.set(key, ""),
        |b, key, _| b.clear(key),
        |b, key, _| b.add(key, 1),
        |b, key, _| b.set_stamped(key, "s", ""),
        |b, key, _| b.clear_range(one_key(key)),
        |b, key, _| b.expect([&b"absent"[..], &key].concat(), None),
        |b, key, since| b.expect_unchanged(one_key(key), since),
    ];
    for write in kinds {
        let since = store.snapshot().await.unwrap().version();
        let mut full = Batch::default();
        full.set("m", "");
        let before = full.bytes();
        let one = write(&mut full, Key::from(vec![b'm'; 5]), since).bytes() - before;
        for number in 1..u32::try_from((Limits::BATCH_BYTES - before) / one).unwrap() {
            write(&mut full, [&b"m"[..], &number.to_be_bytes()].concat().into(), since);
        }
        assert!(full.bytes() <= Limits::BATCH_BYTES && full.bytes() + one > Limits::BATCH_BYTES);
        must_commit(store.as_ref(), full).await;
    }
}

fn one_key(key: Key) -> Range {
    let end = Range::prefix("").after(&key).start;
    Range::new(key, end)
}

pub(super) async fn limits_of_reads(instance: &mut dyn Instance) {
    let snapshot = instance.store().snapshot().await.unwrap();
    fn assert_refused(error: Error) {
        assert!(matches!(error, Error::TooLarge { .. } | Error::BadKey { .. }), "{error}");
    }
    assert_refused(snapshot.get(&key(Limits::KEY_BYTES + 1)).await.unwrap_err());
    assert_refused(snapshot.get(&Key::new()).await.unwrap_err());
    assert_refused(snapshot.get_many(&["a".into(), Key::new()]).await.unwrap_err());
    let range = Range::new("a", key(Limits::KEY_BYTES + 2));
    assert_refused(snapshot.scan(&range, Scan::default()).await.unwrap_err());
}
