//! The writing half of the fault layer. An append reaches the inner log within the call, so
//! that delays do not change the order of appends.

use std::sync::Arc;

use async_trait::async_trait;

use super::{AppendFault, Faults, injected_error};
use crate::{Append, LogInspector, LogWriter, NewRecord, Result, StartPoint, Topic, TopicInfo};

pub struct FaultyWriter {
    inner: Arc<dyn LogWriter>,
    faults: Arc<Faults>,
}

impl FaultyWriter {
    pub fn new(inner: Arc<dyn LogWriter>, faults: Arc<Faults>) -> Self {
        Self { inner, faults }
    }
}

#[async_trait]
impl LogInspector for FaultyWriter {
    async fn describe(&self, topic: Topic) -> Result<TopicInfo> {
        self.faults.until_resumed().await;
        self.inner.describe(topic).await
    }

    async fn lost_tail(&self, topic: Topic, partition: u32, point: StartPoint) -> Result<Option<u64>> {
        self.faults.until_resumed().await;
        self.inner.lost_tail(topic, partition, point).await
    }
}

#[async_trait]
impl LogWriter for FaultyWriter {
    fn append(&self, topic: Topic, records: Vec<NewRecord>) -> Append {
        let faults = self.faults.clone();
        if faults.is_stopped() {
            return Box::pin(async move { fail_after_wait(&faults).await });
        }
        let fault = faults.append_fault();
        if fault == Some(AppendFault::ErrorBefore) {
            return Box::pin(std::future::ready(Err(injected_error("the append was refused"))));
        }
        let append = self.inner.append(topic, records);
        Box::pin(async move {
            let answer = append.await;
            match fault {
                Some(AppendFault::Delay(time)) => tokio::time::sleep(time).await,
                Some(AppendFault::NoAnswer) => std::future::pending().await,
                Some(AppendFault::ErrorAfter) => return Err(injected_error("the answer was lost")),
                Some(AppendFault::ErrorBefore) | None => {}
            }
            if faults.is_stopped() { fail_after_wait(&faults).await } else { answer }
        })
    }
}

/// Waits for a stopped log to resume, and fails after `append_wait` at the latest.
async fn fail_after_wait<T>(faults: &Faults) -> Result<T> {
    // The append fails even if the log resumes in time.
    drop(tokio::time::timeout(faults.append_wait, faults.until_resumed()).await);
    Err(injected_error("the log stopped"))
}
