//! Tests of when progress is written, and what is trimmed because of it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

use bytes::Bytes;
use matyan_log::{Append, LogInspector, LogWriter, NewRecord};
use matyan_store::{Batch, Commit, Key, Mutation, Result, Snapshot, Store, Value};
use prometheus::Opts;

use super::*;
use crate::tests::harness::{RemoteStore, TestEnv};

/// Trims only when it is finished.
fn start(deps: Deps) -> ProgressHandle {
    let lag = GaugeVec::new(Opts::new("lag", "Lag"), &["partition"]).unwrap();
    ProgressHandle::start(deps, Duration::from_hours(1), lag)
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
        progress.insert(0, 0);
        progress.report(0, at(2, read));
        progress.finish().await;
        assert_eq!(info().await.partitions[0].first, first);
    }
}

/// A store that counts the writes of a row, and all commits.
struct CountingStore {
    inner: Arc<dyn Store>,
    key: Key,
    writes: AtomicU64,
    commits: AtomicU64,
}

impl CountingStore {
    fn new(inner: Arc<dyn Store>) -> Arc<Self> {
        let key = keys::applied(LogTopic::Ingestion, 0);
        Arc::new(Self { inner, key, writes: AtomicU64::new(0), commits: AtomicU64::new(0) })
    }
}

#[async_trait::async_trait]
impl Store for CountingStore {
    async fn snapshot(&self) -> Result<Box<dyn Snapshot>> {
        self.inner.snapshot().await
    }

    async fn commit(&self, batch: Batch) -> Result<Commit> {
        self.commits.fetch_add(1, Ordering::Relaxed);
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

    fn clears_ranges_at_once(&self) -> bool {
        self.inner.clears_ranges_at_once()
    }

    fn is_remote(&self) -> bool {
        self.inner.is_remote()
    }
}

#[tokio::test]
async fn rule_41_progress_is_written_with_pauses() {
    check_pauses(false, PAUSE).await;
    check_pauses(true, REMOTE_PAUSE).await;
}

async fn check_pauses(is_remote: bool, pause: Duration) {
    let env = TestEnv::new().await;
    let store = CountingStore::new(env.deps.store.clone());
    let mut deps = Deps { store: store.clone(), ..env.deps.clone() };
    if is_remote {
        deps.store = Arc::new(RemoteStore(deps.store));
    }
    let progress = start(deps);
    let started = Instant::now();
    progress.insert(0, 0);
    for next in 1..=300 {
        progress.report(0, at(next, [9; 16]));
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    progress.finish().await;
    let writes = store.writes.load(Ordering::Relaxed);
    // Neither the first write nor the last one waits.
    let most = 2 + started.elapsed().as_millis() / pause.as_millis();
    assert!(u128::from(writes) <= most, "{writes} writes, at most {most}");
    let stored = applied_get(&*store.snapshot().await.unwrap(), LogTopic::Ingestion, 0).await.unwrap();
    assert_eq!(stored, Some(at(300, [9; 16])));
}

/// Each commit has a cost, and a worker may have a hundred partitions.
#[tokio::test]
async fn progress_of_all_partitions_is_written_at_once() {
    let env = TestEnv::new().await;
    let store = CountingStore::new(env.deps.store.clone());
    let progress = start(Deps { store: store.clone(), ..env.deps.clone() });
    for partition in 0..100 {
        progress.insert(partition, 0);
        progress.report(partition, at(u64::from(partition) + 1, [9; 16]));
    }
    progress.finish().await;
    assert_eq!(store.commits.load(Ordering::Relaxed), 1);
    let snapshot = store.snapshot().await.unwrap();
    for partition in 0..100 {
        let stored = applied_get(&*snapshot, LogTopic::Ingestion, partition).await.unwrap();
        assert_eq!(stored, Some(at(u64::from(partition) + 1, [9; 16])));
    }
}

/// A log that never answers questions.
struct SilentLog;

#[async_trait::async_trait]
impl LogInspector for SilentLog {
    async fn describe(&self, _: Topic) -> matyan_log::Result<TopicInfo> {
        std::future::pending().await
    }
}

impl LogWriter for SilentLog {
    fn append(&self, _: Topic, _: Vec<NewRecord>) -> Append {
        Box::pin(std::future::pending())
    }
}

#[tokio::test]
async fn rule_43_the_position_of_a_lost_partition_is_written_while_the_log_does_not_answer() {
    let env = TestEnv::new().await;
    let store = env.deps.store.clone();
    let progress = start(Deps { log_writer: Arc::new(SilentLog), ..env.deps.clone() });
    // The first description of the log begins at once.
    tokio::task::yield_now().await;
    progress.insert(0, 0);
    progress.report(0, at(3, [9; 16]));
    progress.forget(0);
    let key = keys::applied(LogTopic::Ingestion, 0);
    store.changed(&key, None).await.unwrap();
    let stored = applied_get(&*store.snapshot().await.unwrap(), LogTopic::Ingestion, 0).await.unwrap();
    assert_eq!(stored, Some(at(3, [9; 16])));
}
