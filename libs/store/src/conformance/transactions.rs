//! Checks, and transactions built from them.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use futures::future::join_all;

use super::{Instance, WriteFn, batch, get, must_commit, must_conflict};
use crate::{Batch, Commit, Error, Key, Limits, Range, Scan, Transaction, Value, transact};

pub(super) async fn checks_compare_values(instance: &mut dyn Instance) {
    let store = instance.store();
    must_commit(store.as_ref(), batch(|b| b.expect("c", None).set("c", "1").set("empty", ""))).await;
    for wrong in [None, Some(""), Some("0"), Some("11")] {
        must_conflict(store.as_ref(), batch(|b| b.expect("c", wrong.map(Value::from)).set("c", "lost")))
            .await;
    }
    must_conflict(store.as_ref(), batch(|b| b.expect("empty", None).set("c", "lost"))).await;
    must_conflict(store.as_ref(), batch(|b| b.expect("c", Some("1".into())).expect("d", Some("1".into()))))
        .await;
    must_commit(
        store.as_ref(),
        batch(|b| b.expect("empty", Some("".into())).expect("c", Some("1".into())).clear("c")),
    )
    .await;
    must_commit(store.as_ref(), batch(|b| b.expect("c", None).set("c", "2"))).await;
    assert_eq!(get(store.as_ref(), "c").await, Some("2".into()));
}

/// A value that changed and changed back passes a value check, but not a version check.
pub(super) async fn unchanged_sees_what_values_cannot(instance: &mut dyn Instance) {
    let store = instance.store();
    let since = must_commit(store.as_ref(), batch(|b| b.set("aba", "a"))).await;
    must_commit(store.as_ref(), batch(|b| b.set("aba", "b"))).await;
    let last = must_commit(store.as_ref(), batch(|b| b.set("aba", "a"))).await;
    let range = Range::prefix("aba");
    must_conflict(store.as_ref(), batch(|b| b.expect_unchanged(range.clone(), since).set("x", "1"))).await;
    must_commit(store.as_ref(), batch(|b| b.expect("aba", Some("a".into())).set("x", "1"))).await;
    must_commit(store.as_ref(), batch(|b| b.expect_unchanged(range, last).set("x", "2"))).await;
}

pub(super) async fn unchanged_covers_every_mutation(instance: &mut dyn Instance) {
    let store = instance.store();
    let writes: [(&str, WriteFn); 5] = [
        ("set", |b| b.set("in/2", "2")),
        ("clear", |b| b.clear("in/1")),
        ("clear range", |b| b.clear_range(Range::new("i", "in/15"))),
        ("add", |b| b.add("in/n", 1)),
        ("stamped", |b| b.set_stamped("in/", "", "stamped")),
    ];
    for (what, write) in writes {
        let since = must_commit(store.as_ref(), batch(|b| b.set("in/1", "1"))).await;
        let check =
            |range: &'static str| batch(|b| b.expect_unchanged(Range::prefix(range), since).set("out", "1"));
        must_commit(store.as_ref(), batch(|b| b.set("in.", "outside").set("in0", "outside"))).await;
        must_commit(store.as_ref(), check("in/")).await;
        must_commit(store.as_ref(), batch(write)).await;
        let outcome = store.commit(check("in/")).await.unwrap();
        assert_eq!(outcome, Commit::Conflict, "{what}");
        must_commit(store.as_ref(), check("in/9")).await;
    }
}

pub(super) async fn unchanged_fails_when_too_old(instance: &mut dyn Instance) {
    let store = instance.store();
    let since = must_commit(store.as_ref(), batch(|b| b.set("old/1", "1"))).await;
    must_commit(store.as_ref(), batch(|b| b.set("old/1", "2"))).await;
    instance.advance_time(Limits::SNAPSHOT_AGE + Duration::from_millis(500)).await;
    let late = must_commit(store.as_ref(), batch(|b| b.set("elsewhere", "1"))).await;
    let range = Range::prefix("old/");
    must_conflict(store.as_ref(), batch(|b| b.expect_unchanged(range.clone(), since).set("x", "1"))).await;
    must_commit(store.as_ref(), batch(|b| b.expect_unchanged(range, late).set("x", "1"))).await;
}

