//! Tests of when progress is written, and what is trimmed because of it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

use bytes::Bytes;
use matyan_log::NewRecord;
use matyan_store::{Batch, Commit, Key, Mutation, Result, Snapshot, Store, Value};
use prometheus::Opts;

use super::*;
use crate::tests::harness::TestEnv;

/// Trims only when it is finished.
fn start(deps: Deps) -> ProgressHandle {
    let lag = GaugeVec::new(Opts::new("lag", "Lag"), &["partition"]).unwrap();
    Progress::start(deps, Duration::from_hours(1), lag)
}

fn at(next: u64, identity: [u8; 16]) -> AppliedPosition {
    AppliedPosition { next, identity: Some(identity), ..AppliedPosition::default() }
}

#[tokio::test]
async fn rule_42_only_the_log_of_a_position_is_trimmed() {
    let env = TestEnv::new().await;
    let deps = &env.deps;
    let record = NewRecord { key: Bytes::new(), value: Bytes::from_static(b"v"), headers: Vec::new() };
    deps.log_writer.append(Topic::Ingestion, vec![record; 3]).await.unwrap();
    let info = async || deps.log_writer.describe(Topic::Ingestion).await.unwrap();
    let identity = info().await.identity;
    for (read, first) in [([9; 16], 0), (identity, 2)] {
        let progress = start(deps.clone());
        progress.begin(0, 0);
        progress.report(0, at(2, read));
        progress.finish().await;
        assert_eq!(info().await.partitions[0].first, first);
    }
}

/// A store that counts the writes of a row.
struct CountingStore {
    inner: Arc<dyn Store>,
    key: Key,
    writes: AtomicU64,
}

#[async_trait::async_trait]
impl Store for CountingStore {
    async fn snapshot(&self) -> Result<Box<dyn Snapshot>> {
        self.inner.snapshot().await
    }

    async fn commit(&self, batch: Batch) -> Result<Commit> {
        let mut mutations = batch.mutations.iter();
        if mutations.any(|mutation| matches!(mutation, Mutation::Set { key, .. } if *key == self.key)) {
            self.writes.fetch_add(1, Ordering::Relaxed);
        }
        self.inner.commit(batch).await
    }

    async fn sync(&self) -> Result<()> {
        self.inner.sync().await
    }

    async fn changed(&self, key: &Key, seen: Option<&Value>) -> Result<()> {
        self.inner.changed(key, seen).await
    }
}

#[tokio::test]
async fn rule_41_progress_is_written_with_pauses() {
    let env = TestEnv::new().await;
    let (inner, key) = (env.deps.store.clone(), keys::applied(LogTopic::Ingestion, 0));
    let store = Arc::new(CountingStore { inner, key, writes: AtomicU64::new(0) });
    let progress = start(Deps { store: store.clone(), ..env.deps.clone() });
    let started = Instant::now();
    progress.begin(0, 0);
    for next in 1..=300 {
        progress.report(0, at(next, [9; 16]));
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    progress.finish().await;
    let writes = store.writes.load(Ordering::Relaxed);
    // The first one does not wait, nor does the last.
    let most = 2 + started.elapsed().as_millis() / PAUSE.as_millis();
    assert!(u128::from(writes) <= most, "{writes} writes, at most {most}");
    let stored = applied_get(&*store.snapshot().await.unwrap(), LogTopic::Ingestion, 0).await.unwrap();
    assert_eq!(stored, Some(at(300, [9; 16])));
}
