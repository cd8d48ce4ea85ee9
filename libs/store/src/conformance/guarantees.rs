//! The numbered guarantees of the trait, each under its name, and consequences of them.

use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;

use super::{Instance, batch, get, must_commit, rows};
use crate::layers::{Faults, FaultyStore};
use crate::{Batch, Commit, Durability, Error, Key, Limits, Range, Scan, Stamp, Store, Value};

/// 1: writers keep two keys equal; no reader ever sees them differ.
pub(super) async fn atomic(instance: &mut dyn Instance) {
    const ROUNDS: u64 = 200;
    let store = instance.store();
    let writer = {
        let store = store.clone();
        tokio::spawn(async move {
            for round in 0..ROUNDS {
                let value = round.to_be_bytes().to_vec();
                let mut batch = Batch::buffered();
                batch.set("left", value.clone()).set("right", value);
                must_commit(store.as_ref(), batch).await;
            }
        })
    };
    while !writer.is_finished() {
        let snapshot = store.snapshot().await.unwrap();
        let both = snapshot.get_many(&["left", "right"].map(Key::from)).await.unwrap();
        assert_eq!(both[0], both[1]);
        tokio::task::yield_now().await;
    }
    writer.await.unwrap();
    assert_eq!(get(store.as_ref(), "left").await.as_deref(), Some(&(ROUNDS - 1).to_be_bytes()[..]));
}

/// 2: of many batches that expect the same state, exactly one is applied, even if they are
/// concurrent.
pub(super) async fn serializable(instance: &mut dyn Instance) {
    let store = instance.store();
    for round in 0..10_u8 {
        let attempts = (0..16_u8).map(|writer| {
            let store = store.clone();
            async move {
                let before = round.checked_sub(1).map(|round| Value::from(vec![round]));
                let mut batch = Batch::default();
                batch.expect("turn", before).set("turn", vec![round]).set(vec![b'w', round], vec![writer]);
                (writer, store.commit(batch).await.unwrap())
            }
        });
        let outcomes = join_all(attempts).await;
        let winners: Vec<u8> = outcomes
            .iter()
            .filter_map(|(writer, outcome)| (*outcome != Commit::Conflict).then_some(*writer))
            .collect();
        assert_eq!(winners.len(), 1, "{outcomes:?}");
        let snapshot = store.snapshot().await.unwrap();
        let winner = snapshot.get(&Key::from(vec![b'w', round])).await.unwrap();
        assert_eq!(winner, Some(Value::from(winners)));
    }
}

fn number(number: i64) -> Value {
    Value::copy_from_slice(&number.to_le_bytes())
}

fn row(key: &'static str, value: &'static str) -> (Key, Value) {
    (Key::from(key), Value::from(value))
}

/// 3: mutations of a batch apply in order.
pub(super) async fn own_order(instance: &mut dyn Instance) {
    let store = instance.store();
    must_commit(store.as_ref(), batch(|b| b.set("o/a", "old").set("o/b", "old").set("o/n", "old"))).await;
    let all = Range::prefix("o/");
    must_commit(
        store.as_ref(),
        batch(|b| {
            b.set("o/b", "lost").clear_range(all.clone()).set("o/a", "new").set("o/c", "1").clear("o/c");
            b.set("o/n", number(40))
                .add("o/n", 1)
                .add("o/n", 1)
                .clear("o/d")
                .set("o/d", "last")
                .add("o/m", 1);
            b.set("o/e", "lost").clear_range(Range::prefix("o/e"))
        }),
    )
    .await;
    let expected = [("o/a", "new".into()), ("o/d", "last".into()), ("o/m", number(1)), ("o/n", number(42))];
    assert_eq!(rows(store.as_ref(), "o/").await, expected.map(|(key, value)| (Key::from(key), value)));
}

