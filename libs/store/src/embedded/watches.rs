//! Watches on keys: the committer notifies waiters of its writes, so there is no polling.
//!
//! All waiters of a key share one entry, which is removed with the last of them.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::watch;

use crate::{Key, Range};

#[derive(Default)]
pub(super) struct Watches(Mutex<BTreeMap<Key, watch::Sender<()>>>);

/// A wait for one key. It sees every write that is announced after its creation.
pub(super) struct Watch {
    key: Key,
    notified: watch::Receiver<()>,
    watches: Arc<Watches>,
}

impl Watches {
    pub(super) fn watch(self: &Arc<Self>, key: &Key) -> Watch {
        let notified = self.0.lock().entry(key.clone()).or_insert_with(|| watch::Sender::new(())).subscribe();
        Watch { key: key.clone(), notified, watches: self.clone() }
    }

    pub(super) fn notify<'a>(&self, keys: impl Iterator<Item = &'a Key>, ranges: &[Range]) {
        let watches = self.0.lock();
        if watches.is_empty() {
            return;
        }
        for watch in keys.filter_map(|key| watches.get(key)) {
            watch.send_replace(());
        }
        for range in ranges.iter().filter(|range| range.start < range.end) {
            for (_, watch) in watches.range(range.start.clone()..range.end.clone()) {
                watch.send_replace(());
            }
        }
    }

    pub(super) fn notify_all(&self) {
        for watch in self.0.lock().values() {
            watch.send_replace(());
        }
    }
}

impl Watch {
    pub(super) async fn wait(&mut self) {
        self.notified.changed().await.expect("the sender outlives its receivers");
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let mut watches = self.watches.0.lock();
        // This watch's own receiver still counts.
        if watches.get(&self.key).is_some_and(|watch| watch.receiver_count() == 1) {
            watches.remove(&self.key);
        }
    }
}
