//! Tests of the workers on the embedded store, log, and blobs: the recorded messages, and a
//! scenario for each rule.

pub(crate) mod harness;
mod run_reader;

mod branches;
mod control;
mod ingest;
mod isolation;
mod lag;
mod lost_records;
mod metric_goals;
mod pipeline;
mod point_rows;
mod projects;
mod quarantine;
mod rows;
mod rules;
mod series_edits;
mod trial_points;
mod vectors;

use std::time::Duration;

/// Awaits work that must finish; the timeout only guards against hanging.
async fn ends<T>(what: &str, work: impl Future<Output = T>) -> T {
    let ended = tokio::time::timeout(Duration::from_secs(60), work).await;
    ended.unwrap_or_else(|_| panic!("{what} never ended"))
}

/// Waits for a state, with a guard against hanging.
async fn eventually<F: Future<Output = bool>>(what: &str, is_so: impl Fn() -> F) {
    let wait = async {
        while !is_so().await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), wait)
        .await
        .unwrap_or_else(|_| panic!("timed out waiting for {what}"));
}