/// 4: every read of a snapshot sees the same version, and a new snapshot sees every commit
/// answered before it was taken.
pub(super) async fn snapshot(instance: &mut dyn Instance) {
    let store = instance.store();
    let first = must_commit(store.as_ref(), batch(|b| b.set("s/a", "1").set("s/b", "1"))).await;
    let before = store.snapshot().await.unwrap();
    let second = must_commit(store.as_ref(), batch(|b| b.set("s/a", "2").clear("s/b").set("s/c", "2"))).await;
    let after = store.snapshot().await.unwrap();
    assert!(first <= before.version() && before.version() < second && second <= after.version());

    let all = Range::prefix("s/");
    let page = before.scan(&all, Scan::default()).await.unwrap();
    assert_eq!(page.rows, [row("s/a", "1"), row("s/b", "1")]);
    assert_eq!(before.get(&"s/c".into()).await.unwrap(), None);
    assert_eq!(before.get(&"s/b".into()).await.unwrap(), Some("1".into()));
    let page = after.scan(&all, Scan::default()).await.unwrap();
    assert_eq!(page.rows, [row("s/a", "2"), row("s/c", "2")]);
    for durability in [Durability::Buffered, Durability::Synced].repeat(20) {
        let version = must_commit(store.as_ref(), Batch { durability, ..batch(|b| b.add("s/n", 1)) }).await;
        assert!(store.snapshot().await.unwrap().version() >= version);
    }
    let count = get(store.as_ref(), "s/n").await;
    assert_eq!(count.as_deref(), Some(&40_i64.to_le_bytes()[..]));
}

/// 5: answered commits survive reopening if they were synced, individually or by `sync`.
pub(super) async fn durable(instance: &mut dyn Instance) {
    let store = instance.store();
    must_commit(store.as_ref(), batch(|b| b.set("d/synced", "1"))).await;
    let mut buffered = Batch::buffered();
    buffered.set("d/buffered", "2");
    must_commit(store.as_ref(), buffered).await;
    store.sync().await.unwrap();
    drop(store);
    instance.reopen().await;
    let store = instance.store();
    assert_eq!(get(store.as_ref(), "d/synced").await, Some("1".into()));
    assert_eq!(get(store.as_ref(), "d/buffered").await, Some("2".into()));
}

/// 7: a snapshot ends after five seconds, for every kind of read.
pub(super) async fn ends(instance: &mut dyn Instance) {
    let store = instance.store();
    must_commit(store.as_ref(), batch(|b| b.set("e", "1"))).await;
    let snapshot = store.snapshot().await.unwrap();
    assert_eq!(snapshot.get(&"e".into()).await.unwrap(), Some("1".into()));
    instance.advance_time(Limits::SNAPSHOT_AGE + Duration::from_millis(500)).await;
    fn assert_too_old(error: Error) {
        assert!(matches!(error, Error::SnapshotTooOld), "{error}");
    }
    assert_too_old(snapshot.get(&"e".into()).await.unwrap_err());
    assert_too_old(snapshot.get_many(&["e".into()]).await.unwrap_err());
    assert_too_old(snapshot.scan(&Range::prefix("e"), Scan::default()).await.unwrap_err());
    assert_eq!(get(store.as_ref(), "e").await, Some("1".into()));
}

/// 8: clearing an absent key succeeds.
pub(super) async fn absent(instance: &mut dyn Instance) {
    let store = instance.store();
    let upside_down = Range::new("z", "a");
    must_commit(
        store.as_ref(),
        batch(|b| b.clear("n").clear_range(Range::prefix("n/")).clear_range(upside_down)),
    )
    .await;
    assert_eq!(get(store.as_ref(), "n").await, None);
    assert_eq!(rows(store.as_ref(), "").await, []);
}

/// 9: an error means that the batch was not applied, and any other answer is true as well.
pub(super) async fn settled(instance: &mut dyn Instance) {
    let faulty = Arc::new(FaultyStore::new(instance.store(), Faults::errors(7, 0.3)));
    let commits = (0..200_u16).map(|writer| {
        let faulty = faulty.clone();
        async move {
            let key = Key::copy_from_slice(format!("settled/{writer:03}").as_bytes());
            (key.clone(), faulty.commit(batch(|b| b.set(key, "1").add("settled", 1))).await)
        }
    });
    let outcomes = join_all(commits).await;
    let applied: Vec<Key> =
        outcomes.iter().filter(|(_, outcome)| outcome.is_ok()).map(|(key, _)| key.clone()).collect();
    assert!(applied.len() > 50 && applied.len() < 200, "expected successes and failures: {}", applied.len());
    let store = instance.store();
    let stored: Vec<Key> = rows(store.as_ref(), "settled/").await.into_iter().map(|(key, _)| key).collect();
    assert_eq!(stored, applied);
    let count = i64::try_from(applied.len()).unwrap().to_le_bytes();
    assert_eq!(get(store.as_ref(), "settled").await.as_deref(), Some(&count[..]));
}

