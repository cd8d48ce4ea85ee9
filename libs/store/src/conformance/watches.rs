//! `changed` returns when the value differs from the one the caller saw, and never misses a
//! change.

use std::time::Duration;

use tokio::task::JoinHandle;

use super::{Instance, batch, get, must_commit};
use crate::{Key, Range, Store, Value};
use std::sync::Arc;

/// A hang guard, not a performance limit: it ends a case that would wait forever.
const NEVER: Duration = Duration::from_secs(60);

fn watch(store: &Arc<dyn Store>, key: &'static str, seen: Option<Value>) -> JoinHandle<()> {
    let store = store.clone();
    tokio::spawn(async move {
        let key = Key::from(key);
        // `changed` may return spuriously, so callers reread the key and compare.
        while get(store.as_ref(), std::str::from_utf8(&key).unwrap()).await == seen {
            tokio::time::timeout(NEVER, store.changed(&key, seen.as_ref()))
                .await
                .expect("the wait ends")
                .unwrap();
        }
    })
}

pub(super) async fn changed_returns_on_a_write(instance: &mut dyn Instance) {
    let store = instance.store();
    let mut seen = None;
    for round in 0..20_u8 {
        let watches = [watch(&store, "w", seen.clone()), watch(&store, "w", seen.clone())];
        if round % 2 == 0 {
            tokio::task::yield_now().await;
        }
        let value = (round % 3 != 2).then(|| Value::from(vec![round]));
        let write = batch(|b| match &value {
            Some(value) => b.set("w", value.clone()),
            None => b.clear("w"),
        });
        must_commit(store.as_ref(), write).await;
        for watch in watches {
            watch.await.unwrap();
        }
        seen = value;
    }
}

pub(super) async fn changed_sees_ranges_and_stamps(instance: &mut dyn Instance) {
    let store = instance.store();
    must_commit(store.as_ref(), batch(|b| b.set("r/1", "1"))).await;
    let cleared = watch(&store, "r/1", Some("1".into()));
    let added = watch(&store, "r/n", None);
    tokio::task::yield_now().await;
    must_commit(store.as_ref(), batch(|b| b.clear_range(Range::prefix("r/")).add("r/n", 1))).await;
    cleared.await.unwrap();
    added.await.unwrap();
}

pub(super) async fn changed_returns_immediately_if_the_value_differs(instance: &mut dyn Instance) {
    let store = instance.store();
    must_commit(store.as_ref(), batch(|b| b.set("now", "2"))).await;
    for seen in [None, Some(Value::from("1"))] {
        tokio::time::timeout(NEVER, store.changed(&"now".into(), seen.as_ref()))
            .await
            .expect("the wait ends")
            .unwrap();
    }
}

/// Dropped waits have no lasting effect, and writes to other keys do not end a wait for good.
pub(super) async fn changed_waits_while_others_change(instance: &mut dyn Instance) {
    let store = instance.store();
    let waiting = watch(&store, "quiet", None);
    for round in 0..50_u8 {
        let key = Key::from("quiet");
        let dropped = store.changed(&key, None);
        assert!(futures::poll!(dropped).is_pending());
        must_commit(store.as_ref(), batch(|b| b.set(vec![b'n', round], "1"))).await;
    }
    assert!(!waiting.is_finished());
    must_commit(store.as_ref(), batch(|b| b.set("quiet", "1"))).await;
    waiting.await.unwrap();
}