/// Tasks that each read, increment, and write back lose no increment.
pub(super) async fn increments_are_not_lost(instance: &mut dyn Instance) {
    const TASKS: u64 = 16;
    const TURNS: u64 = 25;
    let store = instance.store();
    let key = Key::from("counter");
    let tasks = (0..TASKS).map(|_| {
        let store = store.clone();
        let key = key.clone();
        tokio::spawn(async move {
            for turn in 0..TURNS {
                let (_, stamp) = transact(store.as_ref(), async |mut transaction: Transaction| {
                    let count = transaction.get(&key).await?.map_or(0, |value| number(&value));
                    if turn % 2 == 0 {
                        transaction.set_buffered();
                    }
                    transaction.batch().set(key.clone(), (count + 1).to_string());
                    Ok::<_, Error>((transaction, ()))
                })
                .await
                .unwrap();
                assert!(stamp.is_some());
            }
        })
    });
    for task in join_all(tasks).await {
        task.unwrap();
    }
    let count = get(store.as_ref(), "counter").await.map(|value| number(&value));
    assert_eq!(count, Some(TASKS * TURNS));
}

fn number(value: &Value) -> u64 {
    std::str::from_utf8(value).unwrap().parse().unwrap()
}

/// Two doctors are on call, and each may leave if the other stays: they never both leave.
pub(super) async fn write_skew_is_refused(instance: &mut dyn Instance) {
    let store = instance.store();
    for round in 0..20 {
        let names = [format!("call/{round}/a"), format!("call/{round}/b")].map(Key::from);
        must_commit(store.as_ref(), batch(|b| names.iter().fold(b, |b, name| b.set(name.clone(), "on"))))
            .await;
        let leave = |own: usize| {
            let store = store.clone();
            let names = names.clone();
            async move {
                transact(store.as_ref(), async |mut transaction: Transaction| {
                    if transaction.get(&names[1 - own]).await?.is_some() {
                        transaction.batch().clear(names[own].clone());
                    }
                    Ok::<_, Error>((transaction, ()))
                })
                .await
                .unwrap()
            }
        };
        tokio::join!(leave(0), leave(1));
        assert_eq!(super::rows(store.as_ref(), &format!("call/{round}/")).await.len(), 1);
    }
}

/// Each task adds a row if the range, read in pages, has fewer than ten rows: it never gets
/// more than ten.
pub(super) async fn phantoms_are_refused(instance: &mut dyn Instance) {
    let store = instance.store();
    let tasks = (0..30).map(|task| {
        let store = store.clone();
        async move {
            let (added, _) = transact(store.as_ref(), async |mut transaction: Transaction| {
                let mut rest = Range::prefix("seats/");
                let mut seats = 0;
                loop {
                    let page = transaction.scan(&rest, Scan { rows: 4, ..Scan::default() }).await?;
                    seats += page.rows.len();
                    match page.rows.last() {
                        Some((last, _)) if page.more => rest = rest.after(last),
                        _ => break,
                    }
                }
                if seats < 10 {
                    transaction.batch().set(format!("seats/{task:02}"), "taken");
                }
                Ok::<_, Error>((transaction, seats < 10))
            })
            .await
            .unwrap();
            added
        }
    });
    let added = join_all(tasks).await.into_iter().filter(|added| *added).count();
    assert_eq!(added, 10);
    assert_eq!(super::rows(store.as_ref(), "seats/").await.len(), 10);
}

/// A transaction that always loses gives up, a transaction whose decision fails ends immediately,
/// and a transaction without writes commits nothing.
pub(super) async fn retries_end(instance: &mut dyn Instance) {
    let store = instance.store();
    let attempts = AtomicU32::new(0);
    let lost = transact(store.as_ref(), async |mut transaction: Transaction| {
        attempts.fetch_add(1, Ordering::Relaxed);
        transaction.get(&"contended".into()).await?;
        let mut other = Batch::buffered();
        other.set("contended", attempts.load(Ordering::Relaxed).to_string());
        must_commit(store.as_ref(), other).await;
        transaction.batch().set("contended", "never");
        Ok::<_, Error>((transaction, ()))
    })
    .await;
    let attempts = attempts.into_inner();
    assert!(
        matches!(lost, Err(Error::Contended { attempts: tried }) if tried == attempts),
        "{attempts} attempts: {lost:?}"
    );

    let failed = transact(store.as_ref(), async |mut transaction: Transaction| {
        transaction.batch().set("failed", "1");
        Err::<(Transaction, ()), _>(Error::unavailable("the decision fails"))
    })
    .await;
    assert!(matches!(failed, Err(Error::Unavailable { .. })));
    assert_eq!(get(store.as_ref(), "failed").await, None);

    let read = transact(store.as_ref(), async |transaction: Transaction| {
        let value = transaction.get(&"contended".into()).await?;
        Ok::<_, Error>((transaction, value))
    })
    .await
    .unwrap();
    assert!(matches!(read, (Some(_), None)));
}