pub(super) async fn stamps_order_like_commits(instance: &mut dyn Instance) {
    let store = instance.store();
    let mut stamps = Vec::new();
    for commit in 0..50_u8 {
        let mut batch = if commit % 3 == 0 { Batch::default() } else { Batch::buffered() };
        batch.set_stamped("stamp/", "/a", vec![commit]).set_stamped("stamp/", "/b", vec![commit]);
        let Commit::Done { version, stamp } = store.commit(batch).await.unwrap() else { panic!("no checks") };
        assert_eq!(stamp.version(), version);
        stamps.push(stamp);
    }
    assert!(stamps.is_sorted_by(|left, right| left < right));
    let expected = stamps.iter().zip(0..).flat_map(|(stamp, commit)| {
        ["/a", "/b"].map(|suffix| {
            let key = [b"stamp/", &stamp.0[..], suffix.as_bytes()].concat();
            (Key::from(key), Value::from(vec![commit]))
        })
    });
    let stored = rows(store.as_ref(), "stamp/").await;
    assert_eq!(stored, expected.collect::<Vec<_>>());
    assert_eq!(Stamp::in_key(&stored[2].0, 6), Some(stamps[1]));
}

pub(super) async fn versions_increase_over_reopening(instance: &mut dyn Instance) {
    let mut last = must_commit(instance.store().as_ref(), batch(|b| b.set("v", "1"))).await;
    for _ in 0..3 {
        instance.reopen().await;
        let store = instance.store();
        assert!(store.snapshot().await.unwrap().version() >= last);
        let version = must_commit(store.as_ref(), batch(|b| b.set("v", "1"))).await;
        assert!(version > last);
        last = version;
    }
}

pub(super) async fn numbers_wrap_and_widen(instance: &mut dyn Instance) {
    let store = instance.store();
    must_commit(
        store.as_ref(),
        batch(|b| b.set("short", vec![255]).set("long", vec![1; 12]).set("empty", "")),
    )
    .await;
    must_commit(
        store.as_ref(),
        batch(|b| b.add("short", 1).add("long", 1).add("empty", -1).add("max", i64::MAX)),
    )
    .await;
    must_commit(store.as_ref(), batch(|b| b.add("max", 1))).await;
    fn decoded(value: Option<Value>) -> i64 {
        i64::from_le_bytes(value.unwrap().as_ref().try_into().unwrap())
    }
    assert_eq!(decoded(get(store.as_ref(), "short").await), 256);
    assert_eq!(decoded(get(store.as_ref(), "long").await), 0x0101_0101_0101_0102);
    assert_eq!(decoded(get(store.as_ref(), "empty").await), -1);
    assert_eq!(decoded(get(store.as_ref(), "max").await), i64::MIN);
}

/// Clearing 30,000 keys is an ordinary commit: no reader sees part of it, and keys that the
/// batch sets remain.
pub(super) async fn clear_range_is_atomic_when_large(instance: &mut dyn Instance) {
    const KEYS: usize = 30_000;
    let store = instance.store();
    for first in (0..KEYS).step_by(5_000) {
        let mut batch = Batch::buffered();
        for key in first..first + 5_000 {
            batch.set(format!("many/{key:06}"), "x");
        }
        must_commit(store.as_ref(), batch).await;
    }
    let clearing = {
        let store = store.clone();
        let batch = batch(|b| {
            b.set("many/000007", "lost")
                .clear_range(Range::prefix("many/"))
                .set("many/015000", "kept")
                .set("other", "1")
        });
        tokio::spawn(async move { must_commit(store.as_ref(), batch).await })
    };
    let mut finished = false;
    while !finished {
        finished = clearing.is_finished();
        let seen = rows(store.as_ref(), "many/").await;
        assert!(seen.len() == KEYS || seen == [row("many/015000", "kept")], "{} rows", seen.len());
    }
    clearing.await.unwrap();
    assert_eq!(rows(store.as_ref(), "").await, [row("many/015000", "kept"), row("other", "1")]);
    drop(store);
    instance.reopen().await;
    assert_eq!(rows(instance.store().as_ref(), "").await, [row("many/015000", "kept"), row("other", "1")]);
}
