//! Reports the outcomes of store calls to a recorder.
//!
//! The recorder chooses the metric names, so this crate depends on no metrics library.

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;

use crate::{Batch, Commit, Key, Result, Snapshot, Store, Value};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    Done,
    Conflict,
    Error,
}

/// Receives the outcome of every call, once per call.
pub trait Recorder: Send + Sync + 'static {
    fn commit(&self, outcome: Outcome, took: Duration);
    fn sync(&self, outcome: Outcome, took: Duration);
    fn snapshot(&self, outcome: Outcome);
}

pub struct MetricsStore {
    inner: Arc<dyn Store>,
    recorder: Arc<dyn Recorder>,
}

impl MetricsStore {
    pub fn new(inner: Arc<dyn Store>, recorder: Arc<dyn Recorder>) -> Self {
        Self { inner, recorder }
    }
}

fn outcome<T>(answer: &Result<T>) -> Outcome {
    if answer.is_ok() { Outcome::Done } else { Outcome::Error }
}

#[async_trait]
impl Store for MetricsStore {
    async fn snapshot(&self) -> Result<Box<dyn Snapshot>> {
        let answer = self.inner.snapshot().await;
        self.recorder.snapshot(outcome(&answer));
        answer
    }

    async fn commit(&self, batch: Batch) -> Result<Commit> {
        let start = Instant::now();
        let answer = self.inner.commit(batch).await;
        let outcome =
            if matches!(answer, Ok(Commit::Conflict)) { Outcome::Conflict } else { outcome(&answer) };
        self.recorder.commit(outcome, start.elapsed());
        answer
    }

    async fn sync(&self) -> Result<()> {
        let start = Instant::now();
        let answer = self.inner.sync().await;
        self.recorder.sync(outcome(&answer), start.elapsed());
        answer
    }

    async fn changed(&self, key: &Key, seen: Option<&Value>) -> Result<()> {
        self.inner.changed(key, seen).await
    }

    fn clears_ranges_at_once(&self) -> bool {
        self.inner.clears_ranges_at_once()
    }
}
